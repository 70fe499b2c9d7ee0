// What repair asks of a node: digests of its placement groups, the records of one of them, and to
// copy from another node what is not here. A copy is the same record, byte for byte: what its
// writer sealed, with kind, number, domain, writer and the touch that the source has seen (N6).
#include "absl/container/flat_hash_set.h"
#include "common/base/clock.h"
#include "common/base/coding.h"
#include "common/base/mutant.h"
#include "common/cluster/cluster_map.h"
#include "node/node_impl.h"

namespace holdfast {
namespace {

constexpr uint32_t kMaxListed = 16384;
constexpr size_t kMaxPulled = 4096;
constexpr int64_t kFetchTimeoutNanos = 30LL * 1'000'000'000;
// A client that was served this long ago is still there.
constexpr int64_t kClientNanos = 2LL * 1'000'000'000;

}  // namespace

void Node::Impl::CountDigests() {
  env_.loop.Post([self = shared_from_this()] {
    if (self->stopped_ || self->closed_) return;
    // An index that cannot be read says so to whoever asks for it next.
    if (!self->digests_.CountSome(*self->index_).ok() || self->digests_.ready()) return;
    self->CountDigests();
  });
}

void Node::Impl::HandleDigests(const RpcMessage& request, const ReplyFn& reply) {
  auto head = ParseHead<proto::NodeDigestsRequest>(request);
  if (!head.ok()) return reply(head.status());
  HearMap(request, head->map_version());
  proto::NodeDigestsReply out;
  out.set_ready(digests_.ready());
  if (digests_.ready()) {
    out.set_version(digests_.version());
    if (head->version() != out.version()) out.set_digests(EncodeGroupDigests(digests_.all()));
  }
  reply(MakeMessage(rpc::kNodeDigests, out));
}

void Node::Impl::HandleListGroup(const RpcMessage& request, const ReplyFn& reply) {
  auto head = ParseHead<proto::NodeListGroupRequest>(request);
  if (!head.ok()) return reply(head.status());
  if (head->group() >= kPlacementGroups) {
    return reply(absl::InvalidArgumentError("there is no such placement group"));
  }
  HearMap(request, head->map_version());
  const RecordId from =
      head->from().empty() ? FirstIdOf(head->group()) : RecordId::FromBytes(AsBytes(head->from()));
  const RecordId to =
      head->group() + 1 == kPlacementGroups ? RecordId() : FirstIdOf(head->group() + 1);
  const size_t limit = std::clamp<uint32_t>(head->limit(), 1, kMaxListed);
  auto entries = index_->List(from, to, limit);
  if (!entries.ok()) return reply(IndexError(entries.status()));
  proto::NodeListGroupReply out;
  Buffer lengths, touches;
  Writer writer(lengths), touch_writer(touches);
  for (const auto& [id, entry] : *entries) {
    if (!Present(id, entry) || entry.trashed()) continue;
    out.mutable_ids()->append(AsView(id.bytes()));
    out.mutable_checksums()->append(AsView(entry.checksum.bytes()));
    writer.U32(entry.length);
    touch_writer.U64(entry.touch_epoch);
  }
  out.set_lengths(ToString(lengths));
  out.set_touches(ToString(touches));
  if (entries->size() == limit) {
    out.set_next(ToString(SuccessorOf(entries->back().first).bytes()));
  }
  reply(MakeMessage(rpc::kNodeListGroup, out));
}

// One request to copy.
struct Node::Impl::Pull {
  uint32_t source = 0;
  std::vector<RecordId> ids;      // As asked for.
  std::vector<RecordId> fetched;  // Those that were not here.
  std::vector<size_t> answer_of;  // Of each fetched one.
  std::vector<proto::RecordAnswer> answers;
  uint64_t copied_bytes = 0;
  ReplyFn reply;

  void Reply(const Status& status) const {
    if (!status.ok()) return reply(status);
    proto::NodePullReply out;
    for (const proto::RecordAnswer& answer : answers) *out.add_answers() = answer;
    out.set_copied_bytes(copied_bytes);
    reply(MakeMessage(rpc::kNodePull, out));
  }
};

void Node::Impl::HandlePull(const RpcMessage& request, ReplyFn reply) {
  auto head = ParseHead<proto::NodePullRequest>(request);
  if (!head.ok()) return reply(head.status());
  auto ids = ParseIds(head->ids());
  if (!ids.ok()) return reply(ids.status());
  if (env_.transport == nullptr || ids->size() > kMaxPulled ||
      head->source() == options_.node_number) {
    return reply(absl::InvalidArgumentError("there is nothing to copy from, or too much at once"));
  }
  auto entries = index_->Find(*ids);
  if (!entries.ok()) return reply(IndexError(entries.status()));
  auto pull = std::make_shared<Pull>();
  pull->source = head->source();
  pull->ids = *std::move(ids);
  pull->answers.resize(pull->ids.size());
  pull->reply = std::move(reply);
  if (!head->touches().empty() && head->touches().size() != 8 * pull->ids.size()) {
    return pull->Reply(absl::InvalidArgumentError("the touches do not fit the ids"));
  }
  Reader touches(AsBytes(head->touches()));
  // Touches that take out of the trash are durable before the reply.
  auto op = std::make_shared<Operation>([self = shared_from_this(), pull](const Status& status) {
    if (!status.ok() || pull->fetched.empty()) return pull->Reply(status);
    self->FetchLater(pull);
  });
  for (size_t i = 0; i < pull->ids.size(); ++i) {
    const std::optional<IndexEntry>& entry = (*entries)[i];
    const uint64_t touch = head->touches().empty() ? 0 : touches.U64();
    if (Present(pull->ids[i], entry)) {
      const uint64_t known = KnownTouch(pull->ids[i], entry);
      // A surplus copy is one again that is wanted here.
      const uint64_t wanted = entry->surplus ? std::max(touch, entry->horizon) : touch;
      if (entry->trashed()) TakeOut(pull->ids[i], *entry, wanted, op);
      const bool out = std::max(known, wanted) >= entry->horizon;
      pull->answers[i].set_status(out ? proto::PRESENT : proto::TRASHED);
      pull->answers[i].set_stored_length(entry->length);
      pull->answers[i].set_checksum(ToString(entry->checksum.bytes()));
      continue;
    }
    pull->answers[i].set_status(proto::MISSING);
    pull->answer_of.push_back(i);
    pull->fetched.push_back(pull->ids[i]);
  }
  op->Release();
}

void Node::Impl::FetchLater(const std::shared_ptr<Pull>& pull) {
  const int64_t delay = CopyDelay();
  if (delay <= 0) return Fetch(pull);
  env_.loop.PostAfter(delay, [self = shared_from_this(), pull] {
    if (!self->stopped_) self->Fetch(pull);
  });
}

bool Node::Impl::ServesClients() const {
  return env_.clock.MonotonicNanos() - client_nanos_ <= kClientNanos;
}

int64_t Node::Impl::CopyDelay() const {
  return ServesClients() ? copy_free_nanos_ - env_.clock.MonotonicNanos() : 0;
}

void Node::Impl::Fetch(const std::shared_ptr<Pull>& pull) {
  proto::NodeGetRequest request;
  request.set_with_origin(true);
  for (const RecordId& id : pull->fetched) request.mutable_ids()->append(AsView(id.bytes()));
  env_.transport->Call(NodeAddress(pull->source), MakeMessage(rpc::kNodeGet, request),
                       kFetchTimeoutNanos,
                       [self = shared_from_this(), pull](StatusOr<RpcMessage> reply) {
                         auto shared = std::make_shared<StatusOr<RpcMessage>>(std::move(reply));
                         if (self->stopped_) return;
                         self->env_.loop.Post([self, pull, shared] {
                           if (!self->stopped_) self->Admit(pull, *shared);
                         });
                       });
}

void Node::Impl::Admission::AddCopy(const RecordId& id, const proto::RecordAnswer& from,
                                    const SharedBytes& frame, uint64_t horizon, bool replaces) {
  RecordHeader header;
  header.kind = static_cast<RecordKind>(from.kind());
  header.number = from.number();
  header.domain = DomainId::FromBytes(AsBytes(from.domain()));
  header.writer = WriterId::FromBytes(AsBytes(from.writer()));
  header.id = id;
  header.checksum = Checksum::FromBytes(AsBytes(from.checksum()));
  frames.push_back(frame);
  answers.emplace_back();
  // Not below what this node's own marks of earlier times may say of it.
  const uint64_t touch = std::max<uint64_t>(from.touch_epoch(), horizon);
  AddPut(header, HOLDFAST_MUTANT(copy_without_touch) ? 0 : touch, replaces);
}

// What a reply brought.
struct Node::Impl::Copies {
  // What was replaced over there is written here first, and so set aside here, too.
  std::shared_ptr<Admission> before = std::make_shared<Admission>();
  std::shared_ptr<Admission> own = std::make_shared<Admission>();
  std::vector<size_t> places;  // Of own's, in the pull's answers.
};

Node::Impl::Copies Node::Impl::TakeCopies(Pull& pull, const proto::NodeGetReply& head,
                                          const std::vector<SharedBytes>& frames) const {
  Copies copies;
  absl::flat_hash_set<RecordId> replaced;
  const auto add = [&](Admission& to, const RecordId& id, size_t i, bool replaces) {
    pull.copied_bytes += frames[i].view.size();
    to.AddCopy(id, head.answers(static_cast<int>(i)), frames[i], index_->gc().horizon, replaces);
  };
  const size_t n = pull.fetched.size();
  for (size_t i = n; i < frames.size(); ++i) {
    const proto::RecordAnswer& from = head.answers(static_cast<int>(i));
    const RecordId id = RecordId::FromBytes(AsBytes(from.replaced_id()));
    if (from.status() != proto::PRESENT ||
        std::find(pull.fetched.begin(), pull.fetched.end(), id) == pull.fetched.end()) {
      continue;
    }
    replaced.insert(id);
    add(*copies.before, id, i, /*replaces=*/true);
  }
  for (size_t i = 0; i < n; ++i) {
    const auto status = head.answers(static_cast<int>(i)).status();
    pull.answers[pull.answer_of[i]].set_status(status);
    if (status != proto::PRESENT) continue;
    add(*copies.own, pull.fetched[i], i, replaced.contains(pull.fetched[i]));
    copies.places.push_back(pull.answer_of[i]);
  }
  return copies;
}

void Node::Impl::Admit(const std::shared_ptr<Pull>& pull, const StatusOr<RpcMessage>& reply) {
  if (!reply.ok()) return pull->Reply(reply.status());
  auto head = ParseHead<proto::NodeGetReply>(*reply);
  if (!head.ok()) return pull->Reply(head.status());
  const auto answers = static_cast<size_t>(head->answers_size());
  if (answers < pull->fetched.size() || reply->frames.size() != answers) {
    return pull->Reply(absl::UnavailableError("a reply that does not fit the request"));
  }
  Copies copies = TakeCopies(*pull, *head, reply->frames);
  const int64_t now = env_.clock.MonotonicNanos();
  copy_free_nanos_ = std::max(copy_free_nanos_, now) +
                     static_cast<int64_t>(static_cast<double>(pull->copied_bytes) * kSecond /
                                          static_cast<double>(options_.copy_bytes_per_second));
  if (copies.places.empty()) return pull->Reply(absl::OkStatus());
  const std::shared_ptr<Admission> own = copies.own, before = copies.before;
  own->done = [pull, places = std::move(copies.places)](const Status& status,
                                                        const Admission& admission) {
    if (!status.ok()) return pull->Reply(status);
    for (size_t i = 0; i < places.size(); ++i) pull->answers[places[i]] = admission.answers[i];
    pull->Reply(absl::OkStatus());
  };
  if (before->ids.empty()) return Admit(own);
  before->done = [self = shared_from_this(), own](const Status& status, const Admission&) {
    if (!status.ok()) return own->done(status, *own);
    self->Admit(own);
  };
  Admit(before);
}

}  // namespace holdfast
