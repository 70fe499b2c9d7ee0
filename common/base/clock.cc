#include "common/base/clock.h"

#include <time.h>

namespace holdfast {
namespace {

int64_t Now(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

class RealClock : public Clock {
 public:
  int64_t WallNanos() override { return Now(CLOCK_REALTIME); }
  int64_t MonotonicNanos() override { return Now(CLOCK_MONOTONIC); }
};

}  // namespace

Clock& SystemClock() {
  static RealClock clock;
  return clock;
}

double ProcessCpuSeconds() { return static_cast<double>(Now(CLOCK_PROCESS_CPUTIME_ID)) / kSecond; }

}  // namespace holdfast
