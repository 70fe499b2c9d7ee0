// The Clock seam. Time decides liveness (timeouts, grouping, reports), never safety.
#pragma once

#include <cstdint>

namespace holdfast {

// In nanoseconds.
constexpr int64_t kMilli = 1'000'000;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kMinute = 60 * kSecond;

class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since the Unix epoch, for people. May jump.
  virtual int64_t WallNanos() = 0;
  // Nanoseconds from an arbitrary start; never goes back.
  virtual int64_t MonotonicNanos() = 0;
};

Clock& SystemClock();

// Of all threads of this process, those that have ended too: the time they had a processor.
double ProcessCpuSeconds();

// Time moves only when told to.
class SimClock : public Clock {
 public:
  int64_t WallNanos() override { return kStartWallNanos + now_ + jumped_; }
  int64_t MonotonicNanos() override { return now_; }
  void AdvanceNanos(int64_t nanos) { now_ += nanos; }
  // Of the wall clock alone.
  void Jump(int64_t nanos) { jumped_ += nanos; }

 private:
  static constexpr int64_t kStartWallNanos = 1'700'000'000'000'000'000;
  int64_t now_ = 0, jumped_ = 0;
};

}  // namespace holdfast
