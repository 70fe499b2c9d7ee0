#include "client/ingest_chunks.h"

#include <algorithm>
#include <utility>

#include "common/format/segment_format.h"
#include "common/rpc/methods.h"

namespace holdfast {
namespace {

constexpr size_t kGeneration = 250'000;            // Chunks remembered, times two.
constexpr uint64_t kPutBytes = 2u << 20;           // Per request …
constexpr size_t kPutEntries = 1024;               // … and entries.
constexpr uint64_t kMaxBytesInFlight = 24u << 20;  // Sealed, sent, unanswered.
constexpr uint64_t kEntryOverhead = 1024;          // What bookkeeping counts for, in those bytes.
constexpr int64_t kRetryNanos = 1'000'000'000;
constexpr uint32_t kFailuresInARow = 4;  // Of a node's pins or puts, until the vault has failed.

using State = PendingChunk::State;

PendingChunk::Replica& ReplicaOn(PendingChunk& chunk, uint32_t node) {
  for (PendingChunk::Replica& r : chunk.replicas) {
    if (r.node == node) return r;
  }
  abort();  // Only nodes of the acting set are asked.
}

void TakeAnswer(PendingChunk::Replica& replica, const proto::RecordAnswer& answer,
                PendingChunk& chunk) {
  switch (answer.status()) {
    case proto::PRESENT:
      replica.state = State::kPresent;
      replica.stored_length = answer.stored_length();
      replica.checksum = Checksum::FromBytes(AsBytes(answer.checksum()));
      replica.differs = answer.differs();
      return;
    case proto::PROVE:
      replica.state = State::kToProve;
      return;
    case proto::MISSING:
      replica.state = State::kMissing;
      return;
    case proto::CORRUPT:
    case proto::UNREADABLE:
      replica.state = State::kBad;
      return;
    default:
      replica.state = State::kFailed;
      chunk.error =
          absl::DataLossError("node " + std::to_string(replica.node) + " refused chunk " +
                              chunk.identity.id.hex() + ": it did not arrive as it was sent");
  }
}

// The answers to one request about `count` chunks.
template <class Reply>
StatusOr<Reply> ParseAnswers(const StatusOr<RpcMessage>& reply, size_t count) {
  ASSIGN_OR_RETURN(Reply parsed, ReplyHead<Reply>(reply));
  if (size_t(parsed.answers_size()) != count) {
    return absl::InternalError("a node answered for the wrong number of records");
  }
  return parsed;
}

}  // namespace

struct ChunkStore::PutBatch {
  proto::NodePutRequest head;
  std::vector<SharedBytes> frames;
  std::vector<PendingChunk*> chunks;
  uint64_t bytes = 0;
};

ChunkStore::ChunkStore(IngestContext& ctx) : ctx_(ctx), writer_(ctx.vault.key().writer()) {}

void ChunkStore::Begin(const std::vector<Cut>& cuts, Round& round) {
  round.owned.clear();
  round.claims.clear();
  {
    MonitorLock lock(*ctx_.monitor);
    if (remembered_version_ != ctx_.map->version) {
      // What was stored by another map may not be where this one wants it: it is asked for again.
      young_ = old_ = {};
      remembered_version_ = ctx_.map->version;
    }
    for (const Cut& cut : cuts) Meet(cut, round);
  }
  SendPins(round);
}

void ChunkStore::Meet(const Cut& cut, Round& round) {
  IngestObject& object = *cut.object;
  const auto index = static_cast<uint32_t>(object.clear.chunks.size());
  object.clear.chunks.push_back({cut.identity.id, 0});
  ++ctx_.summary.chunks;
  const auto claim = [&] {
    if (!cut.from_device) return;
    ++object.waits;
    round.claims.push_back({&object, cut.plain, cut.sha256});
  };
  if (const std::optional<Remembered> stored = FindStored(cut.identity.id)) {
    object.clear.chunks.back().stored_length = stored->stored_length;
    object.put |= stored->put;
    claim();
    object.map_version = std::min(object.map_version, remembered_version_);
    return CountDuplicates(1, cut.identity.length);
  }
  ++object.waits;
  auto [it, met_first] = pending_.try_emplace(cut.identity.id);
  if (met_first) {
    it->second = std::make_unique<PendingChunk>();
    it->second->identity = cut.identity;
    it->second->map = ctx_.map;
    for (uint32_t node : WriteSet(*ctx_.map, PlacementGroupOf(cut.identity.id))) {
      it->second->replicas.push_back({node});
    }
    round.owned.push_back({it->second.get(), cut.plain, cut.sha256, cut.from_device});
  } else {
    object.put = true;
    claim();
  }
  it->second->waiters.push_back({&object, index});
}

void ChunkStore::CountDuplicates(uint64_t chunks, uint64_t bytes) {
  ctx_.summary.duplicate_chunks += chunks;
  ctx_.summary.duplicate_bytes += bytes;
  ctx_.progress.duplicate_bytes += bytes;
}

std::optional<ChunkStore::Remembered> ChunkStore::FindStored(const RecordId& id) {
  if (auto it = young_.find(id); it != young_.end()) return it->second;
  auto it = old_.find(id);
  if (it == old_.end()) return std::nullopt;
  const Remembered stored = it->second;
  old_.erase(it);
  Remember(id, stored);
  return stored;
}

void ChunkStore::Remember(const RecordId& id, const Remembered& stored) {
  young_[id] = stored;
  if (young_.size() < kGeneration) return;
  old_ = std::move(young_);
  young_ = {};
}

void ChunkStore::SendPins(Round& round) {
  std::vector<std::vector<uint32_t>> asked;
  for (uint32_t i = 0; i < round.owned.size(); ++i) {
    PendingChunk& chunk = *round.owned[i].pending;
    chunk.outstanding = static_cast<uint32_t>(chunk.replicas.size());
    for (const PendingChunk::Replica& r : chunk.replicas) {
      if (r.node >= asked.size()) asked.resize(r.node + 1);
      asked[r.node].push_back(i);
    }
  }
  // The requests are made before any is sent: an answer may settle a chunk, and so end it.
  std::vector<proto::NodePinRequest> requests(asked.size());
  for (size_t node = 0; node < asked.size(); ++node) {
    requests[node].set_session_epoch(ctx_.epoch);
    requests[node].set_generation(ctx_.generation);
    std::string& ids = *requests[node].mutable_ids();
    ids.reserve(asked[node].size() * RecordId::kSize);
    for (uint32_t i : asked[node]) ids += AsView(round.owned[i].pending->identity.id.bytes());
    round.outstanding += !asked[node].empty();
  }
  for (uint32_t node = 0; node < asked.size(); ++node) {
    if (asked[node].empty()) continue;
    ctx_.Call(NodeAddress(node), MakeMessage(rpc::kNodePin, requests[node]),
              [this, &round, node, a = std::move(asked[node])](const StatusOr<RpcMessage>& reply) {
                OnPins(round, node, a, reply);
              });
  }
}

void ChunkStore::OnPins(Round& round, uint32_t node, const std::vector<uint32_t>& asked,
                        const StatusOr<RpcMessage>& reply) {
  const auto answers = ParseAnswers<proto::NodePinReply>(reply, asked.size());
  MonitorLock lock(*ctx_.monitor);
  uint32_t& failures = nodes_[node].failed_pins;
  failures = answers.ok() ? 0 : failures + 1;
  for (size_t k = 0; k < asked.size(); ++k) {
    PendingChunk*& chunk = round.owned[asked[k]].pending;
    PendingChunk::Replica& replica = ReplicaOn(*chunk, node);
    if (answers.ok()) {
      TakeAnswer(replica, answers->answers(static_cast<int>(k)), *chunk);
    } else {
      replica.state = State::kFailed;
      chunk->error = answers.status();
    }
    const bool device = round.owned[asked[k]].from_device;
    if (--chunk->outstanding == 0 && !device && Judge(*chunk) == Verdict::kAcked) {
      Settle(*chunk);
      chunk = nullptr;
    }
  }
  --round.outstanding;
}

ChunkStore::Verdict ChunkStore::Judge(const PendingChunk& chunk) const {
  const PendingChunk::Replica* first = nullptr;
  Nodes agreeing;
  bool missing = false;
  for (const PendingChunk::Replica& r : chunk.replicas) {
    missing |= r.wanted();
    if (r.state != State::kPresent) continue;
    if (first == nullptr) first = &r;
    if (r.differs || r.checksum != first->checksum || r.stored_length != first->stored_length) {
      return Verdict::kDisputed;
    }
    agreeing.push_back(r.node);
  }
  const Bytes ours = chunk.sealed.frame.view;
  if (first != nullptr && !ours.empty() && first->checksum != chunk.sealed.checksum) {
    return Verdict::kDisputed;
  }
  if (missing) return Verdict::kMissing;
  return HasQuorum(*chunk.map, PlacementGroupOf(chunk.identity.id), agreeing) ? Verdict::kAcked
                                                                              : Verdict::kShort;
}

void ChunkStore::Settle(PendingChunk& chunk) {
  uint32_t stored_length = 0;
  for (const PendingChunk::Replica& r : chunk.replicas) {
    if (r.state == State::kPresent) stored_length = r.stored_length;
  }
  const size_t duplicates = chunk.waiters.size() - chunk.is_new;
  CountDuplicates(duplicates, duplicates * chunk.identity.length);
  if (chunk.is_new) {
    ctx_.summary.stored_bytes += stored_length;
    ++chunk.waiters[0].object->new_chunks;
  }
  for (const PendingChunk::Waiter& w : chunk.waiters) {
    w.object->clear.chunks[w.index].stored_length = stored_length;
    w.object->map_version = std::min(w.object->map_version, chunk.map->version);
    ctx_.Drop(w.object);
  }
  const bool remember = chunk.map->version == remembered_version_;
  const RecordId id = chunk.identity.id;
  const Remembered stored{stored_length, chunk.put};
  pending_.erase(id);
  if (remember) Remember(id, stored);
}

void ChunkStore::Reject(PendingChunk& chunk, const Status& status) {
  const Status why =
      status.ok() ? absl::UnavailableError("fewer nodes hold a chunk than must") : status;
  // A full disk does not get emptier by itself: someone must see to it first.
  if (absl::IsResourceExhausted(why)) ctx_.Fail(why);
  for (const PendingChunk::Replica& r : chunk.replicas) {
    const NodeHealth& node = nodes_[r.node];
    if (r.state == State::kFailed &&
        std::max(node.failed_pins, node.failed_puts) >= kFailuresInARow) {
      ctx_.Fail(why);
    }
  }
  for (const PendingChunk::Waiter& w : chunk.waiters) {
    if (w.object->status.ok()) w.object->status = why;
    ctx_.Drop(w.object);
  }
  pending_.erase(chunk.identity.id);
}

void ChunkStore::Complete(Round& round, Sealer& sealer) {
  {
    MonitorLock lock(*ctx_.monitor);
    ctx_.Await([&] { return round.outstanding == 0; });
  }
  CheckClaims(round);
  std::vector<PutBatch> batches;
  for (Round::Owned& owned : round.owned) {
    if (owned.pending != nullptr) Prepare(owned, sealer, batches);
  }
  for (uint32_t node = 0; node < batches.size(); ++node) {
    sealer.Sent(batches[node].frames);
    SendPuts(node, batches[node], /*wait=*/true);
  }
}

// A digest of a device was checked by samples only. Where equal digests mean that bytes are
// dropped, the CPU has the last word.
Status ChunkStore::CheckDevice(Bytes plain, const Hash256& sha256) {
  if (kernels::Sha256(plain) == sha256) return absl::OkStatus();
  ctx_.engine.Distrust("a duplicate was none");
  return absl::DataLossError("the device computed a wrong digest: not stored; ingest it again");
}

void ChunkStore::CheckClaims(Round& round) {
  for (const Round::Claim& claim : round.claims) {
    const Status status = CheckDevice(claim.plain, claim.sha256);
    MonitorLock lock(*ctx_.monitor);
    if (claim.object->status.ok()) claim.object->status = status;
    ctx_.Drop(claim.object);
  }
  round.claims.clear();
}

void ChunkStore::Prepare(Round::Owned& owned, Sealer& sealer, std::vector<PutBatch>& batches) {
  PendingChunk& chunk = *owned.pending;
  const Verdict verdict = Judge(chunk);
  if (verdict == Verdict::kAcked) {  // Only of a device's chunk: others are settled by the answer.
    const Status status = CheckDevice(owned.plain, owned.sha256);
    MonitorLock lock(*ctx_.monitor);
    return status.ok() ? Settle(chunk) : Reject(chunk, status);
  }
  {
    MonitorLock lock(*ctx_.monitor);
    chunk.put = true;
    for (const PendingChunk::Waiter& w : chunk.waiters) w.object->put = true;
  }
  Nodes usable;
  for (const PendingChunk::Replica& r : chunk.replicas) {
    if (r.state != State::kFailed) usable.push_back(r.node);
  }
  const bool enough = verdict != Verdict::kShort &&
                      HasQuorum(*chunk.map, PlacementGroupOf(chunk.identity.id), usable);
  if (!enough && ctx_.options.wait_nanos == 0) {
    MonitorLock lock(*ctx_.monitor);
    return Reject(chunk, chunk.error);
  }
  StatusOr<SealedChunk> sealed = sealer.Seal(chunk.identity, owned.plain);
  if (!sealed.ok()) {
    MonitorLock lock(*ctx_.monitor);
    return Reject(chunk, sealed.status());
  }
  chunk.sealed = *std::move(sealed);
  if (Judge(chunk) == Verdict::kDisputed) {
    MonitorLock lock(*ctx_.monitor);
    return Dispute(chunk);
  }
  chunk.is_new = true;
  for (const PendingChunk::Replica& r : chunk.replicas) {
    if (r.state == State::kPresent || r.state == State::kToProve) chunk.is_new = false;
  }
  if (!enough) {
    MonitorLock lock(*ctx_.monitor);
    return Stall(chunk);
  }
  for (uint32_t node : AddToBatches(chunk, batches)) {
    sealer.Sent(batches[node].frames);
    SendPuts(node, batches[node], /*wait=*/true);
  }
}

uint64_t ChunkStore::CostOf(const PendingChunk& chunk) const {
  return chunk.sealed.frame.view.size() + kEntryOverhead;
}

// No request with this chunk is sent before all of its nodes have it in theirs.
ChunkStore::Nodes ChunkStore::AddToBatches(PendingChunk& chunk, std::vector<PutBatch>& batches) {
  Nodes full;
  for (const PendingChunk::Replica& r : chunk.replicas) {
    chunk.outstanding += r.wanted();
    if (r.node >= batches.size()) batches.resize(r.node + 1);
  }
  for (PendingChunk::Replica& r : chunk.replicas) {
    if (!r.wanted()) continue;
    PutBatch& batch = batches[r.node];
    if (batch.chunks.empty()) batch.head = NewPutRequest();
    AddPutEntry(batch.head, chunk.identity.id, chunk.sealed.checksum, r.state == State::kBad);
    r.state = State::kAsked;
    batch.frames.push_back(chunk.sealed.frame);
    batch.chunks.push_back(&chunk);
    batch.bytes += CostOf(chunk);
    if (batch.bytes >= kPutBytes || batch.chunks.size() >= kPutEntries) full.push_back(r.node);
  }
  return full;
}

proto::NodePutRequest ChunkStore::NewPutRequest() const {
  proto::NodePutRequest request;
  request.set_session_epoch(ctx_.epoch);
  request.set_generation(ctx_.generation);
  request.set_domain(ToString(ctx_.vault.key().domain.bytes()));
  request.set_writer(ToString(writer_.bytes()));
  return request;
}

void ChunkStore::AddPutEntry(proto::NodePutRequest& request, const RecordId& id,
                             const Checksum& checksum, bool replace) {
  proto::PutEntry& entry = *request.add_entries();
  entry.set_id(id.value.data(), id.value.size());
  entry.set_kind(static_cast<uint32_t>(RecordKind::kChunk));
  entry.set_checksum(checksum.value.data(), checksum.value.size());
  entry.set_replace(replace);
}

void ChunkStore::SendPuts(uint32_t node, PutBatch& batch, bool wait) {
  if (batch.chunks.empty()) return;
  RpcMessage request = MakeMessage(rpc::kNodePut, batch.head);
  request.frames = std::move(batch.frames);
  const uint64_t bytes = batch.bytes;
  {
    MonitorLock lock(*ctx_.monitor);
    const auto room = [&] {
      return ctx_.bytes_in_flight == 0 || ctx_.bytes_in_flight + bytes <= kMaxBytesInFlight;
    };
    if (wait) ctx_.Await(room);
    ctx_.bytes_in_flight += bytes;
  }
  ctx_.Call(NodeAddress(node), std::move(request),
            [this, node, bytes, chunks = std::move(batch.chunks)](
                const StatusOr<RpcMessage>& reply) { OnPuts(node, chunks, bytes, reply); });
  batch = {};
}

void ChunkStore::OnPuts(uint32_t node, const std::vector<PendingChunk*>& chunks, uint64_t bytes,
                        const StatusOr<RpcMessage>& reply) {
  const auto answers = ParseAnswers<proto::NodePutReply>(reply, chunks.size());
  MonitorLock lock(*ctx_.monitor);
  uint32_t& failures = nodes_[node].failed_puts;
  failures = answers.ok() ? 0 : failures + 1;
  ctx_.bytes_in_flight -= bytes;
  for (size_t i = 0; i < chunks.size(); ++i) {
    PendingChunk& chunk = *chunks[i];
    PendingChunk::Replica& replica = ReplicaOn(chunk, node);
    if (answers.ok()) {
      TakeAnswer(replica, answers->answers(static_cast<int>(i)), chunk);
    } else {
      replica.state = State::kFailed;
      chunk.error = answers.status();
    }
    if (--chunk.outstanding == 0) AfterPut(chunk);
  }
}

void ChunkStore::AfterPut(PendingChunk& chunk) {
  switch (Judge(chunk)) {
    case Verdict::kAcked:
      return Settle(chunk);
    case Verdict::kDisputed:
      return Dispute(chunk);
    case Verdict::kMissing:
      return Reject(chunk, absl::InternalError("a node did not keep what was put"));
    case Verdict::kShort:
      return ctx_.options.wait_nanos == 0 ? Reject(chunk, chunk.error) : Stall(chunk);
  }
}

// Who waits for long keeps its own bytes, and not those of others that lay beside it.
void ChunkStore::KeepApart(PendingChunk& chunk) {
  const Bytes sealed = chunk.sealed.frame.view;
  chunk.sealed.frame = SharedBytes::Own(Buffer(sealed.begin(), sealed.end()));
}

void ChunkStore::Dispute(PendingChunk& chunk) {
  KeepApart(chunk);
  disputes_.push_back(&chunk);
}

// Its bytes count as in flight, so that workers wait too, rather than pile up more.
void ChunkStore::Stall(PendingChunk& chunk) {
  const int64_t now = ctx_.vault.clock().MonotonicNanos();
  if (chunk.stalled_nanos == 0) {
    chunk.stalled_nanos = now;
    KeepApart(chunk);
  }
  const bool over = now - chunk.stalled_nanos > ctx_.options.wait_nanos;
  if (over || ctx_.failed() || !absl::IsUnavailable(chunk.error)) {
    if (over) ctx_.Fail(chunk.error);
    return Reject(chunk, chunk.error);
  }
  ctx_.bytes_in_flight += CostOf(chunk);
  stalled_.push_back(&chunk);
  ctx_.waiting(chunk.error);
}

// Where the map of now wants it; what is known of nodes that it still wants there is kept.
void ChunkStore::PlaceAgain(PendingChunk& chunk) {
  const std::vector<PendingChunk::Replica> before(chunk.replicas.begin(), chunk.replicas.end());
  chunk.replicas.clear();
  chunk.map = ctx_.map;
  for (uint32_t node : WriteSet(*chunk.map, PlacementGroupOf(chunk.identity.id))) {
    PendingChunk::Replica replica{node, State::kMissing};
    for (const PendingChunk::Replica& r : before) {
      if (r.node == node && r.state != State::kFailed) replica = r;
    }
    chunk.replicas.push_back(replica);
  }
}

void ChunkStore::RetryStalled() {
  std::vector<PendingChunk*> chunks;
  {
    MonitorLock lock(*ctx_.monitor);
    const int64_t now = ctx_.vault.clock().MonotonicNanos();
    if (stalled_.empty() || now < retry_nanos_) return;
    retry_nanos_ = now + kRetryNanos;
    chunks = std::exchange(stalled_, {});
    for (PendingChunk*& chunk : chunks) {
      ctx_.bytes_in_flight -= CostOf(*chunk);
      PlaceAgain(*chunk);
      const bool lacking = std::any_of(chunk->replicas.begin(), chunk->replicas.end(),
                                       [](const auto& r) { return r.state != State::kPresent; });
      if (!lacking) AfterPut(*std::exchange(chunk, nullptr));
    }
    std::erase(chunks, nullptr);
  }
  ctx_.RenewSession();  // A lost node may have been replaced in the map.
  std::vector<PutBatch> batches;
  for (PendingChunk* chunk : chunks) {
    for (uint32_t node : AddToBatches(*chunk, batches)) {
      SendPuts(node, batches[node], /*wait=*/false);
    }
  }
  for (uint32_t node = 0; node < batches.size(); ++node) {
    SendPuts(node, batches[node], /*wait=*/false);
  }
}

}  // namespace holdfast
