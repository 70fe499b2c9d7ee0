// The embedded vault: coordinator and nodes in this process, over the in-process transport. Wiring
// only; the same classes behind sockets are the cluster.
//
//   DIR/vault         what and where it is (common/format/vault_file.h)
//   DIR/lock          held while a command works on the vault
//   DIR/door          a socket, meanwhile: others read through a longer command (cli/door.h)
//   DIR/catalogue/    the coordinator's RocksDB, encrypted under the catalogue key
//   DIR/node-0/       a node's superblock, segments and index; or a directory of each --node DISK
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/opened_vault.h"
#include "common/crypto/key_file.h"
#include "common/format/vault_file.h"
#include "common/io/fs.h"
#include "common/rpc/zmq/zmq_transport.h"
#include "coordinator/coordinator.h"
#include "node/node.h"

namespace holdfast::cli {

struct InitOptions {
  std::string dir;
  std::vector<std::string> nodes;  // Disk directories; empty: one node inside DIR.
  uint32_t replicas = 0;           // 0: min(2, nodes).
  uint32_t chunk_size = 512 * 1024;
};

// Where a node of the vault in `dir` lies.
std::string NodePath(const std::string& dir, const VaultNode& node);

class EmbeddedVault : public OpenedVault {
 public:
  // Makes a vault; refuses a directory that holds one, and disks that are not empty.
  static Status Init(const InitOptions& options, const KeyFile& key);
  // Whether `dir` holds other parts of a vault than its vault file.
  static bool HasParts(const std::string& dir);
  // Opens for one command. `error` says why not when null is returned. With `door`, others may read
  // meanwhile.
  static std::unique_ptr<EmbeddedVault> Open(const std::string& dir, KeyFile key, bool door,
                                             OpenError* error);
  // Makes the catalogue anew from the nodes' commit records. An old one is kept beside it.
  struct Rebuilt;
  static StatusOr<Rebuilt> Rebuild(const std::string& dir, const KeyFile& key, bool accept_loss,
                                   Bytes backup, OpenError* error);
  // Puts back a vault file that is damaged or gone, from the copy on a node inside `dir` or in one
  // of `disks`, if it is of the key's vault; the path of that copy, or nothing when the vault file
  // is good. kDataLoss: no copy.
  static StatusOr<std::string> RepairVaultFile(const std::string& dir, const KeyFile& key,
                                               const std::vector<std::string>& disks);
  ~EmbeddedVault() override;

  Vault& vault() override { return *vault_; }
  uint32_t replicas() const override { return file_.replicas; }
  uint32_t chunk_size() const override { return file_.chunk_size; }
  const std::vector<NodeState>& nodes() const override { return node_states_; }
  std::vector<proto::Finding> RecoveryFindings() const override;
  Status Close() override;

 private:
  EmbeddedVault() = default;
  bool Begin(const std::string& dir, const KeyFile& key, OpenError* error);
  bool OpenNodes(const KeyFile& key, OpenError* error);
  bool OpenCatalogue(KeyFile key, OpenError* error);
  void LetOthersRead(const KeyFile& key);
  CoordinatorOptions coordinator_options(const KeyFile& key) const;

  std::string dir_;
  VaultFile file_;
  std::unique_ptr<FileLock> lock_;
  std::unique_ptr<Executor> io_;
  std::vector<std::unique_ptr<Loop>> node_loops_;
  std::unique_ptr<Loop> coordinator_loop_;
  std::unique_ptr<Transport> transport_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<NodeState> node_states_;
  std::unique_ptr<Kv> catalogue_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<ZmqTransport> door_;
  std::unique_ptr<Vault> vault_;
  bool closed_ = false;
};

struct EmbeddedVault::Rebuilt {
  RebuildReport report;
  std::string kept_as;           // New name of the old catalogue; empty: there was none.
  std::vector<NodeState> nodes;  // Commits may have been on those that are away.
  std::vector<proto::Finding>
      findings;  // Of the nodes' recovery: where commits may have been lost.
};

}  // namespace holdfast::cli
