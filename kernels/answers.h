// The last step of every engine: which chunks of a batch are equal, and which the resident table
// may know.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "kernels/core/duplicates.h"
#include "kernels/engine.h"

namespace holdfast::kernels {

// Gives, for each digest, the number of the first that is the same. The one on the CPU:
std::vector<uint32_t> FirstSame(std::span<const core::duplicates::Digest> digests);

// Fills in Chunk::first_same and Chunk::maybe_known. `first_same` does as FirstSame above does.
using FirstSameFunction =
    std::function<std::vector<uint32_t>(std::span<const core::duplicates::Digest>)>;
void AnswerDuplicates(Batch& batch, FingerprintTable* table,
                      const FirstSameFunction& first_same = FirstSame);

}  // namespace holdfast::kernels
