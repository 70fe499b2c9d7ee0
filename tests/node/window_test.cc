// How much a Window reads, and that it gives the right bytes.
#include "node/window.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

constexpr uint64_t kKi = 1024;

// Every 8 bytes say where they are. Notes what is read, and cannot read one block.
class NotingFile : public File {
 public:
  StatusOr<size_t> ReadAt(uint64_t offset, MutableBytes out) override {
    if (bad_block >= offset && bad_block < offset + out.size()) {
      return absl::UnavailableError("I/O error");
    }
    reads.emplace_back(offset / kKi, out.size() / kKi);
    for (size_t i = 0; i < out.size(); i += 8) {
      const uint64_t at = offset + i;
      std::memcpy(out.data() + i, &at, 8);
    }
    return out.size();
  }
  Status WriteAt(uint64_t, Bytes) override { return absl::OkStatus(); }
  Status DataSync() override { return absl::OkStatus(); }
  Status Truncate(uint64_t) override { return absl::OkStatus(); }
  Status Allocate(uint64_t, uint64_t) override { return absl::OkStatus(); }
  StatusOr<uint64_t> Size() override { return 1u << 30; }

  std::vector<std::pair<uint64_t, uint64_t>> reads;  // Offset and length, KiB.
  uint64_t bad_block = UINT64_MAX;
};

void Expect(Window& window, uint64_t offset, uint64_t length) {
  const Bytes view = window.View(offset, length);
  ASSERT_EQ(view.size(), length);
  for (uint64_t i = 0; i + 8 <= length; i += 8) {
    uint64_t at;
    std::memcpy(&at, view.data() + i, 8);
    ASSERT_EQ(at, offset + i);
  }
}

TEST(WindowTest, WithoutGapsItReadsMoreAndMoreAtATime) {
  NotingFile file;
  Window window(file, 8192 * kKi, 64 * kKi);
  for (uint64_t at = 0; at < 8192 * kKi; at += 8 * kKi) Expect(window, at, 8 * kKi);
  EXPECT_THAT(file.reads,
              ElementsAre(Pair(0, 64), Pair(64, 128), Pair(192, 256), Pair(448, 512),
                          Pair(960, 1024), Pair(1984, 1024), Pair(3008, 1024), Pair(4032, 1024),
                          Pair(5056, 1024), Pair(6080, 1024), Pair(7104, 1024), Pair(8128, 64)));
}

TEST(WindowTest, BeyondAGapOnlyTheBlocksOfTheView) {
  NotingFile file;
  Window window(file, 8192 * kKi, 64 * kKi);
  Expect(window, 0, 8);
  Expect(window, 64 * kKi, 8);
  Expect(window, 512 * kKi, 8);   // Beyond a gap.
  Expect(window, 1024 * kKi, 8);  // And another one.
  Expect(window, 1028 * kKi, 8);  // It goes on from there.
  Expect(window, 100 * kKi, 8);   // Back.
  EXPECT_THAT(file.reads, ElementsAre(Pair(0, 64), Pair(64, 128), Pair(512, 4), Pair(1024, 4),
                                      Pair(1028, 64), Pair(100, 64)));
}

TEST(WindowTest, ABadBlockCostsItselfOnly) {
  NotingFile file;
  file.bad_block = 200 * kKi;
  Window window(file, 8192 * kKi, 64 * kKi);
  for (uint64_t at = 0; at < 1024 * kKi; at += 4 * kKi) {
    if (at != file.bad_block) Expect(window, at, 4 * kKi);
  }
  EXPECT_EQ(window.View(file.bad_block, 8).size(), 8u);
  EXPECT_EQ(window.View(file.bad_block, 8)[0], 0);
  EXPECT_TRUE(window.Unreadable(file.bad_block, file.bad_block + 1));
  EXPECT_FALSE(window.Unreadable(0, file.bad_block));
}

}  // namespace
}  // namespace holdfast
