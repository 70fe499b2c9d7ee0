// The verbs. Each takes its parsed flags and returns the exit code.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace CLI {
class App;
}

namespace holdfast::cli {

struct InitArgs {
  std::string dir;
  std::vector<std::string> nodes;
  uint32_t replicas = 0;
  std::string chunk_size = "512KiB";
  bool passphrase = false;
};
int RunInit(const Globals& globals, const InitArgs& args);

struct IngestArgs {
  std::vector<std::string> sources;
  std::string collection;
  std::string digests = "md5,sha1,sha256";
  std::string engine = "auto";
  int threads = 0;
  bool stats = false;
};
int RunIngest(const Globals& globals, const IngestArgs& args);

struct LsArgs {
  std::string path;
  bool long_format = false;
  bool nul = false;
  bool removed = false;
};
int RunLs(const Globals& globals, const LsArgs& args);

struct StatArgs {
  std::string path;
};
int RunStat(const Globals& globals, const StatArgs& args);

struct CatArgs {
  std::string path;
  std::string range;
};
int RunCat(const Globals& globals, const CatArgs& args);

struct GcArgs {
  bool dry_run = false, yes = false, sparse_only = false, stop = false;
  std::string undo_window = "7d";
  std::string grace = "7d";
};
int RunGc(const Globals& globals, const GcArgs& args);

struct RestoreArgs {
  std::string path;
  std::string to;
  int threads = 0;
  bool stats = false;
};
int RunRestore(const Globals& globals, const RestoreArgs& args);

struct RemoveArgs {
  std::vector<std::string> paths;
  std::string version;
  bool recursive = false, undo = false, now = false;
};
int RunRemove(const Globals& globals, const RemoveArgs& args);

struct VerifyArgs {
  std::string path;
  int threads = 0;
  bool stats = false;
};
int RunVerify(const Globals& globals, const VerifyArgs& args);

int RunStatus(const Globals& globals);

struct BenchArgs {
  std::string dir = ".";
  std::string out;
  bool quick = false;
};
int RunBench(const Globals& globals, const BenchArgs& args);

struct FsckArgs {
  bool repair = false;
  bool rebuild_catalogue = false;
  bool accept_loss = false;
  std::vector<std::string> nodes;
  std::string backup;
};
int RunBackupCatalogue(const Globals& globals, const std::string& to);

// Of a cluster, where its coordinator runs (and does not run now).
struct RebuildArgs {
  std::string config;
  std::string map;  // A node's copy of the cluster map.
  std::string backup;
  bool accept_loss = false;
};
int RunCoordinatorRebuild(const Globals& globals, const RebuildArgs& args);
int RunFsck(const Globals& globals, const FsckArgs& args);

struct KeyExportArgs {
  std::string out;
  bool ingest_only = false;
  bool passphrase = false;
  std::string out_passphrase_file;
};
int RunKeyExport(const Globals& globals, const KeyExportArgs& args);

// A cluster: cli/cluster.cc, and the daemons in cli/serve.h.
struct ClusterInitArgs {
  std::string dir;
  std::string listen;
  uint32_t replicas = 3;
  std::vector<std::string> sites;  // None: all.
  std::string chunk_size = "512KiB";
};
int RunClusterInit(const Globals& globals, const ClusterInitArgs& args);

struct ClusterJoinArgs {
  std::string dir;
  std::string listen;
  std::string endpoint;  // Empty: as it listens.
  double weight = 0;     // 0: the size of the disk in TiB.
  std::string place = "site/rack/host";
};
int RunClusterJoin(const Globals& globals, const ClusterJoinArgs& args);

struct NodeArgs {
  enum class Action : uint8_t { kDrain, kRemove, kReplace } action = Action::kDrain;
  uint32_t node = 0;
  uint32_t successor = 0;
  bool undo = false, lost = false;
};
int RunNode(const Globals& globals, const NodeArgs& args);

struct NewPrincipalArgs {
  std::string roles;
  std::string name;
  std::string out;
};
int RunNewPrincipal(const Globals& globals, const NewPrincipalArgs& args);
int RunRevoke(const Globals& globals, const std::string& who);
int RunListPrincipals(const Globals& globals);

int RunCompletion(const CLI::App& app, const std::string& shell);

}  // namespace holdfast::cli
