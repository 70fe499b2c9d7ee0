// Ingest: reads a source, cuts, digests, deduplicates, seals, stores, commits.
//
// Memory is bounded by the slab pool and the credit for sealed bytes in flight, whatever the
// source. Names, ids and digests do not depend on threads or timing.
#pragma once

#include <atomic>
#include <functional>

#include "client/source.h"
#include "client/stage_clock.h"
#include "client/vault.h"

namespace holdfast {

struct IngestOptions {
  std::string collection;
  uint32_t digests = kernels::kAllDigests;  // SHA-256 is always among them.
  // Cores to use. 0: all. -1: no threads, all in the caller (simulation).
  int threads = 0;
  size_t slab_bytes = 32u << 20;    // Raised to 4 * max chunk when smaller.
  size_t slabs_bytes = 128u << 20;  // All slabs, one for each worker: with many, each is smaller.
  size_t commit_objects = 4000;     // Objects per commit at most …
  int64_t commit_delay_nanos = 200'000'000;  // … or when the oldest has waited this long.
  // How long it waits when too few nodes, or no coordinator, can take what it has. With threads
  // only.
  int64_t wait_nanos = 0;
  JobTimes* times = nullptr;  // Of the threads that read and store.
};

enum class ObjectState : uint8_t { kStored, kUnchanged };

// What happens, as it happens; called on pipeline threads, one call at a time.
class IngestObserver {
 public:
  virtual ~IngestObserver() = default;
  // After the object's commit is durable.
  virtual void OnObject(const std::string& name, const VersionId& version, ObjectState state) {
    (void)name, (void)version, (void)state;
  }
  // A source that could not be read or stored; the ingest goes on. Not called for what a vault that
  // failed could not take.
  virtual void OnError(const std::string& name, const Status& status) { (void)name, (void)status; }
  // Nothing can be stored just now, and why; said again while it lasts.
  virtual void OnWaiting(const Status& why) { (void)why; }
  // A device, socket or fifo.
  virtual void OnSkipped(const std::string& name) { (void)name; }
};

// Read at any time while an ingest runs.
struct IngestProgress {
  std::atomic<uint64_t> files_found{0}, bytes_found{0};
  std::atomic<bool> walk_done{false};
  std::atomic<uint64_t> files_done{0}, bytes_done{0}, bytes_read{0};
  std::atomic<uint64_t> duplicate_bytes{0};  // As the summary's.
};

struct IngestSummary {
  uint64_t files = 0;  // Regular files and hard links stored or unchanged.
  uint64_t directories = 0, symlinks = 0, special = 0;
  uint64_t bytes = 0;            // Content bytes of those files.
  uint64_t unchanged = 0;        // Objects that already had this content under this name …
  uint64_t unchanged_bytes = 0;  // … and the content of the files among them.
  uint64_t chunks = 0;
  uint64_t duplicate_chunks = 0;
  uint64_t duplicate_bytes = 0;  // Content bytes found already stored.
  uint64_t duplicates = 0;       // Files all of whose chunks were already stored.
  uint64_t stored_bytes = 0;     // Sealed bytes written, one replica.
  uint64_t errors = 0;
  int64_t nanos = 0;
};

// ok with summary.errors > 0 when some sources failed; an error when the vault failed (nothing
// more can be stored): what was reported to OnObject is durable all the same.
StatusOr<IngestSummary> Ingest(Vault& vault, kernels::Engine& engine, Source& source,
                               const IngestOptions& options, IngestObserver& observer,
                               IngestProgress* progress = nullptr);

}  // namespace holdfast
