#include "common/cluster/fair_shares.h"

#include <gtest/gtest.h>

namespace holdfast {
namespace {

using Numbers = std::vector<uint32_t>;

Numbers Shares(const std::vector<std::string_view>& domains, uint32_t replicas,
               const std::vector<uint64_t>& weights, Numbers held = {}) {
  held.resize(weights.size());
  return FairShares(MakeSpread(domains, replicas), weights, held);
}

TEST(FairShares, FollowWeights) {
  EXPECT_EQ(Shares({"a", "b", "c", "d"}, 1, {1, 1, 2, 4}), (Numbers{512, 512, 1024, 2048}));
  EXPECT_EQ(Shares({"a", "b", "c", "d"}, 2, {3, 3, 3, 3}), (Numbers{2048, 2048, 2048, 2048}));
}

TEST(FairShares, WhatIsLeftOverStaysWhereItIs) {
  EXPECT_EQ(Shares({"a", "b", "c"}, 2, {1, 1, 1}), (Numbers{2731, 2731, 2730}));
  EXPECT_EQ(Shares({"a", "b", "c"}, 2, {1, 1, 1}, {2000, 2731, 2731}), (Numbers{2730, 2731, 2731}));
}

TEST(FairShares, ACellHoldsAGroupOnce) {
  EXPECT_EQ(Shares({"a", "b", "c"}, 2, {100, 1, 1}), (Numbers{4096, 2048, 2048}));
  // Two disks of one host, which share what the host may hold.
  EXPECT_EQ(Shares({"a/1", "a/2", "b", "c"}, 2, {300, 100, 1, 1}),
            (Numbers{3072, 1024, 2048, 2048}));
}

TEST(FairShares, AGroupHoldsEachPlacementGroup) {
  // Two sites at R=3: the small one holds each once and leaves two to the other.
  EXPECT_EQ(Shares({"a/1", "a/2", "a/3", "a/4", "b/1"}, 3, {9, 9, 9, 9, 1}),
            (Numbers{2048, 2048, 2048, 2048, 4096}));
}

TEST(FairShares, TheHeaviestWeightsDoNotOverflow) {
  const uint64_t most = uint64_t{1} << 48;
  EXPECT_EQ(Shares({"a", "b", "c", "d"}, 3, {most, most, most, most}),
            (Numbers{3072, 3072, 3072, 3072}));
  EXPECT_EQ(Shares({"a", "b", "c", "d"}, 2, {most, 1, 1, 2}), (Numbers{4096, 1024, 1024, 2048}));
}

TEST(FairShares, NoNodesNoShares) { EXPECT_EQ(Shares({}, 3, {}), Numbers{}); }

TEST(Spread, GroupsAreTheDeepestLevelThatASetCanTouchWhole) {
  const std::vector<std::string_view> domains = {"a/1/x", "a/1/y", "a/2/x", "b/1/x", "b/1/x"};
  const std::pair<uint32_t, uint32_t> expected[] = {{1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 5}};
  for (uint32_t replicas = 1; replicas <= 5; ++replicas) {
    const Spread spread = MakeSpread(domains, replicas);
    EXPECT_EQ(std::pair(spread.groups, spread.cells), expected[replicas - 1]) << replicas;
  }
  EXPECT_EQ(MakeSpread(domains, 9).replicas, 5u);
}

TEST(Spread, TakesAndSwapsKeepASetWellSpread) {
  const Spread spread = MakeSpread({"a/1", "a/1", "a/2", "a/3", "b/1"}, 3);
  EXPECT_TRUE(spread.Takes({}, 0));
  EXPECT_FALSE(spread.Takes({0}, 1));  // One rack.
  EXPECT_TRUE(spread.Takes({0}, 2));
  EXPECT_FALSE(spread.Takes({0, 2}, 3));  // No room for the other site.
  EXPECT_TRUE(spread.Takes({0, 2}, 4));
  EXPECT_TRUE(spread.Swaps({0, 2, 4}, 0, 1));
  EXPECT_TRUE(spread.Swaps({0, 2, 4}, 0, 3));
  EXPECT_FALSE(spread.Swaps({0, 2, 4}, 2, 1));  // One rack.
  EXPECT_FALSE(spread.Swaps({0, 2, 4}, 4, 3));  // One site.
  EXPECT_FALSE(spread.Swaps({0, 2, 4}, 0, 2));  // There already.
}

}  // namespace
}  // namespace holdfast
