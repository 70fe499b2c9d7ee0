#include "node/record_reader.h"

#include <algorithm>

#include "common/crypto/domain_keys.h"
#include "node/aligned_buffer.h"
#include "node/segment_table.h"

namespace holdfast {
namespace {

constexpr uint64_t kMaxGap = 32u << 10;  // Cheaper to read over than to ask twice.
constexpr uint64_t kMaxSpan = 4u << 20;  // Of several records; a single one may be longer.

uint64_t PayloadBegin(const RecordRead& read) { return read.entry.at.offset + kRecordHeaderSize; }
uint64_t PayloadEnd(const RecordRead& read) { return PayloadBegin(read) + read.entry.length; }

// Reads of one segment, in order of offset.
using Group = std::span<RecordRead*>;

void Check(RecordRead& read, Bytes payload, const std::shared_ptr<AlignedBuffer>& owner,
           bool keep) {
  const bool good =
      payload.size() == read.entry.length && ChecksumOf(payload) == read.entry.checksum;
  read.result = good ? RecordRead::Result::kGood : RecordRead::Result::kBad;
  if (good && keep) read.payload = {owner, payload};
}

void TakeHeader(RecordRead& read, Bytes buffer, uint64_t begin) {
  const uint64_t at = read.entry.at.offset - begin;
  if (at + kRecordHeaderSize > buffer.size()) return;
  StatusOr<RecordHeader> header = DecodeRecordHeader(buffer.subspan(at, kRecordHeaderSize));
  if (header.ok() && header->id == read.id) read.header = *header;
}

// One direct read that covers all of `group`.
void ReadSpan(File& file, Group group, bool keep) {
  uint64_t begin = group.front()->entry.at.offset / kDirectAlign * kDirectAlign;
  uint64_t end = 0;
  for (const RecordRead* read : group) end = std::max(end, RoundUpToBlock(PayloadEnd(*read)));
  auto buffer = std::make_shared<AlignedBuffer>(end - begin);
  StatusOr<size_t> n = file.ReadAt(begin, {buffer->data(), end - begin});
  if (!n.ok() && group.size() > 1) {
    // One bad block must not take its neighbours with it.
    for (size_t i = 0; i < group.size(); ++i) ReadSpan(file, group.subspan(i, 1), keep);
    return;
  }
  for (RecordRead* read : group) {
    if (!n.ok()) continue;
    TakeHeader(*read, {buffer->data(), *n}, begin);
    const uint64_t from = std::min<uint64_t>(PayloadBegin(*read) - begin, *n);
    const uint64_t to = std::min<uint64_t>(PayloadEnd(*read) - begin, *n);
    Check(*read, {buffer->data() + from, to - from}, buffer, keep);
  }
}

void ReadSegment(File& file, Group group, bool keep) {
  for (size_t first = 0; first < group.size();) {
    const uint64_t begin = PayloadBegin(*group[first]);
    uint64_t end = PayloadEnd(*group[first]);
    size_t next = first + 1;
    while (next < group.size() && PayloadBegin(*group[next]) <= end + kMaxGap &&
           PayloadEnd(*group[next]) - begin <= kMaxSpan) {
      end = std::max(end, PayloadEnd(*group[next++]));
    }
    ReadSpan(file, group.subspan(first, next - first), keep);
    first = next;
  }
}

}  // namespace

void ReadRecords(Fs& fs, const std::string& dir, std::vector<RecordRead>& reads,
                 bool keep_payloads) {
  std::vector<RecordRead*> order;
  for (RecordRead& read : reads) order.push_back(&read);
  std::sort(order.begin(), order.end(),
            [](const RecordRead* a, const RecordRead* b) { return a->entry.at < b->entry.at; });
  for (size_t first = 0; first < order.size();) {
    const uint64_t segment = order[first]->entry.at.segment;
    size_t next = first;
    while (next < order.size() && order[next]->entry.at.segment == segment) ++next;
    StatusOr<std::unique_ptr<File>> file = OpenSegment(fs, dir, segment);
    const Group group = Group(order).subspan(first, next - first);
    if (file.ok()) {
      ReadSegment(**file, group, keep_payloads);
    } else if (IsRefused(file.status())) {
      for (RecordRead* read : group) read->result = RecordRead::Result::kRefused;
    }
    first = next;
  }
}

}  // namespace holdfast
