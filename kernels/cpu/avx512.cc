// What is built for AVX-512 (F, BW, DQ and VL): sixteen lanes to a vector, and the cut scan.
// GCC 12's own intrinsics start from an undefined vector, and warn of it where they are inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "kernels/core/cut.h"
#include "kernels/cpu/vector_step.h"

namespace holdfast::kernels {
namespace {

using Sixteen = Lanes<16, 1>;
// One vector of MD5 waits on its own last result; a second fills the wait.
using ThirtyTwo = Lanes<16, 2>;

}  // namespace

void Sha256Avx512X16(LaneSet& set, size_t blocks) {
  VectorStep<Sha256Digest, Sixteen>(set, blocks);
}
void Sha1Avx512X16(LaneSet& set, size_t blocks) { VectorStep<Sha1Digest, Sixteen>(set, blocks); }
void Md5Avx512X16(LaneSet& set, size_t blocks) { VectorStep<Md5Digest, Sixteen>(set, blocks); }
void Md5Avx512X32(LaneSet& set, size_t blocks) { VectorStep<Md5Digest, ThirtyTwo>(set, blocks); }
void AllAvx512X16(LaneSet& set, size_t blocks) { VectorStep<AllDigests, Sixteen>(set, blocks); }

// AVX-512 DQ multiplies 64-bit words: eight vectors, one byte apart, hold the windows of 64
// positions, and the prefilter is what it says.
size_t FindCutAvx512(const uint8_t* data, size_t from, size_t to, uint64_t k1, uint64_t k0) {
  constexpr size_t kGroup = 64;
  const __m512i multiplier = _mm512_set1_epi64(static_cast<int64_t>(k1));
  const __m512i offset = _mm512_set1_epi64(static_cast<int64_t>(k0));
  const __m512i bound = _mm512_set1_epi64(static_cast<int64_t>(core::cut::kPrefilterBound));
  size_t i = from;
  for (; i + kGroup <= to; i += kGroup) {
    const uint8_t* p = data + i - 8;
    unsigned passes[8], any = 0;
    HOLDFAST_UNROLL
    for (int j = 0; j < 8; ++j) {
      const __m512i words = _mm512_loadu_si512(p + j);
      const __m512i sum = _mm512_add_epi64(_mm512_mullo_epi64(words, multiplier), offset);
      passes[j] = _mm512_cmplt_epu64_mask(sum, bound);
      any |= passes[j];
    }
    if (any == 0) [[likely]]
      continue;
    size_t first = kGroup;
    for (size_t j = 0; j < 8; ++j) {
      if (passes[j] == 0) continue;
      const size_t at = static_cast<size_t>(__builtin_ctz(passes[j])) * 8 + j;
      first = at < first ? at : first;
    }
    return i + first;
  }
  return i;
}

}  // namespace holdfast::kernels
