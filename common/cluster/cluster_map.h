// The cluster map and placement: pure functions of their arguments. DESIGN 7.
//
// A placement group (PG) is a placement class and the top 12 bits of a record id. The coordinator
// decides which nodes hold it; clients and nodes only look up. A PG is STABLE, or MIGRATING from
// its acting set to its target: then puts and pins go to both, until the coordinator switches.
//
// Two ways to a table: ComputePlacement, which depends on nodes alone and is what an embedded
// vault uses, and PlanPlacement (plan_placement.h), which balances and starts from what is there.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/addresses.h"

namespace holdfast {

inline constexpr uint32_t kPlacementGroups = 4096;

enum class NodeState : uint8_t {
  kIn = 1,        // Takes records.
  kDraining = 2,  // Its records are to move away; it still serves.
  kOut = 3,       // Lost, or away for long; counts as holding nothing.
  kRemoved = 4,   // Gone for good; its number is never used again.
};

struct MapNode {
  uint32_t number = 0;  // Its index in ClusterMap::nodes; its address is "node/<number>".
  NodeId id;
  double weight = 1;
  std::string failure_domain;  // "site/rack/host/disk"; distinct per disk by default.
  NodeState state = NodeState::kIn;
  std::string endpoint;       // "tcp://10.0.0.2:7410"; empty in-process.
  CurvePublicKey public_key;  // Zero in-process.
};

struct ClusterMap {
  uint64_t version = 1;
  std::vector<MapNode> nodes;
  // The placement class, of which there is one, 0: how many replicas (R), and the sites that may
  // hold them, sorted; none named means that all may.
  uint32_t replicas = 1;
  std::vector<std::string> sites;
  uint32_t chunk_size = 0;  // What clients of a cluster cut by; 0 in an embedded vault.
  // Per PG the acting set: R node numbers (fewer when there are fewer nodes), best first.
  std::vector<std::vector<uint32_t>> placement;
  // Per PG the set it migrates towards, best first; empty when it is stable. As long as
  // `placement`, or empty when no PG migrates.
  std::vector<std::vector<uint32_t>> target;

  uint32_t write_quorum() const { return replicas < 2 ? replicas : 2; }  // W = min(R, 2)
};

constexpr uint32_t PlacementGroupOf(const RecordId& id) {
  return (uint32_t{id.value[0]} << 4) | (id.value[1] >> 4);
}
// The lowest id in a group.
inline RecordId FirstIdOf(uint32_t pg) {
  RecordId id;
  id.value[0] = static_cast<uint8_t>(pg >> 4);
  id.value[1] = static_cast<uint8_t>(pg << 4);
  return id;
}
inline const std::vector<uint32_t>& ActingSet(const ClusterMap& map, const RecordId& id) {
  return map.placement[PlacementGroupOf(id)];
}
inline bool Migrating(const ClusterMap& map, uint32_t pg) {
  return pg < map.target.size() && !map.target[pg].empty();
}
// Where puts and pins go: the acting set, then those of the target that are not in it.
std::vector<uint32_t> WriteSet(const ClusterMap& map, uint32_t pg);
// Whether what these nodes hold durably may be acknowledged: W of the acting set, and W of the
// target too while the group migrates. So what is acknowledged while it does is on W nodes of the
// set that comes after, and the switch needs no pause (docs/formats/placement.md).
bool HasQuorum(const ClusterMap& map, uint32_t pg, std::span<const uint32_t> holders);

// The first component of a failure domain: "site" of "site/rack/host/disk".
inline std::string_view SiteOf(std::string_view failure_domain) {
  return failure_domain.substr(0, failure_domain.find('/'));
}
// Whether the class allows records there.
bool AllowsSite(const ClusterMap& map, std::string_view failure_domain);
// Whether placement may give the node records: it is in, has a weight, and its site is allowed.
bool IsEligible(const ClusterMap& map, const MapNode& node);

// Fills `map.placement` from nodes, sites and replicas alone, every PG stable. Embedded vaults
// compute it at every open instead of storing it: what it gives for a map must never change.
void ComputePlacement(ClusterMap& map);

std::string EncodeClusterMap(const ClusterMap& map);
// kInvalidArgument: malformed, or a group is where the class does not allow it.
StatusOr<ClusterMap> DecodeClusterMap(std::string_view bytes);

}  // namespace holdfast
