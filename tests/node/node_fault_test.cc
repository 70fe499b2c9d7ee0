// Faults while the node runs, and the rules of pin, put, quarantine and replace.
#include <gtest/gtest.h>

#include "tests/node/node_rig.h"

namespace holdfast {
namespace {

constexpr int64_t kDay = 86400LL * 1'000'000'000;

class NodeFaultTest : public testing::Test {
 protected:
  NodeFaultTest() : rig_(3) {}
  void SetUp() override { ASSERT_TRUE(rig_.Open().ok()); }
  void Reopen() {
    ASSERT_TRUE(rig_.Close().ok());
    ASSERT_TRUE(rig_.Open().ok());
  }
  static PutItem Item(uint64_t n, size_t size = 5000) { return {IdOf(n), PayloadOf(n, size)}; }
  void FlipPayload(uint64_t segment, uint64_t offset) {
    rig_.sim_fs.FlipBit(rig_.SegmentPath(segment), offset * 8);
  }
  // Of the first record of a segment.
  static constexpr uint64_t kFirstPayload = kBlockSize + kBatchHeaderSize + kRecordHeaderSize;

  SimRig rig_;
};

TEST_F(NodeFaultTest, ConcurrentPutsOfOneIdWriteItOnce) {
  std::vector<std::shared_ptr<SimRig::Pending>> sent;
  for (int i = 0; i < 10; ++i) {
    sent.push_back(rig_.Send(PutMessage({Item(1), Item(1)}, 1 + i % 2)));
  }
  sent.push_back(rig_.Send(PinMessage({IdOf(1)}, 2)));
  for (auto& pending : sent) {
    rig_.Run([&] { return pending->done; });
    ASSERT_TRUE(pending->reply.ok());
    auto head = ParseHead<proto::NodePutReply>(*pending->reply);
    for (const auto& answer : head->answers()) EXPECT_EQ(answer.status(), proto::PRESENT);
  }
  EXPECT_EQ(rig_.NodeStatus().log_bytes(), 4096u + 8192u);
  EXPECT_EQ(rig_.GetOne(IdOf(1)).touch_epoch, 2u);
  EXPECT_EQ(Show(rig_.CheckAll()), "");
}

TEST_F(NodeFaultTest, PinRaisesTouchDurably) {
  rig_.PutPresent(Item(1), 3);
  EXPECT_EQ(rig_.PinOne(IdOf(1), 8), proto::PRESENT);
  const uint64_t bytes = rig_.NodeStatus().log_bytes();
  EXPECT_EQ(rig_.PinOne(IdOf(1), 8), proto::PRESENT);  // At most one per chunk and epoch.
  EXPECT_EQ(rig_.PinOne(IdOf(1), 4), proto::PRESENT);
  EXPECT_EQ(rig_.NodeStatus().log_bytes(), bytes);
  rig_.PowerCut();
  rig_.WipeIndex();
  ASSERT_TRUE(rig_.Open().ok());
  EXPECT_EQ(rig_.GetOne(IdOf(1)).touch_epoch, 8u);
}

TEST_F(NodeFaultTest, PinWaitsForARecordOnItsWay) {
  auto put = rig_.Send(PutMessage({Item(1)}));
  auto pin = rig_.Send(PinMessage({IdOf(1)}, 6));
  EXPECT_FALSE(pin->done);
  rig_.Run([&] { return pin->done; });
  EXPECT_TRUE(put->done);
  EXPECT_EQ(ParseHead<proto::NodePinReply>(*pin->reply)->answers(0).status(), proto::PRESENT);
  rig_.PowerCut();
  ASSERT_TRUE(rig_.Open().ok());
  EXPECT_EQ(rig_.GetOne(IdOf(1)).payload, Item(1).payload);
  EXPECT_EQ(rig_.GetOne(IdOf(1)).touch_epoch, 6u);
}

TEST_F(NodeFaultTest, ReplaceWritesANewRecord) {
  rig_.PutPresent(Item(1), 9);
  PutItem better{IdOf(1), PayloadOf(2, 777), RecordKind::kChunk, 0, true};
  rig_.PutPresent(better, 4);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(rig_.GetOne(IdOf(1)).payload, better.payload);
    EXPECT_EQ(rig_.GetOne(IdOf(1)).touch_epoch, 9u);
    EXPECT_EQ(Show(rig_.CheckAll()), "");
    ASSERT_TRUE(rig_.Close().ok());
    if (round == 1) rig_.WipeIndex();
    ASSERT_TRUE(rig_.Open().ok());
  }
}

TEST_F(NodeFaultTest, QuarantineByNameAndHeal) {
  rig_.PutPresent(Item(1), 9);
  proto::NodeQuarantineRequest head;
  head.set_id(ToString(IdOf(1).bytes()));
  head.set_checksum(ToString(ChecksumOf(PayloadOf(2, 10)).bytes()));
  ASSERT_TRUE(rig_.Call(MakeMessage(rpc::kNodeQuarantine, head)).ok());
  EXPECT_EQ(rig_.PinOne(IdOf(1)), proto::PRESENT);  // Not that record.
  head.set_checksum(ToString(ChecksumOf(Item(1).payload).bytes()));
  ASSERT_TRUE(rig_.Call(MakeMessage(rpc::kNodeQuarantine, head)).ok());
  ASSERT_TRUE(rig_.Call(MakeMessage(rpc::kNodeQuarantine, head)).ok());
  rig_.PowerCut();
  rig_.WipeIndex();
  ASSERT_TRUE(rig_.Open().ok());
  EXPECT_EQ(rig_.PinOne(IdOf(1)), proto::MISSING);
  EXPECT_EQ(rig_.GetOne(IdOf(1)).payload, Item(1).payload);  // Exact bytes are exact bytes.
  EXPECT_EQ(Count(rig_.CheckAll(), Finding::CORRUPT), 0);
  rig_.PutPresent(Item(1), 2);
  EXPECT_EQ(rig_.PinOne(IdOf(1)), proto::PRESENT);
  EXPECT_EQ(rig_.GetOne(IdOf(1)).touch_epoch, 9u);
  EXPECT_EQ(Show(rig_.CheckAll()), "");
}

TEST_F(NodeFaultTest, OldRecordsAreReadBeforeAPinCounts) {
  rig_.PutPresent(Item(1));
  rig_.PutPresent(Item(2));
  FlipPayload(1, kFirstPayload + 9);
  EXPECT_EQ(rig_.PinOne(IdOf(1)), proto::PRESENT);
  rig_.clock.AdvanceNanos(31 * kDay);
  EXPECT_EQ(rig_.PinOne(IdOf(1)), proto::MISSING);
  EXPECT_EQ(rig_.PinOne(IdOf(2)), proto::PRESENT);
  rig_.PutPresent(Item(1));
  EXPECT_EQ(rig_.GetOne(IdOf(1)).payload, Item(1).payload);
}

TEST_F(NodeFaultTest, PutOfAnOldDamagedRecordHealsIt) {
  rig_.PutPresent(Item(1));
  FlipPayload(1, kFirstPayload + 9);
  rig_.clock.AdvanceNanos(31 * kDay);
  rig_.PutPresent(Item(1));
  EXPECT_EQ(rig_.GetOne(IdOf(1)).payload, Item(1).payload);
}

TEST_F(NodeFaultTest, AFullCheckRenewsTheDate) {
  rig_.PutPresent(Item(1));
  rig_.clock.AdvanceNanos(29 * kDay);
  EXPECT_EQ(Show(rig_.CheckAll(true)), "");
  Reopen();
  rig_.sim_fs.FailReads(rig_.SegmentPath(1), kBlockSize, 4096);
  rig_.clock.AdvanceNanos(29 * kDay);
  EXPECT_EQ(rig_.PinOne(IdOf(1)), proto::PRESENT);  // Not read: the check was recent.
  rig_.clock.AdvanceNanos(2 * kDay);
  EXPECT_EQ(rig_.PinOne(IdOf(1)), proto::MISSING);
}

TEST_F(NodeFaultTest, ARenewingCheckReadsAllOnceHalfTheTimeHasPassed) {
  rig_.PutPresent(Item(1));
  rig_.clock.AdvanceNanos(14 * kDay);
  EXPECT_EQ(Show(rig_.CheckAll(false, true)), "");  // Too early: reads no chunk.
  rig_.clock.AdvanceNanos(2 * kDay);
  EXPECT_EQ(Show(rig_.CheckAll(false, false)), "");
  EXPECT_EQ(Show(rig_.CheckAll(false, true)), "");  // The date is of today.
  rig_.clock.AdvanceNanos(29 * kDay);
  rig_.sim_fs.FailReads(rig_.SegmentPath(1), kFirstPayload, 1);
  EXPECT_EQ(rig_.PinOne(IdOf(1)), proto::PRESENT);
  // What is not good renews nothing.
  EXPECT_EQ(Count(rig_.CheckAll(false, true), Finding::UNREADABLE), 1);
  rig_.clock.AdvanceNanos(2 * kDay);
  EXPECT_EQ(rig_.PinOne(IdOf(1)), proto::MISSING);
}

TEST_F(NodeFaultTest, ReadErrorIsUnreadableNotCorrupt) {
  for (uint64_t n = 0; n < 6; ++n) rig_.PutPresent(Item(n));
  rig_.sim_fs.FailReads(rig_.SegmentPath(1), kFirstPayload, 1);
  std::vector<RecordId> ids;
  for (uint64_t n = 0; n < 6; ++n) ids.push_back(IdOf(n));
  auto got = rig_.Get(ids);
  EXPECT_EQ(got[0].status, proto::UNREADABLE);
  for (uint64_t n = 1; n < 6; ++n) EXPECT_EQ(got[n].payload, Item(n).payload);
  EXPECT_EQ(rig_.PinOne(IdOf(0)), proto::PRESENT);  // Not quarantined.
  const auto findings = rig_.CheckAll();
  EXPECT_GE(Count(findings, Finding::UNREADABLE), 1) << Show(findings);
  EXPECT_EQ(Count(findings, Finding::CORRUPT), 0) << Show(findings);
}

TEST_F(NodeFaultTest, ReadErrorAtRecoveryDropsNothing) {
  for (uint64_t n = 0; n < 6; ++n) rig_.PutPresent(Item(n));
  rig_.Kill();
  rig_.WipeIndex();
  rig_.sim_fs.FailReads(rig_.SegmentPath(1), kBlockSize + 5 * 8192 + 4096, 1);
  ASSERT_TRUE(rig_.Open().ok());
  EXPECT_EQ(Count(rig_.node().findings(), Finding::UNREADABLE), 1) << Show(rig_.node().findings());
  EXPECT_EQ(rig_.GetOne(IdOf(5)).status, proto::UNREADABLE);
  for (uint64_t n = 0; n < 5; ++n) EXPECT_EQ(rig_.GetOne(IdOf(n)).payload, Item(n).payload);
  rig_.PutPresent(Item(10));
}

TEST_F(NodeFaultTest, FullDiskThenSpaceAgain) {
  rig_.options().read_only_fraction = 1.0;
  Reopen();
  uint64_t n = 0;
  for (; n < 20; ++n) rig_.PutPresent(Item(n, 20000));
  uint64_t acked = n;
  for (const uint64_t room : {0, 5000, 100000, 1100000, 1300000}) {
    const SpaceInfo space = rig_.fs().Space("/disk").value();
    rig_.sim_fs.SetCapacity(space.total_bytes - space.free_bytes + room);
    // Until it is full, and then again and again.
    for (int refused = 0; refused < 6;) {
      auto put = rig_.Call(PutMessage({Item(n, 20000)}));
      if (put.ok()) {
        acked = ++n;
        continue;
      }
      EXPECT_TRUE(absl::IsResourceExhausted(put.status())) << put.status();
      ++refused;
      EXPECT_EQ(rig_.PinOne(IdOf(n)), proto::MISSING);
    }
    EXPECT_EQ(rig_.GetOne(IdOf(0)).payload, Item(0, 20000).payload);
    rig_.sim_fs.SetCapacity(1u << 30);
    for (uint64_t k = 0; k < 10; ++k, ++n) rig_.PutPresent(Item(n, 20000));
    acked = n;
  }
  auto check = [&] {
    EXPECT_EQ(Count(rig_.CheckAll(), Finding::CORRUPT), 0) << Show(rig_.CheckAll());
    for (uint64_t k = 0; k < acked; ++k) {
      EXPECT_EQ(rig_.GetOne(IdOf(k)).payload, Item(k, 20000).payload);
    }
  };
  check();
  Reopen();
  EXPECT_EQ(Show(rig_.node().findings()), "");
  check();
  ASSERT_TRUE(rig_.Close().ok());
  rig_.WipeIndex();
  ASSERT_TRUE(rig_.Open().ok());
  EXPECT_EQ(rig_.node().findings().size(), 1u) << Show(rig_.node().findings());  // Index built.
  check();
}

TEST_F(NodeFaultTest, NearlyFullDiskTakesPinsAndCommitRecordsOnly) {
  rig_.PutPresent(Item(1), 1);
  const SpaceInfo space = rig_.fs().Space("/disk").value();
  const uint64_t used = space.total_bytes - space.free_bytes;
  rig_.sim_fs.SetCapacity(used + used / 30);
  auto put = rig_.Call(PutMessage({Item(2)}));
  EXPECT_TRUE(absl::IsResourceExhausted(put.status())) << put.status();
  EXPECT_NE(put.status().ToString().find("/disk"), std::string::npos);
  EXPECT_TRUE(rig_.NodeStatus().read_only());
  EXPECT_EQ(rig_.PinOne(IdOf(1), 5), proto::PRESENT);
  EXPECT_EQ(rig_.Put({Item(1)}, 6).answers(0).status(), proto::PRESENT);  // Nothing to write.
  PutItem commit = Item(3);
  commit.kind = RecordKind::kCommitRecord;
  commit.number = 1;
  rig_.PutPresent(commit);
  rig_.sim_fs.SetCapacity(1u << 30);
  rig_.PutPresent(Item(2));
}

TEST_F(NodeFaultTest, PreallocationDoesNotTakeTheRoomThatIsKeptBack) {
  rig_.PutPresent(Item(1));
  Reopen();  // Nothing is preallocated.
  const SpaceInfo space = rig_.fs().Space("/disk").value();
  const uint64_t used = space.total_bytes - space.free_bytes;
  const uint64_t step = rig_.options().allocate_bytes;
  // Room for half a step below the limit, and for the whole of it above.
  rig_.sim_fs.SetCapacity(used + 2 * step);
  const uint64_t limit = used + step / 2;
  rig_.options().read_only_fraction =
      static_cast<double>(limit) / static_cast<double>(used + 2 * step);
  Reopen();
  for (uint64_t n = 10; n < 13; ++n) rig_.PutPresent(Item(n, 4000));
  EXPECT_FALSE(rig_.NodeStatus().read_only());
}

TEST_F(NodeFaultTest, FailedSyncFailsTheBatchAndSealsTheSegment) {
  rig_.PutPresent(Item(1));
  for (uint64_t n = 10; n < 13; ++n) {
    rig_.sim_fs.FailNextDataSync(rig_.SegmentPath(n - 9));
    EXPECT_TRUE(absl::IsUnavailable(rig_.Call(PutMessage({Item(n)})).status()));
    EXPECT_EQ(rig_.PinOne(IdOf(n)), proto::MISSING);
    rig_.PutPresent(Item(n));
    EXPECT_TRUE(rig_.fs().Exists(rig_.SegmentPath(n - 8)).value());
  }
  EXPECT_EQ(Show(rig_.CheckAll()), "");
  rig_.PowerCut();
  rig_.WipeIndex();
  ASSERT_TRUE(rig_.Open().ok());
  EXPECT_EQ(Count(rig_.CheckAll(), Finding::CORRUPT), 0);
  for (uint64_t n : {1, 10, 11, 12}) EXPECT_EQ(rig_.GetOne(IdOf(n)).payload, Item(n).payload);
}

TEST_F(NodeFaultTest, FailedSyncThenRestartDoesNotAppend) {
  rig_.PutPresent(Item(1));
  rig_.sim_fs.FailNextDataSync(rig_.SegmentPath(1));
  EXPECT_FALSE(rig_.Call(PutMessage({Item(2)})).ok());
  Reopen();
  EXPECT_EQ(Count(rig_.node().findings(), Finding::CORRUPT), 0);
  rig_.PutPresent(Item(2));
  EXPECT_TRUE(rig_.fs().Exists(rig_.SegmentPath(2)).value());
  EXPECT_EQ(rig_.GetOne(IdOf(1)).payload, Item(1).payload);
}

TEST_F(NodeFaultTest, CleanReopenAppendsToTheSameSegment) {
  for (uint64_t n = 0; n < 5; ++n) {
    rig_.PutPresent(Item(n));
    Reopen();
    EXPECT_EQ(Show(rig_.node().findings()), "");
  }
  EXPECT_FALSE(rig_.fs().Exists(rig_.SegmentPath(2)).value());
  EXPECT_EQ(Show(rig_.CheckAll()), "");
  for (uint64_t n = 0; n < 5; ++n) EXPECT_EQ(rig_.GetOne(IdOf(n)).payload, Item(n).payload);
}

TEST_F(NodeFaultTest, UncleanReopenBeginsANewSegment) {
  rig_.PutPresent(Item(1));
  rig_.Kill();
  ASSERT_TRUE(rig_.Open().ok());
  rig_.PutPresent(Item(2));
  EXPECT_TRUE(rig_.fs().Exists(rig_.SegmentPath(2)).value());
  EXPECT_EQ(Show(rig_.CheckAll()), "");
}

TEST_F(NodeFaultTest, TornTailIsDroppedWithANoteAndStaysDropped) {
  int torn = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SimRig rig(seed);
    ASSERT_TRUE(rig.Open().ok());
    rig.PutPresent(Item(1));
    auto lost = rig.Send(PutMessage({Item(2, 3000), Item(3, 3000), Item(4, 3000)}));
    rig.sim_fs.CutPowerAt(rig.sim_fs.operations() + seed % 2);  // In its write, or its sync.
    rig.Run([&] { return lost->done; });
    EXPECT_FALSE(lost->reply.ok());
    rig.PowerCut();
    ASSERT_TRUE(rig.Open().ok());
    const auto findings = rig.node().findings();
    EXPECT_EQ(Count(findings, Finding::NOTE), static_cast<int>(findings.size()));
    torn += !findings.empty();
    EXPECT_EQ(rig.GetOne(IdOf(1)).payload, Item(1).payload);
    rig.PutPresent(Item(2, 3000));
    EXPECT_EQ(Show(rig.CheckAll()), "") << seed;
    ASSERT_TRUE(rig.Close().ok());
    rig.WipeIndex();
    ASSERT_TRUE(rig.Open().ok());
    EXPECT_EQ(Count(rig.node().findings(), Finding::CORRUPT), 0) << Show(rig.node().findings());
    EXPECT_EQ(Show(rig.CheckAll()), "") << seed;
  }
  EXPECT_GT(torn, 10);
}

TEST_F(NodeFaultTest, ClosedNodeRefuses) {
  rig_.PutPresent(Item(1));
  bool done = false;
  auto put = rig_.Send(PutMessage({Item(2)}));
  rig_.node().Close([&](Status status) {
    EXPECT_TRUE(status.ok());
    done = true;
  });
  EXPECT_TRUE(absl::IsUnavailable(rig_.Call(PinMessage({IdOf(1)})).status()));
  rig_.Run([&] { return done; });
  EXPECT_TRUE(put->done && put->reply.ok());  // What came before is written.
  EXPECT_EQ(rig_.fs().Open(rig_.SegmentPath(1), {}).value()->Size().value(), 4096u + 2 * 8192u);
}

// A node that went on without it would let go of what it holds.
TEST_F(NodeFaultTest, ASegmentThatMayNotBeOpenedKeepsTheNodeClosed) {
  rig_.options().segment_bytes = 256u << 10;
  Reopen();
  for (uint64_t n = 1; n <= 10; ++n) rig_.PutPresent(Item(n, n == 1 ? 5000 : 100'000));
  ASSERT_TRUE(rig_.Close().ok());
  // Read for its header alone, and for its records too.
  for (const bool wiped : {false, true}) {
    if (wiped) rig_.WipeIndex();
    rig_.sim_fs.RefuseOpens(rig_.SegmentPath(1), true);
    const Status refused = rig_.Open();
    ASSERT_TRUE(absl::IsUnavailable(refused)) << refused;
    EXPECT_NE(Message(refused).find(rig_.SegmentPath(1)), std::string::npos) << refused;
    rig_.sim_fs.RefuseOpens(rig_.SegmentPath(1), false);
    ASSERT_TRUE(rig_.Open().ok());
    EXPECT_EQ(rig_.GetOne(IdOf(1)).payload, PayloadOf(1, 5000));
    EXPECT_EQ(Show(rig_.CheckAll()), "");
    ASSERT_TRUE(rig_.Close().ok());
  }
  ASSERT_TRUE(rig_.Open().ok());
}

TEST_F(NodeFaultTest, ASegmentThatMayNotBeOpenedIsNotTakenForDamaged) {
  rig_.PutPresent(Item(1));
  rig_.sim_fs.RefuseOpens(rig_.SegmentPath(1), true);
  proto::NodeGetRequest get;
  get.set_ids(ToString(IdOf(1).bytes()));
  EXPECT_TRUE(absl::IsUnavailable(rig_.Call(MakeMessage(rpc::kNodeGet, get)).status()));
  proto::NodeCheckSegmentRequest check;
  check.set_segment_number(1);
  EXPECT_TRUE(absl::IsUnavailable(rig_.Call(MakeMessage(rpc::kNodeCheckSegment, check)).status()));
  rig_.sim_fs.RefuseOpens(rig_.SegmentPath(1), false);
  EXPECT_EQ(rig_.GetOne(IdOf(1)).payload, PayloadOf(1, 5000));
  EXPECT_EQ(Show(rig_.CheckAll()), "");
}

}  // namespace
}  // namespace holdfast
