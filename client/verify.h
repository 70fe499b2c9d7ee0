// Verify: reads every replica of everything in scope, decrypts, re-hashes, compares all digests.
//
// In scope are all versions of all objects, their chunks and manifest parts; without a collection
// every node's log as well (record headers, commit records and what else is no chunk or part).
// Versions with the same chunks and the same digests are read once. Memory: bounded.
#pragma once

#include <atomic>

#include "client/stage_clock.h"
#include "client/vault.h"

namespace holdfast {

struct VerifyOptions {
  std::string collection;  // Empty: the whole vault, and every node's log as well.
  std::string prefix;      // By path component.
  int threads = 0;         // 0: as many as cores. -1: none, all in the caller (simulation).
  kernels::Engine* engine = nullptr;  // Null: the processor's fastest.
  JobTimes* times = nullptr;          // Of the threads that read objects.
};

// Called on verify's threads, one call at a time.
class VerifyObserver {
 public:
  virtual ~VerifyObserver() = default;
  // A version with something wrong; `lost`: no good replica is left of some part of it. kDataLoss
  // for damage; kUnavailable when a node did not answer, and nothing is known to be wrong.
  virtual void OnObjectError(const std::string& collection, const std::string& name, bool lost,
                             const Status& status) {
    (void)collection, (void)name, (void)lost, (void)status;
  }
  // Damage in a node's log that belongs to no object in scope (commit records, headers …).
  virtual void OnFinding(const proto::Finding& finding) { (void)finding; }
};

struct VerifyProgress {
  std::atomic<uint64_t> objects_total{0}, objects_done{0}, bytes_done{0};
};

struct VerifySummary {
  uint64_t objects = 0, versions = 0;
  uint64_t bytes = 0;              // Content bytes verified.
  uint64_t stored_bytes = 0;       // Read from disks, all replicas.
  uint64_t damaged = 0, lost = 0;  // Object versions; the lost ones are among the damaged.
  uint64_t unchecked = 0;          // Versions not wholly checked: a node did not answer.
  uint64_t findings = 0;           // Damage outside objects (NOTE findings not counted).
  int64_t nanos = 0;
};

StatusOr<VerifySummary> Verify(Vault& vault, const VerifyOptions& options, VerifyObserver& observer,
                               VerifyProgress* progress = nullptr);

}  // namespace holdfast
