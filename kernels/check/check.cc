// Holds a device to the CPU, with nothing but this folder: for a machine with a GPU and no
// GoogleTest, and small enough for compute-sanitizer.
//
//   kernels_check [--device cuda|twin] [--batches N] [--seed S]
//
// The known-answer test; N random batches, sliced and whole, from registered memory and from any
// other, with the device doing everything and with long messages left to the CPU; equal chunks; the
// fingerprint table. Exits 0 if all agree, 1 if not, 77 if there is no device.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/answers.h"
#include "kernels/cpu/cpu_engine.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/device_engine.h"
#include "kernels/cuda/host_device.h"

namespace holdfast::kernels {
namespace {

std::atomic<int> checks = 0, failures = 0;

void Check(bool right, const std::string& what) {
  ++checks;
  if (right) return;
  ++failures;
  std::printf("WRONG: %s\n", what.c_str());
}

std::unique_ptr<cuda::Device> Open(bool twin, std::string* why_not) {
  return twin ? cuda::MakeHostDevice() : cuda::OpenCudaDevice(why_not);
}

CpuCode BestCode() { return MakeCpuCode(BestPath(ThisCpu()), ThisCpu(), BestStreamCode()); }

struct Outcome {
  Status status;
  std::vector<Message> messages;
  std::vector<DigestState> states;
};

Outcome Submit(Engine& engine, const std::vector<Message>& messages) {
  Outcome outcome{.status = Status::kInternal,
                  .messages = {},
                  .states = std::vector<DigestState>(messages.size())};
  Batch batch{messages};
  for (size_t i = 0; i < messages.size(); ++i) {
    outcome.states[i].Reset();
    batch.messages[i].state = &outcome.states[i];
  }
  std::promise<Status> done;
  engine.Submit(batch, [&](Status status) { done.set_value(status); });
  outcome.status = done.get_future().get();
  outcome.messages = std::move(batch.messages);
  return outcome;
}

bool SameChunk(const Chunk& a, const Chunk& b) {
  return a.length == b.length && a.sha256 == b.sha256 && a.poly1305 == b.poly1305 &&
         a.first_same == b.first_same;
}

bool Same(const Outcome& a, const Outcome& b, size_t i) {
  const Message &x = a.messages[i], &y = b.messages[i];
  if (x.consumed != y.consumed || !std::ranges::equal(x.chunks, y.chunks, SameChunk)) return false;
  if (x.last) {
    return x.result.sha256 == y.result.sha256 && x.result.sha1 == y.result.sha1 &&
           x.result.md5 == y.result.md5;
  }
  const DigestState &s = a.states[i], &t = b.states[i];
  return s.length == t.length && (!(x.digests & kSha256) || s.sha256 == t.sha256) &&
         (!(x.digests & kSha1) || s.sha1 == t.sha1) && (!(x.digests & kMd5) || s.md5 == t.md5);
}

// Bytes with stretches that are all zero, and some that repeat.
std::vector<uint8_t> Pool(uint64_t seed) {
  std::vector<uint8_t> pool(8 << 20);
  std::mt19937_64 rng(seed);
  for (size_t i = 0; i < pool.size(); i += 8) {
    const uint64_t word = rng();
    std::memcpy(&pool[i], &word, 8);
  }
  std::fill_n(pool.begin() + (1 << 20), 700'000, uint8_t{0});
  std::copy_n(pool.begin(), 300'000, pool.begin() + (3 << 20));
  return pool;
}

std::vector<Message> RandomMessages(std::span<const uint8_t> pool, const CutParams& cut,
                                    std::mt19937_64& rng) {
  constexpr size_t kBoundaries[] = {0,   1,   55,  56,   57,   63,   64,   65,
                                    119, 120, 128, 4095, 4096, 4097, 16384};
  std::vector<Message> messages(1 + rng() % 200);
  for (Message& message : messages) {
    const size_t kind = rng() % 100;
    size_t size = kind < 30   ? kBoundaries[rng() % std::size(kBoundaries)]
                  : kind < 80 ? rng() % 5000
                  : kind < 98 ? rng() % 100'000
                              : rng() % 1'500'000;
    message.last = rng() % 50 != 0;
    if (!message.last && rng() % 4 != 0) size = cut.max_size() + rng() % 300'000;
    message.data = pool.subspan(rng() % (pool.size() - size), size);
    message.digests = rng() % 5 == 0 ? static_cast<uint32_t>(rng() % 8) : uint32_t{kAllDigests};
  }
  return messages;
}

void CheckEngine(bool twin, bool cpu_tails, int batches, uint64_t seed) {
  const EngineOptions options{.cut = MakeCutParams(64 * 1024, {7}), .poly1305_key = {1, 2, 3, 4}};
  std::string error;
  std::unique_ptr<cuda::Device> device = Open(twin, &error);
  if (device == nullptr) return Check(false, "opening the device again: " + error);
  const std::unique_ptr<Engine> engine =
      cuda::MakeDeviceEngine(std::move(device), options, BestCode(),
                             {.batch_bytes = 16 << 20,
                              .check_every = 1'000'000'000,
                              .cpu_tails = cpu_tails,
                              .say = [](const std::string& line) { Check(false, line); }});
  const std::unique_ptr<Engine> cpu = MakeCpuEngine(options, BestCode());
  Check(KnownAnswerTest(*engine, options), "known-answer test");
  const std::vector<uint8_t> pool = Pool(seed);
  std::mt19937_64 rng(seed);
  for (int i = 0; i < batches; ++i) {
    if (i == batches / 2) engine->Register(pool);
    const std::vector<Message> messages = RandomMessages(pool, options.cut, rng);
    const Outcome want = Submit(*cpu, messages), got = Submit(*engine, messages);
    Check(got.status == Status::kOk, "status of batch " + std::to_string(i));
    size_t wrong = 0;
    for (size_t m = 0; m < messages.size(); ++m) {
      wrong += !Same(got, want, m) || !got.messages[m].from_device;
    }
    Check(wrong == 0, std::to_string(wrong) + " messages of batch " + std::to_string(i));
  }
  engine->Unregister(pool);
}

void CheckFirstSame(cuda::Device& device, int rounds, uint64_t seed) {
  const EngineOptions options{.cut = MakeCutParams(64 * 1024, {7})};
  const CpuCode code = BestCode();
  cuda::DeviceBatch batch(device, options, code, true);
  std::mt19937_64 rng(seed);
  for (int round = 0; round < rounds; ++round) {
    std::vector<core::duplicates::Digest> digests(1 + rng() % 5000);
    for (auto& digest : digests) {
      std::ranges::fill(digest.bytes, 0);
      digest.bytes[rng() % 8] = static_cast<uint8_t>(rng() % 50);
      digest.bytes[8 + rng() % 24] = static_cast<uint8_t>(rng() % 3);
    }
    Check(batch.FirstSame(digests) == FirstSame(digests), "equal digests");
  }
}

void CheckTable(cuda::Device& device, int rounds, uint64_t seed) {
  const std::unique_ptr<FingerprintTable> want = MakeHostTable(200'000);
  const std::unique_ptr<FingerprintTable> got = cuda::MakeDeviceTable(device, 200'000);
  Check(got != nullptr, "memory for a table");
  if (got == nullptr) return;
  std::mt19937_64 rng(seed);
  for (int round = 0; round < rounds; ++round) {
    std::vector<uint64_t> keys(rng() % 3000);
    for (uint64_t& key : keys) key = rng() % 8 == 0 ? rng() % 100 : rng() % 60'000 << 48 | 1;
    std::vector<uint8_t> a(keys.size()), b(keys.size());
    const uint64_t as_of = want->epoch() - (want->epoch() == 0 ? 0 : rng() % 2);
    Check(want->Find(keys, as_of, a) == Status::kOk && got->Find(keys, as_of, b) == Status::kOk &&
              a == b,
          "table find");
    Check(want->Insert(keys) == Status::kOk && got->Insert(keys) == Status::kOk, "table insert");
    Check(want->size() == got->size() && want->epoch() == got->epoch(), "table size");
  }
}

int Main(int argc, char** argv) {
  bool twin = false;
  int batches = 200;
  uint64_t seed = 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view arg = argv[i], value = argv[i + 1];
    if (arg == "--device") twin = value == "twin";
    if (arg == "--batches") batches = std::atoi(argv[i + 1]);
    if (arg == "--seed") seed = std::strtoull(argv[i + 1], nullptr, 10);
  }
  std::string why_not;
  const std::unique_ptr<cuda::Device> device = Open(twin, &why_not);
  if (device == nullptr) {
    std::printf("SKIPPED: no CUDA device (%s)\n", why_not.c_str());
    return 77;
  }
  std::printf("device %s, %d batches, seed %llu\n", std::string(device->name()).c_str(), batches,
              static_cast<unsigned long long>(seed));
  CheckEngine(twin, /*cpu_tails=*/false, batches, seed);
  CheckEngine(twin, /*cpu_tails=*/true, batches, seed + 1);
  CheckFirstSame(*device, batches / 4 + 1, seed);
  CheckTable(*device, batches / 4 + 1, seed);
  std::printf("%d passed, %d failed\n", checks - failures, failures.load());
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace holdfast::kernels

int main(int argc, char** argv) { return holdfast::kernels::Main(argc, argv); }
