// bench: what the disk of a directory does, and a catalogue on it.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include "cli/bench_parts.h"
#include "common/base/clock.h"
#include "common/base/rng.h"
#include "common/io/fs.h"
#include "common/kv/rocks_kv.h"
#include "node/aligned_buffer.h"

namespace holdfast::cli {
namespace {

constexpr size_t kRun = 8u << 20;            // As a busy node writes.
constexpr uint64_t kMostBytes = 4ull << 30;  // Of the file.
constexpr double kDiskNanos = 3e9;           // For each measure of many bytes.
constexpr int kSyncs = 200;
constexpr int kSmallFiles = 2'000;
constexpr size_t kSmallFile = 15'000;

double SecondsSince(int64_t start) {
  return static_cast<double>(SystemClock().MonotonicNanos() - start) / kSecond;
}

double Percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

class DiskBench {
 public:
  static StatusOr<Json> Run(const std::string& dir, double scale) {
    DiskBench bench(dir, scale);
    RETURN_IF_ERROR(bench.MeasureWrites());
    RETURN_IF_ERROR(bench.MeasureSyncs());
    RETURN_IF_ERROR(bench.MeasureReads());
    for (const unsigned readers : {1u, 8u}) RETURN_IF_ERROR(bench.MeasureRandomReads(readers));
    RETURN_IF_ERROR(bench.MeasureSmallFiles());
    return std::move(bench.result_);
  }

  static StatusOr<Json> RunWrites(const std::string& dir, double scale) {
    DiskBench bench(dir, scale);
    RETURN_IF_ERROR(bench.MeasureWrites());
    return std::move(bench.result_);
  }

 private:
  DiskBench(std::string dir, double scale)
      : dir_(std::move(dir)), nanos_(static_cast<int64_t>(kDiskNanos * scale)), buffer_(kRun) {
    SecureRng().Fill({buffer_.data(), kRun});
  }

  std::string path() const { return dir_ + "/data"; }

  // Into allocated blocks, past the page cache: without syncs but the last, and with one for each
  // run, as a node's log has them.
  Status MeasureWrites() {
    ASSIGN_OR_RETURN(const SpaceInfo space, PosixFs().Space(dir_));
    const uint64_t most = std::min(kMostBytes, space.free_bytes / 4) / kRun * kRun;
    if (most == 0) return absl::ResourceExhaustedError(dir_ + ": the disk is too full to measure");
    result_["total_bytes"] = space.total_bytes;
    for (const bool synced : {true, false}) {
      ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                       PosixFs().Open(path(), {.write = true, .create = true, .direct = true}));
      RETURN_IF_ERROR(file->Truncate(0));
      RETURN_IF_ERROR(file->Allocate(0, most));
      RETURN_IF_ERROR(file->DataSync());
      const int64_t start = SystemClock().MonotonicNanos();
      for (size_ = 0; size_ < most; size_ += kRun) {
        if (SystemClock().MonotonicNanos() - start > nanos_ && size_ > 0) break;
        RETURN_IF_ERROR(file->WriteAt(size_, {buffer_.data(), kRun}));
        if (synced) RETURN_IF_ERROR(file->DataSync());
      }
      RETURN_IF_ERROR(file->DataSync());
      result_[synced ? "log_bytes_per_second" : "write_bytes_per_second"] =
          static_cast<double>(size_) / SecondsSince(start);
    }
    return absl::OkStatus();
  }

  Status MeasureSyncs() {
    ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                     PosixFs().Open(path(), {.write = true, .direct = true}));
    std::vector<double> seconds;
    for (int i = 0; i < kSyncs; ++i) {
      const int64_t start = SystemClock().MonotonicNanos();
      RETURN_IF_ERROR(file->WriteAt(uint64_t(i) * kDirectAlign, {buffer_.data(), kDirectAlign}));
      RETURN_IF_ERROR(file->DataSync());
      seconds.push_back(SecondsSince(start));
    }
    result_["sync_seconds_p50"] = Percentile(seconds, 0.5);
    result_["sync_seconds_p99"] = Percentile(seconds, 0.99);
    return absl::OkStatus();
  }

  Status MeasureReads() {
    ASSIGN_OR_RETURN(const std::unique_ptr<File> file, PosixFs().Open(path(), {.direct = true}));
    const int64_t start = SystemClock().MonotonicNanos();
    uint64_t at = 0;
    for (; at < size_ && SystemClock().MonotonicNanos() - start < nanos_; at += kRun) {
      ASSIGN_OR_RETURN(const size_t n, file->ReadAt(at, {buffer_.data(), kRun}));
      if (n != kRun) return absl::DataLossError(path() + " has become shorter");
    }
    result_["read_bytes_per_second"] = static_cast<double>(at) / SecondsSince(start);
    return absl::OkStatus();
  }

  // 4 KiB each, as many at once as there are readers.
  Status MeasureRandomReads(unsigned readers) {
    ASSIGN_OR_RETURN(const std::unique_ptr<File> file, PosixFs().Open(path(), {.direct = true}));
    const int64_t start = SystemClock().MonotonicNanos();
    std::atomic<uint64_t> reads = 0;
    std::vector<Status> statuses(readers);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < readers; ++i) {
      threads.emplace_back([&, i] {
        AlignedBuffer block(kDirectAlign);
        while (SystemClock().MonotonicNanos() - start < nanos_ / 3 && statuses[i].ok()) {
          const uint64_t at = SecureRng().Below(size_ / kDirectAlign) * kDirectAlign;
          statuses[i] = file->ReadAt(at, {block.data(), kDirectAlign}).status();
          ++reads;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Status& status : statuses) RETURN_IF_ERROR(status);
    result_[readers == 1 ? "random_reads_per_second" : "random_reads_per_second_8"] =
        static_cast<double>(reads) / SecondsSince(start);
    return absl::OkStatus();
  }

  // Made, written through the page cache and, together, synced: what a restore does.
  Status MeasureSmallFiles() {
    const auto name = [&](int i) { return dir_ + "/small-" + std::to_string(i); };
    const int64_t start = SystemClock().MonotonicNanos();
    int made = 0;
    for (; made < kSmallFiles && SystemClock().MonotonicNanos() - start < nanos_; ++made) {
      ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                       PosixFs().Open(name(made), {.write = true, .create = true}));
      RETURN_IF_ERROR(file->WriteAt(0, {buffer_.data(), kSmallFile}));
    }
    RETURN_IF_ERROR(SyncFileSystem());
    result_["small_files_per_second"] = made / SecondsSince(start);
    for (int i = 0; i < made; ++i) RETURN_IF_ERROR(PosixFs().Remove(name(i)));
    return absl::OkStatus();
  }

  Status SyncFileSystem() const {
    const int fd = ::open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool synced = fd >= 0 && ::syncfs(fd) == 0;
    if (fd >= 0) ::close(fd);
    return synced ? absl::OkStatus() : absl::UnavailableError(dir_ + ": cannot be synced");
  }

  const std::string dir_;
  const int64_t nanos_;
  AlignedBuffer buffer_;
  uint64_t size_ = 0;  // Of the file, as far as it was written.
  Json result_;
};

// A directory of its own below `dir`, which `measure` gets, and which is gone afterwards.
StatusOr<Json> InOwnDirectory(const std::string& dir,
                              const std::function<StatusOr<Json>(const std::string&)>& measure) {
  const std::string own = dir + "/holdfast-bench." + std::to_string(::getpid());
  ASSIGN_OR_RETURN(const bool exists, PosixFs().Exists(own));
  if (exists) return absl::AlreadyExistsError(own + " is in the way: remove it");
  RETURN_IF_ERROR(PosixFs().CreateDir(own));
  StatusOr<Json> result = measure(own);
  const auto left = PosixFs().List(own);
  for (const std::string& name : left.ok() ? *left : std::vector<std::string>()) {
    PosixFs().Remove(own + "/" + name).IgnoreError();
  }
  const Status removed = PosixFs().Remove(own);
  if (result.ok() && !removed.ok()) return removed;
  return result;
}

// Rows as those of objects, committed as an ingest does.
StatusOr<Json> MeasureRows(const std::string& dir, double scale) {
  constexpr size_t kBatch = 4'000, kRowBytes = 580;
  const auto rows = static_cast<uint64_t>(200e3 * scale), gets = rows / 10;
  const std::string path = dir + "/rows";
  const auto key = [](uint64_t n) { return "object/" + std::to_string(n * 0x9E3779B97F4A7C15u); };
  RocksKvOptions options;
  options.encryption_key.emplace().fill(1);
  Json result;
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<Kv> kv, OpenRocksKv(path, /*create=*/true, options));
    std::string row(kRowBytes, '\0');
    int64_t start = SystemClock().MonotonicNanos();
    for (uint64_t n = 0; n < rows;) {
      KvBatch batch;
      for (; batch.size() < kBatch; ++n) {
        SecureRng().Fill({reinterpret_cast<uint8_t*>(row.data()), row.size()});
        batch.push_back({key(n), row});
      }
      RETURN_IF_ERROR(kv->Write(batch, /*sync=*/true));
    }
    result["commit_rows_per_second"] = static_cast<double>(rows) / SecondsSince(start);
    start = SystemClock().MonotonicNanos();
    for (size_t i = 0; i < gets; ++i) {
      RETURN_IF_ERROR(kv->Get(key(SecureRng().Below(rows))).status());
    }
    result["gets_per_second"] = static_cast<double>(gets) / SecondsSince(start);
    size_t seen = 0;
    start = SystemClock().MonotonicNanos();
    RETURN_IF_ERROR(kv->Scan("", "", [&](auto, auto) { return ++seen > 0; }));
    result["scan_rows_per_second"] = static_cast<double>(seen) / SecondsSince(start);
  }
  RETURN_IF_ERROR(DestroyRocksKv(path));
  return result;
}

}  // namespace

StatusOr<Json> MeasureDisk(const std::string& dir, double scale) {
  return InOwnDirectory(dir, [&](const std::string& own) { return DiskBench::Run(own, scale); });
}

StatusOr<Json> MeasureWrites(const std::string& dir, double scale) {
  return InOwnDirectory(dir,
                        [&](const std::string& own) { return DiskBench::RunWrites(own, scale); });
}

double MeasureSegmentReads(const std::string& dir, double seconds) {
  AlignedBuffer buffer(kRun);
  const int64_t start = SystemClock().MonotonicNanos();
  uint64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir, error)) {
    if (entry.path().extension() != ".seg") continue;
    const auto file = PosixFs().Open(entry.path(), {.direct = true});
    if (!file.ok()) continue;
    for (uint64_t at = 0;; at += kRun) {
      if (SecondsSince(start) > seconds) return static_cast<double>(bytes) / SecondsSince(start);
      const StatusOr<size_t> n = (*file)->ReadAt(at, {buffer.data(), kRun});
      bytes += n.ok() ? *n : 0;
      if (!n.ok() || *n < kRun) break;
    }
  }
  return static_cast<double>(bytes) / SecondsSince(start);
}

StatusOr<Json> MeasureCatalogue(const std::string& dir, double scale) {
  return InOwnDirectory(dir, [&](const std::string& own) { return MeasureRows(own, scale); });
}

}  // namespace holdfast::cli
