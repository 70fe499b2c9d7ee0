// SHA-1, RFC 3174 and FIPS 180-4 section 6.1: the compression of one block, over one or many lanes.
// Broken against collisions; computed because legacy hash lists are made of it, never trusted.
#pragma once

#include "kernels/core/word.h"

namespace holdfast::kernels::core::sha1 {

// Words of chaining value. Blocks are 16 big-endian words; the length at the end is big-endian.
constexpr int kStateWords = 5;
constexpr int kRounds = 80;
constexpr bool kBigEndian = true;

// Writes the initial chaining value.
HOLDFAST_HD constexpr void Init(uint32_t state[5]) {
  constexpr uint32_t kInit[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  for (int i = 0; i < 5; ++i) state[i] = kInit[i];
}

// The function and constant of round i (RFC 3174, section 5).
template <class W>
HOLDFAST_HD constexpr W Mix(int i, const W& b, const W& c, const W& d) {
  if (i < 20) return (d ^ (b & (c ^ d))) + 0x5a827999u;
  if (i < 40) return (b ^ c ^ d) + 0x6ed9eba1u;
  if (i < 60) return ((b & c) ^ (d & (b ^ c))) + 0x8f1bbcdcu;
  return (b ^ c ^ d) + 0xca62c1d6u;
}

// Round i on the working variables a to e, with the last 16 words of the message schedule.
template <class W>
HOLDFAST_HD_ALWAYS constexpr void Round(int i, W v[5], W w[16]) {
  const W a = v[0], b = v[1], c = v[2], d = v[3], e = v[4];
  if (i >= 16) {
    const W x = w[(i + 13) & 15] ^ w[(i + 8) & 15] ^ w[(i + 2) & 15] ^ w[i & 15];
    w[i & 15] = RotateLeft(x, 1);
  }
  v[0] = RotateLeft(a, 5) + Mix(i, b, c, d) + (e + w[i & 15]);
  v[1] = a;
  v[2] = RotateLeft(b, 30);
  v[3] = c;
  v[4] = d;
}

// Takes one block into the chaining value.
template <class W>
HOLDFAST_HD constexpr void Compress(W state[5], const W block[16]) {
  W v[5]{}, w[16]{};
  HOLDFAST_UNROLL
  for (int i = 0; i < 5; ++i) v[i] = state[i];
  HOLDFAST_UNROLL
  for (int i = 0; i < 16; ++i) w[i] = block[i];
  HOLDFAST_UNROLL
  for (int i = 0; i < kRounds; ++i) Round(i, v, w);
  HOLDFAST_UNROLL
  for (int i = 0; i < 5; ++i) state[i] = state[i] + v[i];
}

// RFC 3174, section 7.3, TEST1: SHA-1("abc").
constexpr bool CheckAbc() {
  uint32_t state[5] = {};
  const uint32_t block[16] = {0x61626380, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24};
  const uint32_t want[5] = {0xa9993e36, 0x4706816a, 0xba3e2571, 0x7850c26c, 0x9cd0d89d};
  Init(state);
  Compress(state, block);
  for (int i = 0; i < 5; ++i) {
    if (state[i] != want[i]) return false;
  }
  return true;
}
static_assert(CheckAbc());

}  // namespace holdfast::kernels::core::sha1
