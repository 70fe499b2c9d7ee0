// Marks that go through files: what is loaded is what was added, or an error.
#include "coordinator/mark_set.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/base/rng.h"
#include "common/io/sim_fs.h"

namespace holdfast {
namespace {

constexpr uint8_t kBucket = 7;

// Enough for two blocks in a file and some in memory, each id twice.
std::vector<RecordId> AddMany(MarkSet& marks) {
  SimRng rng(1);
  std::vector<RecordId> ids(2500);
  for (RecordId& id : ids) {
    id = rng.NewId<RecordId>();
    id.value[0] = kBucket;
  }
  for (int round = 0; round < 2; ++round) {
    for (const RecordId& id : ids) EXPECT_TRUE(marks.Add(id).ok());
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

TEST(MarkSetTest, GivesBackWhatWasSpilledSortedAndOnce) {
  SimFs fs(1);
  auto marks = MarkSet::Make(fs, "/gc");
  ASSERT_TRUE(marks.ok());
  const std::vector<RecordId> ids = AddMany(**marks);
  EXPECT_EQ(fs.List("/gc")->size(), 1u);
  EXPECT_EQ(*(*marks)->Load(kBucket), ids);
  EXPECT_TRUE((*marks)->Load(kBucket + 1)->empty());
  marks->reset();
  EXPECT_TRUE(fs.List("/gc")->empty());
}

TEST(MarkSetTest, ABitThatFlipsIsNoticed) {
  SimFs fs(1);
  auto marks = MarkSet::Make(fs, "/gc");
  ASSERT_TRUE(marks.ok());
  AddMany(**marks);
  fs.FlipBit("/gc/" + fs.List("/gc")->front(), 8 * 70'000 + 3);  // In the second block.
  EXPECT_TRUE(absl::IsDataLoss((*marks)->Load(kBucket).status()));
}

TEST(MarkSetTest, AFileThatIsCutShortIsNoticed) {
  SimFs fs(1);
  auto marks = MarkSet::Make(fs, "/gc");
  ASSERT_TRUE(marks.ok());
  AddMany(**marks);
  auto file = fs.Open("/gc/" + fs.List("/gc")->front(), {.write = true});
  ASSERT_TRUE(file.ok() && (*file)->Truncate(70'000).ok());
  EXPECT_TRUE(absl::IsDataLoss((*marks)->Load(kBucket).status()));
}

TEST(MarkSetTest, WhatAnEarlierRunLeftGoes) {
  SimFs fs(1);
  ASSERT_TRUE(fs.CreateDir("/gc").ok());
  ASSERT_TRUE(fs.Open("/gc/mark-9", {.write = true, .create = true}).ok());
  auto marks = MarkSet::Make(fs, "/gc");
  ASSERT_TRUE(marks.ok());
  EXPECT_TRUE(fs.List("/gc")->empty());
}

}  // namespace
}  // namespace holdfast
