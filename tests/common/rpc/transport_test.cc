// One suite for the in-process, the simulated and the ZeroMQ transport, and what the first two
// alone promise.
#include "common/rpc/transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "common/base/clock.h"
#include "common/rpc/zmq/zmq_transport.h"

namespace holdfast {
namespace {

using absl::StatusCode;

// Method 1 answers head and frames as they came, 2 with an error, 3 never, 4 later.
class Echo : public Service {
 public:
  explicit Echo(Loop& loop) : loop_(loop) {}
  void Handle(RpcMessage request, ReplyFn reply) override {
    ++handled;
    heads.push_back(request.head);
    switch (request.method) {
      case 1:
        return reply(std::move(request));
      case 2:
        return reply(absl::AbortedError("refused"));
      case 3:
        kept_.push_back(std::move(reply));
        return;
      default:
        loop_.PostAfter(kMilli, [request, reply] { reply(request); });
    }
  }
  std::atomic<int> handled = 0;
  std::vector<std::string> heads;

 private:
  Loop& loop_;
  std::vector<ReplyFn> kept_;
};

struct InProcess {
  std::unique_ptr<Loop> loop = NewThreadLoop("service");
  Loop& service_loop = *loop;
  Echo echo{service_loop};
  std::unique_ptr<Transport> transport = NewInProcessTransport();
  static constexpr int64_t kShort = 20 * kMilli;
  static constexpr bool kSharesMemory = true;
};

// A process that calls itself, over TCP with CURVE.
struct OverZmq {
  static std::unique_ptr<Transport> New() {
    ZmqOptions options;
    options.keys = NewCurveKeyPair();
    options.listen = "tcp://127.0.0.1:0";
    options.admit = [](const CurvePublicKey&) { return Admission::kYes; };
    options.authorise = [](const CurvePublicKey&, const std::string&, uint16_t) { return 0u; };
    std::unique_ptr<ZmqTransport> transport = ZmqTransport::Open(options).value();
    transport->Route("echo", transport->endpoint(), options.keys.public_key);
    return transport;
  }

  std::unique_ptr<Loop> loop = NewThreadLoop("service");
  Loop& service_loop = *loop;
  Echo echo{service_loop};
  std::unique_ptr<Transport> transport = New();
  static constexpr int64_t kShort = 500 * kMilli;
  static constexpr bool kSharesMemory = false;
};

struct Simulated {
  SimClock clock;
  SimRng rng{99};
  SimLoop loop{clock, rng};
  Loop& service_loop = loop.NewChannel();
  Echo echo{service_loop};
  std::unique_ptr<Transport> transport = NewSimTransport(loop, rng, {});
  static constexpr int64_t kShort = 20 * kMilli;
  static constexpr bool kSharesMemory = true;
};

RpcMessage Request(uint16_t method, std::string head) {
  RpcMessage m;
  m.method = method;
  m.head = std::move(head);
  return m;
}

template <class T>
class TransportConformance : public testing::Test {
 protected:
  void SetUp() override { w.transport->Attach("echo", w.echo, w.service_loop); }
  void TearDown() override { w.transport->Detach("echo"); }

  StatusOr<RpcMessage> Call(RpcMessage request, int64_t timeout = kMinute) {
    return CallAndWait(*w.transport, "echo", std::move(request), timeout);
  }

  T w;
};
using Twins = testing::Types<InProcess, OverZmq, Simulated>;
TYPED_TEST_SUITE(TransportConformance, Twins, );

TYPED_TEST(TransportConformance, ReplyCarriesHeadAndFrames) {
  RpcMessage request = this->Call(Request(1, "x")).value();
  request.head = "head";
  Buffer payload(100'000, 7);
  const uint8_t* bytes = payload.data();
  request.frames.push_back(SharedBytes::Own(std::move(payload)));
  request.frames.push_back(SharedBytes::Own({}));
  auto reply = this->Call(request);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->method, 1);
  EXPECT_EQ(reply->head, "head");
  ASSERT_EQ(reply->frames.size(), 2u);
  const bool same = reply->frames[0].view.data() == bytes;
  EXPECT_EQ(same, TypeParam::kSharesMemory);
  EXPECT_EQ(reply->frames[0].view.size(), 100'000u);
  EXPECT_EQ(reply->frames[0].view.back(), 7);
  EXPECT_TRUE(reply->frames[1].view.empty());
}

// However frames lie in memory: one behind the other, with a gap, the other way round, in several.
TYPED_TEST(TransportConformance, FramesComeAsTheyAre) {
  Buffer bytes(1000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7);
  const SharedBytes all = SharedBytes::Own(bytes), other = SharedBytes::Own(bytes);
  const auto part = [](const SharedBytes& of, size_t at, size_t size) {
    return SharedBytes{of.owner, of.view.subspan(at, size)};
  };
  using Frames = std::vector<SharedBytes>;
  for (const Frames& frames :
       {Frames{part(all, 0, 100), part(all, 100, 1), part(all, 101, 899)},
        Frames{part(all, 10, 90), part(all, 100, 0), part(all, 100, 50)},
        Frames{part(all, 0, 100), part(all, 101, 100)},
        Frames{part(all, 100, 100), part(all, 0, 100)},
        Frames{part(all, 0, 100), part(other, 100, 100)}, Frames{part(all, 5, 0)}, Frames{}}) {
    RpcMessage request = this->Call(Request(1, "x")).value();
    request.frames = frames;
    const auto reply = this->Call(request);
    ASSERT_TRUE(reply.ok()) << reply.status();
    ASSERT_EQ(reply->frames.size(), frames.size());
    for (size_t i = 0; i < frames.size(); ++i) {
      EXPECT_TRUE(std::ranges::equal(reply->frames[i].view, frames[i].view)) << i;
    }
  }
}

TYPED_TEST(TransportConformance, TheServicesErrorComesBack) {
  Status s = this->Call(Request(2, "")).status();
  EXPECT_EQ(s.code(), StatusCode::kAborted);
  EXPECT_EQ(Message(s), "refused");
}

TYPED_TEST(TransportConformance, AReplyMayComeLater) {
  auto reply = this->Call(Request(4, "late"), INT64_MAX);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->head, "late");
}

TYPED_TEST(TransportConformance, NoReplyIsUnavailable) {
  Status s = this->Call(Request(3, ""), TypeParam::kShort).status();
  EXPECT_EQ(s.code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(s), testing::HasSubstr("echo"));
}

TYPED_TEST(TransportConformance, NobodyThereIsUnavailable) {
  Status s = CallAndWait(*this->w.transport, "nobody", Request(1, ""), TypeParam::kShort).status();
  EXPECT_EQ(s.code(), StatusCode::kUnavailable);
  EXPECT_THAT(Message(s), testing::HasSubstr("nobody"));
}

TYPED_TEST(TransportConformance, ADetachedServiceIsNotCalled) {
  ASSERT_TRUE(this->Call(Request(1, "")).ok());
  this->w.transport->Detach("echo");
  this->w.transport->Detach("echo");
  EXPECT_EQ(this->Call(Request(1, ""), TypeParam::kShort).status().code(),
            StatusCode::kUnavailable);
  EXPECT_EQ(this->w.echo.handled, 1);
  this->w.transport->Attach("echo", this->w.echo, this->w.service_loop);
  EXPECT_TRUE(this->Call(Request(1, "")).ok());
}

TYPED_TEST(TransportConformance, EveryCallbackRunsExactlyOnce) {
  auto monitor = this->w.transport->NewMonitor();
  std::map<int, int> runs;
  for (int i = 0; i < 400; ++i) {
    uint16_t method = static_cast<uint16_t>(1 + i % 4);
    this->w.transport->Call("echo", Request(method, std::to_string(i)), TypeParam::kShort,
                            [&, i](StatusOr<RpcMessage>) {
                              MonitorLock lock(*monitor);
                              runs[i]++;
                            });
  }
  MonitorLock lock(*monitor);
  monitor->Await([&] { return runs.size() == 400; });
  for (auto [i, n] : runs) EXPECT_EQ(n, 1) << i;
}

TYPED_TEST(TransportConformance, DoneMayCallAgain) {
  auto monitor = this->w.transport->NewMonitor();
  int hops = 0;
  std::function<void()> hop = [&] {
    this->w.transport->Call("echo", Request(1, ""), kMinute, [&](StatusOr<RpcMessage> r) {
      EXPECT_TRUE(r.ok());
      MonitorLock lock(*monitor);
      if (++hops < 50) hop();
    });
  };
  hop();
  MonitorLock lock(*monitor);
  monitor->Await([&] { return hops == 50; });
}

TEST(InProcessTest, RequestsOfOneCallerKeepTheirOrder) {
  InProcess w;
  w.transport->Attach("echo", w.echo, w.service_loop);
  auto monitor = w.transport->NewMonitor();
  std::vector<std::string> replies;
  for (int i = 0; i < 1000; ++i) {
    w.transport->Call("echo", Request(1, std::to_string(i)), kMinute, [&](StatusOr<RpcMessage> r) {
      MonitorLock lock(*monitor);
      replies.push_back(r->head);
    });
  }
  MonitorLock lock(*monitor);
  monitor->Await([&] { return replies.size() == 1000; });
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(replies[i], std::to_string(i));
}

TEST(InProcessTest, ACallMayHoldTheLockThatDoneTakes) {
  InProcess w;
  auto monitor = w.transport->NewMonitor();
  bool done = false;
  MonitorLock lock(*monitor);
  w.transport->Call("nobody", Request(1, ""), kMinute, [&](StatusOr<RpcMessage>) {
    MonitorLock inner(*monitor);
    done = true;
  });
  monitor->Await([&] { return done; });
}

TEST(InProcessTest, DeadlinesComeInTheirOrder) {
  InProcess w;
  w.transport->Attach("echo", w.echo, w.service_loop);
  auto monitor = w.transport->NewMonitor();
  std::vector<int> order;
  int64_t start = SystemClock().MonotonicNanos();
  for (int ms : {60'000, 30, 10, 20}) {
    w.transport->Call("echo", Request(3, ""), ms * kMilli, [&, ms](StatusOr<RpcMessage>) {
      MonitorLock lock(*monitor);
      order.push_back(ms);
    });
  }
  {
    MonitorLock lock(*monitor);
    monitor->Await([&] { return order.size() == 3; });
    EXPECT_THAT(order, testing::ElementsAre(10, 20, 30));
  }
  EXPECT_GE(SystemClock().MonotonicNanos() - start, 30 * kMilli);
  w.transport.reset();
  EXPECT_EQ(order.size(), 4u) << "the end of the transport ends what still waits";
}

// Blocks the service until it is let go.
class Gate : public Service {
 public:
  void Handle(RpcMessage, ReplyFn reply) override {
    inside = true;
    while (!open) std::this_thread::yield();
    left = true;
    reply(RpcMessage());
  }
  std::atomic<bool> inside = false, open = false, left = false;
};

TEST(InProcessTest, DetachWaitsForTheCallThatRuns) {
  auto loop = NewThreadLoop("gate");
  auto transport = NewInProcessTransport();
  Gate gate;
  transport->Attach("gate", gate, *loop);
  std::atomic<int> ok = 0, failed = 0;
  for (int i = 0; i < 3; ++i) {
    transport->Call("gate", RpcMessage(), kMinute,
                    [&](StatusOr<RpcMessage> r) { ++(r.ok() ? ok : failed); });
  }
  while (!gate.inside) std::this_thread::yield();
  std::thread opener([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    gate.open = true;
  });
  transport->Detach("gate");
  EXPECT_TRUE(gate.left);
  opener.join();
  loop.reset();
  EXPECT_EQ(ok, 1);
  EXPECT_EQ(failed, 2) << "what was queued is refused, and nothing hangs";
}

// Counts what reaches it, by head.
class Counter : public Service {
 public:
  void Handle(RpcMessage request, ReplyFn reply) override {
    order.push_back(request.head);
    times[request.head]++;
    reply(std::move(request));
  }
  std::vector<std::string> order;
  std::map<std::string, int> times;
};

struct Outcome {
  std::vector<std::string> order;
  std::map<std::string, int> times;
  int answered = 0, unavailable = 0;
  bool operator==(const Outcome&) const = default;
};

Outcome RunNetwork(uint64_t seed, SimNetworkOptions options, int calls) {
  SimClock clock;
  SimRng rng(seed);
  SimLoop loop(clock, rng);
  Counter counter;
  auto transport = NewSimTransport(loop, rng, options);
  transport->Attach("c", counter, loop.NewChannel());
  Outcome o;
  for (int i = 0; i < calls; ++i) {
    transport->Call("c", Request(1, std::to_string(i)), 10 * kMilli,
                    [&](StatusOr<RpcMessage> r) { ++(r.ok() ? o.answered : o.unavailable); });
  }
  while (loop.RunOne()) {
  }
  o.order = counter.order;
  o.times = counter.times;
  return o;
}

TEST(SimTransportTest, ReplaysFromItsSeed) {
  SimNetworkOptions bad{.drop = 0.2, .duplicate = 0.2};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(RunNetwork(seed, bad, 50), RunNetwork(seed, bad, 50)) << "seed " << seed;
    EXPECT_NE(RunNetwork(seed, bad, 50), RunNetwork(seed + 1, bad, 50)) << "seed " << seed;
  }
}

TEST(SimTransportTest, DelaysReorder) {
  Outcome o = RunNetwork(1, {}, 100);
  EXPECT_EQ(o.answered, 100);
  EXPECT_EQ(o.times.size(), 100u);
  EXPECT_FALSE(std::is_sorted(o.order.begin(), o.order.end()));
}

TEST(SimTransportTest, DropsEndInUnavailable) {
  Outcome all = RunNetwork(1, {.drop = 1}, 20);
  EXPECT_EQ(all.unavailable, 20);
  EXPECT_TRUE(all.order.empty());
  Outcome some = RunNetwork(1, {.drop = 0.3}, 1000);
  EXPECT_EQ(some.answered + some.unavailable, 1000);
  EXPECT_NEAR(some.answered, 490, 100) << "request and reply must both pass";
  EXPECT_GT(some.order.size(), size_t(some.answered) + 100) << "replies are lost too";
}

TEST(SimTransportTest, DuplicatesReachTheServiceAndNotTheCaller) {
  Outcome o = RunNetwork(1, {.duplicate = 0.5}, 1000);
  EXPECT_EQ(o.answered, 1000) << "each callback once";
  EXPECT_NEAR(double(o.order.size()), 1500, 100);
}

TEST(SimTransportTest, ALateRequestReachesWhoIsThereThen) {
  SimClock clock;
  SimRng rng(3);
  SimLoop loop(clock, rng);
  Counter first, second;
  auto transport = NewSimTransport(loop, rng, {});
  transport->Attach("c", first, loop.NewChannel());
  int unavailable = 0;
  transport->Call("c", Request(1, "x"), kMilli * 5,
                  [&](StatusOr<RpcMessage> r) { unavailable += !r.ok(); });
  transport->Detach("c");
  transport->Attach("c", second, loop.NewChannel());
  while (loop.RunOne()) {
  }
  EXPECT_TRUE(first.order.empty());
  EXPECT_EQ(second.order.size(), 1u);
  EXPECT_EQ(unavailable, 0);
}

TEST(SimTransportTest, TheDeadIsSilent) {
  SimClock clock;
  SimRng rng(3);
  SimLoop loop(clock, rng);
  Loop& channel = loop.NewChannel();
  Echo echo(channel);
  auto transport = NewSimTransport(loop, rng, {.max_delay_nanos = 0});
  transport->Attach("c", echo, channel);
  StatusCode code = StatusCode::kOk;
  transport->Call("c", Request(4, "x"), kMilli * 5,
                  [&](StatusOr<RpcMessage> r) { code = r.status().code(); });
  while (echo.handled == 0) loop.RunOne();
  transport->Detach("c");  // Before it answers.
  while (loop.RunOne()) {
  }
  EXPECT_EQ(code, StatusCode::kUnavailable);
}

}  // namespace
}  // namespace holdfast
