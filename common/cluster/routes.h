// From a cluster map to a transport: where each node is.
#pragma once

#include "common/cluster/cluster_map.h"
#include "common/rpc/transport.h"

namespace holdfast {

inline void RouteNodes(Transport& transport, const ClusterMap& map) {
  for (const MapNode& node : map.nodes) {
    const bool there = node.state != NodeState::kRemoved;
    transport.Route(NodeAddress(node.number), there ? node.endpoint : "", node.public_key);
  }
}

}  // namespace holdfast
