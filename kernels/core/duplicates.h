// Equal chunks of a batch: for each chunk, the first one that has the same SHA-256.
//
// Chunks are sorted by the first 64 bits of their digest, stably, so that equal ones stand side by
// side with the lowest number first. Runs of equal keys are then walked; digests that agree in 64
// bits and differ later are told apart.
#pragma once

#include "kernels/core/word.h"

namespace holdfast::kernels::core::duplicates {

struct Digest {
  uint8_t bytes[32];
};

HOLDFAST_HD constexpr uint64_t KeyOf(const Digest& digest) { return LoadLe64(digest.bytes); }

HOLDFAST_HD constexpr bool Same(const Digest& a, const Digest& b) {
  for (int i = 0; i < 32; ++i) {
    if (a.bytes[i] != b.bytes[i]) return false;
  }
  return true;
}

// Where a run of equal keys begins at sorted position i: writes first[] of all its chunks. One
// writer for each chunk. `keys` and `order` (chunk numbers) are sorted, n of them.
HOLDFAST_HD constexpr void MarkRun(const uint64_t* keys, const uint32_t* order, size_t n,
                                   const Digest* digests, size_t i, uint32_t* first) {
  if (i != 0 && keys[i - 1] == keys[i]) return;
  for (size_t j = i; j < n && keys[j] == keys[i]; ++j) {
    uint32_t same = order[j];
    for (size_t l = i; l < j && same == order[j]; ++l) {
      const bool leads = first[order[l]] == order[l];
      if (leads && Same(digests[order[l]], digests[order[j]])) same = order[l];
    }
    first[order[j]] = same;
  }
}

}  // namespace holdfast::kernels::core::duplicates
