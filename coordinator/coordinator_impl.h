// The coordinator's service, split by request: coordinator.cc (start, the queue, small requests),
// coordinator_commit.cc (sessions, parts, commits, removals), coordinator_cluster.cc (nodes,
// principals, status). Runs on the Loop.
#pragma once

#include <deque>
#include <optional>

#include "coordinator/catalogue.h"
#include "coordinator/cluster_state.h"
#include "coordinator/collector.h"
#include "coordinator/commit_log.h"
#include "coordinator/commit_plan.h"
#include "coordinator/coordinator.h"
#include "coordinator/guard.h"
#include "coordinator/node_client.h"
#include "coordinator/repair.h"
#include "coordinator/sessions.h"

namespace holdfast {

template <class Proto>
void Send(const ReplyFn& reply, uint16_t method, const StatusOr<Proto>& answer) {
  if (answer.ok()) {
    reply(MakeMessage(method, *answer));
  } else {
    reply(answer.status());
  }
}

// Requests are taken in the order they come. While a commit is under way all that touch the
// catalogue wait behind it; while commits cannot be made (see CommitLog::obstacle) they wait apart
// and the others pass.
class Coordinator::Impl {
 public:
  Impl(const CoordinatorOptions& options, const CoordinatorEnv& env)
      : options_(options),
        env_(env),
        catalogue_(env.catalogue),
        nodes_(env.transport, env.loop, guard_, options_.map, options_.domain),
        cluster_(options_.map, env_, catalogue_, nodes_, guard_),
        sessions_(catalogue_, env.clock),
        log_(options_, env_, catalogue_, nodes_, guard_, [this] { ObstacleChanged(); }),
        repair_(options_.map, env_, nodes_, guard_, options_.out_after_nanos, RepairHooks()),
        collector_(options_, env_, catalogue_, sessions_, log_, nodes_, guard_,
                   [this](int64_t removed_before, std::string cursor, auto done) {
                     PurgeLater(removed_before, std::move(cursor), std::move(done));
                   }) {}
  ~Impl() { guard_.Close(); }

  Status Open();
  void Handle(RpcMessage request, ReplyFn reply);

 private:
  struct Pending {
    RpcMessage request;
    ReplyFn reply;
    int64_t arrived_nanos = 0;
    Task task;  // Instead of a request.
  };

  void Pump();
  void Run(Pending pending);
  void ObstacleChanged();

  void Commit(Pending pending);
  // Makes sure of what a commit names and the session, or the map of today, does not know; then the
  // commit is taken up again.
  void SecureParts(Pending pending, std::vector<PartRef> parts);
  void SecureCommit(Pending pending, proto::CommitRequest request);
  void SecureChunks(Pending pending, proto::CommitRequest request, uint64_t version,
                    std::vector<RecordId> ids);
  void RunAgain(Pending pending);
  void Remove(const RpcMessage& request, const ReplyFn& reply);
  void AbortSilentSessions();
  void PutPart(const RpcMessage& request, const ReplyFn& reply);
  void GetPart(const RpcMessage& request, const ReplyFn& reply);
  void FindSame(const RpcMessage& request, const ReplyFn& reply);
  StatusOr<proto::FindContentReply> FindContent(const proto::FindContentRequest& request);
  // The manifest of the newest version, if it has the content that is asked for.
  StatusOr<std::optional<ClearManifest>> FindSameManifest(const proto::FindSameRequest& request);
  void CheckCatalogue(const RpcMessage& request, const ReplyFn& reply);
  void Backup(const RpcMessage& request, const ReplyFn& reply);
  void AddNode(const RpcMessage& request, const ReplyFn& reply);
  void SetNodeState(const RpcMessage& request, const ReplyFn& reply);
  void SetPrincipal(const RpcMessage& request, const ReplyFn& reply);
  Repair::Hooks RepairHooks();
  // Plans a change and makes it, once nothing is under way.
  void ChangeClusterLater(std::function<ClusterState::Change()> plan);
  void Install(ClusterState::Change change);
  // Makes a change of the cluster durable, then so, then answers.
  void ChangeCluster(ClusterState::Change change, RpcMessage answer, const ReplyFn& reply);
  StatusOr<proto::OpenSessionReply> OpenSession(const proto::OpenSessionRequest& request);
  Status GoOn(const SessionId& id, const proto::OpenSessionRequest& request);
  StatusOr<proto::CloseSessionReply> CloseSession(const proto::CloseSessionRequest& request);
  // A commit of what was removed before then, once nothing is under way.
  void PurgeLater(int64_t removed_before, std::string cursor, Collector::PurgedFn done);
  StatusOr<proto::GcStartReply> GcStart(const proto::GcStartRequest& request);
  StatusOr<proto::GcStatusReply> GcStatus(const proto::GcStatusRequest& request);
  StatusOr<proto::GcStopReply> GcStop(const proto::GcStopRequest& request);
  void VaultStatus(const ReplyFn& reply);
  proto::VaultStatusReply StatusNow();
  void AddClusterStatus(proto::VaultStatusReply& reply);

  // Parses the head, runs `handler`, answers.
  template <class Request, class Reply>
  void Answer(const RpcMessage& message, const ReplyFn& reply,
              StatusOr<Reply> (*handler)(Catalogue&, const Request&)) {
    StatusOr<Request> request = ParseHead<Request>(message);
    Send(reply, message.method,
         request.ok() ? handler(catalogue_, *request) : StatusOr<Reply>(request.status()));
  }
  template <class Request, class Reply>
  void Answer(const RpcMessage& message, const ReplyFn& reply,
              StatusOr<Reply> (Impl::*handler)(const Request&)) {
    StatusOr<Request> request = ParseHead<Request>(message);
    Send(reply, message.method,
         request.ok() ? (this->*handler)(*request) : StatusOr<Reply>(request.status()));
  }

  CoordinatorOptions options_;  // The map changes as the cluster does.
  const CoordinatorEnv env_;
  Guard guard_;
  Catalogue catalogue_;
  NodeClient nodes_;
  ClusterState cluster_;
  Sessions sessions_;
  CommitLog log_;
  Repair repair_;
  Collector collector_;
  bool changing_ = false;        // A change that repair asked for waits or is under way.
  std::deque<Pending> queue_;    // Behind the commit under way.
  std::deque<Pending> waiting_;  // Commits that cannot be made just now.
  bool pumping_ = false;
  bool unrecorded_ = false;  // The cluster's rows: the next commit record takes them along.
};

}  // namespace holdfast
