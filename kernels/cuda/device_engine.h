// The engine on a device, with the CPU behind it.
//
// Several batches are under way at once, each with a thread, a stream and buffers of its own, so
// that copies run beside kernels. A batch that does not fit goes through in parts. Whatever fails,
// the batch is done again by the CPU, with the same result: for lack of memory this batch only,
// when the device is lost or found wrong this and all that follow.
//
// Trust. Of every so many messages one is computed on the CPU as well. A difference stops the
// device, loudly, before the batch is handed out.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/cpu/code.h"
#include "kernels/cuda/device.h"
#include "kernels/engine.h"

namespace holdfast::kernels::cuda {

struct DeviceEngineOptions {
  int batches = 0;                         // Under way at a time; 0: by the cores, 3 to 8.
  size_t batch_bytes = size_t{256} << 20;  // Of one of them on the device.
  uint64_t check_every = 1024;             // Messages.
  bool cpu_tails = true;  // False: all digests are the device's, however long it takes.
  std::function<void(const std::string&)> say;  // One line when the device fails.
};

std::unique_ptr<Engine> MakeDeviceEngine(std::unique_ptr<Device> device,
                                         const EngineOptions& options, const CpuCode& cpu,
                                         DeviceEngineOptions device_options);

// Null when the device has no memory for so many slots. Borrows the device.
std::unique_ptr<FingerprintTable> MakeDeviceTable(Device& device, size_t slots);

}  // namespace holdfast::kernels::cuda
