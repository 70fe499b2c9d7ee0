// How fast this machine's kernels are, each alone on one core: for a machine's profile, and for the
// floor that a job is held to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/engine.h"

namespace holdfast::kernels {

struct KernelRate {
  std::string path;       // "portable", "avx2+sha", …: CpuCode::name
  std::string algorithm;  // "sha256", "sha1", "md5", "all digests", "poly1305", "cut"
  double bytes_per_second = 0;
};

double ThreadCpuSeconds();

// Calls `run`, which takes `bytes`, again and again for so many seconds of this thread's CPU time,
// three times at least. The best rate: neighbours on a shared machine only ever take away.
double BestRate(size_t bytes, double seconds, const std::function<void()>& run);

// Every algorithm on every path of this CPU, with all lanes full; so many seconds for each.
std::vector<KernelRate> MeasureKernels(double seconds);

// A whole engine, by the clock: cuts, chunks' SHA-256 and Poly1305, and these object digests, of
// files of a size, in batches that suit it. So many callers at once, as cores share caches, memory
// and, often, arithmetic units; bytes per second of them all.
double MeasureEngine(Engine& engine, unsigned callers, uint32_t digests, size_t file_bytes,
                     double seconds);

}  // namespace holdfast::kernels
