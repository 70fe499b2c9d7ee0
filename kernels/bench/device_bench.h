// Throughput of this machine's CUDA device: every kernel alone on data that lies on it; the
// fingerprint table; and whole engines from the host's memory to all answers, one batch at a time
// and several, beside all cores of the CPU on the same batches.
#pragma once

#include <cstddef>

#include "kernels/bench/report.h"

namespace holdfast::kernels {

// `seconds` for each measure, on at most so many bytes. False, and it says why on stderr, when
// there is no device or it fails.
bool RunDeviceBench(Report& report, double seconds, size_t most_bytes);

}  // namespace holdfast::kernels
