#include "common/kv/mem_kv.h"

#include <gtest/gtest.h>

#include <set>

namespace holdfast {
namespace {

// Writes batches 1..batches, the first `durable` of them made durable, crashes, and says how many
// are left; fails unless that is a prefix.
int LeftAfterCrash(uint64_t seed, bool wal, int batches, int durable) {
  MemKvDisk disk;
  {
    auto kv = OpenMemKv(disk, wal);
    for (int i = 1; i <= batches; ++i) {
      // Each batch takes something back too, so that undoing is more than erasing.
      KvBatch batch = {{"count", std::to_string(i)},
                       {"row" + std::to_string(i), "v"},
                       {"only" + std::to_string(i - 1), std::nullopt},
                       {"only" + std::to_string(i), "v"}};
      bool sync = wal && i == durable;
      EXPECT_TRUE(kv->Write(batch, sync).ok());
      if (!wal && i == durable) {
        EXPECT_TRUE(kv->Flush().ok());
      }
    }
    SimRng rng(seed);
    disk.Crash(rng);
    EXPECT_EQ(kv->Get("count").status().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(kv->Write({{"count", "0"}}, false).code(), absl::StatusCode::kUnavailable);
  }
  auto kv = OpenMemKv(disk, wal);
  int left = std::stoi(kv->Get("count")->value_or("0"));
  std::set<std::string> expected, found;
  for (int i = 1; i <= left; ++i) expected.insert("row" + std::to_string(i));
  if (left > 0) expected.insert({"count", "only" + std::to_string(left)});
  EXPECT_TRUE(kv->Scan("", "", [&](std::string_view k, std::string_view) {
                  found.emplace(k);
                  return true;
                }).ok());
  EXPECT_EQ(found, expected);
  return left;
}

TEST(MemKvCrash, LeavesAPrefixThatHoldsWhatWasDurable) {
  for (bool wal : {true, false}) {
    std::set<int> seen;
    for (uint64_t seed = 0; seed < 300; ++seed) {
      SCOPED_TRACE("seed " + std::to_string(seed) + (wal ? " wal" : " no wal"));
      int left = LeftAfterCrash(seed, wal, 8, 3);
      EXPECT_GE(left, 3);
      seen.insert(left);
    }
    EXPECT_EQ(seen, (std::set<int>{3, 4, 5, 6, 7, 8})) << "every prefix can happen";
  }
}

TEST(MemKvCrash, WithNothingDurableEverythingMayGo) {
  std::set<int> seen;
  for (uint64_t seed = 0; seed < 300; ++seed) seen.insert(LeftAfterCrash(seed, true, 2, -1));
  EXPECT_EQ(seen, (std::set<int>{0, 1, 2}));
}

TEST(MemKvCrash, WhatSurvivedOneCrashSurvivesTheNext) {
  MemKvDisk disk;
  SimRng rng(7);
  ASSERT_TRUE(OpenMemKv(disk, true)->Write({{"a", "1"}}, false).ok());
  disk.Crash(rng);
  auto first = OpenMemKv(disk, true)->Get("a");
  for (int i = 0; i < 20; ++i) {
    disk.Crash(rng);
    EXPECT_EQ(*OpenMemKv(disk, true)->Get("a"), *first);
  }
}

TEST(MemKvCrash, ClosingKeepsWhatACrashMayStillTake) {
  std::set<bool> kept;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    MemKvDisk disk;
    SimRng rng(seed);
    ASSERT_TRUE(OpenMemKv(disk, true)->Write({{"a", "1"}}, false).ok());
    EXPECT_TRUE(OpenMemKv(disk, true)->Get("a")->has_value());
    disk.Crash(rng);
    kept.insert(OpenMemKv(disk, true)->Get("a")->has_value());
  }
  EXPECT_EQ(kept.size(), 2u);
}

TEST(MemKvDiskTest, WipeDropsEverything) {
  MemKvDisk disk;
  ASSERT_TRUE(OpenMemKv(disk, true)->Write({{"a", "1"}}, true).ok());
  disk.Wipe();
  EXPECT_FALSE(OpenMemKv(disk, true)->Get("a")->has_value());
}

TEST(MemKvDeathTest, TwoAtATimeAreABug) {
  MemKvDisk disk;
  auto kv = OpenMemKv(disk, true);
  EXPECT_DEATH(OpenMemKv(disk, true), "opened twice");
}

}  // namespace
}  // namespace holdfast
