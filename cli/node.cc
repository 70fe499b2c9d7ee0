// node drain, remove and replace: what an operator does with the nodes of a cluster.
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/remote.h"
#include "common/cluster/cluster_map.h"
#include "common/rpc/methods.h"

namespace holdfast::cli {
namespace {

using Request = proto::SetNodeStateRequest;

Status SetState(Transport& transport, uint32_t node, Request::Action action) {
  Request request;
  request.set_node(node);
  request.set_action(action);
  return Ask<proto::SetNodeStateReply>(transport, kCoordinatorAddress, rpc::kSetNodeState, request,
                                       kChangeNanos)
      .status();
}

// The one that takes over must be there before the other one goes.
Status CheckSuccessor(Transport& transport, uint32_t successor) {
  ASSIGN_OR_RETURN(const auto reply, Ask<proto::GetMapReply>(transport, kCoordinatorAddress,
                                                             rpc::kGetMap, proto::GetMapRequest()));
  ASSIGN_OR_RETURN(const ClusterMap map, DecodeClusterMap(reply.map()));
  if (successor < map.nodes.size() && map.nodes[successor].state == NodeState::kIn) {
    return absl::OkStatus();
  }
  return absl::NotFoundError(
      absl::StrCat("there is no node ", successor, " to take over: `holdfast node add` it first"));
}

Status Change(const Globals& globals, const NodeArgs& args) {
  ASSIGN_OR_RETURN(const KeyFile key, LoadKey(globals));
  std::unique_ptr<ZmqTransport> transport;
  RETURN_IF_ERROR(ConnectToCoordinator(globals, key, transport).status());
  switch (args.action) {
    case NodeArgs::Action::kDrain:
      return SetState(*transport, args.node, args.undo ? Request::UNDRAIN : Request::DRAIN);
    case NodeArgs::Action::kRemove:
      return SetState(*transport, args.node, args.lost ? Request::REMOVE_LOST : Request::REMOVE);
    case NodeArgs::Action::kReplace:
      break;
  }
  RETURN_IF_ERROR(CheckSuccessor(*transport, args.successor));
  return SetState(*transport, args.node, args.lost ? Request::REMOVE_LOST : Request::DRAIN);
}

}  // namespace

int RunNode(const Globals& globals, const NodeArgs& args) {
  if (const Status status = Change(globals, args); !status.ok()) return Fail(status);
  std::fprintf(stderr, "Done; `holdfast status` shows how it goes on.\n");
  return kExitOk;
}

}  // namespace holdfast::cli
