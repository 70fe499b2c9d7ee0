// How many placement groups each node should hold: the loads nearest to proportional to weight
// that well spread sets allow.
#pragma once

#include <cstdint>
#include <vector>

#include "common/cluster/spread.h"

namespace holdfast {

// `weights` (FixedWeight, none zero) and `held`, the groups a node holds now, are per node, in the
// order of `spread`. The answer adds up to kPlacementGroups * spread.replicas, and is per node the
// exact share rounded down or up; up first where the node holds as much now.
//
// A cell can hold each PG once and a group must: a cell whose weight asks for more than all PGs
// gets them all, a group whose weight asks for less gets them all too, and the rest is shared by
// weight among the others. No other loads within these bounds differ less from proportional ones.
std::vector<uint32_t> FairShares(const Spread& spread, const std::vector<uint64_t>& weights,
                                 const std::vector<uint32_t>& held);

}  // namespace holdfast
