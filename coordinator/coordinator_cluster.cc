// Changes of the cluster, and what its status is.
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/text.h"
#include "coordinator/coordinator_impl.h"

namespace holdfast {

void Coordinator::Impl::AddNode(const RpcMessage& message, const ReplyFn& reply) {
  StatusOr<proto::AddNodeRequest> request = ParseHead<proto::AddNodeRequest>(message);
  if (!request.ok()) return reply(request.status());
  const bool nothing_stored = log_.head().number == 0;
  StatusOr<ClusterState::Change> change = cluster_.PlanAddNode(*request, nothing_stored);
  if (!change.ok()) return reply(change.status());
  proto::AddNodeReply answer;
  answer.set_number(change->node);
  const MapNode& node = change->map.nodes[change->node];
  if (!AllowsSite(change->map, node.failure_domain)) {
    answer.set_note(absl::StrCat("It will hold nothing: copies stay at ",
                                 absl::StrJoin(change->map.sites, ", "), ", and its site is ",
                                 Printable(SiteOf(node.failure_domain)), "."));
  }
  ChangeCluster(*std::move(change), MakeMessage(rpc::kAddNode, answer), reply);
}

void Coordinator::Impl::SetNodeState(const RpcMessage& message, const ReplyFn& reply) {
  StatusOr<proto::SetNodeStateRequest> request = ParseHead<proto::SetNodeStateRequest>(message);
  if (!request.ok()) return reply(request.status());
  const bool nothing_stored = log_.head().number == 0;
  StatusOr<ClusterState::Change> change = cluster_.PlanSetNodeState(*request, nothing_stored);
  if (!change.ok()) return reply(change.status());
  ChangeCluster(*std::move(change), MakeMessage(rpc::kSetNodeState, proto::SetNodeStateReply()),
                reply);
}

void Coordinator::Impl::SetPrincipal(const RpcMessage& message, const ReplyFn& reply) {
  StatusOr<proto::SetPrincipalRequest> request = ParseHead<proto::SetPrincipalRequest>(message);
  if (!request.ok()) return reply(request.status());
  StatusOr<ClusterState::Change> change = cluster_.PlanSetPrincipal(*request);
  if (!change.ok()) return reply(change.status());
  ChangeCluster(*std::move(change), MakeMessage(rpc::kSetPrincipal, proto::SetPrincipalReply()),
                reply);
}

void Coordinator::Impl::ChangeCluster(ClusterState::Change change, RpcMessage answer,
                                      const ReplyFn& reply) {
  if (!cluster_.active()) {
    return reply(absl::FailedPreconditionError("this vault is in a directory, not a cluster"));
  }
  if (change.rows.empty()) return reply(std::move(answer));
  // While the cluster is being made nothing can be committed yet; and a node that is lost may be
  // why nothing can be committed before the map says so. Then the rows are the catalogue's alone,
  // and the next commit takes them along.
  if (log_.head().number == 0 || !log_.obstacle().ok()) {
    if (Status s = log_.WriteApart(change.rows); !s.ok()) return reply(s);
    unrecorded_ = true;
    Install(std::move(change));
    return reply(std::move(answer));
  }
  CommitPlan plan;
  plan.counters = log_.counters();
  plan.counters.last_commit_nanos = env_.clock.WallNanos();
  plan.mutations = change.rows;
  plan.mutations.push_back({MetaKey(kCountersRow), EncodeCounters(plan.counters)});
  const ClusterMap before = options_.map;
  Install(std::move(change));
  if (std::exchange(unrecorded_, false)) {
    plan.mutations.clear();
    cluster_.AppendAllRows(plan.mutations);
    plan.mutations.push_back({MetaKey(kCountersRow), EncodeCounters(plan.counters)});
  }
  Status written = log_.Append(std::move(plan), [this, answer, reply](const Status& status) {
    status.ok() ? reply(answer) : reply(status);
    Pump();
  });
  if (written.ok()) return;
  unrecorded_ = true;
  // Nothing was stored; what is in force is what was before, read again.
  const ClusterMap failed = std::exchange(options_.map, before);
  if (Status reloaded = cluster_.Load(); !reloaded.ok()) return reply(reloaded);
  repair_.MapChanged(failed);
  reply(written);
}

void Coordinator::Impl::Install(ClusterState::Change change) {
  const ClusterMap before = options_.map;
  cluster_.Install(std::move(change));
  repair_.MapChanged(before);
}

Repair::Hooks Coordinator::Impl::RepairHooks() {
  const auto nothing_stored = [this] { return log_.head().number == 0; };
  Repair::Hooks hooks;
  hooks.finish_migration = [this](const std::vector<uint32_t>& groups) {
    ChangeClusterLater([this, groups] { return cluster_.PlanSwitch(groups); });
  };
  hooks.set_away = [this, nothing_stored](const std::vector<uint32_t>& gone,
                                          const std::vector<uint32_t>& back) {
    ChangeClusterLater([this, nothing_stored, gone, back] {
      return cluster_.PlanAway(gone, back, nothing_stored());
    });
  };
  return hooks;
}

// What was true when repair asked must be true still: one change at a time, and it asks again. A
// catalogue that may be behind the nodes decides nothing by itself.
void Coordinator::Impl::ChangeClusterLater(std::function<ClusterState::Change()> plan) {
  if (std::exchange(changing_, true)) return;
  Pending pending;
  pending.task = [this, plan = std::move(plan), version = options_.map.version] {
    if (version != options_.map.version || !log_.refused().ok() || !log_.proved()) {
      changing_ = false;
      return;
    }
    ChangeCluster(plan(), {}, [this](const StatusOr<RpcMessage>&) { changing_ = false; });
  };
  queue_.push_back(std::move(pending));
  Pump();
}

// What the nodes hold is asked anew: who has just stored something is not told of the time before.
void Coordinator::Impl::VaultStatus(const ReplyFn& reply) {
  const auto answer = [this, reply](bool all) {
    if (!log_.refused().ok()) return reply(log_.refused());
    proto::VaultStatusReply status = StatusNow();
    if (!all) status.mutable_repair()->set_known(false);
    reply(MakeMessage(rpc::kVaultStatus, status));
  };
  if (!cluster_.active()) return answer(true);
  repair_.Refresh(answer);
}

proto::VaultStatusReply Coordinator::Impl::StatusNow() {
  proto::VaultStatusReply reply;
  const Counters& counters = log_.counters();
  reply.set_collections(counters.collections);
  reply.set_objects(counters.objects);
  reply.set_versions(counters.versions);
  reply.set_commits(log_.head().number);
  reply.set_epoch(log_.head().epoch);
  reply.set_generation(log_.head().generation);
  reply.set_open_sessions(sessions_.open_count());
  reply.set_last_commit_nanos(counters.last_commit_nanos);
  reply.set_outbox(log_.outbox());
  const Census& census = log_.census();
  for (size_t i = 0; i < census.nodes.size(); ++i) {
    if (census.nodes[i].ok()) continue;
    proto::Finding& finding = *reply.add_findings();
    finding.set_class_(proto::Finding::UNREADABLE);
    finding.set_node(static_cast<uint32_t>(i));
    finding.set_text(Message(FromNode(static_cast<uint32_t>(i), census.nodes[i].status())));
  }
  if (!log_.lost().ok()) {
    proto::Finding& finding = *reply.add_findings();
    finding.set_class_(proto::Finding::MISSING);
    finding.set_text(Message(log_.lost()));
  }
  if (!log_.obstacle().ok()) {
    proto::Finding& finding = *reply.add_findings();
    finding.set_class_(proto::Finding::NOTE);
    finding.set_text(absl::StrCat("no commit is made now: ", Message(log_.obstacle())));
  }
  if (cluster_.active()) AddClusterStatus(reply);
  return reply;
}

void Coordinator::Impl::AddClusterStatus(proto::VaultStatusReply& reply) {
  std::vector<uint32_t> groups(options_.map.nodes.size());
  for (uint32_t pg = 0; pg < options_.map.placement.size(); ++pg) {
    for (uint32_t node : WriteSet(options_.map, pg)) ++groups[node];
  }
  for (const MapNode& node : options_.map.nodes) {
    proto::NodeSummary& out = *reply.add_nodes();
    out.set_number(node.number);
    out.set_state(static_cast<uint32_t>(node.state));
    out.set_answers(repair_.answers(node.number));
    out.set_endpoint(node.endpoint);
    out.set_failure_domain(node.failure_domain);
    out.set_weight(node.weight);
    out.set_groups(groups[node.number]);
  }
  const RepairReport& report = repair_.Report();
  proto::RepairSummary& out = *reply.mutable_repair();
  out.set_known(report.known);
  out.set_missing(report.missing);
  out.set_to_move(report.to_move);
  out.set_migrating(report.migrating);
  out.set_unreachable(report.unreachable);
  out.set_disputed(report.disputed);
  out.set_copied_records(report.copied_records);
  out.set_copied_bytes(report.copied_bytes);
  out.set_records_per_second(report.records_per_second);
  if (!report.trouble.ok()) out.set_trouble(Message(report.trouble));
}

}  // namespace holdfast
