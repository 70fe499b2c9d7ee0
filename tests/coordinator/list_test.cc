// Listings: byte order, pages, prefixes, versions, damage.
#include <gmock/gmock.h>

#include "tests/coordinator/harness.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

proto::ListRequest ListCase(const std::string& prefix = "", bool by_component = false) {
  proto::ListRequest request;
  request.set_collection("case");
  request.set_prefix(prefix);
  request.set_by_component(by_component);
  return request;
}

class ListTest : public ::testing::Test {
 protected:
  void SetUp() override { vault.MustOpen(); }
  void Store(const std::vector<std::string>& names) {
    std::vector<TestObject> objects;
    for (const std::string& name : names) objects.push_back({name, "of " + name});
    ASSERT_TRUE(vault.Store("case", objects).ok());
  }
  TestVault vault{{}};
};

TEST_F(ListTest, NamesOfOddBytesComeInByteOrderWhateverThePage) {
  std::vector<std::string> names;
  for (int c = 1; c < 256; ++c) {
    names.push_back(std::string(1, static_cast<char>(c)));
    names.push_back(std::string("a") + static_cast<char>(c));
    names.push_back(std::string("a") + static_cast<char>(c) + "\xff");
  }
  names.push_back(std::string(4000, 'n'));
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::vector<std::string> shuffled = names;
  for (size_t i = shuffled.size(); i > 1; --i) {
    std::swap(shuffled[i - 1], shuffled[vault.rng().Below(i)]);
  }
  Store(shuffled);
  for (uint32_t limit : {0u, 1u, 2u, 97u, 10'000u, 4'000'000u}) {
    proto::ListRequest request = ListCase();
    request.set_limit(limit);
    EXPECT_EQ(vault.Names(request), names) << limit;
  }
  // Also with versions.
  Store({"a"});
  ASSERT_TRUE(vault.Store("case", {{"a", "v2"}, {"a\xff", "v2"}}).ok());
  for (uint32_t limit : {1u, 2u, 5u}) {
    proto::ListRequest request = ListCase();
    request.set_limit(limit);
    EXPECT_EQ(vault.Names(request), names) << limit;
  }
}

TEST_F(ListTest, PrefixIsByByteUnlessByComponent) {
  Store({"a", "a!", "a/", "a/b", "a/b/c", "a0", "ab", "b"});
  EXPECT_THAT(vault.Names(ListCase("a")), ElementsAre("a", "a!", "a/", "a/b", "a/b/c", "a0", "ab"));
  EXPECT_THAT(vault.Names(ListCase("a/b")), ElementsAre("a/b", "a/b/c"));
  EXPECT_THAT(vault.Names(ListCase("a", true)), ElementsAre("a", "a/", "a/b", "a/b/c"));
  EXPECT_THAT(vault.Names(ListCase("a/", true)), ElementsAre("a", "a/", "a/b", "a/b/c"));
  EXPECT_THAT(vault.Names(ListCase("a//", true)), ElementsAre("a", "a/", "a/b", "a/b/c"));
  EXPECT_EQ(vault.Names(ListCase("", true)).size(), 8u);
  EXPECT_EQ(vault.Names(ListCase("/", true)).size(), 8u);
  EXPECT_THAT(vault.Names(ListCase("a/b", true)), ElementsAre("a/b", "a/b/c"));
  EXPECT_THAT(vault.Names(ListCase("c")), IsEmpty());
  EXPECT_THAT(vault.Names(ListCase("a/b/c/d", true)), IsEmpty());
  for (uint32_t limit = 1; limit < 5; ++limit) {
    proto::ListRequest request = ListCase("a", true);
    request.set_limit(limit);
    EXPECT_THAT(vault.Names(request), ElementsAre("a", "a/", "a/b", "a/b/c"));
  }
}

TEST_F(ListTest, PrefixOfTopBytes) {
  Store({"\xff", "\xff\xff", "\xff\xff\xff", "\xfe"});
  EXPECT_THAT(vault.Names(ListCase("\xff")), ElementsAre("\xff", "\xff\xff", "\xff\xff\xff"));
  EXPECT_THAT(vault.Names(ListCase("\xff\xff")), ElementsAre("\xff\xff", "\xff\xff\xff"));
}

TEST_F(ListTest, RandomNamesAgreeWithASortedSet) {
  std::set<std::string> names;
  std::vector<std::string> batch;
  for (int i = 0; i < 600; ++i) {
    std::string name;
    for (uint64_t n = 1 + vault.rng().Below(5); n > 0; --n)
      name += "/a\x01\xff."[vault.rng().Below(5)];
    names.insert(name);
    batch.push_back(name);
    if (batch.size() == 50) {
      Store(batch);
      batch.clear();
    }
  }
  for (int i = 0; i < 60; ++i) {
    std::string prefix;
    for (uint64_t n = vault.rng().Below(4); n > 0; --n)
      prefix += "/a\x01\xff."[vault.rng().Below(5)];
    const bool by_component = vault.rng().Below(2) == 0;
    std::string stem = prefix;
    while (by_component && stem.ends_with('/')) stem.pop_back();
    std::vector<std::string> expected;
    for (const std::string& name : names) {
      if (by_component && !stem.empty() ? name == stem || name.starts_with(stem + "/")
                                        : name.starts_with(stem)) {
        expected.push_back(name);
      }
    }
    proto::ListRequest request = ListCase(prefix, by_component);
    request.set_limit(static_cast<uint32_t>(1 + vault.rng().Below(40)));
    EXPECT_EQ(vault.Names(request), expected) << prefix << by_component;
  }
}

TEST_F(ListTest, AllVersionsOfANameStayOnOnePage) {
  for (int v = 1; v <= 5; ++v) {
    ASSERT_TRUE(vault.Store("case", {{"a", std::to_string(v)}, {"b", "same"}}).ok());
  }
  proto::ListRequest request = ListCase();
  request.set_all_versions(true);
  request.set_limit(2);
  request.set_with_rows(true);
  auto page = vault.Rpc<proto::ListReply>(rpc::kList, request);
  ASSERT_TRUE(page.ok());
  ASSERT_EQ(page->objects_size(), 5);
  EXPECT_TRUE(page->more());
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(page->objects(i).version_number(), 5u - i);
    EXPECT_EQ(DecodeObjectRow(page->objects(i).row())->version_number, 5u - i);
  }
  request.set_after("a");
  page = vault.Rpc<proto::ListReply>(rpc::kList, request);
  ASSERT_EQ(page->objects_size(), 1);
  EXPECT_EQ(page->objects(0).name(), "b");
  EXPECT_FALSE(page->more());
}

TEST_F(ListTest, RowsOnlyWhenAsked) {
  Store({"a"});
  EXPECT_EQ(vault.Rpc<proto::ListReply>(rpc::kList, ListCase())->objects(0).row(), "");
  proto::ListRequest request = ListCase();
  request.set_with_rows(true);
  EXPECT_NE(vault.Rpc<proto::ListReply>(rpc::kList, request)->objects(0).row(), "");
}

TEST_F(ListTest, CollectionsAreApart) {
  Store({"a"});
  ASSERT_TRUE(vault.Store("other\xff", {{"x", "1"}}).ok());
  EXPECT_THAT(vault.Names(ListCase()), ElementsAre("a"));
  auto reply = vault.Rpc<proto::ListCollectionsReply>(rpc::kListCollections,
                                                      proto::ListCollectionsRequest());
  ASSERT_EQ(reply->collections_size(), 2);
  EXPECT_EQ(reply->collections(0).name(), "case");
  EXPECT_EQ(reply->collections(1).name(), "other\xff");
  EXPECT_GT(reply->collections(0).created_nanos(), 0);
}

TEST_F(ListTest, DamagedRowIsAnErrorThatNamesIt) {
  Store({"a", "b\n", "c"});
  const std::string key = ObjectKey(1, "b\n", 1);
  const std::string good = **vault.kv().Get(key);
  auto list = [&](bool rows) {
    proto::ListRequest request = ListCase();
    request.set_with_rows(rows);
    return vault.Rpc<proto::ListReply>(rpc::kList, request).status();
  };
  proto::LookupRequest lookup;
  lookup.set_collection("case");
  lookup.set_name("b\n");
  for (size_t at : {size_t{1}, good.size() / 2, good.size() - 1}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    ASSERT_TRUE(vault.kv().Write({{key, bad}}, true).ok());
    Status listed = list(true),
           found = vault.Rpc<proto::LookupReply>(rpc::kLookup, lookup).status();
    // A flip in the commit number is for the signature to find, not for a listing.
    if (at == 1) continue;
    EXPECT_EQ(listed.code(), absl::StatusCode::kDataLoss) << at;
    EXPECT_THAT(Message(listed), HasSubstr("case/b\\x0a"));
    EXPECT_EQ(found.code(), absl::StatusCode::kDataLoss);
    EXPECT_FALSE(vault.Store("case", {{"b\n", "new"}}).ok());
  }
  ASSERT_TRUE(vault.kv().Write({{key, good.substr(0, 10)}}, true).ok());
  EXPECT_EQ(list(false).code(), absl::StatusCode::kDataLoss);
  // A row under another's name.
  ASSERT_TRUE(vault.kv().Write({{key, **vault.kv().Get(ObjectKey(1, "a", 1))}}, true).ok());
  EXPECT_EQ(list(true).code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace holdfast
