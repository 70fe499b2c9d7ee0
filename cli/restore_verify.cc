// restore and verify: reading everything back.
#include <cstdio>

#include "cli/commands.h"
#include "cli/job_stats.h"
#include "cli/output.h"
#include "client/reader_bulk.h"
#include "client/restore.h"
#include "client/verify.h"
#include "common/base/text.h"

namespace holdfast::cli {
namespace {

double SecondsSince(int64_t start_nanos) {
  return static_cast<double>(SystemClock().MonotonicNanos() - start_nanos) / 1e9;
}

class PrintingRestore : public RestoreObserver {
 public:
  explicit PrintingRestore(bool json) : json_(json) {}
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
  void OnXattrsSkipped(const std::string& name, const std::string& what) override {
    std::fprintf(stderr, "holdfast: %s: restored without its extended attributes %s\n",
                 Printable(name).c_str(), what.c_str());
    if (!json_) return;
    Json line;
    line["type"] = "xattrs_skipped";
    SetName(line, "name", name);
    line["message"] = what;
    PrintJson(line);
  }

 private:
  bool json_;
};

class PrintingVerify : public VerifyObserver {
 public:
  explicit PrintingVerify(bool json) : json_(json) {}

  void OnObjectError(const std::string& collection, const std::string& name, bool lost,
                     const Status& status) override {
    const bool damage = absl::IsDataLoss(status);
    std::fprintf(stderr, "holdfast: %s: %s: %s\n", Printable(collection + "/" + name).c_str(),
                 lost     ? "LOST"
                 : damage ? "damaged, restores from another copy"
                          : "not checked",
                 Printable(Message(status)).c_str());
    if (!json_) return;
    Json line;
    line["type"] = damage ? "damage" : "unchecked";
    SetName(line, "collection", collection);
    SetName(line, "name", name);
    line["lost"] = lost;
    line["message"] = Printable(Message(status));
    PrintJson(line);
  }

  void OnFinding(const proto::Finding& finding) override {
    std::fprintf(stderr, "holdfast: %s: %s\n", FindingClassName(finding.class_()),
                 Printable(finding.text()).c_str());
    if (json_) PrintJson(FindingJson(finding));
  }

 private:
  bool json_;
};

void PrintRestoreSummary(const RestoreSummary& s, bool json) {
  double seconds = static_cast<double>(s.nanos) / 1e9;
  if (json) {
    PrintJson(Json{{"type", "summary"},
                   {"files", s.files},
                   {"directories", s.directories},
                   {"symlinks", s.symlinks},
                   {"hard_links", s.hard_links},
                   {"already_there", s.already_there},
                   {"xattrs_skipped", s.xattrs_skipped},
                   {"bytes", s.bytes},
                   {"seconds", seconds},
                   {"errors", s.errors}});
    return;
  }
  double rate = seconds > 0 ? static_cast<double>(s.bytes) / seconds : 0;
  std::printf("%s, %s, %s, %s restored\n", Counted(s.files, "file", "files").c_str(),
              Counted(s.directories, "directory", "directories").c_str(),
              Counted(s.symlinks, "symbolic link", "symbolic links").c_str(),
              Counted(s.hard_links, "hard link", "hard links").c_str());
  std::printf("%s in %s, %s/s\n", FormatBytes(s.bytes).c_str(), FormatSeconds(seconds).c_str(),
              FormatBytes(static_cast<uint64_t>(rate)).c_str());
  if (s.already_there > 0) {
    std::printf(
        "%s of them there already, with the same size and time: not written, not compared\n",
        FormatCount(s.already_there).c_str());
  }
  if (s.xattrs_skipped > 0) {
    std::printf("%s could NOT be set; they are named above\n",
                Counted(s.xattrs_skipped, "extended attribute", "extended attributes").c_str());
  }
  if (s.errors > 0) {
    std::printf("%s could NOT be restored; they are named above\n", FormatCount(s.errors).c_str());
  }
}

void PrintVerifySummary(const VerifySummary& s, bool json) {
  double seconds = static_cast<double>(s.nanos) / 1e9;
  if (json) {
    PrintJson(Json{{"type", "summary"},
                   {"objects", s.objects},
                   {"versions", s.versions},
                   {"bytes", s.bytes},
                   {"stored_bytes", s.stored_bytes},
                   {"damaged", s.damaged},
                   {"lost", s.lost},
                   {"findings", s.findings},
                   {"unchecked", s.unchecked},
                   {"seconds", seconds}});
    return;
  }
  double rate = seconds > 0 ? static_cast<double>(s.bytes) / seconds : 0;
  std::printf("%s (%s), %s decrypted and re-hashed in %s, %s/s\n",
              Counted(s.objects, "object", "objects").c_str(),
              Counted(s.versions, "version", "versions").c_str(), FormatBytes(s.bytes).c_str(),
              FormatSeconds(seconds).c_str(), FormatBytes(static_cast<uint64_t>(rate)).c_str());
  if (s.unchecked > 0) {
    std::printf(
        "NOT ALL WAS CHECKED: a copy of %s or a node's log was out of reach, as named above\n",
        Counted(s.unchecked, "object version", "object versions").c_str());
  }
  if (s.damaged == 0 && s.findings == 0) {
    if (s.unchecked > 0) return;
    std::printf("Every byte of every copy is as it was stored.\n");
    return;
  }
  std::printf("DAMAGE: %s, %s of them lost; %s elsewhere; named above\n",
              Counted(s.damaged, "object version", "object versions").c_str(),
              FormatCount(s.lost).c_str(), Counted(s.findings, "finding", "findings").c_str());
}

}  // namespace

int RunRestore(const Globals& globals, const RestoreArgs& args) {
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code);
  if (!vault) return exit_code;
  ObjectPath path = SplitPath(args.path);
  const std::unique_ptr<kernels::Engine> engine = DefaultEngine(vault->vault());
  JobStats stats(args.stats);
  RestoreOptions options{path.collection, path.name,    args.to,
                         args.threads,    engine.get(), stats.times()};
  PrintingRestore observer(globals.json);
  RestoreProgress progress;
  int64_t start = SystemClock().MonotonicNanos();
  StatusOr<RestoreSummary> summary = absl::UnknownError("");
  {
    ProgressLine line(!globals.quiet, [&] {
      return FormatCount(progress.files_done) + " of " + FormatCount(progress.objects_total) +
             " objects · " + RateAndEta(progress.bytes_done, 0, false, SecondsSince(start));
    });
    summary = Restore(vault->vault(), options, observer, &progress);
  }
  stats.Stop();
  if (!summary.ok()) return Fail(summary.status());
  PrintRestoreSummary(*summary, globals.json);
  const JobWork work{.seconds = static_cast<double>(summary->nanos) / 1e9,
                     .digested = summary->bytes,
                     .opened = summary->bytes,
                     .restored = summary->bytes,
                     .target = args.to};
  stats.Print(work, *engine, kernels::kSha256, *vault, globals.json);
  if (summary->integrity_errors > 0) return kExitIntegrity;
  return summary->errors > 0 ? kExitSomeSourcesFailed : kExitOk;
}

int RunVerify(const Globals& globals, const VerifyArgs& args) {
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code);
  if (!vault) return exit_code;
  ObjectPath path = SplitPath(args.path);
  const std::unique_ptr<kernels::Engine> engine = DefaultEngine(vault->vault());
  JobStats stats(args.stats);
  VerifyOptions options{path.collection, path.name, args.threads, engine.get(), stats.times()};
  PrintingVerify observer(globals.json);
  VerifyProgress progress;
  int64_t start = SystemClock().MonotonicNanos();
  StatusOr<VerifySummary> summary = absl::UnknownError("");
  {
    ProgressLine line(!globals.quiet, [&] {
      return FormatCount(progress.objects_done) + " of " + FormatCount(progress.objects_total) +
             " objects · " + RateAndEta(progress.bytes_done, 0, false, SecondsSince(start));
    });
    summary = Verify(vault->vault(), options, observer, &progress);
  }
  stats.Stop();
  if (!summary.ok()) return Fail(summary.status());
  PrintVerifySummary(*summary, globals.json);
  // Equal content is read once.
  const JobWork work{.seconds = static_cast<double>(summary->nanos) / 1e9,
                     .digested = std::min(summary->bytes, summary->stored_bytes),
                     .opened = summary->stored_bytes};
  stats.Print(work, *engine, kernels::kAllDigests, *vault, globals.json);
  if (summary->damaged > 0 || summary->findings > 0) {
    if (!globals.json) PrintRepairHint(globals);
    return kExitIntegrity;
  }
  return summary->unchecked > 0 ? kExitFailed : kExitOk;
}

}  // namespace holdfast::cli
