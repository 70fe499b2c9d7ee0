#include "coordinator/coordinator.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/rpc/methods.h"
#include "coordinator/backup.h"
#include "coordinator/coordinator_impl.h"
#include "coordinator/fsck.h"
#include "coordinator/reads.h"

namespace holdfast {
namespace {

// Whether a client reports something as done on the word of the answer. What is not on W nodes yet
// may go with the catalogue, so such requests wait for it. A change of the cluster waits for
// nothing.
bool Acknowledges(uint16_t method) {
  return method == rpc::kCommit || method == rpc::kRemove || method == rpc::kFindSame;
}

}  // namespace

Status Coordinator::Impl::Open() {
  ASSIGN_OR_RETURN(std::optional<std::string> check, env_.catalogue.Get(MetaKey(kKeyCheckRow)));
  if (check && *check != CatalogueKeyCheck(options_.keys, options_.vault)) {
    return absl::PermissionDeniedError(
        "this catalogue belongs to another vault or was written under another catalogue key");
  }
  RETURN_IF_ERROR(cluster_.Load());
  RETURN_IF_ERROR(log_.Open());
  RETURN_IF_ERROR(sessions_.Start(/*keep=*/cluster_.active()));
  unrecorded_ = cluster_.active();
  log_.Start();
  if (!cluster_.active()) return absl::OkStatus();
  env_.loop.Post(guard_.Wrap([this] {
    cluster_.Start();
    repair_.Start();
    collector_.TellGeneration();
    AbortSilentSessions();
  }));
  return absl::OkStatus();
}

void Coordinator::Impl::Handle(RpcMessage request, ReplyFn reply) {
  switch (request.method) {
    // These touch nothing that a commit changes.
    case rpc::kGetMap: {
      proto::GetMapReply map;
      map.set_map(cluster_.EncodedMap());
      map.set_vault(ToString(options_.vault.bytes()));
      map.set_domain(ToString(options_.domain.bytes()));
      return reply(MakeMessage(rpc::kGetMap, map));
    }
    case rpc::kPutPart:
      return PutPart(request, reply);
    case rpc::kGetPart:
      return GetPart(request, reply);
    // Nor do these: who asks wants to know what it is that is waited for.
    case rpc::kVaultStatus:
    case rpc::kGcStatus:
    case rpc::kGcStop:
      if (!log_.refused().ok()) return reply(log_.refused());
      return Run({std::move(request), std::move(reply), env_.clock.MonotonicNanos()});
    default:
      queue_.push_back({std::move(request), std::move(reply), env_.clock.MonotonicNanos()});
      Pump();
  }
}

void Coordinator::Impl::Pump() {
  if (pumping_) return;
  pumping_ = true;
  while (!queue_.empty() && !log_.busy()) {
    Pending pending = std::move(queue_.front());
    queue_.pop_front();
    if (pending.task) {
      pending.task();
    } else if (!log_.refused().ok()) {
      pending.reply(log_.refused());
    } else if (Acknowledges(pending.request.method) && !log_.obstacle().ok()) {
      if (absl::IsResourceExhausted(log_.obstacle())) {
        pending.reply(log_.obstacle());
      } else {
        waiting_.push_back(std::move(pending));
      }
    } else {
      Run(std::move(pending));
    }
  }
  pumping_ = false;
}

// Requests keep their order: those that waited go before what came since.
void Coordinator::Impl::ObstacleChanged() {
  const bool over = log_.obstacle().ok() || !log_.refused().ok();
  const int64_t now = env_.clock.MonotonicNanos();
  const bool full = absl::IsResourceExhausted(log_.obstacle());
  while (!over && !waiting_.empty() &&
         (full || now - waiting_.front().arrived_nanos > options_.max_wait_nanos)) {
    waiting_.front().reply(log_.obstacle());
    waiting_.pop_front();
  }
  if (over) {
    queue_.insert(queue_.begin(), std::make_move_iterator(waiting_.begin()),
                  std::make_move_iterator(waiting_.end()));
    waiting_.clear();
  }
  Pump();
}

void Coordinator::Impl::Run(Pending pending) {
  const RpcMessage& m = pending.request;
  const ReplyFn& reply = pending.reply;
  switch (m.method) {
    case rpc::kCommit:
      return Commit(std::move(pending));
    case rpc::kRemove:
      return Remove(m, reply);
    case rpc::kOpenSession:
      return Answer(m, reply, &Impl::OpenSession);
    case rpc::kCloseSession:
      return Answer(m, reply, &Impl::CloseSession);
    case rpc::kLookup:
      return Answer(m, reply, &Lookup);
    case rpc::kList:
      return Answer(m, reply, &List);
    case rpc::kListCollections:
      return Answer(m, reply, &ListCollections);
    case rpc::kFindContent:
      return Answer(m, reply, &Impl::FindContent);
    case rpc::kGetSignature:
      return Answer(m, reply, &GetSignature);
    case rpc::kGetSealingKey:
      return Answer(m, reply, &GetSealingKey);
    case rpc::kVaultStatus:
      return VaultStatus(reply);
    case rpc::kCheckCatalogue:
      return CheckCatalogue(m, reply);
    case rpc::kFindSame:
      return FindSame(m, reply);
    case rpc::kBackupPage:
      return Backup(m, reply);
    case rpc::kAddNode:
      return AddNode(m, reply);
    case rpc::kSetNodeState:
      return SetNodeState(m, reply);
    case rpc::kSetPrincipal:
      return SetPrincipal(m, reply);
    case rpc::kGcStart:
      return Answer(m, reply, &Impl::GcStart);
    case rpc::kGcStatus:
      return Answer(m, reply, &Impl::GcStatus);
    case rpc::kGcStop:
      return Answer(m, reply, &Impl::GcStop);
    case rpc::kListPrincipals:
      return reply(MakeMessage(rpc::kListPrincipals, cluster_.ListPrincipals()));
    default:
      reply(absl::InvalidArgumentError(absl::StrCat("the coordinator has no method ", m.method)));
  }
}

void Coordinator::Impl::CheckCatalogue(const RpcMessage& message, const ReplyFn& reply) {
  StatusOr<proto::CheckCatalogueRequest> request = ParseHead<proto::CheckCatalogueRequest>(message);
  if (!request.ok()) return reply(request.status());
  const FsckEnv env = {options_, catalogue_, nodes_, log_.head(), log_.counters(), log_.outbox()};
  CheckCatalogueStep(env, request->cursor(), [reply](StatusOr<proto::CheckCatalogueReply> answer) {
    Send(reply, rpc::kCheckCatalogue, answer);
  });
}

void Coordinator::Impl::Backup(const RpcMessage& message, const ReplyFn& reply) {
  StatusOr<proto::BackupPageRequest> request = ParseHead<proto::BackupPageRequest>(message);
  if (!request.ok()) return reply(request.status());
  reply(MakeBackupPage(options_, env_.rng, catalogue_, log_.head(), *request));
}

Coordinator::Coordinator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Coordinator::~Coordinator() = default;

void Coordinator::Handle(RpcMessage request, ReplyFn reply) {
  impl_->Handle(std::move(request), std::move(reply));
}

Status Coordinator::Format(const CoordinatorOptions& options, Kv& catalogue, Clock& clock) {
  (void)clock;
  ASSIGN_OR_RETURN(std::optional<std::string> head, catalogue.Get(MetaKey(kHeadRow)));
  if (head) return absl::FailedPreconditionError("there is a catalogue already");
  return catalogue.Write({{MetaKey(kHeadRow), EncodeHead(Head())},
                          {MetaKey(kCountersRow), EncodeCounters(Counters())},
                          {MetaKey(kKeyCheckRow), CatalogueKeyCheck(options.keys, options.vault)}},
                         /*sync=*/true);
}

Status Coordinator::FormatCluster(const CoordinatorOptions& options, const Principal& founder,
                                  Kv& catalogue) {
  ASSIGN_OR_RETURN(std::optional<std::string> head, catalogue.Get(MetaKey(kHeadRow)));
  if (head) return absl::FailedPreconditionError("there is a catalogue already");
  KvBatch rows = ClusterState::Founding(options.map, founder);
  rows.push_back({MetaKey(kHeadRow), EncodeHead(Head())});
  rows.push_back({MetaKey(kCountersRow), EncodeCounters(Counters())});
  rows.push_back({MetaKey(kKeyCheckRow), CatalogueKeyCheck(options.keys, options.vault)});
  return catalogue.Write(rows, /*sync=*/true);
}

StatusOr<std::unique_ptr<Coordinator>> Coordinator::Open(const CoordinatorOptions& options,
                                                         const CoordinatorEnv& env) {
  auto impl = std::make_unique<Impl>(options, env);
  RETURN_IF_ERROR(impl->Open());
  return std::unique_ptr<Coordinator>(new Coordinator(std::move(impl)));
}

}  // namespace holdfast
