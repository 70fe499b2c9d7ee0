// Points in time from a delay, for timers and timeouts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace holdfast {

// Later than anything, and far enough from the end that sums with it do not overflow: 73 years.
inline constexpr int64_t kForeverNanos = std::numeric_limits<int64_t>::max() / 4;

// `delay` from `now`, never in the past; a delay that means "for ever" may be the largest integer.
inline int64_t DeadlineAfter(int64_t now, int64_t delay) {
  return now + std::clamp<int64_t>(delay, 0, kForeverNanos);
}

}  // namespace holdfast
