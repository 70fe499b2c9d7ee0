// Shell completion, generated from the command line's own description, so that it never lags it.
#include <cstdio>

#include "CLI/CLI.hpp"
#include "cli/commands.h"

namespace holdfast::cli {
namespace {

std::string OptionsOf(const CLI::App& app) {
  std::string words;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) words += " --" + name;
    for (const std::string& name : option->get_snames()) words += " -" + name;
  }
  return words;
}

void PrintBash(const CLI::App& app) {
  std::string verbs, cases;
  for (const CLI::App* verb : app.get_subcommands(nullptr)) {
    verbs += " " + verb->get_name();
    std::string words = OptionsOf(*verb);
    for (const CLI::App* inner : verb->get_subcommands(nullptr)) {
      words += " " + inner->get_name() + OptionsOf(*inner);
    }
    cases += "    " + verb->get_name() + ") words=\"" + words + "\" ;;\n";
  }
  std::printf(
      "_holdfast() {\n"
      "  local word=\"${COMP_WORDS[COMP_CWORD]}\" verb=\"\" words i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    case \" %s \" in *\" ${COMP_WORDS[i]} \"*) verb=\"${COMP_WORDS[i]}\"; break ;; esac\n"
      "  done\n"
      "  case \"$verb\" in\n%s    *) words=\"%s\" ;;\n  esac\n"
      "  COMPREPLY=($(compgen -W \"$words%s\" -- \"$word\"))\n"
      "  [[ $word != -* && -n $verb ]] && COMPREPLY+=($(compgen -f -- \"$word\"))\n"
      "}\n"
      "complete -o filenames -F _holdfast holdfast\n",
      verbs.c_str(), cases.c_str(), verbs.c_str(), OptionsOf(app).c_str());
}

}  // namespace

int RunCompletion(const CLI::App& app, const std::string& shell) {
  if (shell == "zsh") std::printf("autoload -U +X bashcompinit && bashcompinit\n");
  PrintBash(app);
  return kExitOk;
}

}  // namespace holdfast::cli
