// bench: measures this machine, and of a cluster the way to its nodes, for whoever plans with it.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "cli/arguments.h"
#include "cli/bench_parts.h"
#include "cli/commands.h"
#include "common/base/clock.h"
#include "common/base/text.h"

namespace holdfast::cli {
namespace {

constexpr int kVersion = 1;  // docs/formats/machine-profile.md

std::string Rate(const Json& bytes_per_second) {
  return FormatBytes(static_cast<uint64_t>(bytes_per_second.get<double>())) + "/s";
}

std::string Count(const Json& per_second) {
  return FormatCount(static_cast<uint64_t>(per_second.get<double>())) + "/s";
}

std::string Millis(const Json& seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f ms", seconds.get<double>() * 1e3);
  return text;
}

void Line(const std::string& what, const std::string& value) {
  std::printf("  %-36s %s\n", what.c_str(), value.c_str());
  std::fflush(stdout);
}

void PrintCpu(const Json& cpu) {
  std::printf("kernels, one core\n");
  for (const Json& rate : cpu["kernels"]) {
    Line(rate["path"].get<std::string>() + ", " + rate["algorithm"].get<std::string>(),
         Rate(rate["bytes_per_second"]));
  }
  std::printf("chunks, one core\n");
  for (const Json& row : cpu["sealing"]) {
    Line(FormatBytes(row["chunk_bytes"]) + ": sealed, opened",
         Rate(row["seal_bytes_per_second"]) + ", " + Rate(row["open_bytes_per_second"]));
    Line("  checksums, identities",
         Rate(row["checksum_bytes_per_second"]) + ", " + Count(row["identities_per_second"]));
  }
  for (const Json& engine : cpu["engines"]) {
    std::printf("engine %s: files of a size, cut and digested\n",
                engine["name"].get<std::string>().c_str());
    for (const Json& row : engine["rows"]) {
      Line(FormatBytes(row["file_bytes"]) + ", " + row["digests"].get<std::string>() + ", " +
               Counted(row["callers"], "caller", "callers"),
           Rate(row["bytes_per_second"]));
    }
  }
}

void PrintDisk(const Json& disk) {
  std::printf("disk of %s\n", Printable(disk["directory"].get<std::string>()).c_str());
  Line("written, synced after each 8 MiB", Rate(disk["log_bytes_per_second"]));
  Line("written, synced at the end", Rate(disk["write_bytes_per_second"]));
  Line("read", Rate(disk["read_bytes_per_second"]));
  Line("random reads of 4 KiB; 8 at once",
       Count(disk["random_reads_per_second"]) + "; " + Count(disk["random_reads_per_second_8"]));
  Line("a small write and sync, half; 99 %",
       Millis(disk["sync_seconds_p50"]) + "; " + Millis(disk["sync_seconds_p99"]));
  Line("files of 15 kB made and synced", Count(disk["small_files_per_second"]));
  std::printf("catalogue there\n");
  Line("rows committed, 4,000 at a time", Count(disk["catalogue"]["commit_rows_per_second"]));
  Line("rows read one by one", Count(disk["catalogue"]["gets_per_second"]));
  Line("rows listed", Count(disk["catalogue"]["scan_rows_per_second"]));
}

void PrintNetwork(const Json& network) {
  std::printf("nodes\n");
  for (const Json& node : network) {
    const std::string name = "node " + std::to_string(node["node"].get<uint32_t>()) + " at " +
                             Printable(node["endpoint"].get<std::string>());
    if (node.contains("error")) {
      Line(name, Printable(node["error"].get<std::string>()));
      continue;
    }
    Line(name + ": there and back, half; 99 %",
         Millis(node["round_trip_seconds_p50"]) + "; " + Millis(node["round_trip_seconds_p99"]));
    Line("  bytes to it, from it",
         Rate(node["put_bytes_per_second"]) + ", " + Rate(node["get_bytes_per_second"]));
  }
}

StatusOr<Json> MeasureDiskAndCatalogue(const std::string& dir, double scale) {
  ASSIGN_OR_RETURN(Json disk, MeasureDisk(dir, scale));
  ASSIGN_OR_RETURN(disk["catalogue"], MeasureCatalogue(dir, scale));
  ASSIGN_OR_RETURN(disk["directory"], AbsolutePath(dir));
  return disk;
}

// The whole profile; printed as it comes unless JSON is wanted.
StatusOr<Json> Measure(const Globals& globals, const BenchArgs& args, OpenedVault* cluster) {
  const double scale = args.quick ? 0.05 : 1;
  Json profile{{"type", "machine-profile"}, {"version", kVersion}, {"quick", args.quick}};
  profile["machine"] = DescribeMachine();
  profile["machine"]["measured"] = FormatTime(SystemClock().WallNanos() / kSecond, 0);
  if (cluster != nullptr) {
    ASSIGN_OR_RETURN(profile["network"],
                     MeasureNetwork(cluster->vault().transport(), cluster->nodes(), scale));
    if (!globals.json) PrintNetwork(profile["network"]);
  }
  profile["cpu"] = MeasureCpu(scale);
  if (!globals.json) PrintCpu(profile["cpu"]);
  ASSIGN_OR_RETURN(profile["disk"], MeasureDiskAndCatalogue(args.dir, scale));
  if (!globals.json) PrintDisk(profile["disk"]);
  return profile;
}

// Said before half a minute's work.
Status CheckWritable(const std::string& dir) {
  if (::access(dir.c_str(), W_OK | X_OK) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("cannot write in ", Printable(dir), ": ", std::strerror(errno)));
}

Status CheckPlaces(const BenchArgs& args) {
  RETURN_IF_ERROR(CheckWritable(args.dir));
  if (args.out.empty()) return absl::OkStatus();
  const std::filesystem::path place = std::filesystem::path(args.out).parent_path();
  return CheckWritable(place.empty() ? "." : place.string());
}

}  // namespace

int RunBench(const Globals& globals, const BenchArgs& args) {
  std::unique_ptr<OpenedVault> cluster;
  if (IsEndpoint(globals.vault)) {
    int exit_code = 0;
    cluster = OpenVault(globals, &exit_code);
    if (!cluster) return exit_code;
  }
  const StatusOr<SpaceInfo> there = PosixFs().Space(args.dir);
  if (!there.ok()) return Fail(there.status());
  if (Status places = CheckPlaces(args); !places.ok()) return Fail(places);
  const StatusOr<Json> profile = Measure(globals, args, cluster.get());
  if (!profile.ok()) return Fail(profile.status());
  if (globals.json) PrintJson(*profile);
  if (args.out.empty()) return kExitOk;
  const std::string text = profile->dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  const Status written = WriteFileAtomically(PosixFs(), args.out, AsBytes(text));
  return written.ok() ? kExitOk : Fail(written);
}

}  // namespace holdfast::cli
