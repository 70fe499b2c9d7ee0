#include "cli/remote.h"

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/door.h"
#include "cli/exit_code.h"
#include "common/base/text.h"
#include "common/cluster/routes.h"
#include "common/io/open_files.h"
#include "common/rpc/methods.h"

namespace holdfast::cli {
namespace {

constexpr int64_t kConnectNanos = 10 * kSecond;
constexpr int64_t kDoorNanos = 3 * kSecond;
constexpr int64_t kAgainNanos = 200 * kMilli;

// A coordinator that has just started listens before it answers.
StatusOr<RpcMessage> AskForMap(Transport& transport, int64_t patience_nanos) {
  const int64_t until = SystemClock().MonotonicNanos() + patience_nanos;
  for (;;) {
    const int64_t left = until - SystemClock().MonotonicNanos();
    StatusOr<RpcMessage> reply = CallAndWait(
        transport, kCoordinatorAddress, MakeMessage(rpc::kGetMap, proto::GetMapRequest()), left);
    if (!absl::IsUnavailable(reply.status()) || left < kAgainNanos) return reply;
    std::this_thread::sleep_for(std::chrono::nanoseconds(kAgainNanos));
  }
}

}  // namespace

StatusOr<std::unique_ptr<ZmqTransport>> ConnectTo(const std::string& endpoint,
                                                  const ClusterIdentity& identity) {
  RETURN_IF_ERROR(DataEndpoint(endpoint).status());
  ZmqOptions options;
  options.keys = {identity.public_key, identity.secret_key};
  RaiseOpenFileLimit();  // A node takes eight.
  ASSIGN_OR_RETURN(std::unique_ptr<ZmqTransport> transport, ZmqTransport::Open(options));
  transport->Route(kCoordinatorAddress, endpoint, identity.coordinator);
  return transport;
}

StatusOr<ZmqTransport*> ConnectToCoordinator(const Globals& globals, const KeyFile& key,
                                             std::unique_ptr<ZmqTransport>& transport) {
  if (!IsEndpoint(globals.vault)) {
    return absl::InvalidArgumentError(
        "which cluster? give --vault tcp://HOST:PORT, where its coordinator listens");
  }
  if (!key.cluster) {
    return absl::PermissionDeniedError(
        "this key file is for a vault in a directory, not for a cluster");
  }
  ASSIGN_OR_RETURN(transport, ConnectTo(globals.vault, *key.cluster));
  return transport.get();
}

Status RemoteVault::Connect(const std::string& endpoint, KeyFile key) {
  if (!key.cluster) {
    return absl::PermissionDeniedError(
        "this key file is for a vault in a directory, not for a cluster");
  }
  ASSIGN_OR_RETURN(transport_, ConnectTo(endpoint, *key.cluster));
  const StatusOr<RpcMessage> reply = AskForMap(*transport_, kConnectNanos);
  if (absl::IsUnavailable(reply.status())) {
    return absl::UnavailableError(
        absl::StrCat("no coordinator answers at ", Printable(endpoint),
                     ": it is not running, or not the one of this key file"));
  }
  if (!reply.ok()) return reply.status();
  ASSIGN_OR_RETURN(const auto head, ParseHead<proto::GetMapReply>(*reply));
  ASSIGN_OR_RETURN(const ClusterMap map, DecodeClusterMap(head.map()));
  if (VaultId::FromBytes(AsBytes(head.vault())) != key.vault) {
    return absl::PermissionDeniedError(
        absl::StrCat("this key file is for another vault than the one at ", Printable(endpoint)));
  }
  RouteNodes(*transport_, map);
  replicas_ = map.replicas;
  for (const MapNode& node : map.nodes) {
    if (node.state == holdfast::NodeState::kRemoved) continue;
    nodes_.push_back({node.number, node.endpoint, absl::OkStatus()});
  }
  const VaultParams params{key.domain, map.chunk_size};
  vault_ = std::make_unique<Vault>(*transport_, std::move(key), params, SystemClock(), SecureRng());
  return absl::OkStatus();
}

Status RemoteVault::ConnectToDoor(const std::string& dir, KeyFile key) {
  const DoorKeys keys = DoorKeysOf(key);
  ASSIGN_OR_RETURN(const VaultFile file, ReadVaultFile(PosixFs(), dir));
  ASSIGN_OR_RETURN(const std::string endpoint, DoorEndpoint(dir));
  ASSIGN_OR_RETURN(transport_,
                   ConnectTo(endpoint, {keys.outside.public_key, keys.outside.secret_key,
                                        keys.inside.public_key}));
  RETURN_IF_ERROR(AskForMap(*transport_, kDoorNanos).status());
  for (uint32_t i = 0; i < file.nodes.size(); ++i) {
    transport_->Route(NodeAddress(i), endpoint, keys.inside.public_key);
    nodes_.push_back({i, NodePath(dir, file.nodes[i]), absl::OkStatus()});
  }
  replicas_ = file.replicas;
  const VaultParams params{file.domain, file.chunk_size};
  vault_ = std::make_unique<Vault>(*transport_, std::move(key), params, SystemClock(), SecureRng());
  return absl::OkStatus();
}

std::unique_ptr<RemoteVault> RemoteVault::OpenDoor(const std::string& dir, KeyFile key) {
  std::unique_ptr<RemoteVault> remote(new RemoteVault());
  if (!remote->ConnectToDoor(dir, std::move(key)).ok()) return nullptr;
  return remote;
}

std::unique_ptr<RemoteVault> RemoteVault::Open(const std::string& endpoint, KeyFile key,
                                               OpenError* error) {
  std::unique_ptr<RemoteVault> remote(new RemoteVault());
  const Status status = remote->Connect(endpoint, std::move(key));
  if (status.ok()) return remote;
  *error = {status, ExitCodeOf(status)};
  return nullptr;
}

}  // namespace holdfast::cli
