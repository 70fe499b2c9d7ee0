// Every lane kernel of every path against the core, one message at a time; and the code of sixteen
// lanes, which few build machines can run, in whatever vectors this target has.
#include "kernels/cpu/lanes.h"

#include "gtest/gtest.h"
#include "kernels/core/cut.h"
#include "kernels/cpu/code.h"
#include "kernels/cpu/scan_step.h"
#include "kernels/cpu/vector_step.h"
#include "tests/kernels/testing.h"

namespace holdfast::kernels {
namespace {

using testing::Bytes;

enum class Algorithm { kSha256, kSha1, kMd5, kAll };

StreamCode::BlockFunction CoreOf(Algorithm algorithm) {
  const StreamCode& core = CoreStreamCode();
  return algorithm == Algorithm::kSha256 ? core.sha256
         : algorithm == Algorithm::kSha1 ? core.sha1
         : algorithm == Algorithm::kMd5  ? core.md5
                                         : core.all;
}

struct Kernel {
  std::string name;
  Algorithm algorithm;
  LaneKernel kernel;
  bool can_run = true;
};

using Sixteen = Lanes<16, 1>;

std::vector<Kernel> AllKernels() {
  using enum Algorithm;
  std::vector<Kernel> kernels = {
      {"Md5PortableX8", kMd5, {Md5PortableX8, 8, 1}},
      {"Sha256PlainX4", kSha256, {VectorStep<Sha256Digest, Lanes<4, 1>>, 4, 1}},
      {"Sha1PlainX8", kSha1, {VectorStep<Sha1Digest, Lanes<4, 2>>, 8, 1}},
      {"Sha256PlainX16", kSha256, {VectorStep<Sha256Digest, Sixteen>, 16, 1}},
      {"Sha1PlainX16", kSha1, {VectorStep<Sha1Digest, Sixteen>, 16, 1}},
      {"Md5PlainX16", kMd5, {VectorStep<Md5Digest, Sixteen>, 16, 1}},
      {"AllPlainX8", kAll, {VectorStep<AllDigests, Lanes<4, 2>>, 8, 1}},
  };
#if defined(__x86_64__)
  const CpuFeatures cpu = ThisCpu();
  const auto add = [&](const char* name, Algorithm algorithm, LaneStep step, int lanes, bool has) {
    kernels.push_back({name, algorithm, {step, lanes, 1}, has});
  };
  add("Sha256NiX1", kSha256, Sha256NiX1, 1, cpu.sha);
  add("Sha256NiX2", kSha256, Sha256NiX2, 2, cpu.sha);
  add("Sha256NiX3", kSha256, Sha256NiX3, 3, cpu.sha);
  add("Sha1NiX1", kSha1, Sha1NiX1, 1, cpu.sha);
  add("Sha1NiX2", kSha1, Sha1NiX2, 2, cpu.sha);
  add("Sha1NiX3", kSha1, Sha1NiX3, 3, cpu.sha);
  add("Sha256Avx2X8", kSha256, Sha256Avx2X8, 8, cpu.avx2);
  add("Sha1Avx2X8", kSha1, Sha1Avx2X8, 8, cpu.avx2);
  add("Md5Avx2X8", kMd5, Md5Avx2X8, 8, cpu.avx2);
  add("Md5Avx2X16", kMd5, Md5Avx2X16, 16, cpu.avx2);
  add("Sha256Avx512X16", kSha256, Sha256Avx512X16, 16, cpu.avx512);
  add("Sha1Avx512X16", kSha1, Sha1Avx512X16, 16, cpu.avx512);
  add("Md5Avx512X16", kMd5, Md5Avx512X16, 16, cpu.avx512);
  add("AllAvx512X16", kAll, AllAvx512X16, 16, cpu.avx512);
#endif
  return kernels;
}

// Messages of random lengths, some with parts missing, some forking.
struct Messages {
  Messages(std::mt19937_64& rng, std::span<const uint8_t> pool, size_t count, size_t most)
      : states(2 * count), jobs(count), forks(count) {
    for (auto& state : states) std::ranges::generate(state, [&] { return uint32_t(rng()); });
    const auto run = [&](size_t blocks) {
      return BlockRun{pool.data() + rng() % (pool.size() - 64 * blocks), blocks};
    };
    for (size_t i = 0; i < count; ++i) {
      jobs[i] = {states[i].data(), {run(rng() % 2), run(rng() % most), run(rng() % 3)}};
      if (rng() % 4 != 0 || jobs[i].runs[1].blocks == 0) continue;
      forks[i] = {states[count + i].data(), {BlockRun{}, run(rng() % most), run(rng() % 3)}};
      jobs[i].fork = &forks[i];
    }
    want = states;
  }

  // What the states must become.
  void RunPlainly(StreamCode::BlockFunction core) {
    const size_t count = jobs.size();
    for (size_t i = 0; i < count; ++i) {
      for (int r = 0; r < 3; ++r) {
        core(want[i].data(), jobs[i].runs[r].data, jobs[i].runs[r].blocks);
        if (r != 1 || jobs[i].fork == nullptr) continue;
        auto& fork = want[count + i];
        fork = want[i];
        for (const BlockRun& run : forks[i].runs) core(fork.data(), run.data, run.blocks);
      }
    }
  }

  bool Right(int words) const {
    for (size_t i = 0; i < states.size(); ++i) {
      if (!std::equal(states[i].begin(), states[i].begin() + words, want[i].begin())) return false;
    }
    return true;
  }

  std::vector<std::array<uint32_t, kMaxStateWords>> states, want;
  std::vector<LaneJob> jobs, forks;
};

DigestCode CodeOf(Algorithm algorithm) {
  constexpr int kWords[] = {8, 5, 4, core::all_digests::kStateWords};
  return {.state_words = kWords[int(algorithm)], .single = CoreOf(algorithm), .single_nanos = 10};
}

class LanesTest : public ::testing::TestWithParam<Kernel> {
 protected:
  void SetUp() override {
    if (!GetParam().can_run) GTEST_SKIP() << "this CPU has no such instructions";
  }
};

TEST_P(LanesTest, AgreesWithTheCoreOnAnyMessages) {
  const Kernel& k = GetParam();
  const Bytes pool = testing::RandomBytes(1 << 16, 1);
  std::mt19937_64 rng(2);
  for (int round = 0; round < 500; ++round) {
    // Costs that make the runner stay in lanes to the end, leave them early, or do as it likes.
    DigestCode code = CodeOf(k.algorithm);
    code.kernels[0] = k.kernel;
    code.kernels[0].nanos = std::array{0.001, 10.0, 10.0 * k.kernel.lanes / 2}[round % 3];
    Messages messages(rng, pool, rng() % 50, 1 + rng() % 40);
    messages.RunPlainly(CoreOf(k.algorithm));
    RunLanes(code, messages.jobs);
    ASSERT_TRUE(messages.Right(code.state_words)) << round;
  }
}

TEST_P(LanesTest, AgreesWithTheCoreInEveryLane) {
  const Kernel& k = GetParam();
  const Bytes paint = testing::Paint(64 * 40);
  DigestCode code = CodeOf(k.algorithm);
  LaneSet set;
  std::mt19937_64 rng(3);
  std::vector<std::array<uint32_t, kMaxStateWords>> want(k.kernel.lanes);
  for (int lane = 0; lane < k.kernel.lanes; ++lane) {
    set.data[lane] = paint.data() + 7 * lane;
    for (int w = 0; w < code.state_words; ++w) {
      want[lane][w] = set.state[w * k.kernel.lanes + lane] = uint32_t(rng());
    }
    code.single(want[lane].data(), set.data[lane], 9);
  }
  k.kernel.step(set, 9);
  for (int lane = 0; lane < k.kernel.lanes; ++lane) {
    EXPECT_EQ(set.data[lane], paint.data() + 7 * lane + 9 * 64);
    for (int w = 0; w < code.state_words; ++w) {
      EXPECT_EQ(set.state[w * k.kernel.lanes + lane], want[lane][w]) << lane << " " << w;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernel, LanesTest, ::testing::ValuesIn(AllKernels()),
                         [](const auto& info) { return info.param.name; });

// Several kernels of a digest at once: messages move from one to the other.
TEST(RunLanesTest, AnyChoiceOfKernels) {
  const Bytes pool = testing::RandomBytes(1 << 16, 1);
  std::mt19937_64 rng(4);
  for (int round = 0; round < 1000; ++round) {
    DigestCode code = CodeOf(Algorithm::kMd5);
    code.kernels = {LaneKernel{VectorStep<Md5Digest, Sixteen>, 16, 1.0 + rng() % 100},
                    LaneKernel{VectorStep<Md5Digest, Lanes<4, 1>>, 4, 1.0 + rng() % 60},
                    LaneKernel{Md5PortableX8, 8, 1.0 + rng() % 60}};
    Messages messages(rng, pool, rng() % 40, 1 + rng() % 60);
    messages.RunPlainly(CoreOf(Algorithm::kMd5));
    RunLanes(code, messages.jobs);
    ASSERT_TRUE(messages.Right(4)) << round;
  }
}

// The cut scan's vector template, spelled out word by word.
struct PlainOps {
  static constexpr size_t kWords = 16;
  struct V {
    uint32_t word[kWords];
  };
  template <class F>
  static V Each(F f) {
    V v;
    for (size_t i = 0; i < kWords; ++i) v.word[i] = f(i);
    return v;
  }
  static V Load(const uint8_t* p) {
    return Each([&](size_t i) { return core::LoadLe32(p + 4 * i); });
  }
  static V Set(uint32_t word) {
    return Each([&](size_t) { return word; });
  }
  static V Add(const V& a, const V& b) {
    return Each([&](size_t i) { return a.word[i] + b.word[i]; });
  }
  static V MulLow(const V& a, const V& b) {
    return Each([&](size_t i) { return a.word[i] * b.word[i]; });
  }
  static V MulHigh(const V& a, const V& b) {
    return Each([&](size_t i) { return uint32_t(uint64_t{a.word[i]} * b.word[i] >> 32); });
  }
  static uint64_t Below(const V& x, const V& bound) {
    uint64_t bits = 0;
    for (size_t i = 0; i < kWords; ++i) {
      bits |= uint64_t{int32_t(x.word[i]) < int32_t(bound.word[i])} << i;
    }
    return bits;
  }
};

struct Finder {
  std::string name;
  CutFinder find;
  bool can_run = true;
};

std::vector<Finder> AllFinders() {
  std::vector<Finder> finders = {{"Portable", FindCutPortable}, {"PlainX16", FindCut<PlainOps>}};
#if defined(__x86_64__)
  finders.push_back({"Avx2", FindCutAvx2, ThisCpu().avx2});
  finders.push_back({"Avx512", FindCutAvx512, ThisCpu().avx512});
#endif
  return finders;
}

class FinderTest : public ::testing::TestWithParam<Finder> {
 protected:
  void SetUp() override {
    if (!GetParam().can_run) GTEST_SKIP() << "this CPU has no such instructions";
  }
};

// No position that passes is left out, few others are named, and none behind the end is read.
TEST_P(FinderTest, FindsWhatPasses) {
  std::mt19937_64 rng(5);
  for (int round = 0; round < 2000; ++round) {
    uint64_t k1 = rng() | 1, k0 = rng();
    // Multipliers of few bits make products whose carries matter.
    if (round % 4 == 1) k1 >>= rng() % 64, k1 |= 1;
    if (round % 4 == 2) k0 |= 0xffffffff;
    const size_t size = 8 + rng() % 3000;
    const Bytes bytes = testing::RandomBytes(size, round);  // Its own block: ASan sees overreads.
    size_t from = 8 + rng() % (size - 7), wrong = 0;
    while (true) {
      const size_t at = GetParam().find(bytes.data(), from, size, k1, k0);
      ASSERT_GE(at, from);
      ASSERT_LE(at, size);
      for (size_t i = from; i < at; ++i) {
        ASSERT_FALSE(core::cut::Prefilter(k1, k0, core::LoadLe64(bytes.data() + i - 8)));
      }
      if (at + kMaxCutGroup > size) break;
      wrong += !core::cut::Prefilter(k1, k0, core::LoadLe64(bytes.data() + at - 8));
      from = at + 1;
    }
    if (round % 4 == 0) {
      ASSERT_LE(wrong, 1u);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Finder, FinderTest, ::testing::ValuesIn(AllFinders()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace holdfast::kernels
