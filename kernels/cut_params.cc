#include <algorithm>
#include <cassert>

#include "kernels/core/cut.h"
#include "kernels/core/word.h"
#include "kernels/engine.h"

namespace holdfast::kernels {
namespace {

// The numbers of one draw: twelve 64-bit words, little-endian, of
// SHA-256(seed ‖ le32(draw) ‖ le32(0)) ‖ … ‖ SHA-256(seed ‖ le32(draw) ‖ le32(2)).
std::array<uint64_t, 12> Draw(const std::array<uint8_t, 32>& seed, uint32_t draw) {
  std::array<uint64_t, 12> words;
  for (uint32_t block = 0; block < 3; ++block) {
    std::array<uint8_t, 40> input;
    std::copy(seed.begin(), seed.end(), input.begin());
    core::StoreLe32(input.data() + 32, draw);
    core::StoreLe32(input.data() + 36, block);
    const std::array<uint8_t, 32> output = Sha256(input);
    for (int i = 0; i < 4; ++i) words[block * 4 + i] = core::LoadLe64(output.data() + 8 * i);
  }
  return words;
}

}  // namespace

CutParams MakeCutParams(uint32_t avg_size, const std::array<uint8_t, 32>& seed) {
  assert(core::cut::ValidAverage(avg_size));
  CutParams params;
  params.avg_size = avg_size;
  for (uint32_t draw = 0;; ++draw) {
    const std::array<uint64_t, 12> words = Draw(seed, draw);
    params.prefilter_multiplier = words[0] | 1;
    params.prefilter_offset = words[1];
    params.confirm_seed = words[2];
    for (int j = 0; j < 8; ++j) params.confirm_multipliers[j] = words[3 + j] | 1;
    params.final_multiplier = words[11] | 1;
    // Long runs of one byte are common on disks. Where 00 or FF passed the prefilter, every
    // position in them would have to be confirmed, and might be cut at the least size.
    const bool zeros = core::cut::Prefilter(words[0] | 1, words[1], 0);
    const bool ones = core::cut::Prefilter(words[0] | 1, words[1], ~uint64_t{0});
    if (!zeros && !ones) return params;
  }
}

}  // namespace holdfast::kernels
