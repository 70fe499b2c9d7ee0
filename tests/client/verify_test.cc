#include "client/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/client/reader_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::RandomBytes;
using testing::TestVault;
using ::testing::UnorderedElementsAre;

struct VerifyRecorder : VerifyObserver {
  void OnObjectError(const std::string& collection, const std::string& name, bool lost,
                     const Status& status) override {
    errors.push_back(collection + "/" + name + (lost ? " lost" : ""));
    last = status;
  }
  void OnFinding(const proto::Finding& finding) override { findings.push_back(finding.text()); }
  std::vector<std::string> errors, findings;
  Status last;
};

// With threads and without.
class VerifyTest : public ::testing::TestWithParam<int> {
 protected:
  VerifySummary Run(TestVault& t, const std::string& collection = "case",
                    const std::string& prefix = "") {
    recorder_ = {};
    StatusOr<VerifySummary> summary = Verify(
        t.vault(), {.collection = collection, .prefix = prefix, .threads = GetParam()}, recorder_);
    EXPECT_TRUE(summary.ok()) << summary.status();
    return summary.value_or(VerifySummary{});
  }
  VerifyRecorder recorder_;
};
INSTANTIATE_TEST_SUITE_P(Threads, VerifyTest, ::testing::Values(-1, 1, 3));

TEST_P(VerifyTest, FindsNothingWrongWithAGoodVault) {
  TestVault t({.nodes = 2, .replicas = 2});
  t.Commit("case",
           {{.name = "d", .type = ObjectType::kDirectory},
            {.name = "d/empty", .content = ""},
            {.name = "d/long", .content = RandomBytes(1, 5'000'000)},
            {.name = "d/packed", .content = std::string(500'000, 'a'), .codec = Codec::kZstd},
            {.name = "d/sha256 only", .content = "x", .legacy_digests = false},
            {.name = "d/short", .content = "hello"}});
  t.Commit("case", {{.name = "d/short", .content = "second version"}});
  const VerifySummary s = Run(t);
  EXPECT_THAT(recorder_.errors, IsEmpty());
  EXPECT_EQ(s.objects, 6u);
  EXPECT_EQ(s.versions, 7u);
  EXPECT_EQ(s.bytes, 5'500'001u + 5 + 14);
  EXPECT_GT(s.stored_bytes, 2 * 5'000'000u);
  EXPECT_EQ(s.damaged + s.lost + s.findings + s.unchecked, 0u);
}

TEST_P(VerifyTest, ADamagedReplicaIsDamageNotLoss) {
  TestVault t({.nodes = 2, .replicas = 2});
  t.Commit("case", {{.name = "bad", .content = RandomBytes(2, 900'000)},
                    {.name = "fine", .content = RandomBytes(3, 900'000)}});
  const std::vector<RecordId> ids = t.RecordsOf("case", "bad");
  // One on the node that is asked first, one on the other, one rotten, one missing.
  t.Tamper(t.Holders(ids[0])[0], ids[0]);
  t.Tamper(t.Holders(ids[1])[1], ids[1]);
  t.Rot(t.Holders(ids[2])[1], ids[2]);
  t.node(t.Holders(ids[3])[1]).records.erase(ids[3]);
  const VerifySummary s = Run(t);
  EXPECT_THAT(recorder_.errors, ElementsAre("case/bad"));
  EXPECT_TRUE(absl::IsDataLoss(recorder_.last)) << recorder_.last;
  EXPECT_THAT(Message(recorder_.last), HasSubstr("and 3 more"));
  EXPECT_EQ(s.damaged, 1u);
  EXPECT_EQ(s.lost, 0u);
  EXPECT_TRUE(t.node(t.Holders(ids[0])[0]).quarantined.contains(ids[0]));
  EXPECT_TRUE(t.node(t.Holders(ids[1])[1]).quarantined.contains(ids[1]));
  // What was found stays found.
  EXPECT_EQ(Run(t).damaged, 1u);
}

TEST_P(VerifyTest, NoGoodReplicaIsLoss) {
  TestVault t({.nodes = 2, .replicas = 2});
  t.Commit("case", {{.name = "bad", .content = RandomBytes(4, 900'000)},
                    {.name = "fine", .content = RandomBytes(5, 900'000)}});
  const RecordId id = t.RecordsOf("case", "bad")[1];
  t.Tamper(0, id);
  t.Rot(1, id);
  const VerifySummary s = Run(t);
  EXPECT_THAT(recorder_.errors, ElementsAre("case/bad lost"));
  EXPECT_THAT(Message(recorder_.last), HasSubstr("no good replica"));
  EXPECT_EQ(s.damaged, 1u);
  EXPECT_EQ(s.lost, 1u);
}

TEST_P(VerifyTest, EveryObjectThatSharesADamagedChunkIsNamed) {
  TestVault t;
  const std::string content = RandomBytes(6, 300'000);
  t.Commit("case", {{.name = "a", .content = content},
                    {.name = "b", .content = content},
                    {.name = "c", .content = content + "tail"},
                    {.name = "fine", .content = "fine"}});
  t.Rot(0, t.RecordsOf("case", "a")[0]);
  const VerifySummary s = Run(t);
  EXPECT_THAT(recorder_.errors, UnorderedElementsAre("case/a lost", "case/b lost", "case/c lost"));
  EXPECT_EQ(s.lost, 3u);
}

TEST_P(VerifyTest, EqualVersionsAreReadOnce) {
  TestVault t;
  std::vector<testing::TestObject> objects;
  for (int i = 0; i < 5000; ++i) {
    objects.push_back({.name = "o" + std::to_string(i), .content = RandomBytes(7, 5'000)});
  }
  t.Commit("case", objects);
  const VerifySummary s = Run(t);
  EXPECT_EQ(s.bytes, 5000u * 5'000);
  EXPECT_LT(t.node(0).gets, 4500u);
}

TEST_P(VerifyTest, ReplicasThatDifferAreDamageEvenIfBothOpen) {
  TestVault t({.nodes = 2, .replicas = 2});
  t.Commit("case", {{.name = "o", .content = std::string(100, 'z')}});
  const RecordId id = t.RecordsOf("case", "o")[0];
  EXPECT_EQ(Run(t).damaged, 0u);
  // The same plaintext by another codec: both are right, one of them should not be there.
  t.node(1).records.clear();
  t.Commit("other", {{.name = "o", .content = std::string(100, 'z'), .codec = Codec::kZstd}});
  ASSERT_NE(t.node(0).records[id], t.node(1).records[id]);
  const VerifySummary s = Run(t);
  EXPECT_EQ(s.damaged, 1u);
  EXPECT_EQ(s.lost, 0u);
  EXPECT_THAT(Message(recorder_.last), HasSubstr("differs"));
  EXPECT_TRUE(t.node(0).quarantined.empty());
  EXPECT_TRUE(t.node(1).quarantined.empty());
}

TEST_P(VerifyTest, ForgedManifestsAreLost) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"},
                    {.name = "b", .content = "2"},
                    {.name = "c", .content = "3"}});
  std::swap(t.Row("case", "a"), t.Row("case", "b"));
  const VerifySummary s = Run(t);
  EXPECT_THAT(recorder_.errors, UnorderedElementsAre("case/a lost", "case/b lost"));
  EXPECT_EQ(s.lost, 2u);
}

TEST_P(VerifyTest, ManifestPartsAreCheckedOnEveryReplica) {
  TestVault t({.nodes = 2, .replicas = 2});
  t.Commit("case", {{.name = "big", .content = RandomBytes(8, 90'000'000)}});
  const std::vector<RecordId> parts = t.RecordsOf("case", "big", /*parts=*/true);
  ASSERT_GE(parts.size(), 2u);
  EXPECT_EQ(Run(t).damaged, 0u);
  t.Tamper(1, parts[1]);
  VerifySummary s = Run(t);
  EXPECT_EQ(s.damaged, 1u);
  EXPECT_EQ(s.lost, 0u);
  t.coordinator().parts.erase(std::prev(t.coordinator().parts.end()));
  s = Run(t);
  EXPECT_EQ(s.lost, 1u);
}

TEST_P(VerifyTest, ANodeThatIsAwayIsNoDamage) {
  TestVault t({.nodes = 2, .replicas = 2});
  t.Commit("case", {{.name = "a", .content = "1"}});
  t.transport().Detach(NodeAddress(1));
  const VerifySummary s = Run(t, "");
  EXPECT_EQ(s.damaged + s.lost + s.findings, 0u);
  EXPECT_EQ(s.unchecked, 2u);  // The object, and the node's log.
  EXPECT_THAT(recorder_.errors, ElementsAre("case/a"));
  EXPECT_TRUE(absl::IsUnavailable(recorder_.last));
  EXPECT_THAT(recorder_.findings, ElementsAre(HasSubstr("log of node 1")));
}

TEST_P(VerifyTest, TheWholeVaultIncludesLogs) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}});
  t.Commit("other", {{.name = "b", .content = "2"}});
  const RecordId damaged = t.RecordsOf("other", "b")[0];
  t.Rot(0, damaged);
  auto add = [&](proto::Finding::Class c, const std::string& text, const RecordId* id) {
    proto::Finding finding;
    finding.set_class_(c);
    finding.set_text(text);
    if (id != nullptr) finding.set_id(ToString(id->bytes()));
    t.node(0).segments[1].push_back(finding);
  };
  add(proto::Finding::CORRUPT, "commit record 7", nullptr);
  add(proto::Finding::NOTE, "torn tail", nullptr);
  add(proto::Finding::CORRUPT, "chunk", &damaged);
  const VerifySummary s = Run(t, "");
  EXPECT_EQ(s.objects, 2u);
  EXPECT_EQ(s.findings, 1u);
  EXPECT_THAT(recorder_.findings, ElementsAre("commit record 7"));
  EXPECT_THAT(recorder_.errors, ElementsAre("other/b lost"));
}

TEST_P(VerifyTest, ObjectsWhoseRecordsAreDamagedInALogAloneAreNamed) {
  TestVault t;
  const std::string shared = RandomBytes(3, 1000);
  t.Commit("case", {{.name = "a", .content = shared}, {.name = "c", .content = "other"}});
  t.Commit("other", {{.name = "b", .content = shared}, {.name = "d", .content = "lost"}});
  t.Rot(0, t.RecordsOf("other", "d")[0]);
  for (const RecordId& id : {t.RecordsOf("case", "a")[0], t.RecordsOf("other", "d")[0]}) {
    proto::Finding finding;
    finding.set_class_(proto::Finding::CORRUPT);
    finding.set_text("a bad header");
    finding.set_id(ToString(id.bytes()));
    t.node(0).segments[1].push_back(finding);
  }
  const VerifySummary s = Run(t, "");
  EXPECT_THAT(recorder_.errors, UnorderedElementsAre("case/a", "other/b", "other/d lost"));
  EXPECT_EQ(s.damaged, 3u);
  EXPECT_EQ(s.lost, 1u);
  EXPECT_EQ(s.objects, 4u);
  EXPECT_EQ(s.versions, 4u);
  EXPECT_EQ(s.findings, 0u);
  EXPECT_THAT(recorder_.findings, ElementsAre());
}

TEST_P(VerifyTest, EverySegmentIsCheckedOnceWhereverTheirNumbersHaveGaps) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}});
  std::vector<std::string> texts;
  std::vector<uint64_t> numbers;
  for (uint64_t number : {1, 2, 3, 4, 5, 6, 7, 9, 20, 22, 23, 40}) {
    proto::Finding finding;
    finding.set_class_(proto::Finding::CORRUPT);
    finding.set_text("in " + std::to_string(number));
    t.node(0).segments[number] = {finding};
    texts.push_back(finding.text());
    numbers.push_back(number);
  }
  EXPECT_EQ(Run(t, "").findings, texts.size());
  EXPECT_EQ(recorder_.findings, texts);
  EXPECT_EQ(t.node(0).checked, numbers);
}

TEST_P(VerifyTest, ThePrefixIsByComponent) {
  TestVault t;
  t.Commit("case", {{.name = "a", .type = ObjectType::kDirectory},
                    {.name = "a-b", .content = "1"},
                    {.name = "a/x", .content = "2"}});
  EXPECT_EQ(Run(t, "case", "a").objects, 2u);
  VerifyRecorder recorder;
  EXPECT_TRUE(absl::IsNotFound(
      Verify(t.vault(), {.collection = "case", .prefix = "zz"}, recorder).status()));
}

TEST_P(VerifyTest, AnIngestOnlyKeyIsRefused) {
  TestVault t;
  VerifyRecorder recorder;
  EXPECT_TRUE(absl::IsPermissionDenied(
      Verify(*t.VaultWith(*MakeIngestOnly(t.key())), {.threads = GetParam()}, recorder).status()));
}

TEST(VerifyEndsTest, AListingThatFailsEndsTheCheckOfTheLogs) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "hello"}});
  constexpr uint64_t kSegments = 100'000;
  for (uint64_t n = 1; n <= kSegments; ++n) t.node(0).segments[n];
  t.coordinator().list_error = absl::DataLossError("a row is damaged");
  VerifyRecorder recorder;
  EXPECT_EQ(Verify(t.vault(), {.threads = 1}, recorder).status(), t.coordinator().list_error);
  EXPECT_LT(t.node(0).checked.size(), kSegments / 2);
}

}  // namespace
}  // namespace holdfast
