// Power cuts and kills: whatever was answered PRESENT survives and reads back exact, the node opens
// again and takes more, and nothing that a crash does is reported as corruption.
#include <gtest/gtest.h>

#include "tests/node/node_rig.h"

namespace holdfast {
namespace {

// What the node has acknowledged.
struct Ack {
  Buffer payload;
  uint64_t touch = 0;
};
using Acks = std::map<RecordId, Ack>;

class Workload {
 public:
  Workload(SimRig& rig, uint64_t seed) : rig_(rig), rng_(seed) {}

  // Runs up to `steps` random steps; stops when the power is gone.
  void Run(int steps) {
    for (int i = 0; i < steps && rig_.sim_fs.powered(); ++i) {
      std::vector<Request> sent;
      const uint64_t n = 1 + rng_.Below(3);
      for (uint64_t k = 0; k < n; ++k) sent.push_back(SendOne());
      // Some requests are left on their way while others come.
      rig_.Run([&] {
        for (const Request& r : sent) {
          if (!r.pending->done) return false;
        }
        return true;
      });
      for (const Request& r : sent) Note(r);
      if (rng_.Below(8) == 0) rig_.RunFor(150'000'000);
      if (rng_.Below(25) == 0) Reopen();
    }
  }

  Acks& acks() { return acks_; }

 private:
  struct Request {
    std::shared_ptr<SimRig::Pending> pending;
    std::vector<PutItem> items;
    std::vector<RecordId> ids;
    uint64_t epoch;
    bool put;
  };

  Request SendOne() {
    Request r;
    r.epoch = 1 + rng_.Below(20);
    r.put = rng_.Below(3) != 0;
    const uint64_t count = 1 + rng_.Below(4);
    for (uint64_t k = 0; k < count; ++k) {
      const uint64_t n = rng_.Below(200);
      PutItem item{IdOf(n), PayloadOf(n, n * n * 7 % 9000), RecordKind::kChunk, 0, false};
      if (n % 5 == 0) item.kind = RecordKind::kManifestPart;
      if (n % 7 == 0) item.kind = RecordKind::kCommitRecord, item.number = n;
      item.replace = rng_.Below(10) == 0;
      r.ids.push_back(item.id);
      r.items.push_back(std::move(item));
    }
    r.pending = rig_.Send(r.put ? PutMessage(r.items, r.epoch) : PinMessage(r.ids, r.epoch));
    return r;
  }

  void Note(const Request& r) {
    if (!r.pending->reply.ok()) return;
    auto head = ParseHead<proto::NodePutReply>(*r.pending->reply);  // A pin's has the same shape.
    ASSERT_TRUE(head.ok());
    for (size_t k = 0; k < r.ids.size(); ++k) {
      if (head->answers(k).status() != proto::PRESENT) continue;
      Ack& ack = acks_[r.ids[k]];
      ack.payload = r.items[k].payload;
      ack.touch = std::max(ack.touch, r.epoch);
    }
  }

  void Reopen() {
    (void)rig_.Close();
    if (!rig_.sim_fs.powered()) return;
    const Status opened = rig_.Open();
    ASSERT_TRUE(opened.ok() || !rig_.sim_fs.powered()) << opened;
    if (rig_.sim_fs.powered()) {
      EXPECT_EQ(Show(rig_.node().findings()), "") << "after a clean close";
    }
  }

  SimRig& rig_;
  SimRng rng_;
  Acks acks_;
};

void ExpectOnlyNotes(const std::vector<Finding>& findings) {
  EXPECT_EQ(Count(findings, Finding::NOTE), static_cast<int>(findings.size())) << Show(findings);
}

void ExpectAcksHold(SimRig& rig, const Acks& acks) {
  std::vector<RecordId> ids;
  for (const auto& [id, ack] : acks) ids.push_back(id);
  auto got = rig.Get(ids);
  size_t i = 0;
  for (const auto& [id, ack] : acks) {
    EXPECT_EQ(got[i].status, proto::PRESENT) << id.hex();
    EXPECT_EQ(got[i].payload, ack.payload) << id.hex();
    EXPECT_GE(got[i].touch_epoch, ack.touch) << id.hex();
    ++i;
  }
}

// Opens after a crash, during which the power may fail again.
void Recover(SimRig& rig, SimRng& rng) {
  for (int attempt = 0; attempt < 3; ++attempt) {
    if (attempt < 2) rig.sim_fs.CutPowerAt(rig.sim_fs.operations() + 1 + rng.Below(6));
    const Status opened = rig.Open();
    if (opened.ok() && rig.sim_fs.powered()) break;
    ASSERT_FALSE(rig.sim_fs.powered()) << opened;
    rig.PowerCut();
  }
  rig.sim_fs.CutPowerAt(UINT64_MAX);
  ASSERT_TRUE(rig.sim_fs.powered());
}

void CrashAndCheck(uint64_t seed, uint64_t cut_at, int steps, bool kill) {
  SCOPED_TRACE(testing::Message() << "seed " << seed << " cut " << cut_at);
  SimRig rig(seed);
  SimRng rng(seed + 1);
  ASSERT_TRUE(rig.Open().ok());
  Workload workload(rig, seed);
  rig.sim_fs.CutPowerAt(rig.sim_fs.operations() + cut_at);
  workload.Run(steps);
  for (int round = 0; round < 2; ++round) {
    if (kill && rig.sim_fs.powered()) {
      rig.Kill();
      if (rng.Below(2) == 0) rig.kv.Crash(rng);
    } else {
      rig.PowerCut();
    }
    if (rng.Below(10) == 0) rig.WipeIndex();
    Recover(rig, rng);
    if (testing::Test::HasFatalFailure()) return;
    ExpectOnlyNotes(rig.node().findings());
    ExpectAcksHold(rig, workload.acks());
    if (rng.Below(2) == 0) ExpectOnlyNotes(rig.CheckAll());
    workload.Run(5);
    ExpectOnlyNotes(rig.CheckAll());
    rig.sim_fs.CutPowerAt(rig.sim_fs.operations() + rng.Below(40));
    workload.Run(5);
    if (testing::Test::HasFailure()) return;
  }
}

uint64_t CountOperations(uint64_t seed, int steps) {
  SimRig rig(seed);
  EXPECT_TRUE(rig.Open().ok());
  const uint64_t before = rig.sim_fs.operations();
  Workload(rig, seed).Run(steps);
  return rig.sim_fs.operations() - before;
}

TEST(NodeCrashTest, PowerCutAtEveryOperation) {
  const uint64_t operations = CountOperations(11, 20);
  ASSERT_GT(operations, 30u);
  for (uint64_t cut = 1; cut <= operations && !HasFailure(); ++cut) {
    CrashAndCheck(11, cut, 20, false);
  }
}

TEST(NodeCrashTest, PowerCutsAtRandom) {
  for (uint64_t seed = 100; seed < 700 && !HasFailure(); ++seed) {
    SimRng rng(seed);
    CrashAndCheck(seed, 1 + rng.Below(250), 40, false);
  }
}

TEST(NodeCrashTest, KillsAtRandom) {
  for (uint64_t seed = 1000; seed < 1200 && !HasFailure(); ++seed) {
    SimRng rng(seed);
    CrashAndCheck(seed, UINT64_MAX / 2, static_cast<int>(1 + rng.Below(30)), true);
  }
}

}  // namespace
}  // namespace holdfast
