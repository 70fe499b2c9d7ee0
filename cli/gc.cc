// gc: begins a run of garbage collection, shows how it gets on, and says what it did.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "absl/strings/ascii.h"
#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/gc_text.h"
#include "cli/output.h"
#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/rpc/methods.h"

namespace holdfast::cli {
namespace {

using Report = proto::GcStatusReply;

// "7d", "12h", "30m", "45s", "0".
StatusOr<int64_t> ParseDuration(const std::string& text, const char* option) {
  size_t digits = 0;
  while (digits < text.size() && digits < 6 && text[digits] >= '0' && text[digits] <= '9') ++digits;
  const std::string unit = text.substr(digits);
  const int64_t number = digits == 0 ? -1 : std::stol(text.substr(0, digits));
  if (number == 0 && unit.empty()) return int64_t{0};
  const int64_t seconds = unit == "d"   ? 86400
                          : unit == "h" ? 3600
                          : unit == "m" ? 60
                          : unit == "s" ? 1
                                        : 0;
  constexpr int64_t kLongest = 100LL * 366 * 86400;
  if (number < 0 || seconds == 0 || number > kLongest / seconds) {
    return absl::InvalidArgumentError(std::string(option) + " " + Printable(text) +
                                      ": give a time like 7d, 12h, 30m, 45s or 0");
  }
  return number * seconds * kSecond;
}

StatusOr<proto::GcStartRequest> MakeRequest(const GcArgs& args) {
  proto::GcStartRequest request;
  request.set_dry_run(args.dry_run);
  request.set_consent(args.yes);
  request.set_sparse_only(args.sparse_only);
  ASSIGN_OR_RETURN(const int64_t undo, ParseDuration(args.undo_window, "--undo-window"));
  ASSIGN_OR_RETURN(const int64_t grace, ParseDuration(args.grace, "--grace"));
  request.set_undo_window_nanos(undo);
  request.set_grace_nanos(grace);
  return request;
}

Json ReportJson(const Report& report) {
  Json json = {{"type", "gc"},
               {"run", report.run()},
               {"dry_run", report.dry_run()},
               {"purged_versions", report.purged_versions()},
               {"versions", report.versions()},
               {"marked_records", report.marked_records()},
               {"listed_records", report.listed_records()},
               {"listed_bytes", report.listed_bytes()},
               {"trashed_records", report.trashed_records()},
               {"trashed_bytes", report.trashed_bytes()},
               {"surplus_records", report.surplus_records()},
               {"held_records", report.held_records()},
               {"kept_records", report.kept_records()},
               {"in_trash_records", report.in_trash_records()},
               {"in_trash_bytes", report.in_trash_bytes()},
               {"due_records", report.due_records()},
               {"needs_consent", report.needs_consent()},
               {"freed_records", report.freed_records()},
               {"freed_segments", report.freed_segments()},
               {"freed_bytes", report.freed_bytes()},
               {"copied_bytes", report.copied_bytes()},
               {"mark_memory_bytes", report.peak_mark_bytes()},
               {"took", Json::array()},
               {"notes", Json::array()}};
  for (const Report::PhaseTime& phase : report.took()) {
    json["took"].push_back({{"phase", absl::AsciiStrToLower(Report::Phase_Name(phase.phase()))},
                            {"seconds", static_cast<double>(phase.nanos()) / kSecond}});
  }
  for (const std::string& note : report.notes()) json["notes"].push_back(note);
  if (!report.error().empty()) json["error"] = report.error();
  return json;
}

void Row(const char* what, const std::string& value) {
  std::printf("  %-28s %s\n", what, value.c_str());
}

std::string RecordsAndBytes(uint64_t records, uint64_t bytes) {
  return Counted(records, "record", "records") + ", " + FormatBytes(bytes);
}

std::string Title(const Report& report) {
  if (report.dry_run()) return "garbage collection: what a run would do now";
  const std::string title = "garbage collection, run " + std::to_string(report.run());
  return report.phase() == Report::FAILED ? title + ", as far as it came" : title;
}

void PrintReport(const Report& report) {
  const bool dry = report.dry_run();
  const bool swept = std::any_of(report.took().begin(), report.took().end(),
                                 [](const auto& phase) { return phase.phase() == Report::SWEEP; });
  std::printf("%s\n", Title(report).c_str());
  Row(dry ? "would be purged" : "purged, of what was removed",
      Counted(report.purged_versions(), "version", "versions"));
  Row("needed", Counted(report.marked_records(), "record", "records") + " of " +
                    Counted(report.versions(), "version", "versions"));
  Row("on the nodes, all copies", RecordsAndBytes(report.listed_records(), report.listed_bytes()));
  Row("in the trash before", RecordsAndBytes(report.in_trash_records(), report.in_trash_bytes()));
  Row(swept ? "went into the trash" : "would go into the trash",
      RecordsAndBytes(report.trashed_records(), report.trashed_bytes()));
  if (report.surplus_records() > 0) {
    Row("  needed elsewhere only", Counted(report.surplus_records(), "copy", "copies"));
  }
  if (report.held_records() > 0) {
    Row("stays for running ingests", Counted(report.held_records(), "record", "records"));
  }
  if (report.kept_records() > 0) {
    Row("taken out of the trash", Counted(report.kept_records(), "record", "records"));
  }
  if (dry) {
    Row("would be let go of for good", Counted(report.due_records(), "record", "records"));
    if (report.needs_consent()) Row("would be refused", "so much goes with --yes only");
  }
  if (swept) {
    Row("let go of for good", Counted(report.freed_records(), "record", "records"));
    Row("segments given back", Counted(report.freed_segments(), "segment", "segments") + ", " +
                                   FormatBytes(report.freed_bytes()) + " (" +
                                   FormatBytes(report.copied_bytes()) + " of it copied)");
  }
}

// Asks until the run has ended.
StatusOr<Report> Follow(Transport& transport, bool show) {
  absl::Mutex mutex;
  std::string line = "garbage collection";
  const ProgressLine progress(show, [&] {
    absl::MutexLock lock(&mutex);
    return line;
  });
  uint64_t run = 0;  // Known after its census.
  for (int64_t pause = 5;; pause = std::min<int64_t>(2 * pause, 500)) {
    ASSIGN_OR_RETURN(const Report report, Ask<Report>(transport, kCoordinatorAddress,
                                                      rpc::kGcStatus, proto::GcStatusRequest()));
    if (report.phase() == Report::PHASE_UNSPECIFIED) {
      return absl::UnavailableError("the coordinator started anew meanwhile: run gc again");
    }
    if (run != 0 && report.run() != run) {
      return absl::UnavailableError("run " + std::to_string(run) +
                                    " is over, and another one was begun: run gc again");
    }
    run = report.run();
    if (report.phase() == Report::DONE || report.phase() == Report::FAILED) return report;
    {
      absl::MutexLock lock(&mutex);
      line = GcProgress(report);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(pause));
  }
}

int StopRun(Transport& transport) {
  auto stopped =
      Ask<proto::GcStopReply>(transport, kCoordinatorAddress, rpc::kGcStop, proto::GcStopRequest());
  if (!stopped.ok()) return Fail(stopped.status());
  // It is as was asked for: no failure.
  if (!stopped->was_running()) std::fprintf(stderr, "holdfast: no run is under way\n");
  return kExitOk;
}

int Show(const Report& report, const Globals& globals) {
  const bool failed = report.phase() == Report::FAILED;
  const bool found = report.purged_versions() > 0 || report.versions() > 0;
  if (globals.json) {
    PrintJson(ReportJson(report));
  } else if (!failed || found) {
    PrintReport(report);
  }
  for (const std::string& note : report.notes()) {
    std::fprintf(stderr, "holdfast: %s\n", Printable(note).c_str());
  }
  if (!failed) return report.notes().empty() ? kExitOk : kExitSomeSourcesFailed;
  const bool damage = report.code() == static_cast<int>(absl::StatusCode::kDataLoss);
  return Fail(report.error(), damage ? kExitIntegrity : kExitFailed);
}

}  // namespace

int RunGc(const Globals& globals, const GcArgs& args) {
  StatusOr<proto::GcStartRequest> request = MakeRequest(args);
  if (!request.ok()) return Fail(request.status());
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code);
  if (!vault) return exit_code;
  if (!IsEndpoint(globals.vault) && !vault->vault().key().can_read()) {
    return Fail("this key can ingest and list, but not collect; use the vault's full key file",
                kExitAccess);
  }
  Transport& transport = vault->vault().transport();
  if (args.stop) return StopRun(transport);
  auto started = Ask<proto::GcStartReply>(transport, kCoordinatorAddress, rpc::kGcStart, *request);
  if (!started.ok()) return Fail(started.status());
  if (started->already_running() && !SameGcOptions(started->request(), *request)) {
    return Fail("a run that was begun with `" + GcOptions(started->request()) +
                    "` is under way: wait for it, or end it with `holdfast gc --stop`",
                kExitBusy);
  }
  if (started->already_running()) {
    std::fprintf(stderr, "holdfast: a run is under way already; this is how it gets on\n");
  }
  const StatusOr<Report> report = Follow(transport, !globals.quiet && !globals.json);
  return report.ok() ? Show(*report, globals) : Fail(report.status());
}

}  // namespace holdfast::cli
