// The holdfast command: flags in, exit code out. What the verbs do is in the other files here.
#include <fcntl.h>
#include <google/protobuf/stubs/logging.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "CLI/CLI.hpp"
#include "cli/commands.h"
#include "cli/serve.h"
#include "common/base/text.h"

namespace holdfast::cli {
namespace {

constexpr char kDescription[] =
    "Holdfast keeps evidence media: deduplicated, encrypted, checked.\n\n"
    "  holdfast init VAULT --key KEY              make a vault and its key file\n"
    "  export HOLDFAST_VAULT=VAULT HOLDFAST_KEY=KEY\n"
    "  holdfast ingest /evidence/case-17 --to case-17   store a directory\n"
    "  holdfast ls case-17                        see what is there\n"
    "  holdfast verify                            read every byte back and compare\n"
    "  holdfast restore case-17 --to /tmp/out     write it out again\n";

constexpr char kFooter[] =
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 finished but some sources could not be read or\n"
    "stored, some objects not restored, or `gc` left something for another run, 4 not found,\n"
    "5 integrity failure found, 10 no vault there, 11 busy, 12 access or key refused.";

struct Args {
  Globals globals;
  InitArgs init;
  IngestArgs ingest;
  LsArgs ls;
  StatArgs stat;
  CatArgs cat;
  GcArgs gc;
  RestoreArgs restore;
  RemoveArgs remove;
  VerifyArgs verify;
  FsckArgs fsck;
  BenchArgs bench;
  KeyExportArgs key_export;
  ClusterInitArgs cluster_init;
  ClusterJoinArgs cluster_join;
  NodeArgs node;
  RebuildArgs rebuild;
  std::string backup_to;
  NewPrincipalArgs new_principal;
  std::string revoke;
  std::string config;
  std::string shell;
};

void AddGlobals(CLI::App& app, Globals& globals) {
  app.add_option("--vault", globals.vault,
                 "The vault's directory, or tcp://HOST:PORT of a cluster's coordinator")
      ->envname("HOLDFAST_VAULT");
  app.add_option("--key", globals.key, "The key file")->envname("HOLDFAST_KEY");
  app.add_option("--passphrase-file", globals.passphrase_file,
                 "File whose first line is the key file's passphrase (else it is asked for)");
  app.add_flag("--json", globals.json, "JSON lines on stdout instead of text");
  app.add_flag("--quiet", globals.quiet, "No progress on stderr");
}

void AddInit(CLI::App& app, Args& args) {
  CLI::App* verb = app.add_subcommand("init", "Make a vault in a directory");
  verb->add_option("DIR", args.init.dir, "An empty or new directory")->required();
  verb->add_option("--node", args.init.nodes,
                   "Directory on a disk of its own that holds chunks; repeat for more disks")
      ->type_name("DISK")
      ->allow_extra_args(false);
  verb->add_option("--replicas", args.init.replicas,
                   "Copies of every chunk, on different disks (default: 2 with two or more disks)");
  verb->add_option("--chunk-size", args.init.chunk_size,
                   "Average chunk, a power of two from 64KiB to 4MiB; leave alone unless most "
                   "files are far smaller or larger than photographs")
      ->capture_default_str();
  verb->add_flag("--passphrase", args.init.passphrase,
                 "Ask for a passphrase to wrap a new key file");
  verb->footer("Makes the key file that --key names; it must not be there yet.");
}

void AddStats(CLI::App& verb, bool& wanted) {
  verb.add_flag("--stats", wanted,
                "Also print where the time went, and what this machine could do at best");
}

void AddIngest(CLI::App& app, Args& args) {
  CLI::App* verb = app.add_subcommand("ingest", "Store files and directories in a collection");
  verb->add_option("SRC", args.ingest.sources,
                   "Files or directories; names as `cp -r` gives them: SRC/. leaves SRC's own "
                   "name out")
      ->required();
  verb->add_option("--to", args.ingest.collection, "The collection; made if it is not there")
      ->required();
  verb->add_option("--digests", args.ingest.digests, "Which digests to record; sha256 always is")
      ->capture_default_str();
  verb->add_option("--engine", args.ingest.engine,
                   "Where cuts and digests are computed: auto takes a CUDA device if there is one")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  verb->add_option("--threads", args.ingest.threads, "Cores to use (default: all)")
      ->check(CLI::Range(0, 256));
  AddStats(*verb, args.ingest.stats);
  verb->footer(
      "What is there already, under this or another name, is not stored again. Run it again to\n"
      "finish after an interruption. A new version is made when content or kind changed, not when\n"
      "only times, modes or attributes did. With --json a line per object comes after it is "
      "durable.");
}

void AddReaders(CLI::App& app, Args& args) {
  CLI::App* ls = app.add_subcommand("ls", "List collections, or the objects of one");
  ls->add_option("COLLECTION[/PREFIX]", args.ls.path, "PREFIX is matched byte by byte");
  ls->add_flag("-l", args.ls.long_format, "Kind, size, versions, mtime, SHA-256, SHA-1, MD5, name");
  ls->add_flag("-0", args.ls.nul, "End names in NUL instead of a newline");
  ls->add_flag(
      "--removed", args.ls.removed,
      "What `rm` removed instead, oldest removal first: when, version number and id, name");

  CLI::App* stat = app.add_subcommand("stat", "Show all that is known of one object");
  stat->add_option("COLLECTION/NAME", args.stat.path)->required();

  CLI::App* cat = app.add_subcommand("cat", "Write an object's bytes to stdout");
  cat->add_option("COLLECTION/NAME", args.cat.path)->required();
  cat->add_option("--range", args.cat.range, "A-B: the first and last byte, from 0; A- to the end");

  CLI::App* restore = app.add_subcommand("restore", "Write objects back as files");
  restore->add_option("COLLECTION[/PREFIX]", args.restore.path, "PREFIX is whole path components")
      ->required();
  restore
      ->add_option("--to", args.restore.to,
                   "Directory to write into; nothing that is there is overwritten")
      ->required();
  restore->add_option("--threads", args.restore.threads)->check(CLI::Range(0, 256));
  AddStats(*restore, args.restore.stats);
}

void AddRemove(CLI::App& app, Args& args) {
  CLI::App* rm = app.add_subcommand("rm", "Remove objects; they can be brought back for a while");
  rm->add_option("COLLECTION/NAME", args.remove.paths, "A collection alone goes with -r only")
      ->required();
  rm->add_flag("-r,--recursive", args.remove.recursive, "What lies below the name too");
  CLI::Option* version = rm->add_option(
      "--version", args.remove.version,
      "Only the version with this id, as `stat` and `ls --removed` show it (default: all)");
  CLI::Option* undo =
      rm->add_flag("--undo", args.remove.undo, "Bring back what was removed last of each name");
  rm->add_flag("--now", args.remove.now,
               "For good, also what is removed already: this cannot be undone, and does not ask")
      ->excludes(undo);
  version->excludes("--recursive");
  rm->footer(
      "What is removed is not listed, read or verified any more. It can be brought back until the\n"
      "first `gc` after its undo window. Its content stays on the disks until that `gc` has put "
      "it\n"
      "into the trash, and a later one finds that its grace is over.");
}

void AddGc(CLI::App& app, Args& args) {
  CLI::App* gc = app.add_subcommand("gc", "Give back the space of what nothing needs any more");
  gc->add_flag("--dry-run", args.gc.dry_run, "Say what would go, and change nothing");
  gc->add_option("--undo-window", args.gc.undo_window,
                 "What was removed longer ago than this is purged: it cannot be brought back")
      ->capture_default_str();
  gc->add_option("--grace", args.gc.grace,
                 "How long records stay in the trash: no shorter than any backup of the catalogue "
                 "is kept")
      ->capture_default_str();
  gc->add_flag("--sparse-only", args.gc.sparse_only,
               "Rewrite only segments of which less than 60 % is live; elsewhere deleted content "
               "stays on the disk");
  gc->add_flag("--yes", args.gc.yes,
               "Also when more than a fifth of all records, and more than 10,000, would go");
  gc->add_flag("--stop", args.gc.stop, "End the run of a cluster that is under way");
  gc->footer(
      "Runs beside ingests. It may be interrupted at any time; the next run does what is left.\n"
      "In a cluster the run goes on when this command is interrupted. Exit 3: something has to "
      "wait\nfor another run, as the lines on stderr say.");
}

void AddCheckers(CLI::App& app, Args& args) {
  CLI::App* verify = app.add_subcommand("verify", "Read every copy back, decrypt, compare digests");
  verify->add_option("COLLECTION[/PREFIX]", args.verify.path, "Default: the whole vault");
  verify->add_option("--threads", args.verify.threads)->check(CLI::Range(0, 256));
  AddStats(*verify, args.verify.stats);
  verify->footer("Exit 5 names every damaged object; with a good copy left it still restores.");

  app.add_subcommand("status", "Is everything safe? One screen");

  CLI::App* fsck = app.add_subcommand("fsck", "Check the structure of catalogue and logs");
  CLI::Option* repair = fsck->add_flag(
      "--repair", args.fsck.repair,
      "Of a vault in a directory: read all of it, bring back from the other disks what is damaged "
      "on one, and rewrite damaged segments");
  fsck->add_flag("--rebuild-catalogue", args.fsck.rebuild_catalogue,
                 "Make the catalogue anew from the commit records on the nodes")
      ->excludes(repair);
  fsck->add_flag("--accept-loss", args.fsck.accept_loss,
                 "Rebuild though nodes are away that may hold commits of their own");
  fsck->add_option(
      "--backup", args.fsck.backup,
      "Rebuild from this file of `backup-catalogue`, and from the nodes what came since");
  fsck->add_option("--node", args.fsck.nodes,
                   "A disk of the vault, to put back a lost vault file from; may be repeated")
      ->type_name("DISK")
      ->allow_extra_args(false);
}

void AddBackup(CLI::App& app, Args& args) {
  CLI::App* backup =
      app.add_subcommand("backup-catalogue",
                         "Write the catalogue to a file, sealed; of a cluster, while it is in use");
  backup->add_option("--to", args.backup_to, "The new file")->required();
  backup->footer(
      "It makes a rebuild short: `fsck --rebuild-catalogue --backup FILE`, and of a\n"
      "cluster `coordinator rebuild --backup FILE`. Nodes have all that is in it.");
}

void AddBench(CLI::App& app, Args& args) {
  CLI::App* bench = app.add_subcommand("bench", "Measure this machine; takes half a minute");
  bench
      ->add_option("--dir", args.bench.dir,
                   "Where the disk is measured, with files that are removed again")
      ->capture_default_str();
  bench->add_option("--out", args.bench.out, "File for the profile, which is JSON");
  bench->add_flag("--quick", args.bench.quick, "In seconds: for a look, not to plan with");
  bench->footer(
      "Processors, a CUDA device if there is one, the disk of --dir and a catalogue on it; with\n"
      "--vault tcp://HOST:PORT the way to each node of that cluster too. Nothing else should run.");
}

void AddKeys(CLI::App& app, Args& args) {
  CLI::App* key = app.add_subcommand("key", "Work with key files");
  key->require_subcommand(1);
  CLI::App* key_export = key->add_subcommand("export", "Make a key file that can do less");
  key_export->add_flag("--ingest-only", args.key_export.ingest_only,
                       "It ingests, deduplicates and lists names; it cannot read content");
  key_export->add_option("--out", args.key_export.out, "The new file")->required();
  key_export->add_flag("--passphrase", args.key_export.passphrase, "Wrap it under a passphrase");
  key_export->add_option("--out-passphrase-file", args.key_export.out_passphrase_file,
                         "Wrap it under the first line of this file");

  CLI::App* principal =
      key->add_subcommand("new-principal", "Make a key file for somebody else to use a cluster");
  principal
      ->add_option("--roles", args.new_principal.roles,
                   "What for, of ingest,reader,custodian,disposer,auditor,operator")
      ->required();
  principal->add_option("--name", args.new_principal.name, "Whose it is, for people")->required();
  principal->add_option("--out", args.new_principal.out, "The new file")->required();
  CLI::App* revoke = key->add_subcommand("revoke", "Refuse a principal of a cluster from now on");
  revoke->add_option("NAME", args.revoke, "Its name, or its key as `key list` shows it")
      ->required();
  key->add_subcommand("list", "List the principals of a cluster");
}

// `cluster join` and `node add` are the same.
void AddJoin(CLI::App& to, const char* name, Args& args) {
  CLI::App* join = to.add_subcommand(name, "Make a storage node, on the machine it runs on");
  join->add_option("DIR", args.cluster_join.dir, "An empty or new directory on the node's disk")
      ->required();
  join->add_option("--listen", args.cluster_join.listen,
                   "tcp://HOST:PORT; the next port is used too")
      ->required();
  join->add_option("--endpoint", args.cluster_join.endpoint,
                   "tcp://HOST:PORT as others reach it, where that differs");
  join->add_option("--weight", args.cluster_join.weight,
                   "Its share of the data (default: the disk's size in TiB)");
  join->add_option("--place", args.cluster_join.place,
                   "SITE/RACK/HOST: copies go to places that differ as early as they can")
      ->capture_default_str();
  join->footer("The key of --key must be one for operator; --vault says where the coordinator is.");
}

void AddCluster(CLI::App& app, Args& args) {
  CLI::App* cluster = app.add_subcommand("cluster", "Make a cluster of machines");
  cluster->require_subcommand(1);
  CLI::App* init = cluster->add_subcommand("init", "Make a coordinator, on the machine it runs on");
  init->add_option("DIR", args.cluster_init.dir, "An empty or new directory")->required();
  init->add_option("--listen", args.cluster_init.listen,
                   "tcp://HOST:PORT, as the others reach it; the next port is used too")
      ->required();
  init->add_option("--replicas", args.cluster_init.replicas, "Copies of every chunk")
      ->capture_default_str();
  init->add_option("--sites", args.cluster_init.sites,
                   "SITE,…: no copy is ever at another (default: anywhere)")
      ->delimiter(',');
  init->add_option("--chunk-size", args.cluster_init.chunk_size, "Average chunk, as in `init`")
      ->capture_default_str();
  init->footer("Makes the key file that --key names; it must not be there yet.");
  AddJoin(*cluster, "join", args);
}

void AddDaemons(CLI::App& app, Args& args) {
  CLI::App* coordinator = app.add_subcommand(
      "coordinator", "Run the coordinator of a cluster that `cluster` made here");
  CLI::App* node = app.add_subcommand(
      "node", "Run a storage node, or say what becomes of the nodes of a cluster");
  for (CLI::App* daemon : {coordinator, node}) {
    daemon->require_subcommand(1);
    CLI::App* serve = daemon->add_subcommand("serve", "Serve until SIGTERM");
    serve->add_option("--config", args.config, "The file that `cluster` wrote")->required();
  }
  CLI::App* rebuild = coordinator->add_subcommand(
      "rebuild", "Make the catalogue anew from the nodes, while the coordinator does not run");
  rebuild->add_option("--config", args.rebuild.config, "coordinator.toml")->required();
  rebuild->add_option("--map", args.rebuild.map, "The file cluster-map of any node")->required();
  rebuild->add_option("--backup", args.rebuild.backup, "A file of `backup-catalogue`");
  rebuild->add_flag("--accept-loss", args.rebuild.accept_loss,
                    "Though nodes are away that may hold commits of their own");
  AddJoin(*node, "add", args);
  CLI::App* drain = node->add_subcommand("drain", "Move a node's records elsewhere");
  drain->add_flag("--undo", args.node.undo, "Let it take records again");
  CLI::App* remove = node->add_subcommand("remove", "Take a drained node out for good");
  CLI::App* replace =
      node->add_subcommand("replace", "Drain a node once another one is there in its place");
  for (CLI::App* verb : {drain, remove, replace}) {
    verb->add_option("NODE", args.node.node, "Its number, as `status` shows it")->required();
  }
  replace->add_option("WITH", args.node.successor, "The node that is there")->required();
  for (CLI::App* verb : {remove, replace}) {
    verb->add_flag("--lost", args.node.lost,
                   "Its disk is gone: what it held is copied from the others");
  }
}

void AddCompletion(CLI::App& app, Args& args) {
  CLI::App* completion = app.add_subcommand("completion", "Print a shell completion script");
  completion->add_option("SHELL", args.shell)->required()->check(CLI::IsMember({"bash", "zsh"}));
  completion->footer("source <(holdfast completion bash)");
}

int DispatchCluster(const CLI::App& app, const Args& args) {
  const std::string verb = app.get_subcommands().front()->get_subcommands().front()->get_name();
  if (verb == "export") return RunKeyExport(args.globals, args.key_export);
  if (verb == "new-principal") return RunNewPrincipal(args.globals, args.new_principal);
  if (verb == "revoke") return RunRevoke(args.globals, args.revoke);
  if (verb == "list") return RunListPrincipals(args.globals);
  if (verb == "init") return RunClusterInit(args.globals, args.cluster_init);
  return RunClusterJoin(args.globals, args.cluster_join);
}

int DispatchNode(const CLI::App& app, const Args& args) {
  const std::string verb = app.get_subcommands().front()->get_subcommands().front()->get_name();
  if (verb == "serve") return ServeNode(args.config);
  if (verb == "add") return RunClusterJoin(args.globals, args.cluster_join);
  NodeArgs node = args.node;
  node.action = verb == "drain"    ? NodeArgs::Action::kDrain
                : verb == "remove" ? NodeArgs::Action::kRemove
                                   : NodeArgs::Action::kReplace;
  return RunNode(args.globals, node);
}

int Dispatch(const CLI::App& app, const Args& args) {
  const std::string verb = app.get_subcommands().front()->get_name();
  if (verb == "init") return RunInit(args.globals, args.init);
  if (verb == "ingest") return RunIngest(args.globals, args.ingest);
  if (verb == "ls") return RunLs(args.globals, args.ls);
  if (verb == "stat") return RunStat(args.globals, args.stat);
  if (verb == "cat") return RunCat(args.globals, args.cat);
  if (verb == "rm") return RunRemove(args.globals, args.remove);
  if (verb == "gc") return RunGc(args.globals, args.gc);
  if (verb == "restore") return RunRestore(args.globals, args.restore);
  if (verb == "verify") return RunVerify(args.globals, args.verify);
  if (verb == "bench") return RunBench(args.globals, args.bench);
  if (verb == "status") return RunStatus(args.globals);
  if (verb == "fsck") return RunFsck(args.globals, args.fsck);
  if (verb == "key" || verb == "cluster") return DispatchCluster(app, args);
  if (verb == "backup-catalogue") return RunBackupCatalogue(args.globals, args.backup_to);
  if (verb == "coordinator") {
    const std::string what = app.get_subcommands().front()->get_subcommands().front()->get_name();
    return what == "serve" ? ServeCoordinator(args.config)
                           : RunCoordinatorRebuild(args.globals, args.rebuild);
  }
  if (verb == "node") return DispatchNode(app, args);
  return RunCompletion(app, args.shell);
}

// A file that is not open must not get the number that stdout has: the vault's own would be written
// to. Writes to these fail.
void TakeStandardFds() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd) std::abort();
  }
}

// CLI11 takes "[a,b]" for a list wherever several values may be given. Arguments that look so get a
// mark, which is taken off again as they are stored.
constexpr char kMark = '\x01';

std::vector<std::string> MarkedArguments(int argc, char** argv) {
  std::vector<std::string> marked;
  for (int i = argc - 1; i > 0; --i) {  // From the last to the first, as CLI11 wants them.
    const std::string arg = argv[i];
    marked.push_back(arg.starts_with('[') || arg.starts_with(kMark) ? kMark + arg : arg);
  }
  return marked;
}

// The first "--name=" with nothing behind it, for which CLI11 would take the next argument.
std::string OptionWithoutValue(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::string arg = argv[i];
    if (arg == "--") break;
    if (arg.starts_with("--") && arg.find('=') == arg.size() - 1) return arg;
  }
  return "";
}

void Unmark(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    option->transform(
        [](std::string value) { return value.starts_with(kMark) ? value.substr(1) : value; });
  }
  for (CLI::App* verb : app.get_subcommands(nullptr)) Unmark(*verb);
}

int Main(int argc, char** argv) {
  TakeStandardFds();
  std::signal(SIGPIPE, SIG_IGN);  // `cat | head` ends with an error from write, not mid-way.
  Args args;
  CLI::App app(kDescription, "holdfast");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();
  AddGlobals(app, args.globals);
  AddInit(app, args);
  AddIngest(app, args);
  AddReaders(app, args);
  AddRemove(app, args);
  AddGc(app, args);
  AddCheckers(app, args);
  AddBackup(app, args);
  AddBench(app, args);
  AddKeys(app, args);
  AddCluster(app, args);
  AddDaemons(app, args);
  AddCompletion(app, args);
  if (const std::string option = OptionWithoutValue(argc, argv); !option.empty()) {
    return Fail(Printable(option) + ": there is no value (see `holdfast --help`)", kExitUsage);
  }
  try {
    Unmark(app);
    app.parse(MarkedArguments(argc, argv));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    const std::vector<std::string> unknown = app.remaining();
    if (app.get_subcommands().empty() && !unknown.empty() && !unknown[0].starts_with('-')) {
      return Fail("there is no command \"" + Printable(unknown[0]) + "\" (see `holdfast --help`)",
                  kExitUsage);
    }
    std::string message = error.what();
    return Fail(message.substr(0, message.find('\n')) + " (see `holdfast --help`)", kExitUsage);
  }
  const int code = Dispatch(app, args);
  // A listing or a log of what is stored must not end early without a word.
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  const int told = Fail("stdout: not all of it could be written", kExitFailed);
  return code == kExitOk ? told : code;
}

}  // namespace
}  // namespace holdfast::cli

int main(int argc, char** argv) {
  // It has its own words on stderr for messages that do not parse, as many as somebody sends.
  google::protobuf::SetLogHandler(nullptr);
  try {
    return holdfast::cli::Main(argc, argv);
  } catch (const std::exception& error) {
    return holdfast::cli::Fail(error.what(), holdfast::cli::kExitFailed);
  }
}
