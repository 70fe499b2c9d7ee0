// Pin and put: what is here is touched and answered, what is not is answered missing or appended.
//
// A copy from another node (node_repair.cc) is a put whose records say for themselves what they
// are. All look up all ids first; records that nobody has read within the scrub target are read on
// io before they count as present. Then everything is decided in one go on the Loop, so that no
// other request comes in between, and the answer waits for the batches it depends on (N1).
//
// A principal with a key to the domain could have put anything under the id of content that it
// knows. So who has not stored a chunk itself proves it once: its pin is answered PROVE, its put is
// compared with what is here, byte by byte, and a difference is said (docs/formats/protocol.md).
#include "absl/strings/str_cat.h"
#include "common/base/invariant.h"
#include "common/base/mutant.h"
#include "common/cluster/access.h"
#include "common/cluster/cluster_map.h"
#include "common/crypto/domain_keys.h"
#include "node/log.h"
#include "node/node_impl.h"

namespace holdfast {
namespace {

// Index rows that may wait in memory while the index's disk refuses them.
constexpr size_t kMaxIndexBacklog = 1'000'000;
// Times that one request looks again, because what it was compared with has changed meanwhile.
constexpr int kMaxRounds = 8;

bool IsPutKind(RecordKind kind) {
  return kind == RecordKind::kChunk || kind == RecordKind::kManifestPart ||
         kind == RecordKind::kCommitRecord;
}

// A principal is known by the start of its key. Servers, and callers in this process, say
// themselves for whom they write.
std::optional<WriterId> ProverOf(const Caller& caller) {
  if (IsServer(caller.roles)) return std::nullopt;
  return WriterId::FromBytes(caller.key.bytes().first(WriterId::kSize));
}

void SetPresent(proto::RecordAnswer& answer, uint32_t length, const Checksum& checksum,
                uint64_t touch_epoch) {
  answer.set_status(proto::PRESENT);
  answer.set_stored_length(length);
  answer.set_checksum(ToString(checksum.bytes()));
  answer.set_touch_epoch(touch_epoch);
}

}  // namespace

template <class Reply>
std::function<void(const Status&, const Node::Impl::Admission&)> Node::Impl::AnswerWith(
    uint16_t method, ReplyFn reply) {
  return [self = shared_from_this(), method, reply = std::move(reply)](const Status& status,
                                                                       const Admission& a) {
    if (!status.ok()) return reply(status);
    HOLDFAST_INVARIANT(G1, self->KeepsWhatItSays(a));
    Reply out;
    for (const proto::RecordAnswer& answer : a.answers) *out.add_answers() = answer;
    out.set_incarnation(ToString(self->incarnation_.bytes()));
    out.set_lsn(self->Lsn());
    reply(MakeMessage(method, out));
  };
}

// G1.
bool Node::Impl::KeepsWhatItSays(const Admission& a) {
  const auto entries = index_->Find(a.ids);
  for (size_t i = 0; i < a.ids.size() && entries.ok(); ++i) {
    if (a.answers[i].status() != proto::PRESENT) continue;
    const std::optional<IndexEntry>& entry = (*entries)[i];
    // A session that is older is not OPEN any more.
    const bool open = a.touches[i] >= index_->gc().horizon;
    if (!entry || entry->touch_epoch < a.touches[i] || (open && entry->trashed())) return false;
  }
  return true;
}

void Node::Impl::HandlePin(const RpcMessage& request, ReplyFn reply) {
  auto head = ParseHead<proto::NodePinRequest>(request);
  if (!head.ok()) return reply(head.status());
  auto ids = ParseIds(head->ids());
  if (!ids.ok()) return reply(ids.status());
  if (Status status = CheckSession(head->session_epoch(), head->generation(), request.caller);
      !status.ok()) {
    return reply(status);
  }
  client_nanos_ = env_.clock.MonotonicNanos();
  auto a = std::make_shared<Admission>();
  a->ids = *std::move(ids);
  a->touches.assign(a->ids.size(), head->session_epoch());
  a->answers.resize(a->ids.size());
  a->generation = head->generation();
  a->prover = ProverOf(request.caller);
  a->done = AnswerWith<proto::NodePinReply>(rpc::kNodePin, std::move(reply));
  Admit(a);
}

void Node::Impl::HandlePut(RpcMessage request, ReplyFn reply) {
  auto head = ParseHead<proto::NodePutRequest>(request);
  if (!head.ok()) return reply(head.status());
  const size_t n = head->entries_size();
  if (request.frames.size() != n || head->domain().size() != DomainId::kSize ||
      head->writer().size() != WriterId::kSize) {
    return reply(absl::InvalidArgumentError("a put's frames, domain or writer do not fit"));
  }
  client_nanos_ = env_.clock.MonotonicNanos();
  auto a = std::make_shared<Admission>();
  a->frames = std::move(request.frames);
  a->answers.resize(n);
  a->generation = head->generation();
  a->prover = ProverOf(request.caller);
  for (size_t i = 0; i < n; ++i) {
    const proto::PutEntry& entry = head->entries(static_cast<int>(i));
    RecordHeader header;
    header.kind = static_cast<RecordKind>(entry.kind());
    if (a->prover && header.kind != RecordKind::kChunk) {
      return reply(absl::PermissionDeniedError("only the coordinator stores what is no chunk"));
    }
    if (header.kind != RecordKind::kCommitRecord) {
      const Status fits = CheckSession(head->session_epoch(), head->generation(), request.caller);
      if (!fits.ok()) return reply(fits);
    }
    header.number = entry.number();
    header.domain = DomainId::FromBytes(AsBytes(head->domain()));
    header.writer = a->prover.value_or(WriterId::FromBytes(AsBytes(head->writer())));
    header.id = RecordId::FromBytes(AsBytes(entry.id()));
    header.checksum = Checksum::FromBytes(AsBytes(entry.checksum()));
    a->AddPut(header, head->session_epoch(), entry.replace());
  }
  a->done = AnswerWith<proto::NodePutReply>(rpc::kNodePut, std::move(reply));
  Admit(a);
}

void Node::Impl::Admission::AddPut(RecordHeader header, uint64_t touch_epoch, bool replaces) {
  const size_t i = headers.size();
  const Bytes frame = frames[i].view;
  header.length = static_cast<uint32_t>(frame.size());
  if (header.kind != RecordKind::kCommitRecord) header.number = 0;
  ids.push_back(header.id);
  touches.push_back(touch_epoch);
  replace.push_back(replaces);
  headers.push_back(header);
  // Bytes that changed on their way here must not be stored under a good name.
  const bool good = IsPutKind(header.kind) && frame.size() <= kMaxPayload && !header.id.is_zero() &&
                    ChecksumOf(frame) == header.checksum;
  if (!good) answers[i].set_status(proto::REFUSED);
}

void Node::Impl::Admit(const std::shared_ptr<Admission>& a) {
  if (closed_) return a->done(absl::UnavailableError(options_.dir + ": the node is closed"), *a);
  if (!broken_.ok()) return a->done(broken_, *a);
  if (Status status = CheckGroups(*a); !status.ok()) return a->done(status, *a);
  if (++a->rounds > kMaxRounds) {
    return a->done(absl::UnavailableError(options_.dir + ": others write the same; try again"), *a);
  }
  if (WaitsForOthers(a)) return;
  auto entries = index_->Find(a->ids);
  if (!entries.ok()) return a->done(IndexError(entries.status()), *a);
  auto doubted = Doubted(*a, *entries);
  if (!doubted.ok()) return a->done(IndexError(doubted.status()), *a);
  a->doubted = *std::move(doubted);
  auto reads = std::make_shared<std::vector<RecordRead>>();   // Of what is stale …
  auto proofs = std::make_shared<std::vector<RecordRead>>();  // … and of what is to be compared.
  auto put = std::make_shared<std::vector<Bytes>>();          // With these.
  for (size_t i = 0; i < a->ids.size(); ++i) {
    const std::optional<IndexEntry>& entry = (*entries)[i];
    if (a->refused(i) || !Present(a->ids[i], entry)) continue;
    if (a->Find(a->ids[i], *entry) != nullptr) continue;
    // One of another length differs anyway.
    if (a->doubted[i] && a->is_put_of(i) && entry->length == a->frames[i].view.size()) {
      proofs->push_back({a->ids[i], *entry});
      put->push_back(a->frames[i].view);
    } else if (Stale(*entry)) {
      reads->push_back({a->ids[i], *entry});
    }
  }
  if (reads->empty() && proofs->empty()) return Decide(a, *entries);
  auto same = std::make_shared<std::vector<bool>>(proofs->size());
  RunOnIo(
      [this, reads, proofs, put, same] {
        ReadRecords(env_.fs, options_.dir, *reads, false);
        ReadRecords(env_.fs, options_.dir, *proofs, true);
        for (size_t i = 0; i < proofs->size(); ++i) {
          (*same)[i] = std::ranges::equal((*proofs)[i].payload.view, (*put)[i]);
        }
      },
      [this, a, reads, proofs, same] {
        for (const RecordRead& read : *reads) a->checked[read.id] = {read.entry.at, read.result};
        for (size_t i = 0; i < proofs->size(); ++i) {
          const RecordRead& read = (*proofs)[i];
          a->checked[read.id] = {read.entry.at, read.result, (*same)[i]};
        }
        Admit(a);
      });
}

// Were it taken, it would lie ready for the day on which the group moves here.
Status Node::Impl::CheckGroups(const Admission& a) const {
  if (!a.prover || groups_.empty()) return absl::OkStatus();
  for (const RecordId& id : a.ids) {
    if (groups_[PlacementGroupOf(id)]) continue;
    return absl::UnavailableError(absl::StrCat("stale map: ", NodeAddress(options_.node_number),
                                               " does not hold what is brought here"));
  }
  return absl::OkStatus();
}

StatusOr<std::vector<bool>> Node::Impl::Doubted(
    const Admission& a, const std::vector<std::optional<IndexEntry>>& entries) {
  std::vector<bool> doubted(a.ids.size());
  std::vector<RecordId> ids;
  std::vector<size_t> places;
  for (size_t i = 0; i < a.ids.size(); ++i) {
    if (!entries[i] || !a.of_others(entries[i]->kind, entries[i]->writer)) continue;
    ids.push_back(a.ids[i]);
    places.push_back(i);
  }
  if (ids.empty()) return doubted;
  ASSIGN_OR_RETURN(const auto proofs, index_->Proofs(ids, *a.prover));
  for (size_t k = 0; k < ids.size(); ++k) {
    doubted[places[k]] = !proofs[k] || *proofs[k] != entries[places[k]]->at;
  }
  return doubted;
}

bool Node::Impl::WaitsForOthers(const std::shared_ptr<Admission>& a) {
  std::vector<RecordId> waited;
  for (size_t i = 0; i < a->ids.size() && a->prover; ++i) {
    const auto pending = commits_->FindRecord(a->ids[i]);
    if (pending && !a->refused(i) && a->is_put_of(i) &&
        a->of_others(pending->kind, pending->writer)) {
      waited.push_back(a->ids[i]);
    }
  }
  if (waited.empty()) return false;
  auto op = std::make_shared<Operation>([self = shared_from_this(), a](const Status& status) {
    if (!status.ok()) return a->done(status, *a);
    self->Admit(a);
  });
  for (const RecordId& id : waited) commits_->WaitForRecord(id, op);
  op->Release();
  return true;
}

// Present, and not found bad or unreadable just now.
bool Node::Impl::PresentFor(const Admission& a, size_t i,
                            const std::optional<IndexEntry>& entry) const {
  if (!Present(a.ids[i], entry) || GivesWay(a, i, entry->kind)) return false;
  const Admission::Checked* checked = a.Find(a.ids[i], *entry);
  return checked == nullptr || checked->result == RecordRead::Result::kGood;
}

Status Node::Impl::CheckSpace(const Admission& a,
                              const std::vector<std::optional<IndexEntry>>& entries) {
  bool appends = false;
  uint64_t chunk_bytes = 0;
  for (size_t i = 0; i < a.ids.size() && a.is_put(); ++i) {
    if (a.refused(i) || (!a.replace[i] && PresentFor(a, i, entries[i]))) continue;
    appends = true;
    if (a.headers[i].kind == RecordKind::kChunk) chunk_bytes += a.headers[i].length;
  }
  if (!appends) return absl::OkStatus();
  if (index_->backlog() > kMaxIndexBacklog) {
    return absl::UnavailableError(options_.dir + ": the node's index cannot be written");
  }
  // The room above the limit is for the records that make chunks of use: commits and parts.
  if (chunk_bytes == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(SpaceInfo space, env_.fs.Space(options_.dir));
  SpaceInfo after = space;
  after.free_bytes -= std::min(after.free_bytes, commits_->queued_bytes() + chunk_bytes);
  if (!AboveLimit(after, options_.read_only_fraction)) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      options_.dir, ": the disk is full (", space.free_bytes, " of ", space.total_bytes,
      " bytes free, and some is kept back); make room or add a disk"));
}

void Node::Impl::Decide(const std::shared_ptr<Admission>& a,
                        const std::vector<std::optional<IndexEntry>>& entries) {
  if (Status status = CheckCommits(*a); !status.ok()) return a->done(status, *a);
  if (Status status = CheckSpace(*a, entries); !status.ok()) return a->done(status, *a);
  auto op = std::make_shared<Operation>([a](const Status& status) { a->done(status, *a); });
  if (!a->prover) LearnGeneration(a->generation, op);
  for (size_t i = 0; i < a->ids.size(); ++i) {
    if (!a->refused(i)) DecideOne(*a, i, entries[i], op);
  }
  if (!a->proofs.empty() && index_->backlog() == 0) {
    IndexDelta delta(*index_);
    for (const auto& [id, at] : a->proofs) delta.AddProof(id, *a->prover, at);
    (void)index_->Apply(std::move(delta));  // Lost, they are asked for again.
  }
  a->frames.clear();
  op->Release();
}

bool Node::Impl::KeepsOut(const Admission& a, RecordKind kind) {
  return a.prover && a.is_put() && kind != RecordKind::kChunk;
}

bool Node::Impl::GivesWay(const Admission& a, size_t i, RecordKind kind) {
  return a.is_put() && kind == RecordKind::kChunk && a.headers[i].kind != RecordKind::kChunk;
}

void Node::Impl::DecideOne(Admission& a, size_t i, const std::optional<IndexEntry>& entry,
                           const OperationPtr& op) {
  const RecordId& id = a.ids[i];
  proto::RecordAnswer& answer = a.answers[i];
  const bool replace = a.is_put() && a.replace[i];
  const uint64_t epoch = a.touches[i];
  const uint64_t indexed_touch = entry ? entry->touch_epoch : 0;
  const std::optional<GroupCommit::PendingRecord> pending = commits_->FindRecord(id);
  if (pending && KeepsOut(a, pending->kind)) return answer.set_status(proto::REFUSED);
  if (entry && KeepsOut(a, entry->kind)) return answer.set_status(proto::REFUSED);
  if (pending && !replace && !GivesWay(a, i, pending->kind)) {
    if (a.of_others(pending->kind, pending->writer)) return answer.set_status(proto::PROVE);
    commits_->WaitForRecord(id, op);
    const uint64_t known = std::max(pending->touch_epoch, indexed_touch);
    Touch(id, known, epoch, op);
    return SetPresent(answer, pending->length, pending->checksum, std::max(known, epoch));
  }
  if (!replace && PresentFor(a, i, entry)) {
    if (a.doubted[i] && !a.is_put()) return answer.set_status(proto::PROVE);
    if (a.doubted[i]) Compare(a, i, *entry);
    if (!(HOLDFAST_MUTANT(present_for_trashed) && entry->trashed())) {
      Touch(id, indexed_touch, epoch, op);
    }
    return SetPresent(answer, entry->length, entry->checksum, std::max(indexed_touch, epoch));
  }
  if (entry) {
    const Admission::Checked* checked = a.Find(id, *entry);
    if (checked != nullptr && checked->result == RecordRead::Result::kBad) {
      QuarantineBad(id, entry->at, op);
    }
  }
  if (!a.is_put()) return answer.set_status(proto::MISSING);
  // N6: the new record carries on what the old one was touched with.
  a.headers[i].touch_epoch = std::max(epoch, KnownTouch(id, entry));
  commits_->AddRecord(a.headers[i], a.frames[i].view, op);
  SetPresent(answer, a.headers[i].length, a.headers[i].checksum, a.headers[i].touch_epoch);
}

// Notes a proof, or says that there is none.
void Node::Impl::Compare(Admission& a, size_t i, const IndexEntry& entry) {
  const Admission::Checked* checked = a.Find(a.ids[i], entry);
  if (checked == nullptr || !checked->same) return a.answers[i].set_differs(true);
  a.proofs.emplace_back(a.ids[i], entry.at);
}

// Makes `epoch` the id's touch; at most one touch record per id and epoch.
void Node::Impl::Touch(const RecordId& id, uint64_t known, uint64_t epoch, const OperationPtr& op) {
  if (epoch <= known) return;
  if (HOLDFAST_MUTANT(touch_not_durable)) {  // It is on its way, and nobody waits for it.
    const auto nobody = std::make_shared<Operation>([](const Status&) {});
    if (epoch > commits_->FindTouch(id)) commits_->AddTouch(id, epoch, nobody);
    return nobody->Release();
  }
  if (epoch <= commits_->FindTouch(id)) return commits_->WaitForTouch(id, op);
  commits_->AddTouch(id, epoch, op);
}

}  // namespace holdfast
