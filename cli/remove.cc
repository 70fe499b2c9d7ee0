// rm: objects into the trash, back from it, or gone for good.
#include <cstdio>

#include "cli/commands.h"
#include "cli/output.h"
#include "common/base/bytes.h"
#include "common/base/text.h"

namespace holdfast::cli {
namespace {

StatusOr<Vault::RemoveOptions> ParseOptions(const RemoveArgs& args) {
  Vault::RemoveOptions options;
  options.recursive = args.recursive;
  options.undo = args.undo;
  options.now = args.now;
  for (const std::string& path : args.paths) {
    const ObjectPath split = SplitPath(path);
    if (split.collection.empty()) {
      return absl::InvalidArgumentError(Printable(path) + ": give COLLECTION/NAME");
    }
    if (split.name.empty() && !args.recursive) {
      return absl::InvalidArgumentError(Printable(path) +
                                        " is a whole collection: give -r for all that is in it");
    }
  }
  if (args.version.empty()) return options;
  Buffer id(VersionId::kSize);
  if (args.paths.size() != 1 || !FromHex(args.version, id)) {
    return absl::InvalidArgumentError("--version " + Printable(args.version) +
                                      ": give an id as `stat` shows it, and one name");
  }
  options.version = VersionId::FromBytes(id);
  return options;
}

const char* ActionName(const RemoveArgs& args) {
  return args.undo ? "undo" : args.now ? "now" : "remove";
}

void PrintJsonLine(const RemoveArgs& args, const ObjectPath& path, const Vault::Removed& removed) {
  Json line;
  line["type"] = "removal";
  line["action"] = ActionName(args);
  SetName(line, "collection", path.collection);
  SetName(line, "name", path.name);
  line["objects"] = removed.objects;
  line["versions"] = removed.versions;
  PrintJson(line);
}

void PrintText(const RemoveArgs& args, const Vault::Removed& all) {
  const std::string counts = Counted(all.objects, "object", "objects") + ", " +
                             Counted(all.versions, "version", "versions");
  if (args.undo) {
    std::printf("brought back %s\n", counts.c_str());
  } else if (args.now) {
    std::printf(
        "removed %s, for good; `gc` puts what only they need into the trash for its grace\n",
        counts.c_str());
  } else if (all.versions == 0) {
    std::printf("nothing to remove: it was removed before\n");
  } else {
    std::printf(
        "removed %s; `holdfast rm --undo …` brings them back until `gc` has run after the window\n",
        counts.c_str());
  }
}

}  // namespace

int RunRemove(const Globals& globals, const RemoveArgs& args) {
  StatusOr<Vault::RemoveOptions> options = ParseOptions(args);
  if (!options.ok()) return Fail(options.status());
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code);
  if (!vault) return exit_code;
  // In a cluster the coordinator looks at the principal's role.
  if (!IsEndpoint(globals.vault) && !vault->vault().key().can_read()) {
    return Fail("this key can ingest and list, but not remove; use the vault's full key file",
                kExitAccess);
  }
  Vault::Removed all;
  for (const std::string& argument : args.paths) {
    ObjectPath path = SplitPath(argument);
    while (path.name.ends_with('/')) path.name.pop_back();  // As `ls` shows a directory.
    StatusOr<Vault::Removed> removed = vault->vault().Remove(path.collection, path.name, *options);
    if (!removed.ok()) {
      exit_code = Fail(removed.status());
      continue;
    }
    all.objects += removed->objects;
    all.versions += removed->versions;
    if (globals.json) PrintJsonLine(args, path, *removed);
  }
  if (!globals.json && (exit_code == kExitOk || all.versions > 0)) PrintText(args, all);
  return exit_code;
}

}  // namespace holdfast::cli
