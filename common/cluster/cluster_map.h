// The cluster map and placement: pure functions of their arguments. DESIGN 7.
//
// A placement group (PG) is a placement class and the top 12 bits of a record id. The coordinator
// orders nodes per PG by weighted rendezvous hashing (score = -weight / ln u, u in (0,1) from a
// hash of node and PG; Wang & Ravishankar's weighted form), one node per failure domain first;
// clients and nodes only look up.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"

namespace holdfast {

inline constexpr uint32_t kPlacementGroups = 4096;

struct MapNode {
  uint32_t number = 0;  // Its index in ClusterMap::nodes; its address is "node/<number>".
  NodeId id;
  double weight = 1;
  std::string failure_domain;  // "site/rack/host/disk"; distinct per disk by default.
};

struct ClusterMap {
  uint64_t version = 1;
  uint32_t replicas = 1;  // R
  std::vector<MapNode> nodes;
  // Per PG the acting set: R node numbers (fewer when there are fewer nodes), best first.
  std::vector<std::vector<uint32_t>> placement;

  uint32_t write_quorum() const { return replicas < 2 ? replicas : 2; }  // W = min(R, 2)
};

constexpr uint32_t PlacementGroupOf(const RecordId& id) {
  return (uint32_t{id.value[0]} << 4) | (id.value[1] >> 4);
}
inline const std::vector<uint32_t>& ActingSet(const ClusterMap& map, const RecordId& id) {
  return map.placement[PlacementGroupOf(id)];
}

// Fills `map.placement` from nodes and replicas. Deterministic.
void ComputePlacement(ClusterMap& map);

std::string EncodeClusterMap(const ClusterMap& map);
StatusOr<ClusterMap> DecodeClusterMap(std::string_view bytes);

std::string NodeAddress(uint32_t number);
inline constexpr char kCoordinatorAddress[] = "coordinator";

}  // namespace holdfast
