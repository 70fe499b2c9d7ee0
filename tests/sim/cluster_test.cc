// A cluster of five nodes and three copies: what is missing is found and copied without being told,
// nodes come and go, and nothing acknowledged is lost. HOLDFAST_SIM_SEEDS and HOLDFAST_SIM_SEED as
// in power_cut_test.cc.
#include <gmock/gmock.h>

#include "common/base/clock.h"
#include "common/cluster/plan_placement.h"
#include "common/cluster/replan.h"
#include "tests/sim/sim_ingest.h"

namespace holdfast::sim {
namespace {

using Action = proto::SetNodeStateRequest;

const SimOptions kFive = {.nodes = 5, .replicas = 3, .cluster = true, .spare = 1};

bool IsWhole(SimVault& sim) {
  const proto::VaultStatusReply status = sim.VaultStatus();
  return status.repair().known() && status.repair().missing() == 0 &&
         status.repair().migrating() == 0;
}

class Cluster : public ::testing::Test {
 protected:
  void Start(uint64_t seed, const SimOptions& options = kFive) {
    sim_ = std::make_unique<SimVault>(seed, options);
    choice_ = std::make_unique<SimRng>(seed ^ 0xc1);
    tree_ = MakeTree(*choice_);
    const Status opened = sim_->Open();
    ASSERT_TRUE(opened.ok()) << Message(opened);
  }
  void MustIngest() {
    const auto summary = RunIngest(*sim_, tree_, log_);
    ASSERT_TRUE(summary.ok()) << Message(summary.status());
    ASSERT_EQ(summary->errors, 0u) << log_.errors.begin()->second;
  }
  // More of the same kind, under other names.
  void MustIngestMore() {
    for (const auto& [name, content] : MakeTree(*choice_)) tree_["more/" + name] = content;
    MustIngest();
  }
  void MustBecomeWhole(int64_t nanos = 120 * kSecond) {
    sim_->RunFor(7 * kSecond);  // By then it is known who is away.
    ASSERT_TRUE(sim_->RunUntil([this] { return IsWhole(*sim_); }, nanos))
        << sim_->VaultStatus().repair().DebugString();
  }

  void MustCollect(const proto::GcStartRequest& request) {
    ASSERT_TRUE(sim_->GcStart(request).ok());
    const auto over = [this] {
      const auto report = sim_->GcStatus();
      return report.ok() && report->phase() >= proto::GcStatusReply::DONE;
    };
    ASSERT_TRUE(sim_->RunUntil(over, 600 * kSecond));
    ASSERT_EQ(sim_->GcStatus()->phase(), proto::GcStatusReply::DONE)
        << sim_->GcStatus()->DebugString();
  }

  std::unique_ptr<SimVault> sim_;
  std::unique_ptr<SimRng> choice_;
  Tree tree_;
  AckLog log_;
};

TEST_F(Cluster, ANodeThatWasAwayCatchesUp) {
  SimOptions patient = kFive;
  patient.out_after_nanos = 3600 * kSecond;
  Start(1, patient);
  MustIngest();
  MustBecomeWhole();
  sim_->StopNode(2);
  MustIngestMore();
  sim_->RunFor(20 * kSecond);
  EXPECT_GT(sim_->VaultStatus().repair().missing(), 0u) << sim_->VaultStatus().DebugString();
  ASSERT_TRUE(sim_->StartNode(2).ok());
  MustBecomeWhole();
  EXPECT_GT(sim_->VaultStatus().repair().copied_records(), 0u);
  // Whatever node goes now, two copies are left of everything.
  for (uint32_t node : {0u, 4u}) {
    sim_->StopNode(node);
    CheckVault(*sim_, tree_, log_);
    ASSERT_TRUE(sim_->StartNode(node).ok());
    MustBecomeWhole();
  }
}

TEST_F(Cluster, WhatANodeHeldThatDoesNotComeBackIsCopiedElsewhere) {
  Start(2);
  MustIngest();
  MustBecomeWhole();
  sim_->StopNode(0);
  MustBecomeWhole(180 * kSecond);
  EXPECT_EQ(sim_->Map().nodes[0].state, NodeState::kOut);
  sim_->StopNode(3);
  CheckVault(*sim_, tree_, log_);
  MustBecomeWhole(180 * kSecond);
  // Three nodes are left. Ingest goes on; then the coordinator starts again, and all is there.
  MustIngestMore();
  sim_->StopCoordinator();
  ASSERT_TRUE(sim_->StartCoordinator().ok());
  MustIngestMore();
  CheckVault(*sim_, tree_, log_);
  // Both come back, with what they had.
  ASSERT_TRUE(sim_->StartNode(0).ok());
  ASSERT_TRUE(sim_->StartNode(3).ok());
  MustBecomeWhole(180 * kSecond);
  EXPECT_EQ(sim_->Map().nodes[0].state, NodeState::kIn);
  EXPECT_EQ(sim_->Map().nodes[3].state, NodeState::kIn);
  CheckVault(*sim_, tree_, log_);
}

TEST_F(Cluster, AnEmptyDiskIsFilledAgain) {
  Start(3);
  MustIngest();
  MustBecomeWhole();
  ASSERT_TRUE(sim_->ReplaceDisk(4).ok());
  EXPECT_FALSE(IsWhole(*sim_)) << "status speaks of the time before";
  MustBecomeWhole();
  sim_->StopNode(0);
  sim_->StopNode(1);
  CheckVault(*sim_, tree_, log_);
}

TEST_F(Cluster, ANewNodeTakesItsShareAndADrainedOneGivesAll) {
  Start(4);
  MustIngest();
  MustBecomeWhole();
  const ClusterMap before = sim_->Map();
  ASSERT_TRUE(sim_->AddNode(5).ok());
  EXPECT_GT(sim_->VaultStatus().repair().migrating(), 0u);
  MustIngestMore();  // While groups move.
  MustBecomeWhole();
  const ClusterMap after = sim_->Map();
  const double ideal = kPlacementGroups * 3.0 / 6;
  EXPECT_LE(static_cast<double>(MovedReplicas(before.placement, after.placement)), 1.05 * ideal);
  CheckVault(*sim_, tree_, log_);
  EXPECT_TRUE(absl::IsFailedPrecondition(sim_->SetNodeState(1, Action::REMOVE)));
  ASSERT_TRUE(sim_->SetNodeState(1, Action::DRAIN).ok());
  MustIngestMore();
  MustBecomeWhole();
  EXPECT_FALSE(NodesInUse(sim_->Map())[1]);
  sim_->StopNode(1);
  ASSERT_TRUE(sim_->SetNodeState(1, Action::REMOVE).ok());
  MustIngestMore();
  MustBecomeWhole();
  CheckVault(*sim_, tree_, log_);
  for (uint32_t node : {0u, 2u, 3u}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(sim_->SetNodeState(node, Action::DRAIN)) ||
                sim_->Map().nodes.size() > 4);
  }
}

// A copy outside its group lies in the trash only as long as the group has enough of its own.
TEST_F(Cluster, WhatOnlyNodesOutsideTheGroupHaveComesBack) {
  Start(9, {.nodes = 2, .replicas = 2, .cluster = true, .spare = 2});
  MustIngest();
  MustBecomeWhole();
  for (const uint32_t node : {2u, 3u}) ASSERT_TRUE(sim_->AddNode(node).ok());
  MustBecomeWhole();
  for (const uint32_t node : {0u, 1u}) {
    ASSERT_TRUE(sim_->SetNodeState(node, Action::DRAIN).ok());
    MustBecomeWhole();
  }
  proto::GcStartRequest request;
  request.set_grace_nanos(7 * 86400 * kSecond);
  MustCollect(request);
  EXPECT_GT(sim_->GcStatus()->surplus_records(), 0u);
  // Both disks of the new groups at once.
  for (const uint32_t node : {2u, 3u}) ASSERT_TRUE(sim_->ReplaceDisk(node).ok());
  sim_->RunFor(20 * kSecond);
  MustCollect(request);
  MustBecomeWhole();
  CheckVault(*sim_, tree_, log_);
  // When they have it all again, the others let go of it.
  sim_->clock().Jump(8 * 86400 * kSecond);
  MustCollect(request);
  sim_->clock().Jump(8 * 86400 * kSecond);
  MustCollect(request);
  const auto held = sim_->Held();
  ASSERT_TRUE(held.ok());
  for (const auto& [id, nodes] : *held) {
    EXPECT_EQ(std::count(nodes.begin(), nodes.end(), 0u), 0) << id.hex();
  }
  CheckVault(*sim_, tree_, log_);
}

// What one node alone had was garbage when it was last looked at.
TEST_F(Cluster, GarbageThatIsNeededAgainIsCopied) {
  Start(12, {.nodes = 2, .replicas = 2, .cluster = true});
  MustIngest();
  MustBecomeWhole();
  for (const auto& [name, content] : tree_) {
    ASSERT_TRUE(sim_->vault().Remove("case", name, {.now = true}).ok()) << name;
  }
  sim_->StopNode(1);
  proto::GcStartRequest request;
  request.set_consent(true);
  request.set_grace_nanos(7 * 86400 * kSecond);
  MustCollect(request);
  EXPECT_GT(sim_->GcStatus()->trashed_records(), 0u);
  ASSERT_TRUE(sim_->StartNode(1).ok());
  MustBecomeWhole();
  MustIngest();
  MustBecomeWhole();
  // Now the nodes say again what they said when it was garbage.
  ASSERT_TRUE(sim_->ReplaceDisk(0).ok());
  MustBecomeWhole();
  sim_->StopNode(1);
  CheckVault(*sim_, tree_, log_);
}

TEST_F(Cluster, AClockThatWasAheadDoesNotKeepGarbage) {
  constexpr int64_t kYears = 20 * 365 * 86400 * kSecond;
  Start(10);
  MustIngest();
  sim_->clock().Jump(kYears);
  MustCollect({});
  sim_->clock().Jump(-kYears);
  for (const auto& [name, content] : tree_) {
    ASSERT_TRUE(sim_->vault().Remove("case", name, {.now = true}).ok()) << name;
  }
  proto::GcStartRequest all;
  all.set_consent(true);
  MustCollect(all);
  EXPECT_GT(sim_->GcStatus()->freed_records(), 0u);
  // With a grace, that begins when the clock is right again.
  sim_->clock().Jump(kYears);
  MustCollect({});
  sim_->clock().Jump(-kYears);
  MustIngestMore();
  for (const auto& [name, content] : tree_) {
    const auto removed = sim_->vault().Remove("case", name, {.now = true});
    ASSERT_TRUE(removed.ok() || absl::IsNotFound(removed.status())) << name;
  }
  all.set_grace_nanos(86400 * kSecond);
  MustCollect(all);
  EXPECT_EQ(sim_->GcStatus()->freed_records(), 0u);
  sim_->clock().Jump(2 * 86400 * kSecond);
  MustCollect(all);
  EXPECT_GT(sim_->GcStatus()->freed_records(), 0u);
}

// Its commits are all there, but not the runs of garbage collection since.
TEST_F(Cluster, ACatalogueThatForgotRunsStoresAllTheSame) {
  Start(11);
  MustIngest();
  MemKvDisk image;
  sim_->StopCoordinator();
  sim_->TakeImage(image);
  ASSERT_TRUE(sim_->StartCoordinator().ok());
  for (int i = 0; i < 3; ++i) MustCollect({});
  sim_->StopCoordinator();
  sim_->PutBack(image);
  ASSERT_TRUE(sim_->StartCoordinator().ok());
  MustIngestMore();
  CheckVault(*sim_, tree_, log_);
}

TEST_F(Cluster, AnIngestOutlivesItsCoordinator) {
  Start(5);
  int objects = 0;
  log_.on_object = [&] {
    if (++objects != 3) return;
    sim_->StopCoordinator();
    ASSERT_TRUE(sim_->StartCoordinator().ok());
  };
  MustIngest();
  ASSERT_GE(objects, 3);
  CheckVault(*sim_, tree_, log_);
  EXPECT_EQ(sim_->VaultStatus().versions(), tree_.size());
}

TEST_F(Cluster, AnIngestOutlivesAChangeOfTheMap) {
  Start(6);
  int objects = 0;
  log_.on_object = [&] {
    Status changed;
    ++objects;
    if (objects == 2) changed = sim_->AddNode(5);
    if (objects == 4) changed = sim_->SetNodeState(0, Action::DRAIN);
    if (objects == 6) {
      sim_->StopNode(2);
      changed = sim_->SetNodeState(2, Action::REMOVE_LOST);
    }
    ASSERT_TRUE(changed.ok()) << Message(changed);
  };
  MustIngest();
  ASSERT_GE(objects, 6);
  MustBecomeWhole();
  sim_->StopNode(0);
  CheckVault(*sim_, tree_, log_);
}

// One node at a time is away, for a while or for good, wherever the ingest is.
void RunSeed(uint64_t seed) {
  SCOPED_TRACE("replay with HOLDFAST_SIM_SEED=" + std::to_string(seed));
  SimRng choice(seed ^ 0xbad);
  SimOptions options = kFive;
  options.duplicate = static_cast<double>(choice.Below(2)) * 0.02;
  SimVault sim(seed, options);
  const Tree tree = MakeTree(choice);
  AckLog log;
  ASSERT_TRUE(sim.Open().ok());
  std::optional<uint32_t> away;
  log.on_object = [&] {
    const uint64_t dice = choice.Below(12);
    if (dice == 0) {
      sim.StopCoordinator();
      ASSERT_TRUE(sim.StartCoordinator().ok());
    } else if (dice == 1 && !away) {
      away = static_cast<uint32_t>(choice.Below(5));
      sim.StopNode(*away);
    } else if (dice == 2 && away) {
      ASSERT_TRUE(sim.StartNode(*away).ok());
      away.reset();
    }
  };
  for (int round = 0; round < 3; ++round) {
    (void)RunIngest(sim, tree, log);
    if (away && choice.Below(2) == 0) {
      ASSERT_TRUE(sim.StartNode(*away).ok());
      away.reset();
    }
    ASSERT_TRUE(sim.RunUntil([&] { return IsWhole(sim); }, 300 * kSecond))
        << sim.VaultStatus().repair().DebugString();
    ASSERT_NO_FATAL_FAILURE(CheckVault(sim, tree, log));
  }
  for (const auto& [name, content] : tree) ASSERT_TRUE(log.acked.count(name)) << name;
}

TEST(ClusterSeeds, AcknowledgedObjectsSurvive) {
  if (uint64_t seed = FromEnvironment("HOLDFAST_SIM_SEED", 0)) return RunSeed(seed);
  const uint64_t seeds = FromEnvironment("HOLDFAST_SIM_SEEDS", 60) / 6;
  for (uint64_t seed = 1; seed <= seeds && !::testing::Test::HasFailure(); ++seed) RunSeed(seed);
}

}  // namespace
}  // namespace holdfast::sim
