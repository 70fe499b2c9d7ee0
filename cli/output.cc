#include "cli/output.h"

#include <unistd.h>

#include <cstdio>
#include <ctime>

#include "common/base/text.h"

namespace holdfast::cli {

void SetName(Json& json, const std::string& field, const std::string& name) {
  if (IsUtf8(name)) {
    json[field] = name;
  } else {
    json[field + "_b64"] = Base64(name);
  }
}

void PrintJson(const Json& json) {
  std::string line = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fflush(stdout);
}

std::string Counted(uint64_t n, const char* one, const char* many) {
  return FormatCount(n) + " " + (n == 1 ? one : many);
}

const char* KindName(ObjectType type) {
  switch (type) {
    case ObjectType::kFile:
      return "file";
    case ObjectType::kDirectory:
      return "directory";
    case ObjectType::kSymlink:
      return "symlink";
    case ObjectType::kHardLink:
      return "hardlink";
  }
  return "unknown";
}

std::string FormatTime(int64_t seconds, uint32_t nanos) {
  std::time_t t = seconds;
  std::tm tm{};
  if (gmtime_r(&t, &tm) == nullptr) return std::to_string(seconds) + "s";
  char date[40], text[64];
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
  std::snprintf(text, sizeof text, "%s.%09uZ", date, nanos);
  return text;
}

const char* FindingClassName(proto::Finding::Class c) {
  switch (c) {
    case proto::Finding::CORRUPT:
      return "corrupt";
    case proto::Finding::MISSING:
      return "missing";
    case proto::Finding::UNREADABLE:
      return "unreadable";
    case proto::Finding::FOREIGN:
      return "foreign";
    case proto::Finding::NOTE:
      return "note";
    default:
      return "unknown";
  }
}

Json FindingJson(const proto::Finding& finding) {
  Json json;
  json["type"] = "finding";
  json["class"] = FindingClassName(finding.class_());
  json["node"] = finding.node();
  if (finding.segment_number() != 0) json["segment"] = finding.segment_number();
  json["message"] = Printable(finding.text());
  return json;
}

ProgressLine::ProgressLine(bool enabled, std::function<std::string()> line)
    : line_(std::move(line)), tty_(isatty(STDERR_FILENO) != 0) {
  if (enabled) thread_ = std::thread([this] { Run(); });
}

ProgressLine::~ProgressLine() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  if (!thread_.joinable()) return;
  thread_.join();
  if (tty_) std::fputs("\r\033[K", stderr);
}

void ProgressLine::Run() {
  const absl::Duration interval = tty_ ? absl::Milliseconds(500) : absl::Seconds(10);
  absl::MutexLock lock(&mutex_);
  while (!mutex_.AwaitWithTimeout(absl::Condition(&stop_), interval)) {
    std::fprintf(stderr, tty_ ? "\r\033[K%s" : "%s\n", line_().c_str());
  }
}

std::string RateAndEta(uint64_t done, uint64_t total, bool total_known, double seconds) {
  std::string text;
  if (total_known && total > 0) text += std::to_string(done * 100 / total) + " % · ";
  double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  text += FormatBytes(static_cast<uint64_t>(rate)) + "/s";
  if (total_known && rate > 0 && total >= done) {
    text += " · " + FormatSeconds(static_cast<double>(total - done) / rate) + " left";
  }
  return text;
}

}  // namespace holdfast::cli
