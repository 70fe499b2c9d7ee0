#include "kernels/measure.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>

#include "kernels/cpu/code.h"
#include "kernels/cpu/scan.h"

namespace holdfast::kernels {
namespace {

constexpr size_t kMessage = 256 * 1024;
constexpr size_t kMessages = 64;           // Enough for all lanes, twice.
constexpr size_t kBatchBytes = 32u << 20;  // As an ingest makes them.

double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double BestRateBy(double (*now)(), size_t bytes, double seconds, const std::function<void()>& run) {
  double best = 1e300;
  const double start = now();
  for (int rounds = 0; rounds < 3 || now() - start < seconds; ++rounds) {
    const double from = now();
    run();
    best = std::min(best, now() - from);
  }
  return static_cast<double>(bytes) / best;
}

std::vector<uint8_t> Noise(size_t size) {
  std::vector<uint8_t> data(size);
  std::mt19937_64 rng(1);
  for (size_t i = 0; i + 8 <= data.size(); i += 8) {
    const uint64_t word = rng();
    std::memcpy(&data[i], &word, 8);
  }
  return data;
}

void RunMessages(const DigestCode& code, std::span<const uint8_t> data) {
  std::array<std::array<uint32_t, kMaxStateWords>, kMessages> states{};
  std::vector<LaneJob> jobs;
  for (size_t i = 0; i < kMessages; ++i) {
    jobs.push_back(
        {states[i].data(), {BlockRun{}, BlockRun{&data[i * kMessage], kMessage / 64}, BlockRun{}}});
  }
  RunLanes(code, jobs);
}

void ScanAll(const CpuCode& code, const CutParams& cut, std::span<const uint8_t> data) {
  for (size_t at = 8; at < data.size(); ++at) {
    at = code.find_cut(data.data(), at, std::min(data.size(), (at / kMessage + 1) * kMessage),
                       cut.prefilter_multiplier, cut.prefilter_offset);
  }
}

// Waits until the engine has done it, on whatever thread.
void SubmitAndWait(Engine& engine, Batch& batch) {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  engine.Submit(batch, [&](Status) {
    const std::lock_guard lock(mutex);
    done = true;
    changed.notify_one();
  });
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return done; });
}

double MeasureOneCaller(Engine& engine, uint32_t digests, size_t file_bytes, double seconds) {
  const size_t batch_bytes = std::max(kBatchBytes, engine.good_batch_bytes());
  const std::vector<uint8_t> data = Noise(batch_bytes);
  engine.Register(data);
  const size_t files = std::max<size_t>(1, batch_bytes / file_bytes);
  std::vector<DigestState> states(files);
  const double rate = BestRateBy(WallSeconds, files * file_bytes, seconds, [&] {
    Batch batch;
    for (size_t i = 0; i < files; ++i) {
      states[i].Reset();
      batch.messages.push_back({.data = std::span(data).subspan(i * file_bytes, file_bytes),
                                .last = true,
                                .digests = digests,
                                .state = &states[i]});
    }
    SubmitAndWait(engine, batch);
  });
  engine.Unregister(data);
  return rate;
}

}  // namespace

double ThreadCpuSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

double BestRate(size_t bytes, double seconds, const std::function<void()>& run) {
  return BestRateBy(ThreadCpuSeconds, bytes, seconds, run);
}

std::vector<KernelRate> MeasureKernels(double seconds) {
  const CpuFeatures cpu = ThisCpu();
  const std::vector<uint8_t> data = Noise(kMessages * kMessage);
  const CutParams cut = MakeCutParams(512 * 1024, {1});
  const Poly1305Key key{1, 2, 3};
  std::vector<KernelRate> rates;
  for (const CpuPath path : {CpuPath::kPortable, CpuPath::kAvx2, CpuPath::kAvx512}) {
    if (!HasPath(cpu, path)) continue;
    const CpuCode code = MakeCpuCode(path, cpu, BestStreamCode());
    const auto add = [&](const char* algorithm, const std::function<void()>& run) {
      rates.push_back({std::string(code.name), algorithm, BestRate(data.size(), seconds, run)});
    };
    add("sha256", [&] { RunMessages(code.sha256, data); });
    add("sha1", [&] { RunMessages(code.sha1, data); });
    add("md5", [&] { RunMessages(code.md5, data); });
    if (code.all.single != nullptr) add("all digests", [&] { RunMessages(code.all, data); });
    add("poly1305", [&] {
      for (size_t i = 0; i < kMessages; ++i)
        code.stream->poly1305(key, {&data[i * kMessage], kMessage});
    });
    add("cut", [&] { ScanAll(code, cut, data); });
  }
  return rates;
}

double MeasureEngine(Engine& engine, unsigned callers, uint32_t digests, size_t file_bytes,
                     double seconds) {
  std::vector<double> rates(callers);
  std::vector<std::thread> threads;
  for (double& rate : rates) {
    threads.emplace_back([&] { rate = MeasureOneCaller(engine, digests, file_bytes, seconds); });
  }
  for (std::thread& thread : threads) thread.join();
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

}  // namespace holdfast::kernels
