// The placement a cluster should have, from its nodes and the placement it has now: the balancing
// table of DESIGN 7. A pure function; the coordinator calls it when nodes, weights or states change
// and migrates the groups whose set it gives anew.
#pragma once

#include <cstdint>
#include <vector>

#include "common/cluster/cluster_map.h"

namespace holdfast {

// Per PG the numbers of min(R, eligible) distinct eligible nodes. In this order of rank:
//   1. Spread: a set touches as many sites as it can, then racks, hosts, disks (spread.h). What is
//      spread worse moves, whatever that does to the load.
//   2. Balance: as far as 1 allows, the number of sets that hold a node is its weight's share of
//      all, rounded down or up (fair_shares.h).
//   3. Rest: of the plans with these loads, one that keeps the most of `map.placement`; and of what
//      it must move, as much as can goes where `map.target` already takes it.
// A set that does not change is given as it stands in `map.placement`; another one best-ranked
// first. An empty `map.placement` is one that holds nothing. Integers only, ties by node uuid: the
// same on every machine. Worst case here, 50 nodes at R=3 from nothing: about 0.1 s.
std::vector<std::vector<uint32_t>> PlanPlacement(const ClusterMap& map);

// Replicas of `to` that `from` lacks: what has to be copied.
uint64_t MovedReplicas(const std::vector<std::vector<uint32_t>>& from,
                       const std::vector<std::vector<uint32_t>>& to);

}  // namespace holdfast
