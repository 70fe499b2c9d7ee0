// SHA-1 and SHA-256 by the SHA extensions of x86, over several streams at once.
//
// One round instruction waits for the one before (4 cycles of latency for SHA-256, 6 for SHA-1),
// but another stream's can start every second cycle: two streams in turn keep the unit busy.
#include <immintrin.h>

#include "kernels/core/word.h"
#include "kernels/cpu/lane_step.h"

namespace holdfast::kernels {
namespace {

alignas(16) constexpr uint32_t kRound256[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

template <int kLanes>
void Sha256(LaneSet& set, size_t blocks) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  __m128i abef[kLanes], cdgh[kLanes];
  const uint8_t* data[kLanes];
  HOLDFAST_UNROLL
  for (int l = 0; l < kLanes; ++l) {
    const uint32_t* s = set.state + l;
    abef[l] = _mm_set_epi32(s[0], s[kLanes], s[4 * kLanes], s[5 * kLanes]);
    cdgh[l] = _mm_set_epi32(s[2 * kLanes], s[3 * kLanes], s[6 * kLanes], s[7 * kLanes]);
    data[l] = set.data[l];
  }
  for (; blocks != 0; --blocks) {
    __m128i m[kLanes][4], abef0[kLanes], cdgh0[kLanes];
    HOLDFAST_UNROLL
    for (int l = 0; l < kLanes; ++l) {
      abef0[l] = abef[l];
      cdgh0[l] = cdgh[l];
    }
    HOLDFAST_UNROLL
    for (int g = 0; g < 16; ++g) {
      HOLDFAST_UNROLL
      for (int l = 0; l < kLanes; ++l) {
        __m128i& w = m[l][g & 3];
        if (g < 4) {
          w = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data[l] + 16 * g)),
                               swap);
        } else {
          const __m128i last = m[l][(g + 3) & 3];
          w = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w, m[l][(g + 1) & 3]),
                                                 _mm_alignr_epi8(last, m[l][(g + 2) & 3], 4)),
                                   last);
        }
        const __m128i wk =
            _mm_add_epi32(w, _mm_load_si128(reinterpret_cast<const __m128i*>(kRound256 + 4 * g)));
        cdgh[l] = _mm_sha256rnds2_epu32(cdgh[l], abef[l], wk);
        abef[l] = _mm_sha256rnds2_epu32(abef[l], cdgh[l], _mm_shuffle_epi32(wk, 0x0e));
      }
    }
    HOLDFAST_UNROLL
    for (int l = 0; l < kLanes; ++l) {
      abef[l] = _mm_add_epi32(abef[l], abef0[l]);
      cdgh[l] = _mm_add_epi32(cdgh[l], cdgh0[l]);
      data[l] += 64;
    }
  }
  HOLDFAST_UNROLL
  for (int l = 0; l < kLanes; ++l) {
    uint32_t* s = set.state + l;
    s[0] = _mm_extract_epi32(abef[l], 3);
    s[kLanes] = _mm_extract_epi32(abef[l], 2);
    s[2 * kLanes] = _mm_extract_epi32(cdgh[l], 3);
    s[3 * kLanes] = _mm_extract_epi32(cdgh[l], 2);
    s[4 * kLanes] = _mm_extract_epi32(abef[l], 1);
    s[5 * kLanes] = _mm_extract_epi32(abef[l], 0);
    s[6 * kLanes] = _mm_extract_epi32(cdgh[l], 1);
    s[7 * kLanes] = _mm_extract_epi32(cdgh[l], 0);
    set.data[l] = data[l];
  }
}

template <int kLanes>
void Sha1(LaneSet& set, size_t blocks) {
  const __m128i swap = _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f);
  __m128i abcd[kLanes], e[kLanes];
  const uint8_t* data[kLanes];
  HOLDFAST_UNROLL
  for (int l = 0; l < kLanes; ++l) {
    const uint32_t* s = set.state + l;
    abcd[l] = _mm_set_epi32(s[0], s[kLanes], s[2 * kLanes], s[3 * kLanes]);
    e[l] = _mm_set_epi32(s[4 * kLanes], 0, 0, 0);
    data[l] = set.data[l];
  }
  for (; blocks != 0; --blocks) {
    __m128i m[kLanes][4], abcd0[kLanes], e0[kLanes], before[kLanes];
    HOLDFAST_UNROLL
    for (int l = 0; l < kLanes; ++l) {
      abcd0[l] = abcd[l];
      e0[l] = e[l];
    }
    HOLDFAST_UNROLL
    for (int g = 0; g < 20; ++g) {
      HOLDFAST_UNROLL
      for (int l = 0; l < kLanes; ++l) {
        __m128i& w = m[l][g & 3];
        if (g < 4) {
          w = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data[l] + 16 * g)),
                               swap);
        } else {
          w = _mm_sha1msg2_epu32(
              _mm_xor_si128(_mm_sha1msg1_epu32(w, m[l][(g + 1) & 3]), m[l][(g + 2) & 3]),
              m[l][(g + 3) & 3]);
        }
        const __m128i we = g == 0 ? _mm_add_epi32(e[l], w) : _mm_sha1nexte_epu32(before[l], w);
        before[l] = abcd[l];
        if (g < 5)
          abcd[l] = _mm_sha1rnds4_epu32(abcd[l], we, 0);
        else if (g < 10)
          abcd[l] = _mm_sha1rnds4_epu32(abcd[l], we, 1);
        else if (g < 15)
          abcd[l] = _mm_sha1rnds4_epu32(abcd[l], we, 2);
        else
          abcd[l] = _mm_sha1rnds4_epu32(abcd[l], we, 3);
      }
    }
    HOLDFAST_UNROLL
    for (int l = 0; l < kLanes; ++l) {
      e[l] = _mm_sha1nexte_epu32(before[l], e0[l]);
      abcd[l] = _mm_add_epi32(abcd[l], abcd0[l]);
      data[l] += 64;
    }
  }
  HOLDFAST_UNROLL
  for (int l = 0; l < kLanes; ++l) {
    uint32_t* s = set.state + l;
    s[0] = _mm_extract_epi32(abcd[l], 3);
    s[kLanes] = _mm_extract_epi32(abcd[l], 2);
    s[2 * kLanes] = _mm_extract_epi32(abcd[l], 1);
    s[3 * kLanes] = _mm_extract_epi32(abcd[l], 0);
    s[4 * kLanes] = _mm_extract_epi32(e[l], 3);
    set.data[l] = data[l];
  }
}

}  // namespace

void Sha256NiX1(LaneSet& set, size_t blocks) { Sha256<1>(set, blocks); }
void Sha256NiX2(LaneSet& set, size_t blocks) { Sha256<2>(set, blocks); }
void Sha256NiX3(LaneSet& set, size_t blocks) { Sha256<3>(set, blocks); }
void Sha1NiX1(LaneSet& set, size_t blocks) { Sha1<1>(set, blocks); }
void Sha1NiX2(LaneSet& set, size_t blocks) { Sha1<2>(set, blocks); }
void Sha1NiX3(LaneSet& set, size_t blocks) { Sha1<3>(set, blocks); }

}  // namespace holdfast::kernels
