#include "kernels/bench/report.h"

#include <sys/utsname.h>

#include <cstdio>
#include <ctime>
#include <fstream>
#include <thread>
#include <utility>

#include "kernels/cpu/code.h"

namespace holdfast::kernels {
namespace {

std::string Model() {
  std::string line;
  std::ifstream info("/proc/cpuinfo");
  while (std::getline(info, line)) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown CPU";
}

std::string Today() {
  char text[32];
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  std::strftime(text, sizeof text, "%Y-%m-%d", gmtime_r(&now, &parts));
  return text;
}

template <class... Values>
std::string Format(const char* format, const Values&... values) {
  char text[400];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

}  // namespace

Report::Report(std::string json_file) : json_file_(std::move(json_file)) {
  utsname system{};
  uname(&system);
  const std::string model = Model(), streams(BestStreamCode().name);
  const CpuFeatures cpu = ThisCpu();
  const unsigned cores = std::thread::hardware_concurrency();
#if defined(__OPTIMIZE__)
  const char* build = "optimised";
#else
  const char* build = "NOT OPTIMISED";
#endif
  Add(Format("%s, %u cores, %s %s, %s; avx2 %d, avx512 %d, sha %d; streams by %s; compiler %s, %s",
             model.c_str(), cores, system.sysname, system.release, Today().c_str(), cpu.avx2,
             cpu.avx512, cpu.sha, streams.c_str(), __VERSION__, build),
      Format(R"({"machine": "%s", "cores": %u, "kernel": "%s", "date": "%s", "streams": "%s", )"
             R"("compiler": "%s", "build": "%s"})",
             model.c_str(), cores, system.release, Today().c_str(), streams.c_str(), __VERSION__,
             build));
}

void Report::Device(const std::string& name, size_t memory_bytes, double peak_operations) {
  Add(Format("%s, %.1f GiB, %.2f T integer operations/s at best", name.c_str(),
             static_cast<double>(memory_bytes) / (1 << 30), peak_operations / 1e12),
      Format(R"({"device": "%s", "memory_bytes": %zu, "peak_operations": %.4g})", name.c_str(),
             memory_bytes, peak_operations));
}

void Report::Row(const std::string& path, const std::string& what, size_t count, size_t bytes,
                 double gb_per_s, double roofline) {
  const std::string share =
      roofline > 0 ? Format(", %.0f %% of %.0f", 100 * gb_per_s / roofline, roofline) : "";
  const std::string json = roofline > 0 ? Format(R"(, "roofline": %.1f)", roofline) : "";
  Add(Format("%-10s %-24s %6zu x %9zu  %8.3f GB/s%s", path.c_str(), what.c_str(), count, bytes,
             gb_per_s, share.c_str()),
      Format(R"({"path": "%s", "what": "%s", "count": %zu, "bytes": %zu, "gb_per_s": %.4f%s})",
             path.c_str(), what.c_str(), count, bytes, gb_per_s, json.c_str()));
}

void Report::Rate(const std::string& path, const std::string& what, size_t count, double millions) {
  Add(Format("%-10s %-24s %18zu  %8.1f million/s", path.c_str(), what.c_str(), count, millions),
      Format(R"({"path": "%s", "what": "%s", "count": %zu, "millions_per_s": %.3f})", path.c_str(),
             what.c_str(), count, millions));
}

void Report::Add(const std::string& line, const std::string& json) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
  json_ += (json_.empty() ? "" : ",\n") + json;
  if (!json_file_.empty()) std::ofstream(json_file_) << "[\n" << json_ << "\n]\n";
}

}  // namespace holdfast::kernels
