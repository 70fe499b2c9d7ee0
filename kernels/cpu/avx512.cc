// What is built for AVX-512: sixteen lanes to a vector, and the cut scan.
// GCC 12's own intrinsics start from an undefined vector, and warn of it where they are inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "kernels/cpu/scan_step.h"
#include "kernels/cpu/vector_step.h"

namespace holdfast::kernels {
namespace {

struct Avx512Ops {
  using V = __m512i;
  static constexpr size_t kWords = 16;

  static V Load(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static V Set(uint32_t word) { return _mm512_set1_epi32(static_cast<int>(word)); }
  static V Add(V a, V b) { return _mm512_add_epi32(a, b); }
  static V MulLow(V a, V b) { return _mm512_mullo_epi32(a, b); }
  static V MulHigh(V a, V b) {  // b has the same word everywhere.
    const V even = _mm512_mul_epu32(a, b), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), b);
    return _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
  }
  static uint64_t Below(V x, V bound) { return _mm512_cmplt_epi32_mask(x, bound); }
};

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

size_t FindCutAvx512(const uint8_t* data, size_t from, size_t to, uint64_t k1, uint64_t k0) {
  return FindCut<Avx512Ops>(data, from, to, k1, k0);
}

}  // namespace holdfast::kernels
