// Reads a segment back: every batch and record that is whole, and every stretch that should hold
// one and does not. Used by recovery and by the check of a segment; judges nothing.
//
// After a bad record the next one is found by magic, segment uuid, checksum and lsn at 8-byte
// steps, after a bad batch header also the next batch at 4 KiB steps, so only what is bad is lost.
// Blocks that the disk cannot read count as zeros, and what lies on them is marked unreadable.
#pragma once

#include <vector>

#include "common/format/segment_format.h"
#include "common/io/fs.h"

namespace holdfast {

enum class PayloadState : uint8_t { kGood, kUnchecked, kBad, kUnreadable };

struct ScannedBatch {
  uint64_t offset;
  BatchHeader header;
};

struct ScannedRecord {
  RecordHeader header;
  uint64_t offset;
  PayloadState state;
  Buffer payload;  // Of touches, trash, quarantines and recovery notes, where good.

  uint64_t end() const { return offset + RecordExtent(header.length); }
};

// Bytes that hold no record though they should. The lsns first_lsn … last_lsn are missing there;
// none when last_lsn < first_lsn (only a batch header or padding is bad, and first_lsn is that of
// a record beside it). last_lsn is kOpenEnd where nothing follows.
struct ScannedGap {
  static constexpr uint64_t kOpenEnd = UINT64_MAX;
  uint64_t begin, end;
  uint64_t first_lsn, last_lsn;
  bool zeros = false;       // Nothing was ever written there.
  bool unreadable = false;  // The disk gives an I/O error somewhere in it.
};

struct SegmentScan {
  std::vector<ScannedBatch> batches;
  std::vector<ScannedRecord> records;
  std::vector<ScannedGap> gaps;
  uint64_t end = 0;       // Block boundary after the last batch or record found.
  uint64_t next_lsn = 0;  // One above the last record found.
};

struct ScanOptions {
  SegmentId segment;
  uint64_t begin = kBlockSize;        // A batch boundary.
  uint64_t end = 0;                   // What lies beyond is not looked at.
  uint64_t first_lsn = 1;             // Of the first record at `begin`.
  bool all_payloads = false;          // Else those of chunks and manifest parts are not read …
  uint64_t trusted_lsn = UINT64_MAX;  // … up to here.
};

// Whether a payload is large content, which a quick check leaves out.
bool IsBulk(RecordKind kind);
// Whether records of this kind are found by their id (an unknown kind is: it is kept, not dropped).
bool IsIndexed(RecordKind kind);

SegmentScan ScanSegment(File& file, const ScanOptions& options);

// The segment uuid that the first whole batch header names; zero when there is none.
SegmentId FindSegmentId(File& file, uint64_t file_bytes);

}  // namespace holdfast
