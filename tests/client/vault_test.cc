#include "client/vault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/reader.h"
#include "tests/client/reader_testing.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;
using testing::TestObject;
using testing::TestVault;

TEST(VaultTest, OpensWhatWasSealed) {
  TestVault t;
  t.Commit("case", {{.name = "a/b", .content = "hello"}, {.name = "c", .content = ""}});
  StatusOr<ObjectInfo> info = t.vault().Lookup("case", "a/b");
  ASSERT_TRUE(info.ok()) << info.status();
  StatusOr<Vault::OpenedObject> object = t.vault().OpenObject(*info);
  ASSERT_TRUE(object.ok()) << object.status();
  EXPECT_EQ(object->sealed.size, 5u);
  EXPECT_EQ(object->sealed.attributes.mode, 0644u);
  StatusOr<ManifestPart> chunks = t.vault().Chunks(*object);
  ASSERT_TRUE(chunks.ok()) << chunks.status();
  EXPECT_EQ(chunks->chunks.size(), 1u);
  EXPECT_EQ(chunks->sealed_chunks.size(), 1u);
}

TEST(VaultTest, AnIngestOnlyKeyListsButDoesNotRead) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "x"}});
  std::unique_ptr<Vault> vault = t.VaultWith(*MakeIngestOnly(t.key()));
  StatusOr<Vault::Page> page = vault->List("case", {}, "");
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_EQ(page->objects.size(), 1u);
  const Status status = vault->OpenObject(page->objects[0]).status();
  EXPECT_TRUE(absl::IsPermissionDenied(status));
  EXPECT_THAT(Message(status), HasSubstr("can ingest and list, but not read"));
}

TEST(VaultTest, WhatAnIngestOnlyKeySignedIsRead) {
  TestVault t;
  const KeyFile ingest_only = *MakeIngestOnly(t.key());
  t.Commit("case", {{.name = "a", .content = "x"}}, &ingest_only);
  EXPECT_TRUE(t.vault().OpenObject(*t.vault().Lookup("case", "a")).ok());
}

TEST(VaultTest, ListsInPages) {
  TestVault t;
  std::vector<TestObject> objects;
  for (char c = 'a'; c <= 'j'; ++c) objects.push_back({.name = std::string(1, c), .content = "x"});
  t.Commit("case", objects);
  std::string names, after;
  for (bool more = true; more;) {
    StatusOr<Vault::Page> page = t.vault().List("case", {}, after);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const ObjectInfo& info : page->objects) names += info.name;
    more = page->more;
    after = page->objects.back().name;
  }
  EXPECT_EQ(names, "abcdefghij");
}

Status OpenStatus(Vault& vault, const std::string& name) {
  StatusOr<ObjectInfo> info = vault.Lookup("case", name);
  if (!info.ok()) return info.status();
  return vault.OpenObject(*info).status();
}

TEST(VaultTest, RefusesASwappedRow) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}, {.name = "b", .content = "2"}});
  std::swap(t.Row("case", "a"), t.Row("case", "b"));
  const Status status = OpenStatus(t.vault(), "a");
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("case/a"));
  EXPECT_THAT(Message(status), HasSubstr("another object"));
}

TEST(VaultTest, RefusesARenamedObject) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}});
  ClearManifest manifest = *DecodeClearManifest(t.Row("case", "a").manifest);
  manifest.name = "b";
  ObjectRow row = t.Row("case", "a");
  row.manifest = EncodeClearManifest(manifest);
  t.coordinator().collections["case"]["b"] = {row};
  const Status status = OpenStatus(t.vault(), "b");
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("not what was signed"));
}

TEST(VaultTest, RefusesAnObjectMovedToAnotherCollection) {
  TestVault t;
  t.Commit("other", {{.name = "a", .content = "1"}});
  t.coordinator().collections["case"]["a"] = {t.Row("other", "a")};
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus(t.vault(), "a")));
}

TEST(VaultTest, RefusesALeafIndexOutOfRange) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}});
  t.Row("case", "a").leaf_index = 7;
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus(t.vault(), "a")));
}

// Readers look up places without asking whether there are any.
TEST(VaultTest, RefusesAMapThatPlacesNothing) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}});
  t.coordinator().map.placement.clear();
  EXPECT_TRUE(absl::IsInvalidArgument(t.vault().Map().status()));
  const auto opened = t.vault().OpenObject(t.vault().Lookup("case", "a").value());
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(absl::IsInvalidArgument(
      ReadObject(t.vault(), *opened, 0, 1, [](Bytes) { return absl::OkStatus(); })));
}

TEST(VaultTest, RefusesAStrangersSignature) {
  TestVault t;
  const KeyFile stranger = *GenerateKeyFile(SecureRng(), t.key().vault);
  t.Commit("case", {{.name = "a", .content = "1"}}, &stranger);
  const Status status = OpenStatus(t.vault(), "a");
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("not by an ingest key of this vault"));
}

TEST(VaultTest, RefusesAnAlteredLeaf) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}});
  // A coordinator that swaps in a manifest and its leaf cannot sign the new root.
  ClearManifest manifest = *DecodeClearManifest(t.Row("case", "a").manifest);
  manifest.time_nanos += 1;
  t.Row("case", "a").manifest = EncodeClearManifest(manifest);
  t.coordinator().signatures[1].leaves[0] =
      ManifestLeaf(t.key().domain, "case", t.Row("case", "a").manifest);
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus(t.vault(), "a")));
}

// A commit that no node had taken is gone with the catalogue, and another one has its number.
TEST(VaultTest, ACommitNumberMayComeToMeanAnotherCommit) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}});
  ASSERT_TRUE(OpenStatus(t.vault(), "a").ok());
  t.Commit("case", {{.name = "b", .content = "2"}});
  t.Row("case", "b").commit_number = 1;
  t.coordinator().signatures[1] = t.coordinator().signatures[2];
  const Status opened = OpenStatus(t.vault(), "b");
  EXPECT_TRUE(opened.ok()) << opened;
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus(t.vault(), "a")));
}

TEST(VaultTest, RefusesALostOrForgedSealingKey) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}});
  t.Commit("case", {{.name = "b", .content = "2"}});
  auto& keys = t.coordinator().sealing_keys;
  std::swap(keys.begin()->second, std::next(keys.begin())->second);
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus(t.vault(), "a")));
  keys.clear();
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus(t.vault(), "b")));
}

TEST(VaultTest, ARowThatDoesNotDecodeIsRefusedByNameOnly) {
  TestVault t;
  t.Commit("case", {{.name = "a\n\xff", .content = "1"}, {.name = "b", .content = "2"}});
  t.Row("case", "a\n\xff").manifest.resize(9);
  EXPECT_TRUE(t.vault().List("case", {}, "").ok());
  const Status status = OpenStatus(t.vault(), "a\n\xff");
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("case/a\\x0a\\xff"));
  EXPECT_TRUE(OpenStatus(t.vault(), "b").ok());
}

TEST(VaultTest, AMissingObjectIsNotFound) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}});
  EXPECT_TRUE(absl::IsNotFound(t.vault().Lookup("case", "zz").status()));
}

}  // namespace
}  // namespace holdfast
