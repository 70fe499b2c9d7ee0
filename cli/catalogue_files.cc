#include "cli/catalogue_files.h"

#include <algorithm>

#include "coordinator/catalogue.h"

namespace holdfast::cli {
namespace {

constexpr uint64_t kMostNamed = 1000;  // More are not told one by one.

}  // namespace

StatusOr<std::string> FreeName(Fs& fs, const std::string& path) {
  std::string name = path;
  for (int i = 2;; ++i) {
    ASSIGN_OR_RETURN(bool taken, fs.Exists(name));
    if (!taken) return name;
    name = path + "-" + std::to_string(i);
  }
}

StatusOr<std::string> ReplaceCatalogue(Fs& fs, const std::string& path, const std::string& fresh) {
  std::string kept_as;
  ASSIGN_OR_RETURN(const bool had_one, fs.Exists(path));
  if (had_one) {
    ASSIGN_OR_RETURN(kept_as, FreeName(fs, path + ".damaged"));
    RETURN_IF_ERROR(fs.Rename(path, kept_as));
  }
  RETURN_IF_ERROR(fs.Rename(fresh, path));
  RETURN_IF_ERROR(fs.SyncDir(path.substr(0, path.rfind('/'))));
  return kept_as;
}

void AddCommitsOfOld(const std::string& path, const RocksKvOptions& options,
                     RebuildReport& report) {
  const StatusOr<std::unique_ptr<Kv>> kv = OpenRocksKv(path, false, options);
  if (!kv.ok()) return;
  const StatusOr<std::optional<Head>> head = Catalogue(**kv).FindHead();
  if (!head.ok() || !*head) return;
  // A number that cannot be is damage.
  const uint64_t last = std::min((*head)->number, report.last_commit + kMostNamed);
  for (uint64_t number = report.last_commit + 1; number <= last; ++number) {
    report.missing_commits.push_back(number);
  }
}

}  // namespace holdfast::cli
