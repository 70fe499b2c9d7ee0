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
  uint64_t known = 0;               // That was cut, and of which only the chunks were digested.
  uint64_t sealed = 0, opened = 0;  // Chunks: one copy of what was stored, all that was read.
  uint64_t restored = 0;            // Files, in …
  std::string target = {};          // … this directory.
};

class JobStats {
 public:
  // With `wanted` false all of this does nothing.
  explicit JobStats(bool wanted) : wanted_(wanted) {}

  // For the job's threads to tell their stages to; null when nobody asks.
  JobTimes* times() { return wanted_ ? &times_ : nullptr; }
  // When the job is over, and the vault's own threads are still there.
  void Stop();
  // Measures for about two seconds what the floor is made of, and prints. Of an embedded vault's
  // disks the first is measured, and the others are taken for its like; those of a cluster are
  // elsewhere. What it takes to make files, and not to fill them, is left out.
  void Print(const JobWork& work, kernels::Engine& engine, uint32_t digests,
             const OpenedVault& vault, bool json) const;

 private:
  Json Stages() const;

  const bool wanted_;
  JobTimes times_;
  double cpu_seconds_ = 0;  // Of the process, until Stop.
  Json others_;             // CPU seconds of threads that are no workers, by name.
};

}  // namespace holdfast::cli
