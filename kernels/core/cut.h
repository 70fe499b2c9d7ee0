// The cut rule, version 1: where an object is cut into chunks. A format: docs/formats/cut-rule.md
// says the same with worked bytes, and tests/kernels/cut_test.cc holds both to it.
//
// Let p[0 .. n) be an object, and s the start of a chunk (0, or the end of the chunk before). The
// chunk is [s, e), where e is the least position i that satisfies
//
//     s + min <= i < s + max,  i < n,  and  passes(i, i - s);
//
// where there is none, e = s + max if that lies within the object, else e = n. The next chunk
// starts at e; an object of n = 0 bytes has no chunk. So every chunk but an object's last holds min
// to max bytes, and the last 1 to max. Positions nearer to s than min are not looked at, the end of
// the object needs no test, and an earlier chunk has no influence but its end.
//
// passes(i, d) looks at the 64 bytes p[i-64 .. i), all inside the chunk as min >= 16 KiB, read as
// eight little-endian 64-bit words w_0 (the oldest bytes) to w_7 (the last 8 before i). It holds
// when both do, all arithmetic mod 2^64:
//
//     prefilter:  k1 * w_7 + k0 < 2^54
//     confirm:    h = k;  for j = 0 .. 7: { h = (h ^ w_j) * K_j;  h ^= h >> 32; }
//                 h * K' < T(d),   T(d) = 2^72 / avg  for d < avg  (strict)
//                                         2^76 / avg  for d >= avg (loose)
//
// avg is a power of two from 64 KiB to 4 MiB, min = avg / 4, max = 4 * avg. The prefilter lets one
// position in 1,024 pass, so a position is cut with chance 1 / (4 * avg), from avg on 4 / avg
// (FastCDC's normalisation). k1, K_j and K' are odd; all twelve numbers belong to the vault.
//
// As passes() is a pure function of 64 bytes and a distance, every order of evaluation, slicing
// and device agrees by construction. It is also cheap to skip: no state is carried from one
// position to the next.
#pragma once

#include "kernels/core/word.h"

namespace holdfast::kernels::core::cut {

constexpr size_t kWindow = 64;
constexpr uint64_t kPrefilterBound = uint64_t{1} << 54;
constexpr uint32_t kMinAverage = 64 * 1024;
constexpr uint32_t kMaxAverage = 4 * 1024 * 1024;
static_assert(kMinAverage / 4 >= kWindow);

// Whether a size can be a vault's average chunk size.
HOLDFAST_HD constexpr bool ValidAverage(uint32_t avg) {
  return avg >= kMinAverage && avg <= kMaxAverage && (avg & (avg - 1)) == 0;
}

// The prefilter on the last 8 bytes of a window.
HOLDFAST_HD constexpr bool Prefilter(uint64_t k1, uint64_t k0, uint64_t last) {
  return k1 * last + k0 < kPrefilterBound;
}

// h * K' of a window's eight words; `multipliers` are K_0 .. K_7.
HOLDFAST_HD constexpr uint64_t Confirm(uint64_t seed, const uint64_t multipliers[8],
                                       uint64_t final_multiplier, const uint64_t words[8]) {
  uint64_t h = seed;
  HOLDFAST_UNROLL
  for (int j = 0; j < 8; ++j) {
    h = (h ^ words[j]) * multipliers[j];
    h ^= h >> 32;
  }
  return h * final_multiplier;
}

// The thresholds: 2^72 / avg and 2^76 / avg, written so that they fit 64 bits.
HOLDFAST_HD constexpr uint64_t StrictThreshold(uint32_t avg) {
  return (uint64_t{1} << 63) / avg << 9;
}
HOLDFAST_HD constexpr uint64_t LooseThreshold(uint32_t avg) {
  return (uint64_t{1} << 63) / avg << 13;
}
static_assert(StrictThreshold(kMinAverage) == uint64_t{1} << 56);
static_assert(LooseThreshold(kMinAverage) == uint64_t{1} << 60);
static_assert(StrictThreshold(kMaxAverage) == uint64_t{1} << 50);

}  // namespace holdfast::kernels::core::cut
