// A vault behind sockets: a cluster's coordinator and nodes, or what another command of this
// machine works on.
#pragma once

#include <memory>
#include <string>

#include "cli/context.h"
#include "cli/opened_vault.h"
#include "common/crypto/key_file.h"
#include "common/rpc/zmq/zmq_transport.h"

namespace holdfast::cli {

// A transport for whoever `identity` is, with the coordinator at `endpoint`.
StatusOr<std::unique_ptr<ZmqTransport>> ConnectTo(const std::string& endpoint,
                                                  const ClusterIdentity& identity);

class RemoteVault : public OpenedVault {
 public:
  // `error` says why not when null is returned.
  static std::unique_ptr<RemoteVault> Open(const std::string& endpoint, KeyFile key,
                                           OpenError* error);
  // Through the door of a vault in a directory that another command works on; null when nobody
  // answers there.
  static std::unique_ptr<RemoteVault> OpenDoor(const std::string& dir, KeyFile key);
  Vault& vault() override { return *vault_; }
  uint32_t replicas() const override { return replicas_; }
  uint32_t chunk_size() const override { return vault_->params().chunk_size; }
  const std::vector<NodeState>& nodes() const override { return nodes_; }
  std::vector<proto::Finding> RecoveryFindings() const override { return {}; }
  Status Close() override { return absl::OkStatus(); }

 private:
  RemoteVault() = default;
  Status Connect(const std::string& endpoint, KeyFile key);
  Status ConnectToDoor(const std::string& dir, KeyFile key);

  std::unique_ptr<ZmqTransport> transport_;
  std::unique_ptr<Vault> vault_;
  uint32_t replicas_ = 0;
  std::vector<NodeState> nodes_;
};

// The coordinator that --vault names, for a verb that needs no more of the vault.
StatusOr<ZmqTransport*> ConnectToCoordinator(const Globals& globals, const KeyFile& key,
                                             std::unique_ptr<ZmqTransport>& transport);

}  // namespace holdfast::cli
