// How a cluster's placement gets from what it is to what it should be. Pure functions of the map;
// docs/formats/placement.md.
#pragma once

#include <cstdint>
#include <vector>

#include "common/cluster/cluster_map.h"

namespace holdfast {

// Where a record of the group may have to be copied from or to: nodes of the acting set and of the
// target that count as holding something.
std::vector<uint32_t> Members(const ClusterMap& map, uint32_t pg);

// Sets placement and targets after nodes, weights or states have changed, from PlanPlacement:
//  - A group that holds nothing yet (`nothing_stored`) takes its planned set at once.
//  - Members that are out or removed leave the acting set at once, and planned ones take their
//    places, since nothing can be read there anyway; unless all members are out: then the group
//    stays as it is, since its records are there if a node comes back. Of those removed by word of
//    the operator nothing comes back, and the planned set takes over.
//  - What then still differs from the plan migrates: the planned set becomes the target.
void Replan(ClusterMap& map, bool nothing_stored);

// The target becomes the acting set.
void FinishMigration(ClusterMap& map, uint32_t pg);

// Nodes that acting sets or targets name.
std::vector<bool> NodesInUse(const ClusterMap& map);

}  // namespace holdfast
