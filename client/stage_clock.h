// Where the threads of a job spend their time, for `--stats`: nothing else looks at it.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

namespace holdfast {

struct StageTime {
  const char* stage = nullptr;  // A literal: "read", "digest" …
  int64_t wall_nanos = 0, cpu_nanos = 0;
};

// Of all threads of one job. Thread-safe while it runs.
class JobTimes {
 public:
  void Add(std::vector<StageTime> thread) {
    const std::lock_guard lock(mutex_);
    threads_.push_back(std::move(thread));
  }
  // Once it is over.
  const std::vector<std::vector<StageTime>>& threads() const { return threads_; }

 private:
  std::mutex mutex_;
  std::vector<std::vector<StageTime>> threads_;
};

// Of one thread, which is in one stage at a time; two system calls for each change.
class StageClock {
 public:
  // Tells `times` when it ends; with null it does nothing.
  explicit StageClock(JobTimes* times) : times_(times) {}
  ~StageClock();
  StageClock(const StageClock&) = delete;
  StageClock& operator=(const StageClock&) = delete;

  // What comes next is this; a literal, or null for nothing. On the thread that it is the clock of.
  void Enter(const char* stage);

 private:
  JobTimes* const times_;
  const char* current_ = nullptr;
  int64_t wall_ = 0, cpu_ = 0;  // When it began.
  std::vector<StageTime> stages_;
};

}  // namespace holdfast
