// Verify: reads every replica of everything in scope, decrypts, re-hashes, compares all digests.
#pragma once

#include <atomic>

#include "client/vault.h"

namespace holdfast {

struct VerifyOptions {
  std::string collection;   // Empty: the whole vault, and every node's log as well.
  std::string prefix;       // By path component.
  int threads = 0;
};

class VerifyObserver {
 public:
  virtual ~VerifyObserver() = default;
  // An object with something wrong; `lost`: no good replica is left of some part of it.
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
  uint64_t bytes = 0;             // Content bytes verified.
  uint64_t stored_bytes = 0;      // Read from disks, all replicas.
  uint64_t damaged = 0, lost = 0;  // Object versions.
  uint64_t findings = 0;          // Damage outside objects (NOTE findings not counted).
  int64_t nanos = 0;
};

StatusOr<VerifySummary> Verify(Vault& vault, const VerifyOptions& options, VerifyObserver& observer,
                               VerifyProgress* progress = nullptr);

}  // namespace holdfast
