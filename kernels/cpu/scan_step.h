// The prefilter of the cut rule over a vector of positions; included only by files built for one
// instruction set.
//
// Of k1 * w + k0 < 2^54 only the upper half of the sum counts, H < 2^22, and of the lower half only
// its carry. With w = h : l in halves of 32 bits,
//
//     H = high32(k1l * l) + k1h * l + k1l * h + k0h + carry   (mod 2^32).
//
// The carry is left out: a vector test of H - carry, allowing for one more, lets everything pass
// that must, and one in millions beside; who asked tests again.
//
// A vector at byte o holds the l of positions o, o + 4, …, as the next vector 4 bytes on holds
// their h; four vectors, o to o + 3, make a row of positions without a gap.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/core/word.h"
#include "kernels/cpu/lane_step.h"

namespace holdfast::kernels {
namespace {

// Ops: kWords per vector V; Load(p), Set(word), Add(a, b), MulLow(a, b), MulHigh(a, b) per word;
// Below(x, bound), signed, as one bit per word.
template <class Ops>
inline size_t FindCut(const uint8_t* data, size_t from, size_t to, uint64_t k1, uint64_t k0) {
  using V = typename Ops::V;
  constexpr size_t kGroup = 4 * Ops::kWords;
  constexpr uint32_t kSign = 0x80000000;  // Turns the unsigned comparison into the signed one.
  const V low = Ops::Set(static_cast<uint32_t>(k1));
  const V high = Ops::Set(static_cast<uint32_t>(k1 >> 32));
  const V offset = Ops::Set(static_cast<uint32_t>(k0 >> 32) + 1 + kSign);
  const V bound = Ops::Set((uint32_t{1} << 22) + 1 + kSign);
  size_t i = from;
  for (; i + kGroup <= to; i += kGroup) {
    const uint8_t* p = data + i - 8;
    uint64_t passes[4], any = 0;
    HOLDFAST_UNROLL
    for (int j = 0; j < 4; ++j) {
      const V l = Ops::Load(p + j), h = Ops::Load(p + j + 4);
      const V cross = Ops::Add(Ops::MulLow(l, high), Ops::MulLow(h, low));
      const V top = Ops::Add(Ops::Add(Ops::MulHigh(l, low), offset), cross);
      passes[j] = Ops::Below(top, bound);
      any |= passes[j];
    }
    if (any == 0) [[likely]]
      continue;
    size_t first = kGroup;
    for (size_t j = 0; j < 4; ++j) {
      if (passes[j] == 0) continue;
      const size_t at = static_cast<size_t>(__builtin_ctzll(passes[j])) * 4 + j;
      first = at < first ? at : first;
    }
    return i + first;
  }
  return i;
}

}  // namespace
}  // namespace holdfast::kernels
