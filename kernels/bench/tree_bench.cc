#include "kernels/bench/tree_bench.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>
#include <vector>

#include "kernels/cpu/code.h"
#include "kernels/engine.h"

namespace holdfast::kernels {
namespace {

constexpr size_t kSlab = size_t{32} << 20;
constexpr size_t kStreams = 8;  // Long files side by side, so that they fill lanes.

struct File {
  std::string path;
  size_t size;
};

// A thread: packs short files, and slices of up to kStreams long ones, into batches.
class Hasher {
 public:
  Hasher(const std::vector<File>& files, std::atomic<size_t>& next_short,
         std::atomic<size_t>& next_long, size_t shorts, Engine& engine, size_t max_chunk)
      : files_(files),
        next_short_(next_short),
        next_long_(next_long),
        shorts_(shorts),
        engine_(engine),
        slice_(std::max(2 * max_chunk, kSlab / 2 / kStreams)) {
    slab_ = static_cast<uint8_t*>(
        ::mmap(nullptr, 2 * kSlab, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::madvise(slab_, 2 * kSlab, MADV_HUGEPAGE);
  }
  ~Hasher() { ::munmap(slab_, 2 * kSlab); }
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void Run() {
    while (Step()) {
    }
  }

 private:
  struct Stream {
    int fd;
    size_t size, at = 0;
    DigestState state{};
    std::vector<uint8_t> carry{};
  };

  bool Step() {
    Batch batch;
    used_ = 0;
    states_.clear();
    states_.reserve(8192);
    while (streams_.size() < kStreams) {
      const size_t i = next_long_++;
      if (i >= files_.size()) break;
      streams_.push_back({::open(files_[i].path.c_str(), O_RDONLY), files_[i].size});
      streams_.back().state.Reset();
    }
    for (Stream& stream : streams_) AddSlice(batch, stream);
    while (used_ < kSlab && states_.size() < 8000) {
      const size_t i = next_short_++;
      if (i >= shorts_) break;
      AddShort(batch, files_[i]);
    }
    if (batch.messages.empty()) return false;
    engine_.Submit(batch, [](Status) {});
    for (size_t i = 0; i < streams_.size(); ++i) {
      const Message& message = batch.messages[i];
      const auto rest = message.data.subspan(message.consumed);
      streams_[i].carry.assign(rest.begin(), rest.end());
      if (message.last) ::close(streams_[i].fd);
    }
    std::erase_if(streams_, [](const Stream& s) { return s.at == s.size && s.carry.empty(); });
    return true;
  }

  void AddSlice(Batch& batch, Stream& stream) {
    uint8_t* begin = slab_ + used_;
    std::ranges::copy(stream.carry, begin);
    const size_t n = std::min(slice_ - stream.carry.size(), stream.size - stream.at);
    Read(stream.fd, begin + stream.carry.size(), n, stream.at);
    stream.at += n;
    batch.messages.push_back({.data = {begin, stream.carry.size() + n},
                              .last = stream.at == stream.size,
                              .state = &stream.state});
    used_ += (stream.carry.size() + n + 63) / 64 * 64;
  }

  void AddShort(Batch& batch, const File& file) {
    const int fd = ::open(file.path.c_str(), O_RDONLY);
    Read(fd, slab_ + used_, file.size, 0);
    ::close(fd);
    states_.emplace_back().Reset();
    batch.messages.push_back(
        {.data = {slab_ + used_, file.size}, .last = true, .state = &states_.back()});
    used_ += (file.size + 63) / 64 * 64;
  }

  static void Read(int fd, uint8_t* to, size_t size, size_t offset) {
    for (size_t done = 0; done < size;) {
      const ssize_t n = ::pread(fd, to + done, size - done, static_cast<off_t>(offset + done));
      if (n <= 0) return;  // The measure is of files that stay as they are.
      done += static_cast<size_t>(n);
    }
  }

  const std::vector<File>& files_;
  std::atomic<size_t>&next_short_, &next_long_;
  const size_t shorts_;
  Engine& engine_;
  const size_t slice_;
  uint8_t* slab_;
  size_t used_ = 0;
  std::vector<DigestState> states_;
  std::vector<Stream> streams_;
};

}  // namespace

bool RunTreeBench(Report& report, const std::string& directory, int threads) {
  std::vector<File> files;
  size_t bytes = 0;
  std::error_code error;
  for (auto it = std::filesystem::recursive_directory_iterator(directory, error);
       !error && it != std::filesystem::recursive_directory_iterator(); it.increment(error)) {
    if (!it->is_regular_file() || it->is_symlink()) continue;
    files.push_back({it->path().string(), static_cast<size_t>(it->file_size())});
    bytes += files.back().size;
  }
  if (error) {
    std::fprintf(stderr, "%s: %s\n", directory.c_str(), error.message().c_str());
    return false;
  }
  const EngineOptions options{.cut = MakeCutParams(512 * 1024, {1}), .poly1305_key = {5}};
  const size_t max_chunk = options.cut.max_size();
  const auto is_short = [&](const File& file) { return file.size <= 2 * max_chunk; };
  const auto longs = std::stable_partition(files.begin(), files.end(), is_short);
  const auto shorts = static_cast<size_t>(longs - files.begin());
  const std::unique_ptr<Engine> engine = MakeCpuEngine(options);
  if (engine == nullptr) return false;
  std::atomic<size_t> next_short = 0, next_long = shorts;
  const auto from = std::chrono::steady_clock::now();
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) {
    running.emplace_back(
        [&] { Hasher(files, next_short, next_long, shorts, *engine, max_chunk).Run(); });
  }
  for (std::thread& thread : running) thread.join();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
  std::printf("%zu files, %zu bytes, %.2f s, %d threads\n", files.size(), bytes, seconds, threads);
  report.Row(std::string(engine->name()), "files of a directory", files.size(),
             files.empty() ? 0 : bytes / files.size(), static_cast<double>(bytes) / seconds / 1e9);
  return true;
}

}  // namespace holdfast::kernels
