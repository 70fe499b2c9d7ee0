// From a cluster map to a transport: where each node is.
#pragma once

#include "common/cluster/cluster_map.h"
#include "common/rpc/transport.h"

namespace holdfast {

inline void RouteNodes(Transport& transport, const ClusterMap& map) {
  for (const MapNode& node : map.nodes) {
    if (node.endpoint.empty()) continue;  // A vault in a directory: whoever opened it knows.
    const bool there = node.state != NodeState::kRemoved;
    transport.Route(NodeAddress(node.number), there ? node.endpoint : "", node.public_key);
  }
}

}  // namespace holdfast
