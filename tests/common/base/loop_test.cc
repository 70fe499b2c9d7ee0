// One suite for threads and for the simulated loop, and what only one of them promises.
#include "common/base/loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "common/base/clock.h"

namespace holdfast {
namespace {

using testing::ElementsAre;

struct Threads {
  std::unique_ptr<Loop> one = NewThreadLoop("test-one"), two = NewThreadLoop("test-two");
  std::unique_ptr<Executor> pool = NewThreadPool(3, "test-pool");
  Loop& a = *one;
  Loop& b = *two;
  Executor& executor = *pool;
  std::unique_ptr<Monitor> monitor = NewThreadMonitor();
  Clock& clock = SystemClock();
};

struct SimulatedLoops {
  SimClock sim_clock;
  SimRng rng{4711};
  SimLoop loop{sim_clock, rng};
  Loop& a = loop.NewChannel();
  Loop& b = loop.NewChannel();
  Executor& executor = loop.executor();
  std::unique_ptr<Monitor> monitor = loop.NewMonitor();
  Clock& clock = sim_clock;
};

template <class T>
class LoopConformance : public testing::Test {
 protected:
  // Runs `change` under the monitor, as a service's reply does.
  void Tell(const Task& change) {
    MonitorLock lock(*w.monitor);
    change();
  }
  void Await(const std::function<bool()>& condition) {
    MonitorLock lock(*w.monitor);
    w.monitor->Await(condition);
  }
  T w;
};
using LoopConformanceTwins = testing::Types<Threads, SimulatedLoops>;
TYPED_TEST_SUITE(LoopConformance, LoopConformanceTwins, );

TYPED_TEST(LoopConformance, TasksOfOneLoopRunInOrder) {
  std::vector<int> ran;
  for (int i = 0; i < 1000; ++i) {
    this->w.a.Post([this, i, &ran] { this->Tell([&] { ran.push_back(i); }); });
  }
  this->Await([&] { return ran.size() == 1000; });
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(ran[i], i);
}

TYPED_TEST(LoopConformance, TasksOfOneLoopNeverOverlap) {
  int inside = 0, done = 0, worst = 0;
  for (int i = 0; i < 200; ++i) {
    this->w.executor.Post([&] {
      this->w.a.Post([&] {
        this->Tell([&] { worst = std::max(worst, ++inside); });
        this->Tell([&] { --inside, ++done; });
      });
    });
  }
  this->Await([&] { return done == 200; });
  EXPECT_EQ(worst, 1);
}

TYPED_TEST(LoopConformance, TasksMayPostTasks) {
  int hops = 0;
  std::function<void()> hop = [&] {
    bool more = false;
    this->Tell([&] { more = ++hops < 100; });
    if (more) (hops % 2 ? this->w.b : this->w.a).Post(hop);
  };
  this->w.a.Post(hop);
  this->Await([&] { return hops == 100; });
}

TYPED_TEST(LoopConformance, TimersRunInOrderAndNotEarly) {
  std::vector<int> ran;
  std::map<int, int64_t> late;
  int64_t start = this->w.clock.MonotonicNanos();
  for (int delay : {15, 5, 10, 0}) {
    this->w.a.PostAfter(delay * kMilli, [&, delay] {
      int64_t waited = this->w.clock.MonotonicNanos() - start;
      this->Tell([&] {
        ran.push_back(delay);
        late[delay] = waited - delay * kMilli;
      });
    });
  }
  this->Await([&] { return ran.size() == 4; });
  EXPECT_THAT(ran, ElementsAre(0, 5, 10, 15));
  for (auto [delay, by] : late) EXPECT_GE(by, 0) << delay;
}

TYPED_TEST(LoopConformance, AnEarlierTimerOvertakesTheOneWaitedFor) {
  bool early = false;
  this->w.a.PostAfter(3600'000 * kMilli, [] { FAIL() << "an hour cannot have passed"; });
  this->w.a.PostAfter(INT64_MAX, [] { FAIL() << "for ever is not over"; });
  this->w.a.PostAfter(2 * kMilli, [&] { this->Tell([&] { early = true; }); });
  this->Await([&] { return early; });
}

TYPED_TEST(LoopConformance, ExecutorRunsEverything) {
  std::set<int> ran;
  for (int i = 0; i < 500; ++i) {
    this->w.executor.Post([&, i] { this->Tell([&] { ran.insert(i); }); });
  }
  this->Await([&] { return ran.size() == 500; });
}

TYPED_TEST(LoopConformance, AwaitReturnsAtOnceWhenTheConditionHolds) {
  this->Await([] { return true; });
}

TYPED_TEST(LoopConformance, ATaskIsDroppedOnceItRan) {
  auto owned = std::make_shared<int>(1);
  std::weak_ptr<int> watch = owned;
  bool second = false;
  this->w.a.Post([owned = std::move(owned)] {});
  this->w.a.Post([&] { this->Tell([&] { second = true; }); });
  this->Await([&] { return second; });
  EXPECT_TRUE(watch.expired());
}

TEST(ThreadLoopTest, DestructorRunsWhatWasPostedAndDropsTimers) {
  int ran = 0;
  {
    auto loop = NewThreadLoop("test");
    for (int i = 0; i < 100; ++i) loop->Post([&] { ++ran; });
    loop->Post([&, l = loop.get()] { l->Post([&] { ++ran; }); });
    loop->PostAfter(3600'000 * kMilli, [&] { ran = -1; });
  }
  EXPECT_EQ(ran, 101);
}

TEST(ThreadPoolTest, DestructorRunsWhatWasPosted) {
  std::atomic<int> ran = 0;
  {
    auto pool = NewThreadPool(2, "test");
    for (int i = 0; i < 100; ++i) pool->Post([&] { ++ran; });
  }
  EXPECT_EQ(ran, 100);
}

TEST(ThreadPoolTest, TasksRunAtTheSameTime) {
  auto monitor = NewThreadMonitor();
  int here = 0;
  // Neither of its tasks can end unless both run.
  auto pool = NewThreadPool(2, "test");
  for (int i = 0; i < 2; ++i) {
    pool->Post([&] {
      MonitorLock lock(*monitor);
      ++here;
      monitor->Await([&] { return here == 2; });
    });
  }
  MonitorLock lock(*monitor);
  monitor->Await([&] { return here == 2; });
}

TEST(ThreadLoopTest, ThreadsCarryTheirNames) {
  std::string seen;
  {
    auto loop = NewThreadLoop("a-name-that-is-too-long");
    loop->Post([&] {
      char name[32];
      pthread_getname_np(pthread_self(), name, sizeof name);
      seen = name;
    });
  }
  EXPECT_EQ(seen, "a-name-that-is-");
}

TEST(ThreadMonitorTest, ManyWaitersEachGetTheirTurn) {
  auto monitor = NewThreadMonitor();
  int turn = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 200; ++round) {
        MonitorLock lock(*monitor);
        monitor->Await([&] { return turn == round * 8 + i; });
        ++turn;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(turn, 1600);
}

// What one run of a small program prints, in the order its tasks ran.
std::string SimRun(uint64_t seed) {
  SimClock clock;
  SimRng rng(seed);
  SimLoop loop(clock, rng);
  std::string trace;
  Loop& a = loop.NewChannel();
  Loop& b = loop.NewChannel();
  for (char c : {'0', '1', '2'}) {
    a.Post([&, c] { trace += {'a', c}; });
    b.Post([&, c] { trace += {'b', c}; });
    loop.executor().Post([&, c] { trace += {'x', c}; });
  }
  while (loop.RunOne()) {
  }
  return trace;
}

TEST(SimLoopTest, TheSeedDecidesTheOrder) {
  std::set<std::string> traces;
  std::set<std::string> executor_orders;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    std::string trace = SimRun(seed);
    EXPECT_EQ(trace, SimRun(seed)) << "seed " << seed;
    traces.insert(trace);
    std::map<char, std::string> order;
    for (size_t i = 0; i < trace.size(); i += 2) order[trace[i]] += trace[i + 1];
    EXPECT_EQ(order['a'], "012") << "seed " << seed;
    EXPECT_EQ(order['b'], "012") << "seed " << seed;
    executor_orders.insert(order['x']);
  }
  EXPECT_GT(traces.size(), 100u);
  EXPECT_EQ(executor_orders.size(), 6u) << "any order of three";
}

TEST(SimLoopTest, TimeMovesOnlyWhenNothingIsReady) {
  SimClock clock;
  SimRng rng(1);
  SimLoop loop(clock, rng);
  Loop& a = loop.NewChannel();
  std::vector<int64_t> times;
  a.PostAfter(5, [&] { times.push_back(clock.MonotonicNanos()); });
  for (int i = 0; i < 3; ++i) a.Post([&] { times.push_back(clock.MonotonicNanos()); });
  while (loop.RunOne()) {
  }
  EXPECT_THAT(times, ElementsAre(0, 0, 0, 5));
}

TEST(SimLoopTest, AwaitInsideATaskRunsTheOthers) {
  SimClock clock;
  SimRng rng(1);
  SimLoop loop(clock, rng);
  auto monitor = loop.NewMonitor();
  Loop& a = loop.NewChannel();
  bool told = false, done = false;
  a.Post([&] {
    MonitorLock lock(*monitor);
    monitor->Await([&] { return told; });
    done = true;
  });
  loop.NewChannel().PostAfter(10, [&] { told = true; });
  loop.RunUntil([&] { return done; });
}

TEST(SimLoopTest, ClearDropsEverything) {
  SimClock clock;
  SimRng rng(1);
  SimLoop loop(clock, rng);
  Loop& a = loop.NewChannel();
  auto fail = [] { FAIL() << "a dropped task ran"; };
  a.Post([&] { loop.Clear(); });
  a.Post(fail);
  a.PostAfter(1, fail);
  EXPECT_TRUE(loop.RunOne());
  loop.executor().Post(fail);
  loop.Clear();
  EXPECT_FALSE(loop.RunOne());
  bool ran = false;
  a.Post([&] { ran = true; });
  EXPECT_TRUE(loop.RunOne());
  EXPECT_TRUE(ran);
}

TEST(SimLoopDeathTest, ADeadlockEndsTheProcess) {
  SimClock clock;
  SimRng rng(1);
  SimLoop loop(clock, rng);
  EXPECT_DEATH(loop.RunUntil([] { return false; }), "deadlock");
}

}  // namespace
}  // namespace holdfast
