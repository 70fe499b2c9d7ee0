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
// Once nothing is needed of it that is damaged, damage is what a segment is rewritten for: headers,
// marks and what garbage lies there are not made good. One that is missing gets its stub only where
// that is all that is asked for, after whoever asks has looked for what it held. Where records are
// gone that may have been the last commits, nothing else may tell of them: it stays until the
// coordinator finds its last commit on some node. Then those before it leave a gap in the numbers.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "node/node_impl.h"

namespace holdfast {

class Node::Impl::Compactor : public std::enable_shared_from_this<Compactor> {
 public:
  Compactor(Impl& node, const proto::NodeCompactRequest& request)
      : node_(node),
        run_(request.run()),
        floor_run_(request.run().floor_run()),
        free_run_(request.free_run()),
        sparse_only_(request.sparse_only()),
        damaged_only_(request.damaged_only()),
        last_commit_there_(request.last_commit_there()) {}

  bool busy() const { return busy_; }
  // Whether that asks for the step that is under way.
  bool Is(const proto::NodeCompactRequest& request) const {
    return request.step() == step_ && request.free_run() == free_run_ &&
           request.sparse_only() == sparse_only_ && request.damaged_only() == damaged_only_ &&
           request.run().SerializeAsString() == run_.SerializeAsString();
  }
  uint32_t step() const { return step_; }
  proto::NodeCompactReply Pending() const;
  size_t steps() const { return victims_.size(); }
  const StatusOr<proto::NodeCompactReply>& last() const { return last_; }
  // Answers when the step is done, or for now that it is pending.
  void Wait(ReplyFn reply);

  void Plan(ReplyFn reply);
  void Next(ReplyFn reply);

 private:
  static constexpr size_t kRecordsPerStep = 4096;  // What the Loop looks at before others may run.
  static constexpr char kQuarantined[] = "it holds damaged records that nothing has replaced yet";
  static constexpr char kGone[] =
      "records in it are gone, and they may have been the last commits: that one is on no node";
  static constexpr char kDamaged[] = "records in it are damaged, and nothing has replaced them yet";

  struct Tally {
    uint64_t entries = 0, live_bytes = 0, expired = 0;
    bool quarantined = false;  // A live one.
  };
  struct Moved {
    RecordId id;
    IndexEntry from;
  };

  Status CheckRoom();
  void Choose(const std::map<uint64_t, Tally>& tally);
  bool IsDue(const SegmentInfo& info, const Tally& tally) const;
  void Scan();
  bool MayHideCommits() const;
  void MoveSome();
  void Move(const std::shared_ptr<std::vector<RecordRead>>& reads);
  void MoveOne(const RecordRead& read, const std::optional<IndexEntry>& now,
               const OperationPtr& op);
  void Remark(const RecordId& id, const IndexEntry& entry, const OperationPtr& op);
  Status MoveProofs(const std::vector<Moved>& moved);
  void CheckComplete();
  void FindSetAside();
  void MoveSetAside(size_t first);
  void WriteSetAside(const std::vector<RecordRead>& reads, size_t next);
  void CarryMarks();
  Status CarryMark(const ScannedRecord& record, const OperationPtr& op);
  Status CarryTouch(const ScannedRecord& record, const OperationPtr& op);
  Status CarryTrash(const ScannedRecord& record, const OperationPtr& op);
  bool StaysThere(uint64_t segment) const;
  Status CarryQuarantine(const ScannedRecord& record, const OperationPtr& op);
  Status CarryRecoveryNote(const ScannedRecord& record, const OperationPtr& op);
  void LetGo();
  void CheckEmpty(size_t first);
  Status IndexIsFull() const;
  void Free();
  void Freed(const SegmentHeader& stub);
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
  const bool sparse_only_, damaged_only_, last_commit_there_;
  struct Victim {
    uint64_t segment = 0, live_bytes = 0, entries = 0;
    bool quarantined = false;
    bool was_last = false;  // More came into it since.
  };
  std::vector<Victim> victims_;
  uint32_t step_ = 0;
  bool busy_ = false;
  int64_t rested_nanos_ = 0;  // When it last began to work.
  uint64_t progress_ = 0;     // Pieces of work so far.
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

}  // namespace holdfast
