// The segments of a node as their files and headers tell it, before any record is read.
//
// Each header names the segment before it and where that one ended, so a segment that is missing,
// cut short or exchanged is noticed without reading it. Not thread-safe.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "common/io/fs.h"
#include "node/findings.h"
#include "node/node.h"

namespace holdfast {

struct SegmentInfo {
  enum class State : uint8_t {
    kGood,
    kHeaderDamaged,  // Its records can still be read.
    kLeftover,       // A crash left it behind before its header was durable: it holds nothing.
    kFreed,          // One block says that all of use in it lies elsewhere.
    kMissing,
    kForeign,  // Of another vault, node or number.
  };
  uint64_t number = 0;
  State state = State::kGood;
  SegmentId id;             // Zero when nothing tells it.
  uint64_t file_bytes = 0;  // Size of the file when it was looked at.
  uint64_t end = 0;         // Records lie below. Of the last segment: set by replay.
  uint64_t synced_lsn = 0;  // Up to here no record may be missing (N4). Likewise.
  bool damaged = false;     // Recovery, or a check since, found something wrong with it.
  bool end_known = false;   // Else (the next header is lost) `end` is the file's, all is due.
  int64_t created_nanos = 0;
  int64_t verified_nanos = 0;  // Wall time of the last full check; at least created_nanos.

  static constexpr uint64_t kAllDue = UINT64_MAX;
  bool readable() const { return state == State::kGood || state == State::kHeaderDamaged; }
};

using SegmentTable = std::map<uint64_t, SegmentInfo>;

struct LoadedSegments {
  SegmentTable table;
  uint64_t next_number = 1;  // The first free one after this node's segments.
  std::vector<proto::Finding> findings;
};

// Reads names, sizes and headers in DIR/segments. Damage is a finding; the status is for a
// directory that cannot be listed, a segment that may not be opened (kUnavailable), one of a newer
// release (kFailedPrecondition), or a number that no log has come to (kDataLoss).
StatusOr<LoadedSegments> LoadSegments(Fs& fs, const std::string& dir, const Superblock& superblock);

// What is wrong with the file of a segment as such, read anew; the records are not looked at.
// kUnavailable when it may not be opened.
StatusOr<std::vector<proto::Finding>> CheckSegmentFile(Fs& fs, const std::string& dir,
                                                       const FindingMaker& make,
                                                       const NodeOptions& options,
                                                       const SegmentInfo& info);

// The last segment that holds records, or nullptr.
SegmentInfo* LastReadable(SegmentTable& table);

// The segment that the log has before this one, or nullptr.
const SegmentInfo* SegmentBefore(const SegmentTable& table, uint64_t number);

// Replaces the file of a segment by one block that says it is freed: one or the other is there
// after a crash. Where its header is lost the block says what is known without it, of the segment
// `before` that this is where that one ends now. Blocking. kUnavailable when the header may not be
// read, or `before` tells too little.
StatusOr<SegmentHeader> FreeSegment(Fs& fs, Rng& rng, const NodeOptions& options,
                                    const SegmentInfo& info,
                                    const std::optional<SegmentInfo>& before);

StatusOr<std::unique_ptr<File>> OpenSegment(Fs& fs, const std::string& dir, uint64_t number);
// Whether that failed as the file may not be opened, or not now, when too many are open: nothing is
// known to be wrong with it.
bool IsRefused(const Status& opened);
// That, as whoever asked is told.
Status Refusal(const Status& opened);

}  // namespace holdfast
