// Which engine a process gets.
#include <cstdlib>
#include <string_view>

#include "kernels/cpu/cpu_engine.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/device_engine.h"
#include "kernels/engine.h"

namespace holdfast::kernels {
namespace {

std::string_view ForcedPath() {
  const char* forced = std::getenv("HOLDFAST_KERNELS");
  return forced == nullptr ? "" : forced;
}

std::unique_ptr<Engine> MakeCudaEngine(const EngineOptions& options,
                                       const cuda::DeviceEngineOptions& device_options,
                                       std::string* why_not) {
  std::unique_ptr<cuda::Device> device = cuda::OpenCudaDevice(why_not);
  if (device == nullptr) return nullptr;
  const CpuFeatures features = ThisCpu();
  return cuda::MakeDeviceEngine(std::move(device), options,
                                MakeCpuCode(BestPath(features), features, BestStreamCode()),
                                device_options);
}

// Null, with a line, when there is no device that passes the known-answer test.
std::unique_ptr<Engine> MakeTestedCudaEngine(const EngineOptions& options,
                                             const std::function<void(const std::string&)>& say,
                                             std::string* why_not) {
  // In the test the device does everything itself.
  std::string trouble;
  const auto listen = [&](const std::string& line) { trouble = line; };
  const std::unique_ptr<Engine> tested =
      MakeCudaEngine(options, {.batches = 1, .cpu_tails = false, .say = listen}, why_not);
  if (tested == nullptr) return nullptr;
  const bool right = KnownAnswerTest(*tested, options);
  if (!trouble.empty()) {  // Then the answers were the CPU's.
    *why_not = trouble;
    return nullptr;
  }
  if (!right) {
    *why_not = std::string(tested->name()) + " COMPUTES WRONGLY (known-answer test failed)";
    return nullptr;
  }
  return MakeCudaEngine(options, {.say = say}, why_not);
}

}  // namespace

std::unique_ptr<Engine> MakeEngine(EngineKind kind, const EngineOptions& options,
                                   const std::function<void(const std::string&)>& say,
                                   std::string* why_not) {
  const std::string_view forced = ForcedPath();
  const bool wanted = kind == EngineKind::kCuda || (kind == EngineKind::kAuto && forced == "cuda");
  if (wanted || (kind == EngineKind::kAuto && forced.empty())) {
    std::string why_no_cuda;
    if (std::unique_ptr<Engine> engine = MakeTestedCudaEngine(options, say, &why_no_cuda))
      return engine;
    // A device that is there and wrong is always worth a word.
    const bool silent = !wanted && why_no_cuda.find("WRONGLY") == std::string::npos;
    if (!silent) say("no CUDA device (" + why_no_cuda + "): going on with the CPU");
  }
  if (wanted && (forced == "cuda" || forced.empty())) {
    const CpuFeatures features = ThisCpu();
    return MakeCpuEngine(options, MakeCpuCode(BestPath(features), features, BestStreamCode()));
  }
  return MakeCpuEngine(options, why_not);
}

}  // namespace holdfast::kernels
