#include "common/cluster/replan.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace holdfast {
namespace {

ClusterMap Cluster(uint32_t nodes, uint32_t replicas) {
  ClusterMap map;
  map.replicas = replicas;
  for (uint32_t i = 0; i < nodes; ++i) {
    MapNode node;
    node.number = i;
    node.id.value.fill(static_cast<uint8_t>(i + 1));
    node.failure_domain = "site/rack/host" + std::to_string(i) + "/disk";
    map.nodes.push_back(node);
  }
  Replan(map, /*nothing_stored=*/true);
  return map;
}

bool Contains(const std::vector<uint32_t>& set, uint32_t node) {
  return std::find(set.begin(), set.end(), node) != set.end();
}

TEST(Replan, BeforeAnythingIsStoredNothingMigrates) {
  const ClusterMap map = Cluster(4, 3);
  ASSERT_EQ(map.placement.size(), kPlacementGroups);
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) EXPECT_FALSE(Migrating(map, pg));
}

TEST(Replan, ANodeThatIsOutLeavesAtOnceAndOneMemberStays) {
  ClusterMap map = Cluster(5, 3);
  const ClusterMap before = map;
  map.nodes[2].state = NodeState::kOut;
  Replan(map, false);
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
    EXPECT_EQ(map.placement[pg].size(), 3u);
    EXPECT_FALSE(Contains(map.placement[pg], 2));
    size_t kept = 0;
    for (uint32_t node : before.placement[pg]) kept += Contains(map.placement[pg], node);
    EXPECT_EQ(kept, Contains(before.placement[pg], 2) ? 2u : 3u);
  }
}

// Where its records are if one of them comes back.
TEST(Replan, AGroupOfWhichAllAreOutStaysAsItIs) {
  for (uint32_t replicas : {1u, 2u}) {
    ClusterMap map = Cluster(5, replicas);
    const ClusterMap before = map;
    map.nodes[0].state = map.nodes[1].state = NodeState::kOut;
    Replan(map, false);
    size_t met = 0;
    for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
      const auto& set = before.placement[pg];
      if (!std::all_of(set.begin(), set.end(), [](uint32_t node) { return node < 2; })) continue;
      ++met;
      EXPECT_EQ(map.placement[pg], set);
      EXPECT_FALSE(Migrating(map, pg));
    }
    EXPECT_GT(met, 0u);
    // Removed for good: nothing comes back.
    map.nodes[0].state = map.nodes[1].state = NodeState::kRemoved;
    Replan(map, false);
    for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
      for (uint32_t node : WriteSet(map, pg)) EXPECT_GE(node, 2u);
    }
  }
}

TEST(Replan, ADrainedNodeStaysUntilTheTargetHasAll) {
  ClusterMap map = Cluster(5, 3);
  map.nodes[4].state = NodeState::kDraining;
  Replan(map, false);
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
    EXPECT_EQ(Contains(map.placement[pg], 4), Migrating(map, pg));
    if (!Migrating(map, pg)) continue;
    EXPECT_FALSE(Contains(map.target[pg], 4));
    EXPECT_TRUE(Contains(Members(map, pg), 4));
    // W of one set alone is no quorum of both.
    std::vector<uint32_t> acting = map.placement[pg];
    EXPECT_TRUE(HasQuorum(map, pg, WriteSet(map, pg)));
    EXPECT_FALSE(
        HasQuorum(map, pg, std::vector<uint32_t>{4, acting[0] == 4 ? acting[1] : acting[0]}));
    FinishMigration(map, pg);
  }
  EXPECT_FALSE(NodesInUse(map)[4]);
}

}  // namespace
}  // namespace holdfast
