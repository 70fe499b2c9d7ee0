// The engine's conformance: cuts and digests against oracles, whatever the batch and the slicing.
// Run over every backend this build has.
#include "kernels/engine.h"

#include <cstdlib>
#include <map>
#include <optional>
#include <thread>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_engine.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/device_engine.h"
#include "kernels/cuda/host_device.h"
#include "tests/kernels/testing.h"

namespace holdfast::kernels {
namespace {

using testing::Bytes;
using testing::Hex;
using testing::Object;

struct Backend {
  const char* name;
  std::unique_ptr<Engine> (*make)(const EngineOptions& options);
};

class EngineTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (engine_ == nullptr) GTEST_SKIP() << "not on this machine";
  }

  const EngineOptions options_ = testing::TestOptions();
  const std::unique_ptr<Engine> engine_ = GetParam().make(options_);

  Status SubmitOne(Message message) {
    Batch batch;
    batch.messages.push_back(std::move(message));
    return testing::SubmitAndWait(*engine_, batch);
  }
};

TEST_P(EngineTest, PassesTheKnownAnswerTest) {
  EXPECT_FALSE(engine_->name().empty());
  for (const uint32_t avg : {64u << 10, 512u << 10}) {
    const EngineOptions options = testing::TestOptions(avg);
    EXPECT_TRUE(KnownAnswerTest(*GetParam().make(options), options));
  }
}

TEST_P(EngineTest, EmptyBatchIsDone) {
  Batch batch;
  EXPECT_EQ(testing::SubmitAndWait(*engine_, batch), Status::kOk);
}

TEST_P(EngineTest, EmptyObjectHasDigestsAndNoChunk) {
  std::vector<Object> objects(3);
  testing::RunObjects(*engine_, options_.cut, objects);
  for (const Object& object : objects) {
    EXPECT_TRUE(object.chunks.empty());
    testing::ExpectRight(object, options_);
  }
}

TEST_P(EngineTest, RefusesMissingStates) {
  const Bytes bytes(100, 1);
  EXPECT_EQ(SubmitOne({.data = bytes, .last = true}), Status::kInvalidArgument);
}

// Bytes without a cut: all of one kind are cut by length alone.
TEST_P(EngineTest, ConsumesNothingOfASliceTooShortToDecide) {
  const Bytes bytes(options_.cut.max_size(), 1);
  DigestState state;
  state.Reset();
  Batch batch;
  batch.messages.push_back({.data = std::span(bytes).first(bytes.size() - 1), .state = &state});
  ASSERT_EQ(testing::SubmitAndWait(*engine_, batch), Status::kOk);
  EXPECT_EQ(batch.messages[0].consumed, 0u);
  EXPECT_EQ(state.length, 0u);
  batch.messages[0].data = bytes;
  ASSERT_EQ(testing::SubmitAndWait(*engine_, batch), Status::kOk);
  EXPECT_EQ(batch.messages[0].consumed, bytes.size());
}

// One batch of all lengths where blocks, padding or chunks change, and each length alone.
TEST_P(EngineTest, BoundaryLengths) {
  const size_t min = options_.cut.min_size(), avg = options_.cut.avg_size;
  const size_t max = options_.cut.max_size();
  const Bytes paint = testing::Paint(max + 100);
  std::vector<Object> objects;
  const auto add = [&](size_t from, size_t to) {
    for (size_t n = from; n <= to; ++n) {
      objects.push_back({.bytes = std::span(paint).subspan(n % 31, n)});
    }
  };
  add(0, 130);
  add(183, 193);
  for (const size_t middle : {size_t{256}, size_t{4096}, min, avg, max})
    add(middle - 2, middle + 2);
  testing::RunObjects(*engine_, options_.cut, objects);
  for (const Object& object : objects) testing::ExpectRight(object, options_);
  for (const Object& object : objects) {
    std::vector<Object> alone{{.bytes = object.bytes}};
    testing::RunObjects(*engine_, options_.cut, alone);
    testing::ExpectRight(alone[0], options_);
  }
}

// As a reader has them: those of the rule give what the rule gives, and of others chunks and
// digests are right all the same, whether an engine takes them or not.
TEST_P(EngineTest, LengthsThatAreKnown) {
  const Bytes bytes = testing::RandomBytes(700000, 8);
  std::vector<Object> objects{{.bytes = bytes}};
  testing::RunObjects(*engine_, options_.cut, objects);
  std::vector<uint32_t> by_rule;
  for (const Chunk& chunk : objects[0].chunks) by_rule.push_back(chunk.length);
  const std::vector<std::vector<uint32_t>> cases = {by_rule,          {700000}, {1, 699998, 1},
                                                    {300000, 400001}, {300000}, {}};
  for (const std::vector<uint32_t>& lengths : cases) {
    DigestState state;
    state.Reset();
    Batch batch;
    batch.messages.push_back({.data = bytes, .last = true, .state = &state, .lengths = lengths});
    ASSERT_EQ(testing::SubmitAndWait(*engine_, batch), Status::kOk);
    const Message& message = batch.messages[0];
    EXPECT_EQ(message.consumed, bytes.size());
    EXPECT_EQ(testing::Hex(message.result.sha256), testing::EvpHex("SHA256", bytes));
    EXPECT_EQ(testing::Hex(message.result.md5), testing::EvpHex("MD5", bytes));
    std::vector<uint32_t> got;
    size_t at = 0;
    for (const Chunk& chunk : message.chunks) {
      const auto piece = std::span(bytes).subspan(at, chunk.length);
      EXPECT_EQ(testing::Hex(chunk.sha256), testing::EvpHex("SHA256", piece));
      EXPECT_EQ(testing::Hex(chunk.poly1305),
                testing::EvpPoly1305Hex(options_.poly1305_key, piece));
      got.push_back(chunk.length);
      at += chunk.length;
    }
    EXPECT_TRUE(got == lengths || got == by_rule) << ::testing::PrintToString(got);
  }
}

TEST_P(EngineTest, AnyChoiceOfDigests) {
  const Bytes bytes = testing::RandomBytes(300000, 2);
  std::vector<Object> objects;
  for (uint32_t digests = 0; digests <= kAllDigests; ++digests) {
    objects.push_back({.bytes = std::span(bytes).first(1000), .digests = digests});
    objects.push_back({.bytes = bytes, .digests = digests});
  }
  testing::RunObjects(*engine_, options_.cut, objects);
  for (const Object& object : objects) testing::ExpectRight(object, options_);
}

TEST_P(EngineTest, AnySlicingGivesTheSame) {
  const Bytes bytes = testing::RandomBytes(3 << 20, 3);
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 rng(seed);
    std::vector<Object> objects;
    for (int i = 0; i < 3; ++i) {
      objects.push_back({.bytes = std::span(bytes).subspan(rng() % 100, rng() % (2 << 20))});
    }
    testing::RunObjects(*engine_, options_.cut, objects, &rng, seed % 2 ? 100 : 300000);
    for (const Object& object : objects) testing::ExpectRight(object, options_);
  }
}

// A batch as ingest makes them: mostly small files, some of several chunks, slices of longer ones.
void RandomBatch(Engine& engine, const EngineOptions& options, std::span<const uint8_t> pool,
                 uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<Object> objects(1 + rng() % 20);
  for (Object& object : objects) {
    const size_t kind = rng() % 100;
    const size_t most = kind < 40 ? 200 : kind < 90 ? 5000 : kind < 98 ? 100000 : 800000;
    const size_t size = rng() % most;
    object.bytes = pool.subspan(rng() % (pool.size() - size), size);
    object.digests = rng() % 4 == 0 ? static_cast<uint32_t>(rng() % 8) : kAllDigests;
  }
  testing::RunObjects(engine, options.cut, objects, &rng, 100000);
  for (const Object& object : objects) testing::ExpectRight(object, options);
}

TEST_P(EngineTest, ThousandRandomBatches) {
  Bytes pool = testing::RandomBytes(2 << 20, 5);
  // Stretches without cuts, as disks have them.
  std::fill_n(pool.begin() + 500000, 400000, uint8_t{0});
  for (uint64_t seed = 1; seed <= 1000 && !HasFailure(); ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    RandomBatch(*engine_, options_, pool, seed);
  }
}

// Chunks are numbered through the batch; the table knows what batches before had.
TEST_P(EngineTest, SaysWhichChunksAreEqualAndWhichMayBeKnown) {
  EngineOptions options = options_;
  const std::unique_ptr<FingerprintTable> table = MakeHostTable(1000);
  options.table = table.get();
  const std::unique_ptr<Engine> engine = GetParam().make(options);
  const Bytes bytes = testing::RandomBytes(200'000, 11);
  const std::span<const uint8_t> all = bytes;
  for (int round = 0; round < 2; ++round) {
    std::vector<std::span<const uint8_t>> parts = {all.first(100),
                                                   all.first(99),
                                                   all.first(0),
                                                   all.first(100),
                                                   all,
                                                   all,
                                                   all.subspan(round == 0 ? 5 : 7, 40)};
    std::vector<DigestState> states(parts.size());
    Batch batch;
    for (size_t i = 0; i < parts.size(); ++i) {
      states[i].Reset();
      batch.messages.push_back({.data = parts[i], .last = true, .state = &states[i]});
    }
    ASSERT_EQ(testing::SubmitAndWait(*engine, batch), Status::kOk);
    std::map<std::string, uint32_t> first;
    uint32_t number = 0;
    for (const Message& message : batch.messages) {
      for (const Chunk& chunk : message.chunks) {
        EXPECT_EQ(chunk.first_same, first.try_emplace(Hex(chunk.sha256), number).first->second);
        EXPECT_EQ(chunk.maybe_known, round == 1 && &message != &batch.messages.back());
        ++number;
      }
    }
    EXPECT_GT(number, 8u);
    EXPECT_LT(first.size(), number - 3);
  }
}

TEST_P(EngineTest, SubmitFromSeveralThreads) {
  const Bytes pool = testing::RandomBytes(1 << 20, 6);
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t seed = 0; seed < 20; ++seed) {
        RandomBatch(*engine_, options_, pool, 5000 + 100 * thread + seed);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void Unexpected(const std::string& line) { ADD_FAILURE() << line; }

// The backend of a path, if this CPU has it; with `features` fewer than the CPU's, as on a lesser
// one, and with the single-stream code of a build without OpenSSL.
template <CpuPath path, bool sha, bool openssl>
std::unique_ptr<Engine> Make(const EngineOptions& options) {
  CpuFeatures features = ThisCpu();
  if (!HasPath(features, path) || (sha && !features.sha)) return nullptr;
  features.sha = sha;
  return MakeCpuEngine(options,
                       MakeCpuCode(path, features, openssl ? BestStreamCode() : CoreStreamCode()));
}

// The device engine on the host's twin of a device, which does all digests itself, or as with a
// real one leaves long messages to the CPU.
std::unique_ptr<Engine> MakeOn(std::unique_ptr<cuda::Device> device, const EngineOptions& options,
                               bool cpu_tails) {
  if (device == nullptr) return nullptr;
  return cuda::MakeDeviceEngine(
      std::move(device), options, MakeCpuCode(BestPath(ThisCpu()), ThisCpu(), BestStreamCode()),
      {.batches = 2, .check_every = 50, .cpu_tails = cpu_tails, .say = Unexpected});
}
template <bool cpu_tails>
std::unique_ptr<Engine> MakeOnTwin(const EngineOptions& options) {
  return MakeOn(cuda::MakeHostDevice(), options, cpu_tails);
}
template <bool cpu_tails>
std::unique_ptr<Engine> MakeOnCuda(const EngineOptions& options) {
  std::string why_not;
  return MakeOn(cuda::OpenCudaDevice(&why_not), options, cpu_tails);
}

INSTANTIATE_TEST_SUITE_P(
    Backend, EngineTest,
    ::testing::Values(Backend{"Portable", MakePortableEngine},
                      Backend{"PortableCore", Make<CpuPath::kPortable, false, false>},
                      Backend{"Avx2", Make<CpuPath::kAvx2, false, true>},
                      Backend{"Avx2Sha", Make<CpuPath::kAvx2, true, true>},
                      Backend{"Avx2ShaCore", Make<CpuPath::kAvx2, true, false>},
                      Backend{"Avx512", Make<CpuPath::kAvx512, false, true>},
                      Backend{"Avx512Sha", Make<CpuPath::kAvx512, true, true>},
                      Backend{"DeviceTwin", MakeOnTwin<false>},
                      Backend{"DeviceTwinTails", MakeOnTwin<true>},
                      Backend{"Cuda", MakeOnCuda<false>}, Backend{"CudaTails", MakeOnCuda<true>}),
    [](const auto& info) { return info.param.name; });

// A batch of whole objects, and what an engine makes of it.
struct Outcome {
  std::vector<Message> messages;
  std::vector<DigestState> states;
};

Outcome Submit(Engine& engine, const std::vector<Message>& messages) {
  Outcome outcome{.states = std::vector<DigestState>(messages.size())};
  Batch batch{messages};
  for (size_t i = 0; i < messages.size(); ++i) {
    outcome.states[i].Reset();
    batch.messages[i].state = &outcome.states[i];
  }
  EXPECT_EQ(testing::SubmitAndWait(engine, batch), Status::kOk);
  outcome.messages = std::move(batch.messages);
  return outcome;
}

bool Same(const Message& a, const Message& b) {
  const auto same_chunk = [](const Chunk& x, const Chunk& y) {
    return x.length == y.length && x.sha256 == y.sha256 && x.poly1305 == y.poly1305 &&
           x.first_same == y.first_same;
  };
  return a.consumed == b.consumed && std::ranges::equal(a.chunks, b.chunks, same_chunk) &&
         a.result.sha256 == b.result.sha256 && a.result.sha1 == b.result.sha1 &&
         a.result.md5 == b.result.md5;
}

// What an open slice leaves behind. States of objects that ended are void.
bool SameState(const DigestState& a, const DigestState& b, uint32_t digests) {
  return a.length == b.length && (!(digests & kSha256) || a.sha256 == b.sha256) &&
         (!(digests & kSha1) || a.sha1 == b.sha1) && (!(digests & kMd5) || a.md5 == b.md5);
}

// Ten thousand batches through every path: mostly of small messages, whose ends keep the lanes
// busy, and now and then one of several chunks, open or ended.
TEST(AllPathsTest, AgreeOnTenThousandBatches) {
  const EngineOptions options = testing::TestOptions();
  std::vector<std::unique_ptr<Engine>> engines;
  const CpuFeatures cpu = ThisCpu();
  for (const CpuPath path : {CpuPath::kPortable, CpuPath::kAvx2, CpuPath::kAvx512}) {
    for (const bool sha : {false, true}) {
      CpuFeatures features = cpu;
      features.sha = sha;
      if (!HasPath(cpu, path) || (sha && !cpu.sha)) continue;
      engines.push_back(MakeCpuEngine(options, MakeCpuCode(path, features, BestStreamCode())));
    }
  }
  // The twin is slow: every tenth batch will do.
  const std::unique_ptr<Engine> twin = MakeOnTwin<false>(options);
  const std::unique_ptr<Engine> cuda = MakeOnCuda<false>(options);
  const Bytes random = testing::RandomBytes(1 << 20, 8), paint = testing::Paint(1 << 20);
  for (uint64_t seed = 0; seed < 10000; ++seed) {
    std::mt19937_64 rng(seed);
    const std::span<const uint8_t> pool = rng() % 4 == 0 ? paint : random;
    std::vector<Message> messages(rng() % 40);
    const size_t most = std::array{70, 300, 1000, 3000}[rng() % 4];
    for (Message& message : messages) {
      const bool open = rng() % 2000 == 0;
      size_t size = rng() % most;
      if (rng() % 500 == 0) size = rng() % 500000;
      if (open) size = options.cut.max_size() + rng() % 100000;
      message.data = pool.subspan(rng() % (pool.size() - size), size);
      message.last = !open;
      message.digests = rng() % 4 == 0 ? uint32_t(rng() % 8) : uint32_t{kAllDigests};
    }
    const Outcome want = Submit(*engines[0], messages);
    std::vector<Engine*> others;
    for (size_t e = 1; e < engines.size(); ++e) others.push_back(engines[e].get());
    if (seed % 10 == 0) others.push_back(twin.get());
    if (cuda != nullptr) others.push_back(cuda.get());
    for (Engine* engine : others) {
      const Outcome got = Submit(*engine, messages);
      for (size_t i = 0; i < messages.size(); ++i) {
        ASSERT_TRUE(Same(got.messages[i], want.messages[i])) << engine->name() << " " << seed;
        ASSERT_TRUE(messages[i].last ||
                    SameState(got.states[i], want.states[i], messages[i].digests))
            << engine->name() << " " << seed;
      }
    }
  }
}

// HOLDFAST_KERNELS, put back at the end.
class ForcedPathTest : public ::testing::Test {
 protected:
  void TearDown() override {
    before_ ? setenv("HOLDFAST_KERNELS", before_->c_str(), 1) : unsetenv("HOLDFAST_KERNELS");
  }

  static std::unique_ptr<Engine> Make(const char* path, std::string* why_not) {
    setenv("HOLDFAST_KERNELS", path, 1);
    return MakeCpuEngine(testing::TestOptions(), why_not);
  }

 private:
  static std::optional<std::string> Get() {
    const char* value = getenv("HOLDFAST_KERNELS");
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  }
  const std::optional<std::string> before_ = Get();
};

TEST_F(ForcedPathTest, TakesThePathOrRefuses) {
  for (const char* path : {"portable", "avx2", "avx512"}) {
    std::string why_not;
    const std::unique_ptr<Engine> engine = Make(path, &why_not);
    if (HasPath(ThisCpu(), *CpuPathByName(path))) {
      ASSERT_NE(engine, nullptr) << why_not;
      EXPECT_TRUE(engine->name().starts_with(path));
    } else {
      EXPECT_EQ(engine, nullptr);
      EXPECT_NE(why_not.find(path), std::string::npos) << why_not;
    }
  }
  std::string why_not;
  EXPECT_EQ(Make("avx3", &why_not), nullptr);
  EXPECT_NE(why_not.find("HOLDFAST_KERNELS=avx3"), std::string::npos) << why_not;
}

TEST_F(ForcedPathTest, TheBestOtherwise) {
  std::string why_not;
  const std::unique_ptr<Engine> engine = Make("", &why_not);
  ASSERT_NE(engine, nullptr) << why_not;
  EXPECT_EQ(engine->name(), MakeCpuCode(BestPath(ThisCpu()), ThisCpu(), BestStreamCode()).name);
}

// An engine that gets one thing wrong.
class WrongEngine final : public Engine {
 public:
  WrongEngine(const EngineOptions& options, std::function<void(Message&)> spoil)
      : right_(MakePortableEngine(options)), spoil_(std::move(spoil)) {}
  std::string_view name() const override { return "wrong"; }
  void Submit(Batch& batch, std::function<void(Status)> done) override {
    right_->Submit(batch, [&](Status status) {
      for (Message& message : batch.messages) spoil_(message);
      done(status);
    });
  }

 private:
  const std::unique_ptr<Engine> right_;
  const std::function<void(Message&)> spoil_;
};

TEST(KnownAnswerTestTest, FindsEveryKindOfMistake) {
  const EngineOptions options = testing::TestOptions();
  const std::vector<std::function<void(Message&)>> mistakes = {
      [](Message& m) { m.result.md5[3] ^= m.data.size() == 4096; },
      [](Message& m) { m.result.sha1[19] ^= m.data.size() == 3; },
      [](Message& m) { m.result.sha256[0] ^= m.data.empty(); },
      [](Message& m) {
        if (m.chunks.size() > 1) m.chunks[1].poly1305[15] ^= 0x80;
      },
      [](Message& m) {
        if (!m.last) m.chunks[0].sha256[31] ^= 1;
      },
      [](Message& m) {
        if (m.data.size() == 64) m.chunks.clear();
      },
      [](Message& m) {
        if (m.chunks.size() == 1) ++m.chunks[0].length;
      },
  };
  for (size_t i = 0; i < mistakes.size(); ++i) {
    WrongEngine engine(options, mistakes[i]);
    EXPECT_FALSE(KnownAnswerTest(engine, options)) << "mistake " << i;
  }
  WrongEngine engine(options, [](Message&) {});
  EXPECT_TRUE(KnownAnswerTest(engine, options));
}

}  // namespace
}  // namespace holdfast::kernels
