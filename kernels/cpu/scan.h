// Finds the cuts of the cut rule (kernels/core/cut.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "kernels/cpu/lane_step.h"
#include "kernels/engine.h"

namespace holdfast::kernels {

// The length of the chunk that starts at data[0]; nothing if it is not decided within `data`.
// `data` is not empty; with `last` it reaches the end of the object, and the answer is always
// there. With at least max_size bytes it is too.
std::optional<size_t> FirstChunk(const CutParams& params, std::span<const uint8_t> data, bool last,
                                 CutFinder find = FindCutPortable);

}  // namespace holdfast::kernels
