#include "cli/embedded.h"

#include <algorithm>

#include "cli/arguments.h"
#include "cli/catalogue_files.h"
#include "cli/door.h"
#include "cli/exit_code.h"
#include "cli/kv_options.h"
#include "common/base/text.h"
#include "common/io/open_files.h"

namespace holdfast::cli {
namespace {

constexpr char kRebuildHint[] = "run `holdfast fsck --rebuild-catalogue`";

// A node in this process that is away stays away for as long as the command runs.
constexpr int64_t kMaxCommitWaitNanos = 2'000'000'000;

std::string CataloguePath(const std::string& dir) { return dir + "/catalogue"; }

ClusterMap MapOf(const VaultFile& file) {
  ClusterMap map;
  map.replicas = file.replicas;
  for (size_t i = 0; i < file.nodes.size(); ++i) {
    MapNode node;
    node.number = static_cast<uint32_t>(i);
    node.id = file.nodes[i].id;
    node.failure_domain = "site/rack/host/disk" + std::to_string(i);
    map.nodes.push_back(node);
  }
  ComputePlacement(map);
  return map;
}

NodeOptions NodeOptionsOf(const VaultFile& file, const std::string& dir, size_t i) {
  NodeOptions options;
  options.dir = NodePath(dir, file.nodes[i]);
  options.vault = file.vault;
  options.node = file.nodes[i].id;
  options.node_number = static_cast<uint32_t>(i);
  options.keeps_digests = false;  // Nothing compares its nodes but `fsck`.
  return options;
}

// The new vault's nodes, their directories checked and paths made absolute.
StatusOr<std::vector<VaultNode>> PlanNodes(Fs& fs, const InitOptions& options) {
  std::vector<VaultNode> nodes;
  if (options.nodes.empty()) return std::vector<VaultNode>{{SecureRng().NewId<NodeId>(), "node-0"}};
  for (const std::string& disk : options.nodes) {
    RETURN_IF_ERROR(CheckEmptyOrAbsent(fs, disk));
    StatusOr<std::string> absolute = AbsolutePath(disk);
    if (!absolute.ok()) return Annotate(absolute.status(), "--node");
    const std::string path = *std::move(absolute);
    for (const VaultNode& other : nodes) {
      if (other.path == path) {
        return absl::InvalidArgumentError("--node " + Printable(disk) + " is given twice");
      }
    }
    nodes.push_back({SecureRng().NewId<NodeId>(), path});
  }
  return nodes;
}

}  // namespace

std::string NodePath(const std::string& dir, const VaultNode& node) {
  return node.path.starts_with('/') ? node.path : dir + "/" + node.path;
}

bool EmbeddedVault::HasParts(const std::string& dir) {
  const auto catalogue = PosixFs().Exists(CataloguePath(dir));
  const auto node = PosixFs().Exists(dir + "/node-0");
  return (catalogue.ok() && *catalogue) || (node.ok() && *node);
}

Status EmbeddedVault::Init(const InitOptions& options, const KeyFile& key) {
  Fs& fs = PosixFs();
  ASSIGN_OR_RETURN(bool exists, fs.Exists(options.dir + "/vault"));
  if (exists)
    return absl::FailedPreconditionError(Printable(options.dir) + " holds a vault already");
  RETURN_IF_ERROR(CheckEmptyOrAbsent(fs, options.dir));

  VaultFile file;
  file.vault = key.vault;
  file.domain = key.domain;
  file.chunk_size = options.chunk_size;
  ASSIGN_OR_RETURN(file.nodes, PlanNodes(fs, options));
  auto count = static_cast<uint32_t>(file.nodes.size());
  file.replicas = options.replicas != 0 ? options.replicas : std::min(2u, count);
  if (file.replicas > count) {
    return absl::InvalidArgumentError("--replicas " + std::to_string(file.replicas) +
                                      " needs as many --node disks, there are " +
                                      std::to_string(count));
  }
  file.created_nanos = SystemClock().WallNanos();
  file.key_check = MakeKeyCheck(key.catalogue_key, key.vault);

  RETURN_IF_ERROR(fs.CreateDir(options.dir));
  RETURN_IF_ERROR(fs.SyncDir(options.dir + "/.."));
  for (size_t i = 0; i < file.nodes.size(); ++i) {
    RETURN_IF_ERROR(Node::Format(NodeOptionsOf(file, options.dir, i), fs, SecureRng()));
    // No disk alone holds the only map (RepairVaultFile).
    RETURN_IF_ERROR(WriteVaultFile(fs, NodePath(options.dir, file.nodes[i]), file));
  }
  const CoordinatorOptions coordinator{.vault = file.vault,
                                       .domain = file.domain,
                                       .keys = DeriveCatalogueKeys(key.catalogue_key),
                                       .map = MapOf(file)};
  ASSIGN_OR_RETURN(auto catalogue,
                   OpenRocksKv(CataloguePath(options.dir), true, CatalogueKvOptions(key)));
  RETURN_IF_ERROR(Coordinator::Format(coordinator, *catalogue, SystemClock()));
  // Last, so that a vault is there whole or not at all.
  return WriteVaultFile(fs, options.dir, file);
}

CoordinatorOptions EmbeddedVault::coordinator_options(const KeyFile& key) const {
  return {.vault = file_.vault,
          .domain = file_.domain,
          .keys = DeriveCatalogueKeys(key.catalogue_key),
          .map = MapOf(file_),
          .max_wait_nanos = kMaxCommitWaitNanos,
          .gc_dir = dir_ + "/gc"};
}

bool EmbeddedVault::Begin(const std::string& dir, const KeyFile& key, OpenError* error) {
  auto fail = [&](Status status, int code) {
    *error = {std::move(status), code};
    return false;
  };
  dir_ = dir;
  auto file = ReadVaultFile(PosixFs(), dir);
  if (absl::IsNotFound(file.status())) {
    return fail(absl::DataLossError(Printable(dir) + "/vault is gone: " + kRebuildHint),
                kExitIntegrity);
  }
  if (absl::IsDataLoss(file.status())) {
    return fail(absl::DataLossError(Message(file.status()) + ": " + kRebuildHint), kExitIntegrity);
  }
  if (!file.ok()) return fail(file.status(), ExitCodeOf(file.status()));
  file_ = *std::move(file);
  if (key.vault != file_.vault || !CheckKey(file_, key.catalogue_key)) {
    return fail(absl::PermissionDeniedError("this key file is for another vault, not for " +
                                            Printable(dir)),
                kExitAccess);
  }
  auto lock = PosixFs().Lock(dir + "/lock");
  if (absl::IsFailedPrecondition(lock.status())) {
    return fail(
        absl::UnavailableError("the vault is busy: another command works on " + Printable(dir)),
        kExitBusy);
  }
  if (!lock.ok()) return fail(lock.status(), ExitCodeOf(lock.status()));
  lock_ = *std::move(lock);
  return OpenNodes(key, error);
}

bool EmbeddedVault::OpenNodes(const KeyFile&, OpenError* error) {
  RaiseOpenFileLimit();  // A segment that is being read is one.
  transport_ = NewInProcessTransport();
  io_ = NewThreadPool(2 + 2 * static_cast<int>(file_.nodes.size()), "hf-io");
  nodes_.resize(file_.nodes.size());
  size_t opened = 0;
  for (size_t i = 0; i < file_.nodes.size(); ++i) {
    node_loops_.push_back(NewThreadLoop("hf-node"));
    NodeOptions options = NodeOptionsOf(file_, dir_, i);
    std::string index = options.dir + "/index";
    NodeEnv env{PosixFs(),
                SystemClock(),
                SecureRng(),
                *node_loops_.back(),
                *io_,
                [index](bool create) { return OpenRocksKv(index, create, IndexKvOptions()); },
                [index] { return DestroyRocksKv(index); },
                transport_.get()};
    auto node = Node::Open(options, env);
    node_states_.push_back({options.node_number, options.dir, node.status()});
    if (!node.ok()) continue;
    nodes_[i] = *std::move(node);
    transport_->Attach(NodeAddress(options.node_number), *nodes_[i], *node_loops_[i]);
    ++opened;
  }
  if (opened > 0) return true;
  // Another vault's disk, or none at all, where a node must be: that is damage, not a wrong key.
  const Status& first = node_states_.front().open_status;
  *error = {Annotate(first, "no node of the vault could be opened"),
            absl::IsUnavailable(first) || absl::IsResourceExhausted(first) ? kExitFailed
            : absl::IsFailedPrecondition(first) ? kExitBusy  // Its index is in use.
                                                : kExitIntegrity};
  return false;
}

bool EmbeddedVault::OpenCatalogue(KeyFile key, OpenError* error) {
  auto fail = [&](const Status& status) {
    *error = {status, ExitCodeOf(status)};
    return false;
  };
  auto catalogue = OpenRocksKv(CataloguePath(dir_), false, CatalogueKvOptions(key));
  if (absl::IsNotFound(catalogue.status())) {
    return fail(absl::DataLossError("the catalogue of " + Printable(dir_) +
                                    " is missing: " + kRebuildHint));
  }
  if (absl::IsDataLoss(catalogue.status())) {
    return fail(absl::DataLossError(Message(catalogue.status()) + ": " + kRebuildHint));
  }
  if (!catalogue.ok()) return fail(catalogue.status());
  catalogue_ = *std::move(catalogue);
  coordinator_loop_ = NewThreadLoop("hf-coordinator");
  CoordinatorEnv env{SystemClock(), SecureRng(), *coordinator_loop_, *transport_, *catalogue_};
  env.fs = &PosixFs();
  auto coordinator = Coordinator::Open(coordinator_options(key), env);
  if (!coordinator.ok()) return fail(coordinator.status());
  coordinator_ = *std::move(coordinator);
  transport_->Attach(kCoordinatorAddress, *coordinator_, *coordinator_loop_);
  VaultParams params{file_.domain, file_.chunk_size};
  vault_ = std::make_unique<Vault>(*transport_, std::move(key), params, SystemClock(), SecureRng());
  return true;
}

void EmbeddedVault::LetOthersRead(const KeyFile& key) {
  StatusOr<std::unique_ptr<ZmqTransport>> door = OpenDoor(dir_, key);
  if (!door.ok()) return;
  door_ = *std::move(door);
  door_->Attach(kCoordinatorAddress, *coordinator_, *coordinator_loop_);
  for (uint32_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i]) door_->Attach(NodeAddress(i), *nodes_[i], *node_loops_[i]);
  }
}

std::unique_ptr<EmbeddedVault> EmbeddedVault::Open(const std::string& dir, KeyFile key, bool door,
                                                   OpenError* error) {
  std::unique_ptr<EmbeddedVault> vault(new EmbeddedVault());
  if (!vault->Begin(dir, key, error)) return nullptr;
  if (!vault->OpenCatalogue(key, error)) return nullptr;
  if (door) vault->LetOthersRead(key);
  return vault;
}

StatusOr<std::string> EmbeddedVault::RepairVaultFile(const std::string& dir, const KeyFile& key,
                                                     const std::vector<std::string>& disks) {
  Fs& fs = PosixFs();
  const StatusOr<VaultFile> there = ReadVaultFile(fs, dir);
  if (!absl::IsNotFound(there.status()) && !absl::IsDataLoss(there.status())) return std::string();
  std::vector<std::string> places = disks;
  ASSIGN_OR_RETURN(std::vector<std::string> inside, fs.List(dir));
  for (const std::string& name : inside) places.push_back(dir + "/" + name);
  for (const std::string& place : places) {
    const StatusOr<VaultFile> copy = ReadVaultFile(fs, place);
    if (!copy.ok() || copy->vault != key.vault || !CheckKey(*copy, key.catalogue_key)) continue;
    RETURN_IF_ERROR(WriteVaultFile(fs, dir, *copy));
    return place + "/vault";
  }
  return absl::DataLossError(
      Message(there.status()) +
      ", and there is no copy for this key: give --node DISK, one of the vault's disks");
}

StatusOr<EmbeddedVault::Rebuilt> EmbeddedVault::Rebuild(const std::string& dir, const KeyFile& key,
                                                        bool accept_loss, Bytes backup,
                                                        OpenError* error) {
  std::unique_ptr<EmbeddedVault> vault(new EmbeddedVault());
  if (!vault->Begin(dir, key, error)) return error->status;
  std::string fresh = CataloguePath(dir) + ".new";
  RETURN_IF_ERROR(DestroyRocksKv(fresh));
  ASSIGN_OR_RETURN(vault->catalogue_, OpenRocksKv(fresh, true, CatalogueKvOptions(key)));
  vault->coordinator_loop_ = NewThreadLoop("hf-coordinator");
  CoordinatorEnv env{SystemClock(), SecureRng(), *vault->coordinator_loop_, *vault->transport_,
                     *vault->catalogue_};
  Rebuilt rebuilt;
  ASSIGN_OR_RETURN(rebuilt.report,
                   RebuildCatalogue(vault->coordinator_options(key), env, accept_loss, backup));
  rebuilt.nodes = vault->nodes();
  rebuilt.findings = vault->RecoveryFindings();
  RETURN_IF_ERROR(vault->catalogue_->Flush());
  vault->catalogue_.reset();

  AddCommitsOfOld(CataloguePath(dir), CatalogueKvOptions(key), rebuilt.report);
  ASSIGN_OR_RETURN(rebuilt.kept_as, ReplaceCatalogue(PosixFs(), CataloguePath(dir), fresh));
  RETURN_IF_ERROR(vault->Close());
  return rebuilt;
}

std::vector<proto::Finding> EmbeddedVault::RecoveryFindings() const {
  std::vector<proto::Finding> all;
  for (const auto& node : nodes_) {
    if (node) all.insert(all.end(), node->findings().begin(), node->findings().end());
  }
  return all;
}

Status EmbeddedVault::Close() {
  if (closed_) return absl::OkStatus();
  closed_ = true;
  Status result;
  auto note = [&](const Status& status) {
    if (result.ok()) result = status;
  };
  if (door_) {
    door_.reset();
    RemoveDoor(dir_);
  }
  vault_.reset();
  if (coordinator_) transport_->Detach(kCoordinatorAddress);
  coordinator_loop_.reset();  // Joins: nothing runs in the coordinator from here on.
  coordinator_.reset();
  if (catalogue_) note(catalogue_->Flush());
  catalogue_.reset();
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!nodes_[i]) continue;
    auto monitor = NewThreadMonitor();
    bool done = false;
    node_loops_[i]->Post([&] {
      nodes_[i]->Close([&](const Status& status) {
        MonitorLock lock(*monitor);
        note(status);
        done = true;
      });
    });
    MonitorLock lock(*monitor);
    monitor->Await([&] { return done; });
  }
  for (uint32_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i]) transport_->Detach(NodeAddress(i));
  }
  io_.reset();
  node_loops_.clear();
  nodes_.clear();
  transport_.reset();
  return result;
}

EmbeddedVault::~EmbeddedVault() { (void)Close(); }

}  // namespace holdfast::cli
