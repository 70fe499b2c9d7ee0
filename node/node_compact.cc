// Compaction: what is of use in a segment moves to the end of the log, what is in the trash for
// longer than its grace is let go of, and a stub of one block takes the place of the file.
//
// Order, for one segment S (docs/gc.md):
//   1. what garbage collection told this node is logged again, in a segment behind S
//   2. records that the index has in S are appended with their touch and horizon, durably (G2)
//   3. so is what S's touches, trash marks, quarantines and recovery notes say of records elsewhere
//   4. entries whose grace is over are erased, decided on the Loop as touches are
//   5. the index is flushed: from here on it needs nothing of S
//   6. the stub takes S's place
// Crash cases. Up to 5 the log still has S, so nothing is lost: what was copied is there twice, and
// the last counts. An index that is built anew then has the erased records again, in the trash.
// A segment with a record that cannot be read, or is quarantined, stays until that is replaced.
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/mutant.h"
#include "node/log.h"
#include "node/node_impl.h"

namespace holdfast {
namespace {

// Less live than this, and a segment is worth rewriting …
constexpr double kSparse = 0.6;
// … if that gives back this part of a segment at least.
constexpr uint64_t kWorthwhile = 256;
constexpr size_t kRecordsPerStep = 4096;      // What the Loop looks at before others may run.
constexpr uint64_t kBytesPerMove = 8u << 20;  // Read and appended at a time.
constexpr int64_t kPendingNanos = 10 * kSecond;
// While clients are served: for each second of work so many of rest.
constexpr int64_t kRest = 7;

constexpr char kQuarantined[] = "it holds damaged records that nothing has replaced yet";
constexpr char kDamaged[] = "records in it are damaged, and nothing has replaced them yet";

}  // namespace

class Node::Impl::Compactor : public std::enable_shared_from_this<Compactor> {
 public:
  Compactor(Impl& node, const proto::NodeCompactRequest& request)
      : node_(node),
        run_(request.run()),
        floor_run_(request.run().floor_run()),
        free_run_(request.free_run()),
        sparse_only_(request.sparse_only()) {}

  bool busy() const { return busy_; }
  // Whether that asks for the step that is under way.
  bool Is(const proto::NodeCompactRequest& request) const {
    return request.step() == step_ && request.free_run() == free_run_ &&
           request.run().SerializeAsString() == run_.SerializeAsString();
  }
  uint32_t step() const { return step_; }
  size_t steps() const { return victims_.size(); }
  const StatusOr<proto::NodeCompactReply>& last() const { return last_; }
  // Answers when the step is done, or for now that it is pending.
  void Wait(ReplyFn reply);

  void Plan(ReplyFn reply);
  void Next(ReplyFn reply);

 private:
  struct Tally {
    uint64_t entries = 0, live_bytes = 0, expired = 0;
  };
  struct Moved {
    RecordId id;
    IndexEntry from;
  };

  Status CheckRoom();
  void Choose(const std::map<uint64_t, Tally>& tally);
  void Scan();
  void MoveSome();
  void Move(const std::shared_ptr<std::vector<RecordRead>>& reads);
  void MoveOne(const RecordRead& read, const std::optional<IndexEntry>& now,
               const OperationPtr& op);
  void Remark(const RecordId& id, const IndexEntry& entry, const OperationPtr& op);
  Status MoveProofs(const std::vector<Moved>& moved);
  void CheckComplete();
  void MoveSetAside();
  void WriteSetAside(const std::vector<RecordRead>& reads);
  void CarryMarks();
  Status CarryMark(const ScannedRecord& record, const OperationPtr& op);
  void LetGo();
  void CheckEmpty(size_t first);
  void Free();
  void Freed();
  void Skip(std::string why);
  void Finish(const Status& status);
  bool Stopped();
  // Runs `then` on the Loop when what `add` gave its operation is durable.
  void Durably(const std::function<Status(const OperationPtr&)>& add, std::function<void()> then);
  void Later(std::function<void()> then);
  // The same after a rest.
  void AfterRest(std::function<void()> then);
  bool Here(const std::optional<IndexEntry>& entry) const {
    return entry && entry->at.segment == segment_;
  }
  bool MayGo(const RecordId& id, const IndexEntry& entry) const {
    return entry.expired(floor_run_, free_run_) && node_.KnownTouch(id, entry) < entry.horizon &&
           !node_.commits_->FindRecord(id);
  }

  Impl& node_;  // Its tasks, which keep it, call this.
  const proto::GcRun run_;
  const uint64_t floor_run_, free_run_;
  const bool sparse_only_;
  struct Victim {
    uint64_t segment = 0, live_bytes = 0, entries = 0;
    bool was_last = false;  // More came into it since.
  };
  std::vector<Victim> victims_;
  uint32_t step_ = 0;
  bool busy_ = false;
  int64_t rested_nanos_ = 0;  // When it last began to work.
  StatusOr<proto::NodeCompactReply> last_ = absl::UnknownError("");
  std::vector<ReplyFn> waiting_;

  // Of the step under way.
  proto::NodeCompactReply out_;
  uint64_t segment_ = 0;
  SegmentScan scan_;
  size_t next_ = 0;     // In scan_.records.
  uint64_t found_ = 0;  // Records that the index has here.
  std::vector<RecordId> expired_;
  std::vector<RecordId> unseen_;  // Of these, what the scan has not shown.
  std::vector<std::pair<RecordId, IndexEntry>> aside_;
};

void Node::Impl::HandleCompact(const RpcMessage& request, const ReplyFn& reply) {
  auto head = ParseHead<proto::NodeCompactRequest>(request);
  if (!head.ok()) return reply(head.status());
  if (!broken_.ok()) return reply(broken_);
  if (Status status = CheckRun(head->run()); !status.ok()) return reply(status);
  if (compactor_ && compactor_->busy()) {
    if (compactor_->Is(*head)) return compactor_->Wait(reply);
    // It ends soon.
    proto::NodeCompactReply pending;
    pending.set_pending(true);
    return env_.loop.PostAfter(kSecond, [self = shared_from_this(), reply, pending] {
      if (!self->stopped_) reply(MakeMessage(rpc::kNodeCompact, pending));
    });
  }
  if (head->step() == 0) {
    compactor_ = std::make_shared<Compactor>(*this, *head);
    return compactor_->Plan(reply);
  }
  if (!compactor_ || head->step() > compactor_->steps() ||
      (head->step() != compactor_->step() && head->step() != compactor_->step() + 1)) {
    return reply(absl::FailedPreconditionError(options_.dir + ": begin compaction at step 0"));
  }
  if (head->step() == compactor_->step() + 1) return compactor_->Next(reply);
  const StatusOr<proto::NodeCompactReply>& last = compactor_->last();
  last.ok() ? reply(MakeMessage(rpc::kNodeCompact, *last)) : reply(last.status());
}

void Node::Impl::Compactor::Wait(ReplyFn reply) {
  waiting_.push_back(std::move(reply));
  auto node = node_.shared_from_this();
  node_.env_.loop.PostAfter(kPendingNanos, [self = shared_from_this(), node, step = step_] {
    if (node->stopped_ || !self->busy_ || self->step_ != step) return;
    proto::NodeCompactReply pending;
    pending.set_pending(true);
    for (const ReplyFn& reply : std::exchange(self->waiting_, {})) {
      reply(MakeMessage(rpc::kNodeCompact, pending));
    }
  });
}

void Node::Impl::Compactor::Plan(ReplyFn reply) {
  busy_ = true;
  Wait(std::move(reply));
  out_ = {};
  auto tally = std::make_shared<std::map<uint64_t, Tally>>();
  auto status = std::make_shared<Status>();
  node_.RunOnIo(
      [kv = node_.index_->kv(), tally, status, floor_run = floor_run_, free_run = free_run_] {
        *status = Index::Scan(*kv, [&](const RecordId&, const IndexEntry& entry) {
          Tally& t = (*tally)[entry.at.segment];
          ++t.entries;
          if (entry.expired(floor_run, free_run)) {
            ++t.expired;
          } else {
            t.live_bytes += RecordExtent(entry.length);
          }
          return true;
        });
      },
      [self = shared_from_this(), tally, status] {
        if (self->Stopped()) return;
        if (!status->ok()) return self->Finish(self->node_.IndexError(*status));
        self->Choose(*tally);
        self->Finish(absl::OkStatus());
      });
}

// Those with the least to copy come first: what they give back makes room for the others.
void Node::Impl::Compactor::Choose(const std::map<uint64_t, Tally>& tally) {
  uint64_t bytes = 0;
  const SegmentInfo* newest = LastReadable(node_.segments_);
  const uint64_t last = newest == nullptr ? 0 : newest->number;
  for (const auto& [number, info] : node_.segments_) {
    if (!info.readable()) continue;
    auto it = tally.find(number);
    const Tally t = it == tally.end() ? Tally() : it->second;
    const uint64_t size =
        std::max(std::min(info.end, info.file_bytes), uint64_t{kBlockSize}) - kBlockSize;
    const bool sparse = static_cast<double>(t.live_bytes) < kSparse * static_cast<double>(size) &&
                        size - t.live_bytes >= node_.options_.segment_bytes / kWorthwhile;
    if (!sparse && (sparse_only_ || (t.expired == 0 && !node_.index_->IsStale(number)))) {
      continue;
    }
    victims_.push_back({number, t.live_bytes, t.entries, number == last});
    bytes += size;
  }
  std::sort(victims_.begin(), victims_.end(), [](const Victim& a, const Victim& b) {
    return std::pair(a.live_bytes, a.segment) < std::pair(b.live_bytes, b.segment);
  });
  out_.set_steps(static_cast<uint32_t>(victims_.size()));
  out_.set_step_bytes(bytes);
}

void Node::Impl::Compactor::Next(ReplyFn reply) {
  busy_ = true;
  rested_nanos_ = node_.env_.clock.MonotonicNanos();
  ++step_;
  Wait(std::move(reply));
  out_ = {};
  scan_ = {};
  unseen_.clear();
  aside_.clear();
  segment_ = victims_[step_ - 1].segment;
  if (Status room = CheckRoom(); !room.ok()) return Skip(Message(room));
  const SegmentInfo* last = LastReadable(node_.segments_);
  if (last != nullptr && last->number == segment_) node_.commits_->BeginSegment();
  const GcState& gc = node_.index_->gc();
  Durably(
      [this, &gc](const OperationPtr& op) {
        node_.commits_->AddTrash({gc.generation, gc.run, gc.horizon, false}, {}, op);
        return absl::OkStatus();
      },
      [this] { Scan(); });
}

// What is moved takes its room before the segment gives its own back; what is kept for commits and
// parts is not for that.
Status Node::Impl::Compactor::CheckRoom() {
  const uint64_t live = victims_[step_ - 1].live_bytes;
  if (live == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(SpaceInfo space, node_.env_.fs.Space(node_.options_.dir));
  const uint64_t free = space.free_bytes;
  space.free_bytes -= std::min(space.free_bytes, live);
  // Half of what is kept back.
  if (!AboveLimit(space, (1 + node_.options_.read_only_fraction) / 2)) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("there is no room to move what is live in it: ",
                                                   live, " bytes, of ", free, " that are free"));
}

void Node::Impl::Compactor::Scan() {
  const SegmentInfo& info = node_.segments_[segment_];
  // The stub would have to say what the header said of the segment before it.
  if (info.state == SegmentInfo::State::kHeaderDamaged) return Skip("its header is damaged");
  if (info.state != SegmentInfo::State::kGood) return Skip("it changed meanwhile");
  if (LastReadable(node_.segments_)->number == segment_) return Skip("the log ends in it");
  ScanOptions options;
  options.segment = info.id;
  options.end = std::min(info.end, info.file_bytes);
  auto status = std::make_shared<Status>();
  node_.RunOnIo(
      [self = shared_from_this(), options, status] {
        StatusOr<std::unique_ptr<File>> file =
            OpenSegment(self->node_.env_.fs, self->node_.options_.dir, self->segment_);
        *status = file.status();
        if (file.ok()) self->scan_ = ScanSegment(**file, options);
      },
      [self = shared_from_this(), status] {
        if (self->Stopped()) return;
        if (!status->ok()) return self->Skip(Message(*status));
        self->next_ = self->found_ = 0;
        self->expired_.clear();
        self->MoveSome();
      });
}

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
  if (node_.env_.transport == nullptr || node_.index_->backlog() > 0) return absl::OkStatus();
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
  if (found_ == victim.entries && !victim.was_last && scan_.gaps.empty()) return MoveSetAside();
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
        self->MoveSetAside();
      });
}

// What another writer's record replaced may have to come back: it is written again, followed by
// what replaced it, so that it is set aside once more.
void Node::Impl::Compactor::MoveSetAside() {
  auto status = std::make_shared<Status>();
  auto reads = std::make_shared<std::vector<RecordRead>>();
  aside_.clear();
  node_.RunOnIo(
      [self = shared_from_this(), kv = node_.index_->kv(), status] {
        *status = Index::ScanSetAside(*kv, [&](const RecordId& id, const IndexEntry& entry) {
          if (entry.at.segment == self->segment_) self->aside_.emplace_back(id, entry);
          return true;
        });
      },
      [self = shared_from_this(), status, reads] {
        if (self->Stopped()) return;
        if (!status->ok()) return self->Finish(self->node_.IndexError(*status));
        if (self->aside_.empty()) return self->CarryMarks();
        std::vector<RecordId> ids;
        for (const auto& [id, old] : self->aside_) ids.push_back(id);
        auto entries = self->node_.index_->Find(ids);
        if (!entries.ok()) return self->Finish(self->node_.IndexError(entries.status()));
        for (size_t i = 0; i < ids.size(); ++i) {
          const std::optional<IndexEntry>& entry = (*entries)[i];
          if (!entry || entry->expired(self->floor_run_, self->free_run_)) continue;
          reads->push_back({ids[i], self->aside_[i].second});
          reads->push_back({ids[i], *entry});
        }
        auto node = self->node_.shared_from_this();
        node->RunOnIo(
            [node, reads] {
              // One at a time: an order by place would part the pairs.
              for (RecordRead& read : *reads) {
                std::vector<RecordRead> one{std::move(read)};
                ReadRecords(node->env_.fs, node->options_.dir, one, true);
                read = std::move(one[0]);
              }
            },
            [self, reads] { self->WriteSetAside(*reads); });
      });
}

void Node::Impl::Compactor::WriteSetAside(const std::vector<RecordRead>& reads) {
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
      [this] { CarryMarks(); });
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
  const GcState& gc = node_.index_->gc();
  switch (record.header.kind) {
    case RecordKind::kTouch: {
      const uint64_t epoch = record.header.touch_epoch;
      ASSIGN_OR_RETURN(const auto ids, node_.ParseIds(std::string(AsView(record.payload))));
      ASSIGN_OR_RETURN(const auto entries, node_.index_->Find(ids));
      for (size_t i = 0; i < ids.size(); ++i) {
        const std::optional<IndexEntry>& entry = entries[i];
        // A touch below all horizons to come says nothing, unless it took the record out of the
        // trash.
        const bool counts = entry && !Here(entry) && entry->touch_epoch == epoch &&
                            (epoch >= gc.horizon || entry->horizon > 0) &&
                            !HOLDFAST_MUTANT(compaction_drops_touch);
        if (counts) node_.Touch(ids[i], 0, epoch, op);
      }
      return absl::OkStatus();
    }
    case RecordKind::kTrash: {
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
    case RecordKind::kQuarantine: {
      ASSIGN_OR_RETURN(const auto marks, DecodeQuarantineEntries(record.payload));
      for (const QuarantineEntry& mark : marks) {
        // As long as the record is there: were the index built anew, and what replaced it gone, it
        // would count again.
        auto it = node_.segments_.find(mark.segment_number);
        const bool there = it != node_.segments_.end() && it->second.readable();
        if (!there || mark.segment_number == segment_) continue;
        node_.commits_->AddQuarantine(mark.id, {mark.segment_number, mark.offset}, op);
      }
      return absl::OkStatus();
    }
    case RecordKind::kRecoveryNote: {
      ASSIGN_OR_RETURN(auto ranges, DecodeDroppedRanges(record.payload));
      std::erase_if(ranges, [this](const DroppedRange& range) {
        auto it = node_.segments_.find(range.segment_number);
        return range.segment_number == segment_ || it == node_.segments_.end() ||
               !it->second.readable();
      });
      if (!ranges.empty()) node_.commits_->AddDropped(ranges, op);
      return absl::OkStatus();
    }
    default:
      return absl::OkStatus();
  }
}

// What has been touched since it was looked at is moved after all.
void Node::Impl::Compactor::LetGo() {
  if (Stopped()) return;
  if (expired_.empty()) return CheckEmpty(0);
  std::vector<RecordId> ids;
  while (!expired_.empty() && ids.size() < kRecordsPerStep) {
    ids.push_back(expired_.back());
    expired_.pop_back();
  }
  auto entries = node_.index_->Find(ids);
  if (!entries.ok()) return Finish(node_.IndexError(entries.status()));
  IndexDelta delta(*node_.index_);
  if (Status s = delta.Load(ids); !s.ok()) return Finish(node_.IndexError(s));
  delta.SetStale(segment_);
  uint64_t gone = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::optional<IndexEntry>& entry = (*entries)[i];
    if (!Here(entry)) continue;
    if (!MayGo(ids[i], *entry) && !HOLDFAST_MUTANT(let_go_without_touch_lock)) continue;
    if (Status erased = delta.Erase(ids[i]); !erased.ok()) {
      return Finish(node_.IndexError(erased));
    }
    ++gone;
  }
  if (node_.env_.transport != nullptr) node_.digests_.Take(delta);
  (void)node_.index_->Apply(std::move(delta));
  out_.set_freed_records(out_.freed_records() + gone);
  AfterRest([this] { LetGo(); });
}

void Node::Impl::Compactor::CheckEmpty(size_t first) {
  if (Stopped()) return;
  std::vector<RecordId> ids;
  for (size_t i = first; i < scan_.records.size() && ids.size() < kRecordsPerStep; ++i) {
    ids.push_back(scan_.records[i].header.id);
  }
  const bool end = ids.empty();
  if (end) ids = unseen_;
  auto entries = node_.index_->Find(ids);
  if (!entries.ok()) return Finish(node_.IndexError(entries.status()));
  for (const std::optional<IndexEntry>& entry : *entries) {
    if (!Here(entry)) continue;
    if (end) return Skip(kDamaged);
    next_ = found_ = 0;
    expired_.clear();
    return Later([this] { MoveSome(); });
  }
  if (end) return Free();
  AfterRest([this, first] { CheckEmpty(first + kRecordsPerStep); });
}

void Node::Impl::Compactor::Free() {
  if (node_.index_->backlog() > 0) {
    return Finish(absl::UnavailableError(node_.options_.dir + ": the index cannot be written"));
  }
  // Before the file changes: who reads it meanwhile, and finds the stub, looks where it moved.
  node_.segments_[segment_].state = SegmentInfo::State::kFreed;
  auto status = std::make_shared<Status>();
  auto node = node_.shared_from_this();
  node_.RunOnIo(
      [self = shared_from_this(), node, status, kv = node_.index_->kv()] {
        if (!HOLDFAST_MUTANT(free_before_index_flush)) *status = kv->Flush();
        if (status->ok()) *status = FreeSegment(node->env_.fs, node->options_.dir, self->segment_);
      },
      [self = shared_from_this(), status] {
        if (self->Stopped()) return;
        if (status->ok()) return self->Freed();
        self->node_.segments_[self->segment_].state = SegmentInfo::State::kGood;
        self->Finish(*status);
      });
}

void Node::Impl::Compactor::Freed() {
  SegmentInfo& info = node_.segments_[segment_];
  out_.set_segments(1);
  out_.set_freed_bytes(std::max(info.file_bytes, kBlockSize) - kBlockSize);
  info.file_bytes = kBlockSize;
  auto dropped = node_.index_->DroppedRanges(segment_);
  IndexDelta delta(*node_.index_);
  if (dropped.ok()) delta.EraseSegmentRows(segment_, *dropped);
  for (const auto& [id, old] : aside_) delta.EraseSetAside(id, old.at);
  (void)node_.index_->Apply(std::move(delta));  // Without them nothing is wrong.
  AfterRest([this] { Finish(absl::OkStatus()); });
}

void Node::Impl::Compactor::Skip(std::string why) {
  out_.set_skipped(absl::StrCat(SegmentPath(node_.options_.dir, segment_), " stays: ", why));
  Finish(absl::OkStatus());
}

void Node::Impl::Compactor::Finish(const Status& status) {
  busy_ = false;
  last_ = out_;
  if (!status.ok()) {
    // Asked for again, it is tried again.
    last_ = status;
    if (step_ > 0) --step_;
  }
  scan_ = {};
  for (const ReplyFn& reply : std::exchange(waiting_, {})) {
    last_.ok() ? reply(MakeMessage(rpc::kNodeCompact, *last_)) : reply(last_.status());
  }
}

bool Node::Impl::Compactor::Stopped() {
  Status status = node_.broken_;
  if (node_.closed_) status = absl::UnavailableError(node_.options_.dir + ": the node is closed");
  if (status.ok()) status = node_.CheckRun(run_);  // Another coordinator's, meanwhile.
  if (status.ok()) return false;
  Finish(status);
  return true;
}

void Node::Impl::Compactor::Durably(const std::function<Status(const OperationPtr&)>& add,
                                    std::function<void()> then) {
  auto node = node_.shared_from_this();
  auto op = std::make_shared<Operation>(
      [self = shared_from_this(), node, then = std::move(then)](const Status& status) {
        if (self->Stopped()) return;
        status.ok() ? then() : self->Finish(status);
      });
  op->Release(add(op));
}

void Node::Impl::Compactor::Later(std::function<void()> then) {
  auto node = node_.shared_from_this();
  node_.env_.loop.Post([self = shared_from_this(), node, then = std::move(then)] {
    if (!node->stopped_) then();
  });
}

// A rate alone would not do: what bytes cost depends on how small the records are, and on what else
// the machine has to do.
void Node::Impl::Compactor::AfterRest(std::function<void()> then) {
  const int64_t worked = node_.env_.clock.MonotonicNanos() - rested_nanos_;
  const int64_t rest = node_.ServesClients() ? kRest * worked : 0;
  auto node = node_.shared_from_this();
  node_.env_.loop.PostAfter(std::max<int64_t>({rest, node_.CopyDelay(), 0}),
                            [self = shared_from_this(), node, then = std::move(then)] {
                              self->rested_nanos_ = node->env_.clock.MonotonicNanos();
                              if (!node->stopped_) then();
                            });
}

}  // namespace holdfast
