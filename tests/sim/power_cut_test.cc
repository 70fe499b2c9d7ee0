// Power cuts during ingest, by seed. HOLDFAST_SIM_SEEDS sets how many seeds (default 60);
// HOLDFAST_SIM_SEED=N replays one.
//
// After every cut: what was acknowledged reads back exact; what is listed is complete; fsck and the
// nodes' log checks find no damage; and a second ingest finishes the job.
#include <gtest/gtest.h>

#include "tests/sim/sim_ingest.h"

namespace holdfast::sim {
namespace {

void CheckUndamaged(SimVault& sim) {
  auto damage = sim.Damage();
  ASSERT_TRUE(damage.ok()) << Message(damage.status());
  ASSERT_TRUE(damage->empty()) << damage->front();
}

// What the seeds of one run met; a run that never cut an ingest short proves nothing.
struct Met {
  uint64_t cuts = 0, cut_ingests = 0, acked_before_cut = 0;
};

void RunSeed(uint64_t seed, Met& met) {
  SCOPED_TRACE("replay with HOLDFAST_SIM_SEED=" + std::to_string(seed));
  SimRng choice(seed ^ 0x5eed);
  SimOptions options;
  options.nodes = 1 + static_cast<uint32_t>(choice.Below(3));
  options.replicas = 1 + static_cast<uint32_t>(choice.Below(options.nodes));
  options.segment_bytes = (256u << 10) << choice.Below(4);
  options.batch_bytes = (16u << 10) << choice.Below(5);
  options.duplicate = choice.Below(2) * 0.02;
  SimVault sim(seed, options);
  Tree tree = MakeTree(choice);
  AckLog log;
  Status opened = sim.Open();
  ASSERT_TRUE(opened.ok()) << Message(opened);
  uint64_t cuts = 1 + choice.Below(3);
  for (uint64_t cut = 0; cut < cuts; ++cut) {
    sim.power().CutAfter(choice.Below(20) == 0 ? choice.Below(4) : choice.Below(160));
    bool finished = RunIngest(sim, tree, log).ok();
    ++met.cuts;
    met.cut_ingests += !finished;
    if (!finished) met.acked_before_cut += log.acked.size();
    sim.CrashAndReboot();
    // The power may fail again while the vault recovers.
    if (choice.Below(4) == 0) {
      sim.power().CutAfter(choice.Below(12));
      (void)sim.Open();
      sim.CrashAndReboot();
    }
    Status reopened = sim.Open();
    ASSERT_TRUE(reopened.ok()) << Message(reopened);
    ASSERT_NO_FATAL_FAILURE(CheckVault(sim, tree, log));
    ASSERT_NO_FATAL_FAILURE(CheckUndamaged(sim));
  }
  auto summary = RunIngest(sim, tree, log);
  ASSERT_TRUE(summary.ok()) << Message(summary.status());
  ASSERT_EQ(summary->errors, 0u) << log.errors.begin()->first << log.errors.begin()->second;
  for (const auto& [name, content] : tree) ASSERT_TRUE(log.acked.count(name)) << name;
  ASSERT_NO_FATAL_FAILURE(CheckVault(sim, tree, log));
  ASSERT_NO_FATAL_FAILURE(CheckUndamaged(sim));
  ASSERT_TRUE(sim.Close().ok());
  Status rebuilt = sim.RebuildCatalogue();
  ASSERT_TRUE(rebuilt.ok()) << Message(rebuilt);
  ASSERT_TRUE(sim.Open().ok());
  ASSERT_NO_FATAL_FAILURE(CheckVault(sim, tree, log));
}

TEST(PowerCut, AcknowledgedObjectsSurvive) {
  Met met;
  if (uint64_t seed = FromEnvironment("HOLDFAST_SIM_SEED", 0)) return RunSeed(seed, met);
  uint64_t seeds = FromEnvironment("HOLDFAST_SIM_SEEDS", 60);
  for (uint64_t seed = 1; seed <= seeds && !HasFailure(); ++seed) RunSeed(seed, met);
  std::printf(
      "%llu seeds, %llu power cuts, %llu in the middle of an ingest, %llu objects "
      "acknowledged before those\n",
      static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(met.cuts),
      static_cast<unsigned long long>(met.cut_ingests),
      static_cast<unsigned long long>(met.acked_before_cut));
  EXPECT_GT(met.cut_ingests, seeds / 4);
  EXPECT_GT(met.acked_before_cut, 0u);
}

}  // namespace
}  // namespace holdfast::sim
