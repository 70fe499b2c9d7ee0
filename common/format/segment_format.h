// Segment files: docs/formats/segment.md is the grammar, tests/golden/ holds worked bytes.
//
//   segment = segment header (one 4 KiB block), then batches
//   batch   = batch header (64 bytes), records, zero padding to 4 KiB; starts on a 4 KiB boundary
//   record  = record header (144 bytes), payload, zero padding to 8 bytes
//
// All integers little-endian. Blocks are written once. Parsers take bytes from disk: they return a
// status, never assert. Decode* check magic, version and CRC: kNotFound when the magic is absent
// (nothing was written here), kFailedPrecondition naming an unknown version or suite, kDataLoss
// for anything else that is wrong.
#pragma once

#include <array>
#include <cstdint>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/status.h"

namespace holdfast {

inline constexpr size_t kBlockSize = 4096;
inline constexpr size_t kBatchHeaderSize = 64;
inline constexpr size_t kRecordHeaderSize = 144;
inline constexpr size_t kRecordAlign = 8;
inline constexpr uint32_t kMaxPayload = 64u << 20;
inline constexpr uint8_t kSegmentVersion = 1;

// The numbers are format. Kinds above the last may be added; an unknown one is kept, never dropped.
enum class RecordKind : uint8_t {
  kChunk = 1,
  kManifestPart = 2,
  kCommitRecord = 3,
  kKeystore = 4,      // Reserved: crypto-erase.
  kTouch = 5,         // Payload: ids (32 bytes each); touch epoch in the header.
  kQuarantine = 6,    // Payload: one QuarantineEntry each.
  kTrash = 7,         // Payload: a TrashMark, then ids (32 bytes each).
                      // 8 was reserved and is not used: a touch takes out of the trash.
  kRecoveryNote = 9,  // Payload: the ranges a recovery dropped (DroppedRange each).
};

struct SegmentHeader {
  VaultId vault;
  NodeId node;
  SegmentId segment;
  uint64_t number = 0;  // 1, 2, 3 … per node; also in the file name.
  int64_t created_nanos = 0;
  // Where the log before this segment ended, so that a truncated or missing one is noticed.
  SegmentId previous;         // Zero for the first.
  uint64_t previous_end = 0;  // Bytes of it that are synced.
  uint64_t previous_last_lsn = 0;
  // All that was of use in it lies elsewhere: this block is all that is left of the segment.
  bool freed = false;
};
std::array<uint8_t, kBlockSize> EncodeSegmentHeader(const SegmentHeader& header);
StatusOr<SegmentHeader> DecodeSegmentHeader(Bytes block);

struct BatchHeader {
  SegmentId segment;
  uint64_t first_lsn = 0;
  uint64_t synced_lsn = 0;  // Highest lsn of this segment known durable when this was written.
  uint32_t record_count = 0;
  uint32_t total_bytes = 0;  // From this header to the end of padding; a multiple of 4 KiB.
};
void EncodeBatchHeader(const BatchHeader& header, std::span<uint8_t, kBatchHeaderSize> out);
StatusOr<BatchHeader> DecodeBatchHeader(Bytes bytes);

struct RecordHeader {
  RecordKind kind = RecordKind::kChunk;
  uint8_t suite = 1;
  uint8_t shard = 0;  // 0: a full replica.
  uint16_t placement_class = 0;
  uint32_t length = 0;  // Of the payload.
  uint64_t lsn = 0;     // Per segment, from 1, without gaps.
  uint64_t touch_epoch = 0;
  // Commit records: the commit number. Chunks that take the place of what a reader found not to
  // open: where the bytes were before (RestoredNumber). Else 0.
  uint64_t number = 0;
  SegmentId segment;
  DomainId domain;
  WriterId writer;
  RecordId id;
  Checksum checksum;  // XXH3-128 of the payload.
};
void EncodeRecordHeader(const RecordHeader& header, std::span<uint8_t, kRecordHeaderSize> out);
StatusOr<RecordHeader> DecodeRecordHeader(Bytes bytes);

// A place in the log as a number, and back. Records lie on multiples of 8 in files of at most 4
// GiB.
struct RecordPlace {
  uint64_t segment = 0;
  uint64_t offset = 0;
};
constexpr uint64_t RestoredNumber(const RecordPlace& place) {
  return place.segment << 32 | place.offset / kRecordAlign;
}
constexpr RecordPlace RestoredFrom(uint64_t number) {
  return {number >> 32, (number & UINT32_MAX) * kRecordAlign};
}

// Bytes that a record with this payload takes in a batch.
constexpr uint64_t RecordExtent(uint64_t payload_length) {
  return (kRecordHeaderSize + payload_length + kRecordAlign - 1) / kRecordAlign * kRecordAlign;
}
constexpr uint64_t RoundUpToBlock(uint64_t n) {
  return (n + kBlockSize - 1) / kBlockSize * kBlockSize;
}

struct QuarantineEntry {  // 48 bytes
  RecordId id;
  uint64_t segment_number = 0;
  uint64_t offset = 0;
};
Buffer EncodeQuarantineEntries(std::span<const QuarantineEntry> entries);
StatusOr<std::vector<QuarantineEntry>> DecodeQuarantineEntries(Bytes payload);

// What a run of garbage collection told a node (docs/gc.md). Its ids are in the trash as long as
// their touch is below the horizon.
struct TrashMark {  // 32 bytes
  uint64_t generation = 0;
  uint64_t run = 0;
  uint64_t horizon = 0;
  bool surplus = false;  // Not garbage: the group's present nodes have it.
  auto operator<=>(const TrashMark&) const = default;
};
struct TrashPayload {
  TrashMark mark;
  std::vector<RecordId> ids;
};
Buffer EncodeTrash(const TrashMark& mark, std::span<const RecordId> ids);
StatusOr<TrashPayload> DecodeTrash(Bytes payload);

struct DroppedRange {  // 24 bytes
  uint64_t segment_number = 0;
  uint64_t begin = 0;  // File offsets.
  uint64_t end = 0;
};
Buffer EncodeDroppedRanges(std::span<const DroppedRange> ranges);
StatusOr<std::vector<DroppedRange>> DecodeDroppedRanges(Bytes payload);

// The node's superblock: two slots of one block; the valid one with the higher sequence counts.
struct Superblock {
  VaultId vault;
  NodeId node;
  DiskIncarnation incarnation;
  uint32_t node_number = 0;  // Its place in the cluster map.
  uint64_t generation = 0;
  uint64_t sequence = 0;     // Of this slot; each write adds one.
  SegmentId synced_segment;  // The last batch known durable.
  uint64_t synced_segment_number = 0;
  uint64_t synced_lsn = 0;
  uint64_t synced_end = 0;  // File offset after it.
};
std::array<uint8_t, kBlockSize> EncodeSuperblock(const Superblock& superblock);
StatusOr<Superblock> DecodeSuperblock(Bytes block);

}  // namespace holdfast
