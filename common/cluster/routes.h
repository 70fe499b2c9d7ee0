// What whoever is given a cluster map does first: he sees that it can be used, and tells the
// transport where each node is.
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

// For those who look up places in it, and rely on it that each group has a list: kInvalidArgument
// also when they have none.
inline StatusOr<ClusterMap> DecodePlacedMap(std::string_view bytes) {
  StatusOr<ClusterMap> map = DecodeClusterMap(bytes);
  if (map.ok() && map->placement.empty()) {
    return absl::InvalidArgumentError("the cluster map says of no record where it lies");
  }
  return map;
}

}  // namespace holdfast
