// The writing end of the segment log. Blocking; used from one `io` task at a time, so it needs no
// lock: GroupCommit asks for one thing after the other.
//
// Order in a new segment: header written, synced, directory synced, superblock written; only then
// batches. Crash cases: before the header is durable an empty file is left over (its number is
// skipped); after it, the previous segment is covered by the header's previous_end.
#pragma once

#include <memory>
#include <vector>

#include "common/base/clock.h"
#include "common/base/rng.h"
#include "common/io/fs.h"
#include "node/batch.h"
#include "node/node.h"

namespace holdfast {

// Where the log stands, from recovery.
struct LogStart {
  Superblock superblock;
  bool superblock_dirty = false;  // A slot is to be mended.
  uint64_t next_number = 1;       // Of the next segment.
  // The last segment that holds records; zeros when there is none.
  uint64_t number = 0;
  SegmentId id;
  uint64_t end = 0;
  uint64_t last_lsn = 0;
  uint64_t synced_lsn = 0;            // Below last_lsn where a recovery dropped ranges (N4).
  bool resume = false;                // Closed cleanly: batches may follow in it (N3).
  bool zeros_behind = false;          // Only zeros lie behind `end`: space to be given back.
  std::vector<DroppedRange> dropped;  // Not noted in the log yet.
};

// Whether more than this fraction of the disk is used.
bool AboveLimit(const SpaceInfo& space, double fraction);

class Log {
 public:
  Log(const NodeOptions& options, const NodeEnv& env, LogStart start);
  ~Log();

  struct Written {
    uint64_t segment;  // Number.
    SegmentId id;
    uint64_t offset;  // Of the batch.
    uint64_t end;     // After it.
    uint64_t last_lsn;
    int64_t created_nanos;  // Of the segment.
  };
  // Finishes, writes and syncs the batch. On failure nothing of it counts: kResourceExhausted
  // where space ran out, else kUnavailable. The next call may succeed (a fresh segment).
  StatusOr<Written> Append(Batch& batch);
  // The next batch begins a new segment.
  void EndSegment();
  // Brings the superblock up to the last batch; does nothing when it is.
  Status SyncSuperblock();
  // Gives preallocated space back and brings the superblock up.
  Status Close();

 private:
  struct Active;
  Status Begin(uint64_t batch_bytes);
  Status PassTakenNumbers();
  Status WriteHeader(File& file, const SegmentHeader& header);
  Status Reserve(uint64_t batch_bytes);
  uint64_t SizeFor(uint64_t needed) const;
  void Seal();
  void Suspect(uint64_t uncertain_bytes);
  void TrimPrevious();

  const NodeOptions& options_;
  const NodeEnv& env_;
  LogStart last_;  // number … synced_lsn: of the newest segment, active or not.
  std::unique_ptr<Active> active_;
  bool moved_ = false;  // Something was written since Open, so all of last_ is synced.
};

}  // namespace holdfast
