// bench: what the processors and a CUDA device do.
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "cli/bench_parts.h"
#include "common/base/clock.h"
#include "common/base/rng.h"
#include "common/crypto/domain_keys.h"
#include "kernels/measure.h"

namespace holdfast::cli {
namespace {

constexpr double kCpuSeconds = 0.2;  // Each.

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

kernels::EngineOptions BenchEngineOptions() {
  return {.cut = kernels::MakeCutParams(512 * 1024, {1}), .poly1305_key = {5}};
}

void AddEngineRows(kernels::Engine& engine, unsigned callers, double seconds, Json& rows) {
  for (const size_t file : {size_t{15} << 10, size_t{330} << 10, size_t{2} << 20}) {
    for (const uint32_t digests : {uint32_t{kernels::kAllDigests}, uint32_t{kernels::kSha256}}) {
      rows.push_back(
          {{"file_bytes", file},
           {"digests", digests == kernels::kSha256 ? "sha256" : "md5,sha1,sha256"},
           {"callers", callers},
           {"bytes_per_second", kernels::MeasureEngine(engine, callers, digests, file, seconds)}});
    }
  }
}

Json MeasureEngines(double seconds) {
  const kernels::EngineOptions options = BenchEngineOptions();
  const auto silent = [](const std::string&) {};
  std::string why_not;
  std::vector<std::unique_ptr<kernels::Engine>> engines;
  engines.push_back(kernels::MakeCpuEngine(options, &why_not));
  engines.push_back(kernels::MakeEngine(kernels::EngineKind::kAuto, options, silent, &why_not));
  Json all = Json::array();
  for (const std::unique_ptr<kernels::Engine>& engine : engines) {
    // Without a device the second is the first once more.
    if (engine == nullptr || (!all.empty() && engine->name() == all[0]["name"])) continue;
    Json rows = Json::array();
    const unsigned cores = std::thread::hardware_concurrency();
    AddEngineRows(*engine, 1, seconds, rows);
    if (cores > 1) AddEngineRows(*engine, cores, seconds, rows);
    all.push_back({{"name", std::string(engine->name())}, {"rows", std::move(rows)}});
  }
  return all;
}

Json MeasureAllSealing(double seconds) {
  Json rows = Json::array();
  for (const size_t size : {size_t{15} << 10, size_t{512} << 10}) {
    const SealingRates rates = MeasureSealing(size, seconds);
    rows.push_back({{"chunk_bytes", size},
                    {"seal_bytes_per_second", rates.seal},
                    {"open_bytes_per_second", rates.open},
                    {"checksum_bytes_per_second", rates.checksum},
                    {"identities_per_second", rates.identities}});
  }
  return rows;
}

}  // namespace

SealingRates MeasureSealing(size_t chunk_bytes, double seconds) {
  Buffer plain(chunk_bytes);
  SecureRng().Fill(plain);
  const DomainKeys keys({7});
  const Hash256 h = keys.ChunkSecret(Hash256{}, chunk_bytes, std::array<uint8_t, 16>{});
  const RecordId id = ChunkIdOf(h);
  Buffer sealed(SealedChunkLength(chunk_bytes)), opened(chunk_bytes);
  const auto rate = [&](const std::function<void()>& run) {
    return kernels::BestRate(chunk_bytes, seconds, run);
  };
  SealingRates rates;
  rates.seal = rate([&] { SealChunk(h, id, Codec::kRaw, plain, sealed); });
  rates.open = rate([&] { (void)OpenChunk(h, id, sealed, opened).ok(); });
  rates.checksum = rate([&] { (void)ChecksumOf(sealed); });
  rates.identities =
      rate([&] { (void)ChunkIdOf(keys.ChunkSecret(h, chunk_bytes, std::array<uint8_t, 16>{})); }) /
      static_cast<double>(chunk_bytes);
  return rates;
}

Json DescribeMachine() {
  utsname names{};
  uname(&names);
  return {{"cpu", CpuName()},
          {"cores", std::thread::hardware_concurrency()},
          {"memory_bytes", static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                               static_cast<uint64_t>(sysconf(_SC_PAGESIZE))},
          {"kernel", std::string(names.release)},
          {"host", std::string(names.nodename)}};
}

Json MeasureCpu(double scale) {
  const double seconds = kCpuSeconds * scale;
  Json rates = Json::array();
  for (const kernels::KernelRate& rate : kernels::MeasureKernels(seconds)) {
    rates.push_back({{"path", rate.path},
                     {"algorithm", rate.algorithm},
                     {"bytes_per_second", rate.bytes_per_second}});
  }
  return {{"kernels", std::move(rates)},
          {"sealing", MeasureAllSealing(seconds)},
          {"engines", MeasureEngines(seconds)}};
}

}  // namespace holdfast::cli
