// Crashes at each point of C1, catalogues behind the nodes (C3), and seeded runs of everything.
#include <gmock/gmock.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/harness.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(CrashTest, BeforeTheCatalogueIsSyncedNothingHappened) {
  TestVault vault{{}};
  vault.MustOpen();
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  SessionId session = vault.MustOpenSession();
  bool writing = false;
  vault.kv().before_write = [&](const KvBatch&, bool) {
    writing = true;
    return absl::UnavailableError("the power is gone");
  };
  auto slot =
      vault.SendLater(MakeMessage(rpc::kCommit, vault.MakeCommit(session, "case", {{"b", "2"}})));
  vault.loop().RunUntil([&] { return writing; });
  vault.Crash();
  ASSERT_TRUE(vault.Open().ok());
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("a"));
  EXPECT_EQ(vault.VaultStatus().commits(), 1u);
  EXPECT_EQ(vault.node(0).commits().size(), 1u);
  EXPECT_EQ(Texts(vault.Fsck()), "");
}

TEST(CrashTest, AfterTheCatalogueIsSyncedTheRecordIsSentAtOpen) {
  TestVault vault{{}};
  vault.MustOpen();
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  SessionId session = vault.MustOpenSession();
  proto::CommitRequest request = vault.MakeCommit(session, "case", {{"b", "2"}});
  vault.node(0).silent_commits = true;
  const uint64_t puts = vault.node(0).commit_puts;
  auto slot = vault.SendLater(MakeMessage(rpc::kCommit, request));
  vault.loop().RunUntil([&] { return vault.node(0).commit_puts > puts; });
  vault.Crash();
  EXPECT_EQ(vault.node(0).commits().size(), 1u);
  vault.node(0).silent_commits = false;
  ASSERT_TRUE(vault.Open().ok());
  EXPECT_EQ(vault.node(0).commits().size(), 2u);
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("a", "b"));
  // The client's session died with the process; its objects come back unchanged in a new one.
  EXPECT_EQ(vault.Commit(request).status().code(), absl::StatusCode::kAborted);
  auto again = vault.Store("case", {{"b", "2"}});
  EXPECT_EQ(again->results(0).state(), proto::CommitResult::UNCHANGED);
  EXPECT_EQ(Texts(vault.Fsck()), "");
}

TEST(CrashTest, AfterTheRecordIsOnTheNodesItIsSentOnceMore) {
  TestVault vault{{}};
  vault.MustOpen();
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  const auto record = vault.node(0).records.at(vault.node(0).commits().begin()->second).payload;
  vault.Crash();  // The outbox row of a delivered record is still there.
  ASSERT_TRUE(vault.Open().ok());
  EXPECT_EQ(vault.node(0).commit_puts, 2u);
  EXPECT_EQ(vault.node(0).records.at(vault.node(0).commits().begin()->second).payload, record);
  EXPECT_EQ(*vault.kv().Get(OutboxKey(1)), std::nullopt);
  EXPECT_EQ(Texts(vault.Fsck()), "");
}

// The outbox has the keys of a commit's rows: with one of those rows changed the record would be
// another one than the catalogue's head says.
TEST(CrashTest, ARecordThatCannotBeMadeAgainIsRefused) {
  TestVault vault{{}};
  vault.MustOpen();
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  const std::string key = CollectionKey("case");
  std::string row = **vault.kv().Get(key);
  row.back() ^= 1;
  ASSERT_TRUE(vault.kv().Write({{key, row}}, /*sync=*/true).ok());
  vault.Crash();
  const Status status = vault.Open();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("commit 1 cannot be made again"));
  EXPECT_THAT(Message(status), HasSubstr("--rebuild-catalogue"));
}

TEST(CrashTest, DeliveredOutboxRowGoesWhenIdle) {
  TestVault vault{{}};
  vault.MustOpen();
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  EXPECT_TRUE(vault.kv().Get(OutboxKey(1))->has_value());
  vault.RunFor(3'000'000'000);
  EXPECT_FALSE(vault.kv().Get(OutboxKey(1))->has_value());
  ASSERT_TRUE(vault.Store("case", {{"b", "1"}}).ok());
  ASSERT_TRUE(vault.Store("case", {{"c", "1"}}).ok());
  EXPECT_FALSE(vault.kv().Get(OutboxKey(2))->has_value());
}

TEST(CrashTest, OpenSessionsAreAbortedByARestart) {
  TestVault vault{{}};
  vault.MustOpen();
  SessionId session = vault.MustOpenSession();
  vault.Crash();
  ASSERT_TRUE(vault.Open().ok());
  EXPECT_EQ(vault.VaultStatus().open_sessions(), 0u);
  Status status = vault.Commit(vault.MakeCommit(session, "case", {{"a", "1"}})).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(Message(status), HasSubstr("was aborted"));
  EXPECT_TRUE(vault.CloseSession(session, /*abort=*/true).ok());
}

TEST(CatalogueBehindTest, IsRefusedAndRebuilt) {
  TestVault vault{{}};
  vault.MustOpen();
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  // A record the catalogue has never heard of.
  FakeNode::Record foreign;
  foreign.kind = static_cast<uint32_t>(RecordKind::kCommitRecord);
  foreign.number = 2;
  foreign.payload = {1};
  RecordId id = CommitRecordId(vault.options().vault, 1, 2);
  vault.node(0).records[id] = foreign;
  vault.Close();
  Status status = vault.Open();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Message(status),
            "catalogue is behind the nodes (has commit 1, node 0 holds 2): run `holdfast fsck "
            "--rebuild-catalogue` (of a cluster `holdfast coordinator rebuild`)");
}

TEST(CatalogueBehindTest, EmptyCatalogueIsRefused) {
  TestVault vault{{}};
  vault.MustOpen();
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  vault.Close();
  vault.Wipe();
  Status status = vault.Open();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), HasSubstr("missing or empty"));
}

TEST(CatalogueBehindTest, AnotherHistoryUnderTheSameNumberIsRefused) {
  TestVault vault{{}};
  vault.MustOpen();
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  vault.RunFor(3'000'000'000);
  CommitRecord other;
  other.generation = 1;
  other.number = 1;
  vault.node(0).records[CommitRecordId(vault.options().vault, 1, 1)].payload =
      EncodeCommitRecord(vault.options().keys.commit, vault.options().vault, other, {});
  vault.Close();
  Status status = vault.Open();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), HasSubstr("another commit 1"));
}

TEST(CatalogueBehindTest, WrongCatalogueKeyIsRefused) {
  TestVault vault{{}};
  vault.MustOpen();
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  vault.Close();
  vault.mutable_options().keys = DeriveCatalogueKeys({1, 2, 3});
  EXPECT_EQ(vault.Open().code(), absl::StatusCode::kPermissionDenied);
  auto report = vault.Rebuild();
  EXPECT_EQ(report.status().code(), absl::StatusCode::kPermissionDenied);
}

// Ingests under drops, duplicates and crashes; the checker keeps its own log of what was acked.
class SeededRun {
 public:
  explicit SeededRun(uint64_t seed)
      : vault_({seed, /*nodes=*/3, /*replicas=*/2, {0.05, 0.1, 3'000'000}}), rng_(seed * 7919) {}

  void Run() {
    Open();
    for (int step = 0; step < 25 && !::testing::Test::HasFailure(); ++step) Step();
    vault_.Crash();
    Open();
    Check();
    std::string before = vault_.EverythingVisible();
    CheckFsck();
    auto report = vault_.Rebuild();
    for (int i = 0; i < 20 && report.status().code() == absl::StatusCode::kUnavailable; ++i) {
      report = vault_.Rebuild();
    }
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_THAT(report->missing_commits, IsEmpty());
    EXPECT_THAT(report->broken_links, IsEmpty());
    Open();
    EXPECT_EQ(vault_.EverythingVisible(), before);
    CheckFsck();
  }

 private:
  // A lost message makes a node "could not be checked"; nothing else may be found.
  void CheckFsck() {
    for (const auto& finding : vault_.Fsck()) {
      EXPECT_EQ(finding.class_(), proto::Finding::UNREADABLE) << finding.text();
    }
  }

  void Open() {
    // Losing every attempt at a node is possible on this network; opening again is the way out.
    Status status;
    for (int i = 0; i < 20; ++i) {
      status = vault_.Open();
      if (status.ok()) return;
      vault_.Close();
    }
    FAIL() << status;
  }

  void Step() {
    SessionId session = vault_.MustOpenSession();
    std::vector<TestObject> objects;
    for (uint64_t n = 1 + rng_.Below(6); n > 0; --n) {
      objects.push_back({absl::StrCat("n", rng_.Below(12)), absl::StrCat(rng_.Below(4))});
    }
    proto::CommitRequest request = vault_.MakeCommit(session, "case", objects);
    for (size_t i = 0; i < objects.size(); ++i) {
      ClearManifest m = *DecodeClearManifest(AsBytes(request.manifests(static_cast<int>(i))));
      offered_[ToString(m.version.bytes())] = objects[i].name;
    }
    if (rng_.Below(4) == 0) {
      // The power goes at some moment of the commit.
      auto slot = vault_.SendLater(MakeMessage(rpc::kCommit, request));
      for (uint64_t tasks = rng_.Below(60); tasks > 0; --tasks) vault_.loop().RunOne();
      if (slot->has_value() && (*slot)->ok()) Acked(objects, **slot);
      vault_.Crash();
      Open();
      return;
    }
    for (int attempt = 0; attempt < 10; ++attempt) {
      auto reply = vault_.Send(MakeMessage(rpc::kCommit, request));
      if (reply.ok()) {
        Acked(objects, reply);
        return;
      }
      ASSERT_EQ(reply.status().code(), absl::StatusCode::kUnavailable) << reply.status();
    }
  }

  void Acked(const std::vector<TestObject>& objects, const StatusOr<RpcMessage>& reply) {
    auto commit = *ParseHead<proto::CommitReply>(*reply);
    ASSERT_EQ(commit.results_size(), static_cast<int>(objects.size()));
    for (int i = 0; i < commit.results_size(); ++i) {
      acked_[commit.results(i).version()] = objects[i].name;
    }
  }

  // Every acked version is there under its name, and nothing that was never offered.
  void Check() {
    proto::ListRequest request = ListOf("case");
    request.set_all_versions(true);
    request.set_with_rows(true);
    auto page = vault_.Insist<proto::ListReply>(rpc::kList, request);
    ASSERT_TRUE(page.ok()) << page.status();
    std::map<std::string, std::string> found;
    for (const auto& object : page->objects()) {
      ClearManifest m = *DecodeClearManifest(DecodeObjectRow(object.row())->manifest);
      found[ToString(m.version.bytes())] = object.name();
    }
    for (const auto& [version, name] : acked_) {
      ASSERT_TRUE(found.count(version)) << name;
      EXPECT_EQ(found[version], name);
    }
    for (const auto& [version, name] : found) EXPECT_EQ(offered_[version], name);
  }

  TestVault vault_;
  SimRng rng_;
  std::map<std::string, std::string> acked_, offered_;  // Version → name.
};

TEST(SeededTest, AckedObjectsSurviveWhateverHappens) {
  const char* seeds = std::getenv("HOLDFAST_SEEDS");
  const uint64_t last = seeds ? std::strtoull(seeds, nullptr, 10) : 60;
  for (uint64_t seed = 1; seed <= last; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    SeededRun(seed).Run();
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace holdfast
