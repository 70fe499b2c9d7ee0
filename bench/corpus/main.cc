// holdfast-corpus: writes a seeded tree of media-like files to measure with.
//
// The same preset, seed, scale and custom parameters give the same tree, byte for byte and
// whatever the number of threads. Prints one JSON line about it.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "bench/corpus/plan.h"

namespace holdfast::corpus {
namespace {

constexpr size_t kWriteBytes = 1 << 20;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void Fail(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

void WriteAll(int fd, std::span<const uint8_t> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) Fail(path);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void WriteFile(const PlannedFile& file, uint64_t seed, const std::string& out,
               std::vector<uint8_t>& buffer) {
  const std::string path = out + "/" + file.directory + "/" + file.name;
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) Fail(path);
  const Descriptor descriptor(fd);
  size_t used = 0;
  for (const Piece& piece : file.pieces) {
    for (uint64_t done = 0; done < piece.length;) {
      const size_t n = std::min<uint64_t>(piece.length - done, buffer.size() - used);
      FillStream(piece, seed, piece.offset + done, std::span(buffer).subspan(used, n));
      done += n;
      used += n;
      if (used == buffer.size()) {
        WriteAll(fd, buffer, path);
        used = 0;
      }
    }
  }
  WriteAll(fd, std::span(buffer).first(used), path);
  const timespec mtime = {file.mtime_nanos / 1'000'000'000, file.mtime_nanos % 1'000'000'000};
  const timespec times[2] = {mtime, mtime};
  if (futimens(fd, times) != 0) Fail(path);
}

void WriteTree(const Plan& plan, uint64_t seed, const std::string& out, unsigned threads) {
  std::filesystem::create_directories(out);
  if (!std::filesystem::is_empty(out)) throw std::invalid_argument(out + " is not empty");
  for (const std::string& directory : plan.directories) {
    std::filesystem::create_directory(out + "/" + directory);
  }
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::string error;
  const auto work = [&] {
    std::vector<uint8_t> buffer(kWriteBytes);
    try {
      for (size_t i = next++; i < plan.files.size(); i = next++) {
        WriteFile(plan.files[i], seed, out, buffer);
      }
    } catch (const std::exception& e) {
      const std::lock_guard lock(mutex);
      error = e.what();
      next = plan.files.size();
    }
  };
  std::vector<std::thread> workers;
  for (unsigned i = 1; i < threads; ++i) workers.emplace_back(work);
  work();
  for (std::thread& worker : workers) worker.join();
  if (!error.empty()) throw std::runtime_error(error);
}

int Main(int argc, char** argv) {
  PlanOptions options;
  std::string out;
  unsigned threads = std::max(1u, std::thread::hardware_concurrency());
  CLI::App app("Writes a seeded tree of media-like files to measure with.", "holdfast-corpus");
  app.add_option("--out", out, "Directory to write; empty, or not there yet")->required();
  app.add_option("--preset", options.preset,
                 "M: 5,147 files, 3.00 GB: images around 300 KB and a few videos of 20-90 MB, "
                 "35 % exact duplicates, 10 % edited copies. "
                 "S: 150,000 files of about 15 KB, half of them duplicates. "
                 "V: 320 files, 8 GB: seven of ten originals are videos")
      ->capture_default_str();
  app.add_option("--scale", options.scale, "Times the preset's files and bytes")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Another seed, another corpus")->capture_default_str();
  app.add_option("--files", options.files, "Files, in place of the preset's");
  app.add_option("--bytes", options.bytes,
                 "Bytes, in place of the preset's (within a factor of 4)");
  app.add_option("--duplicates", options.duplicates, "Share of exact duplicates, 0 to below 1");
  app.add_option("--edited", options.edited, "Share of edited copies, 0 to below 1");
  app.add_option("--videos", options.videos, "Share of originals that are videos, 0 to 1");
  app.add_option("--sigma", options.sigma, "Spread of the other sizes, which are log-normal");
  app.add_option("--edits", options.edits, "How copies are edited: some of head,tail,inside")
      ->delimiter(',');
  app.add_option("--threads", threads, "Writers")->check(CLI::Range(1, 256));
  CLI11_PARSE(app, argc, argv);
  try {
    const auto start = std::chrono::steady_clock::now();
    const Plan plan = MakePlan(options);
    WriteTree(plan, options.seed, out, threads);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    std::printf(
        "{\"type\":\"corpus\",\"preset\":\"%s\",\"seed\":%llu,\"scale\":%g,\"files\":%zu,"
        "\"bytes\":%llu,\"unique_bytes\":%llu,\"new_bytes\":%llu,\"duplicates\":%llu,"
        "\"edited\":%llu,\"videos\":%llu,\"seconds\":%.3f}\n",
        options.preset.c_str(), static_cast<unsigned long long>(options.seed), options.scale,
        plan.files.size(), static_cast<unsigned long long>(plan.bytes),
        static_cast<unsigned long long>(plan.unique_bytes),
        static_cast<unsigned long long>(plan.new_bytes),
        static_cast<unsigned long long>(plan.duplicates),
        static_cast<unsigned long long>(plan.edited), static_cast<unsigned long long>(plan.videos),
        elapsed.count());
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "holdfast-corpus: %s\n", e.what());
    return 1;
  }
}

}  // namespace
}  // namespace holdfast::corpus

int main(int argc, char** argv) { return holdfast::corpus::Main(argc, argv); }
