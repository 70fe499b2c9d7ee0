#include "common/cluster/cluster_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "common/crypto/hmac.h"
#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using testing::FixCrc;

MapNode Node(uint32_t number, double weight, const std::string& domain) {
  MapNode node;
  node.number = number;
  node.id.value.fill(static_cast<uint8_t>(number + 1));
  node.weight = weight;
  node.failure_domain = domain;
  return node;
}

// The nodes of tests/golden/independent.py.
ClusterMap SixNodes(uint32_t replicas) {
  ClusterMap map;
  map.version = 12;
  map.replicas = replicas;
  map.chunk_size = 1 << 20;
  map.nodes = {Node(0, 1.0, "a/1/h1/d1"), Node(1, 2.0, "a/1/h1/d2"), Node(2, 1.0, "a/2/h2/d1"),
               Node(3, 1.5, "b/1/h3/d1"), Node(4, 0.0, "b/1/h3/d2"), Node(5, 0.5, "b/2/h4/d1")};
  return map;
}

ClusterMap EqualNodes(uint32_t count, uint32_t replicas) {
  ClusterMap map;
  map.replicas = replicas;
  for (uint32_t i = 0; i < count; ++i) map.nodes.push_back(Node(i, 1, "disk" + std::to_string(i)));
  return map;
}

TEST(Placement, AgreesWithPython) {
  ClusterMap map = SixNodes(3);
  ComputePlacement(map);
  ASSERT_EQ(map.placement.size(), kPlacementGroups);
  std::ifstream in(testing::GoldenPath("independent.json"));
  const auto v = nlohmann::json::parse(in)["placement"];
  for (size_t pg = 0; pg < 8; ++pg) {
    EXPECT_EQ(map.placement[pg], v["first"][pg].get<std::vector<uint32_t>>()) << pg;
  }
  std::string text;
  for (const auto& nodes : map.placement) {
    if (!text.empty()) text += "\n";
    for (size_t i = 0; i < nodes.size(); ++i) {
      text += (i == 0 ? "" : " ") + std::to_string(nodes[i]);
    }
  }
  EXPECT_EQ(ToHex(Sha256(AsBytes(text))), v["sha256"].get<std::string>());
}

TEST(Placement, DoesNotDependOnTheOrderOfNodes) {
  ClusterMap a = EqualNodes(7, 3);
  ComputePlacement(a);
  ClusterMap b = EqualNodes(7, 3);
  std::reverse(b.nodes.begin(), b.nodes.end());
  ComputePlacement(b);
  EXPECT_EQ(a.placement, b.placement);
}

TEST(Placement, ReplicasAreDistinctAndAtMostTheNodes) {
  for (const uint32_t count : {0u, 1u, 2u, 3u, 5u}) {
    for (const uint32_t replicas : {1u, 2u, 3u}) {
      ClusterMap map = EqualNodes(count, replicas);
      ComputePlacement(map);
      for (const auto& nodes : map.placement) {
        EXPECT_EQ(nodes.size(), std::min(count, replicas));
        EXPECT_EQ(std::set<uint32_t>(nodes.begin(), nodes.end()).size(), nodes.size());
      }
    }
  }
}

TEST(Placement, FailureDomainsAreUsedDistinctFirst) {
  ClusterMap map = SixNodes(3);
  ComputePlacement(map);
  const auto site = [&](uint32_t n) { return map.nodes[n].failure_domain[0]; };
  const auto rack = [&](uint32_t n) { return map.nodes[n].failure_domain.substr(0, 3); };
  for (const auto& nodes : map.placement) {
    ASSERT_EQ(nodes.size(), 3u);
    EXPECT_NE(site(nodes[0]), site(nodes[1]));
    EXPECT_NE(rack(nodes[2]), rack(nodes[0]));
    EXPECT_NE(rack(nodes[2]), rack(nodes[1]));
  }
}

TEST(Placement, ANodeOfWeightZeroTakesNothing) {
  ClusterMap map = SixNodes(6);
  map.nodes[2].weight = std::nan("");
  ComputePlacement(map);
  for (const auto& nodes : map.placement) {
    EXPECT_EQ(std::set<uint32_t>(nodes.begin(), nodes.end()), (std::set<uint32_t>{0, 1, 3, 5}));
  }
}

TEST(Placement, SharesFollowWeights) {
  ClusterMap map = EqualNodes(4, 1);
  map.nodes[3].weight = 3;
  ComputePlacement(map);
  std::vector<int> count(4, 0);
  for (const auto& nodes : map.placement) ++count[nodes[0]];
  for (int n = 0; n < 3; ++n) EXPECT_NEAR(count[n], 4096 / 6.0, 100) << n;
  EXPECT_NEAR(count[3], 4096 / 2.0, 130);
}

// Rendezvous hashing's promise: a new node takes its share and nothing else moves.
TEST(Placement, AddingANodeMovesOnlyWhatItTakes) {
  ClusterMap before = EqualNodes(5, 2), after = EqualNodes(6, 2);
  ComputePlacement(before);
  ComputePlacement(after);
  int moved = 0;
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
    const auto& old_set = before.placement[pg];
    const auto& new_set = after.placement[pg];
    for (const uint32_t n : new_set) {
      if (n == 5) {
        ++moved;
      } else {
        EXPECT_NE(std::find(old_set.begin(), old_set.end(), n), old_set.end());
      }
    }
  }
  EXPECT_NEAR(moved, kPlacementGroups * 2 / 6.0, 120);
}

TEST(Placement, GroupIsTheTopTwelveBits) {
  RecordId id;
  id.value[0] = 0xab;
  id.value[1] = 0xcd;
  EXPECT_EQ(PlacementGroupOf(id), 0xabcu);
  ClusterMap map = EqualNodes(3, 2);
  ComputePlacement(map);
  EXPECT_EQ(ActingSet(map, id), map.placement[0xabc]);
}

TEST(Placement, OnlyNodesThatAreInTakeRecords) {
  ClusterMap map = EqualNodes(6, 6);
  map.nodes[1].state = NodeState::kDraining;
  map.nodes[2].state = NodeState::kOut;
  map.nodes[4].state = NodeState::kRemoved;
  ComputePlacement(map);
  for (const auto& nodes : map.placement) {
    EXPECT_EQ(std::set<uint32_t>(nodes.begin(), nodes.end()), (std::set<uint32_t>{0, 3, 5}));
  }
}

TEST(Placement, OnlyAllowedSitesTakeRecords) {
  ClusterMap map = SixNodes(6);
  map.sites = {"b", "c"};
  ComputePlacement(map);
  for (const auto& nodes : map.placement) {
    EXPECT_EQ(std::set<uint32_t>(nodes.begin(), nodes.end()), (std::set<uint32_t>{3, 5}));
  }
}

TEST(Placement, AMapThatPlacesElsewhereIsRefused) {
  ClusterMap map = SixNodes(6);
  map.sites = {"b", "c"};
  ComputePlacement(map);
  EXPECT_TRUE(DecodeClusterMap(EncodeClusterMap(map)).ok());
  for (const bool target : {false, true}) {
    ClusterMap wrong = map;
    wrong.target.resize(kPlacementGroups);
    (target ? wrong.target : wrong.placement)[4095] = {3, 0};
    const Status status = DecodeClusterMap(EncodeClusterMap(wrong)).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("node/0 at site a"));
  }
}

TEST(Placement, SiteIsTheFirstComponent) {
  EXPECT_EQ(SiteOf("berne/r1/h2/d3"), "berne");
  EXPECT_EQ(SiteOf("disk0"), "disk0");
  EXPECT_EQ(SiteOf("/r1"), "");
  EXPECT_EQ(SiteOf(""), "");
}

TEST(Placement, PutsOfAMigratingGroupGoToBothSets) {
  ClusterMap map = EqualNodes(5, 3);
  ComputePlacement(map);
  EXPECT_FALSE(Migrating(map, 7));
  EXPECT_EQ(WriteSet(map, 7), map.placement[7]);
  map.placement[7] = {0, 1, 2};
  map.target[7] = {4, 2, 3};
  EXPECT_TRUE(Migrating(map, 7));
  EXPECT_FALSE(Migrating(map, 8));
  EXPECT_EQ(WriteSet(map, 7), (std::vector<uint32_t>{0, 1, 2, 4, 3}));
  map.target.clear();
  EXPECT_FALSE(Migrating(map, 7));
}

// A map with something in every field but its table.
ClusterMap FullMap() {
  ClusterMap map = SixNodes(3);
  map.sites = {"a", "b"};
  map.nodes[1].state = NodeState::kDraining;
  map.nodes[2].state = NodeState::kOut;
  map.nodes[4].state = NodeState::kRemoved;
  for (MapNode& node : map.nodes) {
    node.endpoint = "tcp://10.0.0." + std::to_string(node.number + 1) + ":7410";
    node.public_key =
        testing::Counting<CurvePublicKey>(static_cast<uint8_t>(0x20 * node.number + 1));
  }
  return map;
}

// The same with its table, in which two groups migrate.
ClusterMap FullMapWithTable() {
  ClusterMap map = FullMap();
  ComputePlacement(map);
  map.target[17] = {3, 5, 0};
  map.target[4095] = {1};
  return map;
}

void ExpectSame(const ClusterMap& a, const ClusterMap& b) {
  EXPECT_EQ(a.version, b.version);
  EXPECT_EQ(a.replicas, b.replicas);
  EXPECT_EQ(a.chunk_size, b.chunk_size);
  EXPECT_EQ(a.sites, b.sites);
  EXPECT_EQ(a.placement, b.placement);
  EXPECT_EQ(a.target, b.target);
  ASSERT_EQ(a.nodes.size(), b.nodes.size());
  for (size_t i = 0; i < a.nodes.size(); ++i) {
    EXPECT_EQ(a.nodes[i].number, b.nodes[i].number);
    EXPECT_EQ(a.nodes[i].id, b.nodes[i].id);
    EXPECT_EQ(a.nodes[i].weight, b.nodes[i].weight);
    EXPECT_EQ(a.nodes[i].failure_domain, b.nodes[i].failure_domain);
    EXPECT_EQ(a.nodes[i].state, b.nodes[i].state);
    EXPECT_EQ(a.nodes[i].endpoint, b.nodes[i].endpoint);
    EXPECT_EQ(a.nodes[i].public_key, b.nodes[i].public_key);
  }
}

StatusOr<ClusterMap> Decode(Bytes bytes) { return DecodeClusterMap(AsView(bytes)); }
StatusOr<ClusterMap> DecodeFixed(Bytes bytes) {
  Buffer fixed(bytes.begin(), bytes.end());
  FixCrc(fixed);
  return Decode(fixed);
}

// Without its table, which would be most of the file and is covered by the tests above.
TEST(ClusterMap, Golden) {
  const Buffer golden = testing::Golden("cluster-map", AsBytes(EncodeClusterMap(FullMap())));
  const auto decoded = Decode(golden);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ExpectSame(*decoded, FullMap());
  testing::ExpectFlipsRefused(golden, Decode);
  testing::ExpectTruncationsRefused(golden, Decode);
  testing::ExpectChangesSurvived(golden, DecodeFixed);
  Buffer changed = golden;
  changed[5] = 1;
  FixCrc(changed);
  testing::ExpectRefusedByName(Decode(changed).status(), "cluster map version 1");
}

TEST(ClusterMap, TableSurvives) {
  const ClusterMap map = FullMapWithTable();
  const auto decoded = DecodeClusterMap(EncodeClusterMap(map));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ExpectSame(*decoded, map);
  const size_t stable = EncodeClusterMap([&] {
                          ClusterMap without = map;
                          without.target.clear();
                          return without;
                        }())
                            .size();
  // Number, size and nodes of the two groups that migrate; nothing for the others.
  EXPECT_EQ(EncodeClusterMap(map).size(), stable + (4 + 4 + 3 * 4) + (4 + 4 + 1 * 4));
}

// Both ends of the table, where sizes and targets lie: with a checksum that is right, so that the
// parser itself must see it.
TEST(ClusterMap, DamageInTheTableIsRefusedOrSurvived) {
  const std::string encoded = EncodeClusterMap(FullMapWithTable());
  const Buffer whole(encoded.begin(), encoded.end());
  for (size_t cut = 1; cut < 200; ++cut) {
    const Buffer shorter(whole.begin(), whole.end() - cut);
    EXPECT_FALSE(DecodeFixed(shorter).ok()) << cut;
  }
  for (size_t back = 4; back < 150; ++back) {
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      Buffer changed = whole;
      changed[changed.size() - 1 - back] = static_cast<uint8_t>(value);
      DecodeFixed(changed).status().IgnoreError();
    }
  }
}

using Change = void (*)(ClusterMap&);

TEST(ClusterMap, WhatMakesNoSenseIsRefused) {
  const std::pair<const char*, Change> changes[] = {
      {"no such node",
       [](ClusterMap& m) {
         m.placement[17] = {0, 6};
       }},
      {"one node twice",
       [](ClusterMap& m) {
         m.placement[17] = {1, 1};
       }},
      {"a table of five", [](ClusterMap& m) { m.placement.resize(5); }},
      {"target of no such node", [](ClusterMap& m) { m.target[17] = {6}; }},
      {"target twice",
       [](ClusterMap& m) {
         m.target[17] = {2, 3, 2};
       }},
      {"a weight below zero", [](ClusterMap& m) { m.nodes[1].weight = -1; }},
      {"a weight that is no number", [](ClusterMap& m) { m.nodes[1].weight = std::nan(""); }},
      {"another number", [](ClusterMap& m) { m.nodes[1].number = 2; }},
      {"one uuid twice", [](ClusterMap& m) { m.nodes[1].id = m.nodes[4].id; }},
      {"state 0", [](ClusterMap& m) { m.nodes[1].state = NodeState{0}; }},
      {"state 5", [](ClusterMap& m) { m.nodes[1].state = NodeState{5}; }},
      {"no replicas", [](ClusterMap& m) { m.replicas = 0; }},
      {"sites out of order",
       [](ClusterMap& m) {
         m.sites = {"b", "a"};
       }},
      {"a site twice",
       [](ClusterMap& m) {
         m.sites = {"a", "a"};
       }},
      {"a site that is a rack", [](ClusterMap& m) { m.sites = {"a/1"}; }},
  };
  for (const auto& [name, change] : changes) {
    ClusterMap map = FullMapWithTable();
    change(map);
    EXPECT_TRUE(absl::IsDataLoss(DecodeClusterMap(EncodeClusterMap(map)).status())) << name;
  }
}

// What EncodeClusterMap never writes: the list of groups that migrate, at the end of the bytes.
TEST(ClusterMap, TargetsAreInOrderAndNotEmpty) {
  const std::string encoded = EncodeClusterMap(FullMapWithTable());
  const size_t first = encoded.size() - 4 - (4 + 4 + 4) - (4 + 4 + 12), second = first + 20;
  const auto decode = [&](size_t at, uint32_t value) {
    Buffer changed(encoded.begin(), encoded.end());
    for (int i = 0; i < 4; ++i) changed[at + i] = static_cast<uint8_t>(value >> (8 * i));
    return DecodeFixed(changed).status();
  };
  EXPECT_TRUE(decode(first, 17).ok());
  EXPECT_TRUE(decode(second, 18).ok());
  EXPECT_TRUE(absl::IsDataLoss(decode(second, 17)));       // Twice the same.
  EXPECT_TRUE(absl::IsDataLoss(decode(second, 3)));        // Out of order.
  EXPECT_TRUE(absl::IsDataLoss(decode(second, 4096)));     // No such group.
  EXPECT_TRUE(absl::IsDataLoss(decode(second + 4, 0)));    // Empty.
  EXPECT_TRUE(absl::IsDataLoss(decode(first - 4, 4097)));  // More than there are groups.
  EXPECT_TRUE(absl::IsDataLoss(decode(first - 4, 1)));     // Bytes left over.
}

TEST(ClusterMap, QuorumAndAddresses) {
  EXPECT_EQ(EqualNodes(3, 1).write_quorum(), 1u);
  EXPECT_EQ(EqualNodes(3, 2).write_quorum(), 2u);
  EXPECT_EQ(EqualNodes(3, 3).write_quorum(), 2u);
  EXPECT_EQ(NodeAddress(0), "node/0");
  EXPECT_EQ(NodeAddress(12), "node/12");
}

}  // namespace
}  // namespace holdfast
