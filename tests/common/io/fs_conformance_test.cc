// One suite for both Fs: the system's and the simulated one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "common/io/fs.h"
#include "common/io/sim_fs.h"
#include "tests/common/io/temp_dir.h"

namespace holdfast {
namespace {

using absl::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct PosixHome {
  TempDir temp;
  Fs& fs = PosixFs();
  std::string root = temp.path();
};

struct SimulatedFs {
  SimFs sim{1};
  Fs& fs = sim;
  std::string root = "/vault";
  SimulatedFs() { (void)sim.CreateDir(root); }
};

template <class T>
class FsConformance : public ::testing::Test {
 protected:
  Fs& fs() { return home_.fs; }
  std::string Path(const std::string& name) { return home_.root + "/" + name; }

  std::unique_ptr<File> Create(const std::string& name) {
    auto file = fs().Open(Path(name), {.write = true, .create = true});
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }

  void Put(const std::string& name, std::string_view bytes) {
    Status s = Create(name)->WriteAt(0, AsBytes(bytes));
    ASSERT_TRUE(s.ok()) << s;
  }

  std::string Read(const std::string& name) {
    auto bytes = ReadFile(fs(), Path(name));
    return bytes.ok() ? ToString(*bytes) : "error: " + bytes.status().ToString();
  }

  T home_;
};
using Twins = ::testing::Types<PosixHome, SimulatedFs>;
TYPED_TEST_SUITE(FsConformance, Twins, );

TYPED_TEST(FsConformance, WhatIsWrittenIsRead) {
  auto file = this->Create("f");
  ASSERT_TRUE(file->WriteAt(0, AsBytes("hello")).ok());
  ASSERT_TRUE(file->WriteAt(3, AsBytes("p!")).ok());
  EXPECT_EQ(*file->Size(), 5u);
  EXPECT_EQ(this->Read("f"), "help!");
  ASSERT_TRUE(file->DataSync().ok());
  Buffer part(3);
  EXPECT_EQ(*file->ReadAt(1, part), 3u);
  EXPECT_EQ(ToString(part), "elp");
}

TYPED_TEST(FsConformance, ReadsEndAtTheEnd) {
  this->Put("f", "12345");
  auto file = *this->fs().Open(this->Path("f"), {});
  Buffer out(10, 'x');
  EXPECT_EQ(*file->ReadAt(3, out), 2u);
  EXPECT_EQ(ToString(Bytes(out).first(3)), "45x");
  EXPECT_EQ(*file->ReadAt(5, out), 0u);
  EXPECT_EQ(*file->ReadAt(1000, out), 0u);
  EXPECT_EQ(*file->ReadAt(0, MutableBytes()), 0u);
}

TYPED_TEST(FsConformance, GapsAreZeros) {
  auto file = this->Create("f");
  ASSERT_TRUE(file->WriteAt(100'000, AsBytes("x")).ok());
  Buffer all(100'001, 1);
  EXPECT_EQ(*file->ReadAt(0, all), 100'001u);
  EXPECT_EQ(std::count(all.begin(), all.end(), 0), 100'000);
}

TYPED_TEST(FsConformance, TruncateCutsAndExtendsWithZeros) {
  auto file = this->Create("f");
  ASSERT_TRUE(file->WriteAt(0, AsBytes("0123456789")).ok());
  ASSERT_TRUE(file->Truncate(4).ok());
  EXPECT_EQ(this->Read("f"), "0123");
  ASSERT_TRUE(file->Truncate(6).ok());
  EXPECT_EQ(this->Read("f"), std::string("0123\0\0", 6));
  ASSERT_TRUE(file->Truncate(0).ok());
  EXPECT_EQ(this->Read("f"), "");
}

TYPED_TEST(FsConformance, AllocateExtendsAndKeepsWhatIsThere) {
  auto file = this->Create("f");
  ASSERT_TRUE(file->WriteAt(0, AsBytes("abc")).ok());
  Status s = file->Allocate(0, 1 << 20);
  ASSERT_TRUE(s.ok()) << s;
  EXPECT_EQ(*file->Size(), 1u << 20);
  Buffer head(5, 1);
  EXPECT_EQ(*file->ReadAt(0, head), 5u);
  EXPECT_EQ(ToString(head), std::string("abc\0\0", 5));
  ASSERT_TRUE(file->Allocate(0, 10).ok());
  EXPECT_EQ(*file->Size(), 1u << 20) << "it never shrinks";
  EXPECT_TRUE(file->Allocate(0, 0).ok());
}

TYPED_TEST(FsConformance, OpenOptions) {
  Fs& fs = this->fs();
  std::string path = this->Path("f");
  auto missing = fs.Open(path, {.write = true});
  EXPECT_EQ(missing.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(Message(missing.status()), HasSubstr(path));
  EXPECT_TRUE(fs.Open(path, {.write = true, .create = true, .exclusive = true}).ok());
  EXPECT_EQ(fs.Open(path, {.write = true, .create = true, .exclusive = true}).status().code(),
            StatusCode::kAlreadyExists);
  EXPECT_TRUE(fs.Open(path, {.write = true, .create = true}).ok());
  auto reader = *fs.Open(path, {});
  EXPECT_EQ(reader->WriteAt(0, AsBytes("x")).code(), StatusCode::kInternal);
  EXPECT_EQ(fs.Open(this->Path("no/f"), {.write = true, .create = true}).status().code(),
            StatusCode::kNotFound);
  EXPECT_EQ(fs.Open(this->Path(""), {}).status().code(), StatusCode::kFailedPrecondition)
      << "a directory is no file";
}

TYPED_TEST(FsConformance, DirectIo) {
  Fs& fs = this->fs();
  std::unique_ptr<uint8_t, decltype(&std::free)> block(
      static_cast<uint8_t*>(std::aligned_alloc(kDirectAlign, 2 * kDirectAlign)), &std::free);
  MutableBytes whole(block.get(), 2 * kDirectAlign), half(block.get(), kDirectAlign);
  std::fill(whole.begin(), whole.end(), 7);
  auto opened =
      fs.Open(this->Path("f"), {.write = true, .create = true, .exclusive = true, .direct = true});
  ASSERT_TRUE(opened.ok()) << opened.status();
  auto file = *std::move(opened);
  ASSERT_TRUE(file->WriteAt(0, half).ok());
  ASSERT_TRUE(file->WriteAt(2 * kDirectAlign, half).ok());
  EXPECT_EQ(*file->Size(), 3 * kDirectAlign);
  ASSERT_TRUE(file->Truncate(2 * kDirectAlign + 100).ok());
  EXPECT_EQ(*file->ReadAt(kDirectAlign, whole), kDirectAlign + 100) << "up to an odd end";
  EXPECT_EQ(whole[0], 0);
  EXPECT_EQ(whole[kDirectAlign], 7);
  EXPECT_EQ(file->WriteAt(1, half).code(), StatusCode::kInternal);
  EXPECT_EQ(file->WriteAt(0, half.first(100)).code(), StatusCode::kInternal);
  EXPECT_EQ(file->WriteAt(0, whole.subspan(512, kDirectAlign)).code(), StatusCode::kInternal);
  EXPECT_EQ(file->ReadAt(0, half.first(100)).status().code(), StatusCode::kInternal);
}

TYPED_TEST(FsConformance, NamesAreListedInByteOrder) {
  for (const char* name : {"b", "a", "\xff", "B", "a.b"}) this->Put(name, "");
  ASSERT_TRUE(this->fs().CreateDir(this->Path("dir")).ok());
  this->Put("dir/inner", "");
  EXPECT_THAT(*this->fs().List(this->Path("")), ElementsAre("B", "a", "a.b", "b", "dir", "\xff"));
  EXPECT_THAT(*this->fs().List(this->Path("dir")), ElementsAre("inner"));
  EXPECT_EQ(this->fs().List(this->Path("no")).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(this->fs().List(this->Path("a")).status().code(), StatusCode::kNotFound);
}

TYPED_TEST(FsConformance, Directories) {
  Fs& fs = this->fs();
  EXPECT_TRUE(fs.CreateDir(this->Path("d")).ok());
  EXPECT_TRUE(fs.CreateDir(this->Path("d")).ok()) << "it is there already";
  EXPECT_EQ(fs.CreateDir(this->Path("no/d")).code(), StatusCode::kNotFound);
  this->Put("f", "");
  EXPECT_EQ(fs.CreateDir(this->Path("f")).code(), StatusCode::kAlreadyExists);
  EXPECT_TRUE(fs.SyncDir(this->Path("d")).ok());
  EXPECT_EQ(fs.SyncDir(this->Path("no")).code(), StatusCode::kNotFound);
  this->Put("d/f", "");
  EXPECT_EQ(fs.Remove(this->Path("d")).code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(fs.Remove(this->Path("d/f")).ok());
  EXPECT_TRUE(fs.Remove(this->Path("d")).ok());
  EXPECT_FALSE(*fs.Exists(this->Path("d")));
}

TYPED_TEST(FsConformance, Exists) {
  this->Put("f", "");
  EXPECT_TRUE(*this->fs().Exists(this->Path("f")));
  EXPECT_TRUE(*this->fs().Exists(this->Path("")));
  EXPECT_FALSE(*this->fs().Exists(this->Path("g")));
  EXPECT_FALSE(*this->fs().Exists(this->Path("f/g")));
  EXPECT_FALSE(*this->fs().Exists(this->Path("g/h")));
}

TYPED_TEST(FsConformance, RenameReplaces) {
  Fs& fs = this->fs();
  this->Put("old", "1");
  this->Put("target", "2");
  auto open_target = *fs.Open(this->Path("target"), {});
  EXPECT_TRUE(fs.Rename(this->Path("old"), this->Path("target")).ok());
  EXPECT_EQ(this->Read("target"), "1");
  EXPECT_FALSE(*fs.Exists(this->Path("old")));
  Buffer out(1);
  EXPECT_EQ(*open_target->ReadAt(0, out), 1u);
  EXPECT_EQ(out[0], '2') << "a handle stays with its file";
  EXPECT_EQ(fs.Rename(this->Path("no"), this->Path("x")).code(), StatusCode::kNotFound);
  EXPECT_TRUE(fs.Rename(this->Path("target"), this->Path("target")).ok());
  EXPECT_EQ(this->Read("target"), "1");
}

TYPED_TEST(FsConformance, RemovedFilesLiveOnInTheirHandles) {
  auto file = this->Create("f");
  ASSERT_TRUE(file->WriteAt(0, AsBytes("1")).ok());
  EXPECT_TRUE(this->fs().Remove(this->Path("f")).ok());
  EXPECT_EQ(this->fs().Remove(this->Path("f")).code(), StatusCode::kNotFound);
  EXPECT_TRUE(file->WriteAt(1, AsBytes("2")).ok());
  Buffer out(2);
  EXPECT_EQ(*file->ReadAt(0, out), 2u);
  EXPECT_EQ(ToString(out), "12");
  this->Put("f", "new");
  EXPECT_EQ(this->Read("f"), "new");
  EXPECT_EQ(*file->Size(), 2u);
}

TYPED_TEST(FsConformance, ALockExcludes) {
  Fs& fs = this->fs();
  auto first = fs.Lock(this->Path("lock"));
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = fs.Lock(this->Path("lock"));
  EXPECT_EQ(second.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(second.status()), HasSubstr(this->Path("lock")));
  EXPECT_TRUE(fs.Lock(this->Path("other")).ok());
  first->reset();
  EXPECT_TRUE(fs.Lock(this->Path("lock")).ok());
}

TYPED_TEST(FsConformance, Space) {
  auto space = this->fs().Space(this->Path(""));
  ASSERT_TRUE(space.ok()) << space.status();
  EXPECT_GT(space->total_bytes, 0u);
  EXPECT_LE(space->free_bytes, space->total_bytes);
  EXPECT_EQ(this->fs().Space(this->Path("no")).status().code(), StatusCode::kNotFound);
}

TYPED_TEST(FsConformance, WriteFileAtomicallyReplacesAndLeavesNothingElse) {
  for (std::string_view text : {"a long first version", "short", ""}) {
    Status s = WriteFileAtomically(this->fs(), this->Path("f"), AsBytes(text));
    ASSERT_TRUE(s.ok()) << s;
    EXPECT_EQ(this->Read("f"), text);
  }
  EXPECT_THAT(*this->fs().List(this->Path("")), ElementsAre("f"));
  EXPECT_EQ(WriteFileAtomically(this->fs(), this->Path("no/f"), {}).code(), StatusCode::kNotFound);
  // What an earlier crash left does not show through.
  this->Put("f.new", "something much longer than what follows");
  ASSERT_TRUE(WriteFileAtomically(this->fs(), this->Path("f"), AsBytes("x")).ok());
  EXPECT_EQ(this->Read("f"), "x");
}

TYPED_TEST(FsConformance, ThreadsWriteAtTheirOffsets) {
  auto file = this->Create("f");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::string line(1000, static_cast<char>('a' + t));
      for (int i = t; i < 200; i += 4) {
        EXPECT_TRUE(file->WriteAt(static_cast<uint64_t>(i) * 1000, AsBytes(line)).ok());
      }
    });
  }
  for (std::thread& t : threads) t.join();
  std::string all = this->Read("f");
  ASSERT_EQ(all.size(), 200'000u);
  for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], 'a' + i / 1000 % 4) << i;
}

TYPED_TEST(FsConformance, AgreesWithAStringOverManyRandomOperations) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    SimRng rng(seed);
    auto file = this->Create("f" + std::to_string(seed));
    std::string expected;
    for (int step = 0; step < 200; ++step) {
      uint64_t at = rng.Below(60'000), n = rng.Below(20'000);
      switch (rng.Below(4)) {
        case 0:
        case 1: {
          std::string bytes(n, static_cast<char>(rng.Below(256)));
          ASSERT_TRUE(file->WriteAt(at, AsBytes(bytes)).ok());
          if (n > 0 && expected.size() < at + n) expected.resize(at + n, '\0');
          expected.replace(n > 0 ? at : 0, n, bytes);
          break;
        }
        case 2:
          ASSERT_TRUE(file->Truncate(at).ok());
          expected.resize(at, '\0');
          break;
        case 3:
          ASSERT_TRUE(file->Allocate(at, n).ok());
          if (n > 0 && expected.size() < at + n) expected.resize(at + n, '\0');
          break;
      }
      if (rng.Below(10) == 0) {
        ASSERT_TRUE(file->DataSync().ok());
      }
    }
    EXPECT_EQ(this->Read("f" + std::to_string(seed)), expected);
  }
}

TEST(PosixFsTest, FilesAreForTheirOwnerOnly) {
  TempDir temp;
  ASSERT_TRUE(PosixFs().CreateDir(temp.path() + "/d").ok());
  ASSERT_TRUE(PosixFs().Open(temp.path() + "/d/f", {.write = true, .create = true}).ok());
  ASSERT_TRUE(PosixFs().Lock(temp.path() + "/d/lock").ok());
  using std::filesystem::perms;
  auto mode = [&](const char* name) {
    return std::filesystem::status(temp.path() + name).permissions();
  };
  EXPECT_EQ(mode("/d"), perms::owner_all);
  EXPECT_EQ(mode("/d/f"), perms::owner_read | perms::owner_write);
  EXPECT_EQ(mode("/d/lock"), perms::owner_read | perms::owner_write);
}

TEST(PosixFsTest, AFullDiskIsResourceExhausted) {
  auto full = PosixFs().Open("/dev/full", {.write = true});
  if (!full.ok()) GTEST_SKIP() << full.status();
  Status s = (*full)->WriteAt(0, AsBytes("x"));
  EXPECT_EQ(s.code(), StatusCode::kResourceExhausted) << s;
}

TEST(PosixFsTest, AZeroByteInAPathIsRefused) {
  EXPECT_EQ(PosixFs().Open(std::string("/tmp/a\0b", 8), {}).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(PosixFsTest, DirectIoFallsBackWhereThereIsNone) {
  // tmpfs refuses O_DIRECT (before Linux 6.6).
  TempDir temp(TempDir::MemoryBacked());
  auto file = PosixFs().Open(temp.path() + "/f",
                             {.write = true, .create = true, .exclusive = true, .direct = true});
  EXPECT_TRUE(file.ok()) << file.status();
}

}  // namespace
}  // namespace holdfast
