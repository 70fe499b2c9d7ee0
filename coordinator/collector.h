// Garbage collection: one run at a time, step by step beside everything else. docs/gc.md has the
// protocol, and why nothing that is needed can go.
//
//   census → purge → start (E, H, run) → begin at the nodes → mark → survey → sweep → compact
//
// What a run has done stays done when it is interrupted; what it still had to do, the next one does
// from the start. Everything it keeps is in memory and in `gc_dir`, but for E, the number of the
// run and the time of its snapshot, which are rows of the catalogue. Runs on the Loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "coordinator/commit_log.h"
#include "coordinator/copy_queue.h"
#include "coordinator/mark_set.h"
#include "coordinator/sessions.h"

namespace holdfast {

// MetaKey() names. The first counts runs; the others, with the number of a run behind it, say when
// that took its snapshot. Then: the catalogue was rebuilt, and not every node was asked yet what it
// knows of epochs; and the highest run before that.
inline constexpr char kGcRunRow[] = "gc run";
inline constexpr char kGcSnapshotRow[] = "gc snapshot ";
inline constexpr char kGcRestoredRow[] = "gc restored";
inline constexpr char kGcFloorRow[] = "gc floor";
// Every row's value but that of "restored": be64. kDataLoss: it is something else.
std::string EncodeGcNumber(uint64_t value);
StatusOr<uint64_t> DecodeGcNumber(std::string_view value);
// The rows that a rebuild leaves: `run` is the highest that any node knows.
KvBatch GcRowsAfterRebuild(uint64_t run);

class Collector {
 public:
  // Purges some of the versions removed before then, from `cursor` on (PlanPurge).
  struct Purged {
    uint64_t versions = 0;
    std::string cursor;  // Where to go on; empty: that was all.
  };
  using PurgedFn = std::function<void(const StatusOr<Purged>&)>;
  using Purge = std::function<void(int64_t removed_before, std::string cursor, PurgedFn done)>;
  Collector(const CoordinatorOptions& options, const CoordinatorEnv& env, Catalogue& catalogue,
            Sessions& sessions, CommitLog& log, NodeClient& nodes, const Guard& guard, Purge purge)
      : options_(options),
        env_(env),
        catalogue_(catalogue),
        sessions_(sessions),
        log_(log),
        nodes_(nodes),
        copies_(nodes),
        guard_(guard),
        purge_(std::move(purge)) {}

  // kFailedPrecondition when this coordinator has no place for marks, or cannot collect now.
  StatusOr<proto::GcStartReply> Start(const proto::GcStartRequest& request);
  proto::GcStatusReply Report() const;
  // After a rebuild: tells every node of a cluster the catalogue's generation, until all know.
  void TellGeneration();
  // H of the last run that nodes were told of; 0: of none by this process.
  uint64_t horizon() const { return told_horizon_; }
  // Whether there was a run to stop.
  bool Stop();

 private:
  using Phase = proto::GcStatusReply;
  static constexpr int64_t kAskNanos = 30 * kSecond;
  static constexpr int kAttempts = 3;

  // What a node lists.
  struct Listed {
    RecordId id;
    uint64_t touch = 0;
    uint32_t length = 0;
    bool trashed = false, surplus = false;
    bool due = false;  // In the trash for the grace; in a dry run only.
  };
  // What a page of that leads to.
  struct Verdict {
    uint32_t node = 0;
    uint64_t map_version = 0;             // By which they are told apart.
    std::string trash, keep;              // 32 bytes each.
    std::vector<Listed> strays;           // Needed; but not there, if its group's nodes have it.
    std::vector<CopyQueue::Copy> copies;  // Of strays that no node of their group has.
    std::string from, next;               // Where this page of the list begins, and the next one.
  };

  void Enter(proto::GcStatusReply::Phase phase, uint64_t total);
  void Fail(const Status& status);
  void Note(std::string note);
  std::string TooMuch() const;
  // A node that cannot be asked is left alone for the rest of the run.
  void LoseNode(uint32_t node, const Status& why);
  // Whether to go on; ends the run if somebody asked for that.
  bool GoOn();
  void Later(std::function<void(Collector&)> then, int64_t rest_nanos = 0);
  void SetRun(proto::GcRun& run) const;
  std::vector<uint32_t> Nodes() const;

  StatusOr<uint64_t> ReadNumber(const char* row);
  void Census();
  void TakeCensus(const std::vector<uint32_t>& asked, const NodeReplies& replies);
  void PurgeSome(std::string cursor);
  void StartRun();
  void Begin();
  void TakeBegin(const std::vector<uint32_t>& asked, const NodeReplies& replies);
  void Mark();
  // When this run took its snapshot: its trash waits for the grace from then on.
  Status NoteSnapshot();
  void MarkSome();
  Status MarkObject(std::string_view key, std::string_view value);
  Status MarkManifest(const ObjectRow& row, const ClearManifest& manifest);
  void FetchParts();
  void Survey();
  void NextBuckets();
  void ListNode(uint32_t node, const std::string& from);
  void TakeList(uint32_t node, const std::string& from, const NodeReply& reply);
  Status Judge(const proto::NodeListRecordsReply& page, Verdict& verdict);
  void CountListed(const Listed& record);
  void CountDue(uint64_t records);
  void JudgeNeeded(const Listed& record, Verdict& verdict);
  void JudgeGarbage(const Listed& record, Verdict& verdict);
  void CheckStrays(std::shared_ptr<Verdict> verdict);
  void JudgeStrays(const std::shared_ptr<Verdict>& verdict,
                   const std::vector<std::vector<size_t>>& asked,
                   const std::vector<uint32_t>& members, const NodeReplies& replies);
  void Want(Verdict& verdict, uint32_t node, const std::vector<size_t>& strays);
  void Act(const std::shared_ptr<Verdict>& verdict, std::string surplus);
  void TakeTrashed(const std::shared_ptr<Verdict>& verdict, const NodeReplies& replies);
  void CopyStrays(const std::shared_ptr<Verdict>& verdict);
  void Acted(const std::shared_ptr<Verdict>& verdict);
  void NodeListed();
  void AfterPass();
  void Compact();
  StatusOr<uint64_t> FreeRun(KvBatch* past);
  // Asks for the newest commit's record, then compacts.
  void FindLastCommit();
  void CompactNodes();
  void CompactNode(uint32_t node, uint32_t step, uint32_t steps);
  void TakeCompacted(uint32_t node, uint32_t step, uint32_t steps, const NodeReply& reply);
  bool GetsOn(uint32_t node, uint64_t progress);
  void Finish();

  const CoordinatorOptions& options_;
  const CoordinatorEnv& env_;
  Catalogue& catalogue_;
  Sessions& sessions_;
  CommitLog& log_;
  NodeClient& nodes_;
  CopyQueue copies_;
  const Guard& guard_;
  const Purge purge_;

  bool running_ = false, stop_ = false;
  uint64_t serial_ = 0;  // Of the run in this process: late callbacks of another do nothing.
  proto::GcStartRequest request_;
  proto::GcStatusReply report_;
  uint64_t more_notes_ = 0;  // That report_ has no place for.
  int64_t phase_began_nanos_ = 0;
  std::vector<bool> lost_;  // By node number.
  bool restored_ = false;
  uint64_t generation_ = 0, run_ = 0, horizon_ = 0, floor_run_ = 0;
  uint64_t told_horizon_ = 0;

  std::unique_ptr<KvSnapshot> snapshot_;
  std::unique_ptr<MarkSet> marks_;
  std::string cursor_;          // The next row to mark.
  std::vector<PartRef> parts_;  // To be fetched.
  std::vector<std::string> part_names_;
  size_t waiting_ = 0;  // For so many replies.

  bool sweeping_ = false;                 // The second pass over the nodes' lists.
  uint32_t bucket_ = 0, bucket_end_ = 0;  // Of marks_: looked at now.
  int64_t buckets_nanos_ = 0;             // Since when.
  std::vector<RecordId> needed_;          // Of these.
  uint64_t free_run_ = 0;
  bool last_commit_there_ = false;  // The newest one's record is on a node.
  struct Progress {
    uint64_t seen = 0;
    int64_t since_nanos = 0;
  };
  std::vector<Progress> compacting_;  // By node number.
};

}  // namespace holdfast
