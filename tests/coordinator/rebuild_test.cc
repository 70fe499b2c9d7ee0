// The catalogue out of the nodes' commit records.
#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/harness.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RebuildTest : public ::testing::Test {
 protected:
  RebuildTest() { vault.MustOpen(); }
  void StoreMany() {
    for (int i = 0; i < 12; ++i) {
      ASSERT_TRUE(vault
                      .Store(absl::StrCat("case ", i % 3),
                             {{absl::StrCat("n", i), "1"}, {"same", absl::StrCat(i / 3)}})
                      .ok());
    }
  }
  TestVault vault{{1, /*nodes=*/3, /*replicas=*/2, {}}};
};

TEST_F(RebuildTest, GivesTheSameListingByteForByte) {
  StoreMany();
  const std::string before = vault.EverythingVisible();
  proto::VaultStatusReply status = vault.VaultStatus();
  auto report = vault.Rebuild();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->commits, 12u);
  EXPECT_EQ(report->objects, 24u);
  EXPECT_THAT(report->missing_commits, IsEmpty());
  EXPECT_THAT(report->broken_links, IsEmpty());
  vault.MustOpen();
  EXPECT_EQ(vault.EverythingVisible(), before);
  proto::VaultStatusReply after = vault.VaultStatus();
  EXPECT_EQ(after.generation(), status.generation() + 1);
  EXPECT_EQ(after.epoch(), status.epoch() + 1);
  status.set_generation(after.generation());
  status.set_epoch(after.epoch());
  EXPECT_EQ(after.SerializeAsString(), status.SerializeAsString());
  EXPECT_THAT(Texts(vault.Fsck()), IsEmpty());
  // And it goes on from there, also through a second rebuild.
  ASSERT_TRUE(vault.Store("case 0", {{"later", "1"}}).ok());
  EXPECT_EQ(vault.VaultStatus().commits(), 13u);
  EXPECT_THAT(Texts(vault.Fsck()), IsEmpty());
  const std::string more = vault.EverythingVisible();
  ASSERT_TRUE(vault.Rebuild().ok());
  vault.MustOpen();
  EXPECT_EQ(vault.EverythingVisible(), more);
  EXPECT_EQ(vault.VaultStatus().generation(), status.generation() + 1);
}

// What it had acknowledged may be garbage by now.
TEST_F(RebuildTest, ASessionDoesNotGoOnUnderItsName) {
  StoreMany();
  proto::OpenSessionRequest request;
  request.set_domain(ToString(vault.options().domain.bytes()));
  request.set_session(std::string(16, 's'));
  const auto opened = vault.Rpc<proto::OpenSessionReply>(rpc::kOpenSession, request);
  ASSERT_TRUE(opened.ok()) << opened.status();
  request.set_epoch(opened->epoch());
  request.set_generation(opened->generation());
  EXPECT_TRUE(vault.Rpc<proto::OpenSessionReply>(rpc::kOpenSession, request).ok());
  ASSERT_TRUE(vault.Rebuild().ok());
  vault.MustOpen();
  for (int i = 0; i < 2; ++i) {
    const auto again = vault.Rpc<proto::OpenSessionReply>(rpc::kOpenSession, request);
    EXPECT_TRUE(absl::IsAborted(again.status())) << again.status();
  }
}

TEST_F(RebuildTest, OneGoodCopyIsEnough) {
  StoreMany();
  const std::string before = vault.EverythingVisible();
  for (uint64_t number = 1; number <= 12; ++number) {
    for (size_t n = 0; n < 3; ++n) {
      auto commits = vault.node(n).commits();
      auto it = commits.find(number);
      if (it == commits.end()) continue;
      // One copy goes, or goes bad in one of two ways.
      FakeNode::Record& record = vault.node(n).records.at(it->second);
      if (number % 3 == 0)
        vault.node(n).records.erase(it->second);
      else if (number % 3 == 1)
        record.corrupt = true;
      else
        record.payload[record.payload.size() / 2] ^= 1;
      break;
    }
  }
  auto report = vault.Rebuild();
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->missing_commits, IsEmpty());
  vault.MustOpen();
  EXPECT_EQ(vault.EverythingVisible(), before);
}

TEST_F(RebuildTest, MissingRecordIsNamedAndTheRestIsThere) {
  StoreMany();
  for (size_t n = 0; n < 3; ++n) {
    vault.node(n).DropCommit(1);  // Made collection "case 0" and stored the sealing key.
    vault.node(n).DropCommit(6);
    vault.node(n).DropCommit(7);
  }
  auto report = vault.Rebuild();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->missing_commits, ElementsAre(1, 6, 7));
  EXPECT_THAT(report->broken_links, IsEmpty());
  EXPECT_EQ(report->commits, 9u);
  vault.MustOpen();
  EXPECT_THAT(vault.Names(ListOf("case 0")), ElementsAre("n3", "n9", "same"));
  proto::GetSealingKeyRequest key;
  key.set_id(ToString(vault.sealing_key().bytes()));
  EXPECT_TRUE(vault.Rpc<proto::GetSealingKeyReply>(rpc::kGetSealingKey, key).ok());
  EXPECT_EQ(Texts(vault.Fsck()),
            "commit 1 is on no node\ncommit 6 is on no node\ncommit 7 is on no node\n");
  ASSERT_TRUE(vault.Store("case 0", {{"later", "1"}}).ok());
  EXPECT_EQ(vault.VaultStatus().commits(), 13u);
}

TEST_F(RebuildTest, DamagedLastRecordIsNamedAndItsNumberNotUsedAgain) {
  StoreMany();
  for (size_t n = 0; n < 3; ++n) {
    auto commits = vault.node(n).commits();
    auto it = commits.find(12);
    if (it != commits.end()) vault.node(n).records.at(it->second).corrupt = true;
  }
  auto report = vault.Rebuild();
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->missing_commits, ElementsAre(12));
  vault.MustOpen();
  EXPECT_EQ(vault.VaultStatus().commits(), 12u);
  ASSERT_TRUE(vault.Store("case 0", {{"later", "1"}}).ok());
  EXPECT_EQ(vault.VaultStatus().commits(), 13u);
  auto again = vault.Rebuild();
  ASSERT_TRUE(again.ok());
  EXPECT_THAT(again->missing_commits, ElementsAre(12));
  EXPECT_THAT(again->broken_links, IsEmpty());
}

TEST_F(RebuildTest, BrokenLinkIsNamed) {
  StoreMany();
  // Another record 5, good under the key, that leads nowhere.
  CommitRecord other;
  other.generation = 1;
  other.number = 5;
  other.previous.fill(7);
  for (size_t n = 0; n < 3; ++n) {
    auto commits = vault.node(n).commits();
    auto it = commits.find(5);
    if (it == commits.end()) continue;
    vault.node(n).records.at(it->second).payload =
        EncodeCommitRecord(vault.options().keys.commit, vault.options().vault, other, {});
  }
  auto report = vault.Rebuild();
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->missing_commits, IsEmpty());
  EXPECT_THAT(report->broken_links, ElementsAre(5, 6));
}

TEST_F(RebuildTest, NeedsAnEmptyCatalogueAndANode) {
  StoreMany();
  CoordinatorEnv env{vault.clock(), vault.rng(), vault.loop().NewChannel(), vault.transport(),
                     vault.kv()};
  EXPECT_EQ(RebuildCatalogue(vault.options(), env).status().code(),
            absl::StatusCode::kFailedPrecondition);
  for (size_t n = 0; n < 3; ++n) vault.node(n).silent = true;
  EXPECT_EQ(vault.Rebuild().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(RebuildTest, EmptyVaultRebuildsToAnEmptyVault) {
  ASSERT_TRUE(vault.Rebuild().ok());
  vault.MustOpen();
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  EXPECT_THAT(Texts(vault.Fsck()), IsEmpty());
}

TEST_F(RebuildTest, CommitWithoutAnAckIsThereOrNot) {
  StoreMany();
  SessionId session = vault.MustOpenSession();
  for (size_t n = 0; n < 3; ++n) vault.node(n).put_error = absl::UnavailableError("away");
  EXPECT_FALSE(vault.Commit(vault.MakeCommit(session, "case 0", {{"lost", "1"}})).ok());
  for (size_t n = 0; n < 3; ++n) vault.node(n).put_error = absl::OkStatus();
  // The catalogue's disk goes before the record reached any node: no ack, no object.
  vault.Crash();
  ASSERT_TRUE(vault.Rebuild().ok());
  vault.MustOpen();
  EXPECT_THAT(vault.Names(ListOf("case 0")), ElementsAre("n0", "n3", "n6", "n9", "same"));
}

// It is asked again: a commit that is on it alone would be left out, and the catalogue be behind
// it.
TEST_F(RebuildTest, ANodeThatDoesNotHearOneQuestionIsNotLeftOut) {
  StoreMany();
  const SessionId session = vault.MustOpenSession();
  const RecordId id = CommitRecordId(vault.options().vault, 1, 13);
  const uint32_t holder = ActingSet(vault.options().map, id)[0];
  for (uint32_t n = 0; n < 3; ++n) {
    if (n != holder) vault.node(n).put_error = absl::UnavailableError("away");
  }
  EXPECT_FALSE(vault.Commit(vault.MakeCommit(session, "case 0", {{"late", "1"}})).ok());
  ASSERT_EQ(vault.node(holder).commits().count(13), 1u);
  vault.Crash();
  vault.node(holder).unheard_begins = 2;
  const auto report = vault.Rebuild();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->commits, 13u);
  EXPECT_EQ(vault.node(holder).unheard_begins, 0u);
  vault.MustOpen();
  EXPECT_THAT(vault.Names(ListOf("case 0")), ElementsAre("late", "n0", "n3", "n6", "n9", "same"));
}

TEST_F(RebuildTest, ABackupLeavesOnlyWhatCameSince) {
  StoreMany();
  int stored = 0;
  const auto backup = vault.Backup([&] {
    // Commits between its pages.
    ASSERT_TRUE(vault.Store("case 1", {{absl::StrCat("meanwhile ", stored++), "2"}}).ok());
  });
  ASSERT_TRUE(backup.ok()) << backup.status();
  ASSERT_TRUE(vault.Store("case 2", {{"same", "since"}}).ok());
  const std::string before = vault.EverythingVisible();
  auto report = vault.Rebuild(*backup);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->commits, static_cast<uint64_t>(stored) + 1);
  EXPECT_THAT(report->missing_commits, IsEmpty());
  vault.MustOpen();
  EXPECT_EQ(vault.EverythingVisible(), before);
  EXPECT_THAT(Texts(vault.Fsck()), IsEmpty());
  ASSERT_TRUE(vault.Store("case 0", {{"later", "1"}}).ok());
  // The same once more, from a backup that nothing was added to.
  const auto second = vault.Backup();
  ASSERT_TRUE(second.ok());
  const std::string more = vault.EverythingVisible();
  report = vault.Rebuild(*second);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->commits, 0u);
  vault.MustOpen();
  EXPECT_EQ(vault.EverythingVisible(), more);
  EXPECT_THAT(Texts(vault.Fsck()), IsEmpty());
}

TEST_F(RebuildTest, ABackupThatIsCutShortIsRefused) {
  StoreMany();
  auto backup = vault.Backup();
  ASSERT_TRUE(backup.ok());
  backup->pop_back();
  EXPECT_EQ(vault.Rebuild(*backup).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace holdfast
