// Nodes that fail: no ack before W agree, a clear error, and recovery by itself.
#include <gmock/gmock.h>

#include "common/base/clock.h"
#include "tests/coordinator/harness.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class NodesTest : public ::testing::Test {
 protected:
  void SetUp() override { vault.MustOpen(); }
  TestVault vault{{1, /*nodes=*/2, /*replicas=*/2, {}}};
};

TEST_F(NodesTest, AckMeansBothNodesHaveTheRecord) {
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  EXPECT_EQ(vault.node(0).commits().size(), 1u);
  EXPECT_EQ(vault.node(1).commits().size(), 1u);
  EXPECT_EQ(vault.node(0).records.at(vault.node(0).commits().begin()->second).payload,
            vault.node(1).records.at(vault.node(1).commits().begin()->second).payload);
}

TEST_F(NodesTest, NoAckWithoutTheSecondNodeAndRecoveryWhenItReturns) {
  SessionId session = vault.MustOpenSession();
  proto::CommitRequest request = vault.MakeCommit(session, "case", {{"a", "1"}});
  vault.node(1).put_error = absl::UnavailableError("the disk fails");
  Status status = vault.Commit(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Message(status), "commit 1 is not yet on enough nodes: node 1: the disk fails");
  EXPECT_EQ(vault.VaultStatus().outbox(), 1u);
  EXPECT_THAT(vault.VaultStatus().findings(0).text(), HasSubstr("node 1: the disk fails"));
  // Reads go on; a commit waits, also one that repeats what is stored already, and gives up.
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("a"));
  const int64_t begin = vault.clock().MonotonicNanos();
  Status waited = vault.Commit(vault.MakeCommit(session, "case", {{"a", "1"}})).status();
  EXPECT_EQ(waited.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(waited), HasSubstr("node 1: the disk fails"));
  EXPECT_GE(vault.clock().MonotonicNanos() - begin, 30 * kSecond);
  EXPECT_LT(vault.clock().MonotonicNanos() - begin, 60 * kSecond);
  EXPECT_EQ(vault.node(1).commits().size(), 0u);
  // It returns: what waits goes on, in order, and the repetition gets the first answer.
  auto repeated = vault.SendLater(MakeMessage(rpc::kCommit, request));
  auto later =
      vault.SendLater(MakeMessage(rpc::kCommit, vault.MakeCommit(session, "case", {{"b", "2"}})));
  vault.RunFor(kSecond);
  EXPECT_FALSE(repeated->has_value() || later->has_value());
  vault.node(1).put_error = absl::OkStatus();
  vault.loop().RunUntil([&] { return repeated->has_value() && later->has_value(); });
  ASSERT_TRUE((*repeated)->ok()) << (*repeated)->status();
  ASSERT_TRUE((*later)->ok());
  EXPECT_EQ(ParseHead<proto::CommitReply>(***repeated)->results(0).state(),
            proto::CommitResult::STORED);
  EXPECT_EQ(vault.VaultStatus().outbox(), 0u);
  EXPECT_EQ(vault.VaultStatus().findings_size(), 0);
  EXPECT_EQ(vault.node(1).commits().size(), 2u);
  EXPECT_EQ(Texts(vault.Fsck()), "");
}

TEST_F(NodesTest, SilentNodeIsTheSame) {
  SessionId session = vault.MustOpenSession();
  vault.node(0).silent = true;
  Status status = vault.Commit(vault.MakeCommit(session, "case", {{"a", "1"}})).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("node 0"));
  vault.node(0).silent = false;
  EXPECT_TRUE(vault.Commit(vault.MakeCommit(session, "case", {{"b", "1"}})).ok());
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("a", "b"));
}

TEST_F(NodesTest, DisagreeingNodeIsNoAck) {
  SessionId session = vault.MustOpenSession();
  FakeNode::Record other;
  other.kind = static_cast<uint32_t>(RecordKind::kCommitRecord);
  other.number = 1;
  other.payload = {1, 2, 3};
  vault.node(1).records[CommitRecordId(vault.options().vault, 1, 1)] = other;
  Status status = vault.Commit(vault.MakeCommit(session, "case", {{"a", "1"}})).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("node 1: holds other bytes"));
}

TEST_F(NodesTest, OneNodeAwayAtOpenIsEnoughToReadAndProve) {
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  vault.Close();
  vault.node(1).silent = true;
  ASSERT_TRUE(vault.Open().ok());
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("a"));
  ASSERT_EQ(vault.VaultStatus().findings_size(), 1);  // The commit was delivered, and it is known.
  EXPECT_THAT(vault.VaultStatus().findings(0).text(), HasSubstr("node 1: "));
  vault.node(1).silent = false;
  vault.RunFor(60 * kSecond);
  EXPECT_EQ(vault.VaultStatus().findings_size(), 0);
  EXPECT_TRUE(vault.Store("case", {{"b", "1"}}).ok());
}

TEST_F(NodesTest, NoNodeAtAllIsUnavailable) {
  vault.Close();
  vault.node(0).silent = vault.node(1).silent = true;
  EXPECT_EQ(vault.Open().code(), absl::StatusCode::kUnavailable);
}

TEST(UnprovedTest, NoCommitWhileACatalogueMayBeBehind) {
  TestVault vault({3, /*nodes=*/3, /*replicas=*/1, {}});
  vault.MustOpen();
  // Until some node that is to be away holds the last record.
  size_t holder = 0;
  for (int i = 0; holder == 0; ++i) {
    ASSERT_TRUE(vault.Store("case", {{std::to_string(i), "1"}}).ok());
    for (size_t n = 1; n < 3; ++n) {
      auto commits = vault.node(n).commits();
      if (!commits.empty() && commits.rbegin()->first == static_cast<uint64_t>(i) + 1) holder = n;
    }
  }
  const uint64_t last = vault.VaultStatus().commits();
  // The holder is away: with one replica nobody else can tell whether there was a later one.
  vault.node(holder).silent = true;
  vault.Close();
  ASSERT_TRUE(vault.Open().ok());
  SessionId session = vault.MustOpenSession();
  Status status = vault.Commit(vault.MakeCommit(session, "case", {{"x", "1"}})).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("too many nodes are away"));
  // The holder comes back and knows more than the catalogue: refused from then on.
  FakeNode::Record more;
  more.kind = static_cast<uint32_t>(RecordKind::kCommitRecord);
  more.number = last + 1;
  more.payload = {1};
  vault.node(holder).records[CommitRecordId(vault.options().vault, 1, last + 1)] = more;
  vault.node(holder).silent = false;
  vault.RunFor(30 * kSecond);
  auto refused = vault.Rpc<proto::ListReply>(rpc::kList, ListOf("case"));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(refused.status()), HasSubstr("behind the nodes"));
}

TEST(UnprovedTest, CommitsGoOnOnceTheNodesAnswer) {
  TestVault vault({3, /*nodes=*/2, /*replicas=*/1, {}});
  vault.MustOpen();
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  vault.Close();
  vault.node(1).silent = true;
  ASSERT_TRUE(vault.Open().ok());
  SessionId session = vault.MustOpenSession();
  auto slot =
      vault.SendLater(MakeMessage(rpc::kCommit, vault.MakeCommit(session, "case", {{"b", "1"}})));
  vault.RunFor(kSecond);
  EXPECT_FALSE(slot->has_value());
  vault.node(1).silent = false;
  vault.loop().RunUntil([&] { return slot->has_value(); });
  EXPECT_TRUE((*slot)->ok()) << (*slot)->status();
}

TEST(PartsTest, ReadFallsBackToTheOtherReplica) {
  TestVault vault({5, /*nodes=*/2, /*replicas=*/2, {}});
  vault.MustOpen();
  SessionId session = vault.MustOpenSession();
  VersionId version = vault.rng().NewId<VersionId>();
  proto::PutPartRequest put;
  put.set_session(ToString(session.bytes()));
  put.set_version(ToString(version.bytes()));
  RpcMessage message = MakeMessage(rpc::kPutPart, put);
  std::vector<ChunkRef> chunks(3);
  message.frames = {SharedBytes::Own(EncodePartClear(chunks)), SharedBytes::Own({1, 2, 3})};
  ASSERT_TRUE(vault.Send(message).ok());
  RecordId id = PartId(version, 0);
  EXPECT_EQ(vault.node(0).records.at(id).payload, vault.node(1).records.at(id).payload);
  proto::GetPartRequest get;
  get.set_version(ToString(version.bytes()));
  for (int damaged = 0; damaged < 2; ++damaged) {
    // Bytes whose checksum is good but which do not open.
    Buffer good = vault.node(damaged).records.at(id).payload;
    vault.node(damaged).records.at(id).payload.back() ^= 1;
    EXPECT_TRUE(vault.Send(MakeMessage(rpc::kGetPart, get)).ok());
    vault.node(damaged).records.at(id).payload = good;
    vault.node(damaged).silent = true;
    EXPECT_TRUE(vault.Send(MakeMessage(rpc::kGetPart, get)).ok());
    vault.node(damaged).silent = false;
  }
  vault.node(0).records.erase(id);
  vault.node(1).silent = true;
  EXPECT_EQ(vault.Send(MakeMessage(rpc::kGetPart, get)).status().code(),
            absl::StatusCode::kUnavailable);
  vault.node(1).silent = false;
  vault.node(1).records.erase(id);
  EXPECT_EQ(vault.Send(MakeMessage(rpc::kGetPart, get)).status().code(),
            absl::StatusCode::kDataLoss);
  // Without W nodes a part is not put.
  vault.node(1).put_error = absl::ResourceExhaustedError("no space left");
  Status status = vault.Send(message).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr("node 1"));
}

}  // namespace
}  // namespace holdfast
