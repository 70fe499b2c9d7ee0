#include "client/restore.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <vector>

#include "tests/client/reader_testing.h"

namespace holdfast {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::RandomBytes;
using testing::TestObject;
using testing::TestVault;
using ::testing::UnorderedElementsAre;

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

struct Recorder : RestoreObserver {
  void OnObject(const std::string& name) override { names.push_back(name); }
  void OnError(const std::string& name, const Status& status) override {
    errors.push_back(name);
    last = status;
  }
  void OnXattrsSkipped(const std::string& name, const std::string& what) override {
    skipped[name] = what;
  }
  std::vector<std::string> names, errors;
  std::map<std::string, std::string> skipped;
  Status last;
};

std::string XattrOf(const std::string& path, const char* name) {
  char value[256];
  const ssize_t n = lgetxattr(path.c_str(), name, value, sizeof value);
  return n < 0 ? strerror(errno) : std::string(value, static_cast<size_t>(n));
}

// Takes a capability from this thread, and from those it starts, while it lives. Needs root.
class Without {
 public:
  explicit Without(uint32_t capability) {
    EXPECT_EQ(syscall(SYS_capget, &header_, saved_), 0);
    __user_cap_data_struct data[2] = {saved_[0], saved_[1]};
    data[capability / 32].effective &= ~(1u << capability % 32);
    EXPECT_EQ(syscall(SYS_capset, &header_, data), 0);
  }
  ~Without() { EXPECT_EQ(syscall(SYS_capset, &header_, saved_), 0); }

 private:
  __user_cap_header_struct header_{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct saved_[2];
};

// Acts as another user than root while it lives; only for restores without threads.
class AsUser {
 public:
  explicit AsUser(uid_t uid) { EXPECT_EQ(seteuid(uid), 0); }
  ~AsUser() { EXPECT_EQ(seteuid(0), 0); }
};

// With threads and without.
class RestoreTest : public ::testing::TestWithParam<int> {
 protected:
  RestoreTest() {
    char path[] = "/tmp/holdfast-restore-test-XXXXXX";
    to_ = mkdtemp(path);
  }
  ~RestoreTest() override { fs::remove_all(to_); }

  RestoreSummary Run(TestVault& t, const std::string& prefix = "") {
    recorder_ = {};
    StatusOr<RestoreSummary> summary = Restore(
        t.vault(), {.collection = "case", .prefix = prefix, .to = to_, .threads = GetParam()},
        recorder_);
    EXPECT_TRUE(summary.ok()) << summary.status();
    return summary.value_or(RestoreSummary{});
  }
  std::vector<std::string> Listing() {
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(to_)) {
      names.push_back(entry.path().lexically_relative(to_));
    }
    std::ranges::sort(names);
    return names;
  }

  std::string to_;
  Recorder recorder_;
};
INSTANTIATE_TEST_SUITE_P(Threads, RestoreTest, ::testing::Values(-1, 1, 3));

TEST_P(RestoreTest, WritesTheTree) {
  TestVault t;
  const std::string content = RandomBytes(1, 3'000'000);
  Attributes odd{.mode = 04751, .mtime_seconds = -86401, .mtime_nanos = 999'999'999};
  Attributes shut{.mode = 0, .mtime_seconds = 5, .mtime_nanos = 6};
  t.Commit("case", {{.name = "d", .type = ObjectType::kDirectory, .attributes = shut},
                    {.name = "d/e", .type = ObjectType::kDirectory},
                    {.name = "d/long", .content = content, .attributes = odd},
                    {.name = "d/short", .content = "x", .attributes = shut},
                    {.name = "d/empty", .content = ""},
                    {.name = "link", .type = ObjectType::kSymlink, .link = "nowhere/at all"},
                    {.name = "no/entry/for/parents", .content = "y"}});
  const RestoreSummary s = Run(t);
  EXPECT_THAT(recorder_.errors, IsEmpty());
  EXPECT_EQ(s.files, 4u);
  EXPECT_EQ(s.directories, 2u);
  EXPECT_EQ(s.symlinks, 1u);
  EXPECT_EQ(s.bytes, 3'000'002u);
  EXPECT_EQ(recorder_.names.size(), 7u);
  struct stat st;
  ASSERT_EQ(lstat((to_ + "/d/long").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 04751u);
  EXPECT_EQ(st.st_mtim.tv_sec, -86401);
  EXPECT_EQ(st.st_mtim.tv_nsec, 999'999'999);
  EXPECT_EQ(ReadAll(to_ + "/d/long"), content);
  ASSERT_EQ(lstat((to_ + "/d").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0u);
  EXPECT_EQ(st.st_mtim.tv_sec, 5);
  EXPECT_EQ(st.st_mtim.tv_nsec, 6);
  EXPECT_EQ(fs::read_symlink(to_ + "/link"), "nowhere/at all");
  EXPECT_EQ(ReadAll(to_ + "/no/entry/for/parents"), "y");
}

TEST_P(RestoreTest, ADamagedReplicaDoesNotMatter) {
  TestVault t({.nodes = 2, .replicas = 2});
  const std::string content = RandomBytes(2, 900'000);
  t.Commit("case", {{.name = "a", .content = content}});
  const std::vector<RecordId> ids = t.RecordsOf("case", "a");
  t.Tamper(t.Holders(ids[0])[0], ids[0]);
  t.Rot(t.Holders(ids[1])[0], ids[1]);
  const RestoreSummary s = Run(t);
  EXPECT_EQ(s.errors, 0u);
  EXPECT_EQ(ReadAll(to_ + "/a"), content);
}

// What it held is asked for of others, of many chunks together, and then of them at once.
TEST_P(RestoreTest, ANodeThatIsAwayCostsNoRequestPerChunk) {
  TestVault t({.nodes = 3, .replicas = 2});
  std::vector<TestObject> objects;
  for (int i = 0; i < 400; ++i) {
    objects.push_back({.name = std::to_string(i), .content = RandomBytes(100 + i, 500)});
  }
  t.Commit("case", objects);
  t.transport().Detach(NodeAddress(1));
  const RestoreSummary s = Run(t);
  EXPECT_EQ(s.errors, 0u);
  EXPECT_EQ(s.files, 400u);
  // With threads, how many objects meet in a batch is a matter of time.
  if (GetParam() == -1) {
    EXPECT_LT(t.node(0).get_requests + t.node(2).get_requests, 40u);
  }
}

TEST_P(RestoreTest, ALostObjectIsNamedAndLeavesNothing) {
  TestVault t;
  t.Commit("case", {{.name = "d", .type = ObjectType::kDirectory},
                    {.name = "d/big", .content = RandomBytes(3, 3'000'000)},
                    {.name = "d/fine", .content = RandomBytes(4, 3'000'000)},
                    {.name = "d/small", .content = "small"},
                    {.name = "fine", .content = "fine"}});
  t.Tamper(0, t.RecordsOf("case", "d/big").back());
  t.Rot(0, t.RecordsOf("case", "d/small")[0]);
  const RestoreSummary s = Run(t);
  EXPECT_EQ(s.errors, 2u);
  EXPECT_EQ(s.integrity_errors, 2u);
  EXPECT_THAT(recorder_.errors, UnorderedElementsAre("d/big", "d/small"));
  EXPECT_TRUE(absl::IsDataLoss(recorder_.last));
  EXPECT_THAT(Listing(), ElementsAre("d", "d/fine", "fine"));
}

TEST_P(RestoreTest, RefusesNamesThatLeaveTheDirectory) {
  TestVault t;
  const std::vector<std::string> names = {"../escaped",   "a/../../escaped", "..", ".",   "a//b",
                                          "/etc/escaped", "a/./b",           "a/", "x/.."};
  std::vector<TestObject> objects = {{.name = "a", .type = ObjectType::kDirectory},
                                     {.name = "...", .content = "a name like any other"}};
  for (const std::string& name : names) objects.push_back({.name = name, .content = "bad"});
  objects.push_back({.name = "../dir", .type = ObjectType::kDirectory});
  objects.push_back({.name = "../link", .type = ObjectType::kSymlink, .link = "x"});
  t.Commit("case", objects);
  const RestoreSummary s = Run(t);
  EXPECT_EQ(s.errors, names.size() + 2);
  EXPECT_TRUE(absl::IsInvalidArgument(recorder_.last)) << recorder_.last;
  EXPECT_FALSE(fs::exists(fs::path(to_).parent_path() / "escaped"));
  EXPECT_THAT(Listing(), ElementsAre("...", "a"));
}

TEST_P(RestoreTest, NeverWritesThroughASymbolicLink) {
  TestVault t;
  const std::string outside = to_ + "-outside";
  fs::create_directory(outside);
  t.Commit("case", {{.name = "a", .type = ObjectType::kSymlink, .link = outside},
                    {.name = "a/b", .content = "bad"},
                    {.name = "a/c", .type = ObjectType::kDirectory},
                    {.name = "f", .type = ObjectType::kSymlink, .link = outside + "/f"}});
  RestoreSummary s = Run(t);
  EXPECT_THAT(recorder_.errors, UnorderedElementsAre("a/b", "a/c"));
  EXPECT_TRUE(absl::IsFailedPrecondition(recorder_.last)) << recorder_.last;
  EXPECT_TRUE(fs::is_empty(outside));
  EXPECT_EQ(s.symlinks, 2u);
  // A link that was there before, under a file's name.
  t.Commit("case", {{.name = "f", .content = "bad"}});
  s = Run(t);
  EXPECT_TRUE(fs::is_empty(outside));
  fs::remove_all(outside);
}

TEST_P(RestoreTest, DoesNotOverwrite) {
  TestVault t;
  const std::string content = RandomBytes(5, 3'000'000);
  t.Commit("case", {{.name = "big", .content = content},
                    {.name = "d", .type = ObjectType::kDirectory},
                    {.name = "d/small", .content = "new"},
                    {.name = "l", .type = ObjectType::kSymlink, .link = "x"}});
  fs::create_directory(to_ + "/d");
  std::ofstream(to_ + "/big") << "old";
  std::ofstream(to_ + "/d/small") << "old";
  std::ofstream(to_ + "/l") << "old";
  const RestoreSummary s = Run(t);
  EXPECT_THAT(recorder_.errors, UnorderedElementsAre("big", "d/small", "l"));
  EXPECT_TRUE(absl::IsAlreadyExists(recorder_.last)) << recorder_.last;
  EXPECT_EQ(s.integrity_errors, 0u);
  EXPECT_THAT(Listing(), ElementsAre("big", "d", "d/small", "l"));
  EXPECT_EQ(ReadAll(to_ + "/big") + ReadAll(to_ + "/d/small") + ReadAll(to_ + "/l"), "oldoldold");
}

TEST_P(RestoreTest, HardLinksWithinTheScope) {
  TestVault t;
  const std::string big = RandomBytes(6, 3'000'000);
  t.Commit("case",
           {{.name = "a/1", .content = big},
            {.name = "a/2", .content = big, .type = ObjectType::kHardLink, .link = "a/1"},
            {.name = "a/0", .content = big, .type = ObjectType::kHardLink, .link = "a/1"},
            {.name = "b/3", .content = big, .type = ObjectType::kHardLink, .link = "a/1"},
            {.name = "b/4", .content = "x", .type = ObjectType::kHardLink, .link = "gone"}});
  RestoreSummary s = Run(t);
  EXPECT_THAT(recorder_.errors, IsEmpty());
  EXPECT_EQ(s.hard_links, 3u);
  EXPECT_EQ(s.files, 2u);
  EXPECT_EQ(fs::hard_link_count(to_ + "/a/1"), 4u);
  EXPECT_EQ(ReadAll(to_ + "/b/3"), big);
  EXPECT_EQ(ReadAll(to_ + "/b/4"), "x");
  // Out of scope: a file of its own. There now: an error, not a link to what is there.
  fs::remove_all(to_ + "/b");
  s = Run(t, "b");
  EXPECT_EQ(s.hard_links, 0u);
  EXPECT_EQ(s.files, 2u);
  EXPECT_EQ(fs::hard_link_count(to_ + "/b/3"), 1u);
  EXPECT_EQ(ReadAll(to_ + "/b/3"), big);
}

TEST_P(RestoreTest, AHardLinkDoesNotTakeAForeignFilesContent) {
  TestVault t;
  t.Commit("case",
           {{.name = "1", .content = "genuine"},
            {.name = "2", .content = "genuine", .type = ObjectType::kHardLink, .link = "1"}});
  std::ofstream(to_ + "/1") << "foreign";
  const RestoreSummary s = Run(t);
  EXPECT_THAT(recorder_.errors, ElementsAre("1"));
  EXPECT_EQ(s.hard_links, 0u);
  EXPECT_EQ(ReadAll(to_ + "/2"), "genuine");
}

TEST_P(RestoreTest, AHardLinkToALostFileIsLostToo) {
  TestVault t;
  t.Commit("case",
           {{.name = "1", .content = "genuine"},
            {.name = "2", .content = "genuine", .type = ObjectType::kHardLink, .link = "1"}});
  t.Rot(0, t.RecordsOf("case", "1")[0]);
  Run(t);
  EXPECT_THAT(recorder_.errors, ElementsAre("1", "2"));
  EXPECT_THAT(Listing(), IsEmpty());
}

TEST_P(RestoreTest, SparseFilesStaySparse) {
  TestVault t;
  std::string content(5'000'000, '\0');
  content.replace(2'000'001, 4, "data");
  Attributes sparse{.mode = 0600, .sparse = true};
  std::string small(40'000, '\0');
  small[20'000] = 'x';
  t.Commit("case", {{.name = "long", .content = content, .attributes = sparse},
                    {.name = "small", .content = small, .attributes = sparse}});
  Run(t);
  EXPECT_THAT(recorder_.errors, IsEmpty());
  EXPECT_EQ(ReadAll(to_ + "/long"), content);
  EXPECT_EQ(ReadAll(to_ + "/small"), small);
  struct stat st;
  ASSERT_EQ(stat((to_ + "/long").c_str(), &st), 0);
  EXPECT_EQ(st.st_size, 5'000'000);
  EXPECT_LE(st.st_blocks * 512, 64 * 1024);
  ASSERT_EQ(stat((to_ + "/small").c_str(), &st), 0);
  EXPECT_LE(st.st_blocks * 512, 8 * 1024);
}

TEST_P(RestoreTest, SlashesAfterThePrefixDoNotMatter) {
  TestVault t;
  t.Commit("case",
           {{.name = "a", .type = ObjectType::kDirectory},
            {.name = "a/1", .content = "one"},
            {.name = "a/2", .content = "one", .type = ObjectType::kHardLink, .link = "a/1"}});
  for (const char* prefix : {"a/", "a//", "/"}) {
    const RestoreSummary s = Run(t, prefix);
    EXPECT_EQ(s.hard_links, 1u) << prefix;
    EXPECT_EQ(s.files, 1u) << prefix;
    EXPECT_EQ(fs::hard_link_count(to_ + "/a/2"), 2u) << prefix;
    fs::remove_all(to_ + "/a");
  }
}

// The system refuses values beyond 64 KiB and names beyond 255 bytes anywhere; ext4 and others
// already what does not fit a block.
TEST_P(RestoreTest, AttributesThatCannotBeSetDoNotKeepTheFileBack) {
  TestVault t;
  Attributes odd{.mode = 0640, .mtime_seconds = 5, .mtime_nanos = 6};
  odd.xattrs = {{"user.big", std::string(70'000, 'b')},
                {"user." + std::string(260, 'n'), "v"},
                {"nobody.knows", "this kind"},
                {"user.fits", "fits"}};
  const std::string content = RandomBytes(9, 3'000'000);
  t.Commit("case", {{.name = "d", .type = ObjectType::kDirectory, .attributes = odd},
                    {.name = "d/long", .content = content, .attributes = odd},
                    {.name = "d/short", .content = "x", .attributes = odd}});
  const RestoreSummary s = Run(t);
  EXPECT_THAT(recorder_.errors, IsEmpty()) << recorder_.last;
  EXPECT_EQ(s.xattrs_skipped, 9u);
  EXPECT_EQ(ReadAll(to_ + "/d/long"), content);
  EXPECT_EQ(ReadAll(to_ + "/d/short"), "x");
  for (const std::string name : {"d", "d/long", "d/short"}) {
    EXPECT_EQ(XattrOf(to_ + "/" + name, "user.fits"), "fits");
    EXPECT_THAT(recorder_.skipped[name], HasSubstr("user.big (Argument list too long)"));
    EXPECT_THAT(recorder_.skipped[name], HasSubstr("nobody.knows (Operation not supported)"));
    struct stat st;
    ASSERT_EQ(stat((to_ + "/" + name).c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 0640u) << "what comes after the attributes is set as well";
    EXPECT_EQ(st.st_mtim.tv_nsec, 6);
  }
}

TEST_P(RestoreTest, AttributesWithoutRoomDoNotKeepTheFileBack) {
  TestVault t;
  Attributes big{.mode = 0600, .xattrs = {{"user.big", std::string(60'000, 'b')}}};
  t.Commit("case", {{.name = "f", .content = "x", .attributes = big}});
  const std::string probe = to_ + "/probe";
  std::ofstream(probe) << "x";
  const bool fits = setxattr(probe.c_str(), "user.big", big.xattrs[0].value.data(), 60'000, 0) == 0;
  fs::remove(probe);
  if (fits) GTEST_SKIP() << "this file system takes attributes of 60,000 bytes";
  const RestoreSummary s = Run(t);
  EXPECT_THAT(recorder_.errors, IsEmpty()) << recorder_.last;
  EXPECT_EQ(s.xattrs_skipped, 1u);
  EXPECT_THAT(recorder_.skipped["f"], HasSubstr("user.big ("));
  EXPECT_EQ(ReadAll(to_ + "/f"), "x");
}

TEST_P(RestoreTest, ARootThatMayNotSetSystemAttributesStillRestores) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TestVault t;
  Attributes odd{.mode = 0600, .xattrs = {{"trusted.case", "17"}, {"user.note", "n"}}};
  t.Commit("case", {{.name = "f", .content = "x", .attributes = odd},
                    {.name = "l", .type = ObjectType::kSymlink, .attributes = odd, .link = "f"}});
  {
    const Without admin(CAP_SYS_ADMIN);
    Run(t);
  }
  EXPECT_EQ(ReadAll(to_ + "/f"), "x");
  EXPECT_EQ(XattrOf(to_ + "/f", "user.note"), "n");
  EXPECT_THAT(recorder_.skipped["f"], HasSubstr("trusted.case (Operation not permitted)"));
  EXPECT_THAT(recorder_.skipped["f"], ::testing::Not(HasSubstr("user.note")));
}

TEST_P(RestoreTest, AttributesOfSymbolicLinks) {
  if (geteuid() != 0) GTEST_SKIP() << "only root may give a link attributes";
  TestVault t;
  Attributes odd{.mode = 0777, .uid = 12, .gid = 34, .mtime_seconds = -5, .mtime_nanos = 7};
  odd.xattrs = {{"trusted.case", "17"}};
  t.Commit("case", {{.name = "f", .content = "x"},
                    {.name = "l", .type = ObjectType::kSymlink, .attributes = odd, .link = "f"}});
  std::ofstream(to_ + "/probe") << "x";
  if (setxattr((to_ + "/probe").c_str(), "trusted.case", "17", 2, 0) != 0) {
    GTEST_SKIP() << "no trusted attributes here: " << strerror(errno);
  }
  Run(t);
  EXPECT_THAT(recorder_.errors, IsEmpty());
  EXPECT_EQ(XattrOf(to_ + "/l", "trusted.case"), "17");
  EXPECT_EQ(XattrOf(to_ + "/f", "trusted.case"), strerror(ENODATA))
      << "the link's own, not its target's";
  struct stat st;
  ASSERT_EQ(lstat((to_ + "/l").c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 12u);
  EXPECT_EQ(st.st_gid, 34u);
  EXPECT_EQ(st.st_mtim.tv_sec, -5);
  EXPECT_EQ(st.st_mtim.tv_nsec, 7);
}

// A set-id bit is for the owner it came with: given to the user who restores it would be another.
TEST_P(RestoreTest, SetIdBitsOnlyForTheirOwner) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to restore as two users";
  TestVault t;
  constexpr uid_t kUser = 12345;
  t.Commit("case", {{.name = "own", .content = "x", .attributes = {.mode = 06755, .uid = kUser}},
                    {.name = "other", .content = "x", .attributes = {.mode = 07755, .uid = 99}}});
  const auto mode = [&](const char* name) {
    struct stat st {};
    EXPECT_EQ(stat((to_ + "/" + name).c_str(), &st), 0) << name;
    return st.st_mode & 07777;
  };
  Run(t);
  EXPECT_EQ(mode("own"), 06755u);
  EXPECT_EQ(mode("other"), 07755u) << "root gives it to its owner";
  if (GetParam() != -1) return;  // The effective user is the process's.
  fs::remove(to_ + "/own");
  fs::remove(to_ + "/other");
  ASSERT_EQ(chown(to_.c_str(), kUser, kUser), 0);
  {
    const AsUser user(kUser);
    Run(t);
  }
  EXPECT_EQ(mode("own") & 05777, 04755u);
  EXPECT_EQ(mode("other"), 01755u);
}

TEST_P(RestoreTest, ThePrefixIsByComponentAndNamesKeepTheirPath) {
  TestVault t;
  t.Commit("case", {{.name = "a", .type = ObjectType::kDirectory},
                    {.name = "a/b", .type = ObjectType::kDirectory},
                    {.name = "a/b/c", .content = "1"},
                    {.name = "a/bc", .content = "2"},
                    {.name = "z", .content = "3"}});
  Run(t, "a/b");
  EXPECT_THAT(Listing(), ElementsAre("a", "a/b", "a/b/c"));
  Recorder recorder;
  EXPECT_TRUE(absl::IsNotFound(
      Restore(t.vault(), {.collection = "case", .prefix = "a/x", .to = to_}, recorder).status()));
  EXPECT_TRUE(
      absl::IsNotFound(Restore(t.vault(), {.collection = "none", .to = to_}, recorder).status()));
}

TEST_P(RestoreTest, MakesTheDestination) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}});
  to_ += "/x/y//z/";
  Run(t);
  EXPECT_EQ(ReadAll(to_ + "a"), "1");
  to_.resize(to_.size() - std::string("/x/y//z/").size());
}

// Of the pages of a file those that lie in the page cache.
double ShareInPageCache(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat stat;
  if (fd < 0 || fstat(fd, &stat) != 0) return -1;
  const auto size = static_cast<size_t>(stat.st_size);
  void* const mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  std::vector<unsigned char> pages((size + 4095) / 4096);
  const bool known = mapped != MAP_FAILED && mincore(mapped, size, pages.data()) == 0;
  if (mapped != MAP_FAILED) munmap(mapped, size);
  close(fd);
  if (!known) return -1;
  const auto there = std::ranges::count_if(pages, [](unsigned char page) { return page % 2; });
  return static_cast<double>(there) / static_cast<double>(pages.size());
}

bool TakesDirectWrites(const std::string& directory) {
  const int fd = open(directory.c_str(), O_TMPFILE | O_WRONLY | O_DIRECT | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  alignas(4096) static const char block[4096] = {};
  const bool taken = write(fd, block, sizeof block) == sizeof block;
  close(fd);
  return taken;
}

// Long enough for several slices, and with ends everywhere in a block.
TEST_P(RestoreTest, LongContentGoesPastThePageCache) {
  TestVault t;
  std::map<std::string, std::string> contents;
  std::vector<TestObject> objects;
  for (const size_t size : {65'535, 65'536, 70'001, 300'000, 2'097'152, 3'333'333, 9'000'001}) {
    const std::string name = std::to_string(size);
    contents[name] = RandomBytes(size, size);
    objects.push_back({.name = name, .content = contents[name]});
  }
  t.Commit("case", objects);
  Run(t);
  EXPECT_THAT(recorder_.errors, IsEmpty());
  for (const auto& [name, content] : contents) {
    if (content.size() > 200'000 && TakesDirectWrites(to_)) {
      EXPECT_LT(ShareInPageCache(to_ + "/" + name), 0.2) << name;
    }
    EXPECT_EQ(ReadAll(to_ + "/" + name), content) << name;
  }
}

TEST_P(RestoreTest, AFullDiskIsReported) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting a small file system needs root";
  // Less than the first slice of the others, which else would leave no room for the small one.
  const std::string mount = "mount -t tmpfs -o size=256k tmpfs " + to_ + " 2>/dev/null";
  if (std::system(mount.c_str()) != 0) GTEST_SKIP() << "no tmpfs may be mounted here";
  TestVault t;
  t.Commit("case", {{.name = "big", .content = RandomBytes(7, 4'500'000)},
                    {.name = "mid", .content = RandomBytes(8, 2'000'000)},
                    {.name = "small", .content = "fits"}});
  Run(t);
  EXPECT_THAT(recorder_.errors, UnorderedElementsAre("big", "mid"));
  EXPECT_TRUE(absl::IsResourceExhausted(recorder_.last)) << recorder_.last;
  EXPECT_THAT(Listing(), ElementsAre("small"));
  EXPECT_EQ(std::system(("umount " + to_).c_str()), 0);
}

TEST_P(RestoreTest, AnIngestOnlyKeyIsRefused) {
  TestVault t;
  t.Commit("case", {{.name = "a", .content = "1"}});
  Recorder recorder;
  EXPECT_TRUE(absl::IsPermissionDenied(
      Restore(*t.VaultWith(*MakeIngestOnly(t.key())), {.collection = "case", .to = to_}, recorder)
          .status()));
  EXPECT_THAT(Listing(), IsEmpty());
}

}  // namespace
}  // namespace holdfast
