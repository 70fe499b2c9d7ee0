// Throughput of the kernels on this machine's CPU, one thread; with --cuda also of its CUDA device
// (device_bench.h).
//
//   kernels_bench [--cuda] [--json FILE] [--seconds S] [--small]
//
// prints GB/s (1e9 bytes) of every lane kernel; of every digest on every path over counts and sizes
// of messages; of Poly1305 and the cut scan; and of whole engines on batches as ingest makes them.
// The measure is the least CPU time of the thread over repeated runs, as neighbours on a shared
// machine only ever add. --small leaves out what needs more than 64 MiB.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/bench/device_bench.h"
#include "kernels/bench/report.h"
#include "kernels/cpu/code.h"
#include "kernels/cpu/cpu_engine.h"
#include "kernels/cpu/scan.h"
#include "kernels/measure.h"

namespace holdfast::kernels {
namespace {

constexpr size_t kMi = 1 << 20;

struct Options {
  std::string json;
  double seconds = 0.3;  // Per measure.
  size_t most = 1024 * kMi;
  bool cuda = false;
};

class Bench {
 public:
  Bench(const Options& options, Report& report)
      : options_(options), data_(64 * kMi + 4096), report_(report) {
    std::mt19937_64 rng(1);
    for (size_t i = 0; i + 8 <= data_.size(); i += 8) {
      const uint64_t word = rng();
      std::memcpy(&data_[i], &word, 8);
    }
  }

  void Run() {
    const CpuFeatures cpu = ThisCpu();
    for (const CpuPath path : {CpuPath::kPortable, CpuPath::kAvx2, CpuPath::kAvx512}) {
      if (!HasPath(cpu, path)) {
        std::printf("-- %s: SKIPPED, this CPU has no such instructions\n", Name(path));
        continue;
      }
      const CpuCode code = MakeCpuCode(path, cpu, BestStreamCode());
      const std::string name(code.name);
      for (const auto& [digest, digest_code] : Digests(code)) Kernels(name, digest, *digest_code);
      for (const auto& [digest, digest_code] : Digests(code)) Messages(name, digest, *digest_code);
      for (const auto& [digest, digest_code] : Digests(code)) Unequal(name, digest, *digest_code);
      Single(name, code);
      Engines(name, code);
    }
    Table();
  }

 private:
  using NamedDigest = std::pair<const char*, const DigestCode*>;

  static const char* Name(CpuPath path) {
    return path == CpuPath::kPortable ? "portable" : path == CpuPath::kAvx2 ? "avx2" : "avx512";
  }

  static std::vector<NamedDigest> Digests(const CpuCode& code) {
    return {{"sha256", &code.sha256}, {"sha1", &code.sha1}, {"md5", &code.md5}};
  }

  // The least time of `run`, which takes `bytes`, in GB/s.
  double Measure(size_t bytes, const std::function<void()>& run) const {
    return BestRate(bytes, options_.seconds, run) / 1e9;
  }

  // What code.cc wants to know: the time of one block in every lane.
  void Kernels(const std::string& path, const std::string& digest, const DigestCode& code) {
    constexpr size_t kBlocks = 1024;
    uint32_t state[kMaxStateWords] = {};
    const auto row = [&](int lanes, double gbs) {
      report_.Row(path, digest + " step x" + std::to_string(lanes), lanes, kBlocks * 64, gbs);
      std::printf("%34.1f ns a block in every lane\n", 64.0 * lanes / gbs);
    };
    row(1, Measure(kBlocks * 64, [&] { code.single(state, data_.data(), kBlocks); }));
    for (const LaneKernel& kernel : code.kernels) {
      if (kernel.step == nullptr) continue;
      row(kernel.lanes, Measure(kBlocks * 64 * kernel.lanes, [&] {
            LaneSet set{};
            for (int l = 0; l < kernel.lanes; ++l) set.data[l] = &data_[l * (kBlocks + 1) * 64];
            kernel.step(set, kBlocks);
          }));
    }
  }

  // Many messages may share bytes, so that 32,768 need no more memory than 64 MiB.
  void Messages(const std::string& path, const std::string& digest, const DigestCode& code) {
    for (const size_t size : {4 * kMi / 1024, 64 * kMi / 1024, 512 * kMi / 1024, 4 * kMi, 64 * kMi})
      for (const size_t count : {1, 4, 16, 128, 1024, 32768}) {
        if (count * size < 256 * 1024 || count * size > options_.most) continue;
        std::vector<std::array<uint32_t, kMaxStateWords>> states(count);
        const double gbs = Measure(count * size, [&] {
          std::vector<LaneJob> jobs;
          for (size_t i = 0; i < count; ++i) {
            const uint8_t* data = data_.data() + i * size % (64 * kMi);
            jobs.push_back({states[i].data(), {BlockRun{}, BlockRun{data, size / 64}, BlockRun{}}});
          }
          RunLanes(code, jobs);
        });
        report_.Row(path, digest, count, size, gbs);
      }
  }

  // 1,024 messages: equal ones, and as files come (log-normal, median 220 KB, sigma 1).
  void Unequal(const std::string& path, const std::string& digest, const DigestCode& code) {
    std::mt19937_64 rng(9);
    std::lognormal_distribution<double> spread(0, 1);
    std::vector<size_t> sizes(1024);
    size_t sum = 0;
    for (size_t& size : sizes) {
      size = std::min<size_t>(static_cast<size_t>(220e3 * spread(rng)), 32 * kMi) / 64 * 64;
      sum += size;
    }
    for (const bool equal : {true, false}) {
      std::vector<std::array<uint32_t, kMaxStateWords>> states(sizes.size());
      const double gbs = Measure(sum, [&] {
        std::vector<LaneJob> jobs;
        size_t at = 0;
        for (size_t i = 0; i < sizes.size(); ++i) {
          const size_t size = equal ? sum / sizes.size() : sizes[i];
          const uint8_t* data = data_.data() + at % (32 * kMi) / 64 * 64;
          at += size;
          jobs.push_back({states[i].data(), {BlockRun{}, BlockRun{data, size / 64}, BlockRun{}}});
        }
        RunLanes(code, jobs);
      });
      report_.Row(path, digest + (equal ? " equal lengths" : " log-normal lengths"), sizes.size(),
                  sum / sizes.size(), gbs);
    }
  }

  void Single(const std::string& path, const CpuCode& code) {
    Poly1305Key key{1, 2, 3};
    for (const size_t size : {size_t{4096}, 64 * kMi / 1024, 512 * kMi / 1024, 4 * kMi}) {
      const double gbs = Measure(4 * kMi, [&] {
        for (size_t at = 0; at < 4 * kMi; at += size)
          code.stream->poly1305(key, {&data_[at], size});
      });
      report_.Row(path, "poly1305", 4 * kMi / size, size, gbs);
    }
    const CutParams cut = MakeCutParams(512 * 1024, {1});
    for (const size_t size : {256 * kMi / 1024, 4 * kMi}) {
      const double gbs = Measure(4 * kMi, [&] {
        for (size_t at = 8; at < 4 * kMi; ++at) {
          at = code.find_cut(data_.data(), at, std::min(4 * kMi, at / size * size + size),
                             cut.prefilter_multiplier, cut.prefilter_offset);
        }
      });
      report_.Row(path, "cut scan", 4 * kMi / size, size, gbs);
    }
  }

  // The host's fingerprint table, three quarters full; one thread.
  void Table() {
    for (size_t entries = 1'000'000; entries <= options_.most / 10; entries *= 10) {
      const std::unique_ptr<FingerprintTable> table = MakeHostTable(entries / 3 * 4);
      std::mt19937_64 rng(3);
      std::vector<uint64_t> keys(entries);
      for (uint64_t& key : keys) key = rng();
      const double start = ThreadCpuSeconds();
      table->Insert(keys);
      const auto rate = [&](size_t count, double seconds) {
        return static_cast<double>(count) / seconds / 1e6;
      };
      report_.Rate("host", "table insert", entries, rate(entries, ThreadCpuSeconds() - start));
      std::vector<uint8_t> found(1'000'000);
      for (const bool there : {true, false}) {
        if (!there) {
          for (size_t i = 0; i < found.size(); ++i) keys[i] = rng();
        }
        const double from = ThreadCpuSeconds();
        table->Find(std::span(keys).first(found.size()), table->epoch(), found);
        report_.Rate("host", there ? "table find, there" : "table find, not there", entries,
                     rate(found.size(), ThreadCpuSeconds() - from));
      }
    }
  }

  struct Shape {
    const char* name;
    std::vector<size_t> sizes;  // Of 4 MiB: a slice that is not the last.
  };

  // Batches of 32 MiB.
  static std::vector<Shape> Shapes() {
    std::vector<Shape> shapes = {{"batch images+videos", {4 * kMi, 4 * kMi}},
                                 {"batch files 15 KB", {}},
                                 {"batch images", {}},
                                 {"batch 8 videos", std::vector<size_t>(8, 4 * kMi)}};
    std::mt19937_64 rng(7);
    std::lognormal_distribution<double> spread(0, 0.5);
    const auto fill = [&](std::vector<size_t>& sizes, double median) {
      size_t sum = 0;
      for (const size_t size : sizes) sum += size;
      for (; sum < 32 * kMi; sum += sizes.back()) {
        sizes.push_back(std::min(32 * kMi - sum, static_cast<size_t>(median * spread(rng)) + 1));
      }
    };
    fill(shapes[0].sizes, 300e3);
    fill(shapes[1].sizes, 13e3);
    fill(shapes[2].sizes, 300e3);
    return shapes;
  }

  void Engines(const std::string& path, const CpuCode& code) {
    const EngineOptions options{.cut = MakeCutParams(512 * 1024, {1}), .poly1305_key = {5}};
    const std::unique_ptr<Engine> engine = MakeCpuEngine(options, code);
    for (const Shape& shape : Shapes()) {
      size_t consumed = 0;
      std::vector<DigestState> states(shape.sizes.size());
      const double per_byte = Measure(1, [&] {
        Batch batch;
        size_t at = 0;
        for (size_t i = 0; i < shape.sizes.size(); ++i) {
          states[i].Reset();
          batch.messages.push_back({.data = {&data_[at], shape.sizes[i]},
                                    .last = shape.sizes[i] != 4 * kMi,
                                    .state = &states[i]});
          at += shape.sizes[i];
        }
        engine->Submit(batch, [](Status) {});
        consumed = 0;
        for (const Message& message : batch.messages) consumed += message.consumed;
      });
      report_.Row(path, shape.name, shape.sizes.size(), consumed / shape.sizes.size(),
                  per_byte * static_cast<double>(consumed));
    }
  }

  const Options options_;
  std::vector<uint8_t> data_;
  Report& report_;
};

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "--small") {
      options.most = 64 * kMi;
    } else if (arg == "--cuda") {
      options.cuda = true;
    } else if (arg == "--json" && i + 1 < argc) {
      options.json = argv[++i];
    } else if (arg == "--seconds" && i + 1 < argc) {
      options.seconds = std::atof(argv[++i]);
    } else {
      std::fprintf(stderr, "usage: %s [--cuda] [--json FILE] [--seconds S] [--small]\n", argv[0]);
      return 2;
    }
  }
  Report report(options.json);
  if (options.cuda && !RunDeviceBench(report, options.seconds, options.most)) return 1;
  Bench(options, report).Run();
  return 0;
}

}  // namespace
}  // namespace holdfast::kernels

int main(int argc, char** argv) { return holdfast::kernels::Main(argc, argv); }
