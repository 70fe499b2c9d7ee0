// What a person or a script sees: JSON lines and progress. stdout is data; progress is stderr.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "client/vault.h"
#include "nlohmann/json.hpp"

namespace holdfast::cli {

using Json = nlohmann::ordered_json;

// Sets `field` to the name, or `field`_b64 when the name is not UTF-8.
void SetName(Json& json, const std::string& field, const std::string& name);
// One line on stdout, flushed.
void PrintJson(const Json& json);
const char* KindName(ObjectType type);
// "1 copy", "1,200 copies".
std::string Counted(uint64_t n, const char* one, const char* many);
// "2026-11-22T08:15:00.123456789Z"
std::string FormatTime(int64_t seconds, uint32_t nanos);
Json FindingJson(const proto::Finding& finding);
const char* FindingClassName(proto::Finding::Class c);

// Calls `line()` and shows it on stderr: twice a second over one line on a terminal, else once in
// ten seconds. Does nothing when `enabled` is false.
class ProgressLine {
 public:
  ProgressLine(bool enabled, std::function<std::string()> line);
  ~ProgressLine();

 private:
  void Run();
  std::function<std::string()> line_;
  bool tty_ = false;
  absl::Mutex mutex_;
  bool stop_ = false;
  std::thread thread_;
};

// "42 % · 1.20 GiB/s · 3.2 s left", from a fraction in bytes.
std::string RateAndEta(uint64_t done, uint64_t total, bool total_known, double seconds);

}  // namespace holdfast::cli
