// Gathers what requests want written into batches and hands them to the log, which writes one after
// the other, while the next one fills. One that is full is handed on before the one before it is
// written, so that the log has not to wait for the Loop. Runs on the node's Loop.
//
// N1, N2: an Operation is released only when every batch it waits for is durable and indexed
// (`on_written` has run). What lies in a batch on its way counts as pending, and later requests
// for the same id wait for that batch instead of writing again.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "node/index.h"
#include "node/log.h"

namespace holdfast {

// A request that waits for batches. `done` runs once, with the first error, when all have ended
// and the maker has called Release too.
class Operation {
 public:
  explicit Operation(std::function<void(Status)> done) : done_(std::move(done)) {}
  void Hold() { ++holds_; }
  void Release(const Status& status = absl::OkStatus());

 private:
  int holds_ = 1;  // The maker's.
  Status status_;
  std::function<void(Status)> done_;
};
using OperationPtr = std::shared_ptr<Operation>;

class GroupCommit : public std::enable_shared_from_this<GroupCommit> {
 public:
  // An error of `on_written` fails the batch's operations.
  using OnWritten = std::function<Status(const Batch&, const Log::Written&)>;
  GroupCommit(const NodeOptions& options, const NodeEnv& env, LogStart start, OnWritten on_written);

  struct PendingRecord {
    uint32_t length;
    Checksum checksum;
    uint64_t touch_epoch;
    RecordKind kind;
    WriterId writer;
  };
  std::optional<PendingRecord> FindRecord(const RecordId& id) const;
  // Highest touch on its way for this id; 0: none.
  uint64_t FindTouch(const RecordId& id) const;
  bool HasQuarantine(const RecordId& id, Location at) const;
  // Bytes of the batches that are not written yet.
  uint64_t queued_bytes() const;

  // `op` waits for what is added, or already on its way.
  void AddRecord(const RecordHeader& header, Bytes payload, const OperationPtr& op);
  void AddTouch(const RecordId& id, uint64_t epoch, const OperationPtr& op);
  void AddTrash(const TrashMark& mark, std::span<const RecordId> ids, const OperationPtr& op);
  void AddQuarantine(const RecordId& id, Location at, const OperationPtr& op);
  void AddDropped(std::span<const DroppedRange> ranges, const OperationPtr& op);
  // What is added from now on lies in another segment than what was written so far.
  void BeginSegment() { begin_segment_ = true; }
  void WaitForRecord(const RecordId& id, const OperationPtr& op);
  void WaitForTouch(const RecordId& id, const OperationPtr& op);

  // Writes what waits, closes the log, then calls `done`.
  void Close(std::function<void(Status)> done);
  // Nothing is called back any more.
  void Stop();

 private:
  struct Commit {
    explicit Commit(AlignedBuffer buffer) : batch(std::move(buffer)) {}
    Batch batch;
    std::vector<OperationPtr> ops;
    uint64_t bytes = 0;  // Once it is with the log, which writes into the batch.
    bool due = false;
    bool begins_segment = false;
  };
  using CommitPtr = std::shared_ptr<Commit>;
  template <class T>
  using Pending = absl::flat_hash_map<RecordId, std::pair<CommitPtr, T>>;

  CommitPtr Filling();
  static void Wait(Commit& commit, const OperationPtr& op);
  void Start();
  void HandOn(const CommitPtr& commit);
  void Written(const CommitPtr& commit, const StatusOr<Log::Written>& written);
  void Forget(const CommitPtr& commit, const std::vector<RecordId>& ids);
  void SyncWhenIdle();
  // Runs `work` on io, behind what was asked for before, and then `then` back on the Loop.
  struct LogTask {
    std::function<Status()> work;
    std::function<void(Status)> then;
  };
  void RunOnLog(LogTask task);
  void PostLogTask();
  void Finished(const LogTask& task, const Status& status);

  const NodeOptions options_;
  const NodeEnv env_;
  Log log_;  // Touched by the log task in flight only.
  OnWritten on_written_;
  std::deque<CommitPtr> queue_;
  size_t handed_ = 0;           // The first of the queue: they are with the log.
  size_t log_tasks_ = 0;        // Asked for and not finished.
  bool begin_segment_ = false;  // The next batch begins one.
  bool closed_ = false;         // The last thing the Loop sets.
  std::atomic<bool> stopped_ = false;
  uint64_t written_count_ = 0;
  std::function<void(Status)> close_done_;
  std::vector<AlignedBuffer> spare_buffers_;
  Pending<PendingRecord> records_;
  Pending<uint64_t> touches_;
  Pending<Location> quarantines_;
  std::mutex log_mutex_;
  std::deque<LogTask> log_waiting_;  // Guarded by log_mutex_, as …
  bool log_running_ = false;         // … whether a task is with io.
};

}  // namespace holdfast
