// Sessions, manifest parts, commits and removals.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/invariant.h"
#include "common/base/mutant.h"
#include "coordinator/coordinator_impl.h"
#include "coordinator/parts.h"
#include "coordinator/reads.h"
#include "coordinator/remove.h"
#include "coordinator/secure.h"

namespace holdfast {
namespace {

constexpr int64_t kNodeTimeoutNanos = 30LL * 1'000'000'000;
// A part is asked of one node after another within the time that a request has.
constexpr int64_t kPartNanos = 8 * kSecond;
constexpr int64_t kLeaseCheckNanos = 60LL * 1'000'000'000;

// As KeyFile::writer.
WriterId WriterOf(const std::string& public_key) {
  const Hash256 hash = Sha256(AsBytes(public_key));
  return WriterId::FromBytes(Bytes(hash).first(WriterId::kSize));
}

}  // namespace

void Coordinator::Impl::Commit(Pending pending) {
  StatusOr<proto::CommitRequest> request = ParseHead<proto::CommitRequest>(pending.request);
  if (!request.ok()) return pending.reply(request.status());
  const SessionId id = SessionId::FromBytes(AsBytes(request->session()));
  StatusOr<Session*> session = sessions_.Get(id);  // C4
  if (!session.ok()) return pending.reply(session.status());
  HOLDFAST_INVARIANT(G3, (*session)->row.epoch >= collector_.horizon());
  if (const std::string* answer = Recall(**session, request->request())) {  // C5
    return pending.reply(RpcMessage{rpc::kCommit, *answer, {}});
  }
  if (request->map_version() > options_.map.version) {
    return pending.reply(absl::AbortedError("the commit goes by a cluster map that is not known"));
  }
  if (cluster_.active() && request->map_version() < options_.map.version &&
      !HOLDFAST_MUTANT(stale_map_accepted)) {
    return SecureCommit(std::move(pending), *std::move(request));
  }
  const CommitContext context = {options_.domain, log_.head(), log_.counters(),
                                 env_.clock.WallNanos()};
  StatusOr<CommitPlan> plan = PlanCommit(context, catalogue_, **session, *request);
  if (!plan.ok()) return pending.reply(plan.status());
  if (!plan->unknown_parts.empty()) {
    return SecureParts(std::move(pending), std::move(plan->unknown_parts));
  }
  plan->reply.set_map_version(options_.map.version);
  RpcMessage answer = MakeMessage(rpc::kCommit, plan->reply);
  if (plan->mutations.empty()) {
    Remember(**session, request->request(), answer.head);
    return pending.reply(std::move(answer));
  }
  if (cluster_.active()) {
    if (std::exchange(unrecorded_, false)) cluster_.AppendAllRows(plan->mutations);
    (*session)->row.last_request = request->request();
    (*session)->row.last_answer = answer.head;
    plan->catalogue_only.push_back({SessionKey(id), Encode((*session)->row)});
  }
  Status written =
      log_.Append(*std::move(plan), [this, answer, reply = pending.reply](const Status& status) {
        if (status.ok()) {
          reply(answer);
        } else {
          reply(status);
        }
        Pump();
      });
  if (!written.ok()) {
    unrecorded_ = cluster_.active();
    return pending.reply(written);
  }
  // From here on the commit stands; a repetition waits until its record is on the nodes and then
  // gets this answer.
  Remember(**session, request->request(), std::move(answer.head));
}

void Coordinator::Impl::Remove(const RpcMessage& message, const ReplyFn& reply) {
  StatusOr<proto::RemoveRequest> request = ParseHead<proto::RemoveRequest>(message);
  if (!request.ok()) return reply(request.status());
  StatusOr<std::optional<std::string>> before = FindRemoval(catalogue_, request->request());  // C5
  if (!before.ok()) return reply(before.status());
  if (*before) return reply(RpcMessage{rpc::kRemove, **std::move(before), {}});
  StatusOr<RemovePlan> plan =
      PlanRemove(log_.counters(), catalogue_, env_.clock.WallNanos(), *request);
  if (!plan.ok()) return reply(plan.status());
  RpcMessage answer = MakeMessage(rpc::kRemove, plan->reply);
  if (plan->commit.mutations.empty()) return reply(std::move(answer));
  StatusOr<KvMutation> remembered = RememberRemoval(catalogue_, request->request(), answer.head);
  if (!remembered.ok()) return reply(remembered.status());
  plan->commit.catalogue_only.push_back(*std::move(remembered));
  if (std::exchange(unrecorded_, false)) cluster_.AppendAllRows(plan->commit.mutations);
  Status written =
      log_.Append(std::move(plan->commit), [this, answer, reply](const Status& status) {
        status.ok() ? reply(answer) : reply(status);
        Pump();
      });
  if (written.ok()) return;
  unrecorded_ = cluster_.active();
  reply(written);
}

void Coordinator::Impl::RunAgain(Pending pending) {
  queue_.push_front(std::move(pending));
  Pump();
}

void Coordinator::Impl::SecureParts(Pending pending, std::vector<PartRef> parts) {
  StatusOr<proto::CommitRequest> request = ParseHead<proto::CommitRequest>(pending.request);
  const SessionId id = SessionId::FromBytes(AsBytes(request->session()));
  StatusOr<Session*> session = sessions_.Get(id);
  if (!session.ok()) return pending.reply(session.status());
  auto done = [this, id, parts, pending = std::move(pending)](const Status& whole) {
    if (absl::IsNotFound(whole)) {
      return pending.reply(absl::InvalidArgumentError("a manifest part it names was not put"));
    }
    if (!whole.ok()) return pending.reply(whole);
    StatusOr<Session*> open = sessions_.Get(id);
    if (!open.ok()) return pending.reply(open.status());
    for (const PartRef& part : parts) (*open)->parts[part.id] = part.digest;
    RunAgain(pending);
  };
  holdfast::SecureParts(nodes_, options_.keys, parts, (*session)->row.epoch,
                        WriterOf(request->signer_public_key()), kNodeTimeoutNanos, done);
}

// The request goes by an older map: what is in groups that changed since is made sure of.
void Coordinator::Impl::SecureCommit(Pending pending, proto::CommitRequest request) {
  std::vector<RecordId> ids;
  std::vector<PartRef> parts;
  for (const std::string& bytes : request.manifests()) {
    StatusOr<ClearManifest> manifest = DecodeClearManifest(AsBytes(bytes));
    if (!manifest.ok()) {
      return pending.reply(absl::InvalidArgumentError(Message(manifest.status())));
    }
    for (const ChunkRef& chunk : manifest->chunks) ids.push_back(chunk.id);
    for (const PartRef& part : manifest->parts) ids.push_back(part.id);
    parts.insert(parts.end(), manifest->parts.begin(), manifest->parts.end());
  }
  auto listed = [this, pending = std::move(pending), request = std::move(request),
                 version = options_.map.version,
                 ids](const StatusOr<std::vector<RecordId>>& in_parts) mutable {
    if (!in_parts.ok()) return pending.reply(in_parts.status());
    ids.insert(ids.end(), in_parts->begin(), in_parts->end());
    std::erase_if(ids, [&](const RecordId& id) {
      return cluster_.changed(PlacementGroupOf(id)) <= request.map_version();
    });
    SecureChunks(std::move(pending), std::move(request), version, std::move(ids));
  };
  ListChunks(nodes_, options_.keys, std::move(parts), kNodeTimeoutNanos, std::move(listed));
}

void Coordinator::Impl::SecureChunks(Pending pending, proto::CommitRequest request,
                                     uint64_t version, std::vector<RecordId> ids) {
  StatusOr<Session*> session = sessions_.Get(SessionId::FromBytes(AsBytes(request.session())));
  if (!session.ok()) return pending.reply(session.status());
  request.set_map_version(version);
  request.SerializeToString(&pending.request.head);
  if (ids.empty()) return RunAgain(std::move(pending));
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  SecureRecords(nodes_, std::move(ids), (*session)->row.epoch, kNodeTimeoutNanos,
                [this, pending = std::move(pending)](const Status& status) {
                  if (!status.ok()) return pending.reply(status);
                  RunAgain(pending);
                });
}

void Coordinator::Impl::AbortSilentSessions() {
  // What cannot be written now is tried again.
  (void)sessions_.AbortSilent(options_.session_lease_nanos);
  env_.loop.PostAfter(std::min(kLeaseCheckNanos, options_.session_lease_nanos / 4),
                      guard_.Wrap([this] { AbortSilentSessions(); }));
}

// Nodes keep what a session touched for its epoch in its generation. So one that a rebuilt
// catalogue does not know cannot go on under its name: it may rest on what is garbage by now (G3).
Status Coordinator::Impl::GoOn(const SessionId& id, const proto::OpenSessionRequest& request) {
  ASSIGN_OR_RETURN(const Session* session, sessions_.Get(id));
  if (session->row.epoch == request.epoch() && log_.head().generation == request.generation()) {
    return absl::OkStatus();
  }
  return absl::AbortedError(
      "the catalogue was made anew since this session was opened: start the ingest again");
}

StatusOr<proto::OpenSessionReply> Coordinator::Impl::OpenSession(
    const proto::OpenSessionRequest& request) {
  if (DomainId::FromBytes(AsBytes(request.domain())) != options_.domain) {
    return absl::PermissionDeniedError("this vault does not hold that domain");
  }
  const SessionId id = SessionId::FromBytes(AsBytes(request.session()));
  if (request.epoch() != 0) RETURN_IF_ERROR(GoOn(id, request));
  ASSIGN_OR_RETURN(uint64_t epoch, sessions_.Open(id, log_.head().epoch));
  HOLDFAST_INVARIANT(G3, epoch >= collector_.horizon());
  proto::OpenSessionReply reply;
  reply.set_epoch(epoch);
  reply.set_generation(log_.head().generation);
  reply.set_map(cluster_.EncodedMap());
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
  put.epoch = (*session)->row.epoch;
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
  const RecordId id = PartId(version, request->index());
  // Its third frame is the SHA-256 of the record, which is the same on all nodes: a client of a
  // cluster cannot open it, and can still check every replica.
  holdfast::GetPart(nodes_, options_.keys, id, what, std::nullopt, kPartNanos,
                    [this, id, reply](StatusOr<PartRecord> part) {
                      if (!part.ok()) return reply(part.status());
                      RpcMessage m = MakeMessage(rpc::kGetPart, proto::GetPartReply());
                      const Hash256 record =
                          Sha256({MakePartRecord(options_.keys, id, part->clear, part->sealed)});
                      m.frames.push_back(SharedBytes::Own(std::move(part->clear)));
                      m.frames.push_back(SharedBytes::Own(std::move(part->sealed)));
                      m.frames.push_back(SharedBytes::Own(Buffer(record.begin(), record.end())));
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

// While a commit is on too few nodes its versions are not found, nor any other: who is told of one
// reports it as stored (see Acknowledges), and can do without.
StatusOr<proto::FindContentReply> Coordinator::Impl::FindContent(
    const proto::FindContentRequest& request) {
  proto::FindContentReply found;
  if (log_.obstacle().ok()) {
    ASSIGN_OR_RETURN(found, holdfast::FindContent(catalogue_, request));
  } else {
    for (int i = 0; i < request.names_size(); ++i) found.add_contents();
  }
  found.set_map_version(options_.map.version);
  return found;
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
  auto done = [this, session_id, version = (*same)->version, reply](const Status& whole) {
    StatusOr<Session*> open = sessions_.Get(session_id);
    if (!open.ok()) return reply(open.status());
    proto::FindSameReply answer;
    if (whole.ok()) {
      answer.set_version(ToString(version.bytes()));
    } else {
      answer.set_short_version(ToString(version.bytes()));
    }
    reply(MakeMessage(rpc::kFindSame, answer));
  };
  holdfast::SecureParts(nodes_, options_.keys, std::move((*same)->parts), (*session)->row.epoch,
                        WriterId::FromBytes(AsBytes(request->writer())), kNodeTimeoutNanos, done);
}

}  // namespace holdfast
