#include "common/cluster/plan_placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <random>
#include <set>

#include "common/crypto/hmac.h"

namespace holdfast {
namespace {

using Sets = std::vector<std::vector<uint32_t>>;

// Appends a node; its uuid follows from its number, in no order.
void AddNode(ClusterMap& map, double weight, const std::string& domain) {
  MapNode node;
  node.number = static_cast<uint32_t>(map.nodes.size());
  const Hash256 hash = Sha256(AsBytes("node " + std::to_string(node.number)));
  std::copy_n(hash.begin(), NodeId::kSize, node.id.value.begin());
  node.weight = weight;
  node.failure_domain = domain;
  map.nodes.push_back(node);
}

void AddNodes(ClusterMap& map, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    AddNode(map, 1, "site/rack/host" + std::to_string(map.nodes.size()) + "/disk");
  }
}

ClusterMap PlannedNodes(uint32_t count, uint32_t replicas) {
  ClusterMap map;
  map.replicas = replicas;
  AddNodes(map, count);
  return map;
}

ClusterMap Planned(ClusterMap map) {
  map.placement = PlanPlacement(map);
  return map;
}

std::vector<const MapNode*> Eligible(const ClusterMap& map) {
  std::vector<const MapNode*> nodes;
  for (const MapNode& node : map.nodes) {
    if (IsEligible(map, node)) nodes.push_back(&node);
  }
  return nodes;
}

// The first `level` components of the failure domain; one level more than it has is the node.
std::string DomainAt(const MapNode& node, size_t level) {
  std::string prefix;
  size_t start = 0;
  for (size_t i = 0; i < level; ++i) {
    const size_t end = node.failure_domain.find('/', start);
    prefix = node.failure_domain.substr(0, end);
    if (end == std::string::npos) {
      return i + 1 < level ? prefix + "#" + std::to_string(node.number) : prefix;
    }
    start = end + 1;
  }
  return prefix;
}

constexpr size_t kLevels = 6;  // More than any domain here has components.

size_t Distinct(std::vector<uint32_t> values) {
  std::sort(values.begin(), values.end());
  return std::unique(values.begin(), values.end()) - values.begin();
}

size_t Touched(const std::vector<const MapNode*>& nodes, size_t level) {
  std::set<std::string> domains;
  for (const MapNode* node : nodes) domains.insert(DomainAt(*node, level));
  return domains.size();
}

// Every set is as large and as well spread as it can be, and of eligible nodes only.
void ExpectWellSpread(const ClusterMap& map, const Sets& sets) {
  ASSERT_EQ(sets.size(), kPlacementGroups);
  const std::vector<const MapNode*> eligible = Eligible(map);
  const size_t replicas = std::min<size_t>(map.replicas, eligible.size());
  for (size_t level = 1; level <= kLevels; ++level) {
    const size_t possible = std::min(replicas, Touched(eligible, level));
    std::map<std::string, uint32_t> numbers;
    std::vector<uint32_t> domain_of(map.nodes.size());
    for (const MapNode* node : eligible) {
      domain_of[node->number] =
          numbers.try_emplace(DomainAt(*node, level), numbers.size()).first->second;
    }
    for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
      std::vector<uint32_t> domains;
      for (const uint32_t number : sets[pg]) domains.push_back(domain_of[number]);
      ASSERT_EQ(Distinct(domains), possible) << pg << " level " << level;
    }
  }
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
    ASSERT_EQ(sets[pg].size(), replicas) << pg;
    ASSERT_EQ(Distinct(sets[pg]), replicas) << pg;
    for (const uint32_t number : sets[pg]) ASSERT_TRUE(IsEligible(map, map.nodes[number])) << pg;
  }
}

std::vector<uint32_t> Loads(const ClusterMap& map, const Sets& sets) {
  std::vector<uint32_t> loads(map.nodes.size());
  for (const auto& set : sets) {
    for (const uint32_t number : set) ++loads[number];
  }
  return loads;
}

// The shares again, by another way than fair_shares.cc: bisection, in floating point, of the load
// that a weight of one gets. A cell takes at most all PGs, a group at least.
std::vector<double> ExactShares(const ClusterMap& map) {
  const std::vector<const MapNode*> eligible = Eligible(map);
  const size_t replicas = std::min<size_t>(map.replicas, eligible.size());
  size_t cell_level = 1;
  while (cell_level < kLevels && Touched(eligible, cell_level) <= replicas) ++cell_level;
  size_t group_level = cell_level - 1;
  if (Touched(eligible, cell_level) <= replicas) group_level = cell_level;
  std::map<std::string, std::map<std::string, double>> tree;
  for (const MapNode* node : eligible) {
    tree[DomainAt(*node, group_level)][DomainAt(*node, cell_level)] += node->weight;
  }
  const auto cells_at = [](const auto& cells, double level) {
    double sum = 0;
    for (const auto& [name, weight] : cells) sum += std::min<double>(4096, weight * level);
    return sum;
  };
  double low = 0, high = 1e12;
  for (int i = 0; i < 300; ++i) {
    const double level = (low + high) / 2;
    double sum = 0;
    for (const auto& [name, cells] : tree) sum += std::max<double>(4096, cells_at(cells, level));
    (sum < 4096.0 * replicas ? low : high) = level;
  }
  std::vector<double> shares(map.nodes.size());
  for (const MapNode* node : eligible) {
    const auto& cells = tree[DomainAt(*node, group_level)];
    double level = high, group = 0;
    for (const auto& [name, weight] : cells) group += weight;
    if (cells_at(cells, level) < 4096 || tree.size() == replicas) level = 4096 / group;
    const double cell = cells.at(DomainAt(*node, cell_level));
    shares[node->number] = std::min(4096.0, cell * level) * node->weight / cell;
  }
  return shares;
}

void ExpectBalanced(const ClusterMap& map, const Sets& sets) {
  const std::vector<uint32_t> loads = Loads(map, sets);
  const std::vector<double> shares = ExactShares(map);
  for (size_t n = 0; n < loads.size(); ++n) {
    EXPECT_GE(loads[n], std::floor(shares[n] - 1e-6)) << "node " << n;
    EXPECT_LE(loads[n], std::ceil(shares[n] + 1e-6)) << "node " << n;
  }
}

// Load per weight of the fullest node, against the mean.
double Fullest(const ClusterMap& map, const Sets& sets) {
  const std::vector<uint32_t> loads = Loads(map, sets);
  double most = 0, load = 0, weight = 0;
  for (const MapNode* node : Eligible(map)) {
    most = std::max(most, loads[node->number] / node->weight);
    load += loads[node->number];
    weight += node->weight;
  }
  return most / (load / weight);
}

// What balance alone makes nodes take: no plan that is balanced moves less.
double LeastMoves(const ClusterMap& map) {
  const std::vector<uint32_t> loads = Loads(map, map.placement);
  const std::vector<double> shares = ExactShares(map);
  double least = 0;
  for (const MapNode* node : Eligible(map)) {
    const double share = shares[node->number];
    least += std::max(0.0, std::floor(share + 1e-6) - loads[node->number]);
  }
  return least;
}

double Milliseconds(const ClusterMap& map) {
  const auto start = std::chrono::steady_clock::now();
  PlanPlacement(map);
  const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
  return time.count();
}

void Report(const char* what, const ClusterMap& map, const Sets& sets, double moved, double ideal) {
  std::printf("%-36s fullest/mean %.4f  moved %5.0f  ideal %7.1f  ratio %.4f  %.0f ms\n", what,
              Fullest(map, sets), moved, ideal, ideal > 0 ? moved / ideal : 0, Milliseconds(map));
}

// Plans, checks what every plan must have, and gives the replicas moved.
double Step(const char* what, ClusterMap& map, double ideal) {
  const Sets plan = PlanPlacement(map);
  ExpectWellSpread(map, plan);
  ExpectBalanced(map, plan);
  const double moved = static_cast<double>(MovedReplicas(map.placement, plan));
  Report(what, map, plan, moved, ideal);
  map.placement = plan;
  EXPECT_EQ(PlanPlacement(map), plan) << what << ": what is planned stays";
  return moved;
}

// The measure of spread here is the one that plain rendezvous follows.
TEST(PlanPlacement, SpreadsAsComputePlacementDoes) {
  for (const uint32_t replicas : {1u, 2u, 3u, 4u, 6u, 9u}) {
    std::mt19937 random(replicas);
    for (int round = 0; round < 12; ++round) {
      ClusterMap map;
      map.replicas = replicas;
      const uint32_t sites = 1 + random() % 4, racks = 1 + random() % 3, hosts = 1 + random() % 3;
      for (uint32_t i = 0; i < 12; ++i) {
        AddNode(map, 1,
                "s" + std::to_string(random() % sites) + "/r" + std::to_string(random() % racks) +
                    "/h" + std::to_string(random() % hosts) + "/d" + std::to_string(random() % 2));
      }
      ComputePlacement(map);
      ExpectWellSpread(map, map.placement);
      map.placement.clear();
      const Sets plan = PlanPlacement(map);
      ExpectWellSpread(map, plan);
      ExpectBalanced(map, plan);
    }
  }
}

// --- balance, from nothing ---

TEST(PlanPlacement, FiftyEqualNodesWithinFivePercent) {
  ClusterMap map = PlannedNodes(50, 3);
  EXPECT_EQ(Step("50 equal, R=3", map, 4096 * 3), 4096 * 3);
  EXPECT_LE(Fullest(map, map.placement), 1.05);
  EXPECT_LT(Milliseconds(PlannedNodes(50, 3)), 3000);
}

TEST(PlanPlacement, MixedWeightsWithinFivePercent) {
  ClusterMap map;
  map.replicas = 3;
  for (int i = 0; i < 24; ++i) AddNode(map, 1 << i % 3, "s/r/h" + std::to_string(i) + "/d");
  Step("24 of weights 1,2,4, R=3", map, 4096 * 3);
  EXPECT_LE(Fullest(map, map.placement), 1.05);
}

TEST(PlanPlacement, DisksOfTenHostsWithinFivePercent) {
  ClusterMap map;
  map.replicas = 3;
  for (int i = 0; i < 50; ++i) {
    AddNode(map, 1, "s/r/h" + std::to_string(i / 5) + "/d" + std::to_string(i % 5));
  }
  Step("10 hosts x 5 disks, R=3", map, 4096 * 3);
  EXPECT_LE(Fullest(map, map.placement), 1.05);
}

TEST(PlanPlacement, ThreeSitesWithinFivePercent) {
  ClusterMap map;
  map.replicas = 3;
  for (int i = 0; i < 30; ++i) {
    AddNode(map, 1, "site" + std::to_string(i % 3) + "/r/h" + std::to_string(i) + "/d");
  }
  Step("3 sites x 10, R=3", map, 4096 * 3);
  EXPECT_LE(Fullest(map, map.placement), 1.05);
}

// Each site holds every PG once, whatever its capacity.
TEST(PlanPlacement, SpreadGoesBeforeBalance) {
  ClusterMap map;
  map.replicas = 3;
  for (int i = 0; i < 12; ++i) AddNode(map, 2, "big/r/h" + std::to_string(i) + "/d");
  for (int i = 0; i < 4; ++i) AddNode(map, 1, "middle/r/h" + std::to_string(i) + "/d");
  AddNode(map, 0.25, "small/r/h/d");
  Step("sites of 24, 4 and 0.25, R=3", map, 4096 * 3);
  const std::vector<uint32_t> loads = Loads(map, map.placement);
  EXPECT_EQ(loads[16], 4096u);
  EXPECT_EQ(loads[12], 1024u);
  EXPECT_NEAR(loads[0], 4096 / 12.0, 1);
}

// A node cannot hold a group twice: one as heavy as all others holds each once, not more.
TEST(PlanPlacement, ANodeHoldsAGroupOnce) {
  ClusterMap map = PlannedNodes(5, 2);
  map.nodes[2].weight = 100;
  map = Planned(map);
  ExpectWellSpread(map, map.placement);
  EXPECT_EQ(Loads(map, map.placement), (std::vector<uint32_t>{1024, 1024, 4096, 1024, 1024}));
}

TEST(PlanPlacement, FewNodesHoldEverything) {
  for (const uint32_t count : {0u, 1u, 2u, 3u}) {
    const ClusterMap map = Planned(PlannedNodes(count, 3));
    ExpectWellSpread(map, map.placement);
    for (const uint32_t load : Loads(map, map.placement)) EXPECT_EQ(load, 4096u);
  }
}

TEST(PlanPlacement, OnlyEligibleNodesTakeRecords) {
  ClusterMap map = PlannedNodes(9, 3);
  map.nodes[1].state = NodeState::kDraining;
  map.nodes[2].state = NodeState::kOut;
  map.nodes[3].state = NodeState::kRemoved;
  map.nodes[4].weight = 0;
  map.nodes[5].failure_domain = "abroad/rack/host5/disk";
  map.sites = {"elsewhere", "site"};
  map = Planned(map);
  const std::vector<uint32_t> loads = Loads(map, map.placement);
  for (const uint32_t n : {1, 2, 3, 4, 5}) EXPECT_EQ(loads[n], 0u) << n;
  for (const uint32_t n : {0, 6, 7, 8}) EXPECT_EQ(loads[n], 3072u) << n;
}

// --- what moves ---

TEST(PlanPlacement, ANewNodeTakesItsShareAndNothingElseMoves) {
  for (const auto& [n, replicas] :
       {std::pair{5u, 3u}, std::pair{5u, 2u}, std::pair{20u, 3u}, std::pair{3u, 3u}}) {
    ClusterMap map = Planned(PlannedNodes(n, replicas));
    AddNodes(map, 1);
    const double ideal = 4096.0 * replicas / (n + 1);
    const std::string what = "add to " + std::to_string(n) + ", R=" + std::to_string(replicas);
    EXPECT_LE(Step(what.c_str(), map, ideal), 1.05 * ideal) << n << " " << replicas;
  }
}

TEST(PlanPlacement, DrainAndOutMoveWhatTheNodeHeld) {
  for (const uint32_t n : {5u, 6u, 20u, 50u}) {
    for (const NodeState state : {NodeState::kDraining, NodeState::kOut}) {
      ClusterMap map = Planned(PlannedNodes(n, 3));
      const double held = Loads(map, map.placement)[3];
      map.nodes[3].state = state;
      const std::string what = "drain or out 1 of " + std::to_string(n);
      EXPECT_LE(Step(what.c_str(), map, held), 1.01 * held) << n;
    }
  }
}

TEST(PlanPlacement, ADrainedDiskOfAHostMovesWhatItHeld) {
  ClusterMap map;
  map.replicas = 3;
  for (int i = 0; i < 50; ++i) {
    AddNode(map, 1, "s/r/h" + std::to_string(i / 5) + "/d" + std::to_string(i % 5));
  }
  map = Planned(map);
  const double held = Loads(map, map.placement)[7];
  map.nodes[7].state = NodeState::kDraining;
  EXPECT_LE(Step("drain 1 disk of 10x5", map, held), 1.05 * held);
  for (int i = 5; i < 10; ++i) map.nodes[i].state = NodeState::kOut;
  const double lost = 4 * 4096 * 3 / 49.0;
  EXPECT_LE(Step("then its host out", map, lost), 1.05 * lost);
}

TEST(PlanPlacement, ReweightMovesTheDifference) {
  ClusterMap map = Planned(PlannedNodes(10, 3));
  map.nodes[4].weight = 2;
  double ideal = 4096 * 3 * (2 / 11.0 - 1 / 10.0);
  EXPECT_LE(Step("weight 1 to 2, 1 of 10", map, ideal), 1.01 * ideal + 1);
  map.nodes[4].weight = 0.5;
  ideal = 4096 * 3 * (2 / 11.0 - 0.5 / 9.5);
  EXPECT_LE(Step("weight 2 to 0.5, 1 of 10", map, ideal), 1.01 * ideal + 5);
  for (MapNode& node : map.nodes) node.weight *= 3;
  EXPECT_EQ(Step("all weights times 3", map, 0), 0);
}

// What plain rendezvous leaves uneven moves, and no more.
TEST(PlanPlacement, TakesOverATableOfComputePlacement) {
  ClusterMap map = PlannedNodes(50, 3);
  ComputePlacement(map);
  const double least = LeastMoves(map);
  EXPECT_GT(least, 50);
  Report("50 equal, plain rendezvous", map, map.placement, 0, 0);
  EXPECT_LE(Step("50 equal, from plain rendezvous", map, least), 1.05 * least + 50);
}

// A second site: each PG moves one replica there, and no other.
TEST(PlanPlacement, ANewSiteTakesOneReplicaOfEach) {
  ClusterMap map = Planned(PlannedNodes(6, 3));
  for (int i = 0; i < 6; ++i) AddNode(map, 1, "second/rack/h" + std::to_string(i) + "/d");
  EXPECT_LE(Step("second site of 6, R=3", map, 4096.0 * 3 / 2), 4096 * 3 / 2 + 12);
  AddNode(map, 1, "third/rack/h/d");
  EXPECT_EQ(Step("third site of 1, R=3", map, 4096), 4096);
}

TEST(PlanPlacement, SetsThatStayAreGivenAsTheyStand) {
  ClusterMap map = Planned(PlannedNodes(5, 3));
  for (auto& set : map.placement) std::reverse(set.begin(), set.end());
  EXPECT_EQ(PlanPlacement(map), map.placement);
  AddNodes(map, 1);
  const Sets plan = PlanPlacement(map);
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
    const bool taken = std::find(plan[pg].begin(), plan[pg].end(), 5) != plan[pg].end();
    EXPECT_EQ(plan[pg] == map.placement[pg], !taken) << pg;
  }
}

// --- while groups migrate ---

ClusterMap Migrate(ClusterMap map) {
  const Sets plan = PlanPlacement(map);
  map.target.assign(kPlacementGroups, {});
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
    if (plan[pg] != map.placement[pg]) map.target[pg] = plan[pg];
  }
  return map;
}

Sets Heading(const ClusterMap& map) {
  Sets sets = map.placement;
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
    if (Migrating(map, pg)) sets[pg] = map.target[pg];
  }
  return sets;
}

TEST(PlanPlacement, WhatMigratesIsPlannedTheSameAgain) {
  ClusterMap map = Planned(PlannedNodes(7, 3));
  AddNodes(map, 2);
  map.nodes[0].state = NodeState::kDraining;
  map = Migrate(map);
  EXPECT_EQ(PlanPlacement(map), Heading(map));
}

TEST(PlanPlacement, AMigrationThatIsCalledOffMovesNothing) {
  ClusterMap map = Planned(PlannedNodes(7, 3));
  map.nodes[0].state = NodeState::kDraining;
  map = Migrate(map);
  map.nodes[0].state = NodeState::kIn;
  EXPECT_EQ(PlanPlacement(map), map.placement);
}

// A second new node: what is on its way to the first one goes on.
TEST(PlanPlacement, WhatIsOnItsWayGoesOn) {
  ClusterMap map = Planned(PlannedNodes(7, 3));
  AddNodes(map, 1);
  map = Migrate(map);
  const Sets before = Heading(map);
  AddNodes(map, 1);
  const Sets plan = PlanPlacement(map);
  ExpectWellSpread(map, plan);
  ExpectBalanced(map, plan);
  uint32_t first = 0;
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
    if (std::find(plan[pg].begin(), plan[pg].end(), 7) == plan[pg].end()) continue;
    ++first;
    EXPECT_NE(std::find(before[pg].begin(), before[pg].end(), 7), before[pg].end()) << pg;
  }
  EXPECT_NEAR(first, 4096 * 3 / 9.0, 1);
}

// --- the same everywhere ---

TEST(PlanPlacement, DoesNotDependOnTheOrderOfNodes) {
  ClusterMap a = Planned(PlannedNodes(9, 3));
  AddNodes(a, 2);
  ClusterMap b = a;
  std::reverse(b.nodes.begin(), b.nodes.end());
  EXPECT_EQ(PlanPlacement(a), PlanPlacement(b));
}

// The digest of a plan: another one means that clusters would move data when they are updated.
TEST(PlanPlacement, GivesTheSameOnEveryMachine) {
  ClusterMap map;
  map.replicas = 3;
  for (int i = 0; i < 20; ++i) {
    AddNode(map, 0.1 * (i + 3), "s" + std::to_string(i % 4) + "/r/h" + std::to_string(i) + "/d");
  }
  map = Planned(map);
  map.nodes[3].state = NodeState::kDraining;
  AddNodes(map, 2);
  std::string text;
  for (const auto& set : PlanPlacement(map)) {
    for (const uint32_t number : set) text += std::to_string(number) + " ";
  }
  EXPECT_EQ(ToHex(Sha256(AsBytes(text))),
            "b54f00680dd43af672c2fba146fa2168dd777aea01bc08aac51f6296ce170b1f");
}

// --- anything, again and again ---

struct Topology {
  const char* name;
  uint32_t replicas;
  std::string (*domain)(uint32_t i);
};

// Changes one thing about the cluster, as an operator or a failure would.
std::string ChangeSomething(ClusterMap& map, const Topology& topology, std::mt19937& random) {
  const auto pick = [&](uint32_t below) { return static_cast<uint32_t>(random() % below); };
  const uint32_t count = static_cast<uint32_t>(map.nodes.size());
  const bool few = Eligible(map).size() < 8;
  if (count < 40 && (few || pick(4) == 0)) {
    AddNode(map, 1 << pick(3), topology.domain(count));
    return "add node " + std::to_string(count);
  }
  MapNode& node = map.nodes[pick(count)];
  const std::string which = " node " + std::to_string(node.number);
  if (pick(4) == 0) {
    node.weight = (1 + pick(16)) / 4.0;
    return "reweight" + which;
  }
  if (node.state == NodeState::kRemoved) return "nothing: gone is" + which;
  if (node.state != NodeState::kIn || few) {
    node.state = NodeState::kIn;
    return "in" + which;
  }
  constexpr NodeState kAway[] = {NodeState::kDraining, NodeState::kOut, NodeState::kDraining,
                                 NodeState::kOut, NodeState::kRemoved};
  node.state = kAway[pick(5)];
  return "away" + which;
}

class PlanPlacementSteps : public ::testing::TestWithParam<Topology> {};

TEST_P(PlanPlacementSteps, TwoHundredRandomChanges) {
  const Topology& topology = GetParam();
  std::mt19937 random(20240607);
  ClusterMap map;
  map.replicas = topology.replicas;
  for (uint32_t i = 0; i < 12; ++i) AddNode(map, 1, topology.domain(i));
  map = Planned(map);
  double moved = 0, least = 0, worst = 0;
  for (int step = 0; step < 200; ++step) {
    const std::string change = ChangeSomething(map, topology, random);
    const Sets plan = PlanPlacement(map);
    ExpectWellSpread(map, plan);
    ExpectBalanced(map, plan);
    const double step_moved = static_cast<double>(MovedReplicas(map.placement, plan));
    const double step_least = LeastMoves(map);
    moved += step_moved;
    least += step_least;
    worst = std::max(worst, step_moved - step_least);
    map.placement = plan;
    ASSERT_FALSE(HasFailure()) << "step " << step << ": " << change;
  }
  std::printf("%-14s moved %.0f, least %.0f, ratio %.4f, worst step %.0f over\n", topology.name,
              moved, least, moved / least, worst);
  EXPECT_LE(moved, 1.05 * least);
}

INSTANTIATE_TEST_SUITE_P(
    Topologies, PlanPlacementSteps,
    ::testing::Values(
        Topology{"flat", 3, [](uint32_t i) { return "s/r/h" + std::to_string(i) + "/d"; }},
        Topology{"flat-R2", 2, [](uint32_t i) { return "s/r/h" + std::to_string(i) + "/d"; }},
        Topology{
            "hosts", 3,
            [](uint32_t i) { return "s/r/h" + std::to_string(i % 6) + "/d" + std::to_string(i); }},
        Topology{"two-sites", 3,
                 [](uint32_t i) {
                   return "s" + std::to_string(i % 2) + "/r/h" + std::to_string(i) + "/d";
                 }},
        Topology{"three-sites", 3,
                 [](uint32_t i) {
                   return "s" + std::to_string(i % 3) + "/r/h" + std::to_string(i) + "/d";
                 }},
        Topology{"racks", 4,
                 [](uint32_t i) {
                   return "s" + std::to_string(i % 2) + "/r" + std::to_string(i % 6) + "/h" +
                          std::to_string(i % 12) + "/d" + std::to_string(i);
                 }}),
    [](const auto& info) {
      std::string name = info.param.name;
      std::erase(name, '-');
      return name;
    });

TEST(MovedReplicas, CountsWhatIsNew) {
  EXPECT_EQ(MovedReplicas({{0, 1, 2}, {3, 4}}, {{2, 1, 0}, {4, 5}}), 1u);
  EXPECT_EQ(MovedReplicas({}, {{0, 1}, {2}}), 3u);
  EXPECT_EQ(MovedReplicas({{0, 1}}, {}), 0u);
}

}  // namespace
}  // namespace holdfast
