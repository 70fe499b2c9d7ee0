#include "common/cluster/replan.h"

#include <algorithm>

#include "common/cluster/plan_placement.h"

namespace holdfast {
namespace {

using Set = std::vector<uint32_t>;

bool Contains(const Set& set, uint32_t node) {
  return std::find(set.begin(), set.end(), node) != set.end();
}

// The members whose disks may still be read.
Set Without(const ClusterMap& map, const Set& set, NodeState from) {
  Set rest;
  for (const uint32_t node : set) {
    if (map.nodes[node].state < from) rest.push_back(node);
  }
  return rest;
}

// The acting set after lost members gave their places to planned ones.
Set ReplaceLost(const ClusterMap& map, const Set& acting, const Set& planned) {
  Set next = Without(map, acting, NodeState::kOut);
  if (next.size() == acting.size()) return acting;
  if (next.empty()) {
    // Who is out may come back; who is removed will not.
    next = Without(map, acting, NodeState::kRemoved);
    return next.empty() ? planned : next;
  }
  for (const uint32_t node : planned) {
    if (next.size() < planned.size() && !Contains(next, node)) next.push_back(node);
  }
  return next;
}

}  // namespace

std::vector<uint32_t> Members(const ClusterMap& map, uint32_t pg) {
  const Set all = WriteSet(map, pg);
  const Set live = Without(map, all, NodeState::kOut);
  return live.empty() ? Without(map, all, NodeState::kRemoved) : live;
}

void Replan(ClusterMap& map, bool nothing_stored) {
  const std::vector<Set> plan = PlanPlacement(map);
  if (nothing_stored || map.placement.size() != plan.size()) {
    map.placement = plan;
    map.target.clear();
    return;
  }
  map.target.resize(plan.size());
  for (uint32_t pg = 0; pg < plan.size(); ++pg) {
    Set& acting = map.placement[pg];
    map.target[pg].clear();
    if (plan[pg].empty()) continue;
    acting = ReplaceLost(map, acting, plan[pg]);
    if (Without(map, acting, NodeState::kOut).empty()) continue;
    const bool same = acting.size() == plan[pg].size() &&
                      std::is_permutation(acting.begin(), acting.end(), plan[pg].begin());
    if (!same) map.target[pg] = plan[pg];
  }
}

void FinishMigration(ClusterMap& map, uint32_t pg) {
  if (!Migrating(map, pg)) return;
  map.placement[pg] = std::move(map.target[pg]);
  map.target[pg].clear();
}

std::vector<bool> NodesInUse(const ClusterMap& map) {
  std::vector<bool> used(map.nodes.size());
  for (uint32_t pg = 0; pg < map.placement.size(); ++pg) {
    for (const uint32_t node : WriteSet(map, pg)) used[node] = true;
  }
  return used;
}

}  // namespace holdfast
