// SHA-256, SHA-1 and MD5 of the same block, their rounds in turn: each waits on its own last
// result, and meanwhile the others use what the CPU has.
#pragma once

#include "kernels/core/md5.h"
#include "kernels/core/sha1.h"
#include "kernels/core/sha256.h"

namespace holdfast::kernels::core::all_digests {

// The chaining values of the three, one behind the other.
constexpr int kSha1At = sha256::kStateWords;
constexpr int kMd5At = kSha1At + sha1::kStateWords;
constexpr int kStateWords = kMd5At + md5::kStateWords;

// Takes one block, given in both byte orders, into the chaining values.
template <class W>
HOLDFAST_HD constexpr void Compress(W state[kStateWords], const W big_endian[16],
                                    const W little_endian[16]) {
  W v[kStateWords]{}, w1[16]{}, w256[16]{};
  HOLDFAST_UNROLL
  for (int i = 0; i < kStateWords; ++i) v[i] = state[i];
  HOLDFAST_UNROLL
  for (int i = 0; i < 16; ++i) w256[i] = w1[i] = big_endian[i];
  static_assert(sha256::kRounds == md5::kRounds && sha256::kRounds <= sha1::kRounds);
  HOLDFAST_UNROLL
  for (int i = 0; i < sha1::kRounds; ++i) {
    if (i < sha256::kRounds) sha256::Round(i, v, w256);
    sha1::Round(i, v + kSha1At, w1);
    if (i < md5::kRounds) md5::Round(i, v + kMd5At, little_endian);
  }
  HOLDFAST_UNROLL
  for (int i = 0; i < kStateWords; ++i) state[i] = state[i] + v[i];
}

}  // namespace holdfast::kernels::core::all_digests
