// The engine on a CPU, whatever its path: portable, AVX2 or AVX-512.
//
// A batch is cut message by message, with Poly1305 of each chunk while it is in the cache; then
// every digest runs over the whole batch with a message or chunk in each lane.
#pragma once

#include <memory>

#include "kernels/cpu/code.h"
#include "kernels/engine.h"

namespace holdfast::kernels {

// An engine with code of the caller's choice, so that tests reach every path.
std::unique_ptr<Engine> MakeCpuEngine(const EngineOptions& options, const CpuCode& code);

}  // namespace holdfast::kernels
