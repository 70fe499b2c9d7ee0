// Keeps every record on the nodes that its group belongs to, without being told what is missing.
//
// Every second each node says, by digests, what it holds of each placement group. Groups whose
// members differ are brought together (group_repair.h), those with the fewest copies first. A group
// that migrates is switched to its target once all that its members held is on all of them. A node
// that has been away for long is taken out, so that its records get their copies elsewhere, and
// comes in again when it is back. Runs on the Loop.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/cluster/group_digest.h"
#include "coordinator/coordinator.h"
#include "coordinator/copy_queue.h"
#include "coordinator/group_repair.h"
#include "coordinator/guard.h"
#include "coordinator/node_client.h"

namespace holdfast {

struct RepairReport {
  bool known = false;        // Every node that is there has said what it holds.
  uint64_t missing = 0;      // Copies that should be and are not: records, times replicas.
  uint64_t to_move = 0;      // Copies that targets do not have yet.
  uint64_t migrating = 0;    // Groups.
  uint64_t unreachable = 0;  // Groups no member of which answers.
  uint64_t disputed = 0;     // Records that are not the same on all nodes.
  uint64_t copied_records = 0, copied_bytes = 0;  // Since the coordinator started.
  double records_per_second = 0;                  // Lately.
  Status trouble;                                 // Why the last group that failed did.
};

class Repair {
 public:
  // How it changes the cluster; both may be refused, and are asked for again.
  struct Hooks {
    std::function<void(std::vector<uint32_t> groups)> finish_migration;
    std::function<void(std::vector<uint32_t> gone, std::vector<uint32_t> back)> set_away;
  };
  Repair(const ClusterMap& map, const CoordinatorEnv& env, NodeClient& nodes, const Guard& guard,
         int64_t out_after_nanos, Hooks hooks);

  void Start();
  // What was heard before says nothing about groups whose nodes have changed.
  void MapChanged(const ClusterMap& before);
  // Calls `done` when all nodes have said what they hold after this, or cannot; with false when one
  // that answered lately has not said so within a second.
  void Refresh(std::function<void(bool all)> done);
  // As of what the nodes last said.
  const RepairReport& Report();
  // Whether the node has answered lately.
  bool answers(uint32_t node) const;

 private:
  struct NodeView {
    bool asking = false;
    bool failed = false;              // The last question had no answer.
    bool ready = false;               // Has said what it holds …
    int64_t asked_nanos = INT64_MIN;  // … at this time or later.
    int64_t answered_nanos = 0;
    std::string version;
    std::vector<GroupDigest> groups;
  };
  struct Group {
    bool running = false;
    bool complete = false;              // While it migrates: the target has all.
    int64_t changed_nanos = INT64_MIN;  // When the map last changed its nodes.
    int64_t not_before_nanos = 0;
    uint64_t disputed = 0;
    // Members' digests, one after another; since when they are so; and since when they are known to
    // differ in nothing that can be copied: disputed records, garbage. Any change ends that, and in
    // time it is looked at again: garbage may be needed, and the digests the same.
    std::vector<GroupDigest> digests;
    int64_t since_nanos = 0, differ_nanos = 0;
    std::optional<int64_t> settled_nanos;
  };
  struct Candidate {
    uint32_t copies;
    uint32_t group;
    auto operator<=>(const Candidate&) const = default;
  };

  void Tick();
  void Ask(uint32_t node);
  struct Waiter {
    int64_t since_nanos;
    std::function<void(bool)> done;
  };
  // Whether the node has said what it holds since then, or cannot.
  bool HasSaid(uint32_t node, int64_t since_nanos) const;
  void AskForWaiters();
  void ReleaseWaiters();
  void GrowViews();
  void TakeDigests(uint32_t node, int64_t asked_nanos, const NodeReply& reply);
  void TakeAnswer(uint32_t node, int64_t asked_nanos, const NodeReply& reply);
  // What the node holds of the group, if it has said so under the present map.
  const GroupDigest* DigestOf(uint32_t node, uint32_t pg) const;
  void FindAway();
  void Evaluate();
  // Whether all that a group needs is there, as it was last time: of thousands of groups nearly
  // all.
  bool StillWhole(uint32_t pg) const;
  void EvaluateGroup(uint32_t pg, RepairReport& report, std::vector<Candidate>& candidates);
  bool Due(const Group& group, bool lacks_all, bool migrating) const;
  void StartJobs();
  void StartJob(uint32_t pg);
  // What a job was begun with.
  struct Job {
    uint32_t pg;
    bool all;  // No member was left out.
    int64_t changed_nanos, since_nanos;
  };
  void Finished(const Job& job, const GroupRepairResult& result);
  void SwitchGroups();
  void MeasureRate();

  const ClusterMap& map_;
  const CoordinatorEnv& env_;
  NodeClient& nodes_;
  const Guard& guard_;
  const int64_t out_after_nanos_;
  const Hooks hooks_;
  CopyQueue copies_;
  std::deque<Waiter> waiters_;  // For what nodes say, the oldest first.
  int64_t asked_for_waiters_nanos_ = INT64_MIN / 2;
  bool will_ask_for_waiters_ = false;
  std::vector<NodeView> views_;
  std::vector<Group> groups_;
  std::deque<Candidate> queue_;
  size_t running_ = 0;
  RepairReport report_;
  struct Sample {
    int64_t nanos;
    uint64_t records;
  };
  std::deque<Sample> samples_;
};

}  // namespace holdfast
