// The check of one segment: every byte of the log against its checksums, the log against the
// index, and the index against the log.
//
// The last direction costs one scan of the index per pass: it counts the entries of each segment.
// Only a segment whose count differs from what its own scan finds is looked up entry by entry.
// Steps: tally (io) → file (io) → records, some at a time (Loop) → entries (io) → answer.
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "node/node_impl.h"
#include "node/replay.h"
#include "node/segment_scan.h"

namespace holdfast {
namespace {

using proto::Finding;

constexpr size_t kRecordsPerStep = 4096;  // What the Loop compares before others may run.

}  // namespace

struct Node::Impl::EntryTally {
  Status status;
  Location end;                          // Of the log then. What came later was not counted.
  std::map<uint64_t, uint64_t> entries;  // Per segment number.
  std::map<uint64_t, uint64_t> counted;  // Those before `end`.
};

struct Node::Impl::Check {
  ReplyFn reply;
  bool all_payloads = false;
  bool known = true;  // The number is in the table.
  SegmentInfo info;   // As it was when the check began.
  int64_t began_nanos = 0;
  std::vector<Dropped> dropped;
  proto::NodeCheckSegmentReply out;
  Status refused;  // Why the segment was not opened.
  SegmentScan scan;
  bool scanned = false;
  uint64_t current = 0;                   // Records that the index points to, of those counted.
  absl::flat_hash_set<uint64_t> offsets;  // Of all whole records.
  std::vector<std::pair<RecordId, Location>> bad;

  void Add(Finding finding) { *out.add_findings() = std::move(finding); }
};

void Node::Impl::HandleCheckSegment(const RpcMessage& request, ReplyFn reply) {
  auto head = ParseHead<proto::NodeCheckSegmentRequest>(request);
  if (!head.ok()) return reply(head.status());
  if (!broken_.ok()) return reply(broken_);
  auto c = std::make_shared<Check>();
  c->reply = std::move(reply);
  c->all_payloads = head->all_payloads();
  c->began_nanos = env_.clock.WallNanos();
  auto it = segments_.lower_bound(head->segment_number());
  if (head->segment_number() == 0) tally_ = nullptr;
  const bool another = it != segments_.end() && it->first != head->segment_number();
  c->known = it != segments_.end() && !(head->only() && another);
  if (!c->known && another) c->out.set_next_segment_number(it->first);
  if (c->known) {
    c->info = it->second;
    if (head->renew() && OlderThan(c->info, options_.verify_within_nanos / 2)) {
      c->all_payloads = true;
    }
    if (++it != segments_.end()) c->out.set_next_segment_number(it->first);
    auto dropped = index_->DroppedRanges(c->info.number);
    if (!dropped.ok()) return c->reply(IndexError(dropped.status()));
    c->dropped = *std::move(dropped);
  }
  if (tally_ != nullptr) return CheckFile(c);
  CheckTally(c);
}

// Counts the index's entries per segment, and reads all of its bytes.
void Node::Impl::CheckTally(const std::shared_ptr<Check>& c) {
  auto tally = std::make_shared<EntryTally>();
  if (const SegmentInfo* last = LastReadable(segments_)) tally->end = {last->number, last->end};
  RunOnIo(
      [tally, kv = index_->kv()] {
        tally->status = kv->VerifyAll();
        if (!tally->status.ok()) return;
        tally->status = Index::Scan(*kv, [&](const RecordId&, const IndexEntry& entry) {
          tally->entries[entry.at.segment] += 1;
          if (entry.at < tally->end) tally->counted[entry.at.segment] += 1;
          return true;
        });
      },
      [this, c, tally] {
        tally_ = tally;
        if (!tally->status.ok()) {
          (void)IndexError(tally->status);
          c->Add(make_.OfDisk(Finding::CORRUPT,
                              absl::StrCat("the index is damaged; the next start builds it anew (",
                                           tally->status.message(), ")")));
        }
        for (const auto& [number, count] : tally->entries) {
          if (segments_.contains(number)) continue;
          c->Add(make_.OfSegment(
              Finding::MISSING, number,
              absl::StrCat("the index has ", count, " records in this segment, which is unknown")));
        }
        CheckFile(c);
      });
}

void Node::Impl::CheckFile(const std::shared_ptr<Check>& c) {
  if (!c->known) return FinishCheck(c);
  RunOnIo(
      [this, c] {
        auto findings = CheckSegmentFile(env_.fs, options_.dir, make_, options_, c->info);
        c->refused = findings.status();
        if (!findings.ok()) return;
        for (Finding& finding : *findings) c->Add(std::move(finding));
        if (!c->info.readable()) return;
        StatusOr<std::unique_ptr<File>> file = OpenSegment(env_.fs, options_.dir, c->info.number);
        if (IsRefused(file.status())) c->refused = Refusal(file.status());
        if (!file.ok()) return;
        ScanOptions options;
        options.segment = c->info.id;
        options.end = std::min(c->info.end, c->info.file_bytes);
        options.all_payloads = c->all_payloads;
        c->scan = ScanSegment(**file, options);
        c->scanned = true;
      },
      [this, c] { c->refused.ok() ? CheckRecords(c) : c->reply(c->refused); });
}

void Node::Impl::CheckRecords(const std::shared_ptr<Check>& c) {
  // Freed while it was read.
  if (segments_[c->info.number].state == SegmentInfo::State::kFreed) {
    c->out.clear_findings();
    c->scan = {};
    c->scanned = false;
    return FinishCheck(c);
  }
  const size_t first = c->offsets.size();
  const size_t last = std::min(first + kRecordsPerStep, c->scan.records.size());
  if (first == last) return CheckEntries(c);
  if (Status status = CheckSomeRecords(*c, first, last); !status.ok()) {
    return c->reply(IndexError(status));
  }
  env_.loop.Post([self = shared_from_this(), c] {
    if (!self->stopped_) self->CheckRecords(c);
  });
}

Status Node::Impl::CheckSomeRecords(Check& c, size_t first, size_t last) {
  std::vector<RecordId> ids;
  for (size_t i = first; i < last; ++i) ids.push_back(c.scan.records[i].header.id);
  ASSIGN_OR_RETURN(auto entries, index_->Find(ids));
  const DropJudge judge(c.info.synced_lsn, c.dropped);
  for (size_t i = first; i < last; ++i) {
    const ScannedRecord& record = c.scan.records[i];
    c.offsets.insert(record.offset);
    const bool bad = record.state == PayloadState::kBad;
    if (bad && judge.Dropped(record.offset, record.end())) continue;
    CheckRecord(c, record, entries[i - first]);
    if (record.header.kind == RecordKind::kTouch) RETURN_IF_ERROR(CheckTouches(c, record));
    if (record.header.kind != RecordKind::kCommitRecord) continue;
    ASSIGN_OR_RETURN(bool listed, index_->HasCommit(record.header.number, record.header.id));
    if (!listed) {
      c.Add(make_.OfRecord(Finding::CORRUPT, c.info.number, record.offset, record.header.id,
                           record.header.kind, "the index does not list its number"));
    }
  }
  return absl::OkStatus();
}

void Node::Impl::CheckRecord(Check& c, const ScannedRecord& record,
                             const std::optional<IndexEntry>& entry) {
  const RecordHeader& header = record.header;
  const bool bad = record.state == PayloadState::kBad;
  const bool unreadable = record.state == PayloadState::kUnreadable;
  const Location at{c.info.number, record.offset};
  auto add = [&](Finding::Class finding_class, const char* text) {
    c.Add(make_.OfRecord(finding_class, at.segment, at.offset, header.id, header.kind, text));
  };
  const char* damage = unreadable ? "the disk cannot read it" : "its bytes fail the checksum";
  const bool current = IsIndexed(header.kind) && entry && entry->at == at;
  if (current && tally_ && at < tally_->end) ++c.current;
  if (bad || unreadable) {
    // A record that a newer one replaced is not needed any more.
    const bool live = current || !entry || !IsIndexed(header.kind);
    add(!live ? Finding::NOTE : unreadable ? Finding::UNREADABLE : Finding::CORRUPT, damage);
    if (current && bad && !entry->quarantined) c.bad.emplace_back(header.id, at);
  }
  if (!IsIndexed(header.kind)) return;
  if (!entry && index_->IsStale(at.segment)) return;
  if (!entry) return add(Finding::CORRUPT, "the index does not have it");
  if (!current) {
    if (entry->at < at) add(Finding::CORRUPT, "the index points to an older record of this id");
    return;
  }
  if (entry->length != header.length || entry->checksum != header.checksum ||
      entry->kind != header.kind || entry->touch_epoch < header.touch_epoch) {
    add(Finding::CORRUPT, "the index says something else about it");
  } else if (entry->quarantined && record.state == PayloadState::kGood) {
    add(Finding::NOTE, "is quarantined, though its bytes pass the checksum");
  }
}

// N6: no entry may be touched less than the log says.
Status Node::Impl::CheckTouches(Check& c, const ScannedRecord& record) {
  if (record.state != PayloadState::kGood) return absl::OkStatus();
  auto ids = ParseIds(std::string(AsView(record.payload)));
  if (!ids.ok()) {
    c.Add(make_.OfRecord(Finding::CORRUPT, c.info.number, record.offset, {}, record.header.kind,
                         "is malformed"));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(auto entries, index_->Find(*ids));
  for (size_t i = 0; i < ids->size(); ++i) {
    if (!entries[i] || entries[i]->touch_epoch >= record.header.touch_epoch) continue;
    c.Add(make_.OfRecord(Finding::CORRUPT, entries[i]->at.segment, entries[i]->at.offset, (*ids)[i],
                         entries[i]->kind, "the index has lost a touch of it"));
  }
  return absl::OkStatus();
}

void Node::Impl::CheckEntries(const std::shared_ptr<Check>& c) {
  const uint64_t number = c->info.number;
  if (!tally_ || !tally_->status.ok() || tally_->counted[number] == c->current) {
    CheckLostEntries(*c, {});
    return FinishCheck(c);
  }
  auto lost = std::make_shared<std::vector<std::pair<RecordId, IndexEntry>>>();
  auto status = std::make_shared<Status>();
  RunOnIo(
      [c, number, lost, status, kv = index_->kv()] {
        // Entries behind the scanned part are newer than the check.
        const uint64_t end = c->info.readable() ? c->info.end : UINT64_MAX;
        *status = Index::Scan(*kv, [&](const RecordId& id, const IndexEntry& entry) {
          const bool here = entry.at.segment == number && entry.at.offset < end;
          if (here && !c->offsets.contains(entry.at.offset)) lost->emplace_back(id, entry);
          return true;
        });
      },
      [this, c, lost, status] {
        if (!status->ok()) return c->reply(IndexError(*status));
        CheckLostEntries(*c, *lost);
        FinishCheck(c);
      });
}

// Reports the gaps: by the records that the index had there, else by place.
void Node::Impl::CheckLostEntries(Check& c,
                                  const std::vector<std::pair<RecordId, IndexEntry>>& entries) {
  std::vector<bool> named(c.scan.gaps.size());
  for (const auto& [id, entry] : entries) {
    std::string text = "the index has it here, but the log does not";
    Finding::Class finding_class = c.scanned ? Finding::CORRUPT : Finding::MISSING;
    for (size_t i = 0; i < c.scan.gaps.size(); ++i) {
      const ScannedGap& gap = c.scan.gaps[i];
      if (entry.at.offset < gap.begin || entry.at.offset >= gap.end) continue;
      named[i] = true;
      text = DescribeGap(gap);
      if (gap.unreadable) finding_class = Finding::UNREADABLE;
    }
    c.Add(make_.OfRecord(finding_class, c.info.number, entry.at.offset, id, entry.kind, text));
    if (finding_class == Finding::CORRUPT && !entry.quarantined) c.bad.emplace_back(id, entry.at);
  }
  const DropJudge judge(c.info.synced_lsn, c.dropped);
  for (size_t i = 0; i < c.scan.gaps.size(); ++i) {
    const ScannedGap& gap = c.scan.gaps[i];
    if (named[i] || judge.Dropped(gap.begin, gap.end) || judge.Torn(gap.first_lsn)) continue;
    if (!c.info.end_known && IsUnwritten(gap)) continue;
    c.Add(make_.At(gap.unreadable ? Finding::UNREADABLE : Finding::CORRUPT, c.info.number,
                   gap.begin, DescribeGap(gap)));
  }
}

void Node::Impl::FinishCheck(const std::shared_ptr<Check>& c) {
  c->out.set_records(c->scan.records.size());
  c->out.set_bytes(c->scanned ? c->scan.end : 0);
  bool damaged = false;
  for (const Finding& finding : c->out.findings()) {
    damaged = damaged || finding.class_() != Finding::NOTE;
  }
  if (c->known && damaged) segments_[c->info.number].damaged = true;
  if (!damaged && c->all_payloads && c->scanned) {
    segments_[c->info.number].verified_nanos = c->began_nanos;
    IndexDelta delta(*index_);
    delta.SetVerified(c->info.number, c->began_nanos);
    (void)index_->Apply(std::move(delta));
  }
  // What was found bad is quarantined before the answer, where the disk takes it.
  auto op = std::make_shared<Operation>(
      [c](const Status&) { c->reply(MakeMessage(rpc::kNodeCheckSegment, c->out)); });
  for (const auto& [id, at] : c->bad) QuarantineBad(id, at, op);
  op->Release();
}

}  // namespace holdfast
