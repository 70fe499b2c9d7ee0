// The cut rule: the engine's scan against the naive reading of docs/formats/cut-rule.md, the worked
// bytes of that page, and data of the kinds that break cut rules.
#include "kernels/core/cut.h"

#include "gtest/gtest.h"
#include "kernels/cpu/scan.h"
#include "tests/kernels/testing.h"

namespace holdfast::kernels {
namespace {

using testing::Bytes;

std::vector<size_t> Cuts(const CutParams& params, std::span<const uint8_t> object) {
  std::vector<size_t> lengths;
  while (!object.empty()) {
    const std::optional<size_t> length = FirstChunk(params, object, /*last=*/true);
    EXPECT_TRUE(length.has_value() && *length > 0 && *length <= object.size());
    lengths.push_back(*length);
    object = object.subspan(*length);
  }
  return lengths;
}

// The section "Worked bytes" of docs/formats/cut-rule.md, computed there by a program in another
// language.
TEST(CutTest, WorkedBytesOfTheFormatPage) {
  const CutParams p = MakeCutParams(65536, testing::Seed(0));
  EXPECT_EQ(p.prefilter_multiplier, 0xbd883a2900e5d6a9u);
  EXPECT_EQ(p.prefilter_offset, 0x1fb77ad013e2cb38u);
  EXPECT_EQ(p.confirm_seed, 0x012a07528525b28cu);
  EXPECT_EQ(p.confirm_multipliers,
            (std::array<uint64_t, 8>{0xd0f427e50bc4f1bd, 0x5ebb66cfebdd6867, 0x5b5ca7cb5ba16555,
                                     0xd0fc062856030119, 0xbf12a3f6c22f9c9f, 0x36229b14cf7512e9,
                                     0xdf8d99beb6d5d0b7, 0x16b20e9df178177b}));
  EXPECT_EQ(p.final_multiplier, 0x2315934bd47406a7u);
  EXPECT_EQ(MakeCutParams(65536, {0x22, 0x02}).prefilter_multiplier, 0x340b7a98f1f38a21u);

  Bytes object;
  for (uint64_t i = 0; i < 32768; ++i) {
    std::array<uint8_t, 8> counter;
    core::StoreLe64(counter.data(), i);
    const std::array<uint8_t, 32> bytes = Sha256(counter);
    object.insert(object.end(), bytes.begin(), bytes.end());
  }
  EXPECT_EQ(Cuts(p, object),
            (std::vector<size_t>{72252, 70054, 85770, 68387, 20074, 103749, 65972, 70126, 65671,
                                 73924, 66714, 67787, 66011, 75502, 54834, 21749}));
  uint64_t words[8];
  for (int j = 0; j < 8; ++j) words[j] = core::LoadLe64(object.data() + 72252 - 64 + 8 * j);
  EXPECT_EQ(words[7], 0x1215fb02ec1494bdu);
  EXPECT_EQ(p.prefilter_multiplier * words[7] + p.prefilter_offset, 0x001273c52edff9fdu);
  EXPECT_EQ(
      core::cut::Confirm(p.confirm_seed, p.confirm_multipliers.data(), p.final_multiplier, words),
      0x0044abd7fb4cc674u);
}

TEST(CutTest, RandomBytesAgreeWithNaive) {
  for (const uint32_t avg : {64u << 10, 256u << 10, 1u << 20, 4u << 20}) {
    const CutParams params = MakeCutParams(avg, testing::Seed(5));
    const Bytes bytes = testing::RandomBytes(20 * size_t{avg} + 1234, avg);
    const std::vector<size_t> cuts = Cuts(params, bytes);
    EXPECT_EQ(cuts, testing::NaiveCuts(params, bytes)) << avg;
    // FastCDC's normalisation keeps most lengths around avg: min is not hit, max hardly ever.
    EXPECT_GT(cuts.size(), 10u) << avg;
    EXPECT_LT(cuts.size(), 35u) << avg;
  }
}

TEST(CutTest, UnalignedStartsAgreeWithNaive) {
  const CutParams params = MakeCutParams(64 << 10, testing::Seed(6));
  const Bytes bytes = testing::RandomBytes(1 << 20, 99);
  for (size_t start = 0; start < 40; ++start) {
    const std::span<const uint8_t> object = std::span(bytes).subspan(start);
    ASSERT_EQ(Cuts(params, object), testing::NaiveCuts(params, object)) << start;
  }
}

// Objects that end just around a position that passes: the end needs no test of its own.
TEST(CutTest, EndsAroundACutAgreeWithNaive) {
  const CutParams params = MakeCutParams(64 << 10, testing::Seed(6));
  const Bytes bytes = testing::RandomBytes(1 << 20, 100);
  const size_t cut = Cuts(params, bytes)[0];
  for (size_t size = cut - 40; size <= cut + 40; ++size) {
    const std::span<const uint8_t> object = std::span(bytes).first(size);
    ASSERT_EQ(Cuts(params, object), testing::NaiveCuts(params, object)) << size;
    const std::optional<size_t> open = FirstChunk(params, object, /*last=*/false);
    ASSERT_EQ(open.has_value(), size >= cut) << size;
    if (open) {
      ASSERT_EQ(*open, cut);
    }
  }
  for (const size_t size : {size_t{params.min_size()} - 1, size_t{params.min_size()},
                            size_t{params.min_size()} + 1, size_t{1}}) {
    ASSERT_EQ(FirstChunk(params, std::span(bytes).first(size), true), size);
    ASSERT_EQ(FirstChunk(params, std::span(bytes).first(size), false), std::nullopt);
  }
}

// The 64 bytes before some position of `source` that passes from avg on; below avg too, or
// not where `only_loose`.
std::span<const uint8_t> FindWindow(const CutParams& params, std::span<const uint8_t> source,
                                    bool only_loose) {
  for (size_t i = 64; i < source.size(); ++i) {
    if (testing::NaivePasses(params, source.data() + i, params.avg_size) &&
        testing::NaivePasses(params, source.data() + i, 0) != only_loose) {
      return source.subspan(i - 64, 64);
    }
  }
  ADD_FAILURE() << "no such window";
  return source.first(64);
}

// The group scan must find a lone passing position wherever it lies in its group, and apply the
// right threshold up to the ends of the strict and the loose range. The windows are planted in
// bytes that never pass.
TEST(CutTest, FindsAPlantedCutAtEveryOffset) {
  const CutParams params = MakeCutParams(64 << 10, testing::Seed(6));
  const Bytes source = testing::RandomBytes(4 << 20, 101);
  const size_t min = params.min_size(), avg = params.avg_size, max = params.max_size();
  for (const bool only_loose : {false, true}) {
    const std::span<const uint8_t> window = FindWindow(params, source, only_loose);
    for (const size_t base : {min - 2, min, avg - 40, avg, max - 80}) {
      for (size_t at = base; at < base + 80; ++at) {
        Bytes bytes(max + 100, 0);
        std::ranges::copy(window, bytes.begin() + static_cast<ptrdiff_t>(at) - 64);
        const bool cut = at >= (only_loose ? avg : min) && at < max;
        // Neither the object's end right after the cut nor one far behind may matter.
        for (const size_t size : {at + 1, bytes.size()}) {
          const std::span<const uint8_t> object = std::span(bytes).first(size);
          const size_t length = *FirstChunk(params, object, true);
          ASSERT_EQ(length, testing::NaiveCuts(params, object)[0]) << at;
          ASSERT_EQ(length, cut ? at : std::min(size, max)) << at;
        }
      }
    }
  }
}

TEST(CutTest, MonotonousBytesAreCutAtMax) {
  for (uint8_t first = 0; first < 20; ++first) {
    const CutParams params = MakeCutParams(64 << 10, testing::Seed(first));
    for (const uint8_t value : {0x00, 0xff}) {
      const Bytes bytes(2 * params.max_size() + 5, value);
      EXPECT_EQ(Cuts(params, bytes),
                (std::vector<size_t>{params.max_size(), params.max_size(), 5}));
    }
  }
}

TEST(CutTest, RampsAndPeriodsAgreeWithNaive) {
  const CutParams params = MakeCutParams(64 << 10, testing::Seed(9));
  const size_t size = 2 * size_t{params.max_size()} + 77;
  for (size_t period = 1; period <= 64; ++period) {
    const Bytes pattern = testing::RandomBytes(period, period);
    Bytes bytes(size);
    for (size_t i = 0; i < size; ++i) bytes[i] = pattern[i % period];
    ASSERT_EQ(Cuts(params, bytes), testing::NaiveCuts(params, bytes)) << period;
  }
  for (const size_t step : {1, 3, 64, 251}) {
    Bytes bytes(size);
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i / step);
    ASSERT_EQ(Cuts(params, bytes), testing::NaiveCuts(params, bytes)) << step;
  }
}

// An insertion moves the cuts with the bytes: that is what a cut rule is for.
TEST(CutTest, CutsResynchroniseAfterAnInsertion) {
  const CutParams params = MakeCutParams(64 << 10, testing::Seed(10));
  const Bytes before = testing::RandomBytes(8 << 20, 4);
  Bytes after = before;
  after.insert(after.begin() + 100000, 7, 0x55);
  const auto ends = [&](const Bytes& bytes) {
    std::vector<size_t> from_the_end;
    size_t left = bytes.size();
    for (const size_t length : Cuts(params, bytes)) {
      from_the_end.push_back(left);
      left -= length;
    }
    return from_the_end;
  };
  const std::vector<size_t> a = ends(before), b = ends(after);
  std::vector<size_t> same;
  std::ranges::set_intersection(a, b, std::back_inserter(same), std::greater<>());
  EXPECT_GE(same.size() + 8, a.size());
}

TEST(CutTest, PrefilterPassesOneIn1024) {
  const Bytes bytes = testing::RandomBytes(4 << 20, 12);
  for (uint8_t first = 0; first < 16; ++first) {
    const CutParams p = MakeCutParams(64 << 10, testing::Seed(first));
    size_t passed = 0;
    for (size_t i = 8; i <= bytes.size(); ++i) {
      passed += core::cut::Prefilter(p.prefilter_multiplier, p.prefilter_offset,
                                     core::LoadLe64(bytes.data() + i - 8));
    }
    const double expected = static_cast<double>(bytes.size()) / 1024;
    EXPECT_GT(static_cast<double>(passed), expected / 2);
    EXPECT_LT(static_cast<double>(passed), expected * 2);
  }
}

TEST(CutParamsTest, OddDeterministicAndBlindToRuns) {
  for (int first = 0; first < 250; ++first) {
    const auto seed = testing::Seed(static_cast<uint8_t>(first));
    const CutParams p = MakeCutParams(1 << 20, seed), q = MakeCutParams(64 << 10, seed);
    EXPECT_EQ(p.prefilter_multiplier % 2, 1u);
    EXPECT_EQ(p.final_multiplier % 2, 1u);
    for (const uint64_t k : p.confirm_multipliers) EXPECT_EQ(k % 2, 1u);
    EXPECT_GE(p.prefilter_offset, core::cut::kPrefilterBound);
    EXPECT_GE(p.prefilter_offset - p.prefilter_multiplier, core::cut::kPrefilterBound);
    EXPECT_EQ(p.prefilter_multiplier, q.prefilter_multiplier);
    EXPECT_EQ(p.confirm_multipliers, q.confirm_multipliers);
  }
}

}  // namespace
}  // namespace holdfast::kernels
