// Trash and compaction at one node: docs/gc.md. HOLDFAST_SIM_SEEDS sets how many seeds the random
// test runs (default 60), HOLDFAST_SIM_SEED=N replays one.
#include <gmock/gmock.h>

#include <cstdlib>
#include <set>

#include "common/base/coding.h"
#include "common/cluster/access.h"
#include "common/cluster/cluster_map.h"
#include "tests/node/node_rig.h"

namespace holdfast {
namespace {

using proto::MISSING, proto::PRESENT, proto::TRASHED;
using ::testing::HasSubstr;

struct Run {
  uint64_t generation = 1, run = 1, horizon = 0;
};

class Collected {
 public:
  explicit Collected(SimRig& rig) : rig_(rig) {}

  StatusOr<proto::NodeGcBeginReply> Begin(const Run& run) {
    proto::NodeGcBeginRequest request;
    Set(run, *request.mutable_run());
    return Ask<proto::NodeGcBeginReply>(MakeMessage(rpc::kNodeGcBegin, request));
  }
  StatusOr<proto::NodeTrashReply> Trash(const Run& run, const std::vector<RecordId>& ids,
                                        const std::vector<RecordId>& keep = {},
                                        bool surplus = false, uint64_t map_version = 0) {
    proto::NodeTrashRequest request;
    Set(run, *request.mutable_run());
    request.set_surplus(surplus);
    request.set_map_version(map_version);
    for (const RecordId& id : ids) request.mutable_ids()->append(AsView(id.bytes()));
    for (const RecordId& id : keep) request.mutable_keep()->append(AsView(id.bytes()));
    return Ask<proto::NodeTrashReply>(MakeMessage(rpc::kNodeTrash, request));
  }
  StatusOr<proto::NodeCompactReply> CompactStep(const Run& run, uint64_t free_run, uint32_t step,
                                                bool sparse_only = false) {
    proto::NodeCompactRequest request;
    Set(run, *request.mutable_run());
    request.set_free_run(free_run);
    request.set_step(step);
    request.set_sparse_only(sparse_only);
    request.set_last_commit_there(true);
    return Ask<proto::NodeCompactReply>(MakeMessage(rpc::kNodeCompact, request));
  }
  // All steps; what they did, summed up.
  StatusOr<proto::NodeCompactReply> Compact(const Run& run, uint64_t free_run,
                                            bool sparse_only = false) {
    ASSIGN_OR_RETURN(proto::NodeCompactReply sum, CompactStep(run, free_run, 0, sparse_only));
    for (uint32_t step = 1; step <= sum.steps(); ++step) {
      ASSIGN_OR_RETURN(const auto one, CompactStep(run, free_run, step, sparse_only));
      sum.set_segments(sum.segments() + one.segments());
      sum.set_freed_bytes(sum.freed_bytes() + one.freed_bytes());
      sum.set_copied_bytes(sum.copied_bytes() + one.copied_bytes());
      sum.set_freed_records(sum.freed_records() + one.freed_records());
      if (!one.skipped().empty()) sum.set_skipped(one.skipped());
    }
    return sum;
  }
  uint64_t FileBytes() {
    uint64_t bytes = 0;
    for (const std::string& name : Names()) {
      bytes += ReadFile(rig_.sim_fs, rig_.options().dir + "/segments/" + name)->size();
    }
    return bytes;
  }
  // Whether the bytes are in any file of the log.
  bool InLog(Bytes payload) {
    for (const std::string& name : Names()) {
      const Buffer file = *ReadFile(rig_.sim_fs, rig_.options().dir + "/segments/" + name);
      if (AsView(file).find(AsView(payload)) != std::string_view::npos) return true;
    }
    return false;
  }

  std::vector<std::string> Names() {
    return rig_.sim_fs.List(rig_.options().dir + "/segments").value();
  }

 private:
  static void Set(const Run& run, proto::GcRun& out) {
    out.set_generation(run.generation);
    out.set_run(run.run);
    out.set_horizon(run.horizon);
  }
  template <class Reply>
  StatusOr<Reply> Ask(RpcMessage message) {
    ASSIGN_OR_RETURN(RpcMessage reply, rig_.Call(std::move(message)));
    return ParseHead<Reply>(reply);
  }
  SimRig& rig_;
};

// Requests by whose answers the coordinator counts on what is here, by that map.
template <class Request>
RpcMessage Counting(uint16_t method, uint64_t map_version) {
  Request request;
  request.set_map_version(map_version);
  return MakeMessage(method, request);
}
std::vector<RpcMessage> CountingMessages(uint64_t map_version) {
  return {Counting<proto::NodeDigestsRequest>(rpc::kNodeDigests, map_version),
          Counting<proto::NodeListGroupRequest>(rpc::kNodeListGroup, map_version),
          Counting<proto::NodeStatRequest>(rpc::kNodeStat, map_version)};
}

class NodeGcTest : public ::testing::Test {
 protected:
  NodeGcTest() : rig_(7), gc_(rig_) {
    rig_.options().segment_bytes = 256u << 10;
    rig_.options().batch_bytes = 32u << 10;
  }
  void SetUp() override { ASSERT_TRUE(rig_.Open().ok()); }

  void Reopen() {
    ASSERT_TRUE(rig_.Close().ok());
    ASSERT_TRUE(rig_.Open().ok());
  }
  void Rebuild() {
    ASSERT_TRUE(rig_.Close().ok());
    rig_.WipeIndex();
    ASSERT_TRUE(rig_.Open().ok());
  }
  void PutSome(uint64_t first, uint64_t last, uint64_t epoch, size_t size = 20'000) {
    for (uint64_t n = first; n < last; ++n) {
      rig_.PutPresent({IdOf(n), PayloadOf(n, size)}, epoch);
    }
  }
  std::vector<RecordId> Ids(uint64_t first, uint64_t last) {
    std::vector<RecordId> ids;
    for (uint64_t n = first; n < last; ++n) ids.push_back(IdOf(n));
    return ids;
  }
  proto::RecordStatus StatOne(uint64_t n) { return rig_.Stat({IdOf(n)}).answers(0).status(); }
  // Flips a bit of record n's payload, or of what lies around it.
  void Damage(uint64_t segment, uint64_t n, int offset) {
    const std::string path = rig_.SegmentPath(segment);
    Buffer file = *ReadFile(rig_.sim_fs, path);
    const size_t at = AsView(file).find(AsView(PayloadOf(n, 20'000)));
    ASSERT_NE(at, std::string_view::npos);
    file[at + offset] ^= 1;
    ASSERT_TRUE(WriteFileAtomically(rig_.sim_fs, path, file).ok());
  }
  // Another writer's record takes the place of record n.
  void PutOfAnother(uint64_t n, uint64_t content) {
    RpcMessage put =
        PutMessage({{IdOf(n), PayloadOf(content, 20'000), RecordKind::kChunk, 0, true}}, 1);
    proto::NodePutRequest head;
    ASSERT_TRUE(head.ParseFromString(put.head));
    head.set_writer(std::string(WriterId::kSize, 'x'));
    head.SerializeToString(&put.head);
    ASSERT_TRUE(rig_.Call(std::move(put)).ok());
  }
  void MustBeSound() {
    for (const Finding& finding : rig_.CheckAll()) {
      EXPECT_EQ(finding.class_(), Finding::NOTE) << finding.text();
    }
    for (const Finding& finding : rig_.node().findings()) {
      EXPECT_EQ(finding.class_(), Finding::NOTE) << finding.text();
    }
  }

  SimRig rig_;
  Collected gc_;
};

TEST_F(NodeGcTest, OnlyWhatNoSessionTouchedAtTheHorizonGoesIntoTheTrash) {
  PutSome(0, 4, 1);
  EXPECT_EQ(rig_.PinOne(IdOf(1), 2), PRESENT);
  const auto reply = gc_.Trash({1, 1, 2}, Ids(0, 3));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->trashed(), 2u);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(StatOne(0), TRASHED);
    EXPECT_EQ(StatOne(1), PRESENT);
    EXPECT_EQ(StatOne(2), TRASHED);
    EXPECT_EQ(StatOne(3), PRESENT);
    round == 0 ? Reopen() : Rebuild();
  }
  // It can still be read: what is restored from a backup may name it.
  EXPECT_EQ(rig_.GetOne(IdOf(0)).status, PRESENT);
  MustBeSound();
}

TEST_F(NodeGcTest, APinTakesOutOfTheTrash) {
  PutSome(0, 2, 1);
  ASSERT_TRUE(gc_.Trash({1, 1, 2}, Ids(0, 2)).ok());
  EXPECT_EQ(rig_.PinOne(IdOf(0), 2), PRESENT);
  EXPECT_EQ(StatOne(0), PRESENT);
  // The same sweep once more, late: it was touched.
  ASSERT_TRUE(gc_.Trash({1, 1, 2}, Ids(0, 2)).ok());
  EXPECT_EQ(StatOne(0), PRESENT);
  EXPECT_EQ(StatOne(1), TRASHED);
  Rebuild();
  EXPECT_EQ(StatOne(0), PRESENT);
  EXPECT_EQ(StatOne(1), TRASHED);
}

TEST_F(NodeGcTest, ASessionBelowTheHorizonIsRefused) {
  PutSome(0, 1, 3);
  ASSERT_TRUE(gc_.Begin({1, 1, 3}).ok());
  EXPECT_TRUE(absl::IsAborted(rig_.Call(PinMessage({IdOf(0)}, 2)).status()));
  EXPECT_TRUE(absl::IsAborted(rig_.Call(PutMessage({{IdOf(1), PayloadOf(1, 100)}}, 2)).status()));
  EXPECT_EQ(rig_.PinOne(IdOf(0), 3), PRESENT);
  Rebuild();
  EXPECT_TRUE(absl::IsAborted(rig_.Call(PinMessage({IdOf(0)}, 2)).status()));
  // Commit records are of no session.
  rig_.PutPresent({IdOf(9), PayloadOf(9, 100), RecordKind::kCommitRecord, 1}, 2);
}

TEST_F(NodeGcTest, OlderRunsAndGenerationsAreRefused) {
  PutSome(0, 1, 4);
  const auto before = gc_.Begin({2, 5, 0});
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(before->max_touch(), 4u);
  EXPECT_TRUE(absl::IsFailedPrecondition(gc_.Trash({1, 9, 9}, Ids(0, 1)).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(gc_.Trash({2, 4, 9}, Ids(0, 1)).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(gc_.CompactStep({1, 9, 9}, 1, 0).status()));
  Rebuild();
  EXPECT_TRUE(absl::IsFailedPrecondition(gc_.Trash({1, 9, 9}, Ids(0, 1)).status()));
  EXPECT_EQ(gc_.Begin({2, 5, 0})->run(), 5u);
  EXPECT_EQ(rig_.NodeStatus().generation(), 2u);
  EXPECT_EQ(StatOne(0), PRESENT);
}

// One whose catalogue was made anew since, by another one.
TEST_F(NodeGcTest, CommitsOfAnOlderCoordinatorAreRefused) {
  const auto commit = [&](uint64_t number, uint64_t generation) {
    RpcMessage put =
        PutMessage({{IdOf(number), PayloadOf(number, 100), RecordKind::kCommitRecord, number}}, 1);
    proto::NodePutRequest head;
    EXPECT_TRUE(head.ParseFromString(put.head));
    head.set_generation(generation);
    head.SerializeToString(&put.head);
    return rig_.Call(std::move(put)).status();
  };
  EXPECT_TRUE(commit(1, 1).ok());
  ASSERT_TRUE(gc_.Begin({2, 1, 0}).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(commit(2, 1)));
  EXPECT_TRUE(commit(2, 2).ok());
  Rebuild();
  EXPECT_TRUE(absl::IsFailedPrecondition(commit(3, 1)));
}

// Whoever may only store things moves neither the generation nor E.
TEST_F(NodeGcTest, APrincipalCannotLockTheCoordinatorOut) {
  const auto as_principal = [](RpcMessage message) {
    message.caller.roles = static_cast<uint32_t>(Role::kIngest);
    message.caller.key.value.fill(7);
    return message;
  };
  proto::NodePutRequest put;
  put.set_domain(std::string(DomainId::kSize, 'd'));
  put.set_writer(std::string(WriterId::kSize, 'w'));
  put.set_generation(UINT64_MAX);
  (void)rig_.Call(as_principal(MakeMessage(rpc::kNodePut, put)));
  proto::NodePinRequest pin;
  pin.set_ids(ToString(IdOf(1).bytes()));
  pin.set_generation(UINT64_MAX);
  EXPECT_TRUE(
      absl::IsUnavailable(rig_.Call(as_principal(MakeMessage(rpc::kNodePin, pin))).status()));
  EXPECT_EQ(rig_.NodeStatus().generation(), 1u);
  EXPECT_TRUE(absl::IsInvalidArgument(
      rig_.Call(as_principal(PinMessage({IdOf(1)}, uint64_t{1} << 40))).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      rig_.Call(as_principal(PutMessage({{IdOf(1), PayloadOf(1, 100)}}, UINT64_MAX - 1)))
          .status()));
  EXPECT_EQ(rig_.NodeStatus().max_touch(), 0u);
}

// A reader finds that a record does not open, just as compaction moves it.
TEST(NodeGcRace, AQuarantineIsNotLostInAMove) {
  int moved = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SimRig rig(seed);
    Collected gc(rig);
    rig.options().segment_bytes = 64u << 10;
    rig.options().batch_bytes = 16u << 10;
    ASSERT_TRUE(rig.Open().ok());
    rig.PutPresent({IdOf(1), PayloadOf(1, 9000)}, 1);
    rig.PutPresent({IdOf(2), PayloadOf(2, 9000)}, 1);
    ASSERT_TRUE(gc.Trash({1, 1, 2}, {IdOf(2)}).ok());
    const auto plan = gc.CompactStep({1, 1, 2}, 1, 0);
    ASSERT_TRUE(plan.ok() && plan->steps() == 1);
    proto::NodeCompactRequest compact;
    compact.mutable_run()->set_generation(1);
    compact.mutable_run()->set_run(1);
    compact.mutable_run()->set_horizon(2);
    compact.set_free_run(1);
    compact.set_step(1);
    const auto step = rig.Send(MakeMessage(rpc::kNodeCompact, compact));
    rig.RunFor(static_cast<int64_t>(seed % 30) * 2'800'000);
    proto::NodeQuarantineRequest request;
    request.set_id(ToString(IdOf(1).bytes()));
    request.set_checksum(ToString(ChecksumOf(PayloadOf(1, 9000)).bytes()));
    const auto quarantined = rig.Send(MakeMessage(rpc::kNodeQuarantine, request));
    rig.Run([&] { return step->done && quarantined->done; });
    ASSERT_TRUE(quarantined->reply.ok()) << quarantined->reply.status();
    EXPECT_EQ(rig.PinOne(IdOf(1), 2), MISSING) << "seed " << seed;
    moved += ParseHead<proto::NodeCompactReply>(*step->reply)->segments() == 1;
  }
  EXPECT_GT(moved, 5);
  EXPECT_LT(moved, 60);
}

TEST_F(NodeGcTest, CommitRecordsAreNeverTrashed) {
  rig_.PutPresent({IdOf(1), PayloadOf(1, 100), RecordKind::kCommitRecord, 1});
  rig_.PutPresent({IdOf(2), PayloadOf(2, 100), RecordKind::kManifestPart});
  EXPECT_EQ(gc_.Trash({1, 1, 5}, Ids(1, 3))->trashed(), 1u);
  EXPECT_EQ(StatOne(1), PRESENT);
  EXPECT_EQ(StatOne(2), TRASHED);
}

TEST_F(NodeGcTest, WhatIsKeptComesOutAgain) {
  PutSome(0, 2, 1);
  ASSERT_TRUE(gc_.Trash({1, 1, 2}, Ids(0, 2)).ok());
  EXPECT_EQ(gc_.Trash({1, 2, 3}, {}, Ids(0, 1))->kept(), 1u);
  Rebuild();
  EXPECT_EQ(StatOne(0), PRESENT);
  EXPECT_EQ(StatOne(1), TRASHED);
}

TEST_F(NodeGcTest, CompactionGivesBackSpaceAndKeepsWhatIsLive) {
  PutSome(0, 60, 1);  // 1.2 MB in five segments.
  const uint64_t before = gc_.FileBytes();
  std::vector<RecordId> odd;
  for (uint64_t n = 1; n < 60; n += 2) odd.push_back(IdOf(n));
  ASSERT_TRUE(gc_.Trash({1, 1, 2}, odd).ok());
  // Its grace is not over.
  auto done = gc_.Compact({1, 1, 2}, 0);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(done->freed_records(), 0u);
  EXPECT_TRUE(gc_.InLog(PayloadOf(1, 20'000)));
  done = gc_.Compact({1, 2, 3}, 1);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(done->skipped(), "");
  EXPECT_EQ(done->freed_records(), 30u);
  EXPECT_GE(done->segments(), 5u);
  EXPECT_LT(gc_.FileBytes(), before * 6 / 10);
  for (int round = 0; round < 3; ++round) {
    for (uint64_t n = 0; n < 60; ++n) {
      EXPECT_EQ(gc_.InLog(PayloadOf(n, 20'000)), n % 2 == 0) << n;
      EXPECT_EQ(StatOne(n), n % 2 == 0 ? PRESENT : MISSING) << n;
      if (n % 2 != 0) continue;
      EXPECT_EQ(rig_.GetOne(IdOf(n)).payload, PayloadOf(n, 20'000));
    }
    MustBeSound();
    round == 0 ? Reopen() : Rebuild();
  }
  // What is gone can be stored again.
  PutSome(0, 60, 3);
  MustBeSound();
}

TEST_F(NodeGcTest, TouchesAndTrashOutliveTheSegmentThatNotesThem) {
  PutSome(0, 12, 1);  // Segment 1.
  for (uint64_t n = 0; n < 4; ++n) EXPECT_EQ(rig_.PinOne(IdOf(n), 5), PRESENT);
  ASSERT_TRUE(gc_.Trash({1, 1, 3}, Ids(4, 6)).ok());
  PutSome(100, 130, 5);  // Segments behind the marks.
  ASSERT_TRUE(gc_.Trash({1, 2, 4}, Ids(8, 10)).ok());
  // Everything is rewritten: each segment holds something that goes.
  PutSome(200, 212, 5);
  ASSERT_TRUE(gc_.Compact({1, 2, 4}, 1).ok());
  Rebuild();
  for (uint64_t n = 0; n < 4; ++n) {
    EXPECT_EQ(rig_.GetOne(IdOf(n)).touch_epoch, 5u) << n;
  }
  EXPECT_EQ(StatOne(4), MISSING);
  EXPECT_EQ(StatOne(8), TRASHED);
  ASSERT_TRUE(gc_.Begin({1, 3, 5}).ok());
  // A sweep at epoch 5 still sees the touches.
  EXPECT_EQ(gc_.Trash({1, 3, 5}, Ids(0, 4))->trashed(), 0u);
  EXPECT_EQ(rig_.NodeStatus().gc_run(), 3u);
  MustBeSound();
}

TEST_F(NodeGcTest, ADamagedSegmentStays) {
  PutSome(0, 12, 1);
  PutSome(12, 24, 1);
  ASSERT_TRUE(gc_.Trash({1, 1, 2}, Ids(0, 1)).ok());
  ASSERT_TRUE(rig_.Close().ok());
  Damage(1, 5, 100);
  ASSERT_TRUE(rig_.Open().ok());
  auto done = gc_.Compact({1, 2, 3}, 1);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(done->segments(), 0u);
  EXPECT_THAT(done->skipped(), HasSubstr("segments/0000000001.seg stays: "));
  EXPECT_EQ(rig_.GetOne(IdOf(6)).payload, PayloadOf(6, 20'000));
  // Once it is stored again, the segment can go.
  EXPECT_EQ(rig_.PinOne(IdOf(5), 3), MISSING);
  rig_.PutPresent({IdOf(5), PayloadOf(5, 20'000)}, 3);
  done = gc_.Compact({1, 2, 3}, 1);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(done->skipped(), "");
  EXPECT_FALSE(gc_.InLog(PayloadOf(0, 20'000)));
  Rebuild();
  for (uint64_t n = 1; n < 24; ++n) EXPECT_EQ(StatOne(n), PRESENT) << n;
  MustBeSound();
}

// It can never be replaced, since nobody brings it again.
TEST_F(NodeGcTest, GarbageNeedNotBeWholeToGo) {
  PutSome(0, 24, 1);
  ASSERT_TRUE(gc_.Trash({1, 1, 2}, Ids(2, 6)).ok());
  ASSERT_TRUE(rig_.Close().ok());
  Damage(1, 3, 100);                      // Its payload.
  Damage(1, 4, -int{kRecordHeaderSize});  // Its header: the scan does not find it.
  ASSERT_TRUE(rig_.Open().ok());
  const auto done = gc_.Compact({1, 2, 3}, 1);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(done->skipped(), "");
  EXPECT_EQ(done->freed_records(), 4u);
  for (int round = 0; round < 2; ++round) {
    for (uint64_t n = 0; n < 24; ++n) {
      EXPECT_EQ(StatOne(n), n >= 2 && n < 6 ? MISSING : PRESENT) << n;
      EXPECT_EQ(gc_.InLog(PayloadOf(n, 20'000)), n < 2 || n >= 6) << n;
    }
    MustBeSound();
    Rebuild();
  }
}

TEST_F(NodeGcTest, WhatWasSetAsideMovesToo) {
  rig_.PutPresent({IdOf(1), PayloadOf(1, 20'000)}, 1);
  PutOfAnother(1, 77);
  PutSome(10, 40, 1);
  ASSERT_TRUE(gc_.Trash({1, 1, 2}, Ids(10, 40)).ok());
  auto done = gc_.Compact({1, 1, 2}, 1);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_EQ(done->skipped(), "");
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(rig_.GetOne(IdOf(1)).payload, PayloadOf(77, 20'000));
    Rebuild();
  }
  // A reader finds that it does not open.
  proto::NodeQuarantineRequest request;
  request.set_id(ToString(IdOf(1).bytes()));
  request.set_checksum(ToString(ChecksumOf(PayloadOf(77, 20'000)).bytes()));
  ASSERT_TRUE(rig_.Call(MakeMessage(rpc::kNodeQuarantine, request)).ok());
  EXPECT_EQ(rig_.GetOne(IdOf(1)).payload, PayloadOf(1, 20'000));
}

TEST_F(NodeGcTest, ADamagedRecordThatWasSetAsideHoldsUpItsSegmentOnly) {
  rig_.PutPresent({IdOf(1), PayloadOf(1, 20'000)}, 1);
  PutOfAnother(1, 77);
  PutSome(10, 40, 1);
  ASSERT_TRUE(gc_.Trash({1, 1, 2}, Ids(10, 40)).ok());
  ASSERT_TRUE(rig_.Close().ok());
  Damage(1, 1, 100);
  ASSERT_TRUE(rig_.Open().ok());
  const auto done = gc_.Compact({1, 1, 2}, 1);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_THAT(done->skipped(), HasSubstr("segments/0000000001.seg stays: "));
  EXPECT_EQ(done->segments(), done->steps() - 1);
  EXPECT_EQ(rig_.GetOne(IdOf(1)).payload, PayloadOf(77, 20'000));
}

TEST_F(NodeGcTest, AStepAskedForTwiceIsDoneOnce) {
  PutSome(0, 30, 1);
  ASSERT_TRUE(gc_.Trash({1, 1, 2}, Ids(0, 30)).ok());
  const auto plan = gc_.CompactStep({1, 1, 2}, 1, 0);
  ASSERT_TRUE(plan.ok());
  ASSERT_GE(plan->steps(), 2u);
  const auto once = gc_.CompactStep({1, 1, 2}, 1, 1);
  const auto twice = gc_.CompactStep({1, 1, 2}, 1, 1);
  ASSERT_TRUE(once.ok() && twice.ok());
  EXPECT_EQ(once->SerializeAsString(), twice->SerializeAsString());
  EXPECT_EQ(once->segments(), 1u);
  Reopen();
  EXPECT_TRUE(absl::IsFailedPrecondition(gc_.CompactStep({1, 1, 2}, 1, 2).status()));
}

// That a segment lost records is noted in the index; the note goes with the segment, whenever the
// power fails.
TEST(NodeGcCrash, NoNoteOutlivesItsSegment) {
  const auto notes = [](SimRig& rig) {
    std::set<std::string> found;
    const auto kv = OpenMemKv(rig.kv, /*wal=*/false);
    EXPECT_TRUE(kv->Scan("f", "g", [&](std::string_view key, std::string_view) {
                    return found.emplace(key).second;
                  }).ok());
    return found;
  };
  uint64_t left_by_the_crash = 0;
  for (uint64_t cut = 0; cut < 60; ++cut) {
    SimRig rig(cut);
    Collected gc(rig);
    rig.options().segment_bytes = 64u << 10;
    ASSERT_TRUE(rig.Open().ok());
    std::vector<RecordId> ids;
    for (uint64_t n = 0; n < 12; ++n) {
      rig.PutPresent({IdOf(n), PayloadOf(n, 20'000)}, 1);
      ids.push_back(IdOf(n));
    }
    ASSERT_TRUE(gc.Trash({1, 1, 2}, ids).ok());
    ASSERT_TRUE(gc.CompactStep({1, 1, 2}, 1, 0).ok());
    rig.sim_fs.CutPowerAt(rig.sim_fs.operations() + cut);
    for (uint32_t step = 1; step <= 2; ++step) (void)gc.CompactStep({1, 1, 2}, 1, step);
    rig.PowerCut();
    left_by_the_crash += !notes(rig).empty();
    ASSERT_TRUE(rig.Open().ok());
    ASSERT_TRUE(gc.Compact({1, 1, 2}, 1).ok()) << cut;
    ASSERT_TRUE(rig.Close().ok());
    EXPECT_TRUE(notes(rig).empty()) << cut;
  }
  EXPECT_GT(left_by_the_crash, 0u) << "the cuts miss what they are for";
}

// Sessions that put, pin and forget, runs that sweep what nobody holds, compaction, kills and power
// cuts, in any order: what a session was told of, and what is held, stays.
class Story {
 public:
  explicit Story(uint64_t seed) : rig_(seed), gc_(rig_), choice_(seed ^ 0x6c) {
    rig_.options().segment_bytes = (64u << 10) << choice_.Below(3);
    rig_.options().batch_bytes = 16u << 10;
    rig_.options().index_flush_bytes = (64u << 10) << choice_.Below(4);
  }

  void Play(int steps) {
    ASSERT_TRUE(rig_.Open().ok());
    for (int i = 0; i < steps && !::testing::Test::HasFatalFailure(); ++i) Step();
    Reboot(2);
    Check();
    EXPECT_GT(freed_segments, 0u);
  }
  uint64_t freed_segments = 0, crashes = 0;

 private:
  static constexpr uint64_t kIds = 40;

  void Step() {
    const uint64_t dice = choice_.Below(20);
    if (dice < 7) return Store(choice_.Below(kIds));
    if (dice < 9) return Pin(choice_.Below(kIds));
    if (dice < 12) {
      held_.erase(choice_.Below(kIds));
      return;
    }
    if (dice < 15) return Sweep();
    if (dice < 18) return Compact();
    if (dice < 19) return Reboot(choice_.Below(3));
    Check();
  }
  size_t SizeOf(uint64_t n) const { return 500 + n * 331 % 9000; }

  // A session of now stores n, and holds it.
  void Store(uint64_t n) {
    const auto reply = rig_.Call(PutMessage({{IdOf(n), PayloadOf(n, SizeOf(n))}}, epoch_));
    ASSERT_TRUE(reply.ok()) << reply.status();
    held_.insert(n);
  }
  void Pin(uint64_t n) {
    if (rig_.PinOne(IdOf(n), epoch_) == PRESENT) held_.insert(n);
  }
  // Sometimes the power fails, or the process dies, on the way.
  void MaybeInterrupted(RpcMessage request) {
    if (choice_.Below(3) != 0) {
      const auto reply = rig_.Call(std::move(request));
      ASSERT_TRUE(reply.ok()) << reply.status();
      return;
    }
    rig_.sim_fs.CutPowerAt(rig_.sim_fs.operations() + choice_.Below(30));
    const auto pending = rig_.Send(std::move(request));
    rig_.RunFor(2'000'000'000);
    ++crashes;
    rig_.PowerCut();
    ASSERT_TRUE(rig_.Open().ok());
  }
  void Sweep() {
    ++epoch_;
    ++run_;
    std::string ids;
    for (uint64_t n = 0; n < kIds; ++n) {
      if (!held_.contains(n)) ids.append(AsView(IdOf(n).bytes()));
    }
    proto::NodeTrashRequest request;
    request.mutable_run()->set_generation(1);
    request.mutable_run()->set_run(run_);
    request.mutable_run()->set_horizon(epoch_);
    request.set_ids(ids);
    MaybeInterrupted(MakeMessage(rpc::kNodeTrash, request));
  }
  void Compact() {
    const uint64_t free_run = run_ - std::min<uint64_t>(run_, choice_.Below(3));
    proto::NodeCompactRequest request;
    request.mutable_run()->set_generation(1);
    request.mutable_run()->set_run(run_);
    request.mutable_run()->set_horizon(epoch_);
    request.set_free_run(free_run);
    auto plan = rig_.Call(MakeMessage(rpc::kNodeCompact, request));
    ASSERT_TRUE(plan.ok()) << plan.status();
    const uint32_t steps = ParseHead<proto::NodeCompactReply>(*plan)->steps();
    const uint64_t crashes_before = crashes;
    for (uint32_t step = 1; step <= steps && crashes == crashes_before; ++step) {
      request.set_step(step);
      ASSERT_NO_FATAL_FAILURE(MaybeInterrupted(MakeMessage(rpc::kNodeCompact, request)));
      freed_segments += crashes == crashes_before;
    }
  }
  void Reboot(uint64_t how) {
    if (how == 0) rig_.Kill();
    if (how == 1) rig_.PowerCut();
    if (how == 2) {
      ASSERT_TRUE(rig_.Close().ok());
      rig_.WipeIndex();
    }
    ASSERT_TRUE(rig_.Open().ok());
  }
  void Check() {
    for (uint64_t n : held_) {
      const NodeRig::Got got = rig_.GetOne(IdOf(n));
      ASSERT_EQ(got.status, PRESENT) << n;
      ASSERT_EQ(got.payload, PayloadOf(n, SizeOf(n))) << n;
      ASSERT_EQ(rig_.Stat({IdOf(n)}).answers(0).status(), PRESENT) << n;
    }
    for (const Finding& finding : rig_.CheckAll()) {
      ASSERT_EQ(finding.class_(), Finding::NOTE) << finding.text();
    }
    for (const Finding& finding : rig_.node().findings()) {
      ASSERT_EQ(finding.class_(), Finding::NOTE) << finding.text();
    }
  }

  SimRig rig_;
  Collected gc_;
  SimRng choice_;
  std::set<uint64_t> held_;  // By a committed version, or by a session that is open.
  uint64_t epoch_ = 1, run_ = 0;
};

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

TEST(NodeGcSeeds, WhatIsHeldStays) {
  const uint64_t only = FromEnvironment("HOLDFAST_SIM_SEED", 0);
  const uint64_t seeds = FromEnvironment("HOLDFAST_SIM_SEEDS", 60);
  uint64_t crashes = 0;
  for (uint64_t seed = only ? only : 1; seed <= (only ? only : seeds); ++seed) {
    SCOPED_TRACE("replay with HOLDFAST_SIM_SEED=" + std::to_string(seed));
    Story story(seed);
    story.Play(300);
    crashes += story.crashes;
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GT(crashes, only ? 0 : seeds);
}

// The group moves back here while the run that found the copy to be surplus still says so.
TEST_F(NodeGcTest, WhatIsSurplusByAnOlderMapStays) {
  rig_.PutPresent({IdOf(1), PayloadOf(1, 1000)});
  const holdfast::Run run = {.run = 1, .horizon = 5};
  ASSERT_TRUE(gc_.Begin(run).ok());
  const auto trashed = [&](uint64_t map_version) {
    return gc_.Trash(run, {IdOf(1)}, {}, /*surplus=*/true, map_version)->trashed();
  };
  EXPECT_EQ(trashed(9), 0u) << "it has heard of no map yet";
  for (uint64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(rig_.Call(CountingMessages(10 + i)[i]).ok());
    EXPECT_EQ(trashed(9 + i), 0u);
    EXPECT_EQ(StatOne(1), PRESENT);
  }
  Reopen();
  EXPECT_EQ(trashed(12), 0u);
  for (RpcMessage& by_reader : CountingMessages(99)) {
    by_reader.caller.roles = static_cast<uint32_t>(Role::kReader);
    ASSERT_TRUE(rig_.Call(std::move(by_reader)).ok());
  }
  ASSERT_TRUE(rig_.Call(CountingMessages(12)[0]).ok());
  EXPECT_EQ(trashed(11), 0u);
  EXPECT_EQ(trashed(12), 1u);
  EXPECT_EQ(StatOne(1), TRASHED);
}

}  // namespace
}  // namespace holdfast
