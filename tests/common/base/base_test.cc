#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <set>
#include <thread>

#include "absl/strings/cord.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/coding.h"
#include "common/base/ids.h"
#include "common/base/rng.h"
#include "common/base/status.h"

namespace holdfast {
namespace {

TEST(Bytes, HexGoesBothWays) {
  std::array<uint8_t, 4> bytes = {0x00, 0x0f, 0xa5, 0xff};
  EXPECT_EQ(ToHex(bytes), "000fa5ff");
  std::array<uint8_t, 4> back{};
  ASSERT_TRUE(FromHex("000FA5fF", back));
  EXPECT_EQ(back, bytes);
  EXPECT_EQ(ToHex({}), "");
  EXPECT_TRUE(FromHex("", {}));
}

TEST(Bytes, HexRefusesWhatIsNotHex) {
  std::array<uint8_t, 2> out;
  for (const char* bad : {"", "000", "00000", "000g", "00 0", "0x00", "00-1", "\xff\xff\xff\xff"}) {
    EXPECT_FALSE(FromHex(bad, out)) << bad;
  }
}

TEST(Bytes, SharedBytesKeepTheirBufferAlive) {
  SharedBytes copy;
  {
    SharedBytes first = SharedBytes::Own(Buffer{1, 2, 3});
    copy = first;
  }
  EXPECT_THAT(copy.view, testing::ElementsAre(1, 2, 3));
}

TEST(Coding, RoundTripAndNoReadPastTheEnd) {
  Buffer out;
  Writer w(out);
  w.U8(1);
  w.U16(0x0203);
  w.U64(0x0405060708090a0bu);
  w.I64(-2);
  w.Blob(std::string_view("ab"));
  EXPECT_EQ(ToHex(out),
            "0103020b0a090807060504"
            "feffffffffffffff"
            "02000000"
            "6162");
  Reader r(out);
  EXPECT_EQ(r.U8(), 1);
  EXPECT_EQ(r.U16(), 0x0203);
  EXPECT_EQ(r.U64(), 0x0405060708090a0bu);
  EXPECT_EQ(r.I64(), -2);
  EXPECT_EQ(r.String(), "ab");
  EXPECT_TRUE(r.done());
  for (size_t n = 0; n < out.size(); ++n) {
    Reader cut(Bytes(out).first(n));
    cut.U8(), cut.U16(), cut.U64(), cut.I64(), cut.String();
    EXPECT_FALSE(cut.ok()) << n;
  }
}

TEST(StatusTest, AnnotateKeepsCodeAndPayload) {
  Status s = absl::DataLossError("bad");
  s.SetPayload("type", absl::Cord("payload"));
  Status a = Annotate(s, "file x");
  EXPECT_EQ(a.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Message(a), "file x: bad");
  ASSERT_TRUE(a.GetPayload("type").has_value());
  EXPECT_EQ(*a.GetPayload("type"), "payload");
  EXPECT_TRUE(Annotate(absl::OkStatus(), "file x").ok());
}

// The conformance suite of Clock: `Advance` lets some time go by.
struct RealTime {
  Clock& clock = SystemClock();
  void Advance() { std::this_thread::sleep_for(std::chrono::milliseconds(2)); }
};
struct SimTime {
  SimClock sim;
  Clock& clock = sim;
  void Advance() { sim.AdvanceNanos(2'000'000); }
};

template <class T>
class ClockConformance : public testing::Test {
 protected:
  T time;
};
using ClockConformanceTwins = testing::Types<RealTime, SimTime>;
TYPED_TEST_SUITE(ClockConformance, ClockConformanceTwins, );

TYPED_TEST(ClockConformance, TimeGoesForward) {
  Clock& clock = this->time.clock;
  int64_t wall = clock.WallNanos(), mono = clock.MonotonicNanos();
  EXPECT_GT(wall, 1'600'000'000'000'000'000) << "nanoseconds since 1970";
  this->time.Advance();
  EXPECT_GE(clock.MonotonicNanos() - mono, 2'000'000);
  EXPECT_GT(clock.WallNanos(), wall);
  int64_t last = clock.MonotonicNanos();
  for (int i = 0; i < 1000; ++i) {
    int64_t now = clock.MonotonicNanos();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(SimClockTest, StandsStillUnlessMoved) {
  SimClock clock;
  EXPECT_EQ(clock.MonotonicNanos(), clock.MonotonicNanos());
  int64_t wall = clock.WallNanos();
  clock.AdvanceNanos(7);
  EXPECT_EQ(clock.WallNanos(), wall + 7);
}

// The conformance suite of Rng.
struct Secure {
  Rng& rng = SecureRng();
};
struct Simulated {
  SimRng sim{12345};
  Rng& rng = sim;
};

template <class T>
class RngConformance : public testing::Test {
 protected:
  T source;
  Rng& rng() { return source.rng; }
};
using RngConformanceTwins = testing::Types<Secure, Simulated>;
TYPED_TEST_SUITE(RngConformance, RngConformanceTwins, );

TYPED_TEST(RngConformance, FillsEveryByteOfEveryLength) {
  for (size_t size = 0; size < 300; ++size) {
    // Some draw leaves a byte other than zero at each place, unless the place is never filled.
    Buffer seen(size, 0), drawn(size + 1, 0);
    for (int i = 0; i < 20; ++i) {
      std::fill(drawn.begin(), drawn.end(), 0);
      this->rng().Fill(MutableBytes(drawn).first(size));
      for (size_t j = 0; j < size; ++j) seen[j] |= drawn[j];
      ASSERT_EQ(drawn[size], 0) << "wrote beyond the end";
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 0), 0) << size;
  }
}

TYPED_TEST(RngConformance, IdsDiffer) {
  std::set<VersionId> ids;
  for (int i = 0; i < 10000; ++i) ids.insert(this->rng().template NewId<VersionId>());
  EXPECT_EQ(ids.size(), 10000u);
}

TYPED_TEST(RngConformance, BelowIsUniform) {
  for (uint64_t n : {1, 2, 3, 10}) {
    std::vector<int> counts(n);
    constexpr int kDraws = 30000;
    for (int i = 0; i < kDraws; ++i) {
      uint64_t v = this->rng().Below(n);
      ASSERT_LT(v, n);
      counts[v]++;
    }
    // Six standard deviations: about one failure in 10^8 runs.
    double expected = double(kDraws) / double(n), slack = 6 * std::sqrt(expected);
    for (int c : counts) EXPECT_NEAR(c, expected, slack + 1);
  }
  // Rejection matters where n is no small part of 2^64: a plain modulus would give the lower half
  // twice as often.
  uint64_t n = 3ull << 62, lower = 0;
  for (int i = 0; i < 30000; ++i) lower += this->rng().Below(n) < n / 2;
  EXPECT_NEAR(double(lower), 15000, 6 * 87);
}

TEST(SimRngTest, IsSplitmix64) {
  // Reference values of splitmix64.c (Vigna) for the seed 1234567.
  SimRng rng(1234567);
  EXPECT_EQ(rng.NextU64(), 6457827717110365317u);
  EXPECT_EQ(rng.NextU64(), 3203168211198807973u);
  EXPECT_EQ(rng.NextU64(), 9817491932198370423u);
}

TEST(SecureRngTest, ThreadsDrawDifferentBytes) {
  std::array<VersionId, 4> ids;
  std::vector<std::thread> threads;
  for (VersionId& id : ids) {
    threads.emplace_back([&id] { id = SecureRng().NewId<VersionId>(); });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(std::set<VersionId>(ids.begin(), ids.end()).size(), ids.size());
}

TEST(SecureRngTest, AForkedChildDrawsOtherBytesThanItsParent) {
  SecureRng().NewId<VersionId>();  // There is a buffer to inherit now.
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  pid_t child = fork();
  if (child == 0) {
    VersionId id = SecureRng().NewId<VersionId>();
    _exit(write(pipe_ends[1], id.value.data(), id.value.size()) == 16 ? 0 : 1);
  }
  VersionId theirs, ours = SecureRng().NewId<VersionId>();
  ASSERT_EQ(read(pipe_ends[0], theirs.value.data(), theirs.value.size()), 16);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_NE(ours, theirs);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

}  // namespace
}  // namespace holdfast
