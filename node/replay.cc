#include "node/replay.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/mutant.h"

namespace holdfast {
namespace {

using proto::Finding;

// Something bad in the log, to be judged when all of the log was seen: the note that excuses it
// lies behind it.
struct Suspect {
  uint64_t segment;
  uint64_t begin, end;
  uint64_t lsn;
  std::string text;
  bool unreadable;
  RecordHeader header;  // Of a record whose payload is bad.
  bool is_record = false;
};

class Replayer {
 public:
  Replayer(const NodeOptions& options, const NodeEnv& env, const Superblock& superblock,
           SegmentTable& table, Index& index)
      : options_(options),
        env_(env),
        superblock_(superblock),
        table_(table),
        index_(index),
        make_(options.dir, options.node_number) {}

  StatusOr<ReplayResult> Run() {
    SegmentInfo* last = LastReadable(table_);
    if (last == nullptr) return std::move(result_);
    result_.last = last->number;
    const Checkpoint start = index_.checkpoint();
    for (auto it = table_.lower_bound(start.segment); it != table_.end(); ++it) {
      if (it->second.readable()) RETURN_IF_ERROR(ReplaySegment(it->second, &it->second == last));
    }
    RETURN_IF_ERROR(JudgeAll());
    RETURN_IF_ERROR(CollectUnnoted(*last));
    return std::move(result_);
  }

 private:
  Status ReplaySegment(SegmentInfo& info, bool last) {
    ScanOptions scan_options;
    scan_options.segment = info.id;
    scan_options.end = last ? info.file_bytes : std::min(info.end, info.file_bytes);
    scan_options.all_payloads = last;
    // What was never acknowledged may be torn, its header whole.
    scan_options.trusted_lsn = info.synced_lsn;
    if (info.number == index_.checkpoint().segment) {
      scan_options.begin = index_.checkpoint().end;
      scan_options.first_lsn = index_.checkpoint().lsn + 1;
    }
    StatusOr<std::unique_ptr<File>> file = OpenSegment(env_.fs, options_.dir, info.number);
    if (IsRefused(file.status())) return Refusal(file.status());
    if (!file.ok()) {
      Add(make_.OfSegment(Finding::UNREADABLE, info.number, Message(file.status())));
      if (last) result_.clean = false;
      return absl::OkStatus();
    }
    SegmentScan scan = ScanSegment(**file, scan_options);
    const uint64_t synced = SyncedLsn(info, scan, last);
    if (HOLDFAST_MUTANT(idle_batch_torn) && last && !scan.batches.empty()) {
      std::erase_if(scan.records, [&](const ScannedRecord& record) {
        return record.offset >= scan.batches.back().offset;
      });
    }
    if (HOLDFAST_MUTANT(truncate_at_corruption)) {
      const auto bad = std::find_if(
          scan.records.begin(), scan.records.end(),
          [](const ScannedRecord& record) { return record.state == PayloadState::kBad; });
      scan.records.erase(bad, scan.records.end());
    }
    if (last) RETURN_IF_ERROR(SyncKept(info, scan, synced));
    RETURN_IF_ERROR(IndexSegment(info, scan, synced));
    if (last) {
      info.end = scan.end;
      info.synced_lsn = synced;
      info.end_known = true;
      result_.last_lsn = scan.next_lsn - 1;
    }
    for (const ScannedGap& gap : scan.gaps) AddGap(info, gap, synced);
    checkpoint_ = {info.number, info.id, scan.batches.empty() ? 0 : scan.batches.back().offset,
                   last ? scan.end : scan_options.end, scan.next_lsn - 1};
    scanned_ = scanned_ || scan.end != scan_options.begin;
    return absl::OkStatus();
  }

  uint64_t SyncedLsn(const SegmentInfo& info, const SegmentScan& scan, bool last) const {
    if (!last) return info.synced_lsn;
    uint64_t synced = 0;
    if (superblock_.synced_segment == info.id) synced = superblock_.synced_lsn;
    if (index_.checkpoint().segment == info.number) {
      synced = std::max(synced, index_.checkpoint().lsn);
    }
    for (const ScannedBatch& batch : scan.batches) {
      synced = std::max(synced, batch.header.synced_lsn);
    }
    return synced;
  }

  // What a killed process wrote, the segment's name and header too, may be readable and yet not
  // durable: make it so before it counts.
  Status SyncKept(const SegmentInfo& info, const SegmentScan& scan, uint64_t synced) {
    const bool header_synced = synced > 0 || superblock_.synced_segment == info.id;
    const bool records_synced = scan.records.empty() || scan.records.back().header.lsn <= synced;
    if (header_synced && records_synced) return absl::OkStatus();
    OpenOptions open;
    open.write = true;
    const std::string path = SegmentPath(options_.dir, info.number);
    ASSIGN_OR_RETURN(std::unique_ptr<File> file, env_.fs.Open(path, open));
    RETURN_IF_ERROR(file->DataSync());
    return env_.fs.SyncDir(options_.dir + "/segments");
  }

  Status IndexSegment(const SegmentInfo& info, const SegmentScan& scan, uint64_t synced) {
    IndexDelta delta(index_);
    std::vector<RecordId> ids;
    for (const ScannedRecord& record : scan.records) {
      if (IsIndexed(record.header.kind)) ids.push_back(record.header.id);
    }
    RETURN_IF_ERROR(delta.Load(ids));
    for (const ScannedRecord& record : scan.records) {
      RETURN_IF_ERROR(IndexRecord(info, record, synced, delta));
    }
    // No checkpoint yet: were recovery cut short, it would miss what is still to be judged.
    return index_.Apply(std::move(delta));
  }

  Status IndexRecord(const SegmentInfo& info, const ScannedRecord& record, uint64_t synced,
                     IndexDelta& delta) {
    const RecordHeader& header = record.header;
    const bool bad = record.state == PayloadState::kBad;
    if (bad || record.state == PayloadState::kUnreadable) AddRecord(info, record);
    if (IsIndexed(header.kind)) {
      if (bad && header.lsn > synced) return absl::OkStatus();
      if (bad) result_.quarantine.push_back({header.id, info.number, record.offset});
      return delta.AddRecord(header, {info.number, record.offset}, bad);
    }
    if (record.state != PayloadState::kGood) return absl::OkStatus();
    if (header.kind == RecordKind::kTouch) {
      if (record.payload.size() % RecordId::kSize != 0) return absl::OkStatus();
      return delta.AddTouch(header.touch_epoch,
                            {reinterpret_cast<const RecordId*>(record.payload.data()),
                             record.payload.size() / RecordId::kSize});
    }
    if (header.kind == RecordKind::kTrash) {
      auto trash = DecodeTrash(record.payload);
      if (trash.ok()) return delta.AddTrash(trash->mark, trash->ids);
    }
    if (header.kind == RecordKind::kQuarantine) {
      auto entries = DecodeQuarantineEntries(record.payload);
      if (!entries.ok()) return absl::OkStatus();
      for (const QuarantineEntry& entry : *entries) RETURN_IF_ERROR(delta.AddQuarantine(entry));
    }
    if (header.kind == RecordKind::kRecoveryNote) {
      auto ranges = DecodeDroppedRanges(record.payload);
      if (!ranges.ok()) return absl::OkStatus();
      for (const DroppedRange& range : *ranges) delta.AddDropped({range, 0, true});
    }
    return absl::OkStatus();
  }

  void AddRecord(const SegmentInfo& info, const ScannedRecord& record) {
    const bool unreadable = record.state == PayloadState::kUnreadable;
    Suspect suspect{info.number,
                    record.offset,
                    record.end(),
                    record.header.lsn,
                    unreadable ? "the disk cannot read it" : "its bytes fail the checksum",
                    unreadable,
                    record.header,
                    true};
    suspects_.push_back(std::move(suspect));
  }

  void AddGap(const SegmentInfo& info, const ScannedGap& gap, uint64_t synced) {
    const bool last = info.number == result_.last;
    if (last) result_.clean = false;
    // Behind the end of the log lies preallocated space.
    if (IsUnwritten(gap) && (gap.first_lsn > synced || !info.end_known)) {
      if (last) result_.zeros_behind = true;
      return;
    }
    suspects_.push_back({info.number,
                         gap.begin,
                         gap.end,
                         gap.first_lsn,
                         DescribeGap(gap),
                         gap.unreadable,
                         {},
                         false});
  }

  Status JudgeAll() {
    IndexDelta delta(index_);
    for (const Suspect& suspect : suspects_) RETURN_IF_ERROR(Judge(suspect, delta));
    if (checkpoint_.segment != 0) delta.SetCheckpoint(checkpoint_);
    if (!scanned_ && suspects_.empty()) return absl::OkStatus();
    RETURN_IF_ERROR(index_.Apply(std::move(delta)));
    return index_.Flush();
  }

  Status Judge(const Suspect& suspect, IndexDelta& delta) {
    if (suspect.segment == result_.last) result_.clean = false;
    ASSIGN_OR_RETURN(auto dropped, index_.DroppedRanges(suspect.segment));
    const DropJudge judge(table_[suspect.segment].synced_lsn, std::move(dropped));
    if (judge.Dropped(suspect.begin, suspect.end)) return absl::OkStatus();
    if (suspect.is_record && IsIndexed(suspect.header.kind)) {
      // A record that a newer one replaced is not needed any more.
      ASSIGN_OR_RETURN(auto entries, index_.Find({suspect.header.id}));
      if (entries[0] && entries[0]->at > Location{suspect.segment, suspect.begin}) {
        Add(make_.OfRecord(Finding::NOTE, suspect.segment, suspect.begin, suspect.header.id,
                           suspect.header.kind, suspect.text));
        return absl::OkStatus();
      }
    }
    if (suspect.unreadable || !judge.Torn(suspect.lsn)) {
      const auto finding_class = suspect.unreadable ? Finding::UNREADABLE : Finding::CORRUPT;
      Add(suspect.is_record
              ? make_.OfRecord(finding_class, suspect.segment, suspect.begin, suspect.header.id,
                               suspect.header.kind, suspect.text)
              : make_.At(finding_class, suspect.segment, suspect.begin, suspect.text));
      return absl::OkStatus();
    }
    delta.AddDropped({{suspect.segment, suspect.begin, suspect.end}, suspect.lsn, false});
    Add(make_.At(Finding::NOTE, suspect.segment, suspect.begin,
                 absl::StrCat("an unfinished write was dropped (", suspect.end - suspect.begin,
                              " bytes, never acknowledged): ", suspect.text)));
    return absl::OkStatus();
  }

  // Ranges still to be noted in the log; the last segment's synced lsn stays below them.
  Status CollectUnnoted(SegmentInfo& last) {
    ASSIGN_OR_RETURN(auto all, index_.DroppedRanges(0));
    last.synced_lsn = result_.last_lsn;
    for (const Dropped& dropped : all) {
      if (dropped.noted) continue;
      result_.unnoted.push_back(dropped);
      if (dropped.range.segment_number == last.number && dropped.lsn > 0) {
        last.synced_lsn = std::min(last.synced_lsn, dropped.lsn - 1);
      }
    }
    return absl::OkStatus();
  }

  void Add(Finding finding) { result_.findings.push_back(std::move(finding)); }

  const NodeOptions& options_;
  const NodeEnv& env_;
  const Superblock& superblock_;
  SegmentTable& table_;
  Index& index_;
  const FindingMaker make_;
  std::vector<Suspect> suspects_;
  Checkpoint checkpoint_;
  bool scanned_ = false;
  ReplayResult result_;
};

}  // namespace

bool DropJudge::Dropped(uint64_t begin, uint64_t end) const {
  return std::any_of(dropped_.begin(), dropped_.end(), [&](const holdfast::Dropped& dropped) {
    return dropped.range.begin <= begin && end <= dropped.range.end;
  });
}

bool DropJudge::Torn(uint64_t lsn) const {
  const bool noted = std::any_of(dropped_.begin(), dropped_.end(),
                                 [](const holdfast::Dropped& dropped) { return dropped.noted; });
  return lsn > synced_lsn_ && !noted;
}

bool IsUnwritten(const ScannedGap& gap) {
  return gap.zeros && !gap.unreadable && gap.last_lsn == ScannedGap::kOpenEnd;
}

std::string DescribeGap(const ScannedGap& gap) {
  const uint64_t bytes = gap.end - gap.begin;
  if (gap.unreadable) return absl::StrCat("the disk cannot read all of ", bytes, " bytes");
  if (gap.last_lsn < gap.first_lsn) {
    return absl::StrCat("a batch header or padding of ", bytes,
                        " bytes is damaged; the records around it are whole");
  }
  const char* what = gap.zeros ? " bytes of zeros" : " bytes that are no record";
  if (gap.last_lsn == ScannedGap::kOpenEnd) {
    return absl::StrCat(bytes, what, "; the records from ", gap.first_lsn, " on are gone");
  }
  return absl::StrCat(bytes, what, "; records ", gap.first_lsn, " to ", gap.last_lsn,
                      " of the segment are gone");
}

StatusOr<ReplayResult> Replay(const NodeOptions& options, const NodeEnv& env,
                              const Superblock& superblock, SegmentTable& table, Index& index) {
  return Replayer(options, env, superblock, table, index).Run();
}

}  // namespace holdfast
