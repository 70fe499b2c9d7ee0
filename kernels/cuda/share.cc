#include "kernels/cuda/share.h"

#include <algorithm>
#include <numeric>

namespace holdfast::kernels::cuda {

size_t DeviceShare(std::span<const size_t> blocks, const DigestRates& rates) {
  const size_t all = std::accumulate(blocks.begin(), blocks.end(), size_t{0});
  // The time of the device grows with its share, that of the CPU shrinks.
  const auto device_is_slower = [&](size_t share) {
    size_t sum = 0;
    for (const size_t n : blocks) sum += std::min(n, share);
    const double device = std::max(rates.thread_nanos * static_cast<double>(share),
                                   rates.device_nanos * static_cast<double>(sum));
    return device > rates.cpu_nanos * static_cast<double>(all - sum);
  };
  size_t low = 0, high = blocks.empty() ? 0 : blocks.front();
  if (!device_is_slower(high)) return high;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (device_is_slower(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace holdfast::kernels::cuda
