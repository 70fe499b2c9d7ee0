// Compaction (node/compactor.h): which segments, one step after another, what is let go of, the
// stub.
#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/invariant.h"
#include "common/base/mutant.h"
#include "node/compactor.h"
#include "node/log.h"

namespace holdfast {
namespace {

// Less live than this, and a segment is worth rewriting …
constexpr double kSparse = 0.6;
// … if that gives back this part of a segment at least.
constexpr uint64_t kWorthwhile = 256;
constexpr int64_t kPendingNanos = 10 * kSecond;
// While clients are served: for each second of work so many of rest.
constexpr int64_t kRest = 7;

}  // namespace

void Node::Impl::HandleCompact(const RpcMessage& request, const ReplyFn& reply) {
  auto head = ParseHead<proto::NodeCompactRequest>(request);
  if (!head.ok()) return reply(head.status());
  if (!broken_.ok()) return reply(broken_);
  if (Status status = CheckRun(head->run()); !status.ok()) return reply(status);
  if (compactor_ && compactor_->busy()) {
    if (compactor_->Is(*head)) return compactor_->Wait(reply);
    // It ends soon.
    return env_.loop.PostAfter(kSecond, [self = shared_from_this(), reply] {
      if (!self->stopped_) reply(MakeMessage(rpc::kNodeCompact, self->compactor_->Pending()));
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
    for (const ReplyFn& reply : std::exchange(self->waiting_, {})) {
      reply(MakeMessage(rpc::kNodeCompact, self->Pending()));
    }
  });
}

proto::NodeCompactReply Node::Impl::Compactor::Pending() const {
  proto::NodeCompactReply pending;
  pending.set_pending(true);
  pending.set_progress(progress_);
  return pending;
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
            t.quarantined = t.quarantined || entry.quarantined;
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
  const SegmentInfo* newest = LastReadable(node_.segments_);
  const uint64_t last = newest == nullptr ? 0 : newest->number;
  IndexDelta freed(*node_.index_);
  for (const auto& [number, info] : node_.segments_) {
    // One that was freed just before a crash.
    const bool gone = info.state == SegmentInfo::State::kFreed;
    if (gone && node_.index_->IsStale(number)) freed.EraseSegmentRows(number, {});
    auto it = tally.find(number);
    const Tally t = it == tally.end() ? Tally() : it->second;
    if (!IsDue(info, t)) continue;
    victims_.push_back({number, t.live_bytes, t.entries, t.quarantined, number == last});
  }
  (void)node_.index_->Apply(std::move(freed));  // Without it, marks are kept that say nothing.
  std::sort(victims_.begin(), victims_.end(), [](const Victim& a, const Victim& b) {
    return std::pair(a.live_bytes, a.segment) < std::pair(b.live_bytes, b.segment);
  });
  out_.set_steps(static_cast<uint32_t>(victims_.size()));
}

bool Node::Impl::Compactor::IsDue(const SegmentInfo& info, const Tally& tally) const {
  const bool missing = info.state == SegmentInfo::State::kMissing;
  if (!info.readable() && !(missing && damaged_only_)) return false;
  if (info.damaged || damaged_only_) return info.damaged;
  const uint64_t size =
      std::max(std::min(info.end, info.file_bytes), uint64_t{kBlockSize}) - kBlockSize;
  const bool sparse = static_cast<double>(tally.live_bytes) < kSparse * static_cast<double>(size) &&
                      size - tally.live_bytes >= node_.options_.segment_bytes / kWorthwhile;
  if (sparse || sparse_only_) return sparse;
  return tally.expired > 0 || node_.index_->IsStale(info.number);
}

void Node::Impl::Compactor::Next(ReplyFn reply) {
  busy_ = true;
  rested_nanos_ = node_.env_.clock.MonotonicNanos();
  ++step_;
  Wait(std::move(reply));
  out_ = {};
  scan_ = {};
  next_ = found_ = 0;
  expired_.clear();
  unseen_.clear();
  aside_.clear();
  segment_ = victims_[step_ - 1].segment;
  // Before anything is moved in vain.
  if (victims_[step_ - 1].quarantined) return Skip(kQuarantined);
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
  const bool missing = info.state == SegmentInfo::State::kMissing;
  if (!info.readable() && !missing) return Skip("it changed meanwhile");
  const SegmentInfo* last = LastReadable(node_.segments_);
  if (last != nullptr && last->number == segment_) return Skip("the log ends in it");
  if (missing) return MayHideCommits() ? Skip(kGone) : MoveSome();
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
        if (self->MayHideCommits()) return self->Skip(kGone);
        self->MoveSome();
      });
}

bool Node::Impl::Compactor::MayHideCommits() const {
  if (last_commit_there_) return false;
  const SegmentInfo& info = node_.segments_[segment_];
  if (!info.readable() || !info.end_known || info.file_bytes < info.end) return true;
  return std::any_of(scan_.gaps.begin(), scan_.gaps.end(),
                     [](const ScannedGap& gap) { return gap.first_lsn <= gap.last_lsn; });
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
    HOLDFAST_INVARIANT(G5, entry->expired(floor_run_, free_run_));
    if (Status erased = delta.Erase(ids[i]); !erased.ok()) {
      return Finish(node_.IndexError(erased));
    }
    ++gone;
  }
  if (node_.options_.keeps_digests) node_.digests_.Take(delta);
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

Status Node::Impl::Compactor::IndexIsFull() const {
  return absl::UnavailableError(node_.options_.dir + ": the index cannot be written");
}

void Node::Impl::Compactor::Free() {
  if (node_.index_->backlog() > 0) return Finish(IndexIsFull());
  const SegmentInfo info = node_.segments_[segment_];
  const SegmentInfo* before = SegmentBefore(node_.segments_, segment_);
  // Before the file changes: who reads it meanwhile, and finds the stub, looks where it moved.
  node_.segments_[segment_].state = SegmentInfo::State::kFreed;
  auto stub = std::make_shared<StatusOr<SegmentHeader>>(absl::UnknownError(""));
  auto flushed = std::make_shared<Status>();
  auto node = node_.shared_from_this();
  node_.RunOnIo(
      [node, stub, flushed, info, before = before ? std::optional(*before) : std::nullopt,
       kv = node_.index_->kv()] {
        if (!HOLDFAST_MUTANT(free_before_index_flush)) *flushed = kv->Flush();
        if (!flushed->ok()) return;
        *stub = FreeSegment(node->env_.fs, node->env_.rng, node->options_, info, before);
      },
      [self = shared_from_this(), stub, flushed, state = info.state] {
        if (self->Stopped()) return;
        if (stub->ok()) return self->Freed(**stub);
        self->node_.segments_[self->segment_].state = state;
        flushed->ok() ? self->Skip(Message(stub->status())) : self->Finish(*flushed);
      });
}

void Node::Impl::Compactor::Freed(const SegmentHeader& stub) {
  SegmentInfo& info = node_.segments_[segment_];
  out_.set_segments(1);
  out_.set_freed_bytes(std::max(info.file_bytes, kBlockSize) - kBlockSize);
  info.id = stub.segment;
  info.file_bytes = kBlockSize;
  info.damaged = false;
  std::erase_if(node_.findings_, [this](const proto::Finding& finding) {
    return finding.segment_number() == segment_;
  });
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
  ++progress_;
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
