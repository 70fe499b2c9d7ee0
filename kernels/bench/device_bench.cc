#include "kernels/bench/device_bench.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <functional>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "kernels/core/cut.h"
#include "kernels/cpu/cpu_engine.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/device_engine.h"

namespace holdfast::kernels {
namespace {

using namespace cuda;  // NOLINT(google-build-using-namespace): this file is all about it.

constexpr size_t kMi = 1 << 20;

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<uint8_t> RandomBytes(size_t size, uint64_t seed) {
  std::vector<uint8_t> bytes(size);
  std::mt19937_64 rng(seed);
  for (size_t i = 0; i + 8 <= size; i += 8) {
    const uint64_t word = rng();
    std::memcpy(&bytes[i], &word, 8);
  }
  return bytes;
}

// Integer operations a byte, counted from compiled code (docs/performance.md).
double OperationsPerByte(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kSha256:
      return 20.0;
    case Algorithm::kSha1:
      return 9.48;
    case Algorithm::kMd5:
      break;
  }
  return 4.03;
}

class DeviceBench {
 public:
  DeviceBench(Device& device, Report& report, double seconds, size_t most)
      : device_(device),
        report_(report),
        seconds_(seconds),
        most_(std::min(most, device.memory_bytes() / 4)),
        stream_(device.NewStream()) {}

  bool Run() {
    if (stream_ == nullptr || !Fill()) return false;
    Digests<Algorithm::kSha256>("sha256");
    Digests<Algorithm::kSha1>("sha1");
    Digests<Algorithm::kMd5>("md5");
    Macs();
    Cuts();
    Duplicates();
    data_ = Array<uint8_t>(Array<uint8_t>::Where::kDevice);
    Table();
    return error_.empty();
  }

  const std::string& error() const { return error_; }

 private:
  bool Fail(const std::string& what) {
    if (error_.empty()) error_ = what;
    return false;
  }

  bool Fill() {
    if (!data_.Reserve(device_, most_ + 2 * kSlack)) return Fail("no memory for the data");
    const std::vector<uint8_t> piece = RandomBytes(64 * kMi, 1);
    stream_->Zero({data_.data(), kSlack});
    for (size_t at = kSlack; at < most_ + 2 * kSlack; at += piece.size()) {
      const size_t n = std::min(piece.size(), most_ + 2 * kSlack - at);
      stream_->CopyIn(data_.data() + at, std::span(piece).first(n));
    }
    return Wait();
  }

  bool Wait() {
    std::string error;
    return stream_->Synchronize(&error) || Fail(error);
  }

  // The least seconds of what `enqueue` puts on the stream.
  double Measure(const std::function<void()>& enqueue) {
    enqueue();
    if (!Wait()) return 1e300;
    double best = 1e300;
    const double start = Seconds();
    for (int round = 0;
         round == 0 || (round < 3 && Seconds() - start < 2) || Seconds() - start < seconds_;
         ++round) {
      const double from = Seconds();
      enqueue();
      if (!Wait()) return 1e300;
      best = std::min(best, Seconds() - from);
    }
    return best;
  }

  // Messages may share bytes, but for those that run at a time on one multiprocessor.
  template <Algorithm algorithm>
  void Digests(const char* name) {
    const double roofline = device_.peak_operations() / OperationsPerByte(algorithm) / 1e9;
    Mirrored<DigestJob> jobs;
    Mirrored<uint32_t> states;
    for (const size_t size :
         {4 * kMi / 1024, 64 * kMi / 1024, 512 * kMi / 1024, 4 * kMi, 64 * kMi}) {
      for (const size_t count : {1, 32, 1024, 4096, 16896, 32768}) {
        if (count * size < 16 * kMi || count * size > 9000 * kMi || size > most_) continue;
        if (count * size > 8 * most_) continue;
        if (!jobs.Reserve(device_, count) || !states.Reserve(device_, 8 * count)) return;
        for (size_t i = 0; i < count; ++i) {
          jobs.host[i] = {};
          jobs.host[i].data[1] = data_.data() + kSlack + i * size % (most_ - size + 1) / 16 * 16;
          jobs.host[i].blocks[1] = static_cast<uint32_t>(size / 64);
        }
        jobs.CopyIn(*stream_, count);
        stream_->Zero(states.device.bytes(8 * count));
        const double t = Measure([&] {
          stream_->Run(Digest<algorithm>{jobs.device.data(), states.device.data()}, count);
        });
        if (!error_.empty()) return;
        report_.Row("cuda", name, count, size, static_cast<double>(count * size) / t / 1e9,
                    roofline);
      }
    }
  }

  void Macs() {
    const size_t size = 512 * kMi / 1024, count = most_ / size;
    Mirrored<MacJob> jobs;
    Array<uint8_t> tags(Array<uint8_t>::Where::kDevice);
    if (!jobs.Reserve(device_, count) || !tags.Reserve(device_, 16 * count)) return;
    for (size_t i = 0; i < count; ++i) jobs.host[i] = {data_.data() + kSlack + i * size, size};
    jobs.CopyIn(*stream_, count);
    const double t = Measure([&] {
      stream_->Run(
          Mac{jobs.device.data(), {1, 2, 3, 4}, reinterpret_cast<uint8_t(*)[16]>(tags.data())},
          count);
    });
    report_.Row("cuda", "poly1305", count, size, static_cast<double>(count * size) / t / 1e9);
  }

  void Cuts() {
    const CutParams cut = MakeCutParams(512 * 1024, {1});
    CutRule rule{cut.prefilter_multiplier, cut.prefilter_offset, cut.confirm_seed, {},
                 cut.final_multiplier,     cut.avg_size};
    std::ranges::copy(cut.confirm_multipliers, rule.confirm_multipliers);
    const uint8_t* data = data_.data() + kSlack;
    const size_t bytes = most_ / 1024 * 1024, groups = bytes / 1024;
    const size_t size = 4 * kMi, count = bytes / size;
    Array<uint32_t> candidates(Array<uint32_t>::Where::kDevice);
    Array<uint32_t> summary(Array<uint32_t>::Where::kDevice);
    Mirrored<CutMessage> messages;
    Array<uint32_t> ends(Array<uint32_t>::Where::kDevice), counts(Array<uint32_t>::Where::kDevice);
    const size_t most_ends = size / cut.min_size() + 1;
    if (!candidates.Reserve(device_, 32 * groups + 32) || !summary.Reserve(device_, groups + 1) ||
        !messages.Reserve(device_, count) || !ends.Reserve(device_, count * most_ends) ||
        !counts.Reserve(device_, count)) {
      return;
    }
    for (size_t i = 0; i < count; ++i) {
      messages.host[i] = {i * size, size - 1, 1, static_cast<uint32_t>(i * most_ends)};
    }
    messages.CopyIn(*stream_, count);
    const auto row = [&](const char* what, double t) {
      report_.Row("cuda", what, count, size, static_cast<double>(bytes) / t / 1e9);
    };
    const Prefilter prefilter{data, candidates.data(), rule.prefilter_multiplier,
                              rule.prefilter_offset};
    row("cut prefilter", Measure([&] { stream_->Run(prefilter, groups * 32); }));
    const Confirm confirm{data, candidates.data(), summary.data(), rule};
    // The second time it confirms what the first one left, so both are measured together.
    row("cut prefilter + confirm", Measure([&] {
          stream_->Run(prefilter, groups * 32);
          stream_->Run(confirm, groups);
        }));
    row("cut selection", Measure([&] {
          stream_->Run(Select{data, candidates.data(), summary.data(), rule, messages.device.data(),
                              ends.data(), counts.data()},
                       count);
        }));
  }

  void Duplicates() {
    const EngineOptions options{.cut = MakeCutParams(512 * 1024, {1})};
    const CpuCode code = MakeCpuCode(BestPath(ThisCpu()), ThisCpu(), BestStreamCode());
    DeviceBatch batch(device_, options, code, true);
    for (const size_t n : {size_t{10'000}, size_t{100'000}, size_t{1'000'000}}) {
      std::vector<core::duplicates::Digest> digests(n);
      std::mt19937_64 rng(2);
      for (size_t i = 0; i < n; ++i) {
        const uint64_t word = rng() % (n / 2);
        std::memcpy(digests[i].bytes, &word, 8);
      }
      double best = 1e300;
      for (int round = 0; round < 4; ++round) {
        const double from = Seconds();
        batch.FirstSame(digests);
        best = std::min(best, Seconds() - from);
      }
      report_.Rate("cuda", "duplicates, from the host", n, static_cast<double>(n) / best / 1e6);
    }
  }

  // Three quarters full of random fingerprints, and asked in the same number for some that it has
  // and some that it has not.
  void Table() {
    constexpr size_t kQuestions = size_t{16} << 20;
    for (size_t entries = 1'000'000; entries <= 1'000'000'000; entries *= 10) {
      const size_t slots = entries / 3 * 4;
      if (slots * 16 + kQuestions * 10 > device_.memory_bytes() / 10 * 9) break;
      const std::unique_ptr<Memory> table = device_.Allocate(slots * 16);
      Mirrored<uint64_t> questions;
      Array<uint8_t> answers(Array<uint8_t>::Where::kDevice);
      const size_t most = std::min(kQuestions, entries);
      if (table == nullptr || !questions.Reserve(device_, most) ||
          !answers.Reserve(device_, most)) {
        break;
      }
      auto* slot = reinterpret_cast<core::table::Slot*>(table->data());
      stream_->Zero({table->data(), table->size()});
      std::mt19937_64 rng(3);
      double inserting = 0;
      for (size_t done = 0; done < entries; done += most) {
        const size_t n = std::min(most, entries - done);
        for (size_t i = 0; i < n; ++i) questions.host[i] = rng();
        questions.CopyIn(*stream_, n);
        if (!Wait()) return;
        const double from = Seconds();
        stream_->Run(TableInsert{slot, slots, questions.device.data(), 1, answers.data()}, n);
        if (!Wait()) return;
        inserting += Seconds() - from;
      }
      report_.Rate("cuda", "table insert", entries, static_cast<double>(entries) / inserting / 1e6);
      for (const bool there : {true, false}) {
        if (!there) {
          for (size_t i = 0; i < most; ++i) questions.host[i] = rng();
          questions.CopyIn(*stream_, most);
        }
        const double t = Measure([&] {
          stream_->Run(TableFind{slot, slots, questions.device.data(), 1, answers.data()}, most);
        });
        report_.Rate("cuda", there ? "table find, there" : "table find, not there", entries,
                     static_cast<double>(most) / t / 1e6);
      }
    }
  }

  Device& device_;
  Report& report_;
  const double seconds_;
  const size_t most_;
  const std::unique_ptr<Stream> stream_;
  Array<uint8_t> data_{Array<uint8_t>::Where::kDevice};
  std::string error_;
};

// Batches as ingest makes them, submitted again and again.
class PipelineBench {
 public:
  PipelineBench(Report& report, double seconds, size_t batch_bytes)
      : report_(report), seconds_(seconds) {
    Add("images", batch_bytes, 300e3);
    Add("files 15 KB", batch_bytes, 13e3);
    Add("16 videos", batch_bytes, 0);
  }

  // `ahead` batches under way at a time, of each shape.
  void Run(const std::string& path, Engine& engine, size_t ahead) {
    for (const Shape& shape : shapes_) {
      std::vector<std::vector<uint8_t>> memory(ahead);
      for (size_t i = 0; i < ahead; ++i) {
        memory[i] = RandomBytes(shape.bytes + 64, i);
        engine.Register(memory[i]);
      }
      const double gb_per_s = Rate(engine, shape, memory);
      for (const auto& m : memory) engine.Unregister(m);
      report_.Row(path,
                  std::string(shape.name) + ", " + std::to_string(ahead) + " batches of " +
                      std::to_string(shape.bytes / kMi) + " MiB",
                  shape.sizes.size(), shape.bytes / shape.sizes.size(), gb_per_s);
    }
  }

 private:
  struct Shape {
    const char* name;
    std::vector<size_t> sizes;
    bool slices;  // Of objects that go on.
    size_t bytes;
  };

  void Add(const char* name, size_t bytes, double median) {
    Shape shape{name, {}, median == 0, 0};
    std::mt19937_64 rng(7);
    std::lognormal_distribution<double> spread(0, 0.5);
    while (shape.bytes < bytes) {
      const size_t wanted =
          median == 0 ? bytes / 16 : static_cast<size_t>(median * spread(rng)) + 1;
      shape.sizes.push_back(std::min(wanted, bytes - shape.bytes));
      shape.bytes += shape.sizes.back();
    }
    shapes_.push_back(std::move(shape));
  }

  double Rate(Engine& engine, const Shape& shape, std::vector<std::vector<uint8_t>>& memory) const {
    std::mutex mutex;
    std::condition_variable changed;
    size_t done = 0, warm = 0;
    double from = 0;  // When all are warm.
    std::vector<std::thread> threads;
    const double end = Seconds() + 3 * seconds_ + 1;
    for (auto& m : memory) {
      threads.emplace_back([&] {
        std::vector<DigestState> states(shape.sizes.size());
        for (bool first = true; first || Seconds() < end; first = false) {
          Batch batch;
          size_t at = 0;
          for (size_t i = 0; i < shape.sizes.size(); ++i) {
            states[i].Reset();
            batch.messages.push_back({.data = std::span(m).subspan(at, shape.sizes[i]),
                                      .last = !shape.slices,
                                      .state = &states[i]});
            at += shape.sizes[i];
          }
          bool ready = false;
          engine.Submit(batch, [&](Status) {
            std::lock_guard lock(mutex);
            ready = true;
            changed.notify_all();
          });
          std::unique_lock lock(mutex);
          changed.wait(lock, [&] { return ready; });
          // The first round warms up.
          if (first) {
            if (++warm == memory.size()) from = Seconds();
            changed.notify_all();
            changed.wait(lock, [&] { return warm == memory.size(); });
          } else {
            for (const Message& message : batch.messages) done += message.consumed;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return static_cast<double>(done) / (Seconds() - from) / 1e9;
  }

  Report& report_;
  const double seconds_;
  std::vector<Shape> shapes_;
};

}  // namespace

bool RunDeviceBench(Report& report, double seconds, size_t most_bytes) {
  std::string error;
  std::unique_ptr<Device> device = OpenCudaDevice(&error);
  if (device == nullptr) {
    std::fprintf(stderr, "no CUDA device: %s\n", error.c_str());
    return false;
  }
  report.Device(std::string(device->name()), device->memory_bytes(), device->peak_operations());
  DeviceBench kernels(*device, report, seconds, most_bytes);
  if (!kernels.Run()) {
    std::fprintf(stderr, "the CUDA device failed: %s\n", kernels.error().c_str());
    return false;
  }
  const CpuCode code = MakeCpuCode(BestPath(ThisCpu()), ThisCpu(), BestStreamCode());
  EngineOptions options{.cut = MakeCutParams(512 * 1024, {1}), .poly1305_key = {5}};
  const std::unique_ptr<FingerprintTable> table = MakeDeviceTable(*device, 10'000'000);
  options.table = table.get();
  PipelineBench small(report, seconds, 64 * kMi), large(report, seconds, 256 * kMi);
  bool failed = false;
  // Batches under way at a time; as many again wait, so that none of the device's threads does.
  const auto on_device = [&](PipelineBench& bench, int batches) {
    std::unique_ptr<Device> own = OpenCudaDevice(&error);
    if (own == nullptr) return void(failed = true);
    const std::unique_ptr<Engine> engine = MakeDeviceEngine(
        std::move(own), options, code, {.batches = batches, .say = [&](const std::string& line) {
                                          failed = true;
                                          std::fprintf(stderr, "%s\n", line.c_str());
                                        }});
    bench.Run("cuda", *engine, batches == 1 ? 1 : 2 * static_cast<size_t>(batches));
  };
  on_device(small, 1);
  on_device(small, 4);
  on_device(large, 4);
  on_device(large, 8);
  on_device(large, 12);
  const std::unique_ptr<FingerprintTable> host_table = MakeHostTable(10'000'000);
  options.table = host_table.get();
  const std::unique_ptr<Engine> cpu = MakeCpuEngine(options, code);
  small.Run(std::string(code.name) + " all", *cpu,
            std::max(1u, std::thread::hardware_concurrency()));
  return !failed;
}

}  // namespace holdfast::kernels
