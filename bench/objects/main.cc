// What a vault in a directory is like with many objects: they are ingested as `holdfast ingest`
// does it, but from a source that lies in no file system: each a file of one small chunk, all
// different.
//
//   holdfast-objects DIR --objects 10000000
//
// Then names are looked up and listed at random places, contents read back and compared, and all is
// closed and opened again. JSON on stdout.
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "bench/bench.h"
#include "cli/embedded.h"
#include "client/ingest.h"
#include "client/reader.h"

namespace holdfast {
namespace {

using Json = nlohmann::json;

constexpr char kCollection[] = "case";
constexpr size_t kQuestions = 2000;
constexpr size_t kPage = 1000;

double Seconds() { return static_cast<double>(SystemClock().MonotonicNanos()) / kSecond; }

// Bytes that do not compress, and that no other object has (SplitMix64 from the number on).
void Content(uint64_t object, MutableBytes out) {
  uint64_t state = object << 24;
  for (size_t at = 0; at < out.size(); at += 8) {
    uint64_t word = state += 0x9E3779B97F4A7C15u;
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9u;
    word = (word ^ word >> 27) * 0x94D049BB133111EBu;
    word ^= word >> 31;
    std::memcpy(out.data() + at, &word, std::min<size_t>(8, out.size() - at));
  }
}

class ManyFiles : public Source {
 public:
  ManyFiles(uint64_t count, size_t size) : count_(count), size_(size) {}

  std::optional<SourceEntry> Next() override {
    if (next_ == count_) return std::nullopt;
    SourceEntry entry;
    entry.stamp = {.size = size_, .inode = next_};
    entry.name = NameOf(next_++);
    return entry;
  }
  StatusOr<std::unique_ptr<SourceFile>> Open(SourceEntry& entry) override {
    return std::make_unique<File>(entry.stamp);
  }

 private:
  class File : public SourceFile {
   public:
    explicit File(const FileStamp& stamp) : stamp_(stamp) {}
    StatusOr<size_t> ReadAt(uint64_t offset, MutableBytes out) override {
      if (offset != 0) return absl::UnimplementedError("it is read at once");
      const size_t n = std::min<uint64_t>(out.size(), stamp_.size);
      Content(stamp_.inode, out.first(n));
      return n;
    }
    StatusOr<FileStamp> Stamp() override { return stamp_; }

   private:
    const FileStamp stamp_;
  };

  const uint64_t count_;
  const size_t size_;
  uint64_t next_ = 0;
};

// Objects a second, of each tenth: compaction comes in waves, and grows with what is there.
class Rates : public IngestObserver {
 public:
  explicit Rates(uint64_t objects) : objects_(objects) {}
  void OnObject(const std::string&, const VersionId&, ObjectState) override {
    if (++done_ * 10 / objects_ == tenths_.size()) return;
    const double now = Seconds();
    tenths_.push_back(static_cast<double>(objects_) / 10 / (now - since_));
    since_ = now;
  }
  void OnError(const std::string&, const Status& status) override { Must(status); }
  const std::vector<double>& tenths() const { return tenths_; }

 private:
  const uint64_t objects_;
  uint64_t done_ = 0;
  double since_ = Seconds();
  std::vector<double> tenths_;
};

// Of this process, in bytes: "VmRSS" now, "VmHWM" at most.
uint64_t Memory(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stoull(line.substr(field.size() + 1)) << 10;
  }
  return 0;
}

uint64_t Allocated(const std::filesystem::path& dir) {
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir)) {
    struct stat s;
    if (::lstat(entry.path().c_str(), &s) == 0) bytes += uint64_t(s.st_blocks) * 512;
  }
  return bytes;
}

class Bench {
 public:
  Bench(std::string dir, uint64_t objects, size_t size)
      : dir_(std::move(dir)), objects_(objects), size_(size) {
    key_ = Must(GenerateKeyFile(SecureRng(), SecureRng().NewId<VaultId>()));
    Must(cli::EmbeddedVault::Init({.dir = dir_}, key_));
    Open();
  }

  Json Run() {
    Json result{{"objects", objects_}, {"content_bytes", size_}};
    result["rss_empty_bytes"] = Memory("VmRSS");
    Fill(result);
    result["rss_bytes"] = Memory("VmRSS");
    result["peak_rss_bytes"] = Memory("VmHWM");
    result["questions"] = Ask();
    Must(vault_->Close());
    vault_.reset();
    const double from = Seconds();
    Open();
    Lookup(0);
    result["open_s"] = Seconds() - from;
    result["questions_after_open"] = Ask();
    result["rss_after_open_bytes"] = Memory("VmRSS");
    Must(vault_->Close());
    vault_.reset();
    result["catalogue_bytes"] = Allocated(dir_ + "/catalogue");
    result["index_bytes"] = Allocated(dir_ + "/node-0/index");
    result["log_bytes"] = Allocated(dir_ + "/node-0/segments");
    return result;
  }

 private:
  void Open() {
    cli::OpenError error;
    vault_ = cli::EmbeddedVault::Open(dir_, key_, /*door=*/false, &error);
    if (vault_ == nullptr) Must(error.status);
  }

  void Fill(Json& result) {
    const auto engine = kernels::MakeCpuEngine(vault_->vault().engine_options());
    ManyFiles source(objects_, size_);
    Rates rates(objects_);
    const double from = Seconds();
    Must(Ingest(vault_->vault(), *engine, source, {.collection = kCollection}, rates));
    result["objects_per_s"] = static_cast<double>(objects_) / (Seconds() - from);
    result["tenths_per_s"] = rates.tenths();
  }

  void Lookup(uint64_t n) { (void)Must(vault_->vault().Lookup(kCollection, NameOf(n))); }

  void List(uint64_t n) {
    const Vault::ListOptions options{.with_manifests = false, .limit = kPage};
    (void)Must(vault_->vault().List(kCollection, options, NameOf(n)));
  }

  void Read(uint64_t n) {
    Vault& vault = vault_->vault();
    const auto object = Must(vault.OpenObject(Must(vault.Lookup(kCollection, NameOf(n)))));
    Buffer got, want(size_);
    Must(ReadObject(vault, object, 0, size_, [&](Bytes bytes) {
      got.insert(got.end(), bytes.begin(), bytes.end());
      return absl::OkStatus();
    }));
    Content(n, want);
    if (got != want) Must(absl::DataLossError(NameOf(n) + " has other content"));
  }

  Json Ask() {
    return {{"lookup", Times([&](uint64_t n) { Lookup(n); })},
            {"list_1000_names", Times([&](uint64_t n) { List(n); })},
            {"read", Times([&](uint64_t n) { Read(n); })}};
  }

  Json Times(const std::function<void(uint64_t)>& question) {
    std::vector<double> millis;
    for (size_t i = 0; i < kQuestions; ++i) {
      const uint64_t n = SecureRng().Below(objects_);
      const double from = Seconds();
      question(n);
      millis.push_back((Seconds() - from) * 1e3);
    }
    std::ranges::sort(millis);
    return {{"p50_ms", millis[kQuestions / 2]}, {"p99_ms", millis[kQuestions * 99 / 100]}};
  }

  const std::string dir_;
  const uint64_t objects_;
  const size_t size_;
  KeyFile key_;
  std::unique_ptr<cli::EmbeddedVault> vault_;
};

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  CLI::App app("What a vault is like with many objects");
  std::string dir;
  uint64_t objects = 1'000'000;
  size_t size = 1000;
  app.add_option("DIR", dir, "A new directory, on the disk to measure")->required();
  app.add_option("--objects", objects, "How many are ingested")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--size", size, "Bytes of each, 1 to 65536")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto result = holdfast::Bench(dir, objects, size).Run();
  std::printf("%s\n", result.dump(2).c_str());
  return 0;
}
