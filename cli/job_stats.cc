#include "cli/job_stats.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "cli/bench_parts.h"
#include "cli/context.h"
#include "common/base/text.h"
#include "kernels/measure.h"

namespace holdfast::cli {
namespace {

constexpr double kMeasureSeconds = 0.1;
constexpr double kDiskScale = 0.3;  // Of the three seconds that bench takes for each of two.
constexpr double kReadSeconds = 0.7;
constexpr size_t kFile = 330u << 10;
constexpr size_t kChunk = 512u << 10;

// Of a thread: what it calls itself, and its time on a processor, which the kernel has in
// nanoseconds.
std::pair<std::string, double> ReadThread(const std::filesystem::path& task) {
  std::string name;
  double nanos = 0;
  std::ifstream comm(task / "comm"), schedstat(task / "schedstat");
  if (!std::getline(comm, name) || !(schedstat >> nanos)) return {};
  return {name, nanos / kSecond};
}

// Of this process's threads, the main one left out, summed by name.
std::map<std::string, double> ThreadSeconds() {
  std::map<std::string, double> seconds;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error)) {
    if (task.path().filename() == std::to_string(::getpid())) continue;
    const auto [name, used] = ReadThread(task.path());
    if (!name.empty() && used > 0) seconds[name] += used;
  }
  return seconds;
}

// Directories of its nodes, as far as they are in this process.
std::vector<std::string> DisksOf(const OpenedVault& vault) {
  std::vector<std::string> disks;
  for (const OpenedVault::NodeState& node : vault.nodes()) {
    if (!IsEndpoint(node.path)) disks.push_back(node.path);
  }
  return disks;
}

// Seconds of each part, and of what is the longest way through: processors work while disks do.
Json Floor(const JobWork& work, kernels::Engine& engine, uint32_t digests,
           const OpenedVault& vault) {
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  const std::vector<std::string> disks = DisksOf(vault);
  const auto disk_count = static_cast<double>(disks.size());
  Json floor;
  double processors = 0, disk = 0;
  const auto add = [&](const char* what, uint64_t bytes, double rate, double& sum) {
    if (bytes == 0 || rate <= 0) return;
    floor["parts"].push_back({{"part", what}, {"bytes", bytes}, {"bytes_per_second", rate}});
    sum += static_cast<double>(bytes) / rate;
  };
  const SealingRates sealing = MeasureSealing(kChunk, kMeasureSeconds);
  const auto cut = [&](const char* what, uint64_t bytes, uint32_t with) {
    if (bytes == 0) return;
    add(what, bytes, kernels::MeasureEngine(engine, cores, with, kFile, 2 * kMeasureSeconds),
        processors);
  };
  cut("cut and digest", work.digested, digests);
  cut("cut", work.known, 0);
  add("seal", work.sealed, sealing.seal * cores, processors);
  add("open", work.opened, sealing.open * cores, processors);
  add("checksum", work.sealed + work.opened, sealing.checksum * cores, processors);
  const auto write = [&](const char* what, uint64_t bytes, const std::string& dir, const char* rate,
                         double at_once) {
    if (bytes == 0) return;
    const StatusOr<Json> writes = MeasureWrites(dir, kDiskScale);
    if (writes.ok()) add(what, bytes, at_once * (*writes)[rate].get<double>(), disk);
  };
  if (!disks.empty()) {
    write("write the log", work.sealed * vault.replicas(), disks[0], "log_bytes_per_second",
          disk_count);
    add("read the log", work.opened, disk_count * MeasureSegmentReads(disks[0], kReadSeconds),
        disk);
  }
  write("write the files", work.restored, work.target, "write_bytes_per_second", 1);
  floor["processors_seconds"] = processors;
  floor["disk_seconds"] = disk;
  floor["seconds"] = std::max(processors, disk);
  return floor;
}

std::string PerSecond(double bytes_per_second) {
  return FormatBytes(static_cast<uint64_t>(bytes_per_second)) + "/s";
}

void PrintStages(const Json& threads) {
  std::printf("stages of each worker: seconds, and of them on a processor\n");
  std::vector<std::string> names;
  for (const Json& thread : threads) {
    for (const Json& stage : thread) {
      const std::string name = stage["stage"];
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
  }
  for (const std::string& name : names) {
    std::printf("  %-22s", name.c_str());
    for (const Json& thread : threads) {
      const auto at = std::find_if(thread.begin(), thread.end(),
                                   [&](const Json& stage) { return stage["stage"] == name; });
      if (at == thread.end()) {
        std::printf("  %12s", "");
      } else {
        std::printf("  %5.2f (%.2f)", (*at)["seconds"].get<double>(),
                    (*at)["cpu_seconds"].get<double>());
      }
    }
    std::printf("\n");
  }
}

void PrintFloor(const Json& floor, double seconds) {
  const double best = floor["seconds"];
  if (best <= 0) return;
  std::printf("at best here: %.2f s (processors %.2f, disk %.2f); this took %.2f times that\n",
              best, floor["processors_seconds"].get<double>(), floor["disk_seconds"].get<double>(),
              seconds / best);
  for (const Json& part : floor["parts"]) {
    std::printf("  %-22s  %s at %s\n", part["part"].get<std::string>().c_str(),
                FormatBytes(part["bytes"]).c_str(), PerSecond(part["bytes_per_second"]).c_str());
  }
}

}  // namespace

void JobStats::Stop() {
  if (!wanted_) return;
  cpu_seconds_ = ProcessCpuSeconds();
  others_ = Json::object();
  for (const auto& [name, seconds] : ThreadSeconds()) others_[name] = seconds;
}

Json JobStats::Stages() const {
  Json threads = Json::array();
  for (const std::vector<StageTime>& times : times_.threads()) {
    Json thread = Json::array();
    for (const StageTime& time : times) {
      thread.push_back({{"stage", time.stage},
                        {"seconds", static_cast<double>(time.wall_nanos) / kSecond},
                        {"cpu_seconds", static_cast<double>(time.cpu_nanos) / kSecond}});
    }
    if (!thread.empty()) threads.push_back(std::move(thread));
  }
  return threads;
}

void JobStats::Print(const JobWork& work, kernels::Engine& engine, uint32_t digests,
                     const OpenedVault& vault, bool json) const {
  if (!wanted_) return;
  const Json threads = Stages();
  const Json floor = Floor(work, engine, digests, vault);
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  if (json) {
    return PrintJson(Json{{"type", "stats"},
                          {"seconds", work.seconds},
                          {"cores", cores},
                          {"cpu_seconds", cpu_seconds_},
                          {"workers", threads},
                          {"other_threads", others_},
                          {"floor", floor}});
  }
  PrintStages(threads);
  std::printf("other threads, seconds on a processor:");
  for (const auto& [name, seconds] : others_.items()) {
    if (seconds >= 0.005) std::printf(" %s %.2f", name.c_str(), seconds.get<double>());
  }
  std::printf("\nall: %.2f of the %.2f that %u cores have in %.2f s\n", cpu_seconds_,
              cores * work.seconds, cores, work.seconds);
  PrintFloor(floor, work.seconds);
}

}  // namespace holdfast::cli
