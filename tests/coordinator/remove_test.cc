// Removal: into the trash, back from it, and gone for good.
#include "coordinator/remove.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"
#include "tests/coordinator/harness.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr auto kStored = proto::CommitResult::STORED;
constexpr auto kUnchanged = proto::CommitResult::UNCHANGED;

class RemoveTest : public ::testing::Test {
 protected:
  explicit RemoveTest(TestVault::Options options = {}) : vault(options) { vault.MustOpen(); }

  proto::RemoveRequest RequestOf(const std::string& name) {
    proto::RemoveRequest request;
    request.set_collection("case");
    request.set_name(name);
    NewId(request);
    return request;
  }
  void NewId(proto::RemoveRequest& request) {
    Buffer id(16);
    vault.rng().Fill(id);
    request.set_request(ToString(id));
  }
  StatusOr<proto::RemoveReply> Send(const proto::RemoveRequest& request) {
    return vault.Rpc<proto::RemoveReply>(rpc::kRemove, request);
  }
  StatusOr<proto::RemoveReply> Remove(const std::string& name) { return Send(RequestOf(name)); }
  StatusOr<proto::RemoveReply> Undo(const std::string& name) {
    proto::RemoveRequest request = RequestOf(name);
    request.set_undo(true);
    return Send(request);
  }
  StatusOr<proto::RemoveReply> RemoveNow(const std::string& name) {
    proto::RemoveRequest request = RequestOf(name);
    request.set_now(true);
    return Send(request);
  }
  StatusOr<proto::LookupReply> Lookup(const std::string& name, const std::string& version = "") {
    proto::LookupRequest request;
    request.set_collection("case");
    request.set_name(name);
    request.set_version(version);
    return vault.Rpc<proto::LookupReply>(rpc::kLookup, request);
  }
  std::string VersionOf(const std::string& name) {
    const auto found = Lookup(name);
    if (!found.ok()) return "";
    return ToString(
        DecodeClearManifest(DecodeObjectRow(found->object().row())->manifest)->version.bytes());
  }
  proto::CommitResult Store(const std::string& name, const std::string& content) {
    auto reply = vault.Store("case", {{name, content}});
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? reply->results(0) : proto::CommitResult();
  }
  // "collection/name v2", in the order of removal.
  std::vector<std::string> Trash(proto::ListRequest request = {}) {
    std::vector<std::string> found;
    request.set_removed(true);
    for (bool more = true; more;) {
      auto page = vault.Rpc<proto::ListReply>(rpc::kList, request);
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok()) break;
      for (const auto& object : page->objects()) {
        EXPECT_GT(DecodeObjectRow(object.row())->removed_nanos, 0);
        found.push_back(
            absl::StrCat(object.collection(), "/", object.name(), " v", object.version_number()));
      }
      more = page->more();
      request.set_after(page->next());
    }
    return found;
  }
  void ExpectCounts(uint64_t objects, uint64_t versions) {
    const proto::VaultStatusReply status = vault.VaultStatus();
    EXPECT_EQ(status.objects(), objects);
    EXPECT_EQ(status.versions(), versions);
    EXPECT_EQ(Texts(vault.Fsck()), "");
  }
  // What is there and what is in the trash, through a rebuild as before.
  void ExpectRebuilds() {
    const std::string visible = vault.EverythingVisible();
    const auto trash = Trash();
    const proto::VaultStatusReply before = vault.VaultStatus();
    const auto report = vault.Rebuild();
    ASSERT_TRUE(report.ok()) << report.status();
    vault.MustOpen();
    EXPECT_EQ(vault.EverythingVisible(), visible);
    EXPECT_EQ(Trash(), trash);
    ExpectCounts(before.objects(), before.versions());
  }

  TestVault vault;
};

TEST_F(RemoveTest, WhatIsRemovedIsNotSeenAndComesBack) {
  Store("a", "1");
  const std::string second = Store("a", "2").version();
  Store("b", "1");
  const std::string before = vault.EverythingVisible();
  auto reply = Remove("a");
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->objects(), 1u);
  EXPECT_EQ(reply->versions(), 2u);
  EXPECT_EQ(reply->after(), "");
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("b"));
  proto::ListRequest all = ListOf("case");
  all.set_all_versions(true);
  EXPECT_THAT(vault.Names(all), ElementsAre("b"));
  EXPECT_TRUE(absl::IsNotFound(Lookup("a").status()));
  EXPECT_TRUE(absl::IsNotFound(Lookup("a", second).status()));
  EXPECT_THAT(Trash(), ElementsAre("case/a v2", "case/a v1"));
  ExpectCounts(1, 1);
  ExpectRebuilds();

  reply = Undo("a");
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->objects(), 1u);
  EXPECT_EQ(reply->versions(), 2u);
  EXPECT_EQ(vault.EverythingVisible(), before);
  EXPECT_THAT(Trash(), IsEmpty());
  ExpectCounts(2, 3);
  ExpectRebuilds();
}

TEST_F(RemoveTest, TheSameContentAgainIsANewVersionWithANewNumber) {
  const std::string first = Store("a", "1").version();
  ASSERT_TRUE(Remove("a").ok());
  const proto::CommitResult again = Store("a", "1");
  EXPECT_EQ(again.state(), kStored);
  EXPECT_NE(again.version(), first);
  EXPECT_EQ(Lookup("a")->object().version_number(), 2u);
  ExpectCounts(1, 1);
  EXPECT_EQ(Store("a", "1").state(), kUnchanged);
  // The old one comes back below it.
  ASSERT_TRUE(Undo("a").ok());
  EXPECT_EQ(VersionOf("a"), again.version());
  EXPECT_TRUE(Lookup("a", first).ok());
  ExpectCounts(1, 2);
  ExpectRebuilds();
}

TEST_F(RemoveTest, OneVersionOfSeveral) {
  const std::string first = Store("a", "1").version();
  const std::string second = Store("a", "2").version();
  proto::RemoveRequest request = RequestOf("a");
  request.set_version(second);
  auto reply = Send(request);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->versions(), 1u);
  EXPECT_EQ(VersionOf("a"), first);
  ExpectCounts(1, 1);
  // The newest that is there counts, and the highest number.
  EXPECT_EQ(Store("a", "1").state(), kUnchanged);
  EXPECT_EQ(Store("a", "2").state(), kStored);
  EXPECT_EQ(Lookup("a")->object().version_number(), 3u);
  ExpectCounts(1, 2);
  request.set_undo(true);
  NewId(request);
  ASSERT_TRUE(Send(request).ok());
  EXPECT_TRUE(Lookup("a", second).ok());
  ExpectCounts(1, 3);
  request.set_version(std::string(16, 'v'));
  NewId(request);
  EXPECT_EQ(Message(Send(request).status()),
            "nothing of version 76767676767676767676767676767676 of case/a is removed");
  request.set_undo(false);
  NewId(request);
  EXPECT_TRUE(absl::IsNotFound(Send(request).status()));
}

TEST_F(RemoveTest, UndoBringsBackWhatWasRemovedLast) {
  Store("a", "1");
  ASSERT_TRUE(Remove("a").ok());
  Store("a", "2");
  ASSERT_TRUE(Remove("a").ok());
  EXPECT_THAT(Trash(), ElementsAre("case/a v1", "case/a v2"));
  ASSERT_TRUE(Undo("a").ok());
  EXPECT_EQ(Lookup("a")->object().version_number(), 2u);
  ExpectCounts(1, 1);
  ASSERT_TRUE(Undo("a").ok());
  ExpectCounts(1, 2);
  EXPECT_TRUE(absl::IsNotFound(Undo("a").status()));
}

// Whatever the clock says: two removals of a name can be told apart.
TEST_F(RemoveTest, AClockThatStandsStillDoesNotMixRemovals) {
  const std::string first = Store("a", "1").version();
  const std::string second = Store("a", "2").version();
  Catalogue catalogue(vault.kv());
  Counters counters = *catalogue.GetCounters();
  const int64_t now = 17;  // Long before the last commit.
  std::vector<int64_t> times;
  for (const std::string& version : {second, first}) {
    proto::RemoveRequest request = RequestOf("a");
    request.set_version(version);
    auto plan = PlanRemove(counters, catalogue, now, request);
    ASSERT_TRUE(plan.ok()) << plan.status();
    counters = plan->commit.counters;
    times.push_back(counters.last_commit_nanos);
    ASSERT_TRUE(vault.kv().Write(plan->commit.mutations, true).ok());
  }
  EXPECT_LT(times[0], times[1]);
  EXPECT_EQ(counters.objects, 0u);
  EXPECT_EQ(counters.versions, 0u);
}

TEST_F(RemoveTest, RecursivelyByComponents) {
  ASSERT_TRUE(vault
                  .Store("case", {{"d", "", ObjectType::kDirectory, 0},
                                  {"d/1", "1"},
                                  {"d/e", "", ObjectType::kDirectory, 0},
                                  {"d/e/2", "2"},
                                  {"d!", "3"},
                                  {"dd", "4"}})
                  .ok());
  auto reply = Remove("d");
  EXPECT_EQ(reply.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(reply.status()), HasSubstr("case/d is a directory, and not empty"));
  proto::RemoveRequest request = RequestOf("d/");
  request.set_recursive(true);
  reply = Send(request);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->objects(), 4u);
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("d!", "dd"));
  ExpectCounts(2, 2);
  // An empty directory is an object like others.
  ASSERT_TRUE(Undo("d").ok());
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("d", "d!", "dd"));
  ASSERT_TRUE(Remove("d").ok());

  request = RequestOf("");
  EXPECT_TRUE(absl::IsInvalidArgument(Send(request).status()));
  request.set_recursive(true);
  reply = Send(request);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->objects(), 2u);
  EXPECT_THAT(vault.Names(ListOf("case")), IsEmpty());
  ExpectCounts(0, 0);
  EXPECT_EQ(vault.VaultStatus().collections(), 1u);
  ExpectRebuilds();
  request.set_undo(true);
  NewId(request);
  EXPECT_EQ(Send(request)->objects(), 6u);
  ExpectCounts(6, 6);
}

TEST_F(RemoveTest, WhatMakesNoSenseIsRefused) {
  Store("a", "1");
  EXPECT_EQ(Message(Remove("b\n").status()), "no object \"case/b\\x0a\"");
  EXPECT_TRUE(absl::IsNotFound(Undo("a").status()));
  EXPECT_TRUE(absl::IsNotFound(RemoveNow("b").status()));
  proto::RemoveRequest request = RequestOf("a");
  request.set_collection("none");
  EXPECT_TRUE(absl::IsNotFound(Send(request).status()));
  const auto refused = [&](const std::function<void(proto::RemoveRequest&)>& spoil) {
    proto::RemoveRequest bad = RequestOf("a");
    spoil(bad);
    return absl::IsInvalidArgument(Send(bad).status());
  };
  EXPECT_TRUE(refused([](auto& r) { r.set_request("short"); }));
  EXPECT_TRUE(refused([](auto& r) { r.set_version("short"); }));
  EXPECT_TRUE(refused([](auto& r) {
    r.set_version(std::string(16, 'v'));
    r.set_recursive(true);
  }));
  EXPECT_TRUE(refused([](auto& r) {
    r.set_undo(true);
    r.set_now(true);
  }));
  EXPECT_TRUE(refused([](auto& r) { r.set_after("nonsense"); }));
  ExpectCounts(1, 1);
  EXPECT_EQ(vault.VaultStatus().commits(), 1u);
  // Nobody makes the time of a removal but the coordinator.
  Buffer cursor;
  Writer writer(cursor);
  writer.U8(1);
  writer.I64(INT64_MAX);
  writer.Blob("a");
  request = RequestOf("a");
  request.set_after(ToString(cursor));
  EXPECT_EQ(Send(request)->versions(), 1u);
  EXPECT_LE(vault.VaultStatus().last_commit_nanos(), vault.clock().WallNanos());
}

// A name with more versions than one commit takes, among others: counted rightly all the way.
TEST_F(RemoveTest, ManyVersionsTakeSeveralCommits) {
  std::vector<TestObject> objects;
  for (int i = 0; i < 2300; ++i) objects.push_back({"many", absl::StrCat(i)});
  for (int i = 0; i < 1200; ++i) objects.push_back({absl::StrCat("n", 1000 + i), "same"});
  ASSERT_TRUE(vault.Store("case", objects).ok());
  proto::RemoveRequest request = RequestOf("");
  request.set_recursive(true);
  const auto run = [&] {
    std::vector<uint64_t> versions;
    uint64_t names = 0;
    request.clear_after();
    do {
      NewId(request);
      auto reply = Send(request);
      EXPECT_TRUE(reply.ok()) << reply.status();
      if (!reply.ok()) break;
      versions.push_back(reply->versions());
      names += reply->objects();
      request.set_after(reply->after());
      EXPECT_EQ(Texts(vault.Fsck()), "");
    } while (!request.after().empty());
    EXPECT_EQ(names, 1201u);
    return versions;
  };
  EXPECT_THAT(run(), ElementsAre(1000, 1000, 1000, 500));
  ExpectCounts(0, 0);
  EXPECT_THAT(Trash(), SizeIs(3500));
  request.set_undo(true);
  EXPECT_THAT(run(), ElementsAre(1000, 1000, 1000, 500));
  ExpectCounts(1201, 3500);
  EXPECT_TRUE(absl::IsNotFound(Undo("many").status())) << "it was one removal";
  request.set_undo(false);
  request.set_now(true);
  EXPECT_THAT(run(), ElementsAre(1000, 1000, 1000, 500));
  ExpectCounts(0, 0);
  EXPECT_THAT(Trash(), IsEmpty());
}

TEST_F(RemoveTest, RepeatedRequestHasOneEffectAndOneAnswer) {
  Store("a", "1");
  ASSERT_TRUE(Remove("a").ok());
  Store("a", "2");
  const proto::RemoveRequest remove = RequestOf("a");
  proto::RemoveRequest undo = RequestOf("a");
  undo.set_undo(true);
  proto::RemoveRequest now = RequestOf("a");
  now.set_now(true);
  const auto twice = [&](const proto::RemoveRequest& request) {
    const auto first = Send(request), second = Send(request);
    ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
    EXPECT_EQ(first->SerializeAsString(), second->SerializeAsString());
    vault.Crash();
    vault.MustOpen();
    const auto third = Send(request);
    ASSERT_TRUE(third.ok()) << third.status();
    EXPECT_EQ(first->SerializeAsString(), third->SerializeAsString());
  };
  twice(remove);
  EXPECT_THAT(Trash(), ElementsAre("case/a v1", "case/a v2"));
  twice(undo);
  EXPECT_THAT(Trash(), ElementsAre("case/a v1"));
  twice(remove);
  EXPECT_EQ(Lookup("a")->object().version_number(), 2u) << "from before the undo";
  twice(now);
  EXPECT_THAT(Trash(), IsEmpty());
  ExpectCounts(0, 0);
  // A new request finds nothing to do: that is no error while the rows are there.
  Store("b", "1");
  ASSERT_TRUE(Remove("b").ok());
  const uint64_t commits = vault.VaultStatus().commits();
  EXPECT_EQ(Remove("b")->versions(), 0u);
  EXPECT_EQ(vault.VaultStatus().commits(), commits);
}

TEST_F(RemoveTest, ForGoodTakesTheRowsAway) {
  const std::string first = Store("a", "1").version();
  Store("a", "2");
  Store("b", "1");
  ASSERT_TRUE(Remove("b").ok());
  auto reply = RemoveNow("a");
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->versions(), 2u);
  EXPECT_EQ(RemoveNow("b")->versions(), 1u);
  EXPECT_THAT(Trash(), IsEmpty());
  for (const std::string& key :
       {ObjectKey(1, "a", 1), ObjectKey(1, "a", 2), ObjectKey(1, "b", 1)}) {
    EXPECT_FALSE(vault.kv().Get(key)->has_value());
  }
  EXPECT_TRUE(vault.kv().Get(SignatureKey(1))->has_value());
  EXPECT_TRUE(absl::IsNotFound(Undo("a").status()));
  EXPECT_EQ(vault.VaultStatus().collections(), 1u);
  ExpectCounts(0, 0);
  ExpectRebuilds();
  EXPECT_EQ(Store("a", "1").state(), kStored);
  EXPECT_NE(VersionOf("a"), first);
  ExpectCounts(1, 1);
  ExpectRebuilds();
}

TEST_F(RemoveTest, PurgeTakesWhatIsLongInTheTrash) {
  for (const char* name : {"a", "b", "c", "d"}) Store(name, "1");
  for (const char* name : {"c", "a", "b"}) {
    ASSERT_TRUE(Remove(name).ok());
    vault.RunFor(1'000'000'000);
  }
  Catalogue catalogue(vault.kv());
  const Counters counters = *catalogue.GetCounters();
  const int64_t b_removed = DecodeObjectRow(**vault.kv().Get(ObjectKey(1, "b", 1)))->removed_nanos;
  std::string cursor;
  auto plan = PlanPurge(counters, catalogue, 0, 10, &cursor);
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->mutations, IsEmpty());
  EXPECT_EQ(cursor, "");
  plan = PlanPurge(counters, catalogue, b_removed, 1, &cursor);
  EXPECT_NE(cursor, "");
  EXPECT_THAT(plan->mutations, SizeIs(3));
  ASSERT_TRUE(vault.kv().Write(plan->mutations, true).ok());
  EXPECT_THAT(Trash(), ElementsAre("case/a v1", "case/b v1"));
  EXPECT_FALSE(vault.kv().Get(ObjectKey(1, "c", 1))->has_value());
  plan = PlanPurge(counters, catalogue, b_removed, 10, &cursor);
  EXPECT_EQ(cursor, "");
  EXPECT_EQ(EncodeCounters(plan->counters), EncodeCounters(counters)) << "they counted no more";
  ASSERT_TRUE(vault.kv().Write(plan->mutations, true).ok());
  EXPECT_THAT(Trash(), ElementsAre("case/b v1"));
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("d"));
  EXPECT_TRUE(vault.kv().Get(CollectionKey("case"))->has_value());
  EXPECT_TRUE(Undo("b").ok());
  // A row of the trash whose version is there, as where commits were lost: the version stays.
  ASSERT_TRUE(
      vault.kv().Write({{RemovedKey(5, ObjectKey(1, "d", 1)), EncodeRemovedRow()}}, true).ok());
  EXPECT_THAT(Trash(), IsEmpty());
  EXPECT_THAT(Texts(vault.Fsck()), HasSubstr("case/d: listed in the trash, but not removed"));
  plan = PlanPurge(*catalogue.GetCounters(), catalogue, b_removed, 10, &cursor);
  EXPECT_THAT(plan->mutations, SizeIs(2));
  ASSERT_TRUE(vault.kv().Write(plan->mutations, true).ok());
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("b", "d"));
}

TEST_F(RemoveTest, TrashIsListedByCollectionAndPrefix) {
  Store("x/1", "1");
  Store("y", "1");
  ASSERT_TRUE(vault.Store("other", {{"x/2", "2"}}).ok());
  proto::RemoveRequest request = RequestOf("x/2");
  request.set_collection("other");
  ASSERT_TRUE(Remove("y").ok());
  ASSERT_TRUE(Send(request).ok());
  ASSERT_TRUE(Remove("x/1").ok());
  EXPECT_THAT(Trash(), ElementsAre("case/y v1", "other/x/2 v1", "case/x/1 v1"));
  proto::ListRequest list;
  list.set_limit(1);
  EXPECT_THAT(Trash(list), SizeIs(3));
  list.set_prefix("x");
  EXPECT_THAT(Trash(list), ElementsAre("other/x/2 v1", "case/x/1 v1"));
  list.set_collection("case");
  EXPECT_THAT(Trash(list), ElementsAre("case/x/1 v1"));
  list.set_prefix("x/1/");
  EXPECT_THAT(Trash(list), IsEmpty());
  list.set_by_component(true);
  EXPECT_THAT(Trash(list), ElementsAre("case/x/1 v1"));
  list.set_removed(true);
  list.set_collection("none");
  EXPECT_TRUE(absl::IsNotFound(vault.Rpc<proto::ListReply>(rpc::kList, list).status()));
}

TEST_F(RemoveTest, FsckFindsATrashThatDoesNotAddUp) {
  Store("a", "1");
  Store("b", "1");
  Store("c", "1");
  ASSERT_TRUE(Remove("a").ok());
  ASSERT_TRUE(RemoveNow("b").ok());
  const auto row = DecodeObjectRow(**vault.kv().Get(ObjectKey(1, "a", 1)));
  const std::string key = RemovedKey(row->removed_nanos, ObjectKey(1, "a", 1));
  ASSERT_TRUE(vault.kv().Write({{key, std::nullopt}}, true).ok());
  EXPECT_THAT(Texts(vault.Fsck()), HasSubstr("case/a: it is removed, but not listed in the trash"));
  ASSERT_TRUE(vault.kv().Write({{key, EncodeRemovedRow()}}, true).ok());
  EXPECT_EQ(Texts(vault.Fsck()), "");
  // A row that is lost is told from one that was removed for good.
  ASSERT_TRUE(vault.kv().Write({{ObjectKey(1, "c", 1), std::nullopt}}, true).ok());
  const std::string texts = Texts(vault.Fsck());
  EXPECT_THAT(texts, HasSubstr("case/c: the catalogue's row is gone, but it is in commit 3"));
  EXPECT_THAT(texts, ::testing::Not(HasSubstr("case/b")));
}

// C1, for a commit that deletes rows: its record is made again of what is no longer there.
TEST_F(RemoveTest, ARecordOfDeletionsIsSentAgainAfterACrash) {
  Store("a", "1");
  Store("b", "1");
  ASSERT_TRUE(Remove("a").ok());
  vault.node(0).silent_commits = true;
  const uint64_t puts = vault.node(0).commit_puts;
  proto::RemoveRequest request = RequestOf("");
  request.set_recursive(true);
  request.set_now(true);
  auto slot = vault.SendLater(MakeMessage(rpc::kRemove, request));
  vault.loop().RunUntil([&] { return vault.node(0).commit_puts > puts; });
  vault.Crash();
  EXPECT_THAT(vault.node(0).commits(), SizeIs(3));
  vault.node(0).silent_commits = false;
  // Open makes it again, and refuses if its hash is not the one in the head.
  ASSERT_TRUE(vault.Open().ok());
  const auto commits = vault.node(0).commits();
  ASSERT_THAT(commits, SizeIs(4));
  const Buffer& record = vault.node(0).records.at(commits.rbegin()->second).payload;
  EXPECT_EQ(Sha256(record), (*Catalogue(vault.kv()).FindHead())->hash);
  const auto decoded =
      DecodeCommitRecord(vault.options().keys.commit, vault.options().vault, record);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  std::vector<std::string> deleted;
  for (const KvMutation& mutation : decoded->mutations) {
    if (!mutation.value) deleted.push_back(mutation.key.substr(0, 1));
  }
  EXPECT_THAT(deleted, UnorderedElementsAre("o", "o", "r"));
  EXPECT_THAT(vault.Names(ListOf("case")), IsEmpty());
  EXPECT_EQ(Send(request)->versions(), 2u) << "asked again";
  ExpectCounts(0, 0);
  ExpectRebuilds();
}

TEST_F(RemoveTest, ACrashBeforeTheCatalogueIsSyncedRemovesNothing) {
  Store("a", "1");
  bool writing = false;
  vault.kv().before_write = [&](const KvBatch&, bool) {
    writing = true;
    return absl::UnavailableError("the power is gone");
  };
  auto slot = vault.SendLater(MakeMessage(rpc::kRemove, RequestOf("a")));
  vault.loop().RunUntil([&] { return writing; });
  vault.Crash();
  ASSERT_TRUE(vault.Open().ok());
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("a"));
  ExpectCounts(1, 1);
}

// Pages of a backup are of different times; what was removed meanwhile comes from the nodes.
TEST_F(RemoveTest, ABackupTakenMeanwhileIsCompleted) {
  const std::string pad(1000, 'n');
  std::vector<TestObject> objects;
  for (int i = 0; i < 6000; ++i) objects.push_back({absl::StrCat(1000 + i, pad), "1"});
  ASSERT_TRUE(vault.Store("case", objects).ok());
  ASSERT_TRUE(Remove(objects[0].name).ok());
  ASSERT_TRUE(Remove(objects[5000].name).ok());
  int page = 0;
  const auto backup = vault.Backup([&] {
    if (page++ > 0) return;
    ASSERT_TRUE(Undo(objects[0].name).ok());
    ASSERT_TRUE(RemoveNow(objects[5000].name).ok());
    ASSERT_TRUE(Remove(objects[1].name).ok());
    ASSERT_TRUE(Remove(objects[5999].name).ok());
  });
  ASSERT_TRUE(backup.ok()) << backup.status();
  EXPECT_GT(page, 1);
  const std::string visible = vault.EverythingVisible();
  const auto trash = Trash();
  EXPECT_THAT(trash, SizeIs(2));
  ASSERT_TRUE(vault.Rebuild(*backup).ok());
  vault.MustOpen();
  EXPECT_EQ(vault.EverythingVisible(), visible);
  EXPECT_EQ(Trash(), trash);
  ExpectCounts(5997, 5997);
}

TEST_F(RemoveTest, ALostRecordOfARemovalLosesNothing) {
  Store("a", "1");
  ASSERT_TRUE(RemoveNow("a").ok());
  Store("b", "1");
  vault.node(0).DropCommit(2);
  auto report = vault.Rebuild();
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->missing_commits, ElementsAre(2));
  vault.MustOpen();
  EXPECT_THAT(vault.Names(ListOf("case")), ElementsAre("a", "b"));
}

class RemoveInClusterTest : public RemoveTest {
 protected:
  RemoveInClusterTest() : RemoveTest({.nodes = 3, .replicas = 2, .cluster = true}) {}
};

TEST_F(RemoveInClusterTest, BesideChangesOfTheCluster) {
  for (uint8_t i = 0; i < 3; ++i) {
    proto::AddNodeRequest request;
    request.set_id(std::string(16, static_cast<char>(i + 1)));
    request.set_public_key(std::string(32, static_cast<char>(i + 0x81)));
    request.set_endpoint(absl::StrCat("tcp://10.0.0.", i, ":7410"));
    request.set_weight(1);
    request.set_failure_domain(absl::StrCat("site/rack/host", i, "/disk"));
    ASSERT_TRUE(vault.Rpc<proto::AddNodeReply>(rpc::kAddNode, request).ok());
  }
  const auto map = vault.Rpc<proto::GetMapReply>(rpc::kGetMap, proto::GetMapRequest());
  vault.mutable_options().map = *DecodeClusterMap(map->map());
  Store("a", "1");
  ASSERT_TRUE(Remove("a").ok());
  proto::SetPrincipalRequest request;
  request.mutable_principal()->set_key(std::string(32, 'k'));
  request.mutable_principal()->set_roles(8);
  ASSERT_TRUE(vault.Rpc<proto::SetPrincipalReply>(rpc::kSetPrincipal, request).ok());
  request.mutable_principal()->set_revoked(true);
  ASSERT_TRUE(vault.Rpc<proto::SetPrincipalReply>(rpc::kSetPrincipal, request).ok());
  ExpectCounts(0, 0);  // A row that a later commit changed is no finding.
  ASSERT_TRUE(Undo("a").ok());
  ExpectCounts(1, 1);
}

// Stores, removals and crashes as a seed has it, against a plain list of what should be there.
class SeededRemoval : public RemoveTest {
 protected:
  struct Version {
    std::string content;
    int removal = 0;  // Which; 0: it is there.
  };
  using Versions = std::vector<Version>;  // Newest last.

  explicit SeededRemoval(uint64_t seed) : RemoveTest({.seed = seed, .nodes = 3, .replicas = 2}) {}
  void TestBody() override {}

 public:
  static void Run(uint64_t seed) { SeededRemoval(seed).RunSteps(); }

 private:
  void RunSteps() {
    for (int step = 0; step < 40 && !HasFailure(); ++step) {
      const std::string name = absl::StrCat("n", vault.rng().Below(3));
      Step(name, vault.rng().Below(8));
      Check();
    }
    ExpectRebuilds();
    Check();
  }

  void Step(const std::string& name, uint64_t what) {
    Versions& versions = model_[name];
    if (what < 4) {
      const std::string content = absl::StrCat(vault.rng().Below(3));
      const Version* newest = nullptr;
      for (const Version& v : versions) newest = v.removal == 0 ? &v : newest;
      const bool same = newest != nullptr && newest->content == content;
      EXPECT_EQ(Store(name, content).state(), same ? kUnchanged : kStored);
      if (!same) versions.push_back({content});
    } else if (what == 4) {
      const auto reply = RemoveNow(name);
      EXPECT_EQ(reply.ok(), !versions.empty()) << reply.status();
      versions.clear();
    } else if (what == 5) {
      vault.Crash();
      vault.MustOpen();
    } else if (what == 6) {
      int last = 0;
      for (const Version& v : versions) last = std::max(last, v.removal);
      EXPECT_EQ(Undo(name).ok(), last != 0);
      for (Version& v : versions) v.removal = v.removal == last ? 0 : v.removal;
    } else {
      EXPECT_EQ(Remove(name).ok(), !versions.empty());
      ++removals_;
      for (Version& v : versions) v.removal = v.removal == 0 ? removals_ : v.removal;
    }
  }

  void Check() {
    std::vector<std::string> names;
    uint64_t versions = 0;
    for (const auto& [name, all] : model_) {
      const auto there = std::ranges::count_if(all, [](const Version& v) { return !v.removal; });
      if (there > 0) names.push_back(name);
      versions += static_cast<uint64_t>(there);
    }
    if (vault.VaultStatus().collections() > 0) {
      EXPECT_EQ(vault.Names(ListOf("case")), names);
    }
    ExpectCounts(names.size(), versions);
  }

  std::map<std::string, Versions> model_;
  int removals_ = 0;
};

TEST(SeededRemovalTest, AgreesWithAPlainList) {
  for (uint64_t seed = 1; seed <= 25 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    SeededRemoval::Run(seed);
  }
}

}  // namespace
}  // namespace holdfast
