#include "common/cluster/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/rpc/methods.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t Bit(Role role) { return static_cast<uint32_t>(role); }

TEST(RolesTest, TextAndBack) {
  for (const char* text : {"ingest", "ingest,reader", "custodian,operator",
                           "ingest,reader,custodian,disposer,auditor,operator"}) {
    EXPECT_EQ(RolesText(ParseRoles(text).value()), text);
  }
  EXPECT_EQ(RolesText(0), "no role");
  for (const char* bad : {"", "king", "ingest,", "node", "coordinator", "Ingest"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseRoles(bad).status())) << bad;
  }
}

// What each role must not be able to do, whatever else changes.
TEST(RolesTest, NoRoleDoesWhatAnotherIsFor) {
  const auto may = [](Role role, uint16_t method) { return (RolesFor(method) & Bit(role)) != 0; };
  for (const Role role : {Role::kIngest, Role::kReader, Role::kCustodian, Role::kDisposer,
                          Role::kAuditor, Role::kOperator, Role::kNode}) {
    EXPECT_FALSE(may(role, rpc::kNodeConfigure)) << RolesText(Bit(role));
    EXPECT_FALSE(may(role, rpc::kNodeListCommits)) << RolesText(Bit(role));
    EXPECT_EQ(may(role, rpc::kCommit), role == Role::kIngest) << RolesText(Bit(role));
    EXPECT_EQ(may(role, rpc::kGetSealingKey), role == Role::kReader) << RolesText(Bit(role));
    EXPECT_EQ(may(role, rpc::kSetPrincipal), role == Role::kCustodian) << RolesText(Bit(role));
    EXPECT_EQ(may(role, rpc::kRemove), role == Role::kDisposer || role == Role::kCustodian)
        << RolesText(Bit(role));
    EXPECT_EQ(may(role, rpc::kAddNode), role == Role::kOperator) << RolesText(Bit(role));
  }
  EXPECT_FALSE(may(Role::kReader, rpc::kNodePut));
  EXPECT_FALSE(may(Role::kOperator, rpc::kNodeGet));
  EXPECT_FALSE(may(Role::kOperator, rpc::kList));
  EXPECT_TRUE(may(Role::kReader, rpc::kNodeQuarantine));
  EXPECT_FALSE(may(Role::kIngest, rpc::kNodeQuarantine)) << "who cannot open it cannot tell";
  EXPECT_EQ(RolesFor(9999), 0u) << "a method that nobody thought of is nobody's";
}

TEST(AccessTableTest, ChecksEachMessage) {
  AccessTable table;
  CurvePublicKey key, other;
  key.value.fill(1);
  other.value.fill(2);
  EXPECT_FALSE(table.Admits(key));
  table.Replace(5, {{.key = key, .roles = Bit(Role::kReader)}});
  EXPECT_EQ(table.version(), 5u);
  EXPECT_TRUE(table.Admits(key));
  EXPECT_EQ(table.Check(key, rpc::kLookup).value(), Bit(Role::kReader));
  EXPECT_THAT(std::string(table.Check(key, rpc::kCommit).status().message()), HasSubstr("reader"));
  EXPECT_THAT(std::string(table.Check(other, rpc::kLookup).status().message()),
              HasSubstr("not known"));
  table.Replace(6, {{.key = key, .roles = Bit(Role::kReader), .revoked = true}});
  EXPECT_FALSE(table.Admits(key));
  EXPECT_THAT(std::string(table.Check(key, rpc::kLookup).status().message()), HasSubstr("revoked"));
}

}  // namespace
}  // namespace holdfast
