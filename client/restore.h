// Restore: writes objects back as files, in parallel, and sets what the source had.
#pragma once

#include <atomic>

#include "client/vault.h"

namespace holdfast {

struct RestoreOptions {
  std::string collection;
  std::string prefix;       // By path component; empty: all.
  std::string to;           // Directory; made if it is not there.
  int threads = 0;          // 0: as many as cores.
};

class RestoreObserver {
 public:
  virtual ~RestoreObserver() = default;
  virtual void OnObject(const std::string& name) { (void)name; }
  // The object could not be restored whole; nothing partial is left under its name.
  virtual void OnError(const std::string& name, const Status& status) { (void)name, (void)status; }
};

struct RestoreProgress {
  std::atomic<uint64_t> objects_total{0};
  std::atomic<uint64_t> files_done{0}, bytes_done{0};
};

struct RestoreSummary {
  uint64_t files = 0, directories = 0, symlinks = 0, hard_links = 0;
  uint64_t bytes = 0;
  uint64_t errors = 0;
  uint64_t integrity_errors = 0;  // Those of errors that are kDataLoss.
  int64_t nanos = 0;
};

// Paths are made component by component with openat: names of any length, never through a
// symbolic link; a name with a ".." or empty component is refused, named. Existing files are not
// overwritten (an error each).
StatusOr<RestoreSummary> Restore(Vault& vault, const RestoreOptions& options,
                                 RestoreObserver& observer, RestoreProgress* progress = nullptr);

}  // namespace holdfast
