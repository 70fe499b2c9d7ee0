#include "kernels/cpu/code.h"

#include <cassert>

#include "kernels/core/all_digests.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace holdfast::kernels {

#if defined(__x86_64__)
CpuFeatures ThisCpu() {
  static const CpuFeatures kFeatures = [] {
    __builtin_cpu_init();
    // GCC 12 does not know the SHA extensions by name: leaf 7, EBX, bit 29.
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool sha = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 29 & 1) != 0;
    return CpuFeatures{
        .avx2 = __builtin_cpu_supports("avx2") != 0,
        .avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"),
        .sha = sha && __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3")};
  }();
  return kFeatures;
}
#else
CpuFeatures ThisCpu() { return {}; }
#endif

std::optional<CpuPath> CpuPathByName(std::string_view name) {
  if (name == "portable") return CpuPath::kPortable;
  if (name == "avx2") return CpuPath::kAvx2;
  if (name == "avx512") return CpuPath::kAvx512;
  return std::nullopt;
}

bool HasPath(const CpuFeatures& features, CpuPath path) {
  switch (path) {
    case CpuPath::kPortable:
      return true;
    case CpuPath::kAvx2:
      return features.avx2;
    case CpuPath::kAvx512:
      return features.avx2 && features.avx512;
  }
  return false;
}

CpuPath BestPath(const CpuFeatures& features) {
  if (HasPath(features, CpuPath::kAvx512)) return CpuPath::kAvx512;
  return features.avx2 ? CpuPath::kAvx2 : CpuPath::kPortable;
}

namespace {

// One block of one stream, in nanoseconds; as all figures here from an EPYC 7003 (Zen 3) at 3.4
// GHz, but for AVX-512 (below).
DigestCode Sha256Stream(const StreamCode& stream, bool sha) {
  const bool openssl = &stream != &CoreStreamCode();
  return {.state_words = core::sha256::kStateWords,
          .single = stream.sha256,
          .single_nanos = !openssl ? 207.0
                          : sha    ? 40.0
                                   : 128.0};
}

DigestCode Sha1Stream(const StreamCode& stream, bool sha) {
  const bool openssl = &stream != &CoreStreamCode();
  return {.state_words = core::sha1::kStateWords,
          .single = stream.sha1,
          .single_nanos = !openssl ? 92.0
                          : sha    ? 37.0
                                   : 64.0};
}

DigestCode Md5Stream(const StreamCode& stream) {
  return {.state_words = core::md5::kStateWords, .single = stream.md5, .single_nanos = 96};
}

CpuCode PortableCode(const CpuFeatures& features, const StreamCode& stream) {
  CpuCode code{.name = "portable",
               .stream = &stream,
               .sha256 = Sha256Stream(stream, features.sha),
               .sha1 = Sha1Stream(stream, features.sha),
               .md5 = Md5Stream(stream),
               .find_cut = FindCutPortable};
  code.md5.kernels = {LaneKernel{Md5PortableX8, 8, 240}};
  return code;
}

#if defined(__x86_64__)
CpuCode Avx2Code(const CpuFeatures& features, const StreamCode& stream) {
  CpuCode code = PortableCode(features, stream);
  code.name = features.sha ? "avx2+sha" : "avx2";
  // AVX2 has no rotation, and eight lanes of SHA-256 reach 1.4 GB/s where two streams of SHA-NI
  // reach 3.1; eight of SHA-1 tie with three streams of SHA-NI, which want no eight messages.
  if (features.sha) {
    code.sha256.kernels = {LaneKernel{Sha256NiX3, 3, 59}, LaneKernel{Sha256NiX2, 2, 41.7},
                           LaneKernel{Sha256NiX1, 1, 40.2}};
    code.sha1.kernels = {LaneKernel{Sha1NiX3, 3, 55.8}, LaneKernel{Sha1NiX2, 2, 42.4},
                         LaneKernel{Sha1NiX1, 1, 37.6}};
  } else {
    code.sha256.kernels = {LaneKernel{Sha256Avx2X8, 8, 366}};
    code.sha1.kernels = {LaneKernel{Sha1Avx2X8, 8, 149}};
  }
  code.md5.kernels = {LaneKernel{Md5Avx2X16, 16, 190}, LaneKernel{Md5Avx2X8, 8, 151}};
  code.find_cut = FindCutAvx2;
  return code;
}

CpuCode Avx512Code(const CpuFeatures& features, const StreamCode& stream) {
  CpuCode code = Avx2Code(features, stream);
  code.name = features.sha ? "avx512+sha" : "avx512";
  // All of these from an EPYC 9005 (Zen 5), so that their ratios are those of one machine.
  if (features.sha) {
    code.sha256.single_nanos = 36.8;
    code.sha1.single_nanos = 35;
    code.sha256.kernels = {LaneKernel{Sha256Avx512X16, 16, 213}, LaneKernel{Sha256NiX2, 2, 49},
                           LaneKernel{Sha256NiX1, 1, 37}};
    code.sha1.kernels = {LaneKernel{Sha1Avx512X16, 16, 117}, LaneKernel{Sha1NiX2, 2, 39.7},
                         LaneKernel{Sha1NiX1, 1, 35.1}};
  } else {
    code.sha256.kernels[0] = {Sha256Avx512X16, 16, 213};
    code.sha1.kernels[0] = {Sha1Avx512X16, 16, 117};
  }
  code.md5.single_nanos = 84.5;
  code.md5.kernels = {LaneKernel{Md5Avx512X32, 32, 200}, LaneKernel{Md5Avx512X16, 16, 179},
                      LaneKernel{Md5Avx2X8, 8, 230}};
  code.all = {
      .state_words = core::all_digests::kStateWords,
      .single = stream.all,
      .single_nanos = code.sha256.single_nanos + code.sha1.single_nanos + code.md5.single_nanos,
      .kernels = {LaneKernel{AllAvx512X16, 16, 310}}};
  code.find_cut = FindCutAvx512;
  return code;
}
#endif

}  // namespace

CpuCode MakeCpuCode(CpuPath path, const CpuFeatures& features, const StreamCode& stream) {
  assert(HasPath(features, path));
#if defined(__x86_64__)
  if (path == CpuPath::kAvx512) return Avx512Code(features, stream);
  if (path == CpuPath::kAvx2) return Avx2Code(features, stream);
#endif
  return PortableCode(features, stream);
}

}  // namespace holdfast::kernels
