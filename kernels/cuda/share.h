// How much of each message a device digests before the CPU takes over.
//
// A device's thread is slow, about 50 MB/s of SHA-256; it is fast because there are thousands. Once
// the short messages of a batch are done, a few long ones would keep it waiting with nearly all of
// it idle. So every message stops on the device after so many blocks, and the CPU finishes it from
// the chaining value.
#pragma once

#include <cstddef>
#include <span>

namespace holdfast::kernels::cuda {

struct DigestRates {
  double thread_nanos;  // A block in one thread of the device.
  double device_nanos;  // A block when the device is full.
  double cpu_nanos;     // A block on a core of the CPU, its lanes full.
};

// Blocks after which a message stops on the device, such that neither waits long for the other.
// `blocks` are those of the messages, the most first.
size_t DeviceShare(std::span<const size_t> blocks, const DigestRates& rates);

}  // namespace holdfast::kernels::cuda
