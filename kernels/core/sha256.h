// SHA-256, FIPS 180-4 section 6.2: the compression of one block, over one or many lanes.
#pragma once

#include "kernels/core/word.h"

namespace holdfast::kernels::core::sha256 {

// Words of chaining value. Blocks are 16 big-endian words; the length at the end is big-endian.
constexpr int kStateWords = 8;
constexpr int kRounds = 64;
constexpr bool kBigEndian = true;

// Writes the initial chaining value.
HOLDFAST_HD constexpr void Init(uint32_t state[8]) {
  constexpr uint32_t kInit[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  for (int i = 0; i < 8; ++i) state[i] = kInit[i];
}

// Round i on the working variables a to h, with the last 16 words of the message schedule.
template <class W>
HOLDFAST_HD_ALWAYS constexpr void Round(int i, W v[8], W w[16]) {
  constexpr uint32_t kRound[64] = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
      0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
      0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
      0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
      0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
      0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
      0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
      0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
      0xc67178f2};
  const W a = v[0], b = v[1], c = v[2], d = v[3], e = v[4], f = v[5], g = v[6], h = v[7];
  if (i >= 16) {
    const W w2 = w[(i + 14) & 15], w15 = w[(i + 1) & 15];
    const W s1 = RotateRight(w2, 17) ^ RotateRight(w2, 19) ^ (w2 >> 10);
    const W s0 = RotateRight(w15, 7) ^ RotateRight(w15, 18) ^ (w15 >> 3);
    w[i & 15] = w[i & 15] + s0 + w[(i + 9) & 15] + s1;
  }
  const W sum1 = RotateRight(e, 6) ^ RotateRight(e, 11) ^ RotateRight(e, 25);
  const W choose = g ^ (e & (f ^ g));
  const W t1 = h + sum1 + choose + (w[i & 15] + kRound[i]);
  const W sum0 = RotateRight(a, 2) ^ RotateRight(a, 13) ^ RotateRight(a, 22);
  const W majority = (a & b) ^ (c & (a ^ b));
  v[7] = g;
  v[6] = f;
  v[5] = e;
  v[4] = d + t1;
  v[3] = c;
  v[2] = b;
  v[1] = a;
  v[0] = t1 + sum0 + majority;
}

// Takes one block into the chaining value.
template <class W>
HOLDFAST_HD constexpr void Compress(W state[8], const W block[16]) {
  W v[8]{}, w[16]{};
  HOLDFAST_UNROLL
  for (int i = 0; i < 8; ++i) v[i] = state[i];
  HOLDFAST_UNROLL
  for (int i = 0; i < 16; ++i) w[i] = block[i];
  HOLDFAST_UNROLL
  for (int i = 0; i < kRounds; ++i) Round(i, v, w);
  HOLDFAST_UNROLL
  for (int i = 0; i < 8; ++i) state[i] = state[i] + v[i];
}

// FIPS 180-4 example: SHA-256("abc").
constexpr bool CheckAbc() {
  uint32_t state[8] = {};
  const uint32_t block[16] = {0x61626380, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24};
  const uint32_t want[8] = {0xba7816bf, 0x8f01cfea, 0x414140de, 0x5dae2223,
                            0xb00361a3, 0x96177a9c, 0xb410ff61, 0xf20015ad};
  Init(state);
  Compress(state, block);
  for (int i = 0; i < 8; ++i) {
    if (state[i] != want[i]) return false;
  }
  return true;
}
static_assert(CheckAbc());

}  // namespace holdfast::kernels::core::sha256
