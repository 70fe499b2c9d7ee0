// ingest: reads sources into a collection.
#include "client/ingest.h"

#include <chrono>
#include <cstdio>

#include "cli/commands.h"
#include "cli/job_stats.h"
#include "cli/output.h"
#include "common/base/text.h"

namespace holdfast::cli {
namespace {

// A node that restarts, or a coordinator, is back long before that.
constexpr int64_t kWaitForClusterNanos = 300LL * 1'000'000'000;

StatusOr<uint32_t> ParseDigests(const std::string& list) {
  uint32_t digests = kernels::kSha256;
  for (size_t begin = 0; begin <= list.size();) {
    size_t end = std::min(list.find(',', begin), list.size());
    std::string word = list.substr(begin, end - begin);
    if (word == "md5") {
      digests |= kernels::kMd5;
    } else if (word == "sha1") {
      digests |= kernels::kSha1;
    } else if (word != "sha256") {
      return absl::InvalidArgumentError("--digests " + Printable(list) + ": \"" + Printable(word) +
                                        "\" is none of md5, sha1, sha256");
    }
    begin = end + 1;
  }
  return digests;
}

// The command line takes no other names.
kernels::EngineKind EngineByName(const std::string& name) {
  if (name == "cuda") return kernels::EngineKind::kCuda;
  return name == "cpu" ? kernels::EngineKind::kCpu : kernels::EngineKind::kAuto;
}

class Observer : public IngestObserver {
 public:
  Observer(bool json, bool quiet) : json_(json), quiet_(quiet) {}

  void OnObject(const std::string& name, const VersionId& version, ObjectState state) override {
    if (!json_) return;
    Json line;
    line["type"] = "object";
    SetName(line, "name", name);
    line["version"] = version.hex();
    line["state"] = state == ObjectState::kStored ? "stored" : "unchanged";
    PrintJson(line);
  }

  void OnError(const std::string& name, const Status& status) override {
    std::fprintf(stderr, "holdfast: %s: %s\n", Printable(name).c_str(),
                 Printable(Message(status)).c_str());
    if (!json_) return;
    Json line;
    line["type"] = "error";
    SetName(line, "name", name);
    line["message"] = Printable(Message(status));
    PrintJson(line);
  }

  void OnWaiting(const Status& why) override {
    std::fprintf(stderr, "holdfast: waiting: nothing can be stored just now: %s\n",
                 Printable(Message(why)).c_str());
    if (json_) PrintJson(Json{{"type", "waiting"}, {"message", Printable(Message(why))}});
  }

  void OnSkipped(const std::string& name) override {
    if (!quiet_) {
      std::fprintf(stderr, "holdfast: %s: a device, socket or fifo: listed here, not stored\n",
                   Printable(name).c_str());
    }
    if (!json_) return;
    Json line;
    line["type"] = "skipped";
    SetName(line, "name", name);
    PrintJson(line);
  }

 private:
  bool json_, quiet_;
};

void PrintSummary(const IngestSummary& s, bool json) {
  double seconds = static_cast<double>(s.nanos) / 1e9;
  if (json) {
    PrintJson(Json{{"type", "summary"},
                   {"files", s.files},
                   {"directories", s.directories},
                   {"symlinks", s.symlinks},
                   {"special", s.special},
                   {"bytes", s.bytes},
                   {"unchanged", s.unchanged},
                   {"duplicates", s.duplicates},
                   {"duplicate_bytes", s.duplicate_bytes},
                   {"chunks", s.chunks},
                   {"duplicate_chunks", s.duplicate_chunks},
                   {"stored_bytes", s.stored_bytes},
                   {"seconds", seconds},
                   {"errors", s.errors}});
    return;
  }
  double rate = seconds > 0 ? static_cast<double>(s.bytes) / seconds : 0;
  std::printf("%s, %s (and %s, %s)\n", Counted(s.files, "file", "files").c_str(),
              FormatBytes(s.bytes).c_str(),
              Counted(s.directories, "directory", "directories").c_str(),
              Counted(s.symlinks, "symbolic link", "symbolic links").c_str());
  std::printf("%s, %s already stored; %s unchanged\n",
              Counted(s.duplicates, "duplicate", "duplicates").c_str(),
              FormatBytes(s.duplicate_bytes).c_str(),
              Counted(s.unchanged, "object", "objects").c_str());
  std::printf("%s stored, in %s, %s/s\n", FormatBytes(s.stored_bytes).c_str(),
              FormatSeconds(seconds).c_str(), FormatBytes(static_cast<uint64_t>(rate)).c_str());
  if (s.special > 0)
    std::printf("%s devices, sockets or fifos not stored\n", FormatCount(s.special).c_str());
  if (s.errors > 0)
    std::printf("%s could NOT be stored; they are named above\n", FormatCount(s.errors).c_str());
}

std::string ProgressText(const IngestProgress& p, double seconds) {
  uint64_t done = p.bytes_done, total = p.bytes_found;
  return FormatCount(p.files_done) + " files · " + FormatBytes(done) + " of " + FormatBytes(total) +
         (p.walk_done ? " · " : " so far · ") + FormatBytes(p.duplicate_bytes) + " duplicates · " +
         RateAndEta(done, total, p.walk_done, seconds);
}

}  // namespace

int RunIngest(const Globals& globals, const IngestArgs& args) {
  IngestOptions options;
  options.collection = args.collection;
  options.threads = args.threads;
  auto digests = ParseDigests(args.digests);
  if (!digests.ok()) return Fail(digests.status());
  options.digests = *digests;
  if (args.collection.empty() || args.collection.find('/') != std::string::npos) {
    return Fail("--to " + Printable(args.collection) + ": a collection is one name, without \"/\"",
                kExitUsage);
  }
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code);
  if (!vault) return exit_code;
  if (IsEndpoint(globals.vault)) options.wait_nanos = kWaitForClusterNanos;
  auto source = OpenPosixSource(args.sources);
  if (!source.ok()) {
    Fail(source.status());
    return absl::IsInvalidArgument(source.status()) ? kExitUsage : kExitSomeSourcesFailed;
  }
  kernels::EngineOptions engine_options = vault->vault().engine_options();
  std::string why_not;
  const auto say = [](const std::string& line) {
    std::fprintf(stderr, "holdfast: %s\n", Printable(line).c_str());
  };
  auto engine = kernels::MakeEngine(EngineByName(args.engine), engine_options, say, &why_not);
  if (!engine) return Fail(why_not, kExitUsage);
  if (!kernels::KnownAnswerTest(*engine, engine_options)) {
    return Fail("this machine computes digests wrongly (known-answer test failed): not ingesting",
                kExitFailed);
  }
  Observer observer(globals.json, globals.quiet);
  JobStats stats(args.stats);
  options.times = stats.times();
  IngestProgress progress;
  int64_t start = SystemClock().MonotonicNanos();
  StatusOr<IngestSummary> summary = absl::UnknownError("");
  {
    ProgressLine line(!globals.quiet, [&] {
      return ProgressText(progress,
                          static_cast<double>(SystemClock().MonotonicNanos() - start) / 1e9);
    });
    summary = Ingest(vault->vault(), *engine, **source, options, observer, &progress);
  }
  stats.Stop();
  Status closed = vault->Close();
  if (!summary.ok()) return Fail(summary.status());
  if (!closed.ok()) return Fail(closed);
  PrintSummary(*summary, globals.json);
  const JobWork work{.seconds = static_cast<double>(summary->nanos) / 1e9,
                     .digested = summary->bytes - summary->unchanged_bytes,
                     .known = summary->unchanged_bytes,
                     .sealed = summary->stored_bytes};
  stats.Print(work, *engine, options.digests, *vault, globals.json);
  return summary->errors > 0 ? kExitSomeSourcesFailed : kExitOk;
}

}  // namespace holdfast::cli
