#include "client/stage_clock.h"

#include <time.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace holdfast {
namespace {

int64_t Now(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

}  // namespace

StageClock::~StageClock() {
  if (times_ == nullptr) return;
  if (current_ != nullptr) Enter(nullptr);
  times_->Add(std::move(stages_));
}

void StageClock::Enter(const char* stage) {
  if (times_ == nullptr) return;
  const int64_t wall = Now(CLOCK_MONOTONIC), cpu = Now(CLOCK_THREAD_CPUTIME_ID);
  if (current_ != nullptr) {
    auto at = std::ranges::find_if(
        stages_, [&](const StageTime& time) { return std::strcmp(time.stage, current_) == 0; });
    if (at == stages_.end()) at = stages_.insert(at, {.stage = current_});
    at->wall_nanos += wall - wall_;
    at->cpu_nanos += cpu - cpu_;
  }
  current_ = stage;
  wall_ = wall;
  cpu_ = cpu;
}

}  // namespace holdfast
