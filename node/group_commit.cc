#include "node/group_commit.h"

#include <algorithm>

namespace holdfast {
namespace {

constexpr size_t kSpareBuffers = 4;
constexpr size_t kMaxHanded = 2;  // Batches that the log has at once: one is written, one waits.
// Beyond this a buffer was grown by one large record and is not worth keeping.
constexpr uint64_t kMaxSpareFactor = 2;

}  // namespace

void Operation::Release(const Status& status) {
  status_.Update(status);
  if (--holds_ > 0) return;
  std::function<void(Status)> done = std::move(done_);
  done(status_);
}

GroupCommit::GroupCommit(const NodeOptions& options, const NodeEnv& env, LogStart start,
                         OnWritten on_written)
    : options_(options),
      env_(env),
      log_(options_, env_, std::move(start)),
      on_written_(std::move(on_written)) {}

std::optional<GroupCommit::PendingRecord> GroupCommit::FindRecord(const RecordId& id) const {
  auto it = records_.find(id);
  return it == records_.end() ? std::nullopt : std::optional(it->second.second);
}

uint64_t GroupCommit::FindTouch(const RecordId& id) const {
  auto it = touches_.find(id);
  return it == touches_.end() ? 0 : it->second.second;
}

bool GroupCommit::HasQuarantine(const RecordId& id, Location at) const {
  auto it = quarantines_.find(id);
  return it != quarantines_.end() && it->second.second == at;
}

uint64_t GroupCommit::queued_bytes() const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < queue_.size(); ++i) {
    bytes += i < handed_ ? queue_[i]->bytes : queue_[i]->batch.TotalBytes();
  }
  return bytes;
}

void GroupCommit::AddRecord(const RecordHeader& header, Bytes payload, const OperationPtr& op) {
  CommitPtr commit = Filling();
  commit->batch.Add(header, payload);
  records_[header.id] = {
      commit, {header.length, header.checksum, header.touch_epoch, header.kind, header.writer}};
  Wait(*commit, op);
  Start();
}

void GroupCommit::AddTouch(const RecordId& id, uint64_t epoch, const OperationPtr& op) {
  CommitPtr commit = Filling();
  commit->batch.AddTouch(epoch, id);
  touches_[id] = {commit, epoch};
  Wait(*commit, op);
  Start();
}

void GroupCommit::AddTrash(const TrashMark& mark, std::span<const RecordId> ids,
                           const OperationPtr& op) {
  CommitPtr commit = Filling();
  commit->batch.AddTrash(mark, ids);
  Wait(*commit, op);
  Start();
}

void GroupCommit::AddDropped(std::span<const DroppedRange> ranges, const OperationPtr& op) {
  CommitPtr commit = Filling();
  commit->batch.AddDropped(ranges);
  Wait(*commit, op);
  Start();
}

void GroupCommit::AddQuarantine(const RecordId& id, Location at, const OperationPtr& op) {
  if (auto it = quarantines_.find(id); it != quarantines_.end() && it->second.second == at) {
    return Wait(*it->second.first, op);
  }
  CommitPtr commit = Filling();
  commit->batch.AddQuarantine({id, at.segment, at.offset});
  quarantines_[id] = {commit, at};
  Wait(*commit, op);
  Start();
}

void GroupCommit::WaitForRecord(const RecordId& id, const OperationPtr& op) {
  Wait(*records_.at(id).first, op);
}

void GroupCommit::WaitForTouch(const RecordId& id, const OperationPtr& op) {
  Wait(*touches_.at(id).first, op);
}

void GroupCommit::Wait(Commit& commit, const OperationPtr& op) {
  if (!commit.ops.empty() && commit.ops.back() == op) return;
  op->Hold();
  commit.ops.push_back(op);
}

// The batch that takes what comes next.
GroupCommit::CommitPtr GroupCommit::Filling() {
  const bool taken = queue_.size() == handed_;
  if (!taken && !begin_segment_ && queue_.back()->batch.TotalBytes() < options_.batch_bytes) {
    return queue_.back();
  }
  AlignedBuffer buffer;
  if (!spare_buffers_.empty()) {
    buffer = std::move(spare_buffers_.back());
    spare_buffers_.pop_back();
  }
  auto commit = std::make_shared<Commit>(std::move(buffer));
  commit->begins_segment = std::exchange(begin_segment_, false);
  queue_.push_back(commit);
  env_.loop.PostAfter(options_.batch_delay_nanos,
                      [self = shared_from_this(), weak = std::weak_ptr<Commit>(commit)] {
                        if (CommitPtr waiting = weak.lock()) {
                          waiting->due = true;
                          self->Start();
                        }
                      });
  return commit;
}

// Hands batches to the log: one that is full, behind another one, or one that is due, once the log
// is free.
void GroupCommit::Start() {
  if (stopped_) return;
  while (handed_ < queue_.size() && handed_ < kMaxHanded) {
    const CommitPtr commit = queue_[handed_];
    const bool full =
        queue_.size() > handed_ + 1 || commit->batch.TotalBytes() >= options_.batch_bytes;
    const bool due = commit->due || close_done_;
    if (!full && (!due || log_tasks_ > 0)) return;
    HandOn(commit);
  }
  if (!queue_.empty() || log_tasks_ > 0 || !close_done_) return;
  RunOnLog({[this] { return log_.Close(); },
            [this](Status status) {
              closed_ = true;
              std::exchange(close_done_, nullptr)(status);
            }});
}

void GroupCommit::HandOn(const CommitPtr& commit) {
  ++handed_;
  commit->bytes = commit->batch.TotalBytes();
  auto written = std::make_shared<StatusOr<Log::Written>>(absl::UnknownError(""));
  RunOnLog({[this, commit, written] {
              if (commit->begins_segment) log_.EndSegment();
              *written = log_.Append(commit->batch);
              return absl::OkStatus();
            },
            [this, commit, written](const Status&) { Written(commit, *written); }});
}

void GroupCommit::RunOnLog(LogTask task) {
  ++log_tasks_;
  {
    const std::lock_guard lock(log_mutex_);
    log_waiting_.push_back(std::move(task));
    if (std::exchange(log_running_, true)) return;
  }
  PostLogTask();
}

void GroupCommit::PostLogTask() {
  env_.io.Post([self = shared_from_this()] {
    if (self->stopped_) return;
    LogTask task;
    {
      const std::lock_guard lock(self->log_mutex_);
      task = std::move(self->log_waiting_.front());
      self->log_waiting_.pop_front();
    }
    const Status status = task.work();
    self->env_.loop.Post([self, task, status] { self->Finished(task, status); });
    {
      const std::lock_guard lock(self->log_mutex_);
      self->log_running_ = !self->log_waiting_.empty();
      if (!self->log_running_) return;
    }
    self->PostLogTask();
  });
}

void GroupCommit::Finished(const LogTask& task, const Status& status) {
  if (stopped_) return;
  --log_tasks_;
  task.then(status);
  // After a close the owner may be gone already.
  if (!closed_) Start();
}

void GroupCommit::Written(const CommitPtr& commit, const StatusOr<Log::Written>& written) {
  --handed_;
  queue_.pop_front();
  ++written_count_;
  Status status = written.status();
  if (status.ok()) status = on_written_(commit->batch, *written);
  std::vector<RecordId> ids;
  for (const Batch::Record& record : commit->batch.records()) ids.push_back(record.header.id);
  for (const auto& [epoch, touched] : commit->batch.touches()) {
    ids.insert(ids.end(), touched.begin(), touched.end());
  }
  for (const QuarantineEntry& entry : commit->batch.quarantines()) ids.push_back(entry.id);
  Forget(commit, ids);
  AlignedBuffer buffer = commit->batch.TakeBuffer();
  if (spare_buffers_.size() < kSpareBuffers &&
      buffer.capacity() <= kMaxSpareFactor * options_.batch_bytes) {
    spare_buffers_.push_back(std::move(buffer));
  }
  if (queue_.empty()) SyncWhenIdle();
  for (const OperationPtr& op : std::exchange(commit->ops, {})) op->Release(status);
}

void GroupCommit::Forget(const CommitPtr& commit, const std::vector<RecordId>& ids) {
  auto forget = [&](auto& pending, const RecordId& id) {
    auto it = pending.find(id);
    if (it != pending.end() && it->second.first == commit) pending.erase(it);
  };
  for (const RecordId& id : ids) {
    forget(records_, id);
    forget(touches_, id);
    forget(quarantines_, id);
  }
}

// The superblock vouches for the last batch when no later batch does.
void GroupCommit::SyncWhenIdle() {
  env_.loop.PostAfter(options_.idle_sync_nanos, [self = shared_from_this(), at = written_count_] {
    if (self->closed_ || self->stopped_) return;
    if (self->written_count_ != at || self->log_tasks_ > 0) return;
    // A failure is made good by the next one, or by Close, which tells.
    self->RunOnLog({[log = &self->log_] { return log->SyncSuperblock(); }, [](const Status&) {}});
  });
}

void GroupCommit::Close(std::function<void(Status)> done) {
  close_done_ = std::move(done);
  Start();
}

void GroupCommit::Stop() {
  stopped_ = true;
  queue_.clear();
  records_.clear();
  touches_.clear();
  quarantines_.clear();
  on_written_ = nullptr;
  close_done_ = nullptr;
}

}  // namespace holdfast
