#include "node/batch.h"

#include "common/crypto/domain_keys.h"

namespace holdfast {
namespace {

// A batch of a few records, and one that a busy node fills: memory that is not written to costs
// nothing, and growing by steps would touch twice what is needed.
constexpr uint64_t kSmallBuffer = 64u << 10;
constexpr uint64_t kLargeBuffer = 12u << 20;

}  // namespace

Batch::Batch(AlignedBuffer buffer) : buffer_(std::move(buffer)) {}

void Batch::Add(const RecordHeader& header, Bytes payload) {
  assert(header.length == payload.size() && payload.size() <= kMaxPayload);
  const uint64_t extent = RecordExtent(payload.size());
  const uint64_t needed = RoundUpToBlock(used_ + extent);
  if (needed > buffer_.capacity()) {
    const uint64_t size = needed <= kSmallBuffer ? kSmallBuffer : kLargeBuffer;
    buffer_.Grow(std::max({needed, size, uint64_t{2} * buffer_.capacity()}), used_);
  }
  uint8_t* at = buffer_.data() + used_ + kRecordHeaderSize;
  if (!payload.empty()) std::memcpy(at, payload.data(), payload.size());
  std::memset(at + payload.size(), 0, extent - kRecordHeaderSize - payload.size());
  records_.push_back({header, used_});
  used_ += extent;
}

void Batch::AddTouch(uint64_t epoch, const RecordId& id) {
  std::vector<RecordId>& ids = touches_[epoch];
  if (ids.empty()) meta_bytes_ += kRecordHeaderSize;
  ids.push_back(id);
  meta_bytes_ += RecordId::kSize;
}

void Batch::AddTrash(const TrashMark& mark, std::span<const RecordId> ids) {
  const auto [it, fresh] = trash_.try_emplace(mark);
  if (fresh) meta_bytes_ += kRecordHeaderSize + 32;
  it->second.insert(it->second.end(), ids.begin(), ids.end());
  meta_bytes_ += ids.size() * RecordId::kSize;
}

void Batch::AddQuarantine(const QuarantineEntry& entry) {
  if (quarantines_.empty()) meta_bytes_ += kRecordHeaderSize;
  quarantines_.push_back(entry);
  meta_bytes_ += 48;
}

void Batch::AddDropped(std::span<const DroppedRange> ranges) {
  if (ranges.empty()) return;
  if (dropped_.empty()) meta_bytes_ += kRecordHeaderSize;
  dropped_.insert(dropped_.end(), ranges.begin(), ranges.end());
  meta_bytes_ += 24 * ranges.size();
}

uint64_t Batch::TotalBytes() const { return RoundUpToBlock(used_ + meta_bytes_); }

void Batch::AddMeta(RecordKind kind, uint64_t epoch, Bytes payload) {
  RecordHeader header;
  header.kind = kind;
  header.touch_epoch = epoch;
  header.length = static_cast<uint32_t>(payload.size());
  header.checksum = ChecksumOf(payload);
  Add(header, payload);
}

Bytes Batch::Finish(const SegmentId& segment, uint64_t first_lsn, uint64_t synced_lsn) {
  const uint64_t total = TotalBytes();
  for (const auto& [epoch, ids] : touches_) {
    static_assert(sizeof(RecordId) == RecordId::kSize);
    AddMeta(RecordKind::kTouch, epoch,
            {reinterpret_cast<const uint8_t*>(ids.data()), ids.size() * RecordId::kSize});
  }
  for (const auto& [mark, ids] : trash_) AddMeta(RecordKind::kTrash, 0, EncodeTrash(mark, ids));
  if (!quarantines_.empty()) {
    AddMeta(RecordKind::kQuarantine, 0, EncodeQuarantineEntries(quarantines_));
  }
  if (!dropped_.empty()) AddMeta(RecordKind::kRecoveryNote, 0, EncodeDroppedRanges(dropped_));
  assert(RoundUpToBlock(used_) == total);
  if (total > buffer_.capacity()) buffer_.Grow(total, used_);
  std::memset(buffer_.data() + used_, 0, total - used_);
  uint64_t lsn = first_lsn;
  for (Record& record : records_) {
    record.header.segment = segment;
    record.header.lsn = lsn++;
    EncodeRecordHeader(record.header, std::span<uint8_t, kRecordHeaderSize>(
                                          buffer_.data() + record.offset, kRecordHeaderSize));
  }
  BatchHeader header;
  header.segment = segment;
  header.first_lsn = first_lsn;
  header.synced_lsn = synced_lsn;
  header.record_count = static_cast<uint32_t>(records_.size());
  header.total_bytes = static_cast<uint32_t>(total);
  EncodeBatchHeader(header, std::span<uint8_t, kBatchHeaderSize>(buffer_.data(), kBatchHeaderSize));
  return {buffer_.data(), total};
}

}  // namespace holdfast
