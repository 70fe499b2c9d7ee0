#include "common/format/segment_format.h"

#include <gtest/gtest.h>

#include "common/crypto/domain_keys.h"
#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using testing::Counting;
using testing::FixCrc;
using testing::Golden;

SegmentHeader FixedSegmentHeader() {
  return {.vault = Counting<VaultId>(0x10),
          .node = Counting<NodeId>(0x30),
          .segment = Counting<SegmentId>(0x50),
          .number = 3,
          .created_nanos = 1'700'000'000'000'000'000,
          .previous = Counting<SegmentId>(0x70),
          .previous_end = 12'288,
          .previous_last_lsn = 41};
}

Superblock FixedSuperblock() {
  return {.vault = Counting<VaultId>(0x10),
          .node = Counting<NodeId>(0x30),
          .incarnation = Counting<DiskIncarnation>(0x90),
          .node_number = 2,
          .generation = 5,
          .sequence = 77,
          .synced_segment = Counting<SegmentId>(0x50),
          .synced_segment_number = 3,
          .synced_lsn = 9,
          .synced_end = 16'384};
}

struct Record {
  RecordHeader header;
  Buffer payload;
};

Record MakeRecord(RecordKind kind, uint64_t lsn, Buffer payload) {
  Record record;
  record.header = {.kind = kind,
                   .placement_class = 1,
                   .length = static_cast<uint32_t>(payload.size()),
                   .lsn = lsn,
                   .touch_epoch = 6,
                   .number = kind == RecordKind::kCommitRecord ? 19u : 0u,
                   .segment = Counting<SegmentId>(0x50),
                   .domain = Counting<DomainId>(0x20),
                   .writer = Counting<WriterId>(0xa0),
                   .id = Counting<RecordId>(0xc0),
                   .checksum = ChecksumOf(payload)};
  record.payload = std::move(payload);
  return record;
}

std::vector<QuarantineEntry> FixedQuarantine() {
  return {{Counting<RecordId>(0xc0), 3, 4160}, {Counting<RecordId>(0x01), 4, 8256}};
}

std::vector<DroppedRange> FixedDropped() { return {{3, 4096, 8192}, {3, 12'288, 12'800}}; }

Buffer TouchPayload() {
  Buffer payload;
  for (const uint8_t first : {0xc0, 0x01}) {
    const auto id = Counting<RecordId>(first);
    payload.insert(payload.end(), id.value.begin(), id.value.end());
  }
  return payload;
}

constexpr TrashMark kFixedMark = {.generation = 2, .run = 5, .horizon = 7, .surplus = true};

std::vector<RecordId> FixedIds() { return {Counting<RecordId>(0xc0), Counting<RecordId>(0x01)}; }

// One of each kind that version 1 began with.
std::vector<std::pair<std::string, Record>> FixedRecords() {
  const auto text = [](std::string_view s) { return Buffer(s.begin(), s.end()); };
  return {
      {"record-chunk", MakeRecord(RecordKind::kChunk, 1, text("a sealed chunk"))},
      {"record-manifest-part", MakeRecord(RecordKind::kManifestPart, 2, text("a part record"))},
      {"record-commit", MakeRecord(RecordKind::kCommitRecord, 3, text("a commit record"))},
      {"record-touch", MakeRecord(RecordKind::kTouch, 4, TouchPayload())},
      {"record-quarantine",
       MakeRecord(RecordKind::kQuarantine, 5, EncodeQuarantineEntries(FixedQuarantine()))},
      {"record-recovery-note",
       MakeRecord(RecordKind::kRecoveryNote, 6, EncodeDroppedRanges(FixedDropped()))},
  };
}

std::vector<std::pair<std::string, Record>> AllRecords() {
  auto records = FixedRecords();
  records.emplace_back("record-trash",
                       MakeRecord(RecordKind::kTrash, 7, EncodeTrash(kFixedMark, FixedIds())));
  return records;
}

Buffer EncodeRecord(const Record& record) {
  Buffer bytes(RecordExtent(record.payload.size()));
  EncodeRecordHeader(record.header,
                     std::span<uint8_t, kRecordHeaderSize>(bytes.data(), kRecordHeaderSize));
  std::copy(record.payload.begin(), record.payload.end(), bytes.begin() + kRecordHeaderSize);
  return bytes;
}

void ExpectSame(const RecordHeader& a, const RecordHeader& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.suite, b.suite);
  EXPECT_EQ(a.shard, b.shard);
  EXPECT_EQ(a.placement_class, b.placement_class);
  EXPECT_EQ(a.length, b.length);
  EXPECT_EQ(a.lsn, b.lsn);
  EXPECT_EQ(a.touch_epoch, b.touch_epoch);
  EXPECT_EQ(a.number, b.number);
  EXPECT_EQ(a.segment, b.segment);
  EXPECT_EQ(a.domain, b.domain);
  EXPECT_EQ(a.writer, b.writer);
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.checksum, b.checksum);
}

// What holds for every header: the golden bytes decode, and no damage passes.
template <class Decode>
void ExpectSoundHeader(Buffer bytes, size_t version_offset, const std::string& what,
                       const Decode& decode) {
  ASSERT_TRUE(decode(Bytes(bytes)).ok()) << decode(Bytes(bytes)).status();
  testing::ExpectFlipsRefused(bytes, decode);
  testing::ExpectTruncationsRefused(bytes, decode);
  EXPECT_TRUE(absl::IsNotFound(decode(Bytes(Buffer(bytes.size(), 0))).status()));
  EXPECT_TRUE(absl::IsDataLoss(decode(Bytes(bytes).first(bytes.size() - 1)).status()));
  Buffer damaged = bytes;
  damaged[version_offset] = 7;
  EXPECT_TRUE(absl::IsDataLoss(decode(Bytes(damaged)).status())) << "damage is no new version";
  FixCrc(damaged);
  testing::ExpectRefusedByName(decode(Bytes(damaged)).status(), what + " version 7");
}

void ExpectSame(const SegmentHeader& expected, Bytes golden) {
  const auto decoded = DecodeSegmentHeader(golden);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->vault, expected.vault);
  EXPECT_EQ(decoded->node, expected.node);
  EXPECT_EQ(decoded->segment, expected.segment);
  EXPECT_EQ(decoded->number, expected.number);
  EXPECT_EQ(decoded->created_nanos, expected.created_nanos);
  EXPECT_EQ(decoded->previous, expected.previous);
  EXPECT_EQ(decoded->previous_end, expected.previous_end);
  EXPECT_EQ(decoded->previous_last_lsn, expected.previous_last_lsn);
  EXPECT_EQ(decoded->freed, expected.freed);
}

TEST(SegmentHeader, Golden) {
  const Buffer golden = Golden("segment-header", EncodeSegmentHeader(FixedSegmentHeader()));
  ASSERT_EQ(golden.size(), kBlockSize);
  ExpectSame(FixedSegmentHeader(), golden);
  ExpectSoundHeader(golden, 8, "segment header", DecodeSegmentHeader);
}

// The stub of a segment that was given back: the same header but for one byte and the CRC.
TEST(SegmentHeader, GoldenOfAFreedOne) {
  SegmentHeader freed = FixedSegmentHeader();
  freed.freed = true;
  const Buffer golden = Golden("segment-header-freed", EncodeSegmentHeader(freed));
  ASSERT_EQ(golden.size(), kBlockSize);
  ExpectSame(freed, golden);
  ExpectSoundHeader(golden, 8, "segment header", DecodeSegmentHeader);
  Buffer other = golden;
  other[9] = 0;
  FixCrc(other);
  EXPECT_TRUE(std::ranges::equal(other, EncodeSegmentHeader(FixedSegmentHeader())));
  for (const auto& [offset, value] : {std::pair(9, 2), std::pair(10, 1), std::pair(15, 1)}) {
    other = golden;
    other[offset] = static_cast<uint8_t>(value);
    FixCrc(other);
    EXPECT_TRUE(absl::IsDataLoss(DecodeSegmentHeader(other).status())) << "byte " << offset;
  }
}

TEST(Superblock, Golden) {
  const Buffer golden = Golden("superblock", EncodeSuperblock(FixedSuperblock()));
  ASSERT_EQ(golden.size(), kBlockSize);
  const auto decoded = DecodeSuperblock(golden);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  const Superblock expected = FixedSuperblock();
  EXPECT_EQ(decoded->vault, expected.vault);
  EXPECT_EQ(decoded->node, expected.node);
  EXPECT_EQ(decoded->incarnation, expected.incarnation);
  EXPECT_EQ(decoded->node_number, expected.node_number);
  EXPECT_EQ(decoded->generation, expected.generation);
  EXPECT_EQ(decoded->sequence, expected.sequence);
  EXPECT_EQ(decoded->synced_segment, expected.synced_segment);
  EXPECT_EQ(decoded->synced_segment_number, expected.synced_segment_number);
  EXPECT_EQ(decoded->synced_lsn, expected.synced_lsn);
  EXPECT_EQ(decoded->synced_end, expected.synced_end);
  ExpectSoundHeader(golden, 8, "superblock", DecodeSuperblock);
}

TEST(Records, GoldenOfEachKind) {
  for (const auto& [name, record] : AllRecords()) {
    SCOPED_TRACE(name);
    const Buffer golden = Golden(name, EncodeRecord(record));
    ASSERT_EQ(golden.size() % kRecordAlign, 0u);
    const auto header = DecodeRecordHeader(golden);
    ASSERT_TRUE(header.ok()) << header.status();
    ExpectSame(*header, record.header);
    const Bytes payload = Bytes(golden).subspan(kRecordHeaderSize, header->length);
    EXPECT_EQ(ChecksumOf(payload), header->checksum);
    ExpectSoundHeader(Buffer(golden.begin(), golden.begin() + kRecordHeaderSize), 4,
                      "record header", DecodeRecordHeader);
  }
}

// A batch of all six records, as it lies in a segment.
TEST(Batch, Golden) {
  Buffer batch(kBatchHeaderSize);
  for (const auto& [name, record] : FixedRecords()) {
    const Buffer bytes = EncodeRecord(record);
    batch.insert(batch.end(), bytes.begin(), bytes.end());
  }
  batch.resize(RoundUpToBlock(batch.size()));
  const BatchHeader expected{.segment = Counting<SegmentId>(0x50),
                             .first_lsn = 1,
                             .synced_lsn = 0,
                             .record_count = 6,
                             .total_bytes = static_cast<uint32_t>(batch.size())};
  EncodeBatchHeader(expected, std::span<uint8_t, kBatchHeaderSize>(batch.data(), kBatchHeaderSize));
  const Buffer golden = Golden("batch", batch);
  const auto header = DecodeBatchHeader(golden);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->segment, expected.segment);
  EXPECT_EQ(header->first_lsn, 1u);
  EXPECT_EQ(header->synced_lsn, 0u);
  EXPECT_EQ(header->total_bytes, golden.size());
  size_t offset = kBatchHeaderSize;
  for (uint32_t i = 0; i < header->record_count; ++i) {
    const auto record = DecodeRecordHeader(Bytes(golden).subspan(offset));
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(record->lsn, header->first_lsn + i);
    offset += RecordExtent(record->length);
  }
  EXPECT_LE(offset, golden.size());
  ExpectSoundHeader(Buffer(golden.begin(), golden.begin() + kBatchHeaderSize), 4, "batch header",
                    DecodeBatchHeader);
}

TEST(Batch, ImpossibleSizesAreRefused) {
  const auto with = [](uint32_t count, uint32_t total) {
    Buffer bytes(kBatchHeaderSize);
    EncodeBatchHeader({.record_count = 1, .total_bytes = kBlockSize},
                      std::span<uint8_t, kBatchHeaderSize>(bytes.data(), kBatchHeaderSize));
    for (int i = 0; i < 4; ++i) {
      bytes[40 + i] = static_cast<uint8_t>(count >> (8 * i));
      bytes[44 + i] = static_cast<uint8_t>(total >> (8 * i));
    }
    FixCrc(bytes);
    return DecodeBatchHeader(bytes).status();
  };
  EXPECT_TRUE(with(28, 4096).ok());
  EXPECT_TRUE(absl::IsDataLoss(with(29, 4096)));
  EXPECT_TRUE(absl::IsDataLoss(with(0, 0)));
  EXPECT_TRUE(absl::IsDataLoss(with(1, 4097)));
  EXPECT_TRUE(absl::IsDataLoss(with(0xffffffff, 0xfffff000)));
}

TEST(Records, SuitesAndLengthsAreChecked) {
  Buffer bytes = EncodeRecord(MakeRecord(RecordKind::kChunk, 1, Buffer(8)));
  bytes.resize(kRecordHeaderSize);
  Buffer other = bytes;
  other[6] = 3;
  FixCrc(other);
  testing::ExpectRefusedByName(DecodeRecordHeader(other).status(), "record header suite 3");
  other = bytes;
  other[15] = 0x05;  // 80 MiB
  FixCrc(other);
  EXPECT_TRUE(absl::IsDataLoss(DecodeRecordHeader(other).status()));
  other = bytes;
  other[10] = 1;  // Unused in version 1.
  FixCrc(other);
  EXPECT_TRUE(absl::IsDataLoss(DecodeRecordHeader(other).status()));
}

// Sums with them would begin anew at zero.
TEST(Records, LsnsThatNoSegmentReachesAreRefused) {
  const auto record = [](uint64_t lsn) {
    return DecodeRecordHeader(EncodeRecord(MakeRecord(RecordKind::kChunk, lsn, Buffer(8))))
        .status();
  };
  const auto batch = [](uint64_t first_lsn) {
    Buffer bytes(kBatchHeaderSize);
    EncodeBatchHeader({.first_lsn = first_lsn, .record_count = 2, .total_bytes = kBlockSize},
                      std::span<uint8_t, kBatchHeaderSize>(bytes.data(), kBatchHeaderSize));
    return DecodeBatchHeader(bytes).status();
  };
  EXPECT_TRUE(record(UINT32_MAX).ok());
  EXPECT_TRUE(batch(UINT32_MAX - 2).ok());
  for (const uint64_t lsn : {uint64_t{UINT32_MAX} + 1, UINT64_MAX}) {
    EXPECT_TRUE(absl::IsDataLoss(record(lsn))) << lsn;
    EXPECT_TRUE(absl::IsDataLoss(batch(lsn))) << lsn;
  }
  EXPECT_TRUE(absl::IsDataLoss(batch(UINT32_MAX - 1)));
}

TEST(Records, UnknownKindsAreKept) {
  Record record = MakeRecord(static_cast<RecordKind>(200), 1, Buffer(8));
  const auto header = DecodeRecordHeader(EncodeRecord(record));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(static_cast<int>(header->kind), 200);
}

TEST(Payloads, QuarantineAndDroppedRanges) {
  const Buffer quarantine = EncodeQuarantineEntries(FixedQuarantine());
  ASSERT_EQ(quarantine.size(), 96u);
  const auto entries = DecodeQuarantineEntries(quarantine);
  ASSERT_TRUE(entries.ok());
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[1].id, Counting<RecordId>(0x01));
  EXPECT_EQ((*entries)[1].segment_number, 4u);
  EXPECT_EQ((*entries)[1].offset, 8256u);
  EXPECT_TRUE(absl::IsDataLoss(DecodeQuarantineEntries(Bytes(quarantine).first(95)).status()));

  const Buffer dropped = EncodeDroppedRanges(FixedDropped());
  ASSERT_EQ(dropped.size(), 48u);
  const auto ranges = DecodeDroppedRanges(dropped);
  ASSERT_TRUE(ranges.ok());
  ASSERT_EQ(ranges->size(), 2u);
  EXPECT_EQ((*ranges)[1].segment_number, 3u);
  EXPECT_EQ((*ranges)[1].begin, 12'288u);
  EXPECT_EQ((*ranges)[1].end, 12'800u);
  EXPECT_TRUE(absl::IsDataLoss(DecodeDroppedRanges(Bytes(dropped).first(47)).status()));
  EXPECT_TRUE(absl::IsDataLoss(
      DecodeDroppedRanges(EncodeDroppedRanges(std::vector<DroppedRange>{{1, 9, 8}})).status()));
}

TEST(Payloads, Trash) {
  const Buffer payload = EncodeTrash(kFixedMark, FixedIds());
  ASSERT_EQ(payload.size(), 96u);
  const auto trash = DecodeTrash(payload);
  ASSERT_TRUE(trash.ok()) << trash.status();
  EXPECT_EQ(trash->mark, kFixedMark);
  EXPECT_EQ(trash->ids, FixedIds());
  // A mark alone says what the node was told.
  const auto none = DecodeTrash(EncodeTrash({.generation = 1, .run = 1, .horizon = 3}, {}));
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(none->mark, (TrashMark{1, 1, 3, false}));
  EXPECT_TRUE(none->ids.empty());
  for (const size_t size : {0, 31, 33, 95}) {
    EXPECT_TRUE(absl::IsDataLoss(DecodeTrash(Bytes(payload).first(size)).status())) << size;
  }
  for (const auto& [offset, value] : {std::pair(24, 2), std::pair(25, 1), std::pair(31, 1)}) {
    Buffer other = payload;
    other[offset] = static_cast<uint8_t>(value);
    EXPECT_TRUE(absl::IsDataLoss(DecodeTrash(other).status())) << "byte " << offset;
  }
}

TEST(Extents, RoundUp) {
  EXPECT_EQ(RecordExtent(0), 144u);
  EXPECT_EQ(RecordExtent(1), 152u);
  EXPECT_EQ(RecordExtent(8), 152u);
  EXPECT_EQ(RoundUpToBlock(0), 0u);
  EXPECT_EQ(RoundUpToBlock(1), 4096u);
  EXPECT_EQ(RoundUpToBlock(4096), 4096u);
}

}  // namespace
}  // namespace holdfast
