// What garbage collection asks of a node but for compaction: docs/gc.md.
//
// Touch and horizon of a record only grow, and it is in the trash exactly when its touch is below
// its horizon. So it makes no difference in which order a pin and a sweep come, or come once more:
// a pin of a session that may still commit has an epoch at or above every horizon.
#include "absl/strings/str_cat.h"
#include "common/base/coding.h"
#include "common/base/invariant.h"
#include "common/base/mutant.h"
#include "common/cluster/access.h"
#include "common/cluster/cluster_map.h"
#include "node/node_impl.h"

namespace holdfast {
namespace {

constexpr uint32_t kMaxListed = 16384;
// Runs of garbage collection that a node may not have heard of.
constexpr uint64_t kMaxEpochsAhead = 1u << 20;

bool IsCollected(RecordKind kind) {
  return kind == RecordKind::kChunk || kind == RecordKind::kManifestPart;
}

TrashMark MarkOf(const proto::GcRun& run, bool surplus) {
  return {run.generation(), run.run(), run.horizon(), surplus};
}

}  // namespace

Status Node::Impl::CheckRun(const proto::GcRun& run) const {
  const GcState& known = index_->gc();
  // Runs are counted anew from what nodes know when a catalogue is rebuilt; one may have been away.
  const bool newer = run.generation() > known.generation || run.run() >= known.run;
  if (HOLDFAST_MUTANT(old_generation_accepted) ||
      (run.generation() >= std::max(generation_, known.generation) && newer)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      options_.dir, ": run ", run.run(), " of generation ", run.generation(),
      " is older than what the node was told last (run ", known.run, " of generation ",
      std::max(generation_, known.generation), "): garbage collection by another coordinator?"));
}

Status Node::Impl::CheckSession(uint64_t epoch, uint64_t generation, const Caller& caller) const {
  const uint64_t known = std::max(generation_, index_->gc().generation);
  // Whoever may only store things must not lock the coordinator out.
  if (generation > known && !IsServer(caller.roles)) {
    return absl::UnavailableError(
        absl::StrCat(NodeAddress(options_.node_number),
                     " has not been told yet that the catalogue was rebuilt"));
  }
  // A touch that no horizon comes to would stay for good, and raise E after a rebuild.
  if (!IsServer(caller.roles) && epoch > index_->gc().horizon + kMaxEpochsAhead) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no session of epoch ", epoch, " that this node could know of"));
  }
  const bool old = generation != 0 && generation < known;
  if (epoch >= index_->gc().horizon && !old) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("this session, of epoch ", epoch,
                                         ", was aborted before garbage was collected: start the "
                                         "ingest again"));
}

Status Node::Impl::CheckCommits(const Admission& a) const {
  const uint64_t known = std::max({generation_, told_generation_, index_->gc().generation});
  if (a.generation == 0 || a.generation >= known || HOLDFAST_MUTANT(old_generation_commits)) {
    return absl::OkStatus();
  }
  const bool commits = std::any_of(a.headers.begin(), a.headers.end(), [](const auto& header) {
    return header.kind == RecordKind::kCommitRecord;
  });
  if (!commits) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the catalogue was made anew (generation ", known, ") since this coordinator opened it (",
      a.generation, "): another one has taken its place; stop this one"));
}

void Node::Impl::LearnGeneration(uint64_t generation, const OperationPtr& op) {
  const GcState& gc = index_->gc();
  if (generation <= std::max(generation_, gc.generation)) return;
  commits_->AddTrash({generation, gc.run, gc.horizon, false}, {}, op);
}

uint64_t Node::Impl::KnownTouch(const RecordId& id, const std::optional<IndexEntry>& entry) const {
  uint64_t touch = std::max(commits_->FindTouch(id), entry ? entry->touch_epoch : 0);
  if (const auto pending = commits_->FindRecord(id)) touch = std::max(touch, pending->touch_epoch);
  return touch;
}

// Durably before `op` ends, whatever else is on its way.
void Node::Impl::TakeOut(const RecordId& id, const IndexEntry& entry, uint64_t touch,
                         const OperationPtr& op) {
  if (commits_->FindRecord(id)) commits_->WaitForRecord(id, op);
  Touch(id, entry.touch_epoch, touch, op);
}

void Node::Impl::HandleGcBegin(const RpcMessage& request, const ReplyFn& reply) {
  auto head = ParseHead<proto::NodeGcBeginRequest>(request);
  if (!head.ok()) return reply(head.status());
  if (!broken_.ok()) return reply(broken_);
  if (Status status = CheckRun(head->run()); !status.ok()) return reply(status);
  const GcState known = index_->gc();
  proto::NodeGcBeginReply out;
  out.set_generation(std::max(generation_, known.generation));
  out.set_run(known.run);
  out.set_horizon(known.horizon);
  out.set_max_touch(known.max_touch);
  auto op = std::make_shared<Operation>([reply, out](const Status& status) {
    status.ok() ? reply(MakeMessage(rpc::kNodeGcBegin, out)) : reply(status);
  });
  told_generation_ = std::max<uint64_t>(told_generation_, head->run().generation());
  commits_->AddTrash(MarkOf(head->run(), false), {}, op);
  op->Release();
}

void Node::Impl::HandleListRecords(const RpcMessage& request, const ReplyFn& reply) {
  auto head = ParseHead<proto::NodeListRecordsRequest>(request);
  if (!head.ok()) return reply(head.status());
  const uint64_t end = uint64_t{head->group()} + head->groups();
  if (head->groups() == 0 || end > kPlacementGroups) {
    return reply(absl::InvalidArgumentError("there are no such placement groups"));
  }
  const RecordId from =
      head->from().empty() ? FirstIdOf(head->group()) : RecordId::FromBytes(AsBytes(head->from()));
  const RecordId to = end == kPlacementGroups ? RecordId() : FirstIdOf(static_cast<uint32_t>(end));
  const size_t limit = std::clamp<uint32_t>(head->limit(), 1, kMaxListed);
  auto entries = index_->List(from, to, limit);
  if (!entries.ok()) return reply(IndexError(entries.status()));
  proto::NodeListRecordsReply out;
  Buffer lengths, touches;
  Writer length_writer(lengths), touch_writer(touches);
  for (const auto& [id, entry] : *entries) {
    if (!IsCollected(entry.kind)) continue;
    out.mutable_ids()->append(AsView(id.bytes()));
    touch_writer.U64(entry.touch_epoch);
    length_writer.U32(entry.length);
    const int state = (entry.trashed() ? rpc::kRecordTrashed : 0) |
                      (entry.trashed() && entry.surplus ? rpc::kRecordSurplus : 0) |
                      (Present(id, entry) ? 0 : rpc::kRecordBad) |
                      (entry.expired(head->floor_run(), head->free_run()) ? rpc::kRecordDue : 0);
    out.mutable_states()->push_back(static_cast<char>(state));
  }
  out.set_lengths(ToString(lengths));
  out.set_touches(ToString(touches));
  if (entries->size() == limit) {
    out.set_next(ToString(SuccessorOf(entries->back().first).bytes()));
  }
  reply(MakeMessage(rpc::kNodeListRecords, out));
}

void Node::Impl::HearMap(const RpcMessage& request, uint64_t version) {
  if (IsServer(request.caller.roles)) map_version_ = std::max(map_version_, version);
}

// Decided in one go on the Loop, where touches are decided too: what has been touched meanwhile, or
// is being touched, stays.
void Node::Impl::HandleTrash(const RpcMessage& request, const ReplyFn& reply) {
  auto head = ParseHead<proto::NodeTrashRequest>(request);
  if (!head.ok()) return reply(head.status());
  if (!broken_.ok()) return reply(broken_);
  if (Status status = CheckRun(head->run()); !status.ok()) return reply(status);
  auto ids = ParseIds(head->ids());
  auto keep = ParseIds(head->keep());
  if (!ids.ok() || !keep.ok()) return reply(ids.ok() ? keep.status() : ids.status());
  auto entries = index_->Find(*ids);
  auto kept = index_->Find(*keep);
  if (!entries.ok() || !kept.ok()) {
    return reply(IndexError(entries.ok() ? kept.status() : entries.status()));
  }
  HOLDFAST_INVARIANT(G6, head->run().generation() >= index_->gc().generation);
  auto out = std::make_shared<proto::NodeTrashReply>();
  auto op = std::make_shared<Operation>([reply, out](const Status& status) {
    status.ok() ? reply(MakeMessage(rpc::kNodeTrash, *out)) : reply(status);
  });
  const TrashMark mark = MarkOf(head->run(), head->surplus());
  // By a map since then the group may be here again, and what is here have been counted on. Before
  // the node has heard of any it cannot tell.
  const bool old_map = map_version_ == 0 || head->map_version() < map_version_;
  std::vector<RecordId> trashed;
  for (size_t i = 0; i < ids->size(); ++i) {
    const std::optional<IndexEntry>& entry = (*entries)[i];
    if (!entry || !IsCollected(entry->kind) || entry->horizon >= mark.horizon) continue;
    if (mark.surplus && old_map) continue;
    const bool counts = entry->run > head->run().floor_run();
    const bool same = entry->surplus == mark.surplus || !entry->surplus;
    if (entry->trashed() && same && counts) continue;  // Since an earlier run.
    if (KnownTouch((*ids)[i], entry) >= mark.horizon &&
        !HOLDFAST_MUTANT(sweep_without_touch_lock)) {
      continue;
    }
    trashed.push_back((*ids)[i]);
  }
  for (size_t i = 0; i < keep->size(); ++i) {
    const std::optional<IndexEntry>& entry = (*kept)[i];
    if (!entry || !entry->trashed()) continue;
    TakeOut((*keep)[i], *entry, entry->horizon, op);
    out->set_kept(out->kept() + 1);
  }
  if (!trashed.empty()) commits_->AddTrash(mark, trashed, op);
  out->set_trashed(trashed.size());
  op->Release();
}

}  // namespace holdfast
