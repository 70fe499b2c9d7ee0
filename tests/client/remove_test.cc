// Vault::Remove against the real coordinator and nodes, in the simulator.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/rpc/methods.h"
#include "tests/client/ingest_testing.h"

namespace holdfast::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class VaultRemoveTest : public ::testing::Test {
 protected:
  StatusOr<IngestSummary> Store(IngestRig& rig) {
    MemorySource source;
    source.AddFile("a", "1");
    source.AddDirectory("d");
    source.AddFile("d/x", noise_);
    source.AddHardLink("e", "a", "1");
    return rig.Run(source);
  }

  std::vector<std::string> Names(IngestRig& rig) {
    std::vector<std::string> names;
    const auto page = rig.vault().List("c", {}, "");
    EXPECT_TRUE(page.ok()) << page.status();
    if (page.ok()) {
      for (const ObjectInfo& info : page->objects) names.push_back(info.name);
    }
    return names;
  }

  const std::string noise_ = NoiseBytes(1, 300'000);
};

TEST_F(VaultRemoveTest, AwayAndBack) {
  IngestRig rig({});
  ASSERT_TRUE(Store(rig).ok());
  auto removed = rig.vault().Remove("c", "d", {.recursive = true});
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_EQ(removed->objects, 2u);
  EXPECT_EQ(removed->versions, 2u);
  EXPECT_THAT(Names(rig), ElementsAre("a", "e"));
  EXPECT_THAT(rig.Read("d/x"), HasSubstr("no object"));
  const auto trash = rig.vault().ListRemoved("", "", "");
  ASSERT_TRUE(trash.ok()) << trash.status();
  ASSERT_EQ(trash->objects.size(), 2u);
  EXPECT_EQ(trash->objects[1].collection, "c");
  EXPECT_EQ(trash->objects[1].name, "d/x");
  EXPECT_GT(trash->objects[1].row.removed_nanos, 0);
  EXPECT_EQ(trash->next, "");
  removed = rig.vault().Remove("c", "", {.recursive = true, .undo = true});
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_EQ(removed->objects, 2u);
  EXPECT_TRUE(rig.Read("d/x") == noise_);
  EXPECT_TRUE(absl::IsNotFound(rig.vault().Remove("c", "none", {}).status()));
}

TEST_F(VaultRemoveTest, WhatWasRemovedIsStoredAgain) {
  IngestRig rig({});
  ASSERT_TRUE(Store(rig).ok());
  const VersionId first = rig.Opened("d/x")->info.manifest.version;
  ASSERT_TRUE(rig.vault().Remove("c", "", {.recursive = true}).ok());
  const auto again = Store(rig);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->stored_bytes, 0u) << "its chunks are still there";
  EXPECT_THAT(Names(rig), ElementsAre("a", "d", "d/x", "e"));
  EXPECT_NE(rig.Opened("d/x")->info.manifest.version, first);
  EXPECT_EQ(rig.Opened("d/x")->info.row.version_number, 2u);
  EXPECT_TRUE(rig.Read("d/x") == noise_);
}

// A reply that is lost does not make a second removal of what came since, nor another answer.
TEST_F(VaultRemoveTest, ALostReplyIsNoSecondRemoval) {
  IngestRig rig({});
  ASSERT_TRUE(Store(rig).ok());
  bool lost = false;
  rig.coordinator().hook = [&](RpcMessage& request, ReplyFn& reply) {
    if (request.method == rpc::kRemove && !std::exchange(lost, true)) {
      reply = [reply](const StatusOr<RpcMessage>&) { reply(absl::UnavailableError("lost")); };
    }
    return false;
  };
  const auto removed = rig.vault().Remove("c", "", {.recursive = true, .now = true});
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_TRUE(lost);
  EXPECT_EQ(removed->objects, 4u);
  EXPECT_THAT(Names(rig), IsEmpty());
}

}  // namespace
}  // namespace holdfast::testing
