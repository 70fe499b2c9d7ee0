// Ingest with threads and real files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/rpc/methods.h"
#include "tests/client/ingest_testing.h"

namespace holdfast::testing {
namespace {

// Short, long, equal and compressible files, about 60 MB.
void FillSource(MemorySource& source) {
  for (int i = 0; i < 1500; ++i) {
    const std::string name = "short/" + std::to_string(i);
    source.AddFile(name, NoiseBytes(i % 900, 100 + (i * 37) % 20'000));
  }
  for (int i = 0; i < 12; ++i) {
    source.AddFile("long/" + std::to_string(i), NoiseBytes(5000 + i % 8, 3'000'000 + i % 8));
  }
  for (int i = 0; i < 20; ++i) source.AddFile("text/" + std::to_string(i), TextBytes(i, 300'000));
}

// Words that do not repeat and do not compress.
void FillWithCounter(uint64_t offset, MutableBytes out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<uint8_t>(((offset + i) * 0x9E3779B97F4A7C15u) >> 40);
  }
}

// Listed as short, but by the time they are opened too long for the rest of the slab, or for any
// share of one; more of them than a worker reads side by side.
TEST(IngestThreadsTest, FilesThatGrowBetweenListingAndOpening) {
  IngestRig rig({.threaded = true});
  for (bool cold : {false, true}) {
    SCOPED_TRACE(cold);
    MemorySource source;
    source.cold = cold;
    for (int i = 0; i < 300; ++i) {
      const size_t size = i % 3 == 0 ? 6'000'000 : i % 3 == 1 ? 900'000 : 20'000;
      source
          .AddGenerated(std::to_string(i), size,
                        [i](uint64_t offset, MutableBytes out) {
                          FillWithCounter(offset + uint64_t(i) * 7'000'000, out);
                        })
          .listed_size = 10'000;
    }
    source.AddGenerated("long", 60'000'000, FillWithCounter);
    StatusOr<IngestSummary> s = rig.Run(source, {.collection = "c"}, /*threads=*/2);
    ASSERT_TRUE(s.ok()) << s.status();
    EXPECT_EQ(s->files, 301u);
    EXPECT_EQ(s->errors, 0u) << rig.seen().errors.begin()->second;
    EXPECT_EQ(s->bytes, 100 * uint64_t{6'920'000} + 60'000'000);
    EXPECT_EQ(source.open_files, 0);
  }
}

TEST(IngestThreadsTest, ChunksAndDigestsDoNotDependOnThreads) {
  IngestRig rig({.threaded = true, .nodes = 2, .replicas = 2});
  uint64_t stored = 0;
  for (int threads : {1, 4}) {
    MemorySource source;
    FillSource(source);
    StatusOr<IngestSummary> s =
        rig.Run(source, {.collection = std::to_string(threads), .commit_objects = 100}, threads);
    ASSERT_TRUE(s.ok()) << s.status();
    EXPECT_EQ(s->files, 1532u);
    EXPECT_EQ(s->errors, 0u);
    EXPECT_EQ(rig.seen().objects.size(), 1532u);
    if (threads == 1) {
      stored = s->stored_bytes;
    } else {
      EXPECT_EQ(s->stored_bytes, 0u);
    }
  }
  EXPECT_GT(stored, 24'000'000u);
  for (const auto& [name, state] : rig.seen().objects) {
    StatusOr<Vault::OpenedObject> one = rig.Opened(name, "1"), four = rig.Opened(name, "4");
    ASSERT_TRUE(one.ok() && four.ok()) << one.status() << four.status();
    EXPECT_EQ(one->sealed.sha256, four->sealed.sha256);
    EXPECT_EQ(one->sealed.md5, four->sealed.md5);
    EXPECT_EQ(one->info.manifest.tag_sha1, four->info.manifest.tag_sha1);
    ASSERT_EQ(one->info.manifest.chunks.size(), four->info.manifest.chunks.size());
    for (size_t i = 0; i < one->info.manifest.chunks.size(); ++i) {
      EXPECT_EQ(one->info.manifest.chunks[i].id, four->info.manifest.chunks[i].id);
      EXPECT_GT(four->info.manifest.chunks[i].stored_length, 0u);
      EXPECT_EQ(one->info.manifest.chunks[i].stored_length,
                four->info.manifest.chunks[i].stored_length);
    }
  }
  EXPECT_TRUE(rig.Read("long/3", "4") == NoiseBytes(5003, 3'000'003));
  EXPECT_TRUE(rig.Read("text/7", "4") == TextBytes(7, 300'000));
}

TEST(IngestThreadsTest, ManyTinyFilesAndOneLongOneInLittleMemory) {
  IngestRig rig({.threaded = true});
  MemorySource source;
  constexpr int kFiles = 10'000;
  for (int i = 0; i < kFiles; ++i) {
    source.AddFile(std::to_string(i), "content of file " + std::to_string(i / 2));
  }
  source.AddGenerated("long", 100u << 20, FillWithCounter);
  StatusOr<IngestSummary> s = rig.Run(source, {.slab_bytes = 4u << 20}, 3);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->files, kFiles + 1u);
  EXPECT_EQ(s->duplicates, kFiles / 2u);
  EXPECT_EQ(rig.Read("9999"), "content of file 4999");
}

TEST(IngestThreadsTest, WhatIsNotInMemoryIsAskedForAheadOfItsTurn) {
  for (bool cold : {false, true}) {
    for (int threads : {-1, 2}) {
      SCOPED_TRACE(::testing::Message() << "cold " << cold << " threads " << threads);
      IngestRig rig({.threaded = threads > 0});
      MemorySource source;
      source.cold = cold;
      FillSource(source);
      source.AddGenerated("longest", 20u << 20, FillWithCounter);
      StatusOr<IngestSummary> s = rig.Run(source, {.collection = "c"}, threads);
      ASSERT_TRUE(s.ok()) << s.status();
      EXPECT_EQ(s->files, 1533u);
      EXPECT_EQ(s->errors, 0u);
      EXPECT_EQ(rig.Read("text/7"), TextBytes(7, 300'000));
      if (cold) {
        // The first file of each worker, and the first slice of long files.
        EXPECT_LT(source.waits, 60);
        EXPECT_GT(source.most_asked, 100);
        EXPECT_EQ(source.asked, 0) << "asked for, but not read";
      } else {
        EXPECT_EQ(source.most_asked, 0) << "nothing has to be asked for";
      }
    }
  }
}

TEST(IngestThreadsTest, FilesAheadThatTakeAllDescriptorsComeFirst) {
  IngestRig rig({.threaded = true});
  MemorySource source;
  source.cold = true;
  source.max_open_files = 20;
  constexpr int kFiles = 3000;
  for (int i = 0; i < kFiles; ++i) source.AddFile(std::to_string(i), NoiseBytes(i, 2000));
  StatusOr<IngestSummary> s = rig.Run(source, {.collection = "c"}, /*threads=*/1);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->files, static_cast<uint64_t>(kFiles));
  EXPECT_EQ(s->errors, 0u) << rig.seen().errors.begin()->second;
  EXPECT_EQ(source.most_asked, 20);
  EXPECT_EQ(source.open_files, 0);
}

TEST(IngestThreadsTest, LongFilesWaitForDescriptors) {
  for (bool cold : {false, true}) {
    SCOPED_TRACE(cold);
    IngestRig rig({.threaded = true});
    MemorySource source;
    source.cold = cold;
    source.max_open_files = 5;
    constexpr int kFiles = 400;
    for (int i = 0; i < kFiles; ++i) {
      const size_t size = i % 10 == 0 ? 3'000'000 : 2000;
      source.AddFile(std::to_string(i), NoiseBytes(i, size));
    }
    StatusOr<IngestSummary> s = rig.Run(source, {.collection = "c"}, /*threads=*/1);
    ASSERT_TRUE(s.ok()) << s.status();
    EXPECT_EQ(s->files, static_cast<uint64_t>(kFiles));
    EXPECT_EQ(s->errors, 0u) << rig.seen().errors.begin()->second;
    EXPECT_EQ(source.open_files, 0);
  }
}

TEST(IngestThreadsTest, AFileThatChangedIsReadAgainWithItsOwnDescriptor) {
  IngestRig rig({.threaded = true});
  MemorySource source;
  source.max_open_files = 1;
  source.AddFile("f", NoiseBytes(1, 2000)).after_read = [](MemorySource::Item& item, uint64_t) {
    item.entry.stamp.ctime_nanos = 7;
  };
  StatusOr<IngestSummary> s = rig.Run(source, {.collection = "c"}, /*threads=*/1);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->errors, 0u) << rig.seen().errors.begin()->second;
  EXPECT_EQ(rig.Read("f"), NoiseBytes(1, 2000));
}

TEST(IngestThreadsTest, ATreeOnDisk) {
  IngestRig rig({.threaded = true});
  const std::string tree = rig.dir() + "/tree";
  std::filesystem::create_directories(tree + "/a/b");
  for (int i = 0; i < 300; ++i) {
    std::ofstream(tree + "/a/b/" + std::to_string(i), std::ios::binary) << NoiseBytes(i, i * 100);
  }
  std::filesystem::create_symlink("b", tree + "/a/l");
  std::filesystem::create_hard_link(tree + "/a/b/7", tree + "/z");
  StatusOr<std::unique_ptr<Source>> source = OpenPosixSource({tree});
  ASSERT_TRUE(source.ok());
  StatusOr<IngestSummary> s = rig.Run(**source);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->files, 301u);
  EXPECT_EQ(s->directories, 3u);
  EXPECT_EQ(s->symlinks, 1u);
  EXPECT_EQ(rig.Read("tree/a/b/299"), NoiseBytes(299, 29'900));
  StatusOr<Vault::OpenedObject> link = rig.Opened("tree/z");
  ASSERT_TRUE(link.ok());
  EXPECT_EQ(link->info.manifest.type, ObjectType::kHardLink);
  EXPECT_EQ(link->sealed.link, "tree/a/b/7");
}

TEST(IngestThreadsTest, AVaultThatFailsMidwayEndsTheIngest) {
  IngestRig rig({.threaded = true});
  std::atomic<int> puts{0};
  rig.node(0).hook = [&](RpcMessage& request, ReplyFn& reply) {
    if (request.method != rpc::kNodePut || ++puts < 3) return false;
    reply(absl::ResourceExhaustedError("no space left on device"));
    return true;
  };
  MemorySource source;
  constexpr uint64_t kSize = 50u << 20;
  source.cold = true;
  for (int i = 0; i < 20; ++i) source.AddGenerated(std::to_string(i), kSize, FillWithCounter);
  for (int i = 0; i < 5000; ++i) source.AddFile("short/" + std::to_string(i), NoiseBytes(i, 500));
  const int64_t start = SystemClock().MonotonicNanos();
  StatusOr<IngestSummary> s = rig.Run(source, {}, 2);
  EXPECT_TRUE(absl::IsResourceExhausted(s.status())) << s.status();
  EXPECT_TRUE(rig.seen().errors.empty()) << "it is the vault that failed";
  EXPECT_LT(SystemClock().MonotonicNanos() - start, 60'000'000'000)
      << "there is nothing to wait for";
  EXPECT_LT(rig.progress().bytes_read, 15 * kSize);
  EXPECT_EQ(source.open_files, 0);
}

}  // namespace
}  // namespace holdfast::testing
