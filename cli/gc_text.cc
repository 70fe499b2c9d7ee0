#include "cli/gc_text.h"

#include "common/base/clock.h"
#include "common/base/text.h"

namespace holdfast::cli {
namespace {

using Report = proto::GcStatusReply;

const char* PhaseName(const Report& report) {
  switch (report.phase()) {
    case Report::BEGIN:
      return "asking the nodes";
    case Report::PURGE:
      return "purging what was removed";
    case Report::MARK:
      return "marking what is needed";
    case Report::SURVEY:
      return "looking at what is there";
    case Report::SWEEP:
      return "sweeping";
    case Report::COMPACT:
      return "compacting";
    default:
      return "done";
  }
}

std::string Duration(int64_t nanos) {
  const int64_t seconds = nanos / kSecond;
  if (seconds == 0) return "0";
  if (seconds % 86400 == 0) return std::to_string(seconds / 86400) + "d";
  if (seconds % 3600 == 0) return std::to_string(seconds / 3600) + "h";
  if (seconds % 60 == 0) return std::to_string(seconds / 60) + "m";
  return std::to_string(seconds) + "s";
}

}  // namespace

std::string GcProgress(const Report& report) {
  std::string line = PhaseName(report);
  const uint64_t done = report.done(), total = report.total();
  if (report.phase() == Report::PURGE && done > 0) {
    return line + " · " + FormatCount(done) + (done == 1 ? " version" : " versions");
  }
  if (total == 0 || done > total) return line;
  line += " · " + std::to_string(100 * done / total) + " %";
  if (done == 0) return line;
  const double seconds = static_cast<double>(report.phase_nanos()) / kSecond;
  const double left = seconds / static_cast<double>(done) * static_cast<double>(total - done);
  return line + " · " + FormatSeconds(left) + " left";
}

std::string GcOptions(const proto::GcStartRequest& request) {
  std::string text = request.dry_run() ? "--dry-run " : "";
  text += "--undo-window " + Duration(request.undo_window_nanos());
  text += " --grace " + Duration(request.grace_nanos());
  if (request.sparse_only()) text += " --sparse-only";
  if (request.consent()) text += " --yes";
  return text;
}

bool SameGcOptions(const proto::GcStartRequest& a, const proto::GcStartRequest& b) {
  return a.SerializeAsString() == b.SerializeAsString();
}

}  // namespace holdfast::cli
