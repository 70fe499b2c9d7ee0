// The cluster's map and principals: where they are kept, who is told, what outlives what.
#include <gmock/gmock.h>

#include "common/base/clock.h"
#include "common/cluster/access.h"
#include "tests/coordinator/harness.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

proto::AddNodeRequest Node(uint8_t number) {
  proto::AddNodeRequest request;
  request.set_id(std::string(16, static_cast<char>(number + 1)));
  request.set_public_key(std::string(32, static_cast<char>(number + 0x81)));
  request.set_endpoint("tcp://10.0.0." + std::to_string(number) + ":7410");
  request.set_weight(1);
  request.set_failure_domain("site/rack/host" + std::to_string(number) + "/disk");
  return request;
}

proto::SetPrincipalRequest Somebody(uint8_t key, uint32_t roles) {
  proto::SetPrincipalRequest request;
  request.mutable_principal()->set_key(std::string(32, static_cast<char>(key)));
  request.mutable_principal()->set_roles(roles);
  request.mutable_principal()->set_name("somebody");
  return request;
}

CurvePublicKey Key(uint8_t byte) {
  CurvePublicKey key;
  key.value.fill(byte);
  return key;
}

class ClusterTest : public ::testing::Test {
 protected:
  ClusterTest() : vault_({.nodes = 3, .replicas = 2, .cluster = true}) { vault_.MustOpen(); }

  StatusOr<uint32_t> Add(const proto::AddNodeRequest& request) {
    ASSIGN_OR_RETURN(const auto reply, vault_.Rpc<proto::AddNodeReply>(rpc::kAddNode, request));
    vault_.mutable_options().map = Map();  // What clients go by.
    return reply.number();
  }
  Status Set(const proto::SetPrincipalRequest& request) {
    return vault_.Rpc<proto::SetPrincipalReply>(rpc::kSetPrincipal, request).status();
  }
  ClusterMap Map() {
    const auto reply = vault_.Rpc<proto::GetMapReply>(rpc::kGetMap, proto::GetMapRequest());
    return DecodeClusterMap(reply.value().map()).value();
  }

  TestVault vault_;
};

TEST_F(ClusterTest, NodesAreAddedOnceAndShareTheGroups) {
  EXPECT_EQ(Add(Node(0)).value(), 0u);
  EXPECT_EQ(Add(Node(1)).value(), 1u);
  const uint64_t version = Map().version;
  EXPECT_EQ(Add(Node(1)).value(), 1u) << "asked twice";
  EXPECT_EQ(Map().version, version);
  EXPECT_EQ(Add(Node(2)).value(), 2u);
  const ClusterMap map = Map();
  EXPECT_GT(map.version, version);
  std::vector<int> load(3);
  for (const auto& set : map.placement) {
    ASSERT_EQ(set.size(), 2u);
    for (uint32_t node : set) ++load[node];
  }
  for (int n : load) EXPECT_NEAR(n, 4096 * 2.0 / 3, 2);
}

TEST_F(ClusterTest, WhatCannotBeANodeIsRefused) {
  ASSERT_TRUE(Add(Node(0)).ok());
  auto twice = Node(1);
  twice.set_endpoint(Node(0).endpoint());
  EXPECT_THAT(Message(Add(twice).status()), HasSubstr("node/0 already"));
  for (const auto& spoil : std::vector<std::function<void(proto::AddNodeRequest&)>>{
           [](auto& r) { r.set_id("short"); }, [](auto& r) { r.set_id(std::string(16, 0)); },
           [](auto& r) { r.clear_public_key(); }, [](auto& r) { r.clear_endpoint(); },
           [](auto& r) { r.set_weight(0); }, [](auto& r) { r.set_weight(-1); },
           [](auto& r) { r.set_weight(std::numeric_limits<double>::quiet_NaN()); },
           [](auto& r) { r.set_failure_domain("a/b"); }}) {
    auto request = Node(2);
    spoil(request);
    EXPECT_TRUE(absl::IsInvalidArgument(Add(request).status())) << request.DebugString();
  }
  EXPECT_EQ(Map().nodes.size(), 1u);
}

TEST_F(ClusterTest, NothingIsCommittedBeforeThereAreEnoughNodes) {
  ASSERT_TRUE(Add(Node(0)).ok());
  EXPECT_FALSE(vault_.Store("case", {{"a", "1"}}).ok());
}

TEST_F(ClusterTest, ARestartKeepsAll) {
  for (uint8_t i = 0; i < 3; ++i) ASSERT_TRUE(Add(Node(i)).ok());
  ASSERT_TRUE(Set(Somebody(9, 1)).ok());
  const std::string before = EncodeClusterMap(Map());
  for (int stored = 0; stored < 2; ++stored) {
    vault_.Crash();
    ASSERT_TRUE(vault_.Open().ok());
    EXPECT_EQ(EncodeClusterMap(Map()), before);
    EXPECT_TRUE(vault_.access().Admits(Key(9)));
    ASSERT_TRUE(vault_.Store("case", {{"a" + std::to_string(stored), "1"}}).ok());
  }
}

// The first commit record takes along what was decided before it, later ones what came since.
TEST_F(ClusterTest, ARebuildFromTheNodesKnowsAllThatWasDecided) {
  for (uint8_t i = 0; i < 3; ++i) ASSERT_TRUE(Add(Node(i)).ok());
  ASSERT_TRUE(Set(Somebody(9, 1)).ok());
  ASSERT_TRUE(vault_.Store("case", {{"a", "1"}}).ok());
  ASSERT_TRUE(Set(Somebody(10, 2)).ok());
  auto revoked = Somebody(9, 1);
  revoked.mutable_principal()->set_revoked(true);
  ASSERT_TRUE(Set(revoked).ok());
  const std::string before = EncodeClusterMap(Map());
  const auto report = vault_.Rebuild();
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_TRUE(vault_.Open().ok());
  EXPECT_EQ(EncodeClusterMap(Map()), before);
  EXPECT_FALSE(vault_.access().Admits(Key(9)));
  EXPECT_TRUE(vault_.access().Admits(Key(10)));
  proto::ListRequest list;
  list.set_collection("case");
  EXPECT_THAT(vault_.Names(list), ::testing::ElementsAre("a"));
}

// A node that is added when records are stored already is known, and asked for nothing: nothing
// would bring it what it is asked for.
// The first commit takes the map along. Before it is on enough nodes the map changes again.
TEST_F(ClusterTest, AMapThatChangesUnderARecordInTheOutbox) {
  ASSERT_TRUE(Add(Node(0)).ok() && Add(Node(1)).ok());
  const SessionId session = vault_.MustOpenSession();
  const auto commit = vault_.MakeCommit(session, "case", {{"a", "content"}});
  vault_.node(1).silent_commits = true;
  EXPECT_FALSE(vault_.Commit(commit).ok());
  ASSERT_EQ(Add(Node(2)).value(), 2u);
  for (int restart = 0; restart < 2; ++restart) {
    vault_.Crash();
    const Status opened = vault_.Open();
    ASSERT_TRUE(opened.ok()) << Message(opened);
  }
  EXPECT_EQ(Map().nodes.size(), 3u);
  vault_.node(1).silent_commits = false;
  vault_.RunFor(30 * kSecond);
  const auto reply = vault_.Commit(commit);
  ASSERT_TRUE(reply.ok()) << Message(reply.status());
  EXPECT_EQ(reply->results(0).state(), proto::CommitResult::STORED);
}

TEST_F(ClusterTest, ALaterNodeTakesNoGroup) {
  ASSERT_TRUE(Add(Node(0)).ok());
  ASSERT_TRUE(Add(Node(1)).ok());
  ASSERT_TRUE(vault_.Store("case", {{"a", "1"}}).ok());
  const auto before = Map().placement;
  ASSERT_EQ(Add(Node(2)).value(), 2u);
  EXPECT_EQ(Map().nodes.size(), 3u);
  EXPECT_EQ(Map().placement, before);
  ASSERT_TRUE(vault_.Store("case", {{"b", "1"}}).ok());
}

TEST_F(ClusterTest, NodesAreToldAndToldAgain) {
  for (uint8_t i = 0; i < 3; ++i) ASSERT_TRUE(Add(Node(i)).ok());
  vault_.RunFor(3 * kSecond);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(vault_.node(i).map, EncodeClusterMap(Map()));
    EXPECT_EQ(vault_.node(i).principals.size(), 4u) << "the founder and three nodes";
  }
  // A node that has started again knows nothing; one that was away missed something.
  vault_.node(0).map_version = vault_.node(0).access_version = 0;
  vault_.node(0).map.clear();
  vault_.node(1).silent = true;
  ASSERT_TRUE(Set(Somebody(9, 1)).ok());
  vault_.RunFor(10 * kSecond);
  EXPECT_EQ(vault_.node(0).map, EncodeClusterMap(Map()));
  EXPECT_EQ(vault_.node(0).principals.size(), 5u);
  EXPECT_EQ(vault_.node(1).principals.size(), 4u);
  vault_.node(1).silent = false;
  vault_.RunFor(10 * kSecond);
  EXPECT_EQ(vault_.node(1).principals.size(), 5u);
}

TEST_F(ClusterTest, PrincipalsAreMadeChangedAndRevoked) {
  EXPECT_FALSE(vault_.access().Admits(Key(9)));
  ASSERT_TRUE(Set(Somebody(9, static_cast<uint32_t>(Role::kIngest))).ok());
  EXPECT_TRUE(vault_.access().Check(Key(9), rpc::kCommit).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(vault_.access().Check(Key(9), rpc::kAddNode).status()));
  ASSERT_TRUE(Set(Somebody(9, static_cast<uint32_t>(Role::kOperator))).ok());
  EXPECT_TRUE(vault_.access().Check(Key(9), rpc::kAddNode).ok());
  auto revoked = Somebody(9, static_cast<uint32_t>(Role::kOperator));
  revoked.mutable_principal()->set_revoked(true);
  ASSERT_TRUE(Set(revoked).ok());
  EXPECT_FALSE(vault_.access().Admits(Key(9)));
  EXPECT_THAT(Message(vault_.access().Check(Key(9), rpc::kAddNode).status()), HasSubstr("revoked"));
  EXPECT_TRUE(absl::IsInvalidArgument(Set(Somebody(8, static_cast<uint32_t>(Role::kCoordinator)))))
      << "nobody makes themselves that";
  const auto listed =
      vault_.Rpc<proto::ListPrincipalsReply>(rpc::kListPrincipals, proto::ListPrincipalsRequest());
  EXPECT_EQ(listed->principals_size(), 2);
}

TEST(EmbeddedTest, HasNoCluster) {
  TestVault vault{{}};
  vault.MustOpen();
  const Status status = vault.Rpc<proto::AddNodeReply>(rpc::kAddNode, Node(0)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

}  // namespace
}  // namespace holdfast
