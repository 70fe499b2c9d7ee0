#include "client/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/client/reader_testing.h"
#include "tests/common/crypto/sealed.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;
using testing::RandomBytes;
using testing::TestVault;

constexpr uint64_t kToEnd = UINT64_MAX;

StatusOr<std::string> Read(TestVault& t, const std::string& name, uint64_t begin = 0,
                           uint64_t end = kToEnd) {
  ASSIGN_OR_RETURN(ObjectInfo info, t.vault().Lookup("case", name));
  ASSIGN_OR_RETURN(Vault::OpenedObject object, t.vault().OpenObject(std::move(info)));
  std::string bytes;
  RETURN_IF_ERROR(ReadObject(t.vault(), object, begin, end, [&](Bytes b) {
    bytes += AsView(b);
    return absl::OkStatus();
  }));
  return bytes;
}

TEST(ReaderTest, ReadsWholeObjects) {
  TestVault t;
  const std::string content = RandomBytes(1, 3'000'000);
  t.Commit("case", {{.name = "long", .content = content},
                    {.name = "short", .content = "x"},
                    {.name = "empty", .content = ""},
                    {.name = "packed", .content = std::string(700'000, 'z'), .codec = Codec::kZstd},
                    {.name = "plain", .content = content, .legacy_digests = false}});
  EXPECT_GT(t.RecordsOf("case", "long").size(), 10u);
  EXPECT_EQ(*Read(t, "long"), content);
  EXPECT_EQ(*Read(t, "short"), "x");
  EXPECT_EQ(*Read(t, "empty"), "");
  EXPECT_EQ(*Read(t, "packed"), std::string(700'000, 'z'));
  EXPECT_EQ(*Read(t, "plain"), content);
}

TEST(ReaderTest, ReadsRanges) {
  TestVault t;
  const std::string content = RandomBytes(2, 1'000'000);
  t.Commit("case", {{.name = "o", .content = content}});
  const std::pair<uint64_t, uint64_t> ranges[] = {{0, 0},
                                                  {0, 1},
                                                  {0, 1'000'000},
                                                  {1, 999'999},
                                                  {300'000, 300'001},
                                                  {10, 700'000},
                                                  {999'999, 1'000'000},
                                                  {999'999, 2'000'000},
                                                  {1'000'000, 2'000'000},
                                                  {2'000'000, 3'000'000},
                                                  {5, 3},
                                                  {500'000, kToEnd}};
  for (const auto& [begin, end] : ranges) {
    const uint64_t to = std::min<uint64_t>(end, content.size());
    const std::string expected = begin < to ? content.substr(begin, to - begin) : "";
    StatusOr<std::string> got = Read(t, "o", begin, end);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(*got, expected) << begin << "-" << end;
  }
}

TEST(ReaderTest, ARangeFetchesOnlyItsChunks) {
  TestVault t;
  t.Commit("case", {{.name = "o", .content = RandomBytes(3, 2'000'000)}});
  ASSERT_TRUE(Read(t, "o", 1'000'000, 1'000'010).ok());
  EXPECT_LE(t.node(0).gets, 2u);
}

TEST(ReaderTest, ReadsAnObjectWithManifestParts) {
  TestVault t;
  const std::string content = RandomBytes(4, 90'000'000);
  t.Commit("case", {{.name = "big", .content = content}});
  ASSERT_GE(t.RecordsOf("case", "big", /*parts=*/true).size(), 2u);
  EXPECT_TRUE(*Read(t, "big") == content);
  EXPECT_EQ(*Read(t, "big", 89'000'000, 89'000'100), content.substr(89'000'000, 100));
  StatusOr<Vault::OpenedObject> object = t.vault().OpenObject(*t.vault().Lookup("case", "big"));
  StatusOr<ManifestPart> chunks = t.vault().Chunks(*object);
  ASSERT_TRUE(chunks.ok()) << chunks.status();
  EXPECT_EQ(chunks->chunks.size(), object->info.manifest.chunk_count);
  t.coordinator().parts.rbegin()->second.sealed[3] ^= 1;
  const Status status = Read(t, "big").status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("case/big: manifest part 1"));
  t.coordinator().parts.clear();
  EXPECT_TRUE(absl::IsDataLoss(Read(t, "big").status()));
}

TEST(ReaderTest, TakesAnotherReplicaForADamagedOne) {
  TestVault t({.nodes = 3, .replicas = 2});
  const std::string content = RandomBytes(5, 500'000);
  t.Commit("case", {{.name = "o", .content = content}});
  const std::vector<RecordId> ids = t.RecordsOf("case", "o");
  ASSERT_GE(ids.size(), 3u);
  t.Rot(t.Holders(ids[0])[0], ids[0]);
  t.Tamper(t.Holders(ids[1])[0], ids[1]);
  t.node(t.Holders(ids[2])[0]).records.erase(ids[2]);
  EXPECT_EQ(*Read(t, "o"), content);
  // What does not open is set aside; what the node found itself is its own business.
  EXPECT_TRUE(t.node(t.Holders(ids[1])[0]).quarantined.contains(ids[1]));
  EXPECT_FALSE(t.node(t.Holders(ids[1])[1]).quarantined.contains(ids[1]));
}

TEST(ReaderTest, NamesWhatIsWrongWithEveryReplica) {
  TestVault t({.nodes = 2, .replicas = 2});
  t.Commit("case", {{.name = "o", .content = "evidence"}});
  const RecordId id = t.RecordsOf("case", "o")[0];
  t.Rot(0, id);
  t.Tamper(1, id);
  const Status status = Read(t, "o").status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("case/o"));
  EXPECT_THAT(Message(status), HasSubstr("node 0: corrupt"));
  EXPECT_THAT(Message(status), HasSubstr("node 1: "));
  EXPECT_EQ(Message(status).find('\n'), std::string::npos);
}

TEST(ReaderTest, ANodeThatIsAwayIsNotDataLoss) {
  TestVault t({.nodes = 2, .replicas = 2});
  t.Commit("case", {{.name = "o", .content = "evidence"}});
  t.transport().Detach(NodeAddress(0));
  EXPECT_EQ(*Read(t, "o"), "evidence");
  t.Rot(1, t.RecordsOf("case", "o")[0]);
  EXPECT_TRUE(absl::IsUnavailable(Read(t, "o").status()));
}

TEST(ReaderTest, ARecordOfOtherContentUnderTheIdIsRefused) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "one"}, {.name = "b", .content = "two"}});
  const RecordId a = t.RecordsOf("case", "a")[0], b = t.RecordsOf("case", "b")[0];
  t.node(0).records[a] = t.node(0).records[b];
  EXPECT_TRUE(absl::IsDataLoss(Read(t, "a").status()));
  EXPECT_TRUE(t.node(0).quarantined.contains(a));
  EXPECT_EQ(*Read(t, "b"), "two");
}

// An ingest host with K_dedup that seals other bytes under a chunk's key: they open, and are caught
// by their digests.
TEST(ReaderTest, APoisonedChunkThatOpensIsRefused) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "genuine"}});
  const RecordId id = t.RecordsOf("case", "a")[0];
  StatusOr<Vault::OpenedObject> object = t.vault().OpenObject(*t.vault().Lookup("case", "a"));
  const Hash256 h = object->sealed.chunks[0].h;
  t.node(0).records[id] = testing::Sealed(h, id, Codec::kRaw, AsBytes("genuinE"));
  const Status status = Read(t, "a").status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("other content"));
}

TEST(ReaderTest, TheSinksErrorEndsTheRead) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "x"}});
  StatusOr<Vault::OpenedObject> object = t.vault().OpenObject(*t.vault().Lookup("case", "a"));
  const Status status = ReadObject(t.vault(), *object, 0, kToEnd,
                                   [](Bytes) { return absl::ResourceExhaustedError("full"); });
  EXPECT_EQ(status, absl::ResourceExhaustedError("full"));
}

TEST(ReaderTest, ADirectoryHasNoContent) {
  TestVault t;
  t.Commit("case", {{.name = "d", .type = ObjectType::kDirectory}});
  EXPECT_TRUE(absl::IsInvalidArgument(Read(t, "d").status()));
}

}  // namespace
}  // namespace holdfast
