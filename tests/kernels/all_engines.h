// Every engine of this machine: each path of the CPU with either set of stream code, the host's
// twin of a device, and CUDA where it is. The devices do all digests themselves.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_engine.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/device_engine.h"
#include "kernels/cuda/host_device.h"

namespace holdfast::kernels::testing {

inline std::vector<std::unique_ptr<Engine>> AllEngines(const EngineOptions& options) {
  std::vector<std::unique_ptr<Engine>> engines;
  const CpuFeatures cpu = ThisCpu();
  for (const CpuPath path : {CpuPath::kPortable, CpuPath::kAvx2, CpuPath::kAvx512}) {
    if (!HasPath(cpu, path)) continue;
    for (const StreamCode* stream : {&BestStreamCode(), &CoreStreamCode()}) {
      engines.push_back(MakeCpuEngine(options, MakeCpuCode(path, cpu, *stream)));
    }
  }
  std::string why_not;
  std::unique_ptr<cuda::Device> devices[] = {cuda::MakeHostDevice(),
                                             cuda::OpenCudaDevice(&why_not)};
  for (std::unique_ptr<cuda::Device>& device : devices) {
    if (device == nullptr) continue;
    engines.push_back(cuda::MakeDeviceEngine(
        std::move(device), options, MakeCpuCode(BestPath(cpu), cpu, BestStreamCode()),
        {.cpu_tails = false, .say = [](const std::string& line) { ADD_FAILURE() << line; }}));
  }
  return engines;
}

}  // namespace holdfast::kernels::testing
