// Headers and payloads of segment files, and what reads a whole one.
#include "common/crypto/domain_keys.h"
#include "common/format/segment_format.h"
#include "node/segment_scan.h"
#include "tests/fuzz/parser_tools.h"
#include "tests/fuzz/segment_bytes.h"

namespace holdfast::fuzz {
namespace {

// A header that takes the first `size` bytes, the last four of them its CRC; `encode` gives them.
template <class Decode, class Encode>
void RunHeader(Bytes input, size_t size, Decode decode, Encode encode) {
  Buffer fixed = ToBuffer(input);
  fixed.resize(size);
  FixCrc(fixed);
  for (const Bytes bytes : {input, Bytes(fixed)}) {
    const auto header = decode(bytes);
    if (header.ok()) Must(Same(encode(*header), bytes.first(size)), "a header has one form");
  }
}

void SegmentHeaderParser(Bytes input) {
  RunHeader(input, kBlockSize, DecodeSegmentHeader, EncodeSegmentHeader);
}

void SuperblockParser(Bytes input) {
  RunHeader(input, kBlockSize, DecodeSuperblock, EncodeSuperblock);
}

void BatchHeaderParser(Bytes input) {
  RunHeader(input, kBatchHeaderSize, DecodeBatchHeader, [](const BatchHeader& header) {
    std::array<uint8_t, kBatchHeaderSize> bytes;
    EncodeBatchHeader(header, bytes);
    return bytes;
  });
}

void RecordHeaderParser(Bytes input) {
  RunHeader(input, kRecordHeaderSize, DecodeRecordHeader, [](const RecordHeader& header) {
    std::array<uint8_t, kRecordHeaderSize> bytes;
    EncodeRecordHeader(header, bytes);
    return bytes;
  });
}

// The payloads of records that nodes write for themselves.
void PayloadParser(Bytes input) {
  const auto quarantine = DecodeQuarantineEntries(input);
  if (quarantine.ok()) Must(Same(EncodeQuarantineEntries(*quarantine), input), "quarantine");
  const auto ranges = DecodeDroppedRanges(input);
  if (ranges.ok()) Must(Same(EncodeDroppedRanges(*ranges), input), "recovery note");
  const auto trash = DecodeTrash(input);
  if (trash.ok()) Must(Same(EncodeTrash(trash->mark, trash->ids), input), "trash");
}

Buffer PayloadOf(Bytes record) {
  return ToBuffer(record.subspan(kRecordHeaderSize, DecodeRecordHeader(record)->length));
}

// What must hold of a scan, whatever the file holds.
void CheckScan(const SegmentScan& scan, const ScanOptions& options) {
  uint64_t end = options.begin, lsn = 0;
  for (const ScannedRecord& record : scan.records) {
    Must(record.offset >= end && record.end() <= options.end, "records lie one behind the other");
    Must(record.header.lsn > lsn, "lsns rise");
    end = record.end();
    lsn = record.header.lsn;
  }
  for (const ScannedGap& gap : scan.gaps) {
    Must(gap.begin <= gap.end && gap.end <= options.end, "a gap lies in the segment");
  }
  Must(scan.end <= options.end && scan.next_lsn > lsn, "the end lies behind all");
}

// A byte of options, then what lies behind the segment's header.
void ScanParser(Bytes input) {
  if (input.empty()) return;
  const uint8_t how = input[0];
  Buffer bytes(kBlockSize);
  Append(bytes, input.subspan(1));
  FixSegment(bytes, how);
  BytesFile file(std::move(bytes));
  ScanOptions options;
  options.segment = Counting<SegmentId>(0x50);
  options.end = std::max<uint64_t>(kBlockSize, kBlockSize + input.size() - 1);
  options.all_payloads = (how & kAllPayloads) != 0;
  if (how & kTrustNothing) options.trusted_lsn = 0;
  CheckScan(ScanSegment(file, options), options);
  (void)FindSegmentId(file, options.end);
}

std::vector<Buffer> ScanSeeds() {
  std::vector<Buffer> seeds;
  const Buffer batch = GoldenFile("batch.hex");
  for (const uint8_t how : {0, 7, 15}) {
    seeds.push_back({how});
    Append(seeds.back(), batch);
    Append(seeds.back(), batch);
    seeds.push_back({how});
    for (const char* name : {"chunk", "touch", "trash", "quarantine", "recovery-note"}) {
      Append(seeds.back(), GoldenFile(std::string("record-") + name + ".hex"));
    }
  }
  return seeds;
}

}  // namespace

void FixSegment(MutableBytes file, uint8_t how) {
  if ((how & kFixHeaders) == 0) return;
  for (size_t at = 0; at + kBatchHeaderSize <= file.size(); at += kRecordAlign) {
    const MutableBytes rest = file.subspan(at);
    if (AsView(rest.first(4)) == "\x89HFB") {
      FixCrc(rest.first(kBatchHeaderSize));
    } else if (AsView(rest.first(4)) == "\x89HFR" && rest.size() >= kRecordHeaderSize) {
      Reader length(Bytes(rest).subspan(12, 4));
      const uint64_t size = length.U32();
      if ((how & kFixChecksums) != 0 && size <= rest.size() - kRecordHeaderSize) {
        const Checksum checksum = ChecksumOf(rest.subspan(kRecordHeaderSize, size));
        std::ranges::copy(checksum.value, rest.begin() + 120);
      }
      FixCrc(rest.first(kRecordHeaderSize));
    }
  }
}

std::vector<Parser> SegmentParsers() {
  const std::vector<std::string> records = {
      "record-chunk.hex",      "record-manifest-part.hex", "record-commit.hex", "record-touch.hex",
      "record-quarantine.hex", "record-recovery-note.hex", "record-trash.hex"};
  return {
      {"segment-header", SegmentHeaderParser,
       Golden({"segment-header.hex", "segment-header-freed.hex"})},
      {"superblock", SuperblockParser, Golden({"superblock.hex"})},
      {"batch-header", BatchHeaderParser,
       Golden({"batch.hex"}, [](Bytes batch) { return ToBuffer(batch.first(kBatchHeaderSize)); })},
      {"record-header", RecordHeaderParser,
       Golden(records, [](Bytes record) { return ToBuffer(record.first(kRecordHeaderSize)); })},
      {"record-payload", PayloadParser,
       Golden({"record-quarantine.hex", "record-recovery-note.hex", "record-trash.hex"},
              PayloadOf)},
      {"segment-scan", ScanParser, ScanSeeds},
  };
}

}  // namespace holdfast::fuzz
