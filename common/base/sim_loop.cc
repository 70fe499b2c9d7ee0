// The simulated side of loop.h: one thread, virtual time, an order drawn from a seed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <vector>

#include "common/base/deadline.h"
#include "common/base/loop.h"

namespace holdfast {

struct SimLoop::Impl {
  class Channel : public Loop {
   public:
    explicit Channel(Impl& impl) : impl_(impl) {}
    void Post(Task task) override {
      if (tasks.empty()) impl_.ready.push_back(this);
      tasks.push_back(std::move(task));
    }
    void PostAfter(int64_t nanos, Task task) override {
      int64_t due = DeadlineAfter(impl_.clock.MonotonicNanos(), nanos);
      impl_.timers.push_back({due, impl_.next_timer++, this, std::move(task)});
      std::push_heap(impl_.timers.begin(), impl_.timers.end());
    }
    std::deque<Task> tasks;

   private:
    Impl& impl_;
  };

  class Pool : public Executor {
   public:
    explicit Pool(Impl& impl) : impl_(impl) {}
    void Post(Task task) override { impl_.pool_tasks.push_back(std::move(task)); }

   private:
    Impl& impl_;
  };

  struct Timer {
    int64_t due;
    uint64_t number;
    Channel* channel;
    Task task;
    bool operator<(const Timer& other) const {
      return due != other.due ? due > other.due : number > other.number;
    }
  };

  Impl(SimClock& c, Rng& r) : clock(c), rng(r), pool(*this) {}

  void MoveDueTimers() {
    while (!timers.empty() && timers.front().due <= clock.MonotonicNanos()) {
      std::pop_heap(timers.begin(), timers.end());
      Timer timer = std::move(timers.back());
      timers.pop_back();
      timer.channel->Post(std::move(timer.task));
    }
  }

  // Takes one of the ready tasks: the first of some channel, or any of the executor's.
  Task Take() {
    size_t choices = ready.size() + pool_tasks.size();
    size_t i = choices == 1 ? 0 : static_cast<size_t>(rng.Below(choices));
    Task task;
    if (i < ready.size()) {
      Channel& channel = *ready[i];
      task = std::move(channel.tasks.front());
      channel.tasks.pop_front();
      if (channel.tasks.empty()) {
        ready[i] = ready.back();
        ready.pop_back();
      }
    } else {
      std::swap(pool_tasks[i - ready.size()], pool_tasks.back());
      task = std::move(pool_tasks.back());
      pool_tasks.pop_back();
    }
    return task;
  }

  SimClock& clock;
  Rng& rng;
  Pool pool;
  std::deque<Channel> channels;  // A deque never moves its elements.
  std::vector<Channel*> ready;   // Channels that have tasks.
  std::vector<Task> pool_tasks;
  std::vector<Timer> timers;  // A heap, the earliest first.
  uint64_t next_timer = 0;
};

namespace {

class SimMonitor : public Monitor {
 public:
  explicit SimMonitor(SimLoop& loop) : loop_(loop) {}
  void Lock() override {}
  void Unlock() override {}
  void Await(const std::function<bool()>& condition) override { loop_.RunUntil(condition); }

 private:
  SimLoop& loop_;
};

}  // namespace

SimLoop::SimLoop(SimClock& clock, Rng& rng) : impl_(std::make_unique<Impl>(clock, rng)) {}

SimLoop::~SimLoop() { Clear(); }

Loop& SimLoop::NewChannel() { return impl_->channels.emplace_back(*impl_); }

Executor& SimLoop::executor() { return impl_->pool; }

std::unique_ptr<Monitor> SimLoop::NewMonitor() { return std::make_unique<SimMonitor>(*this); }

bool SimLoop::RunOne() {
  Impl& s = *impl_;
  s.MoveDueTimers();
  if (s.ready.empty() && s.pool_tasks.empty()) {
    if (s.timers.empty()) return false;
    s.clock.AdvanceNanos(s.timers.front().due - s.clock.MonotonicNanos());
    s.MoveDueTimers();
  }
  // Taken out before it runs, since it may post, wait (and so come here again) or clear.
  Task task = s.Take();
  task();
  return true;
}

void SimLoop::RunUntil(const std::function<bool()>& condition) {
  while (!condition()) {
    if (!RunOne()) {
      std::fprintf(stderr,
                   "SimLoop: deadlock: a condition is awaited and nothing is left to run\n");
      std::abort();
    }
  }
}

void SimLoop::Clear() {
  Impl& s = *impl_;
  // Dropping a task may post another from a destructor; that one is dropped too.
  while (!s.ready.empty() || !s.pool_tasks.empty() || !s.timers.empty()) {
    std::vector<std::deque<Task>> dropped;
    for (Impl::Channel* channel : s.ready) dropped.push_back(std::move(channel->tasks));
    for (Impl::Channel* channel : s.ready) channel->tasks.clear();
    s.ready.clear();
    std::vector<Task> pool_tasks = std::move(s.pool_tasks);
    s.pool_tasks.clear();
    std::vector<Impl::Timer> timers = std::move(s.timers);
    s.timers.clear();
  }
}

}  // namespace holdfast
