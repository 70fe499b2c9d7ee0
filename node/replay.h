// Replays the log into the index from its checkpoint on, and judges what is bad there (N4).
//
// A record is due when its lsn is at or below the synced lsn of its segment: of the last segment
// the highest that superblock, batch headers or checkpoint vouch for, of any other what the next
// segment's header says. A due record that is bad is corruption: a finding, the index entry
// quarantined, nothing changed on disk. One that is not due was torn by a crash: its range is
// dropped, with a note in the index now and in the log with the next batch.
//
// Crash case: the next segment is begun, but its note of dropped ranges is not durable. Its header
// then gives a synced lsn below those ranges, and they are judged torn once more.
#pragma once

#include "node/index.h"
#include "node/node.h"
#include "node/segment_scan.h"
#include "node/segment_table.h"

namespace holdfast {

// Whether a bad place in a segment is excused.
class DropJudge {
 public:
  DropJudge(uint64_t synced_lsn, std::vector<Dropped> dropped)
      : synced_lsn_(synced_lsn), dropped_(std::move(dropped)) {}
  // A recovery dropped it.
  bool Dropped(uint64_t begin, uint64_t end) const;
  // It is not due, and no note speaks of this segment: a crash tore it. `lsn`: the first bad one.
  bool Torn(uint64_t lsn) const;

 private:
  uint64_t synced_lsn_;
  std::vector<holdfast::Dropped> dropped_;
};

// Whether it may be preallocated space behind the end of the log.
bool IsUnwritten(const ScannedGap& gap);
// One line on what a gap is.
std::string DescribeGap(const ScannedGap& gap);

struct ReplayResult {
  uint64_t last = 0;  // Number of the last segment that holds records; 0: none.
  uint64_t last_lsn = 0;
  bool clean = true;          // Nothing bad in the last segment, nothing behind its end.
  bool zeros_behind = false;  // Only zeros behind its end.
  std::vector<Dropped> unnoted;
  std::vector<proto::Finding> findings;
  std::vector<QuarantineEntry> quarantine;
};

// Sets `end` and `synced_lsn` of the last segment in `table`. kUnavailable: what was found there
// beyond the synced lsn cannot be made durable.
StatusOr<ReplayResult> Replay(const NodeOptions& options, const NodeEnv& env,
                              const Superblock& superblock, SegmentTable& table, Index& index);

}  // namespace holdfast
