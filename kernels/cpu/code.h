// Which code a CPU backend runs for each algorithm: a path, by the features of this CPU.
#pragma once

#include <optional>
#include <string_view>

#include "kernels/cpu/lane_step.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/stream.h"

namespace holdfast::kernels {

struct CpuFeatures {
  bool avx2 = false;
  bool avx512 = false;  // F, BW, DQ and VL.
  bool sha = false;     // The SHA extensions, with SSE4.1.
};

// Of this CPU, so far as the operating system lets them be used; none that the build has no code
// for.
CpuFeatures ThisCpu();

enum class CpuPath { kPortable, kAvx2, kAvx512 };

// By the names that HOLDFAST_KERNELS takes.
std::optional<CpuPath> CpuPathByName(std::string_view name);
bool HasPath(const CpuFeatures& features, CpuPath path);
CpuPath BestPath(const CpuFeatures& features);

struct CpuCode {
  std::string_view name;  // For people: "portable", "avx2", "avx2+sha", …
  const StreamCode* stream = nullptr;
  DigestCode sha256, sha1, md5;
  DigestCode all;  // The three together; no kernels where they are faster one by one.
  CutFinder find_cut = nullptr;
};

// The code of a path, which the features must have. The SHA extensions are used where they are the
// fastest; the portable path knows only what `stream` makes of them.
CpuCode MakeCpuCode(CpuPath path, const CpuFeatures& features, const StreamCode& stream);

}  // namespace holdfast::kernels
