// What compaction moves out of a segment: records, what was set aside, marks (node/compactor.h).
#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/mutant.h"
#include "node/compactor.h"
#include "node/log.h"

namespace holdfast {
namespace {

constexpr uint64_t kBytesPerMove = 8u << 20;  // Read and appended at a time.

}  // namespace

void Node::Impl::Compactor::MoveSome() {
  if (Stopped()) return;
  const size_t first = next_;
  std::vector<RecordId> ids;
  while (next_ < scan_.records.size() && ids.size() < kRecordsPerStep) {
    ids.push_back(scan_.records[next_++].header.id);
  }
  if (ids.empty()) return CheckComplete();
  auto entries = node_.index_->Find(ids);
  if (!entries.ok()) return Finish(node_.IndexError(entries.status()));
  auto reads = std::make_shared<std::vector<RecordRead>>();
  uint64_t bytes = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const ScannedRecord& record = scan_.records[first + i];
    const std::optional<IndexEntry>& entry = (*entries)[i];
    const Location at{segment_, record.offset};
    if (!IsIndexed(record.header.kind) || !entry || entry->at != at) continue;
    ++found_;
    if (MayGo(ids[i], *entry)) {
      expired_.push_back(ids[i]);
    } else if (entry->quarantined || node_.commits_->HasQuarantine(ids[i], at)) {
      return Skip(kQuarantined);
    } else {
      reads->push_back({ids[i], *entry});
      bytes += entry->length;
    }
    if (bytes < kBytesPerMove) continue;
    next_ = first + i + 1;
    break;
  }
  if (reads->empty()) return AfterRest([this] { MoveSome(); });
  AfterRest([this, reads, bytes] {
    if (Stopped()) return;
    const int64_t now = node_.env_.clock.MonotonicNanos();
    node_.copy_free_nanos_ =
        std::max(node_.copy_free_nanos_, now) +
        static_cast<int64_t>(static_cast<double>(bytes) * kSecond /
                             static_cast<double>(node_.options_.copy_bytes_per_second));
    auto node = node_.shared_from_this();
    node->RunOnIo([node, reads] { ReadRecords(node->env_.fs, node->options_.dir, *reads, true); },
                  [self = shared_from_this(), reads] { self->Move(reads); });
  });
}

void Node::Impl::Compactor::Move(const std::shared_ptr<std::vector<RecordRead>>& reads) {
  if (Stopped()) return;
  std::vector<RecordId> ids;
  for (const RecordRead& read : *reads) ids.push_back(read.id);
  auto entries = node_.index_->Find(ids);
  if (!entries.ok()) return Finish(node_.IndexError(entries.status()));
  auto moved = std::make_shared<std::vector<Moved>>();
  for (size_t i = 0; i < reads->size(); ++i) {
    const RecordRead& read = (*reads)[i];
    if (!(*entries)[i] || (*entries)[i]->at != read.entry.at) continue;
    const bool bad =
        (*entries)[i]->quarantined || node_.commits_->HasQuarantine(read.id, read.entry.at);
    if (bad) return Skip(kQuarantined);
    if (read.result == RecordRead::Result::kGood && read.header) continue;
    auto op = std::make_shared<Operation>([](const Status&) {});
    if (read.result == RecordRead::Result::kBad) node_.QuarantineBad(read.id, read.entry.at, op);
    op->Release();
    return Skip(absl::StrCat("record ", read.id.hex().substr(0, 16), " in it cannot be read"));
  }
  Durably(
      [this, reads, &entries, moved](const OperationPtr& op) {
        for (size_t i = 0; i < reads->size(); ++i) {
          const RecordRead& read = (*reads)[i];
          if (!(*entries)[i] || (*entries)[i]->at != read.entry.at) continue;
          MoveOne(read, (*entries)[i], op);
          moved->push_back({read.id, read.entry});
        }
        return absl::OkStatus();
      },
      [this, moved] {
        if (Status status = MoveProofs(*moved); !status.ok()) {
          return Finish(node_.IndexError(status));
        }
        MoveSome();
      });
}

void Node::Impl::Compactor::MoveOne(const RecordRead& read, const std::optional<IndexEntry>& now,
                                    const OperationPtr& op) {
  // Something newer is on its way, and will take its place.
  if (node_.commits_->FindRecord(read.id)) return node_.commits_->WaitForRecord(read.id, op);
  RecordHeader header = *read.header;
  if (!HOLDFAST_MUTANT(compaction_drops_touch)) {
    header.touch_epoch = node_.KnownTouch(read.id, now);
  }
  node_.commits_->AddRecord(header, read.payload.view, op);
  out_.set_copied_bytes(out_.copied_bytes() + RecordExtent(header.length));
  if (now->trashed()) Remark(read.id, *now, op);
}

// A mark counts for records before it in the log.
void Node::Impl::Compactor::Remark(const RecordId& id, const IndexEntry& entry,
                                   const OperationPtr& op) {
  const TrashMark mark{node_.index_->gc().generation, entry.run, entry.horizon, entry.surplus};
  node_.commits_->AddTrash(mark, {&id, 1}, op);
}

// Who has shown that it has the bytes need not do so again.
Status Node::Impl::Compactor::MoveProofs(const std::vector<Moved>& moved) {
  if (node_.index_->backlog() > 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const bool any, node_.index_->HasProofs());
  if (!any) return absl::OkStatus();
  IndexDelta delta(*node_.index_);
  std::vector<RecordId> ids;
  for (const Moved& one : moved) ids.push_back(one.id);
  ASSIGN_OR_RETURN(const auto entries, node_.index_->Find(ids));
  for (size_t i = 0; i < moved.size(); ++i) {
    // Not where something else took the place.
    const IndexEntry& from = moved[i].from;
    if (!entries[i] || entries[i]->checksum != from.checksum || entries[i]->writer != from.writer) {
      continue;
    }
    ASSIGN_OR_RETURN(const auto writers, node_.index_->Provers(moved[i].id, from.at));
    for (const WriterId& writer : writers) delta.AddProof(moved[i].id, writer, entries[i]->at);
  }
  if (delta.size() > 0) (void)node_.index_->Apply(std::move(delta));
  return absl::OkStatus();
}

// Whether the scan has shown all that the index has here. Entries of a segment that is not written
// any more can only become fewer.
void Node::Impl::Compactor::CheckComplete() {
  const Victim& victim = victims_[step_ - 1];
  if (found_ == victim.entries && !victim.was_last && scan_.gaps.empty()) return FindSetAside();
  auto lost = std::make_shared<bool>(false);
  auto garbage = std::make_shared<std::vector<RecordId>>();
  auto status = std::make_shared<Status>();
  absl::flat_hash_set<uint64_t> offsets;
  for (const ScannedRecord& record : scan_.records) offsets.insert(record.offset);
  node_.RunOnIo(
      [kv = node_.index_->kv(), segment = segment_, floor_run = floor_run_, free_run = free_run_,
       lost, garbage, status, offsets] {
        *status = Index::Scan(*kv, [&](const RecordId& id, const IndexEntry& entry) {
          if (entry.at.segment != segment || offsets.contains(entry.at.offset)) return true;
          *lost = !entry.expired(floor_run, free_run);
          if (!*lost) garbage->push_back(id);
          return !*lost;
        });
      },
      [self = shared_from_this(), lost, garbage, status] {
        if (self->Stopped()) return;
        if (!status->ok()) return self->Finish(self->node_.IndexError(*status));
        if (*lost) return self->Skip(kDamaged);
        // What is garbage need not be whole to go.
        self->unseen_ = *garbage;
        self->expired_.insert(self->expired_.end(), garbage->begin(), garbage->end());
        self->FindSetAside();
      });
}

void Node::Impl::Compactor::FindSetAside() {
  // Of what waits to be written the scan would see nothing.
  if (node_.index_->backlog() > 0) return Finish(IndexIsFull());
  auto status = std::make_shared<Status>();
  aside_.clear();
  node_.RunOnIo(
      [self = shared_from_this(), kv = node_.index_->kv(), status] {
        *status = Index::ScanSetAside(*kv, [&](const RecordId& id, const IndexEntry& entry) {
          if (entry.at.segment == self->segment_) self->aside_.emplace_back(id, entry);
          return true;
        });
      },
      [self = shared_from_this(), status] {
        if (self->Stopped()) return;
        if (!status->ok()) return self->Finish(self->node_.IndexError(*status));
        self->MoveSetAside(0);
      });
}

// What another writer's record replaced may have to come back: it is written again, followed by
// what replaced it, so that it is set aside once more. Some at a time.
void Node::Impl::Compactor::MoveSetAside(size_t first) {
  if (Stopped()) return;
  if (first == aside_.size()) return CarryMarks();
  const size_t most = std::min(aside_.size(), first + kRecordsPerStep);
  std::vector<RecordId> ids;
  for (size_t i = first; i < most; ++i) ids.push_back(aside_[i].first);
  auto entries = node_.index_->Find(ids);
  if (!entries.ok()) return Finish(node_.IndexError(entries.status()));
  auto reads = std::make_shared<std::vector<RecordRead>>();
  uint64_t bytes = 0;
  size_t next = first;
  for (; next < most && bytes < kBytesPerMove; ++next) {
    const std::optional<IndexEntry>& entry = (*entries)[next - first];
    if (!entry || entry->expired(floor_run_, free_run_)) continue;
    reads->push_back({aside_[next].first, aside_[next].second});
    reads->push_back({aside_[next].first, *entry});
    bytes += aside_[next].second.length + entry->length;
  }
  auto node = node_.shared_from_this();
  node->RunOnIo(
      [node, reads] {
        // One at a time: an order by place would part the pairs.
        for (RecordRead& read : *reads) {
          std::vector<RecordRead> one{std::move(read)};
          ReadRecords(node->env_.fs, node->options_.dir, one, true);
          read = std::move(one[0]);
        }
      },
      [self = shared_from_this(), reads, next] { self->WriteSetAside(*reads, next); });
}

void Node::Impl::Compactor::WriteSetAside(const std::vector<RecordRead>& reads, size_t next) {
  if (Stopped()) return;
  std::vector<RecordId> ids;
  for (size_t i = 0; i + 1 < reads.size(); i += 2) ids.push_back(reads[i].id);
  const auto now = node_.index_->Find(ids);
  if (!now.ok()) return Finish(node_.IndexError(now.status()));
  for (size_t i = 0; i < ids.size(); ++i) {
    const RecordRead& old = reads[2 * i];
    const RecordRead& current = reads[2 * i + 1];
    const std::optional<IndexEntry>& entry = (*now)[i];
    const bool whole = old.result == RecordRead::Result::kGood && old.header &&
                       current.result == RecordRead::Result::kGood && current.header;
    const bool busy = node_.commits_->FindRecord(old.id) ||
                      node_.commits_->HasQuarantine(old.id, current.entry.at);
    if (whole && !busy && entry && entry->at == current.entry.at && !entry->quarantined) continue;
    return Skip(absl::StrCat("record ", old.id.hex().substr(0, 16),
                             ", which another writer replaced, cannot be moved"));
  }
  Durably(
      [this, &reads, &now](const OperationPtr& op) {
        for (size_t i = 0; i + 1 < reads.size(); i += 2) {
          node_.commits_->AddRecord(*reads[i].header, reads[i].payload.view, op);
          RecordHeader header = *reads[i + 1].header;
          header.touch_epoch = node_.KnownTouch(reads[i].id, (*now)[i / 2]);
          node_.commits_->AddRecord(header, reads[i + 1].payload.view, op);
          const IndexEntry& entry = *(*now)[i / 2];
          if (entry.trashed()) Remark(reads[i].id, entry, op);
        }
        return absl::OkStatus();
      },
      [this, next] { AfterRest([this, next] { MoveSetAside(next); }); });
}

void Node::Impl::Compactor::CarryMarks() {
  Durably(
      [this](const OperationPtr& op) -> Status {
        for (const ScannedRecord& record : scan_.records) {
          if (IsIndexed(record.header.kind)) continue;
          if (record.state == PayloadState::kGood) RETURN_IF_ERROR(CarryMark(record, op));
        }
        return absl::OkStatus();
      },
      [this] { LetGo(); });
}

// What counts is what is so now, and would not be known without this record.
Status Node::Impl::Compactor::CarryMark(const ScannedRecord& record, const OperationPtr& op) {
  switch (record.header.kind) {
    case RecordKind::kTouch:
      return CarryTouch(record, op);
    case RecordKind::kTrash:
      return CarryTrash(record, op);
    case RecordKind::kQuarantine:
      return CarryQuarantine(record, op);
    case RecordKind::kRecoveryNote:
      return CarryRecoveryNote(record, op);
    default:
      return absl::OkStatus();
  }
}

Status Node::Impl::Compactor::CarryTouch(const ScannedRecord& record, const OperationPtr& op) {
  const GcState& gc = node_.index_->gc();
  const uint64_t epoch = record.header.touch_epoch;
  ASSIGN_OR_RETURN(const auto ids, node_.ParseIds(std::string(AsView(record.payload))));
  ASSIGN_OR_RETURN(const auto entries, node_.index_->Find(ids));
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::optional<IndexEntry>& entry = entries[i];
    // A touch below all horizons to come says nothing, unless it took the record out of the trash.
    const bool counts = entry && !Here(entry) && entry->touch_epoch == epoch &&
                        (epoch >= gc.horizon || entry->horizon > 0) &&
                        !HOLDFAST_MUTANT(compaction_drops_touch);
    if (counts) node_.Touch(ids[i], 0, epoch, op);
  }
  return absl::OkStatus();
}

Status Node::Impl::Compactor::CarryTrash(const ScannedRecord& record, const OperationPtr& op) {
  ASSIGN_OR_RETURN(const TrashPayload trash, DecodeTrash(record.payload));
  ASSIGN_OR_RETURN(const auto entries, node_.index_->Find(trash.ids));
  std::vector<RecordId> ids;
  for (size_t i = 0; i < trash.ids.size(); ++i) {
    const std::optional<IndexEntry>& entry = entries[i];
    // What was let go of may have an older copy elsewhere, which must not come back as live.
    const bool counts =
        entry ? !Here(entry) && entry->trashed() && entry->horizon == trash.mark.horizon
              : node_.index_->IsStaleBeside(segment_);
    if (counts) ids.push_back(trash.ids[i]);
  }
  if (!ids.empty()) node_.commits_->AddTrash(trash.mark, ids, op);
  return absl::OkStatus();
}

// Whether its file still has records. What is said of this one is not needed any more.
bool Node::Impl::Compactor::StaysThere(uint64_t segment) const {
  auto it = node_.segments_.find(segment);
  return segment != segment_ && it != node_.segments_.end() && it->second.readable();
}

// As long as the record is there: were the index built anew, and what replaced it gone, it would
// count again.
Status Node::Impl::Compactor::CarryQuarantine(const ScannedRecord& record, const OperationPtr& op) {
  ASSIGN_OR_RETURN(const auto marks, DecodeQuarantineEntries(record.payload));
  for (const QuarantineEntry& mark : marks) {
    if (!StaysThere(mark.segment_number)) continue;
    node_.commits_->AddQuarantine(mark.id, {mark.segment_number, mark.offset}, op);
  }
  return absl::OkStatus();
}

Status Node::Impl::Compactor::CarryRecoveryNote(const ScannedRecord& record,
                                                const OperationPtr& op) {
  ASSIGN_OR_RETURN(auto ranges, DecodeDroppedRanges(record.payload));
  std::erase_if(ranges,
                [this](const DroppedRange& range) { return !StaysThere(range.segment_number); });
  if (!ranges.empty()) node_.commits_->AddDropped(ranges, op);
  return absl::OkStatus();
}

}  // namespace holdfast
