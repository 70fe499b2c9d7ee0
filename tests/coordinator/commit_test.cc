// Commits, versions, sessions: what is stored, what is unchanged, what is refused.
#include <gmock/gmock.h>

#include "tests/coordinator/harness.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kStored = proto::CommitResult::STORED;
constexpr auto kUnchanged = proto::CommitResult::UNCHANGED;

StatusOr<proto::LookupReply> Lookup(TestVault& vault, const std::string& name,
                                    const std::string& version = "") {
  proto::LookupRequest request;
  request.set_collection("case");
  request.set_name(name);
  request.set_version(version);
  return vault.Rpc<proto::LookupReply>(rpc::kLookup, request);
}

class CommitTest : public ::testing::Test {
 protected:
  void SetUp() override { vault.MustOpen(); }
  TestVault vault{{}};
};

TEST_F(CommitTest, StoredObjectsAreListedAndFound) {
  auto reply = vault.Store("case", {{"b", "2"}, {"a", "1"}, {"a/x", "3"}});
  ASSERT_TRUE(reply.ok()) << reply.status();
  ASSERT_EQ(reply->results_size(), 3);
  for (const auto& result : reply->results()) EXPECT_EQ(result.state(), kStored);
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("a", "a/x", "b"));
  auto found = Lookup(vault, "a/x");
  ASSERT_TRUE(found.ok()) << found.status();
  auto row = DecodeObjectRow(found->object().row());
  ASSERT_TRUE(row.ok());
  EXPECT_EQ(row->commit_number, 1u);
  EXPECT_EQ(row->leaf_index, 2u);
  EXPECT_EQ(row->version_number, 1u);
  EXPECT_EQ(ToString(DecodeClearManifest(row->manifest)->version.bytes()),
            reply->results(2).version());
  proto::VaultStatusReply status = vault.VaultStatus();
  EXPECT_EQ(status.collections(), 1u);
  EXPECT_EQ(status.objects(), 3u);
  EXPECT_EQ(status.versions(), 3u);
  EXPECT_EQ(status.commits(), 1u);
  EXPECT_EQ(status.epoch(), 1u);
  EXPECT_EQ(status.open_sessions(), 0u);
  EXPECT_EQ(status.outbox(), 0u);
  EXPECT_EQ(status.findings_size(), 0);
  EXPECT_EQ(vault.node(0).commits().size(), 1u);
  EXPECT_EQ(Texts(vault.Fsck()), "");
}

TEST_F(CommitTest, WhatIsNotThereIsNamed) {
  EXPECT_EQ(Message(vault.Rpc<proto::ListReply>(rpc::kList, ListOf("ca\nse")).status()),
            "no collection \"ca\\x0ase\"");
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  auto missing = Lookup(vault, "b\x01");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(missing.status()), "no object \"case/b\\x01\"");
  EXPECT_EQ(Lookup(vault, "a", std::string(16, 'v')).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CommitTest, SameContentUnderTheSameNameIsUnchanged) {
  auto first = vault.Store("case", {{"a", "1"}, {"b", "2"}});
  const std::string before = vault.EverythingVisible();
  auto second = vault.Store("case", {{"b", "2"}, {"a", "1"}});
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->results(0).state(), kUnchanged);
  EXPECT_EQ(second->results(0).version(), first->results(1).version());
  EXPECT_EQ(second->results(1).version(), first->results(0).version());
  EXPECT_EQ(vault.EverythingVisible(), before);
  EXPECT_EQ(vault.VaultStatus().commits(), 1u);
  EXPECT_EQ(vault.node(0).commits().size(), 1u);
}

TEST_F(CommitTest, ChangedContentOrTypeMakesAVersion) {
  auto v1 = vault.Store("case", {{"a", "1"}});
  auto v2 = vault.Store("case", {{"a", "2"}});
  auto v3 = vault.Store("case", {{"a", "2", ObjectType::kSymlink}});
  EXPECT_EQ(v3->results(0).state(), kStored);
  EXPECT_EQ(DecodeObjectRow(Lookup(vault, "a")->object().row())->version_number, 3u);
  auto old = Lookup(vault, "a", v1->results(0).version());
  ASSERT_TRUE(old.ok());
  EXPECT_EQ(old->object().version_number(), 1u);
  EXPECT_EQ(vault.VaultStatus().objects(), 1u);
  EXPECT_EQ(vault.VaultStatus().versions(), 3u);
  // What was current once is a new version when it comes back.
  auto v4 = vault.Store("case", {{"a", "1"}});
  EXPECT_EQ(v4->results(0).state(), kStored);
  EXPECT_NE(v4->results(0).version(), v1->results(0).version());
  EXPECT_EQ(Texts(vault.Fsck()), "");
}

TEST_F(CommitTest, EqualNamesInOneRequest) {
  auto reply = vault.Store("case", {{"a", "1"}, {"a", "1"}, {"a", "2"}, {"a", "1"}});
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->results(0).state(), kStored);
  EXPECT_EQ(reply->results(1).state(), kUnchanged);
  EXPECT_EQ(reply->results(1).version(), reply->results(0).version());
  EXPECT_EQ(reply->results(2).state(), kStored);
  EXPECT_EQ(reply->results(3).state(), kStored);
  EXPECT_EQ(Lookup(vault, "a")->object().version_number(), 3u);
  EXPECT_EQ(vault.VaultStatus().objects(), 1u);
  EXPECT_EQ(vault.VaultStatus().versions(), 3u);
  EXPECT_EQ(Texts(vault.Fsck()), "");
}

TEST_F(CommitTest, LeavesCoverUnchangedObjectsToo) {
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}, {"b", "2"}}).ok());
  auto row = DecodeObjectRow(Lookup(vault, "b")->object().row());
  EXPECT_EQ(row->leaf_index, 1u);
  proto::GetSignatureRequest request;
  request.set_commit_number(2);
  auto reply = vault.Rpc<proto::GetSignatureReply>(rpc::kGetSignature, request);
  ASSERT_TRUE(reply.ok());
  auto signature = DecodeSignatureRow(reply->row());
  ASSERT_EQ(signature->leaves.size(), 2u);
  EXPECT_EQ(signature->leaves[1], ManifestLeaf(vault.options().domain, "case", row->manifest));
  request.set_commit_number(3);
  EXPECT_EQ(vault.Rpc<proto::GetSignatureReply>(rpc::kGetSignature, request).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(CommitTest, RepeatedRequestHasOneEffectAndOneAnswer) {
  SessionId session = vault.MustOpenSession();
  proto::CommitRequest request = vault.MakeCommit(session, "case", {{"a", "1"}});
  // The second copy arrives while the first is under way.
  auto first = vault.SendLater(MakeMessage(rpc::kCommit, request));
  auto second = vault.SendLater(MakeMessage(rpc::kCommit, request));
  vault.loop().RunUntil([&] { return first->has_value() && second->has_value(); });
  ASSERT_TRUE((*first)->ok());
  ASSERT_TRUE((*second)->ok());
  EXPECT_EQ((**first)->head, (**second)->head);
  EXPECT_EQ(vault.Commit(request)->results(0).state(), kStored);
  EXPECT_EQ(vault.VaultStatus().versions(), 1u);
}

TEST_F(CommitTest, ReadsWaitForTheCommitUnderWay) {
  SessionId session = vault.MustOpenSession();
  vault.node(0).silent_commits = true;
  auto commit =
      vault.SendLater(MakeMessage(rpc::kCommit, vault.MakeCommit(session, "case", {{"a", "1"}})));
  vault.loop().RunUntil([&] { return vault.node(0).commit_puts > 0; });
  auto list = vault.SendLater(MakeMessage(rpc::kList, ListOf("case")));
  vault.RunFor(1'000'000'000);
  EXPECT_FALSE(list->has_value());
  EXPECT_FALSE(commit->has_value());
  // It is answered once the commit has failed for now.
  vault.loop().RunUntil([&] { return list->has_value() && commit->has_value(); });
  EXPECT_EQ((*commit)->status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE((*list)->ok());
}

TEST_F(CommitTest, ForgedSignatureIsRefused) {
  SessionId session = vault.MustOpenSession();
  proto::CommitRequest good = vault.MakeCommit(session, "case", {{"a", "1"}, {"b", "2"}});
  auto refused = [&](proto::CommitRequest request) {
    return vault.Commit(request).status().code() == absl::StatusCode::kPermissionDenied;
  };
  proto::CommitRequest forged = good;
  forged.mutable_manifests()->SwapElements(0, 1);
  EXPECT_TRUE(refused(forged));
  forged = good;
  forged.set_collection("other case");
  EXPECT_TRUE(refused(forged));
  forged = good;
  forged.mutable_manifests()->RemoveLast();
  EXPECT_TRUE(refused(forged));
  forged = good;
  forged.set_signer_public_key(ToString(GenerateKeyPair().public_key));
  EXPECT_TRUE(refused(forged));
  forged.set_signer_public_key("short");
  EXPECT_TRUE(refused(forged));
  forged = good;
  forged.set_domain(std::string(16, 'd'));
  EXPECT_TRUE(refused(forged));
  EXPECT_EQ(vault.VaultStatus().commits(), 0u);
  EXPECT_TRUE(vault.Commit(good).ok());
}

TEST_F(CommitTest, SenselessRequestsAreRefusedByName) {
  SessionId session = vault.MustOpenSession();
  auto refuse = [&](proto::CommitRequest request) {
    vault.Sign(request);
    Status status = vault.Commit(request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return Message(status);
  };
  proto::CommitRequest good = vault.MakeCommit(session, "case", {{"a\n", "1"}, {"b", "2"}});
  proto::CommitRequest bad = good;
  bad.mutable_manifests(1)->back() ^= 1;
  EXPECT_THAT(refuse(bad), HasSubstr("object 1 of the commit"));
  bad = good;
  bad.set_collection("a/b");
  EXPECT_THAT(refuse(bad), HasSubstr("\"a/b\" cannot name a collection"));
  bad.set_collection("");
  refuse(bad);
  bad = good;
  bad.set_request("");
  EXPECT_THAT(refuse(bad), HasSubstr("request id"));
  bad = good;
  bad.clear_sealing_keys();
  EXPECT_THAT(refuse(bad), HasSubstr("case/a\\x0a: the sealing key it names was not sent"));
  bad = good;
  *bad.mutable_manifests(1) = bad.manifests(0);
  bad.set_manifests(1, [&] {
    ClearManifest m = *DecodeClearManifest(AsBytes(good.manifests(0)));
    m.name = "c";
    return ToString(EncodeClearManifest(m));
  }());
  EXPECT_THAT(refuse(bad), HasSubstr("case/c: another object of the commit has its version id"));
  ClearManifest parts = vault.MakeManifest({"p", "parts", ObjectType::kFile, 2000});
  parts.parts = {{PartId(parts.version, 0), {}}, {PartId(parts.version, 0), {}}};
  EXPECT_THAT(refuse(vault.MakeCommitOf(session, "case", {parts})),
              HasSubstr("case/p: part 1 is not named after its version"));
  parts.parts[1].id = PartId(parts.version, 1);
  EXPECT_THAT(refuse(vault.MakeCommitOf(session, "case", {parts})),
              HasSubstr("a manifest part it names was not put"));
  EXPECT_EQ(vault.VaultStatus().commits(), 0u);
  EXPECT_TRUE(vault.Commit(good).ok());
}

TEST_F(CommitTest, AMapThatIsNotKnownIsRefused) {
  SessionId session = vault.MustOpenSession();
  proto::CommitRequest request = vault.MakeCommit(session, "case", {{"a", "1"}});
  request.set_map_version(request.map_version() + 1);
  Status status = vault.Commit(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(Message(status), HasSubstr("a cluster map that is not known"));
}

TEST_F(CommitTest, SessionsAreCheckedAndRepeatable) {
  SessionId session = vault.MustOpenSession();
  proto::OpenSessionRequest open;
  open.set_domain(ToString(vault.options().domain.bytes()));
  open.set_session(ToString(session.bytes()));
  auto again = vault.Rpc<proto::OpenSessionReply>(rpc::kOpenSession, open);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->epoch(), 1u);
  EXPECT_EQ(again->map(), EncodeClusterMap(vault.options().map));
  EXPECT_EQ(vault.VaultStatus().open_sessions(), 1u);
  proto::CommitRequest request = vault.MakeCommit(session, "case", {{"a", "1"}});
  EXPECT_TRUE(vault.CloseSession(session).ok());
  EXPECT_TRUE(vault.CloseSession(session).ok());
  EXPECT_EQ(vault.CloseSession(session, true).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(vault.Commit(request).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(vault.Rpc<proto::OpenSessionReply>(rpc::kOpenSession, open).status().code(),
            absl::StatusCode::kAborted);
  open.set_domain(std::string(16, 'x'));
  EXPECT_EQ(vault.Rpc<proto::OpenSessionReply>(rpc::kOpenSession, open).status().code(),
            absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(vault.CloseSession(vault.rng().NewId<SessionId>()).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(vault.VaultStatus().open_sessions(), 0u);
}

TEST_F(CommitTest, SealingKeyIsStoredWithTheFirstObjectThatNeedsIt) {
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}}).ok());
  SessionId session = vault.MustOpenSession();
  // A session with a key of its own re-ingests first: nothing new, nothing stored.
  ClearManifest same = vault.MakeManifest({"a", "1"});
  SealingKeyId key = vault.rng().NewId<SealingKeyId>();
  same.sealing_key = key;
  proto::CommitRequest request = vault.MakeCommitOf(session, "case", {same});
  request.mutable_sealing_keys(0)->set_id(ToString(key.bytes()));
  ASSERT_EQ(vault.Commit(request)->results(0).state(), kUnchanged);
  proto::GetSealingKeyRequest get;
  get.set_id(ToString(key.bytes()));
  EXPECT_EQ(vault.Rpc<proto::GetSealingKeyReply>(rpc::kGetSealingKey, get).status().code(),
            absl::StatusCode::kNotFound);
  // Then something new, and again without the key: it is there now.
  for (const char* name : {"b", "c"}) {
    ClearManifest fresh = vault.MakeManifest({name, "2"});
    fresh.sealing_key = key;
    request = vault.MakeCommitOf(session, "case", {fresh});
    request.mutable_sealing_keys(0)->set_id(ToString(key.bytes()));
    if (name[0] == 'c') request.clear_sealing_keys();
    ASSERT_TRUE(vault.Commit(request).ok());
  }
  EXPECT_EQ(vault.Rpc<proto::GetSealingKeyReply>(rpc::kGetSealingKey, get)->box(),
            "a sealing key in its box");
}

TEST_F(CommitTest, CommitWithoutObjectsMakesTheCollection) {
  SessionId session = vault.MustOpenSession();
  ASSERT_TRUE(vault.Commit(vault.MakeCommit(session, "empty", {})).ok());
  ASSERT_TRUE(vault.Commit(vault.MakeCommit(session, "empty", {})).ok());
  EXPECT_EQ(vault.VaultStatus().collections(), 1u);
  EXPECT_EQ(vault.VaultStatus().commits(), 1u);
  EXPECT_TRUE(vault.Names(ListOf("empty")).empty());
  EXPECT_EQ(Texts(vault.Fsck()), "");
}

TEST_F(CommitTest, PartsGoToTheNodesAndComeBack) {
  SessionId session = vault.MustOpenSession();
  ClearManifest m = vault.MakeManifest({"big", "big", ObjectType::kFile, kChunksPerPart + 1});
  std::vector<ChunkRef> chunks(kChunksPerPart + 1);
  for (ChunkRef& chunk : chunks) chunk.id = vault.rng().NewId<RecordId>();
  for (const ChunkRef& chunk : chunks) vault.node(0).records[chunk.id] = {1, 0, 1, {1}, false};
  for (uint32_t i = 0; i < 2; ++i) {
    std::span<const ChunkRef> span(chunks);
    Buffer clear =
        EncodePartClear(i == 0 ? span.first(kChunksPerPart) : span.subspan(kChunksPerPart));
    Buffer sealed(50, 3);
    m.parts.push_back({PartId(m.version, i), Sha256({clear, sealed})});
    proto::PutPartRequest put;
    put.set_session(ToString(session.bytes()));
    put.set_version(ToString(m.version.bytes()));
    put.set_index(i);
    for (int repeat = 0; repeat < 2; ++repeat) {
      RpcMessage message = MakeMessage(rpc::kPutPart, put);
      message.frames = {SharedBytes::Own(clear), SharedBytes::Own(sealed)};
      auto reply = vault.Send(message);
      ASSERT_TRUE(reply.ok()) << reply.status();
    }
    proto::GetPartRequest get;
    get.set_version(ToString(m.version.bytes()));
    get.set_index(i);
    auto part = vault.Send(MakeMessage(rpc::kGetPart, get));
    ASSERT_TRUE(part.ok()) << part.status();
    EXPECT_EQ(ToString(part->frames[0].view), ToString(clear));
    EXPECT_EQ(ToString(part->frames[1].view), ToString(sealed));
  }
  EXPECT_EQ(vault.node(0).records.size(), kChunksPerPart + 1 + 2);
  ASSERT_TRUE(vault.Commit(vault.MakeCommitOf(session, "case", {m})).ok());
  EXPECT_EQ(Texts(vault.Fsck()), "");
  // A chunk that only a part names.
  vault.node(0).records.erase(chunks[kChunksPerPart].id);
  EXPECT_THAT(Texts(vault.Fsck()),
              HasSubstr("case/big: chunk " + chunks[kChunksPerPart].id.hex().substr(0, 16) +
                        " is missing on node 0"));
  vault.node(0).records[m.parts[0].id].corrupt = true;
  proto::GetPartRequest get;
  get.set_version(ToString(m.version.bytes()));
  Status status = vault.Send(MakeMessage(rpc::kGetPart, get)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), HasSubstr("node 0: corrupt"));
}

// Two replicas, and an object of two manifest parts in "case".
class SamePartsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    vault.MustOpen();
    session = vault.MustOpenSession();
    first = PutObject();
    ASSERT_TRUE(vault.Commit(vault.MakeCommitOf(session, "case", {first})).ok());
    session = vault.MustOpenSession();
  }

  // Puts the parts of another version of the same content.
  ClearManifest PutObject(const std::string& content = "big") {
    ClearManifest m = vault.MakeManifest({"big", content, ObjectType::kFile, kChunksPerPart + 1});
    std::vector<ChunkRef> chunks(kChunksPerPart + 1);
    for (ChunkRef& chunk : chunks) chunk.id = RecordId{Sha256(AsBytes("the same"))};
    for (uint32_t i = 0; i < 2; ++i) {
      std::span<const ChunkRef> span(chunks);
      Buffer clear =
          EncodePartClear(i == 0 ? span.first(kChunksPerPart) : span.subspan(kChunksPerPart));
      m.parts.push_back({PartId(m.version, i), Sha256({clear, Buffer(50, 3)})});
      proto::PutPartRequest put;
      put.set_session(ToString(session.bytes()));
      put.set_version(ToString(m.version.bytes()));
      put.set_index(i);
      RpcMessage message = MakeMessage(rpc::kPutPart, put);
      message.frames = {SharedBytes::Own(clear), SharedBytes::Own(Buffer(50, 3))};
      EXPECT_TRUE(vault.Send(message).ok());
    }
    return m;
  }

  RpcMessage SameRequest(const std::string& content) {
    proto::FindSameRequest request;
    request.set_session(ToString(session.bytes()));
    request.set_collection("case");
    request.set_name("big");
    request.set_type(static_cast<uint32_t>(ObjectType::kFile));
    request.set_tag_sha256(ToString(Sha256(AsBytes(content))));
    return MakeMessage(rpc::kFindSame, request);
  }
  // The version that has this content, whole; empty when there is none.
  std::string FindSame(const std::string& content = "big", std::string* short_version = nullptr) {
    const auto answer = vault.Send(SameRequest(content));
    auto reply = answer.ok() ? ParseHead<proto::FindSameReply>(*answer) : answer.status();
    EXPECT_TRUE(reply.ok()) << reply.status();
    if (!reply.ok()) return "";
    if (short_version != nullptr) *short_version = reply->short_version();
    return reply->version();
  }
  std::string FirstVersion() const { return ToString(first.version.bytes()); }
  proto::CommitResult::State CommitAgain(const std::string& short_version = "") {
    proto::CommitRequest request = vault.MakeCommitOf(session, "case", {PutObject()});
    if (!short_version.empty()) request.add_short_versions(short_version);
    auto reply = vault.Commit(request);
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? reply->results(0).state() : proto::CommitResult::STATE_UNSPECIFIED;
  }

  TestVault vault{{1, /*nodes=*/2, /*replicas=*/2, {}}};
  SessionId session;
  ClearManifest first;
};

TEST_F(SamePartsTest, WholePartsAreFound) {
  EXPECT_EQ(FindSame("other content"), "");
  EXPECT_EQ(FindSame(), FirstVersion());
  EXPECT_EQ(CommitAgain(), kUnchanged);
}

TEST_F(SamePartsTest, ABadCopyIsPutAgain) {
  FakeNode::Record& record = vault.node(1).records[first.parts[1].id];
  record.corrupt = true;
  EXPECT_EQ(FindSame(), FirstVersion());
  EXPECT_FALSE(record.corrupt);
  vault.node(0).records.erase(first.parts[0].id);
  EXPECT_EQ(FindSame(), FirstVersion());
  EXPECT_TRUE(vault.node(0).records.contains(first.parts[0].id));
}

TEST_F(SamePartsTest, APartWithoutAGoodCopyMakesANewVersion) {
  for (size_t i : {0, 1}) vault.node(i).records[first.parts[1].id].corrupt = true;
  std::string short_version;
  EXPECT_EQ(FindSame("big", &short_version), "");
  EXPECT_EQ(short_version, FirstVersion());
  EXPECT_EQ(CommitAgain(short_version), kStored);
  // Now it is the new one, and that one is whole.
  EXPECT_NE(FindSame(), "");
  EXPECT_NE(FindSame(), FirstVersion());
  EXPECT_EQ(CommitAgain(), kUnchanged);
}

// Who is told of it reports the object as stored: so a version whose commit is on no node yet, and
// would go with the catalogue, is not found before it is.
TEST_F(SamePartsTest, AVersionIsFoundOnceItsCommitIsOnTheNodes) {
  for (size_t i : {0, 1}) vault.node(i).silent_commits = true;
  const ClearManifest second = PutObject("other");
  EXPECT_EQ(vault.Commit(vault.MakeCommitOf(session, "case", {second})).status().code(),
            absl::StatusCode::kUnavailable);
  const auto found = vault.SendLater(SameRequest("other"));
  vault.RunFor(2'000'000'000);
  EXPECT_FALSE(found->has_value());
  for (size_t i : {0, 1}) vault.node(i).silent_commits = false;
  vault.RunFor(60'000'000'000);
  ASSERT_TRUE(found->has_value());
  ASSERT_TRUE((*found)->ok()) << (*found)->status();
  EXPECT_EQ(ParseHead<proto::FindSameReply>(***found)->version(), ToString(second.version.bytes()));
}

TEST_F(CommitTest, NewestContentIsFoundByName) {
  const auto find = [&](const std::string& collection, const std::vector<std::string>& names) {
    proto::FindContentRequest request;
    request.set_collection(collection);
    for (const std::string& name : names) request.add_names(name);
    auto reply = vault.Rpc<proto::FindContentReply>(rpc::kFindContent, request);
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? *reply : proto::FindContentReply();
  };
  ASSERT_TRUE(vault.Store("case", {{"a", "1"}, {"b", "2"}, {"gone", "3"}}).ok());
  const auto second = vault.Store("case", {{"a", "new"}, {"e", "", ObjectType::kFile, 0}});
  ASSERT_TRUE(second.ok());
  proto::RemoveRequest remove;
  remove.set_collection("case");
  remove.set_name("gone");
  remove.set_request(std::string(16, 'r'));
  ASSERT_TRUE(vault.Rpc<proto::RemoveReply>(rpc::kRemove, remove).ok());

  const auto found = find("case", {"e", "a", "none", "a", "gone"});
  ASSERT_EQ(found.contents_size(), 5);
  EXPECT_EQ(found.contents(0).version(), second->results(1).version());
  EXPECT_EQ(found.contents(0).chunks(), ToString(Sha256(Bytes())));
  EXPECT_EQ(found.contents(1).version(), second->results(0).version());
  EXPECT_EQ(found.contents(1).type(), static_cast<uint32_t>(ObjectType::kFile));
  auto row = DecodeObjectRow(Lookup(vault, "a")->object().row());
  EXPECT_EQ(found.contents(1).chunks(),
            ToString(ChunksHash(DecodeClearManifest(row->manifest)->chunks)));
  EXPECT_EQ(found.contents(3).version(), found.contents(1).version());
  for (const int none : {2, 4}) EXPECT_EQ(found.contents(none).version(), "");
  EXPECT_EQ(find("no such", {"a"}).contents(0).version(), "");
  EXPECT_EQ(found.contents(1).tag_sha256(),
            ToString(DecodeClearManifest(row->manifest)->tag_sha256.bytes()));
  EXPECT_EQ(find("case", {}).contents_size(), 0);
  EXPECT_EQ(find("case", {}).map_version(), vault.MakeCommit({}, "case", {}).map_version());
  proto::FindContentRequest too_many;
  too_many.set_collection("case");
  for (int i = 0; i < 5000; ++i) too_many.add_names("a");
  EXPECT_EQ(vault.Rpc<proto::FindContentReply>(rpc::kFindContent, too_many).status().code(),
            absl::StatusCode::kInvalidArgument);

  // Nor is a client made to wait.
  vault.node(0).silent_commits = true;
  SessionId session = vault.MustOpenSession();
  EXPECT_FALSE(vault.Commit(vault.MakeCommit(session, "case", {{"a", "newer"}})).ok());
  EXPECT_EQ(find("case", {"a"}).contents(0).version(), "");
}

TEST_F(CommitTest, FullDiskStoresNothingAndTheNextCommitWorks) {
  SessionId session = vault.MustOpenSession();
  vault.kv().before_write = [](const KvBatch&, bool) {
    return absl::ResourceExhaustedError("no space left");
  };
  EXPECT_EQ(vault.Commit(vault.MakeCommit(session, "case", {{"a", "1"}})).status().code(),
            absl::StatusCode::kResourceExhausted);
  vault.kv().before_write = nullptr;
  EXPECT_EQ(vault.VaultStatus().commits(), 0u);
  EXPECT_EQ(vault.VaultStatus().versions(), 0u);
  ASSERT_TRUE(vault.Commit(vault.MakeCommit(session, "case", {{"b", "2"}})).ok());
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("b"));
  EXPECT_EQ(Texts(vault.Fsck()), "");
}

TEST_F(CommitTest, FullNodeIsToldAtOnceAndTheCommitStandsOnceThereIsRoom) {
  SessionId session = vault.MustOpenSession();
  vault.node(0).put_error = absl::ResourceExhaustedError("the disk is full");
  const int64_t start = vault.clock().MonotonicNanos();
  for (const char* name : {"a", "b"}) {
    Status status = vault.Commit(vault.MakeCommit(session, "case", {{name, "1"}})).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(Message(status), HasSubstr("the disk is full"));
  }
  EXPECT_LT(vault.clock().MonotonicNanos() - start, 1'000'000'000);
  vault.node(0).put_error = absl::OkStatus();
  vault.RunFor(10'000'000'000);
  ASSERT_TRUE(vault.Commit(vault.MakeCommit(session, "case", {{"c", "1"}})).ok());
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("a", "c"));
  EXPECT_EQ(Texts(vault.Fsck()), "");
}

TEST_F(CommitTest, FailedDiskStopsTheCoordinator) {
  SessionId session = vault.MustOpenSession();
  vault.kv().before_write = [](const KvBatch&, bool) {
    return absl::UnavailableError("I/O error");
  };
  EXPECT_EQ(vault.Commit(vault.MakeCommit(session, "case", {{"a", "1"}})).status().code(),
            absl::StatusCode::kUnavailable);
  vault.kv().before_write = nullptr;
  Status status = vault.Commit(vault.MakeCommit(session, "case", {{"a", "1"}})).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("open the vault again"));
}

TEST_F(CommitTest, MalformedMessagesAreRefused) {
  for (uint16_t method = rpc::kOpenSession; method <= rpc::kFindContent + 1; ++method) {
    if (method > rpc::kFindSame + 1 && method < rpc::kFindContent) continue;
    RpcMessage message;
    message.method = method;
    message.head = "\xff\xff\xff";
    auto reply = vault.Send(message);
    if (method == rpc::kGetMap || method == rpc::kVaultStatus) continue;  // Ask for nothing.
    EXPECT_EQ(reply.status().code(), absl::StatusCode::kInvalidArgument) << method;
  }
  proto::CheckCatalogueRequest check;
  check.set_cursor("no cursor");
  EXPECT_EQ(vault.Rpc<proto::CheckCatalogueReply>(rpc::kCheckCatalogue, check).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace holdfast
