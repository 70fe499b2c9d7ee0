// MD5, RFC 1321 section 3.4: the compression of one block, over one or many lanes.
// Broken against collisions; computed because legacy hash lists are made of it, never trusted.
#pragma once

#include "kernels/core/word.h"

namespace holdfast::kernels::core::md5 {

// Words of chaining value. Blocks are 16 little-endian words, and so is the length at the end.
constexpr int kStateWords = 4;
constexpr int kRounds = 64;
constexpr bool kBigEndian = false;

// Writes the initial chaining value.
HOLDFAST_HD constexpr void Init(uint32_t state[4]) {
  constexpr uint32_t kInit[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  for (int i = 0; i < 4; ++i) state[i] = kInit[i];
}

// a + F, G, H or I of round i. G is split into two sums, (b & d) + (c & ~d): the bits of both are
// disjoint, and the half without b, the newest word, is ready a step earlier.
template <class W>
HOLDFAST_HD constexpr W AddMix(int i, const W& a, const W& b, const W& c, const W& d) {
  if (i < 16) return a + (d ^ (b & (c ^ d)));
  if (i < 32) return (a + (c & ~d)) + (b & d);
  if (i < 48) return a + (b ^ (c ^ d));
  return a + (c ^ (b | ~d));
}

// Which word of the block round i takes.
HOLDFAST_HD constexpr int WordOf(int i) {
  if (i < 16) return i;
  if (i < 32) return (5 * i + 1) & 15;
  if (i < 48) return (3 * i + 5) & 15;
  return (7 * i) & 15;
}

// Round i on the working variables a to d.
template <class W>
HOLDFAST_HD_ALWAYS constexpr void Round(int i, W v[4], const W block[16]) {
  constexpr uint32_t kRound[64] = {
      0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613,
      0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193,
      0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d,
      0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed,
      0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122,
      0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa,
      0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244,
      0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
      0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb,
      0xeb86d391};
  constexpr int kRotate[16] = {7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21};
  const W a = v[0], b = v[1], c = v[2], d = v[3];
  const W sum = AddMix<W>(i, a + (block[WordOf(i)] + kRound[i]), b, c, d);
  v[0] = d;
  v[1] = b + RotateLeft(sum, kRotate[i / 16 * 4 + i % 4]);
  v[2] = b;
  v[3] = c;
}

// Takes one block into the chaining value.
template <class W>
HOLDFAST_HD constexpr void Compress(W state[4], const W block[16]) {
  W v[4]{};
  HOLDFAST_UNROLL
  for (int i = 0; i < 4; ++i) v[i] = state[i];
  HOLDFAST_UNROLL
  for (int i = 0; i < kRounds; ++i) Round(i, v, block);
  HOLDFAST_UNROLL
  for (int i = 0; i < 4; ++i) state[i] = state[i] + v[i];
}

// RFC 1321, A.5: MD5("abc") = 900150983cd24fb0d6963f7d28e17f72.
constexpr bool CheckAbc() {
  uint32_t state[4] = {};
  const uint32_t block[16] = {0x80636261, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0};
  const uint32_t want[4] = {0x98500190, 0xb04fd23c, 0x7d3f96d6, 0x727fe128};
  Init(state);
  Compress(state, block);
  for (int i = 0; i < 4; ++i) {
    if (state[i] != want[i]) return false;
  }
  return true;
}
static_assert(CheckAbc());

}  // namespace holdfast::kernels::core::md5
