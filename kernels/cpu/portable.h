// The portable engine: plain C++ and, where built in, OpenSSL's single-stream code.
//
// A batch goes message by message through cut, chunk digests and SHA object digests; MD5, which is
// slow alone, then runs over the whole batch with a message in each lane.
#pragma once

#include <memory>

#include "kernels/cpu/stream.h"
#include "kernels/engine.h"

namespace holdfast::kernels {

// As MakePortableEngine(options), with single-stream code of the caller's choice, so that tests
// reach both.
std::unique_ptr<Engine> MakePortableEngine(const EngineOptions& options, const StreamCode& code);

}  // namespace holdfast::kernels
