// Where code runs. A service is a plain class whose methods all run on one Loop; heavy work goes
// to an Executor. In production a Loop is a thread and the Executor a thread pool; in simulation
// both are one SimLoop, which runs everything in the caller's thread, in an order fixed by a seed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "common/base/clock.h"
#include "common/base/rng.h"

namespace holdfast {

using Task = std::function<void()>;

class Executor {
 public:
  virtual ~Executor() = default;
  // Runs `task` later, on a thread of this executor. Thread-safe.
  virtual void Post(Task task) = 0;
};

// An executor that runs its tasks one at a time, in the order posted; and timers.
class Loop : public Executor {
 public:
  // Runs `task` once, no earlier than `nanos` from now. Thread-safe.
  virtual void PostAfter(int64_t nanos, Task task) = 0;
};

// One thread. The destructor runs what was posted, drops timers not yet due, and joins.
std::unique_ptr<Loop> NewThreadLoop(const char* name);
// `threads` threads; the destructor runs what was posted and joins.
std::unique_ptr<Executor> NewThreadPool(int threads, const char* name);

// A place where client threads wait for what services tell them. Production: a mutex with
// conditions. Simulation: no lock; Await runs the loop until the condition holds.
class Monitor {
 public:
  virtual ~Monitor() = default;
  virtual void Lock() = 0;
  virtual void Unlock() = 0;
  // Called with the lock held; returns with it held and `condition()` true.
  virtual void Await(const std::function<bool()>& condition) = 0;
};

std::unique_ptr<Monitor> NewThreadMonitor();

class MonitorLock {
 public:
  explicit MonitorLock(Monitor& m) : m_(m) { m_.Lock(); }
  ~MonitorLock() { m_.Unlock(); }
  MonitorLock(const MonitorLock&) = delete;
  MonitorLock& operator=(const MonitorLock&) = delete;

 private:
  Monitor& m_;
};

// The simulator's loop: virtual time, one thread, the order of tasks that are ready together
// drawn from `rng`, except that tasks posted through one channel stay in order.
class SimLoop {
 public:
  SimLoop(SimClock& clock, Rng& rng);
  ~SimLoop();
  // A Loop whose tasks keep their order among themselves. Lives as long as this SimLoop.
  Loop& NewChannel();
  // An Executor whose tasks may run in any order.
  Executor& executor();
  std::unique_ptr<Monitor> NewMonitor();
  // Runs one task, moving time on when none is ready. False when nothing is left.
  bool RunOne();
  // Runs until condition() holds; aborts the process when nothing is left to run (a deadlock).
  void RunUntil(const std::function<bool()>& condition);
  // Drops every task and timer: what a power cut does to memory.
  void Clear();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast
