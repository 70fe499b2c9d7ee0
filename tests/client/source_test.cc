// The POSIX source on awkward trees.
#include "client/source.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SourceTest : public ::testing::Test {
 protected:
  SourceTest() {
    char pattern[] = "/tmp/holdfast_source_XXXXXX";
    root_ = ::mkdtemp(pattern);
  }
  ~SourceTest() override {
    std::error_code ignored;
    // Deep trees are too long for std::filesystem.
    if (std::system(("rm -rf " + root_).c_str()) != 0) std::filesystem::remove_all(root_, ignored);
  }

  void Write(const std::string& name, const std::string& content) {
    std::ofstream(root_ + "/" + name, std::ios::binary) << content;
  }
  void MakeDir(const std::string& name) { std::filesystem::create_directory(root_ + "/" + name); }

  static std::vector<SourceEntry> Walk(Source& source) {
    std::vector<SourceEntry> all;
    while (std::optional<SourceEntry> entry = source.Next()) all.push_back(*std::move(entry));
    return all;
  }
  std::unique_ptr<Source> Open(const std::vector<std::string>& paths) {
    StatusOr<std::unique_ptr<Source>> source = OpenPosixSource(paths);
    EXPECT_TRUE(source.ok()) << source.status();
    return *std::move(source);
  }
  std::vector<SourceEntry> WalkOf(const std::string& path) {
    source_ = Open({path});
    return Walk(*source_);
  }
  static std::vector<std::string> Names(const std::vector<SourceEntry>& entries) {
    std::vector<std::string> names;
    for (const SourceEntry& e : entries) names.push_back(e.name);
    return names;
  }
  static std::string Content(Source& source, SourceEntry& entry) {
    StatusOr<std::unique_ptr<SourceFile>> file = source.Open(entry);
    EXPECT_TRUE(file.ok()) << file.status();
    if (!file.ok()) return "";
    std::string content(entry.stamp.size + 10, '?');
    StatusOr<size_t> n =
        (*file)->ReadAt(0, {reinterpret_cast<uint8_t*>(content.data()), content.size()});
    EXPECT_TRUE(n.ok()) << n.status();
    content.resize(*n);
    EXPECT_TRUE((*file)->Stamp().value() == entry.stamp);
    return content;
  }

  std::string root_;
  std::unique_ptr<Source> source_;
};

TEST_F(SourceTest, NamesLeadWithTheLastComponent) {
  MakeDir("d");
  Write("d/f", "x");
  EXPECT_THAT(Names(WalkOf(root_ + "/d")), ElementsAre("d", "d/f"));
  EXPECT_THAT(Names(WalkOf(root_ + "/d/")), ElementsAre("d", "d/f"));
  EXPECT_THAT(Names(WalkOf(root_ + "/d//")), ElementsAre("d", "d/f"));
  EXPECT_THAT(Names(WalkOf(root_ + "/d/.")), ElementsAre("f"));
  EXPECT_THAT(Names(WalkOf(root_ + "/d/..")), ElementsAre("d", "d/f"));
  EXPECT_THAT(Names(WalkOf(root_ + "/d/f")), ElementsAre("f"));
  ASSERT_EQ(::chdir(root_.c_str()), 0);
  EXPECT_THAT(Names(WalkOf("d")), ElementsAre("d", "d/f"));
  EXPECT_THAT(Names(WalkOf(".")), ElementsAre("d", "d/f"));
  EXPECT_THAT(Names(WalkOf("./d/f")), ElementsAre("f"));
  ASSERT_EQ(::chdir("/"), 0);
}

TEST_F(SourceTest, APathThatIsNotThereIsNamedAndTheOthersGoOn) {
  Write("f", "x");
  source_ = Open({root_ + "/absent", root_ + "/f/", root_ + "/f"});
  const std::vector<SourceEntry> entries = Walk(*source_);
  EXPECT_THAT(Names(entries), ElementsAre(root_ + "/absent", root_ + "/f/", "f"));
  EXPECT_TRUE(absl::IsNotFound(entries[0].error)) << entries[0].error;
  EXPECT_FALSE(entries[1].error.ok());
  EXPECT_TRUE(entries[2].error.ok());
}

TEST_F(SourceTest, PathsThatWouldShareNamesAreRefused) {
  for (const char* dir : {"a", "b", "a/same", "b/same"}) MakeDir(dir);
  const std::vector<std::vector<std::string>> refused = {
      {""},
      {root_ + "/a/same", root_ + "/b/same"},
      {root_ + "/a", root_ + "/a/"},
      {root_ + "/a/.", root_ + "/b"},
  };
  for (const auto& paths : refused) {
    EXPECT_TRUE(absl::IsInvalidArgument(OpenPosixSource(paths).status())) << paths[0];
  }
}

TEST_F(SourceTest, SeveralPathsComeInTurn) {
  MakeDir("b");
  Write("a", "1");
  Write("b/c", "2");
  source_ = Open({root_ + "/b", root_ + "/a"});
  EXPECT_THAT(Names(Walk(*source_)), ElementsAre("b", "b/c", "a"));
}

TEST_F(SourceTest, NamesAreRawBytesInByteOrder) {
  MakeDir("d");
  const std::string longest(255, 'n');
  for (const std::string& name : {std::string("\xff\xfe"), std::string("a\nb"), std::string("A"),
                                  std::string("\xc3\xa9"), std::string(" "), longest}) {
    Write("d/" + name, name);
  }
  std::vector<SourceEntry> entries = WalkOf(root_ + "/d/.");
  EXPECT_THAT(Names(entries), ElementsAre(" ", "A", "a\nb", longest, "\xc3\xa9", "\xff\xfe"));
  for (SourceEntry& entry : entries) EXPECT_EQ(Content(*source_, entry), entry.name);
}

TEST_F(SourceTest, DirectoriesComeBeforeWhatTheyHoldEmptyOnesToo) {
  MakeDir("a");
  MakeDir("a/empty");
  Write("a.txt", "");
  Write("a/z", "");
  // "a" and all below it, then "a.txt": by directory, not by full path.
  EXPECT_THAT(Names(WalkOf(root_ + "/.")), ElementsAre("a", "a/empty", "a/z", "a.txt"));
}

TEST_F(SourceTest, PathsLongerThanTheKernelTakes) {
  const std::string component(250, 'p');
  int dir = ::open(root_.c_str(), O_RDONLY | O_DIRECTORY);
  std::string expected;
  for (int i = 0; i < 17; ++i) {  // 17 * 251 > 4,200
    ASSERT_EQ(::mkdirat(dir, component.c_str(), 0755), 0);
    const int next = ::openat(dir, component.c_str(), O_RDONLY | O_DIRECTORY);
    ::close(dir);
    dir = next;
    expected += component + "/";
  }
  const int file = ::openat(dir, "leaf", O_WRONLY | O_CREAT, 0644);
  ASSERT_EQ(::write(file, "deep", 4), 4);
  ::close(file);
  ::close(dir);
  std::vector<SourceEntry> entries = WalkOf(root_ + "/.");
  ASSERT_EQ(entries.size(), 18u);
  EXPECT_EQ(entries.back().name, expected + "leaf");
  EXPECT_GT(entries.back().name.size(), 4200u);
  EXPECT_EQ(Content(*source_, entries.back()), "deep");
}

TEST_F(SourceTest, TreesOfTwoThousandLevels) {
  constexpr int kLevels = 2100;
  int dir = ::open(root_.c_str(), O_RDONLY | O_DIRECTORY);
  for (int i = 0; i < kLevels; ++i) {
    ASSERT_EQ(::mkdirat(dir, "d", 0755), 0);
    const int next = ::openat(dir, "d", O_RDONLY | O_DIRECTORY);
    ::close(dir);
    dir = next;
  }
  const int file = ::openat(dir, "f", O_WRONLY | O_CREAT, 0644);
  ASSERT_EQ(::write(file, "bottom", 6), 6);
  ::close(file);
  ::close(dir);
  rlimit limit;
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < 2 * kLevels) GTEST_SKIP() << "open files are limited to " << limit.rlim_max;
  std::vector<SourceEntry> entries = WalkOf(root_ + "/.");
  ASSERT_EQ(entries.size(), kLevels + 1u);
  for (const SourceEntry& entry : entries) ASSERT_TRUE(entry.error.ok()) << entry.error;
  EXPECT_EQ(Content(*source_, entries.back()), "bottom");
}

TEST_F(SourceTest, SymbolicLinksAreNotFollowed) {
  MakeDir("d");
  ASSERT_EQ(::symlink("loop", (root_ + "/d/loop").c_str()), 0);
  ASSERT_EQ(::symlink("..", (root_ + "/d/up").c_str()), 0);
  ASSERT_EQ(::symlink("\xff nowhere", (root_ + "/d/dangling").c_str()), 0);
  std::vector<SourceEntry> entries = WalkOf(root_ + "/d/.");
  ASSERT_THAT(Names(entries), ElementsAre("dangling", "loop", "up"));
  for (const SourceEntry& e : entries) EXPECT_EQ(e.type, ObjectType::kSymlink);
  EXPECT_EQ(entries[0].link, "\xff nowhere");
  EXPECT_EQ(entries[1].link, "loop");
  EXPECT_EQ(entries[2].link, "..");
}

TEST_F(SourceTest, ATopLevelLinkIsFollowedOnlyWithASlash) {
  MakeDir("real");
  Write("real/f", "x");
  ASSERT_EQ(::symlink("real", (root_ + "/link").c_str()), 0);
  std::vector<SourceEntry> entries = WalkOf(root_ + "/link");
  ASSERT_THAT(Names(entries), ElementsAre("link"));
  EXPECT_EQ(entries[0].type, ObjectType::kSymlink);
  EXPECT_THAT(Names(WalkOf(root_ + "/link/")), ElementsAre("link", "link/f"));
  EXPECT_THAT(Names(WalkOf(root_ + "/link/.")), ElementsAre("f"));
}

TEST_F(SourceTest, HardLinksNameTheFirst) {
  Write("a", "shared");
  ASSERT_EQ(::link((root_ + "/a").c_str(), (root_ + "/b").c_str()), 0);
  ASSERT_EQ(::link((root_ + "/a").c_str(), (root_ + "/c").c_str()), 0);
  Write("d", "alone");
  std::vector<SourceEntry> entries = WalkOf(root_ + "/.");
  ASSERT_THAT(Names(entries), ElementsAre("a", "b", "c", "d"));
  EXPECT_EQ(entries[0].type, ObjectType::kFile);
  EXPECT_EQ(entries[1].type, ObjectType::kHardLink);
  EXPECT_EQ(entries[1].link, "a");
  EXPECT_EQ(entries[2].link, "a");
  EXPECT_EQ(entries[3].type, ObjectType::kFile);
  EXPECT_EQ(Content(*source_, entries[2]), "shared");
}

TEST_F(SourceTest, DevicesSocketsAndFifosAreSpecial) {
  ASSERT_EQ(::mkfifo((root_ + "/fifo").c_str(), 0644), 0);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", root_.c_str());
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ::close(fd);
  std::vector<SourceEntry> entries = WalkOf(root_ + "/.");
  ASSERT_THAT(Names(entries), ElementsAre("fifo", "socket"));
  EXPECT_TRUE(entries[0].special && entries[1].special);
}

TEST_F(SourceTest, AFileThatTurnsIntoAFifoIsRefusedWithoutWaiting) {
  Write("f", "x");
  std::vector<SourceEntry> entries = WalkOf(root_ + "/.");
  ASSERT_EQ(::unlink((root_ + "/f").c_str()), 0);
  ASSERT_EQ(::mkfifo((root_ + "/f").c_str(), 0644), 0);
  EXPECT_FALSE(source_->Open(entries[0]).ok());
  ASSERT_EQ(::unlink((root_ + "/f").c_str()), 0);
  ASSERT_EQ(::symlink("/etc/passwd", (root_ + "/f").c_str()), 0);
  EXPECT_FALSE(source_->Open(entries[0]).ok());
}

TEST_F(SourceTest, WhatMayNotBeReadIsNamed) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become nobody";
  MakeDir("closed");
  Write("closed/hidden", "x");
  Write("secret", "x");
  Write("open", "y");
  ::chmod(root_.c_str(), 0755);
  ::chmod((root_ + "/closed").c_str(), 0700);
  ::chmod((root_ + "/secret").c_str(), 0600);
  ASSERT_EQ(::seteuid(65534), 0);
  std::vector<SourceEntry> entries = WalkOf(root_ + "/.");
  std::vector<Status> opened;
  for (SourceEntry& e : entries)
    opened.push_back(e.error.ok() ? source_->Open(e).status() : e.error);
  ASSERT_EQ(::seteuid(0), 0);
  ASSERT_THAT(Names(entries), ElementsAre("closed", "open", "secret"));
  EXPECT_TRUE(absl::IsPermissionDenied(entries[0].error)) << entries[0].error;
  EXPECT_THAT(std::string(entries[0].error.message()), HasSubstr("Permission denied"));
  EXPECT_TRUE(opened[1].ok());
  EXPECT_TRUE(absl::IsPermissionDenied(opened[2]));
}

TEST_F(SourceTest, AttributesAndStamps) {
  Write("f", "12345");
  const std::string path = root_ + "/f";
  ::chmod(path.c_str(), 04751);
  const timespec times[2] = {{1, 2}, {-5, 123456789}};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  const bool xattrs = ::setxattr(path.c_str(), "user.case", "4711", 4, 0) == 0;
  SourceEntry entry = WalkOf(path)[0];
  EXPECT_EQ(entry.attributes.mode, 04751u);
  EXPECT_EQ(entry.attributes.uid, ::getuid());
  EXPECT_EQ(entry.attributes.mtime_seconds, -5);
  EXPECT_EQ(entry.attributes.mtime_nanos, 123456789u);
  EXPECT_EQ(entry.stamp.size, 5u);
  EXPECT_FALSE(entry.attributes.sparse);
  StatusOr<std::unique_ptr<SourceFile>> file = source_->Open(entry);
  ASSERT_TRUE(file.ok());
  if (xattrs) {
    ASSERT_EQ(entry.attributes.xattrs.size(), 1u);
    EXPECT_EQ(entry.attributes.xattrs[0].name, "user.case");
    EXPECT_EQ(entry.attributes.xattrs[0].value, "4711");
  }
  Write("f", "123456");
  EXPECT_FALSE((*file)->Stamp().value() == entry.stamp);
}

// What is opened as listed may have changed in between: the stamp tells, whatever changed.
TEST_F(SourceTest, AFileOpenedAsListedTellsThatItChanged) {
  Write("f", "12345");
  SourceEntry entry = WalkOf(root_ + "/f")[0];
  const FileStamp listed = entry.stamp;
  EXPECT_TRUE((*source_->OpenAsListed(entry))->Stamp().value() == listed);
  ::chmod((root_ + "/f").c_str(), 0600);
  EXPECT_FALSE((*source_->OpenAsListed(entry))->Stamp().value() == listed) << "attributes are old";
  EXPECT_TRUE(entry.stamp == listed);
  EXPECT_TRUE((*source_->Open(entry))->Stamp().value() == entry.stamp);
  EXPECT_EQ(entry.attributes.mode, 0600u);
  // Another file under its name, of the same size.
  Write("g", "54321");
  ASSERT_EQ(::rename((root_ + "/g").c_str(), (root_ + "/f").c_str()), 0);
  EXPECT_FALSE((*source_->OpenAsListed(entry))->Stamp().value() == entry.stamp);
}

TEST_F(SourceTest, LongExtendedAttributesOfFilesAndDirectories) {
  MakeDir("d");
  const std::string value(3000, 'v');
  if (::setxattr((root_ + "/d").c_str(), "user.long", value.data(), value.size(), 0) != 0) {
    GTEST_SKIP() << "no extended attributes here";
  }
  std::vector<SourceEntry> entries = WalkOf(root_ + "/.");
  ASSERT_EQ(entries[0].attributes.xattrs.size(), 1u);
  EXPECT_EQ(entries[0].attributes.xattrs[0].value, value);
}

TEST_F(SourceTest, HolesReadAsZeros) {
  const std::string path = root_ + "/sparse";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT, 0644);
  constexpr uint64_t kSize = 10u << 20;
  ASSERT_EQ(::pwrite(fd, "head", 4, 0), 4);
  ASSERT_EQ(::pwrite(fd, "middle", 6, (3u << 20) + 17), 6);
  ASSERT_EQ(::ftruncate(fd, kSize), 0);
  ::close(fd);
  SourceEntry entry = WalkOf(path)[0];
  if (!entry.attributes.sparse) GTEST_SKIP() << "no holes here";
  std::string expected(kSize, '\0');
  expected.replace(0, 4, "head");
  expected.replace((3u << 20) + 17, 6, "middle");
  EXPECT_TRUE(Content(*source_, entry) == expected);
  // In uneven pieces, too.
  StatusOr<std::unique_ptr<SourceFile>> file = source_->Open(entry);
  std::string got;
  for (std::string piece(1'234'567, '?');;) {
    StatusOr<size_t> n =
        (*file)->ReadAt(got.size(), {reinterpret_cast<uint8_t*>(piece.data()), piece.size()});
    ASSERT_TRUE(n.ok());
    got.append(piece, 0, *n);
    if (*n < piece.size()) break;
  }
  EXPECT_TRUE(got == expected);
}

// Of a file's pages, whether each is in memory.
std::vector<bool> Resident(int fd, size_t size) {
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  std::vector<unsigned char> pages((size + 4095) / 4096);
  EXPECT_EQ(::mincore(map, size, pages.data()), 0);
  ::munmap(map, size);
  std::vector<bool> resident;
  for (const unsigned char page : pages) resident.push_back(page & 1);
  return resident;
}

// The longer one takes several requests, of which a disk may take no more than 128 KiB each: so all
// of the shorter one is read ahead, and the first and last page of the other.
TEST_F(SourceTest, FilesThatAreNotInMemoryAreReadAhead) {
  for (const size_t size : {size_t{100'000}, size_t{3'000'000}}) {
    SCOPED_TRACE(size);
    const std::string content(size, 'x');
    Write("file", content);
    const int fd = ::open((root_ + "/file").c_str(), O_RDONLY);
    ASSERT_EQ(::fsync(fd), 0);
    const auto drop = [&] { ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); };
    uint8_t byte;
    const iovec to{&byte, 1};
    const bool tells = ::preadv2(fd, &to, 1, 0, RWF_NOWAIT) == 1 || errno != EOPNOTSUPP;
    drop();
    if (!tells || Resident(fd, size).back()) {
      ::close(fd);
      GTEST_SKIP() << "the file system keeps its files in memory, or does not tell";
    }
    std::vector<SourceEntry> entries = WalkOf(root_ + "/file");
    ASSERT_EQ(entries.size(), 1u);
    std::vector<uint8_t> bytes(size + 1);
    bool waited = false, asked = false;
    for (int i = 0; i < 20 && !waited; ++i) {  // A fast disk may have it before one can look.
      std::unique_ptr<SourceFile> cold = *source_->Open(entries[0]);
      drop();
      EXPECT_EQ(*cold->ReadAt(size / 2, MutableBytes(bytes).first(10)), 10u);
      waited = cold->waited();
    }
    EXPECT_TRUE(waited);

    std::unique_ptr<SourceFile> told = *source_->Open(entries[0]);
    EXPECT_FALSE(told->WillRead(size, 5)) << "there is nothing";
    for (int i = 0; i < 20 && !asked; ++i) {
      drop();
      asked = told->WillRead(0, size);
    }
    EXPECT_TRUE(asked);
    const auto arrived = [&] {
      const std::vector<bool> resident = Resident(fd, size);
      return resident.front() && resident.back();
    };
    for (int i = 0; i < 1000 && !arrived(); ++i) ::usleep(10'000);
    EXPECT_TRUE(arrived());
    EXPECT_FALSE(told->WillRead(0, 1));
    EXPECT_EQ(*told->ReadAt(0, bytes), size);
    EXPECT_TRUE(!told->waited() || size > 128u << 10);
    EXPECT_TRUE(std::equal(content.begin(), content.end(), bytes.begin()));
    ::close(fd);
  }
}

TEST_F(SourceTest, ADirectoryOfManyFiles) {
  for (int i = 0; i < 3000; ++i) Write("f" + std::to_string(i), "");
  std::vector<SourceEntry> entries = WalkOf(root_ + "/.");
  EXPECT_EQ(entries.size(), 3000u);
  EXPECT_TRUE(std::is_sorted(entries.begin(), entries.end(),
                             [](const auto& a, const auto& b) { return a.name < b.name; }));
}

}  // namespace
}  // namespace holdfast
