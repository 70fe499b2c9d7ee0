// One group-commit batch while it fills: payloads are copied to where they will lie on disk;
// headers are written by Finish, when it is known into which segment the batch goes.
//
// Layout: batch header, data records in the order added, then one touch record per epoch, one
// trash record per mark, one quarantine record, one recovery note (each only if there is something
// to say), zero padding. Touches, trash and quarantines therefore apply to what the same batch
// brought.
//
// Not thread-safe: filled on the node's Loop, finished on `io`.
#pragma once

#include <map>
#include <vector>

#include "common/format/segment_format.h"
#include "node/aligned_buffer.h"

namespace holdfast {

class Batch {
 public:
  struct Record {
    RecordHeader header;  // `segment` and `lsn` are set by Finish.
    uint64_t offset;      // From the start of the batch.
  };

  explicit Batch(AlignedBuffer buffer);

  // Copies the payload; `header.length` and `header.checksum` describe it.
  void Add(const RecordHeader& header, Bytes payload);
  void AddTouch(uint64_t epoch, const RecordId& id);
  // Of no id, when only the mark is to be known.
  void AddTrash(const TrashMark& mark, std::span<const RecordId> ids);
  void AddQuarantine(const QuarantineEntry& entry);
  void AddDropped(std::span<const DroppedRange> ranges);

  // What Finish will give, rounded up to whole blocks.
  uint64_t TotalBytes() const;

  // Writes every header. The bytes stay valid as long as the batch.
  Bytes Finish(const SegmentId& segment, uint64_t first_lsn, uint64_t synced_lsn);

  const std::vector<Record>& records() const { return records_; }  // After Finish: all kinds.
  const std::map<uint64_t, std::vector<RecordId>>& touches() const { return touches_; }
  const std::map<TrashMark, std::vector<RecordId>>& trash() const { return trash_; }
  const std::vector<QuarantineEntry>& quarantines() const { return quarantines_; }
  const std::vector<DroppedRange>& dropped() const { return dropped_; }
  AlignedBuffer TakeBuffer() { return std::move(buffer_); }

 private:
  void AddMeta(RecordKind kind, uint64_t epoch, Bytes payload);

  AlignedBuffer buffer_;
  uint64_t used_ = kBatchHeaderSize;
  uint64_t meta_bytes_ = 0;  // What the records that Finish adds will take.
  std::vector<Record> records_;
  std::map<uint64_t, std::vector<RecordId>> touches_;
  std::map<TrashMark, std::vector<RecordId>> trash_;
  std::vector<QuarantineEntry> quarantines_;
  std::vector<DroppedRange> dropped_;
};

}  // namespace holdfast
