// The production side of loop.h: threads. std::mutex rather than absl::Mutex, because the system's
// Abseil is built without ThreadSanitizer's annotations and would drown its reports.
#include "common/base/loop.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#include "common/base/deadline.h"

namespace holdfast {
namespace {

void NameThisThread(const std::string& name) {
  // The kernel keeps 15 bytes of a thread's name and refuses longer ones.
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

class ThreadLoop : public Loop {
 public:
  explicit ThreadLoop(const char* name) : thread_([this, n = std::string(name)] { Run(n); }) {}

  ~ThreadLoop() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      Wake();
    }
    thread_.join();
  }

  void Post(Task task) override {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(task));
    Wake();
  }

  void PostAfter(int64_t nanos, Task task) override {
    int64_t due = DeadlineAfter(SystemClock().MonotonicNanos(), nanos);
    std::lock_guard lock(mutex_);
    timers_.push_back({due, next_timer_++, std::move(task)});
    std::push_heap(timers_.begin(), timers_.end());
    Wake();
  }

 private:
  // Once per sleep, so that posting to a busy loop costs no system call. With the lock held: the
  // task just posted may be what lets another thread destroy this loop.
  void Wake() {
    if (asleep_) wake_.notify_one();
    asleep_ = false;
  }

  struct Timer {
    int64_t due;
    uint64_t number;  // Timers due at one time run in the order they were set.
    Task task;
    bool operator<(const Timer& other) const {
      return due != other.due ? due > other.due : number > other.number;
    }
  };

  void Run(const std::string& name) {
    NameThisThread(name);
    std::deque<Task> batch;
    while (NextBatch(batch)) {
      // A task may own what it captured; it is dropped before the next one runs.
      for (; !batch.empty(); batch.pop_front()) batch.front()();
    }
  }

  // Waits for work and takes all of it. False when there is none left and the loop stops.
  bool NextBatch(std::deque<Task>& batch) {
    std::unique_lock lock(mutex_);
    for (;;) {
      MoveDueTimers();
      if (!posted_.empty()) {
        batch.swap(posted_);
        return true;
      }
      if (stopping_) return false;
      asleep_ = true;
      if (timers_.empty()) {
        wake_.wait(lock);
      } else {
        int64_t left = timers_.front().due - SystemClock().MonotonicNanos();
        wake_.wait_for(lock, std::chrono::nanoseconds(left));
      }
      asleep_ = false;
    }
  }

  void MoveDueTimers() {
    if (timers_.empty()) return;
    int64_t now = SystemClock().MonotonicNanos();
    while (!timers_.empty() && timers_.front().due <= now) {
      std::pop_heap(timers_.begin(), timers_.end());
      posted_.push_back(std::move(timers_.back().task));
      timers_.pop_back();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> posted_;
  std::vector<Timer> timers_;  // A heap, the earliest first.
  uint64_t next_timer_ = 0;
  bool asleep_ = false;  // The thread waits and nobody has woken it yet.
  bool stopping_ = false;
  std::thread thread_;  // Last: it uses everything above.
};

class ThreadPool : public Executor {
 public:
  ThreadPool(int threads, const std::string& name) {
    for (int i = 0; i < std::max(threads, 1); ++i) {
      threads_.emplace_back([this, name] { Run(name); });
    }
  }

  ~ThreadPool() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  void Post(Task task) override {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(task));
    wake_.notify_one();
  }

 private:
  void Run(const std::string& name) {
    NameThisThread(name);
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || !posted_.empty(); });
      if (posted_.empty()) return;
      Task task = std::move(posted_.front());
      posted_.pop_front();
      lock.unlock();
      task();
      task = nullptr;
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> posted_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

// Each waiter has a condition variable of its own, and whoever unlocks evaluates the conditions:
// so a thread is woken only when what it waits for has come, however many others wait.
class ThreadMonitor : public Monitor {
 public:
  void Lock() override { mutex_.lock(); }

  void Unlock() override {
    WakeReady();
    mutex_.unlock();
  }

  void Await(const std::function<bool()>& condition) override {
    if (condition()) return;
    Waiter self{condition};
    waiters_.push_back(&self);
    // What this thread changed since Lock() may be what others wait for.
    WakeReady();
    std::unique_lock lock(mutex_, std::adopt_lock);
    do {
      self.woken = false;
      self.wake.wait(lock, [&] { return self.woken; });
    } while (!condition());
    lock.release();
    std::erase(waiters_, &self);
  }

 private:
  struct Waiter {
    const std::function<bool()>& condition;
    std::condition_variable wake{};
    bool woken = false;
  };

  void WakeReady() {
    for (Waiter* w : waiters_) {
      if (!w->woken && w->condition()) {
        w->woken = true;
        w->wake.notify_one();
      }
    }
  }

  std::mutex mutex_;
  std::vector<Waiter*> waiters_;
};

}  // namespace

std::unique_ptr<Loop> NewThreadLoop(const char* name) { return std::make_unique<ThreadLoop>(name); }

std::unique_ptr<Executor> NewThreadPool(int threads, const char* name) {
  return std::make_unique<ThreadPool>(threads, name);
}

std::unique_ptr<Monitor> NewThreadMonitor() { return std::make_unique<ThreadMonitor>(); }

}  // namespace holdfast
