// Lanes in vectors of four words, which every target has (SSE2, NEON) or the compiler splits.
#include <bit>

#include "kernels/cpu/vector_step.h"

namespace holdfast::kernels {

static_assert(std::endian::native == std::endian::little, "the CPU shells are little-endian");

// Two vectors: one alone would still wait on its own last result.
void Md5PortableX8(LaneSet& set, size_t blocks) { VectorStep<Md5Digest, Lanes<4, 2>>(set, blocks); }

}  // namespace holdfast::kernels
