#include "node/segment_scan.h"

#include <cstring>
#include <optional>

#include "common/crypto/domain_keys.h"
#include "node/window.h"

namespace holdfast {
namespace {

constexpr size_t kPayloadStep = 4u << 20;
constexpr size_t kHeaderStep = 64u << 10;
constexpr size_t kSearchStep = 256u << 10;

// The first four bytes of every record and batch header: what a search looks for.
uint32_t RecordMagic() {
  static const uint32_t magic = [] {
    std::array<uint8_t, kRecordHeaderSize> bytes;
    EncodeRecordHeader({}, bytes);
    uint32_t word;
    std::memcpy(&word, bytes.data(), sizeof word);
    return word;
  }();
  return magic;
}

uint32_t BatchMagic() {
  static const uint32_t magic = [] {
    std::array<uint8_t, kBatchHeaderSize> bytes;
    EncodeBatchHeader({}, bytes);
    uint32_t word;
    std::memcpy(&word, bytes.data(), sizeof word);
    return word;
  }();
  return magic;
}

class Scanner {
 public:
  Scanner(File& file, const ScanOptions& options)
      : options_(options),
        window_(file, options.end, options.all_payloads ? kPayloadStep : kHeaderStep) {
    scan_.end = options.begin;
    scan_.next_lsn = options.first_lsn;
  }

  SegmentScan Run() {
    uint64_t at = options_.begin;
    while (at < options_.end) {
      std::optional<BatchHeader> batch = BatchAt(at);
      at = batch ? ScanBatch(at, *batch) : FindNext(at);
    }
    return std::move(scan_);
  }

 private:
  std::optional<BatchHeader> BatchAt(uint64_t at) {
    const Bytes bytes = window_.View(at, kBatchHeaderSize);
    if (bytes.size() < kBatchHeaderSize) return std::nullopt;
    StatusOr<BatchHeader> header = DecodeBatchHeader(bytes);
    const bool good = header.ok() && header->segment == options_.segment &&
                      header->record_count > 0 && header->first_lsn >= scan_.next_lsn &&
                      header->synced_lsn < header->first_lsn;
    return good ? std::optional(*header) : std::nullopt;
  }

  // A record that ends at or before `limit`, of an lsn in [low, high].
  std::optional<RecordHeader> RecordAt(uint64_t at, uint64_t limit, uint64_t low, uint64_t high) {
    const Bytes bytes = window_.View(at, kRecordHeaderSize);
    if (bytes.size() < kRecordHeaderSize) return std::nullopt;
    StatusOr<RecordHeader> header = DecodeRecordHeader(bytes);
    const bool good = header.ok() && header->segment == options_.segment && header->lsn >= low &&
                      header->lsn <= high && RecordExtent(header->length) <= limit - at;
    return good ? std::optional(*header) : std::nullopt;
  }

  void AddGap(uint64_t begin, uint64_t end, uint64_t first_lsn, uint64_t last_lsn) {
    ScannedGap gap{.begin = begin, .end = end, .first_lsn = first_lsn, .last_lsn = last_lsn};
    gap.zeros = window_.AllZero(begin, end);
    gap.unreadable = window_.Unreadable(begin, end);
    scan_.gaps.push_back(gap);
  }

  void AddRecord(uint64_t at, const RecordHeader& header) {
    ScannedRecord record{.header = header, .offset = at, .state = PayloadState::kUnchecked};
    if (options_.all_payloads || !IsBulk(header.kind) || header.lsn > options_.trusted_lsn) {
      CheckPayload(record);
    }
    scan_.next_lsn = header.lsn + 1;
    scan_.end = std::min(RoundUpToBlock(record.end()), options_.end);
    scan_.records.push_back(std::move(record));
  }

  void CheckPayload(ScannedRecord& record) {
    const uint64_t length = record.header.length;
    const uint64_t at = record.offset + kRecordHeaderSize;
    const Bytes stored = window_.View(at, record.end() - at);
    const bool whole = stored.size() == record.end() - at;
    const Bytes payload = whole ? stored.first(length) : Bytes();
    // The padding is part of what must read back.
    bool good = whole && ChecksumOf(payload) == record.header.checksum;
    for (uint64_t i = length; good && i < stored.size(); ++i) good = stored[i] == 0;
    record.state = window_.Unreadable(record.offset, record.end()) ? PayloadState::kUnreadable
                   : good                                          ? PayloadState::kGood
                                                                   : PayloadState::kBad;
    if (good && !IsIndexed(record.header.kind)) {
      record.payload.assign(payload.begin(), payload.end());
    }
  }

  // The whole batch at `begin`; gives where the next one should be.
  uint64_t ScanBatch(uint64_t begin, const BatchHeader& batch) {
    if (batch.first_lsn > scan_.next_lsn) {
      AddGap(begin, begin, scan_.next_lsn, batch.first_lsn - 1);
    }
    scan_.batches.push_back({begin, batch});
    const uint64_t end = std::min(begin + batch.total_bytes, options_.end);
    const uint64_t last_lsn = batch.first_lsn + batch.record_count - 1;
    uint64_t at = begin + kBatchHeaderSize;
    uint64_t lsn = batch.first_lsn;
    while (lsn <= last_lsn) {
      std::optional<RecordHeader> record = RecordAt(at, end, lsn, lsn);
      if (!record) {
        const uint64_t found = FindRecord(at, end, lsn + 1, last_lsn, &record);
        AddGap(at, found, lsn, record ? record->lsn - 1 : last_lsn);
        at = found;
        if (!record) break;
      }
      AddRecord(at, *record);
      at += RecordExtent(record->length);
      lsn = record->lsn + 1;
    }
    if (at < end && !window_.AllZero(at, end)) AddGap(at, end, last_lsn, last_lsn - 1);
    scan_.next_lsn = last_lsn + 1;
    scan_.end = end;
    return end;
  }

  // The first record at or after `at` with an lsn in [low, high]; `end` when there is none.
  uint64_t FindRecord(uint64_t at, uint64_t end, uint64_t low, uint64_t high,
                      std::optional<RecordHeader>* record) {
    const uint32_t magic = RecordMagic();
    while (low <= high && at < end) {
      at = FindWord(at, end, magic, magic);
      if (at < end) *record = RecordAt(at, end, low, high);
      if (*record) return at;
      at += kRecordAlign;
    }
    return end;
  }

  // The first 8-byte aligned place in [at, end) that begins with one of two words.
  uint64_t FindWord(uint64_t at, uint64_t end, uint32_t a, uint32_t b) {
    while (at < end) {
      const Bytes bytes = window_.View(at, std::min<uint64_t>(end - at, kSearchStep));
      if (bytes.empty()) return end;
      for (size_t i = 0; i + sizeof a <= bytes.size(); i += kRecordAlign) {
        uint32_t word;
        std::memcpy(&word, bytes.data() + i, sizeof word);
        if (word == a || word == b) return at + i;
      }
      at += (bytes.size() + kRecordAlign - 1) / kRecordAlign * kRecordAlign;
    }
    return end;
  }

  // There is no batch header at `at`: looks for what comes next, a batch or a record whose batch
  // header is lost, and follows such records. Gives where the next batch should be.
  uint64_t FindNext(uint64_t at) {
    const uint64_t begin = at;
    for (;; at += kRecordAlign) {
      at = FindWord(at, options_.end, RecordMagic(), BatchMagic());
      if (at >= options_.end) {
        AddGap(begin, options_.end, scan_.next_lsn, ScannedGap::kOpenEnd);
        return options_.end;
      }
      if (at % kBlockSize == 0) {
        if (std::optional<BatchHeader> batch = BatchAt(at)) {
          AddGap(begin, at, scan_.next_lsn, batch->first_lsn - 1);
          scan_.next_lsn = batch->first_lsn;
          return at;
        }
      }
      std::optional<RecordHeader> record =
          RecordAt(at, options_.end, scan_.next_lsn, ScannedGap::kOpenEnd);
      if (!record) continue;
      AddGap(begin, at, scan_.next_lsn, record->lsn - 1);
      return FollowRecords(at, *record);
    }
  }

  uint64_t FollowRecords(uint64_t at, RecordHeader record) {
    for (;;) {
      AddRecord(at, record);
      at += RecordExtent(record.length);
      std::optional<RecordHeader> next = RecordAt(at, options_.end, scan_.next_lsn, scan_.next_lsn);
      if (!next) break;
      record = *next;
    }
    const uint64_t block = std::min(RoundUpToBlock(at), options_.end);
    return window_.AllZero(at, block) ? block : at;
  }

  const ScanOptions options_;
  Window window_;
  SegmentScan scan_;
};

}  // namespace

bool IsBulk(RecordKind kind) {
  return kind == RecordKind::kChunk || kind == RecordKind::kManifestPart;
}

bool IsIndexed(RecordKind kind) {
  switch (kind) {
    case RecordKind::kTouch:
    case RecordKind::kQuarantine:
    case RecordKind::kTrash:
    case RecordKind::kRecoveryNote:
      return false;
    default:
      return true;
  }
}

SegmentScan ScanSegment(File& file, const ScanOptions& options) {
  return Scanner(file, options).Run();
}

SegmentId FindSegmentId(File& file, uint64_t file_bytes) {
  Window window(file, file_bytes, kSearchStep);
  for (uint64_t at = kBlockSize; at < file_bytes; at += kBlockSize) {
    StatusOr<BatchHeader> header = DecodeBatchHeader(window.View(at, kBatchHeaderSize));
    if (header.ok()) return header->segment;
  }
  return {};
}

}  // namespace holdfast
