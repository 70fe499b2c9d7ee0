#include "kernels/cpu/scan.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/core/cut.h"

namespace holdfast::kernels {
namespace {

// The scan reads words at every byte offset; a byte swap at each would double its cost.
static_assert(std::endian::native == std::endian::little, "the CPU shells are little-endian");

uint64_t LoadWord(const uint8_t* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

// The confirm value of the window that ends before `end`, against a threshold.
bool Confirmed(const CutParams& params, const uint8_t* end, uint64_t threshold) {
  uint64_t words[8];
  std::memcpy(words, end - core::cut::kWindow, sizeof words);
  return core::cut::Confirm(params.confirm_seed, params.confirm_multipliers.data(),
                            params.final_multiplier, words) < threshold;
}

// The first position in [from, to) that passes with `threshold`, or `to`.
size_t FirstPass(const CutParams& params, CutFinder find, const uint8_t* data, size_t from,
                 size_t to, uint64_t threshold) {
  const uint64_t k1 = params.prefilter_multiplier, k0 = params.prefilter_offset;
  const auto pass = [&](size_t i) {
    return core::cut::Prefilter(k1, k0, LoadWord(data + i - 8)) &&
           Confirmed(params, data + i, threshold);
  };
  size_t i = from;
  for (; i + kMaxCutGroup <= to; ++i) {
    i = find(data, i, to, k1, k0);
    if (i < to && pass(i)) return i;
  }
  for (; i < to; ++i) {
    if (pass(i)) return i;
  }
  return to;
}

}  // namespace

// The positions of a group share one branch; one group in 32 has a position that passes. Adding the
// results compiles to compare and add-with-carry, cheaper than or-ing them.
size_t FindCutPortable(const uint8_t* data, size_t from, size_t to, uint64_t k1, uint64_t k0) {
  constexpr size_t kGroup = 32;
  size_t i = from;
  for (; i + kGroup <= to; i += kGroup) {
    uint64_t passes = 0;
    HOLDFAST_UNROLL
    for (size_t j = 0; j < kGroup; ++j) {
      passes += core::cut::Prefilter(k1, k0, LoadWord(data + i + j - 8));
    }
    if (passes == 0) [[likely]]
      continue;
    while (!core::cut::Prefilter(k1, k0, LoadWord(data + i - 8))) ++i;
    return i;
  }
  return i;
}

std::optional<size_t> FirstChunk(const CutParams& params, std::span<const uint8_t> data, bool last,
                                 CutFinder find) {
  const size_t min = params.min_size(), avg = params.avg_size, max = params.max_size();
  // The end of a slice that is not the last is a position like any other.
  const size_t end = std::min(max, last ? data.size() : data.size() + 1);
  if (end > min) {
    const size_t strict_end = std::min(avg, end);
    size_t at = FirstPass(params, find, data.data(), min, strict_end,
                          core::cut::StrictThreshold(params.avg_size));
    if (at < strict_end) return at;
    at = FirstPass(params, find, data.data(), strict_end, end,
                   core::cut::LooseThreshold(params.avg_size));
    if (at < end) return at;
  }
  if (data.size() >= max) return max;
  if (last) return data.size();
  return std::nullopt;
}

}  // namespace holdfast::kernels
