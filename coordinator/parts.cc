#include "coordinator/parts.h"

#include <algorithm>

namespace holdfast {

Hash256 PartDigest(Bytes clear, Bytes sealed) { return Sha256({clear, sealed}); }

Buffer MakePartRecord(const CatalogueKeys& keys, const RecordId& id, Bytes clear, Bytes sealed) {
  const Hash256 derived = HmacSha256(keys.parts, {id.bytes(), PartDigest(clear, sealed)});
  AeadNonce nonce;
  std::copy_n(derived.begin(), nonce.size(), nonce.begin());
  return EncodePartRecord(keys.parts, id, clear, sealed, nonce);
}

namespace {

// Opens a stored part into `part`; refuses one of another digest.
NodeClient::Check PartCheck(const CatalogueKeys& keys, const RecordId& id,
                            std::optional<Hash256> digest, std::shared_ptr<PartRecord> part) {
  return [&keys, id, digest, part](Bytes stored) -> Status {
    ASSIGN_OR_RETURN(*part, DecodePartRecord(keys.parts, id, stored));
    if (digest && PartDigest(part->clear, part->sealed) != *digest) {
      return absl::DataLossError("it is not the part that the manifest names");
    }
    return absl::OkStatus();
  };
}

bool IsPinned(const NodeReply& reply) {
  if (!reply.ok()) return false;
  auto head = ParseHead<proto::NodePinReply>(*reply);
  return head.ok() && head->answers_size() == 1 && head->answers(0).status() == proto::PRESENT;
}

// The work of one SecureParts; its callbacks keep it.
class PartsSecurer : public std::enable_shared_from_this<PartsSecurer> {
 public:
  PartsSecurer(NodeClient& nodes, const CatalogueKeys& keys, std::vector<PartRef> parts,
               uint64_t epoch, const WriterId& writer, int64_t timeout_nanos,
               std::function<void(Status)> done)
      : nodes_(nodes),
        keys_(keys),
        parts_(std::move(parts)),
        epoch_(epoch),
        writer_(writer),
        timeout_nanos_(timeout_nanos),
        done_(std::move(done)) {}

  void Ask() {
    if (next_ == parts_.size()) return done_(absl::OkStatus());
    proto::NodePinRequest pin;
    pin.set_session_epoch(epoch_);
    pin.set_generation(nodes_.generation());
    pin.set_ids(ToString(parts_[next_].id.bytes()));
    proto::NodeGetRequest get;
    get.set_ids(pin.ids());
    std::vector<NodeCall> calls;
    asked_ = WriteSet(nodes_.map(), PlacementGroupOf(parts_[next_].id));
    for (uint32_t node : asked_) {
      calls.push_back({node, MakeMessage(rpc::kNodeGet, get)});
      calls.push_back({node, MakeMessage(rpc::kNodePin, pin)});
    }
    // A node that is away is not waited for.
    nodes_.GatherEnough(
        std::move(calls), timeout_nanos_,
        [self = shared_from_this()](const NodeReplies& replies) {
          return HasQuorum(self->nodes_.map(), PlacementGroupOf(self->parts_[self->next_].id),
                           self->Look(replies).whole);
        },
        [self = shared_from_this()](const NodeReplies& replies) { self->Judge(replies); });
  }

 private:
  struct Seen {
    std::vector<uint32_t> whole;  // Nodes.
    bool all_answered = true;
    std::optional<SharedBytes> bytes;
  };
  Seen Look(const NodeReplies& replies) const {
    const auto check =
        PartCheck(keys_, parts_[next_].id, parts_[next_].digest, std::make_shared<PartRecord>());
    Seen seen;
    for (size_t i = 0; i + 1 < replies.size(); i += 2) {
      seen.all_answered &= replies[i].ok() && replies[i + 1].ok();
      StatusOr<SharedBytes> read = CheckGetReply(replies[i], check);
      if (!read.ok()) continue;
      if (IsPinned(replies[i + 1])) seen.whole.push_back(asked_[i / 2]);
      seen.bytes = *std::move(read);
    }
    return seen;
  }

  void Judge(const NodeReplies& replies) {
    Seen seen = Look(replies);
    if (HasQuorum(nodes_.map(), PlacementGroupOf(parts_[next_].id), seen.whole)) {
      ++next_;
      put_ = false;
      return Ask();
    }
    // A node may call present what it cannot read: what was put is looked at, and put only once.
    if (!seen.bytes || put_) {
      const char* text = "a manifest part is on too few nodes";
      return done_(seen.all_answered ? absl::NotFoundError(text) : absl::UnavailableError(text));
    }
    put_ = true;
    RecordPut put;
    put.id = parts_[next_].id;
    put.kind = RecordKind::kManifestPart;
    put.epoch = epoch_;
    put.writer = writer_;
    put.payload = *std::move(seen.bytes);
    nodes_.PutRecord(put, timeout_nanos_,
                     [self = shared_from_this()](const Status&) { self->Ask(); });
  }

  NodeClient& nodes_;
  const CatalogueKeys& keys_;
  const std::vector<PartRef> parts_;
  const uint64_t epoch_;
  const WriterId writer_;
  const int64_t timeout_nanos_;
  const std::function<void(Status)> done_;
  size_t next_ = 0;  // Of parts_.
  std::vector<uint32_t> asked_;
  bool put_ = false;  // That one was put again.
};

// The work of one ListChunks.
class ChunkLister : public std::enable_shared_from_this<ChunkLister> {
 public:
  ChunkLister(NodeClient& nodes, const CatalogueKeys& keys, std::vector<PartRef> parts,
              int64_t timeout_nanos, std::function<void(StatusOr<std::vector<RecordId>>)> done)
      : nodes_(nodes),
        keys_(keys),
        parts_(std::move(parts)),
        timeout_nanos_(timeout_nanos),
        done_(std::move(done)) {}

  void Next() {
    if (next_ == parts_.size()) return done_(std::move(ids_));
    GetPart(nodes_, keys_, parts_[next_].id, "a manifest part", parts_[next_].digest,
            timeout_nanos_,
            [self = shared_from_this()](const StatusOr<PartRecord>& part) { self->Take(part); });
  }

 private:
  void Take(const StatusOr<PartRecord>& part) {
    StatusOr<std::vector<ChunkRef>> chunks =
        part.ok() ? DecodePartClear(part->clear) : part.status();
    if (!chunks.ok()) return done_(absl::UnavailableError(Message(chunks.status())));
    for (const ChunkRef& chunk : *chunks) ids_.push_back(chunk.id);
    ++next_;
    Next();
  }

  NodeClient& nodes_;
  const CatalogueKeys& keys_;
  const std::vector<PartRef> parts_;
  const int64_t timeout_nanos_;
  const std::function<void(StatusOr<std::vector<RecordId>>)> done_;
  std::vector<RecordId> ids_;
  size_t next_ = 0;  // Of parts_.
};

}  // namespace

void ListChunks(NodeClient& nodes, const CatalogueKeys& keys, std::vector<PartRef> parts,
                int64_t timeout_nanos, std::function<void(StatusOr<std::vector<RecordId>>)> done) {
  std::make_shared<ChunkLister>(nodes, keys, std::move(parts), timeout_nanos, std::move(done))
      ->Next();
}

void GetPart(NodeClient& nodes, const CatalogueKeys& keys, const RecordId& id,
             const std::string& what, std::optional<Hash256> digest, int64_t timeout_nanos,
             std::function<void(StatusOr<PartRecord>)> done) {
  auto part = std::make_shared<PartRecord>();
  nodes.GetRecord(id, what, PartCheck(keys, id, digest, part), timeout_nanos,
                  [part, done = std::move(done)](StatusOr<SharedBytes> bytes) {
                    if (!bytes.ok()) {
                      done(bytes.status());
                    } else {
                      done(std::move(*part));
                    }
                  });
}

void SecureParts(NodeClient& nodes, const CatalogueKeys& keys, std::vector<PartRef> parts,
                 uint64_t epoch, const WriterId& writer, int64_t timeout_nanos,
                 std::function<void(Status)> done) {
  std::make_shared<PartsSecurer>(nodes, keys, std::move(parts), epoch, writer, timeout_nanos,
                                 std::move(done))
      ->Ask();
}

}  // namespace holdfast
