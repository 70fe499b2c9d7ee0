// The numbered commit log and its outbox: rules C1, C2 and C3 of coordinator.h.
//
//   Append = one synced write {mutations, outbox row (how to make the record of them), head}
//          → the record on W nodes of its acting set → done
//
// Worst cases. Crash before the write is synced: nothing happened. Crash after it: the outbox row
// is there, and Open sends the record again, the same bytes, before anything else is committed.
// Too few nodes take it: the commit is not acknowledged; it stays in the catalogue and in the
// outbox, is sent again until W nodes hold it, and no further commit is made before that (so at
// most one record is ever short of W). Until then a reader may see its objects: all they are made
// of is on W nodes; what could still be lost with the catalogue's disk is their name.
//
// The outbox row of a delivered record goes in the batch of the next commit, or when idle; left
// behind by a crash, it is sent once more, which changes nothing.
#pragma once

#include <deque>
#include <functional>
#include <string>

#include "coordinator/catalogue.h"
#include "coordinator/census.h"
#include "coordinator/commit_plan.h"
#include "coordinator/coordinator.h"
#include "coordinator/guard.h"
#include "coordinator/node_client.h"

namespace holdfast {

class CommitLog {
 public:
  // `on_change` runs on the Loop whenever an obstacle went away or was met once more.
  CommitLog(const CoordinatorOptions& options, const CoordinatorEnv& env, Catalogue& catalogue,
            NodeClient& nodes, const Guard& guard, std::function<void()> on_change)
      : options_(options),
        env_(env),
        catalogue_(catalogue),
        nodes_(nodes),
        guard_(guard),
        on_change_(std::move(on_change)) {}

  ~CommitLog() { DropDeliveredRow(); }

  // Reads head, counters and outbox, compares with the nodes (C3), sends the outbox. Off the Loop.
  Status Open();
  // Starts the timers that Open found a need for.
  void Start();

  const Head& head() const { return head_; }
  const Counters& counters() const { return counters_; }
  // Why no commit can be made just now (also when not busy); ok when one can.
  const Status& obstacle() const { return obstacle_; }
  // Whether the catalogue is known not to be behind the nodes (census.h).
  bool proved() const { return proved_; }
  // Set for good when the catalogue turned out to be wrong: every request gets this answer.
  const Status& refused() const { return refused_; }
  // A record is being sent for the first time.
  bool busy() const { return busy_; }
  // Set when the nodes, all of them there, know of fewer commits than the catalogue: a disk was put
  // back to an earlier state.
  const Status& lost() const { return lost_; }
  // Records not known to be on W nodes.
  size_t outbox() const { return outbox_.size(); }
  const Census& census() const { return census_; }

  // Writes rows that no commit record has yet, durably, while commits cannot be made or none is.
  Status WriteApart(KvBatch rows);
  // Makes E that, durably, together with `rows`.
  Status SetEpoch(uint64_t epoch, KvBatch rows);
  // C1. Needs: not busy, no obstacle, no key twice among the mutations. The returned status is the
  // catalogue's: when it is not ok nothing was stored and `done` does not run. `done` gets
  // kUnavailable when too few nodes took the record, kResourceExhausted when a full disk is why.
  Status Append(CommitPlan plan, std::function<void(Status)> done);

 private:
  struct Outgoing {
    uint64_t number = 0;
    uint64_t generation = 0;
    SharedBytes record;
  };

  Status LoadOutbox();
  Status CheckLastRecord();
  Status SendOutboxAndWait();
  RecordPut MakePut(const Outgoing& outgoing) const;
  StatusOr<Outgoing> MakeAgain(const OutboxRow& row);
  // Fills in the record's place in the log; its time and mutations are given. `row` can make it
  // again.
  Outgoing EncodeNext(CommitRecord& record, OutboxRow& row);
  void Sent(const Status& status);
  void Refuse(Status why);
  void RetryLater();
  void ProbeLater();
  void DropDeliveredRow();
  void DropDeliveredRowLater();

  const CoordinatorOptions& options_;
  const CoordinatorEnv& env_;
  Catalogue& catalogue_;
  NodeClient& nodes_;
  const Guard& guard_;
  std::function<void()> on_change_;

  Head head_;
  Counters counters_;
  std::deque<Outgoing> outbox_;
  uint64_t delivered_row_ = 0;  // Outbox row that may go; 0: none.
  Census census_;               // The last one taken.
  bool proved_ = false;         // That the catalogue is not behind (census.h); never taken back.
  Status obstacle_, refused_, lost_;
  bool busy_ = false;
  int64_t backoff_nanos_ = 0;
};

}  // namespace holdfast
