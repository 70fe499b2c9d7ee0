// A vault that a command works on, wherever it is: in this process, or behind sockets.
#pragma once

#include <string>
#include <vector>

#include "client/vault.h"
#include "common/proto/holdfast.pb.h"

namespace holdfast::cli {

// What stops a command before it starts, with the exit code it wants.
struct OpenError {
  Status status;
  int exit_code = 0;
};

class OpenedVault {
 public:
  virtual ~OpenedVault() = default;
  virtual Vault& vault() = 0;
  virtual uint32_t replicas() const = 0;
  virtual uint32_t chunk_size() const = 0;
  // Nodes that are known to be away, with the reason; the vault works as far as the others allow.
  struct NodeState {
    uint32_t number = 0;
    std::string path;  // Directory or endpoint.
    Status open_status;
  };
  virtual const std::vector<NodeState>& nodes() const = 0;
  // What the nodes' recovery found at this open.
  virtual std::vector<proto::Finding> RecoveryFindings() const = 0;
  // Clean shutdown; the destructor does it when it was not called.
  virtual Status Close() = 0;
};

}  // namespace holdfast::cli
