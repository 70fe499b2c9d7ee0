// The twin of a CUDA device: the same kernels, thread by thread in a loop, on the host's memory.
// For tests; faults come on demand.
#pragma once

#include <atomic>

#include "kernels/cuda/device.h"

namespace holdfast::kernels::cuda {

// All are counted down by what they name; at 0 the fault is there, and stays.
struct HostFaults {
  std::atomic<int64_t> allocations_left = INT64_MAX;  // Then there is no memory any more.
  std::atomic<int64_t> launches_left = INT64_MAX;     // Then the device is lost.
  std::atomic<int64_t> digests_left = INT64_MAX;      // Then every SHA-256 has a bit wrong.
};

// Borrows `faults`, which may be null.
std::unique_ptr<Device> MakeHostDevice(HostFaults* faults = nullptr);

}  // namespace holdfast::kernels::cuda
