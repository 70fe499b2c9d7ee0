// Garbage collection as the coordinator drives it: what it refuses, counts and says. That nothing
// which is needed goes is for tests/sim to show.
#include "coordinator/collector.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/harness.h"

namespace holdfast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Report = proto::GcStatusReply;

constexpr int64_t kHour = 3600 * kSecond;

class CollectorTest : public ::testing::Test {
 protected:
  void SetUp() override { vault.MustOpen(); }

  // Objects of one chunk each: PREFIX0, PREFIX1, …
  void Store(const std::string& prefix, int count) {
    std::vector<TestObject> objects;
    for (int i = 0; i < count; ++i) {
      const std::string name = absl::StrCat(prefix, i);
      objects.push_back({name, "content of " + name});
    }
    ASSERT_TRUE(vault.Store("case", objects).ok());
  }
  void Remove(const std::string& prefix, int count, bool now) {
    for (int i = 0; i < count; ++i) {
      proto::RemoveRequest request;
      request.set_collection("case");
      request.set_name(absl::StrCat(prefix, i));
      request.set_now(now);
      Buffer id(16);
      vault.rng().Fill(id);
      request.set_request(ToString(id));
      const auto reply = vault.Rpc<proto::RemoveReply>(rpc::kRemove, request);
      ASSERT_TRUE(reply.ok()) << reply.status();
    }
  }

  StatusOr<proto::GcStartReply> Start(const proto::GcStartRequest& request) {
    return vault.Rpc<proto::GcStartReply>(rpc::kGcStart, request);
  }
  Report Status() {
    const auto report = vault.Rpc<Report>(rpc::kGcStatus, proto::GcStatusRequest());
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *report : Report();
  }
  Report Run(const proto::GcStartRequest& request) {
    const auto started = Start(request);
    EXPECT_TRUE(started.ok()) << started.status();
    for (int i = 0; i < 10'000; ++i) {
      const Report report = Status();
      if (report.phase() == Report::DONE || report.phase() == Report::FAILED) return report;
    }
    ADD_FAILURE() << "no end";
    return {};
  }

  TestVault vault{{}};
  proto::GcStartRequest request;
};

class ConsentTest : public CollectorTest {
 protected:
  void SetUp() override {
    vault.mutable_options().gc_consent_records = 10;
    vault.MustOpen();
    Store("keep", 30);
    Store("gone", 11);
    Store("late", 1);
    Remove("late", 1, /*now=*/false);
    vault.clock().AdvanceNanos(kHour);
    request.set_grace_nanos(kHour);
  }
};

TEST_F(ConsentTest, SoMuchIsRefused) {
  Remove("gone", 11, /*now=*/true);
  Report report = Run(request);
  EXPECT_EQ(report.phase(), Report::FAILED);
  EXPECT_THAT(report.error(),
              AllOf(HasSubstr("12 of 42 records"), HasSubstr("--yes"),
                    HasSubstr("1 version was purged before that, and cannot be brought back")));
  EXPECT_EQ(report.code(), static_cast<int>(absl::StatusCode::kFailedPrecondition));
  // What was found is in the report.
  EXPECT_EQ(report.purged_versions(), 1u);
  EXPECT_EQ(report.trashed_records(), 12u);
  EXPECT_EQ(report.took().rbegin()->phase(), Report::SURVEY);
  EXPECT_EQ(Run(request).error(),
            "12 of 42 records would go into the trash: give --yes if that is right");

  request.set_consent(true);
  report = Run(request);
  EXPECT_EQ(report.phase(), Report::DONE) << report.error();
  EXPECT_EQ(report.trashed_records(), 12u);
}

TEST_F(ConsentTest, TheLimitIsNotRefused) {
  Remove("gone", 9, /*now=*/true);
  const Report report = Run(request);
  EXPECT_EQ(report.phase(), Report::DONE) << report.error();
  EXPECT_EQ(report.trashed_records(), 10u);
}

TEST_F(ConsentTest, AFifthIsNotRefused) {
  Remove("gone", 11, /*now=*/true);
  Store("more", 30);  // 12 of 72.
  EXPECT_EQ(Run(request).phase(), Report::DONE);
}

TEST_F(ConsentTest, ADryRunSaysSo) {
  request.set_dry_run(true);
  EXPECT_FALSE(Run(request).needs_consent());
  Remove("gone", 11, /*now=*/true);
  const Report report = Run(request);
  EXPECT_EQ(report.phase(), Report::DONE) << report.error();
  EXPECT_TRUE(report.needs_consent());
}

TEST_F(CollectorTest, ADryRunSaysWhatWouldGo) {
  Store("keep", 5);
  Store("first", 3);
  Store("second", 2);
  Remove("first", 3, /*now=*/true);
  request.set_grace_nanos(kHour);
  EXPECT_EQ(Run(request).trashed_records(), 3u);
  vault.clock().AdvanceNanos(2 * kHour);
  Remove("second", 2, /*now=*/false);
  vault.RunFor(10 * kSecond);  // What the last commit leaves behind goes when idle.

  proto::GcStartRequest dry = request;
  dry.set_dry_run(true);
  vault.kv().before_write = [](const KvBatch&, bool) -> holdfast::Status {
    ADD_FAILURE() << "a dry run writes";
    return absl::OkStatus();
  };
  Report report = Run(dry);
  EXPECT_EQ(report.purged_versions(), 2u);
  EXPECT_EQ(report.versions(), 5u) << "of those that would be purged nothing is needed";
  EXPECT_EQ(report.marked_records(), 5u);
  EXPECT_EQ(report.trashed_records(), 2u);
  EXPECT_EQ(report.in_trash_records(), 3u);
  EXPECT_EQ(report.due_records(), 3u);
  dry.set_grace_nanos(3 * kHour);
  EXPECT_EQ(Run(dry).due_records(), 0u);
  dry.set_grace_nanos(0);
  EXPECT_EQ(Run(dry).due_records(), 5u);
  vault.kv().before_write = nullptr;

  // And so it is.
  report = Run(request);
  EXPECT_EQ(report.purged_versions(), 2u);
  EXPECT_EQ(report.trashed_records(), 2u);
  EXPECT_EQ(report.freed_records(), 3u);
}

TEST_F(CollectorTest, OneRunAtATime) {
  const auto stop = [this] {
    return vault.Rpc<proto::GcStopReply>(rpc::kGcStop, proto::GcStopRequest())->was_running();
  };
  EXPECT_FALSE(stop());
  vault.node(0).silent = true;
  request.set_grace_nanos(kHour);
  const auto first = Start(request);
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(first->already_running());
  const auto second = Start({});
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE(second->already_running());
  EXPECT_EQ(second->request().grace_nanos(), kHour);
  EXPECT_TRUE(stop());
  vault.RunFor(kHour);
  EXPECT_EQ(Status().error(), "stopped");
  EXPECT_FALSE(stop());
}

TEST_F(CollectorTest, NotesAreNotLost) {
  vault.node(0).segments_that_stay = 100;
  EXPECT_EQ(Run(request).notes_size(), 100);
  vault.node(0).segments_that_stay = 103;
  const Report report = Run(request);
  ASSERT_EQ(report.notes_size(), 101);
  EXPECT_EQ(report.notes(99), "node 0: a segment stays");
  EXPECT_EQ(report.notes(100), "and 3 more");
}

// Removed versions are marked, too, but nobody has counted them.
TEST_F(CollectorTest, MarkKnowsHowFarItIs) {
  Store("gone", 30);
  Store("keep", 20);
  Remove("gone", 30, /*now=*/false);
  const SessionId session = vault.MustOpenSession();
  ClearManifest last = vault.MakeManifest({"long", "", ObjectType::kFile, kChunksPerPart + 1});
  const std::vector<ChunkRef> chunks(kChunksPerPart + 1,
                                     vault.MakeManifest({"one", "1"}).chunks[0]);
  for (uint32_t i = 0; i < 2; ++i) {
    const std::span<const ChunkRef> all(chunks);
    const Buffer clear =
        EncodePartClear(i == 0 ? all.first(kChunksPerPart) : all.subspan(kChunksPerPart));
    const Buffer sealed(50, 3);
    last.parts.push_back({PartId(last.version, i), Sha256({clear, sealed})});
    proto::PutPartRequest put;
    put.set_session(ToString(session.bytes()));
    put.set_version(ToString(last.version.bytes()));
    put.set_index(i);
    RpcMessage message = MakeMessage(rpc::kPutPart, put);
    message.frames = {SharedBytes::Own(Buffer(clear)), SharedBytes::Own(Buffer(sealed))};
    ASSERT_TRUE(vault.Send(message).ok());
  }
  const auto stored = vault.Commit(vault.MakeCommitOf(session, "case", {last}));
  ASSERT_TRUE(stored.ok()) << stored.status();
  request.set_undo_window_nanos(kHour);
  vault.node(0).silent_gets = true;  // So that it waits there.
  ASSERT_TRUE(Start(request).ok());
  vault.RunFor(kSecond);
  const Report report = Status();
  ASSERT_EQ(report.phase(), Report::MARK) << report.error();
  EXPECT_EQ(report.versions(), 51u);
  EXPECT_EQ(report.done(), 21u);
  EXPECT_EQ(report.total(), 21u);
}

TEST_F(CollectorTest, ADamagedRowEndsTheRun) {
  Store("a", 3);
  std::string key;
  const std::string objects(1, static_cast<char>(RowKind::kObject));
  ASSERT_TRUE(vault.kv()
                  .Scan(objects, "",
                        [&](std::string_view found, std::string_view) {
                          key = std::string(found);
                          return false;
                        })
                  .ok());
  ASSERT_TRUE(vault.kv().Write({{key, std::string("not a row")}}, /*sync=*/true).ok());
  const Report report = Run(request);
  EXPECT_EQ(report.phase(), Report::FAILED);
  EXPECT_EQ(report.code(), static_cast<int>(absl::StatusCode::kDataLoss));
  EXPECT_THAT(report.error(), AllOf(HasSubstr("case/a0"), HasSubstr("nothing is collected")));
  EXPECT_EQ(report.took().rbegin()->phase(), Report::MARK);
  EXPECT_THAT(report.error(), Not(HasSubstr("purged")));
}

// Of a run that waits for nodes, too.
TEST_F(CollectorTest, SaysHowItStandsWhileACommitIsOnItsWay) {
  Store("gone", 3);
  Remove("gone", 3, /*now=*/false);
  vault.node(0).silent_commits = true;
  ASSERT_TRUE(Start(request).ok());
  vault.RunFor(kSecond);
  const auto status = vault.SendLater(MakeMessage(rpc::kGcStatus, proto::GcStatusRequest()));
  const auto vault_status =
      vault.SendLater(MakeMessage(rpc::kVaultStatus, proto::VaultStatusRequest()));
  const auto stop = vault.SendLater(MakeMessage(rpc::kGcStop, proto::GcStopRequest()));
  vault.RunFor(kSecond);
  ASSERT_TRUE(status->has_value() && vault_status->has_value() && stop->has_value());
  EXPECT_EQ(ParseHead<Report>(***status)->phase(), Report::PURGE);
  EXPECT_TRUE(ParseHead<proto::GcStopReply>(***stop)->was_running());
}

// Beside an ingest, half of the time of sweep is rest.
TEST_F(CollectorTest, SweepRestsWhileSessionsAreOpen) {
  FakeNode& node = vault.node(0);
  node.slow_trash = true;
  const auto phase_after_an_answer = [&] {
    EXPECT_TRUE(Start(request).ok());
    vault.RunFor(3 * kSecond);  // So long the node takes.
    EXPECT_EQ(Status().phase(), Report::SWEEP);
    std::exchange(node.trash, nullptr)();
    vault.RunFor(2 * kSecond);
    return Status().phase();
  };
  Store("gone", 3);
  Remove("gone", 3, /*now=*/true);
  EXPECT_EQ(phase_after_an_answer(), Report::DONE);
  vault.MustOpenSession();
  EXPECT_EQ(phase_after_an_answer(), Report::SWEEP);
  vault.RunFor(2 * kSecond);
  EXPECT_EQ(Status().phase(), Report::DONE);
}

// A disk that hangs must not hold up all runs to come; one that is merely slow is waited for.
TEST_F(CollectorTest, ACompactionThatDoesNotGetOnIsLeft) {
  FakeNode& node = vault.node(0);
  node.slow_compaction = true;
  ASSERT_TRUE(Start(request).ok());
  uint64_t progress = 0;
  // For so long it says every 20 s that it is at work; true when the run was over before.
  const auto is_over_after = [&](int64_t nanos, bool gets_on) {
    for (int64_t waited = 0; waited < nanos; waited += 20 * kSecond) {
      vault.RunFor(20 * kSecond);
      if (Status().phase() == Report::DONE) return true;
      proto::NodeCompactReply pending;
      pending.set_pending(true);
      pending.set_progress(progress += gets_on);
      if (node.compaction)
        std::exchange(node.compaction, nullptr)(MakeMessage(rpc::kNodeCompact, pending));
    }
    return false;
  };
  EXPECT_FALSE(is_over_after(2 * kHour, /*gets_on=*/true));
  EXPECT_FALSE(is_over_after(kHour / 6 - 60 * kSecond, /*gets_on=*/false));
  EXPECT_TRUE(is_over_after(120 * kSecond, /*gets_on=*/false));
  const Report report = Status();
  ASSERT_EQ(report.notes_size(), 1);
  EXPECT_THAT(report.notes(0),
              AllOf(HasSubstr("node 0 is left for another run"), HasSubstr("disk")));
  node.slow_compaction = false;
  EXPECT_EQ(Run(request).notes_size(), 0);
}

// Read as a time of long ago it would let go of what is in the trash.
TEST_F(CollectorTest, ADamagedTimeLetsGoOfNothing) {
  Store("a", 3);
  ASSERT_EQ(Run(request).phase(), Report::DONE);
  const std::string key = MetaKey(kGcSnapshotRow + EncodeGcNumber(1));
  ASSERT_TRUE(vault.kv().Get(key)->has_value());
  ASSERT_TRUE(vault.kv().Write({{key, std::string("\0\0\0\1", 4)}}, /*sync=*/true).ok());
  const Report report = Run(request);
  EXPECT_EQ(report.phase(), Report::FAILED);
  EXPECT_EQ(report.code(), static_cast<int>(absl::StatusCode::kDataLoss));
  EXPECT_THAT(report.error(), HasSubstr("gc snapshot"));
  EXPECT_EQ(report.took().rbegin()->phase(), Report::COMPACT);
}

}  // namespace
}  // namespace holdfast
