#include "common/format/segment_format.h"

#include <algorithm>
#include <cassert>
#include <string>

#include "common/base/coding.h"
#include "common/crypto/check.h"
#include "common/crypto/domain_keys.h"

namespace holdfast {
namespace {

// Of every header here: magic first, version after it, CRC-32C of all bytes before it last. Later
// versions keep these three places and the header's size, so that "another release wrote this" is
// told from "this is damaged": the checksum is checked first, then the version.
constexpr std::string_view kSegmentMagic = "HoldfSeg";
constexpr std::string_view kSuperblockMagic = "HoldfSup";
constexpr std::string_view kBatchMagic = "\x89HFB";
constexpr std::string_view kRecordMagic = "\x89HFR";
constexpr size_t kCrcSize = 4;
constexpr uint8_t kSuperblockVersion = 1;
constexpr size_t kQuarantineEntrySize = 48;
constexpr size_t kDroppedRangeSize = 24;
constexpr size_t kTrashMarkSize = 32;
constexpr uint64_t kMaxLsn = UINT32_MAX;  // A segment of 4 GiB has room for fewer records.

// Fills `out` with what `buffer` holds, zeros, and the checksum.
void Close(const Buffer& buffer, MutableBytes out) {
  assert(buffer.size() + kCrcSize <= out.size());
  std::copy(buffer.begin(), buffer.end(), out.begin());
  std::fill(out.begin() + buffer.size(), out.end(), 0);
  const uint32_t crc = Crc32c(out.first(out.size() - kCrcSize));
  for (size_t i = 0; i < kCrcSize; ++i) {
    out[out.size() - kCrcSize + i] = static_cast<uint8_t>(crc >> (8 * i));
  }
}

// Checks magic, checksum and version, in this order; gives a reader that stands after the version
// byte and ends before the checksum. The header is the first `size` bytes.
StatusOr<Reader> OpenHeader(Bytes bytes, size_t size, std::string_view magic, uint8_t version,
                            std::string_view what) {
  const size_t shown = std::min(bytes.size(), magic.size());
  if (shown == 0 || AsView(bytes.first(shown)) != magic.substr(0, shown)) {
    return absl::NotFoundError("no " + std::string(what) + " here");
  }
  if (bytes.size() < size) return Damaged(what, "it is cut short");
  const Bytes covered = bytes.first(size - kCrcSize);
  Reader crc(bytes.subspan(covered.size(), kCrcSize));
  if (crc.U32() != Crc32c(covered)) return Damaged(what, "its checksum does not match");
  Reader reader(covered.subspan(magic.size()));
  const uint8_t found = reader.U8();
  if (found != version) return UnknownVersion(what, found, version);
  return reader;
}

// What version 1 leaves unused is zero, so that no byte of a header goes unread.
Status CheckZero(Bytes unused, std::string_view what) {
  if (std::any_of(unused.begin(), unused.end(), [](uint8_t b) { return b != 0; })) {
    return Damaged(what, "unused bytes are not zero");
  }
  return absl::OkStatus();
}

Buffer Begin(std::string_view magic, uint8_t version, size_t size) {
  Buffer buffer;
  buffer.reserve(size);
  Writer writer(buffer);
  writer.Raw(AsBytes(magic));
  writer.U8(version);
  return buffer;
}

void Zeros(Buffer& buffer, size_t n) { buffer.resize(buffer.size() + n); }

}  // namespace

std::array<uint8_t, kBlockSize> EncodeSegmentHeader(const SegmentHeader& header) {
  Buffer buffer = Begin(kSegmentMagic, kSegmentVersion, kBlockSize);
  Writer writer(buffer);
  writer.U8(header.freed);
  Zeros(buffer, 6);
  writer.Id(header.vault);
  writer.Id(header.node);
  writer.Id(header.segment);
  writer.U64(header.number);
  writer.I64(header.created_nanos);
  writer.Id(header.previous);
  writer.U64(header.previous_end);
  writer.U64(header.previous_last_lsn);
  std::array<uint8_t, kBlockSize> block;
  Close(buffer, block);
  return block;
}

StatusOr<SegmentHeader> DecodeSegmentHeader(Bytes block) {
  constexpr std::string_view kWhat = "segment header";
  ASSIGN_OR_RETURN(Reader reader,
                   OpenHeader(block, kBlockSize, kSegmentMagic, kSegmentVersion, kWhat));
  SegmentHeader header;
  const uint8_t freed = reader.U8();
  header.freed = freed == 1;
  if (freed > 1) return Damaged(kWhat, "its state is impossible");
  RETURN_IF_ERROR(CheckZero(reader.Raw(6), kWhat));
  header.vault = reader.Id<VaultId>();
  header.node = reader.Id<NodeId>();
  header.segment = reader.Id<SegmentId>();
  header.number = reader.U64();
  header.created_nanos = reader.I64();
  header.previous = reader.Id<SegmentId>();
  header.previous_end = reader.U64();
  header.previous_last_lsn = reader.U64();
  RETURN_IF_ERROR(CheckZero(reader.rest(), kWhat));
  return header;
}

void EncodeBatchHeader(const BatchHeader& header, std::span<uint8_t, kBatchHeaderSize> out) {
  assert(header.total_bytes % kBlockSize == 0);
  Buffer buffer = Begin(kBatchMagic, kSegmentVersion, kBatchHeaderSize);
  Zeros(buffer, 3);
  Writer writer(buffer);
  writer.Id(header.segment);
  writer.U64(header.first_lsn);
  writer.U64(header.synced_lsn);
  writer.U32(header.record_count);
  writer.U32(header.total_bytes);
  Close(buffer, out);
}

StatusOr<BatchHeader> DecodeBatchHeader(Bytes bytes) {
  constexpr std::string_view kWhat = "batch header";
  ASSIGN_OR_RETURN(Reader reader,
                   OpenHeader(bytes, kBatchHeaderSize, kBatchMagic, kSegmentVersion, kWhat));
  RETURN_IF_ERROR(CheckZero(reader.Raw(3), kWhat));
  BatchHeader header;
  header.segment = reader.Id<SegmentId>();
  header.first_lsn = reader.U64();
  header.synced_lsn = reader.U64();
  header.record_count = reader.U32();
  header.total_bytes = reader.U32();
  RETURN_IF_ERROR(CheckZero(reader.rest(), kWhat));
  if (header.total_bytes == 0 || header.total_bytes % kBlockSize != 0 ||
      header.record_count > (header.total_bytes - kBatchHeaderSize) / kRecordHeaderSize) {
    return Damaged(kWhat, "its length or count is impossible");
  }
  if (header.first_lsn > kMaxLsn - header.record_count) {
    return Damaged(kWhat, "its lsn is impossible");
  }
  return header;
}

void EncodeRecordHeader(const RecordHeader& header, std::span<uint8_t, kRecordHeaderSize> out) {
  assert(header.length <= kMaxPayload);
  Buffer buffer = Begin(kRecordMagic, kSegmentVersion, kRecordHeaderSize);
  Writer writer(buffer);
  writer.U8(static_cast<uint8_t>(header.kind));
  writer.U8(header.suite);
  writer.U8(header.shard);
  writer.U16(header.placement_class);
  writer.U16(0);
  writer.U32(header.length);
  writer.U64(header.lsn);
  writer.U64(header.touch_epoch);
  writer.U64(header.number);
  writer.Id(header.segment);
  writer.Id(header.domain);
  writer.Id(header.writer);
  writer.Id(header.id);
  writer.Id(header.checksum);
  Close(buffer, out);
}

StatusOr<RecordHeader> DecodeRecordHeader(Bytes bytes) {
  constexpr std::string_view kWhat = "record header";
  ASSIGN_OR_RETURN(Reader reader,
                   OpenHeader(bytes, kRecordHeaderSize, kRecordMagic, kSegmentVersion, kWhat));
  RecordHeader header;
  header.kind = static_cast<RecordKind>(reader.U8());
  header.suite = reader.U8();
  header.shard = reader.U8();
  header.placement_class = reader.U16();
  RETURN_IF_ERROR(CheckZero(reader.Raw(2), kWhat));
  header.length = reader.U32();
  header.lsn = reader.U64();
  header.touch_epoch = reader.U64();
  header.number = reader.U64();
  header.segment = reader.Id<SegmentId>();
  header.domain = reader.Id<DomainId>();
  header.writer = reader.Id<WriterId>();
  header.id = reader.Id<RecordId>();
  header.checksum = reader.Id<Checksum>();
  RETURN_IF_ERROR(CheckZero(reader.rest(), kWhat));
  if (header.suite != kSuite1) return UnknownSuite(kWhat, header.suite);
  if (header.length > kMaxPayload) return Damaged(kWhat, "its length is impossible");
  if (header.lsn > kMaxLsn) return Damaged(kWhat, "its lsn is impossible");
  return header;
}

Buffer EncodeQuarantineEntries(std::span<const QuarantineEntry> entries) {
  Buffer buffer;
  buffer.reserve(entries.size() * kQuarantineEntrySize);
  Writer writer(buffer);
  for (const QuarantineEntry& entry : entries) {
    writer.Id(entry.id);
    writer.U64(entry.segment_number);
    writer.U64(entry.offset);
  }
  return buffer;
}

StatusOr<std::vector<QuarantineEntry>> DecodeQuarantineEntries(Bytes payload) {
  if (payload.size() % kQuarantineEntrySize != 0) {
    return Damaged("quarantine record", "its length is not a multiple of 48");
  }
  std::vector<QuarantineEntry> entries(payload.size() / kQuarantineEntrySize);
  Reader reader(payload);
  for (QuarantineEntry& entry : entries) {
    entry.id = reader.Id<RecordId>();
    entry.segment_number = reader.U64();
    entry.offset = reader.U64();
  }
  return entries;
}

Buffer EncodeTrash(const TrashMark& mark, std::span<const RecordId> ids) {
  Buffer buffer;
  buffer.reserve(kTrashMarkSize + ids.size() * RecordId::kSize);
  Writer writer(buffer);
  writer.U64(mark.generation);
  writer.U64(mark.run);
  writer.U64(mark.horizon);
  writer.U8(mark.surplus);
  Zeros(buffer, 7);
  for (const RecordId& id : ids) writer.Id(id);
  return buffer;
}

StatusOr<TrashPayload> DecodeTrash(Bytes payload) {
  constexpr std::string_view kWhat = "trash record";
  if (payload.size() < kTrashMarkSize || (payload.size() - kTrashMarkSize) % RecordId::kSize != 0) {
    return Damaged(kWhat, "its length is impossible");
  }
  Reader reader(payload);
  TrashPayload trash;
  trash.mark.generation = reader.U64();
  trash.mark.run = reader.U64();
  trash.mark.horizon = reader.U64();
  const uint8_t surplus = reader.U8();
  trash.mark.surplus = surplus == 1;
  if (surplus > 1) return Damaged(kWhat, "its reason is impossible");
  RETURN_IF_ERROR(CheckZero(reader.Raw(7), kWhat));
  trash.ids.resize((payload.size() - kTrashMarkSize) / RecordId::kSize);
  for (RecordId& id : trash.ids) id = reader.Id<RecordId>();
  return trash;
}

Buffer EncodeDroppedRanges(std::span<const DroppedRange> ranges) {
  Buffer buffer;
  buffer.reserve(ranges.size() * kDroppedRangeSize);
  Writer writer(buffer);
  for (const DroppedRange& range : ranges) {
    writer.U64(range.segment_number);
    writer.U64(range.begin);
    writer.U64(range.end);
  }
  return buffer;
}

StatusOr<std::vector<DroppedRange>> DecodeDroppedRanges(Bytes payload) {
  if (payload.size() % kDroppedRangeSize != 0) {
    return Damaged("recovery note", "its length is not a multiple of 24");
  }
  std::vector<DroppedRange> ranges(payload.size() / kDroppedRangeSize);
  Reader reader(payload);
  for (DroppedRange& range : ranges) {
    range.segment_number = reader.U64();
    range.begin = reader.U64();
    range.end = reader.U64();
    if (range.begin > range.end) return Damaged("recovery note", "a range ends before it begins");
  }
  return ranges;
}

std::array<uint8_t, kBlockSize> EncodeSuperblock(const Superblock& superblock) {
  Buffer buffer = Begin(kSuperblockMagic, kSuperblockVersion, kBlockSize);
  Zeros(buffer, 3);
  Writer writer(buffer);
  writer.U32(superblock.node_number);
  writer.Id(superblock.vault);
  writer.Id(superblock.node);
  writer.Id(superblock.incarnation);
  writer.U64(superblock.generation);
  writer.U64(superblock.sequence);
  writer.Id(superblock.synced_segment);
  writer.U64(superblock.synced_segment_number);
  writer.U64(superblock.synced_lsn);
  writer.U64(superblock.synced_end);
  std::array<uint8_t, kBlockSize> block;
  Close(buffer, block);
  return block;
}

StatusOr<Superblock> DecodeSuperblock(Bytes block) {
  constexpr std::string_view kWhat = "superblock";
  ASSIGN_OR_RETURN(Reader reader,
                   OpenHeader(block, kBlockSize, kSuperblockMagic, kSuperblockVersion, kWhat));
  RETURN_IF_ERROR(CheckZero(reader.Raw(3), kWhat));
  Superblock superblock;
  superblock.node_number = reader.U32();
  superblock.vault = reader.Id<VaultId>();
  superblock.node = reader.Id<NodeId>();
  superblock.incarnation = reader.Id<DiskIncarnation>();
  superblock.generation = reader.U64();
  superblock.sequence = reader.U64();
  superblock.synced_segment = reader.Id<SegmentId>();
  superblock.synced_segment_number = reader.U64();
  superblock.synced_lsn = reader.U64();
  superblock.synced_end = reader.U64();
  RETURN_IF_ERROR(CheckZero(reader.rest(), kWhat));
  return superblock;
}

}  // namespace holdfast
