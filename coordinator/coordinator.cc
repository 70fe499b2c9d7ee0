#include "coordinator/coordinator.h"

#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/rpc/methods.h"
#include "coordinator/catalogue.h"
#include "coordinator/cluster_state.h"
#include "coordinator/commit_log.h"
#include "coordinator/commit_plan.h"
#include "coordinator/fsck.h"
#include "coordinator/guard.h"
#include "coordinator/node_client.h"
#include "coordinator/parts.h"
#include "coordinator/reads.h"
#include "coordinator/sessions.h"

namespace holdfast {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kNodeTimeoutNanos = 30 * kSecond;
// A commit that waits for an earlier one to reach the nodes is given up after about this long.

template <class Proto>
void Send(const ReplyFn& reply, uint16_t method, const StatusOr<Proto>& answer) {
  if (answer.ok()) {
    reply(MakeMessage(method, *answer));
  } else {
    reply(answer.status());
  }
}

}  // namespace

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
        log_(options_, env_, catalogue_, nodes_, guard_, [this] { ObstacleChanged(); }) {}
  ~Impl() { guard_.Close(); }

  Status Open();
  void Handle(RpcMessage request, ReplyFn reply);

 private:
  struct Pending {
    RpcMessage request;
    ReplyFn reply;
    int64_t arrived_nanos = 0;
  };

  void Pump();
  void Run(Pending pending);
  void ObstacleChanged();

  void Commit(Pending pending);
  void PutPart(const RpcMessage& request, const ReplyFn& reply);
  void GetPart(const RpcMessage& request, const ReplyFn& reply);
  void FindSame(const RpcMessage& request, const ReplyFn& reply);
  // The manifest of the newest version, if it has the content that is asked for.
  StatusOr<std::optional<ClearManifest>> FindSameManifest(const proto::FindSameRequest& request);
  void CheckCatalogue(const RpcMessage& request, const ReplyFn& reply);
  void AddNode(const RpcMessage& request, const ReplyFn& reply);
  void SetPrincipal(const RpcMessage& request, const ReplyFn& reply);
  // Makes a change of the cluster durable, then so, then answers.
  void ChangeCluster(ClusterState::Change change, RpcMessage answer, const ReplyFn& reply);
  StatusOr<proto::OpenSessionReply> OpenSession(const proto::OpenSessionRequest& request);
  StatusOr<proto::CloseSessionReply> CloseSession(const proto::CloseSessionRequest& request);
  proto::VaultStatusReply VaultStatus();

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
  std::deque<Pending> queue_;    // Behind the commit under way.
  std::deque<Pending> waiting_;  // Commits that cannot be made just now.
  bool pumping_ = false;
};

Status Coordinator::Impl::Open() {
  ASSIGN_OR_RETURN(std::optional<std::string> check, env_.catalogue.Get(MetaKey(kKeyCheckRow)));
  if (check && *check != CatalogueKeyCheck(options_.keys, options_.vault)) {
    return absl::PermissionDeniedError(
        "this catalogue belongs to another vault or was written under another catalogue key");
  }
  RETURN_IF_ERROR(cluster_.Load());
  RETURN_IF_ERROR(log_.Open());
  RETURN_IF_ERROR(sessions_.AbortLeftOpen());
  log_.Start();
  env_.loop.Post(guard_.Wrap([this] { cluster_.Start(); }));
  return absl::OkStatus();
}

void Coordinator::Impl::Handle(RpcMessage request, ReplyFn reply) {
  switch (request.method) {
    // These touch nothing that a commit changes.
    case rpc::kGetMap: {
      proto::GetMapReply map;
      map.set_map(EncodeClusterMap(options_.map));
      map.set_vault(ToString(options_.vault.bytes()));
      map.set_domain(ToString(options_.domain.bytes()));
      return reply(MakeMessage(rpc::kGetMap, map));
    }
    case rpc::kPutPart:
      return PutPart(request, reply);
    case rpc::kGetPart:
      return GetPart(request, reply);
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
    if (!log_.refused().ok()) {
      pending.reply(log_.refused());
    } else if (pending.request.method == rpc::kCommit && !log_.obstacle().ok()) {
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

// Commits keep their order: those that waited go before what came since.
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
    case rpc::kGetSignature:
      return Answer(m, reply, &GetSignature);
    case rpc::kGetSealingKey:
      return Answer(m, reply, &GetSealingKey);
    case rpc::kVaultStatus:
      return reply(MakeMessage(rpc::kVaultStatus, VaultStatus()));
    case rpc::kCheckCatalogue:
      return CheckCatalogue(m, reply);
    case rpc::kFindSame:
      return FindSame(m, reply);
    case rpc::kAddNode:
      return AddNode(m, reply);
    case rpc::kSetPrincipal:
      return SetPrincipal(m, reply);
    case rpc::kListPrincipals:
      return reply(MakeMessage(rpc::kListPrincipals, cluster_.ListPrincipals()));
    default:
      reply(absl::InvalidArgumentError(absl::StrCat("the coordinator has no method ", m.method)));
  }
}

void Coordinator::Impl::Commit(Pending pending) {
  StatusOr<proto::CommitRequest> request = ParseHead<proto::CommitRequest>(pending.request);
  if (!request.ok()) return pending.reply(request.status());
  const SessionId id = SessionId::FromBytes(AsBytes(request->session()));
  StatusOr<Session*> session = sessions_.Get(id);  // C4
  if (!session.ok()) return pending.reply(session.status());
  if (const std::string* answer = Recall(**session, request->request())) {  // C5
    return pending.reply(RpcMessage{rpc::kCommit, *answer, {}});
  }
  const CommitContext context = {options_.domain, options_.map.version, log_.head(),
                                 log_.counters(), env_.clock.WallNanos()};
  StatusOr<CommitPlan> plan = PlanCommit(context, catalogue_, **session, *request);
  if (!plan.ok()) return pending.reply(plan.status());
  RpcMessage answer = MakeMessage(rpc::kCommit, plan->reply);
  if (plan->mutations.empty()) {
    Remember(**session, request->request(), answer.head);
    return pending.reply(std::move(answer));
  }
  if (log_.head().number == 0) cluster_.AppendAllRows(plan->mutations);
  Status written =
      log_.Append(*std::move(plan), [this, answer, reply = pending.reply](const Status& status) {
        if (status.ok()) {
          reply(answer);
        } else {
          reply(status);
        }
        Pump();
      });
  if (!written.ok()) return pending.reply(written);
  // From here on the commit stands; a repetition waits until its record is on the nodes and then
  // gets this answer.
  Remember(**session, request->request(), std::move(answer.head));
}

StatusOr<proto::OpenSessionReply> Coordinator::Impl::OpenSession(
    const proto::OpenSessionRequest& request) {
  if (DomainId::FromBytes(AsBytes(request.domain())) != options_.domain) {
    return absl::PermissionDeniedError("this vault does not hold that domain");
  }
  ASSIGN_OR_RETURN(uint64_t epoch, sessions_.Open(SessionId::FromBytes(AsBytes(request.session())),
                                                  log_.head().epoch));
  proto::OpenSessionReply reply;
  reply.set_epoch(epoch);
  reply.set_map(EncodeClusterMap(options_.map));
  return reply;
}

StatusOr<proto::CloseSessionReply> Coordinator::Impl::CloseSession(
    const proto::CloseSessionRequest& request) {
  RETURN_IF_ERROR(
      sessions_.Close(SessionId::FromBytes(AsBytes(request.session())), request.abort()));
  return proto::CloseSessionReply();
}

void Coordinator::Impl::PutPart(const RpcMessage& message, const ReplyFn& reply) {
  StatusOr<proto::PutPartRequest> request = ParseHead<proto::PutPartRequest>(message);
  if (!request.ok()) return reply(request.status());
  const SessionId session_id = SessionId::FromBytes(AsBytes(request->session()));
  StatusOr<Session*> session = sessions_.Get(session_id);
  if (!session.ok()) return reply(session.status());
  const VersionId version = VersionId::FromBytes(AsBytes(request->version()));
  if (version.is_zero() || message.frames.size() != 2 ||
      !DecodePartClear(message.frames[0].view).ok()) {
    return reply(absl::InvalidArgumentError(
        "a manifest part needs a version, a list of chunks and its sealed half"));
  }
  const Bytes clear = message.frames[0].view, sealed = message.frames[1].view;
  RecordPut put;
  put.id = PartId(version, request->index());
  put.kind = RecordKind::kManifestPart;
  put.epoch = (*session)->epoch;
  put.writer = WriterId::FromBytes(AsBytes(request->writer()));
  put.payload = SharedBytes::Own(MakePartRecord(options_.keys, put.id, clear, sealed));
  if (put.payload.view.size() > kMaxPayload) {
    return reply(absl::InvalidArgumentError("the manifest part is too large"));
  }
  auto done = [this, session_id, id = put.id, digest = PartDigest(clear, sealed),
               reply](const Status& status) {
    if (!status.ok()) return reply(status);
    StatusOr<Session*> open = sessions_.Get(session_id);
    if (!open.ok()) return reply(open.status());
    (*open)->parts[id] = digest;
    reply(MakeMessage(rpc::kPutPart, proto::PutPartReply()));
  };
  nodes_.PutRecord(put, kNodeTimeoutNanos, done);
}

void Coordinator::Impl::GetPart(const RpcMessage& message, const ReplyFn& reply) {
  StatusOr<proto::GetPartRequest> request = ParseHead<proto::GetPartRequest>(message);
  if (!request.ok()) return reply(request.status());
  const VersionId version = VersionId::FromBytes(AsBytes(request->version()));
  std::string what =
      absl::StrCat("manifest part ", request->index(), " of version ", version.hex());
  holdfast::GetPart(nodes_, options_.keys, PartId(version, request->index()), what, std::nullopt,
                    kNodeTimeoutNanos, [reply](StatusOr<PartRecord> part) {
                      if (!part.ok()) return reply(part.status());
                      RpcMessage m = MakeMessage(rpc::kGetPart, proto::GetPartReply());
                      m.frames.push_back(SharedBytes::Own(std::move(part->clear)));
                      m.frames.push_back(SharedBytes::Own(std::move(part->sealed)));
                      reply(std::move(m));
                    });
}

StatusOr<std::optional<ClearManifest>> Coordinator::Impl::FindSameManifest(
    const proto::FindSameRequest& request) {
  proto::LookupRequest lookup;
  lookup.set_collection(request.collection());
  lookup.set_name(request.name());
  StatusOr<proto::LookupReply> found = Lookup(catalogue_, lookup);
  if (absl::IsNotFound(found.status())) return std::nullopt;
  if (!found.ok()) return found.status();
  ASSIGN_OR_RETURN(ObjectRow row, DecodeObjectRow(found->object().row()));
  ASSIGN_OR_RETURN(ClearManifest manifest, DecodeClearManifest(row.manifest));
  const bool same = static_cast<uint32_t>(manifest.type) == request.type() &&
                    AsView(manifest.tag_sha256.bytes()) == request.tag_sha256();
  if (!same) return std::nullopt;
  return manifest;
}

void Coordinator::Impl::FindSame(const RpcMessage& message, const ReplyFn& reply) {
  StatusOr<proto::FindSameRequest> request = ParseHead<proto::FindSameRequest>(message);
  if (!request.ok()) return reply(request.status());
  const SessionId session_id = SessionId::FromBytes(AsBytes(request->session()));
  StatusOr<Session*> session = sessions_.Get(session_id);
  if (!session.ok()) return reply(session.status());
  StatusOr<std::optional<ClearManifest>> same = FindSameManifest(*request);
  if (!same.ok()) return reply(same.status());
  if (!*same) return reply(MakeMessage(rpc::kFindSame, proto::FindSameReply()));
  auto done = [this, session_id, version = (*same)->version, reply](bool whole) {
    StatusOr<Session*> open = sessions_.Get(session_id);
    if (!open.ok()) return reply(open.status());
    proto::FindSameReply answer;
    if (whole) {
      answer.set_version(ToString(version.bytes()));
    } else {
      (*open)->short_versions.insert(version);
    }
    reply(MakeMessage(rpc::kFindSame, answer));
  };
  SecureParts(nodes_, options_.keys, std::move((*same)->parts), (*session)->epoch,
              WriterId::FromBytes(AsBytes(request->writer())), kNodeTimeoutNanos, done);
}

void Coordinator::Impl::CheckCatalogue(const RpcMessage& message, const ReplyFn& reply) {
  StatusOr<proto::CheckCatalogueRequest> request = ParseHead<proto::CheckCatalogueRequest>(message);
  if (!request.ok()) return reply(request.status());
  const FsckEnv env = {options_, catalogue_, nodes_, log_.head(), log_.counters(), log_.outbox()};
  CheckCatalogueStep(env, request->cursor(), [reply](StatusOr<proto::CheckCatalogueReply> answer) {
    Send(reply, rpc::kCheckCatalogue, answer);
  });
}

void Coordinator::Impl::AddNode(const RpcMessage& message, const ReplyFn& reply) {
  StatusOr<proto::AddNodeRequest> request = ParseHead<proto::AddNodeRequest>(message);
  if (!request.ok()) return reply(request.status());
  const bool nothing_stored = log_.head().number == 0;
  StatusOr<ClusterState::Change> change = cluster_.PlanAddNode(*request, nothing_stored);
  if (!change.ok()) return reply(change.status());
  proto::AddNodeReply answer;
  answer.set_number(change->node);
  ChangeCluster(*std::move(change), MakeMessage(rpc::kAddNode, answer), reply);
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
  // Nodes join before they serve, so nothing can be committed yet while the cluster is being made:
  // until then the rows are the catalogue's alone, and the first commit takes them along.
  if (log_.head().number == 0) {
    if (Status s = catalogue_.kv().Write(change.rows, /*sync=*/true); !s.ok()) return reply(s);
    cluster_.Install(std::move(change));
    return reply(std::move(answer));
  }
  if (!log_.obstacle().ok()) return reply(log_.obstacle());
  CommitPlan plan;
  plan.counters = log_.counters();
  plan.counters.last_commit_nanos = env_.clock.WallNanos();
  plan.mutations = change.rows;
  plan.mutations.push_back({MetaKey(kCountersRow), EncodeCounters(plan.counters)});
  const ClusterMap before = options_.map;
  cluster_.Install(std::move(change));
  Status written = log_.Append(std::move(plan), [this, answer, reply](const Status& status) {
    status.ok() ? reply(answer) : reply(status);
    Pump();
  });
  if (written.ok()) return;
  // Nothing was stored; what is in force is what was before, read again.
  options_.map = before;
  if (Status reloaded = cluster_.Load(); !reloaded.ok()) return reply(reloaded);
  reply(written);
}

proto::VaultStatusReply Coordinator::Impl::VaultStatus() {
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
  return reply;
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
