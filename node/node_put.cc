// Pin and put: what is here is touched and answered, what is not is answered missing or appended.
//
// Both look up all ids first; records that nobody has read within the scrub target are read on io
// before they count as present. Then everything is decided in one go on the Loop, so that no other
// request comes in between, and the answer waits for the batches it depends on (N1).
#include "absl/strings/str_cat.h"
#include "common/crypto/domain_keys.h"
#include "node/node_impl.h"

namespace holdfast {
namespace {

// Index rows that may wait in memory while the index's disk refuses them.
constexpr size_t kMaxIndexBacklog = 1'000'000;

bool IsPutKind(uint32_t kind) {
  return kind == static_cast<uint32_t>(RecordKind::kChunk) ||
         kind == static_cast<uint32_t>(RecordKind::kManifestPart) ||
         kind == static_cast<uint32_t>(RecordKind::kCommitRecord);
}

bool EntryIsGood(const proto::PutEntry& entry, Bytes frame) {
  return IsPutKind(entry.kind()) && frame.size() <= kMaxPayload &&
         !RecordId::FromBytes(AsBytes(entry.id())).is_zero() &&
         AsView(ChecksumOf(frame).bytes()) == entry.checksum();
}

void SetPresent(proto::RecordAnswer& answer, uint32_t length, const Checksum& checksum,
                uint64_t touch_epoch) {
  answer.set_status(proto::PRESENT);
  answer.set_stored_length(length);
  answer.set_checksum(ToString(checksum.bytes()));
  answer.set_touch_epoch(touch_epoch);
}

}  // namespace

struct Node::Impl::Admission {
  uint16_t method = 0;
  uint64_t epoch = 0;
  std::vector<RecordId> ids;
  proto::NodePutRequest put;  // Of a put.
  std::vector<SharedBytes> frames;
  ReplyFn reply;
  std::vector<proto::RecordAnswer> answers;
  // What reading told about records that were stale, by id.
  struct Checked {
    Location at;
    RecordRead::Result result;
  };
  absl::flat_hash_map<RecordId, Checked> checked;

  bool is_put() const { return method == rpc::kNodePut; }
  bool refused(size_t i) const { return answers[i].status() == proto::REFUSED; }
  const Checked* Find(const RecordId& id, const IndexEntry& entry) const {
    auto it = checked.find(id);
    return it != checked.end() && it->second.at == entry.at ? &it->second : nullptr;
  }
};

bool AboveLimit(const SpaceInfo& space, double limit) {
  const double used = static_cast<double>(space.total_bytes) - space.free_bytes;
  return used > limit * static_cast<double>(space.total_bytes);
}

void Node::Impl::HandlePin(const RpcMessage& request, ReplyFn reply) {
  auto head = ParseHead<proto::NodePinRequest>(request);
  if (!head.ok()) return reply(head.status());
  auto ids = ParseIds(head->ids());
  if (!ids.ok()) return reply(ids.status());
  auto a = std::make_shared<Admission>();
  a->method = rpc::kNodePin;
  a->epoch = head->session_epoch();
  a->ids = *std::move(ids);
  a->reply = std::move(reply);
  a->answers.resize(a->ids.size());
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
  auto a = std::make_shared<Admission>();
  a->method = rpc::kNodePut;
  a->epoch = head->session_epoch();
  a->put = *std::move(head);
  a->frames = std::move(request.frames);
  a->reply = std::move(reply);
  a->answers.resize(n);
  for (size_t i = 0; i < n; ++i) {
    const proto::PutEntry& entry = a->put.entries(static_cast<int>(i));
    a->ids.push_back(RecordId::FromBytes(AsBytes(entry.id())));
    // Bytes that changed on their way here must not be stored under a good name.
    if (!EntryIsGood(entry, a->frames[i].view)) a->answers[i].set_status(proto::REFUSED);
  }
  Admit(a);
}

void Node::Impl::Admit(const std::shared_ptr<Admission>& a) {
  if (closed_) return a->reply(absl::UnavailableError(options_.dir + ": the node is closed"));
  if (!broken_.ok()) return a->reply(broken_);
  auto entries = index_->Find(a->ids);
  if (!entries.ok()) return a->reply(IndexError(entries.status()));
  auto reads = std::make_shared<std::vector<RecordRead>>();
  for (size_t i = 0; i < a->ids.size(); ++i) {
    const std::optional<IndexEntry>& entry = (*entries)[i];
    if (a->refused(i) || !Present(a->ids[i], entry) || !Stale(*entry)) continue;
    if (a->Find(a->ids[i], *entry) == nullptr) reads->push_back({a->ids[i], *entry});
  }
  if (reads->empty()) return Decide(a, *entries);
  RunOnIo([this, reads] { ReadRecords(env_.fs, options_.dir, *reads, false); },
          [this, a, reads] {
            for (const RecordRead& read : *reads) {
              a->checked[read.id] = {read.entry.at, read.result};
            }
            Admit(a);
          });
}

// Present, and not found bad or unreadable just now.
bool Node::Impl::PresentFor(const Admission& a, size_t i,
                            const std::optional<IndexEntry>& entry) const {
  if (!Present(a.ids[i], entry)) return false;
  const Admission::Checked* checked = a.Find(a.ids[i], *entry);
  return checked == nullptr || checked->result == RecordRead::Result::kGood;
}

Status Node::Impl::CheckSpace(const Admission& a,
                              const std::vector<std::optional<IndexEntry>>& entries) {
  bool appends = false;
  uint64_t chunk_bytes = 0;
  for (size_t i = 0; i < a.ids.size() && a.is_put(); ++i) {
    const proto::PutEntry& entry = a.put.entries(static_cast<int>(i));
    if (a.refused(i) || (!entry.replace() && PresentFor(a, i, entries[i]))) continue;
    appends = true;
    if (static_cast<RecordKind>(entry.kind()) == RecordKind::kChunk) {
      chunk_bytes += a.frames[i].view.size();
    }
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
  if (Status status = CheckSpace(*a, entries); !status.ok()) return a->reply(status);
  auto op = std::make_shared<Operation>([self = shared_from_this(), a](const Status& status) {
    if (!status.ok()) return a->reply(status);
    self->ReplyTo(*a);
  });
  for (size_t i = 0; i < a->ids.size(); ++i) {
    if (!a->refused(i)) DecideOne(*a, i, entries[i], op);
  }
  a->frames.clear();
  op->Release();
}

void Node::Impl::DecideOne(Admission& a, size_t i, const std::optional<IndexEntry>& entry,
                           const OperationPtr& op) {
  const RecordId& id = a.ids[i];
  proto::RecordAnswer& answer = a.answers[i];
  const bool replace = a.is_put() && a.put.entries(static_cast<int>(i)).replace();
  const uint64_t indexed_touch = entry ? entry->touch_epoch : 0;
  const std::optional<GroupCommit::PendingRecord> pending = commits_->FindRecord(id);
  if (pending && !replace) {
    commits_->WaitForRecord(id, op);
    const uint64_t known = std::max(pending->touch_epoch, indexed_touch);
    Touch(id, known, a.epoch, op);
    return SetPresent(answer, pending->length, pending->checksum, std::max(known, a.epoch));
  }
  if (!replace && PresentFor(a, i, entry)) {
    Touch(id, indexed_touch, a.epoch, op);
    return SetPresent(answer, entry->length, entry->checksum, std::max(indexed_touch, a.epoch));
  }
  if (entry) {
    const Admission::Checked* checked = a.Find(id, *entry);
    if (checked != nullptr && checked->result == RecordRead::Result::kBad) {
      QuarantineBad(id, entry->at, op);
    }
  }
  if (!a.is_put()) return answer.set_status(proto::MISSING);
  // N6: the new record carries on what the old one was touched with.
  const uint64_t pending_touch = pending ? pending->touch_epoch : 0;
  Append(a, i, std::max({a.epoch, indexed_touch, pending_touch}), op);
}

void Node::Impl::Append(Admission& a, size_t i, uint64_t touch_epoch, const OperationPtr& op) {
  const proto::PutEntry& entry = a.put.entries(static_cast<int>(i));
  const Bytes payload = a.frames[i].view;
  RecordHeader header;
  header.kind = static_cast<RecordKind>(entry.kind());
  header.length = static_cast<uint32_t>(payload.size());
  header.touch_epoch = touch_epoch;
  header.number = header.kind == RecordKind::kCommitRecord ? entry.number() : 0;
  header.domain = DomainId::FromBytes(AsBytes(a.put.domain()));
  header.writer = WriterId::FromBytes(AsBytes(a.put.writer()));
  header.id = a.ids[i];
  header.checksum = Checksum::FromBytes(AsBytes(entry.checksum()));
  commits_->AddRecord(header, payload, op);
  SetPresent(a.answers[i], header.length, header.checksum, touch_epoch);
}

// Makes `epoch` the id's touch; at most one touch record per id and epoch.
void Node::Impl::Touch(const RecordId& id, uint64_t known, uint64_t epoch, const OperationPtr& op) {
  if (epoch <= known) return;
  if (epoch <= commits_->FindTouch(id)) return commits_->WaitForTouch(id, op);
  commits_->AddTouch(id, epoch, op);
}

void Node::Impl::ReplyTo(const Admission& a) {
  auto fill = [&](auto out) {
    for (const proto::RecordAnswer& answer : a.answers) *out.add_answers() = answer;
    out.set_incarnation(ToString(incarnation_.bytes()));
    out.set_lsn(Lsn());
    a.reply(MakeMessage(a.method, out));
  };
  if (a.is_put()) {
    fill(proto::NodePutReply());
  } else {
    fill(proto::NodePinReply());
  }
}

}  // namespace holdfast
