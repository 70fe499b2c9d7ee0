// What this machine could do at best for an ingest of a directory: the same bytes read, cut and
// digested by the engine in full batches, every new chunk sealed, written past the page cache and
// synced, on the same cores, overlapped; without sessions, nodes, indexes, manifests or a
// catalogue, and without asking anybody. The floor that bench/compare holds an ingest to.
//
//   holdfast-floor DIR --store NEW_DIR [--threads N]
//   holdfast-floor DIR                       reads, cuts and digests only
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "bench/floor/feed.h"
#include "bench/floor/store.h"
#include "common/base/clock.h"

namespace holdfast::floor {
namespace {

struct Options {
  std::string directory, store;
  size_t slab = 32;  // MiB
  unsigned threads = std::thread::hardware_concurrency();
};

struct Totals {
  int64_t read_nanos = 0, digest_nanos = 0, store_nanos = 0;
  uint64_t stored_bytes = 0;
};

// One core's part of the job.
void Work(Feed& feed, kernels::Engine& engine, Store* store, Totals& totals) {
  Clock& clock = SystemClock();
  kernels::Batch batch;
  for (;;) {
    const int64_t start = clock.MonotonicNanos();
    if (!feed.Fill(batch)) break;
    const int64_t filled = clock.MonotonicNanos();
    engine.Submit(batch, [](kernels::Status) {});  // On a CPU it is done when this returns.
    const int64_t digested = clock.MonotonicNanos();
    if (store != nullptr) store->Add(batch);
    feed.Consumed(batch);
    totals.read_nanos += filled - start;
    totals.digest_nanos += digested - filled;
    totals.store_nanos += clock.MonotonicNanos() - digested;
  }
  const int64_t start = clock.MonotonicNanos();
  if (store == nullptr) return;
  store->Close();
  totals.store_nanos += clock.MonotonicNanos() - start;
  totals.stored_bytes = store->bytes();
}

int Run(const Options& options) {
  const std::array<uint8_t, 32> secret = {7};
  const DomainKeys keys(secret);
  const kernels::EngineOptions engine_options{
      .cut = kernels::MakeCutParams(512 * 1024, keys.cut_seed()),
      .poly1305_key = keys.poly1305_key()};
  const std::unique_ptr<kernels::Engine> engine = kernels::MakeCpuEngine(engine_options);
  const int64_t start = SystemClock().MonotonicNanos();
  FileList list(options.directory, engine_options.cut.max_size());
  ChunksMet met;
  std::vector<Totals> totals(options.threads);
  const auto work = [&](unsigned i) {
    AlignedBuffer memory(options.slab << 20);
    Feed feed(list, engine_options.cut.max_size(), {memory.data(), options.slab << 20});
    std::unique_ptr<Store> store;
    if (!options.store.empty()) {
      store = std::make_unique<Store>(options.store + "/" + std::to_string(i), keys, met);
    }
    Work(feed, *engine, store.get(), totals[i]);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < options.threads; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  if (!options.store.empty()) (void)PosixFs().SyncDir(options.store);
  const auto seconds = [](int64_t nanos) { return static_cast<double>(nanos) / kSecond; };
  nlohmann::json result{
      {"files", list.files.size()},   {"bytes", list.bytes},
      {"engine", engine->name()},     {"wall_s", seconds(SystemClock().MonotonicNanos() - start)},
      {"cpu_s", ProcessCpuSeconds()}, {"cores", nlohmann::json::array()}};
  for (const Totals& t : totals) {
    result["cores"].push_back({{"read_s", seconds(t.read_nanos)},
                               {"digest_s", seconds(t.digest_nanos)},
                               {"store_s", seconds(t.store_nanos)},
                               {"stored_bytes", t.stored_bytes}});
  }
  std::printf("%s\n", result.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace holdfast::floor

int main(int argc, char** argv) {
  CLI::App app("What this machine could do at best for an ingest of a directory");
  holdfast::floor::Options options;
  app.add_option("directory", options.directory, "What is read")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--store", options.store, "Where it is stored: an empty directory")
      ->check(CLI::ExistingDirectory);
  app.add_option("--threads", options.threads, "As many as there are cores unless given")
      ->check(CLI::PositiveNumber);
  app.add_option("--slab", options.slab, "MiB read at a time by each")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return holdfast::floor::Run(options);
}
