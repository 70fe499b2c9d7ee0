// kCheckCatalogue: one planted damage, one finding that names it.
#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/harness.h"

namespace holdfast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class FsckTest : public ::testing::Test {
 protected:
  void SetUp() override {
    vault.MustOpen();
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(vault
                      .Store("case", {{absl::StrCat("n", i), absl::StrCat("content ", i)},
                                      {"same", absl::StrCat(i)}})
                      .ok());
    }
    ASSERT_TRUE(vault.Store("other", {{"\xff", "1", ObjectType::kFile, 3}}).ok());
    ASSERT_EQ(Texts(vault.Fsck()), "");
  }
  void Write(const std::string& key, std::optional<std::string> value) {
    ASSERT_TRUE(vault.kv().Write({{key, std::move(value)}}, true).ok());
  }
  proto::Finding OnlyFinding() {
    auto findings = vault.Fsck();
    EXPECT_EQ(findings.size(), 1u) << Texts(findings);
    return findings.empty() ? proto::Finding() : findings[0];
  }
  RecordId ChunkOf(const std::string& content) {
    return RecordId{Sha256({AsBytes(content), AsBytes("0")})};
  }
  RecordId CommitId(uint64_t number) { return CommitRecordId(vault.options().vault, 1, number); }

  TestVault vault{{1, /*nodes=*/3, /*replicas=*/2, {}}};
};

TEST_F(FsckTest, MissingChunkNamesObjectChunkAndNode) {
  RecordId id = ChunkOf("content 3");
  uint32_t node = ActingSet(vault.options().map, id)[1];
  vault.node(node).records.erase(id);
  proto::Finding finding = OnlyFinding();
  EXPECT_EQ(finding.class_(), proto::Finding::MISSING);
  EXPECT_EQ(finding.node(), node);
  EXPECT_EQ(finding.id(), ToString(id.bytes()));
  EXPECT_EQ(finding.text(),
            absl::StrCat("case/n3: chunk ", id.hex().substr(0, 16), " is missing on node ", node));
}

TEST_F(FsckTest, CorruptChunkIsToldFromMissing) {
  RecordId id = ChunkOf("1");  // Of case/same in its second version, and of other/\xff.
  uint32_t node = ActingSet(vault.options().map, id)[0];
  vault.node(node).records.at(id).corrupt = true;
  auto findings = vault.Fsck();
  ASSERT_EQ(findings.size(), 2u) << Texts(findings);
  EXPECT_EQ(findings[0].class_(), proto::Finding::CORRUPT);
  EXPECT_THAT(findings[0].text(), HasSubstr("case/same: chunk"));
  EXPECT_THAT(findings[1].text(), HasSubstr("other/\\xff: chunk"));
}

TEST_F(FsckTest, NodeThatDoesNotAnswerIsOneFinding) {
  vault.node(2).silent = true;
  proto::Finding finding = OnlyFinding();
  EXPECT_EQ(finding.class_(), proto::Finding::UNREADABLE);
  EXPECT_EQ(finding.node(), 2u);
  EXPECT_THAT(finding.text(), HasSubstr("node 2 could not be checked"));
}

TEST_F(FsckTest, MissingCommitRecordNamesCommitAndNode) {
  uint32_t node = ActingSet(vault.options().map, CommitId(3))[0];
  ASSERT_TRUE(vault.node(node).DropCommit(3));
  proto::Finding finding = OnlyFinding();
  EXPECT_EQ(finding.class_(), proto::Finding::MISSING);
  EXPECT_EQ(finding.text(), absl::StrCat("commit 3 is missing on node ", node));
  EXPECT_EQ(finding.node(), node);
}

TEST_F(FsckTest, CommitRecordOnNoNode) {
  for (size_t n = 0; n < 3; ++n) vault.node(n).DropCommit(6);
  EXPECT_EQ(OnlyFinding().text(), "commit 6 is on no node");
}

TEST_F(FsckTest, DamagedCommitRecord) {
  uint32_t node = ActingSet(vault.options().map, CommitId(2))[1];
  vault.node(node).records.at(CommitId(2)).corrupt = true;
  EXPECT_EQ(OnlyFinding().text(), absl::StrCat("commit 2 is damaged on node ", node));
  vault.node(node).records.at(CommitId(2)).corrupt = false;
  vault.node(node).records.at(CommitId(2)).payload.back() ^= 1;
  EXPECT_EQ(OnlyFinding().class_(), proto::Finding::CORRUPT);
}

TEST_F(FsckTest, ForgedHistory) {
  CommitRecord other;
  other.generation = 1;
  other.number = 6;
  other.previous.fill(1);
  for (uint32_t node : ActingSet(vault.options().map, CommitId(6))) {
    vault.node(node).records.at(CommitId(6)).payload =
        EncodeCommitRecord(vault.options().keys.commit, vault.options().vault, other, {});
  }
  EXPECT_EQ(Texts(vault.Fsck()),
            "commit 6: it does not follow commit 5\n"
            "commit 6: the nodes' record is not the catalogue's last\n");
}

TEST_F(FsckTest, NodesThatDiffer) {
  CommitRecord other;
  other.generation = 1;
  other.number = 4;
  uint32_t node = ActingSet(vault.options().map, CommitId(4))[0];
  vault.node(node).records.at(CommitId(4)).payload =
      EncodeCommitRecord(vault.options().keys.commit, vault.options().vault, other, {});
  EXPECT_EQ(Texts(vault.Fsck()), absl::StrCat("commit 4 is damaged on node ", node,
                                              "\ncommit 4: the nodes hold different records\n"));
}

TEST_F(FsckTest, LostObjectRow) {
  Write(ObjectKey(1, "n2", 1), std::nullopt);
  std::string texts = Texts(vault.Fsck());
  EXPECT_THAT(texts, HasSubstr("case/n2: the catalogue's row is gone, but it is in commit 3"));
  EXPECT_THAT(texts, HasSubstr("its rows are 2, 6 and 10"));
}

TEST_F(FsckTest, LostCollectionRow) {
  Write(CollectionKey("other"), std::nullopt);
  std::string texts = Texts(vault.Fsck());
  EXPECT_THAT(texts, HasSubstr("collection number 2 has objects"));
  EXPECT_THAT(texts, HasSubstr("is gone, but it is in commit 6"));
}

TEST_F(FsckTest, DamagedObjectRow) {
  std::string row = **vault.kv().Get(ObjectKey(1, "n2", 1));
  row[row.size() / 2] ^= 1;
  Write(ObjectKey(1, "n2", 1), row);
  std::string texts = Texts(vault.Fsck());
  EXPECT_THAT(texts, HasSubstr("case/n2: the catalogue's row is damaged"));
  EXPECT_THAT(texts, HasSubstr("case/n2: the catalogue's row differs from commit 3"));
}

TEST_F(FsckTest, ObjectThatWasNotSigned) {
  StatusOr<ObjectRow> row = DecodeObjectRow(**vault.kv().Get(ObjectKey(1, "n2", 1)));
  ClearManifest m = *DecodeClearManifest(row->manifest);
  m.chunks[0].stored_length ^= 1;
  row->manifest = EncodeClearManifest(m);
  Write(ObjectKey(1, "n2", 1), Encode(*row));
  EXPECT_THAT(Texts(vault.Fsck()),
              HasSubstr("case/n2: its manifest is not the one that was signed with commit 3"));
}

TEST_F(FsckTest, LostAndForgedSignature) {
  std::string good = **vault.kv().Get(SignatureKey(2));
  Write(SignatureKey(2), std::nullopt);
  EXPECT_THAT(Texts(vault.Fsck()), AllOf(HasSubstr("case/n1: the signature of commit 2 is missing"),
                                         HasSubstr("is gone, but it is in commit 2")));
  SignatureRow row = *DecodeSignatureRow(good);
  row.leaves[0][0] ^= 1;
  Write(SignatureKey(2), Encode(row));
  EXPECT_THAT(Texts(vault.Fsck()),
              AllOf(HasSubstr("the catalogue's row is damaged"),
                    HasSubstr("case/n1: its manifest is not the one that was signed")));
}

TEST_F(FsckTest, CountersAndHead) {
  std::string counters = **vault.kv().Get(MetaKey("counters"));
  std::string head = **vault.kv().Get(MetaKey("head"));
  std::string bad = counters;
  bad[10] ^= 1;
  Write(MetaKey("counters"), bad);
  EXPECT_THAT(OnlyFinding().text(), HasSubstr("counters are not what was last written"));
  Write(MetaKey("counters"), counters);
  Write(MetaKey("head"), std::nullopt);
  EXPECT_THAT(OnlyFinding().text(), HasSubstr("head is not what was last written"));
}

TEST_F(FsckTest, StoreThatFailsItsChecksums) {
  vault.kv().verify_error = absl::DataLossError("block checksum mismatch in 000012.sst");
  EXPECT_EQ(OnlyFinding().text(), "the catalogue: block checksum mismatch in 000012.sst");
}

TEST_F(FsckTest, CommitThatIsNotOnItsNodesYetIsANote) {
  SessionId session = vault.MustOpenSession();
  for (size_t n = 0; n < 3; ++n) vault.node(n).put_error = absl::ResourceExhaustedError("full");
  EXPECT_FALSE(vault.Commit(vault.MakeCommit(session, "case", {{"x", "1"}})).ok());
  proto::Finding finding = OnlyFinding();
  EXPECT_EQ(finding.class_(), proto::Finding::NOTE);
  EXPECT_EQ(finding.text(), "commit 7 is not yet on enough nodes");
}

// An object with more parts than one step takes; enough rows for several pages.
TEST(FsckPagesTest, LongManifestsAndManyRowsAreCheckedWhole) {
  TestVault vault({7, /*nodes=*/2, /*replicas=*/1, {}});
  vault.MustOpen();
  for (int i = 0; i < 3; ++i) {
    std::vector<TestObject> objects;
    for (int j = 0; j < 1500; ++j) objects.push_back({absl::StrCat("n", i * 1500 + j), "same"});
    ASSERT_TRUE(vault.Store("case", objects).ok());
  }
  SessionId session = vault.MustOpenSession();
  constexpr uint32_t kParts = 150;
  ClearManifest m =
      vault.MakeManifest({"long", "long", ObjectType::kFile, kParts * kChunksPerPart - 5});
  std::vector<RecordId> last;
  for (uint32_t i = 0; i < kParts; ++i) {
    // The same chunk over and over, but for one at the end of each part.
    std::vector<ChunkRef> chunks(i + 1 < kParts ? kChunksPerPart : kChunksPerPart - 5);
    RecordId id{Sha256(AsBytes("fill"))};
    for (ChunkRef& chunk : chunks) chunk.id = id;
    chunks.back().id = RecordId{Sha256(AsBytes(absl::StrCat("last ", i)))};
    last.push_back(chunks.back().id);
    for (const RecordId& c : {id, chunks.back().id}) {
      vault.node(ActingSet(vault.options().map, c)[0]).records[c] = {1, 0, 1, {1}, false};
    }
    RpcMessage message;
    proto::PutPartRequest put;
    put.set_session(ToString(session.bytes()));
    put.set_version(ToString(m.version.bytes()));
    put.set_index(i);
    message = MakeMessage(rpc::kPutPart, put);
    Buffer clear = EncodePartClear(chunks), sealed = {1};
    m.parts.push_back({PartId(m.version, i), Sha256({clear, sealed})});
    message.frames = {SharedBytes::Own(clear), SharedBytes::Own(sealed)};
    ASSERT_TRUE(vault.Send(message).ok());
  }
  ASSERT_TRUE(vault.Commit(vault.MakeCommitOf(session, "case", {m})).ok());
  EXPECT_EQ(Texts(vault.Fsck()), "");
  proto::CheckCatalogueRequest request;
  int steps = 0;
  uint64_t rows = 0;
  do {
    auto reply = vault.Rpc<proto::CheckCatalogueReply>(rpc::kCheckCatalogue, request);
    ASSERT_TRUE(reply.ok());
    rows += reply->rows();
    request.set_cursor(reply->cursor());
    ++steps;
  } while (!request.cursor().empty());
  EXPECT_GE(steps, 1 + 3 + 1);
  EXPECT_GE(rows, 4501u + 4);
  for (uint32_t i : {0u, 63u, 64u, 149u}) {
    FakeNode& node = vault.node(ActingSet(vault.options().map, last[i])[0]);
    auto saved = node.records.extract(last[i]);
    EXPECT_THAT(Texts(vault.Fsck()), HasSubstr("case/long: chunk " + last[i].hex().substr(0, 16)));
    node.records.insert(std::move(saved));
  }
  FakeNode& node = vault.node(ActingSet(vault.options().map, m.parts[70].id)[0]);
  node.records.at(m.parts[70].id).payload[20] ^= 1;
  EXPECT_THAT(Texts(vault.Fsck()), HasSubstr("case/long: manifest part 70: node"));
  node.records.erase(m.parts[70].id);
  EXPECT_THAT(Texts(vault.Fsck()), HasSubstr("case/long: manifest part 70: node"));
}

}  // namespace
}  // namespace holdfast
