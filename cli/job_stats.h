// `--stats`: where a job's time went, by thread and stage, and how near it came to what this
// machine could do at best.
#pragma once

#include <memory>
#include <string>

#include "cli/opened_vault.h"
#include "cli/output.h"
#include "client/stage_clock.h"

namespace holdfast::cli {

// What a job amounted to, in bytes.
struct JobWork {
  double seconds = 0;
  uint64_t digested = 0;            // Content that was cut and digested.
  uint64_t sealed = 0, opened = 0;  // Chunks.
};

// The directory of an embedded vault; empty for a cluster, whose disks are elsewhere.
std::string DiskOf(const std::string& vault);

class JobStats {
 public:
  // With `wanted` false all of this does nothing.
  explicit JobStats(bool wanted) : wanted_(wanted) {}

  // For the job's threads to tell their stages to; null when nobody asks.
  JobTimes* times() { return wanted_ ? &times_ : nullptr; }
  // When the job is over, and the vault's own threads are still there.
  void Stop();
  // Measures for about two seconds what the floor is made of, and prints. `disk_dir`: see DiskOf.
  void Print(const JobWork& work, kernels::Engine& engine, uint32_t digests,
             const std::string& disk_dir, bool json) const;

 private:
  Json Stages() const;

  const bool wanted_;
  JobTimes times_;
  double cpu_seconds_ = 0;  // Of the process, until Stop.
  Json others_;             // CPU seconds of threads that are no workers, by name.
};

}  // namespace holdfast::cli
