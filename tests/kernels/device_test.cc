// The device engine where things go wrong, and its parts, on the host's twin of a device.
#include <algorithm>
#include <mutex>
#include <set>

#include "gtest/gtest.h"
#include "kernels/answers.h"
#include "kernels/cpu/cpu_engine.h"
#include "kernels/cuda/bodies.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/device_engine.h"
#include "kernels/cuda/host_device.h"
#include "kernels/cuda/share.h"
#include "tests/kernels/testing.h"

namespace holdfast::kernels::cuda {
namespace {

using testing::Bytes;
using testing::Object;

CpuCode BestCode() { return MakeCpuCode(BestPath(ThisCpu()), ThisCpu(), BestStreamCode()); }

class DeviceEngineTest : public ::testing::Test {
 protected:
  std::unique_ptr<Engine> Make(DeviceEngineOptions device_options) {
    device_options.say = [this](const std::string& line) {
      std::lock_guard lock(mutex_);
      lines_.push_back(line);
    };
    return MakeDeviceEngine(MakeHostDevice(&faults_), options_, BestCode(), device_options);
  }

  // Messages of all kinds, in slices; the engine must have them right.
  void ExpectRight(Engine& engine, uint64_t seed) {
    std::mt19937_64 rng(seed);
    std::vector<Object> objects;
    for (const size_t size : {0, 1, 64, 5000, 20'000, 400'000, 900'000}) {
      objects.push_back({.bytes = std::span(pool_).subspan(rng() % 1000, size)});
    }
    testing::RunObjects(engine, options_.cut, objects, &rng, 100'000);
    for (const Object& object : objects) testing::ExpectRight(object, options_);
  }

  bool FromDevice(Engine& engine, size_t size) {
    DigestState state;
    state.Reset();
    Batch batch;
    batch.messages.push_back({.data = std::span(pool_).first(size), .last = true, .state = &state});
    EXPECT_EQ(testing::SubmitAndWait(engine, batch), Status::kOk);
    return batch.messages[0].from_device;
  }

  const EngineOptions options_ = testing::TestOptions();
  const Bytes pool_ = testing::RandomBytes(1 << 20, 1);
  HostFaults faults_;
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

TEST_F(DeviceEngineTest, SaysWhatADeviceComputed) {
  const auto engine = Make({});
  EXPECT_EQ(engine->name(), "cuda (host)");
  EXPECT_TRUE(FromDevice(*engine, 1000));
  EXPECT_TRUE(lines_.empty());
}

TEST_F(DeviceEngineTest, BatchesThatDoNotFitGoInParts) {
  const auto engine = Make({.batch_bytes = 300'000, .cpu_tails = false});
  for (uint64_t seed = 0; seed < 5; ++seed) ExpectRight(*engine, seed);
  EXPECT_TRUE(FromDevice(*engine, 300'000));
  EXPECT_FALSE(FromDevice(*engine, 300'001));
  EXPECT_TRUE(lines_.empty());
}

TEST_F(DeviceEngineTest, WithoutMemoryTheCpuGoesOn) {
  for (int64_t allocations = 0; allocations < 45; ++allocations) {
    SCOPED_TRACE(allocations);
    lines_.clear();
    faults_.allocations_left = allocations;
    const auto engine = Make({.batches = 1, .cpu_tails = false});
    ExpectRight(*engine, 7);
    if (allocations < 20) {
      ASSERT_EQ(lines_.size(), 1u);
      EXPECT_NE(lines_[0].find("too little memory"), std::string::npos) << lines_[0];
    }
    // What it has, it goes on with once there is more.
    faults_.allocations_left = 1'000'000;
    EXPECT_TRUE(FromDevice(*engine, 1000));
  }
}

TEST_F(DeviceEngineTest, ALostDeviceIsLeftAlone) {
  for (int64_t launches = 0; launches < 40; ++launches) {
    SCOPED_TRACE(launches);
    lines_.clear();
    faults_.launches_left = launches;
    const auto engine = Make({.cpu_tails = false});
    for (uint64_t seed = 0; seed < 3; ++seed) ExpectRight(*engine, seed);
    ExpectRight(*engine, 9);
    EXPECT_FALSE(FromDevice(*engine, 1000));
    ASSERT_EQ(lines_.size(), 1u);
    EXPECT_NE(lines_[0].find("told to fail: going on with the CPU"), std::string::npos);
  }
}

TEST_F(DeviceEngineTest, AWrongDeviceIsFoundBySamplesAndStopped) {
  faults_.digests_left = 100;
  const auto engine = Make({.batches = 1, .check_every = 1, .cpu_tails = false});
  for (uint64_t seed = 0; seed < 5; ++seed) ExpectRight(*engine, seed);
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_NE(lines_[0].find("COMPUTES WRONGLY"), std::string::npos) << lines_[0];
  EXPECT_FALSE(FromDevice(*engine, 1000));
}

TEST_F(DeviceEngineTest, OneMessageOfSoManyIsChecked) {
  faults_.digests_left = 0;
  const auto engine = Make({.batches = 1, .check_every = 1000, .cpu_tails = false});
  const auto wrong = [&] {
    DigestState state;
    state.Reset();
    Batch batch;
    batch.messages.push_back({.data = std::span(pool_).first(64), .last = true, .state = &state});
    testing::SubmitAndWait(*engine, batch);
    return testing::Hex(batch.messages[0].result.sha256) !=
           testing::EvpHex("SHA256", std::span(pool_).first(64));
  };
  EXPECT_FALSE(wrong()) << "the first is checked";
  EXPECT_EQ(lines_.size(), 1u);
  EXPECT_FALSE(wrong()) << "and all go to the CPU from then on";
  faults_.digests_left = 1'000'000;
  const auto later = Make({.batches = 1, .check_every = 1000, .cpu_tails = false});
  EXPECT_TRUE(FromDevice(*later, 64));
  faults_.digests_left = 0;
  int unnoticed = 0;
  for (int i = 1; i < 1000; ++i) unnoticed += FromDevice(*later, 64);
  EXPECT_EQ(unnoticed, 999);
  EXPECT_FALSE(FromDevice(*later, 64)) << "message 1,000 is checked again";
  EXPECT_EQ(lines_.size(), 2u);
}

TEST_F(DeviceEngineTest, TheKnownAnswerTestReachesTheDevice) {
  EXPECT_TRUE(KnownAnswerTest(*Make({.batches = 1, .cpu_tails = false}), options_));
  // Without samples but the first, so that nothing but the test is in the way.
  const auto engine = Make({.batches = 1, .check_every = 1'000'000, .cpu_tails = false});
  EXPECT_TRUE(FromDevice(*engine, 1));
  faults_.digests_left = 0;
  EXPECT_FALSE(KnownAnswerTest(*engine, options_));
}

TEST(DeviceShareTest, ALoneMessageIsTheCpus) {
  const DigestRates sha256{1306, 0.0767, 13};
  const std::vector<size_t> one = {1'000'000};
  EXPECT_LT(DeviceShare(one, sha256), 12'000u);
  EXPECT_EQ(DeviceShare({}, sha256), 0u);
}

TEST(DeviceShareTest, ManyMessagesAreTheDevices) {
  const std::vector<size_t> many(20'000, 8192);
  EXPECT_GT(DeviceShare(many, {1306, 0.0767, 13}), 8100u);
}

TEST(DeviceShareTest, OfUnequalOnesTheLongEndOnTheCpu) {
  std::vector<size_t> blocks(2000, 8000);
  blocks[0] = blocks[1] = 1'000'000;
  const size_t share = DeviceShare(blocks, {1306, 0.0767, 13});
  EXPECT_GE(share, 8000u);
  EXPECT_LT(share, 100'000u);
}

TEST(DeviceBodiesTest, BlocksLoadFromAnyAddress) {
  const Bytes paint = testing::Paint(512);
  alignas(64) uint8_t memory[512];
  std::ranges::copy(paint, memory);
  for (size_t at = 64; at < 128; ++at) {
    uint32_t big[16], little[16];
    LoadBlock<true>(memory + at, big);
    LoadBlock<false>(memory + at, little);
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(big[i], core::LoadBe32(memory + at + 4 * i)) << at;
      EXPECT_EQ(little[i], core::LoadLe32(memory + at + 4 * i)) << at;
    }
  }
}

// Digests of which many agree in their first 64 bits, and some in all.
TEST(FirstSameTest, TellsDigestsApartThatShareTheirKey) {
  std::mt19937_64 rng(5);
  const std::unique_ptr<Device> device = MakeHostDevice();
  const EngineOptions options = testing::TestOptions();
  const CpuCode code = BestCode();
  DeviceBatch batch(*device, options, code, false);
  for (int round = 0; round < 200; ++round) {
    std::vector<core::duplicates::Digest> digests(rng() % 300);
    for (auto& digest : digests) {
      std::ranges::fill(digest.bytes, 0);
      digest.bytes[0] = static_cast<uint8_t>(rng() % 3);
      digest.bytes[8 + rng() % 24] = static_cast<uint8_t>(rng() % 3);
    }
    std::vector<uint32_t> want(digests.size());
    for (uint32_t i = 0; i < digests.size(); ++i) {
      want[i] = i;
      for (uint32_t j = i; j-- > 0;) {
        if (core::duplicates::Same(digests[i], digests[j])) want[i] = j;
      }
    }
    ASSERT_EQ(kernels::FirstSame(digests), want);
    ASSERT_EQ(batch.FirstSame(digests), want);
  }
}

// Both tables, held to a set.
class TableTest : public ::testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<FingerprintTable> Make(size_t slots) {
    return GetParam() ? MakeDeviceTable(*device_, slots) : MakeHostTable(slots);
  }
  static std::vector<uint8_t> Find(FingerprintTable& table, std::vector<uint64_t> keys,
                                   uint64_t as_of) {
    std::vector<uint8_t> found(keys.size(), 9);
    EXPECT_EQ(table.Find(keys, as_of, found), Status::kOk);
    return found;
  }
  HostFaults faults_;
  const std::unique_ptr<Device> device_ = MakeHostDevice(&faults_);
};

TEST_P(TableTest, FindsWhatWasInsertedAndNothingElse) {
  const auto table = Make(50'000);
  std::mt19937_64 rng(3);
  std::set<uint64_t> model;
  for (int round = 0; round < 20; ++round) {
    std::vector<uint64_t> keys(2000);
    // Also many that share a home: high bits alike.
    for (uint64_t& key : keys) key = rng() % 4 == 0 ? rng() % 100 : rng();
    ASSERT_EQ(table->Insert(keys), Status::kOk);
    model.insert(keys.begin(), keys.end());
  }
  // 0 and 1 are one fingerprint to the table.
  EXPECT_EQ(table->size(), model.size() - (model.count(0) && model.count(1)));
  EXPECT_EQ(table->epoch(), 20u);
  for (const uint64_t key : model) ASSERT_EQ(Find(*table, {key}, 20)[0], 1);
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t key = rng();
    ASSERT_EQ(Find(*table, {key}, 20)[0], model.count(key));
  }
}

TEST_P(TableTest, ASnapshotDoesNotSeeWhatComesLater) {
  const auto table = Make(100);
  ASSERT_EQ(table->Insert(std::vector<uint64_t>{0, 7}), Status::kOk);
  ASSERT_EQ(table->Insert(std::vector<uint64_t>{7, 8, ~uint64_t{0}}), Status::kOk);
  const std::vector<uint64_t> keys = {0, 7, 8, 9, ~uint64_t{0}};
  EXPECT_EQ(Find(*table, keys, 0), (std::vector<uint8_t>{0, 0, 0, 0, 0}));
  EXPECT_EQ(Find(*table, keys, 1), (std::vector<uint8_t>{1, 1, 0, 0, 0}));
  EXPECT_EQ(Find(*table, keys, 2), (std::vector<uint8_t>{1, 1, 1, 0, 1}));
}

TEST_P(TableTest, AFullTableForgetsWhatComesAndKeepsWhatIsThere) {
  const auto table = Make(80);
  std::vector<uint64_t> keys;
  std::mt19937_64 rng(4);
  for (int i = 0; i < 200; ++i) keys.push_back(rng());
  for (const uint64_t key : keys) ASSERT_EQ(table->Insert(std::vector<uint64_t>{key}), Status::kOk);
  EXPECT_EQ(table->size(), 70u);
  const std::vector<uint8_t> found = Find(*table, keys, table->epoch());
  EXPECT_EQ(std::count(found.begin(), found.begin() + 70, 1), 70);
  EXPECT_EQ(std::count(found.begin() + 70, found.end(), 1), 0);
}

TEST_P(TableTest, ALostDeviceIsSaid) {
  const auto table = Make(100);
  if (!GetParam()) GTEST_SKIP() << "the host is not lost";
  faults_.launches_left = 0;
  EXPECT_EQ(table->Insert(std::vector<uint64_t>{1}), Status::kUnavailable);
  std::vector<uint8_t> found(1);
  EXPECT_EQ(table->Find(std::vector<uint64_t>{1}, 1, found), Status::kUnavailable);
  faults_.allocations_left = 0;
  EXPECT_EQ(Make(100), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Where, TableTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Device" : "Host"; });

}  // namespace
}  // namespace holdfast::kernels::cuda
