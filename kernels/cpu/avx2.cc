// What is built for AVX2: eight lanes to a vector, and the cut scan.
#include <immintrin.h>

#include "kernels/cpu/scan_step.h"
#include "kernels/cpu/vector_step.h"

namespace holdfast::kernels {
namespace {

struct Avx2Ops {
  using V = __m256i;
  static constexpr size_t kWords = 8;

  static V Load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const V*>(p)); }
  static V Set(uint32_t word) { return _mm256_set1_epi32(static_cast<int>(word)); }
  static V Add(V a, V b) { return _mm256_add_epi32(a, b); }
  static V MulLow(V a, V b) { return _mm256_mullo_epi32(a, b); }
  static V MulHigh(V a, V b) {  // b has the same word everywhere.
    const V even = _mm256_mul_epu32(a, b), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), b);
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  }
  static uint64_t Below(V x, V bound) {
    const V below = _mm256_cmpgt_epi32(bound, x);
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(below)));
  }
};

using Eight = Lanes<8, 1>;
// One vector of MD5 still waits on its own last result; a second fills the wait.
using Sixteen = Lanes<8, 2>;

}  // namespace

void ClearUpperAvx2() { _mm256_zeroupper(); }

void Sha256Avx2X8(LaneSet& set, size_t blocks) { VectorStep<Sha256Digest, Eight>(set, blocks); }
void Sha1Avx2X8(LaneSet& set, size_t blocks) { VectorStep<Sha1Digest, Eight>(set, blocks); }
void Md5Avx2X8(LaneSet& set, size_t blocks) { VectorStep<Md5Digest, Eight>(set, blocks); }
void Md5Avx2X16(LaneSet& set, size_t blocks) { VectorStep<Md5Digest, Sixteen>(set, blocks); }

size_t FindCutAvx2(const uint8_t* data, size_t from, size_t to, uint64_t k1, uint64_t k0) {
  return FindCut<Avx2Ops>(data, from, to, k1, k0);
}

}  // namespace holdfast::kernels
