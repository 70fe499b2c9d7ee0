// Replicas that differ. Two writers with different encoders may have raced, a node may hold bytes
// that do not open, or a put may have met another record under its id. Who knows h can tell:
// of the variants that open the one with the lowest checksum replaces the others, so that replicas
// are byte-identical again (DESIGN 5).
#include <algorithm>
#include <optional>
#include <utility>

#include "client/ingest_chunks.h"
#include "common/rpc/methods.h"

namespace holdfast {

using State = PendingChunk::State;

// One node's bytes.
struct ChunkStore::Variant {
  size_t replica = 0;  // Of the chunk.
  SealedChunk sealed;
};

void ChunkStore::ResolveDisputes(Sealer& sealer) {
  for (;;) {
    PendingChunk* chunk = nullptr;
    {
      MonitorLock lock(*ctx_.monitor);
      if (disputes_.empty()) return;
      chunk = disputes_.front();
      disputes_.pop_front();
    }
    const Status status = Resolve(*chunk, sealer);
    MonitorLock lock(*ctx_.monitor);
    if (status.ok()) {
      Settle(*chunk);
    } else {
      Reject(*chunk, status);
    }
  }
}

Status ChunkStore::Resolve(PendingChunk& chunk, Sealer& sealer) {
  std::optional<Variant> winner;
  for (Variant& variant : FetchVariants(chunk)) {
    if (!sealer.Check(chunk.identity, variant.sealed.frame.view).ok()) {
      chunk.replicas[variant.replica].state = State::kBad;
    } else if (!winner || variant.sealed.checksum < winner->sealed.checksum) {
      winner = std::move(variant);
    }
  }
  // Nobody has it whole: then what was sealed here counts.
  chunk.is_new = !winner;
  return Replace(chunk, winner ? *winner : Variant{0, chunk.sealed});
}

std::vector<ChunkStore::Variant> ChunkStore::FetchVariants(PendingChunk& chunk) {
  std::vector<Variant> variants;
  for (PendingChunk::Replica& replica : chunk.replicas) {
    if (replica.state != State::kPresent && replica.state != State::kToProve) continue;
    proto::NodeGetRequest request;
    request.set_ids(std::string(AsView(chunk.identity.id.bytes())));
    StatusOr<RpcMessage> reply =
        ctx_.CallAndWait(NodeAddress(replica.node), MakeMessage(rpc::kNodeGet, request));
    StatusOr<proto::NodeGetReply> head =
        reply.ok() ? ParseHead<proto::NodeGetReply>(*reply) : reply.status();
    if (!head.ok()) {
      replica.state = State::kFailed;
      chunk.error = head.status();
    } else if (head->answers_size() == 1 && head->answers(0).status() == proto::PRESENT &&
               reply->frames.size() == 1) {
      replica.checksum = ChecksumOf(reply->frames[0].view);
      replica.state = State::kPresent;
      variants.push_back({static_cast<size_t>(&replica - chunk.replicas.data()),
                          {std::move(reply->frames[0]), replica.checksum}});
    } else {
      replica.state = State::kBad;
    }
  }
  return variants;
}

Status ChunkStore::Replace(PendingChunk& chunk, const Variant& winner) {
  Nodes holding;
  for (PendingChunk::Replica& replica : chunk.replicas) {
    if (replica.state == State::kFailed) continue;
    if (replica.state != State::kPresent || replica.checksum != winner.sealed.checksum) {
      const Status put = PutReplacement(chunk.identity.id, replica.node, winner.sealed);
      if (!put.ok()) {
        replica.state = State::kFailed;
        chunk.error = put;
        continue;
      }
    }
    replica.state = State::kPresent;
    replica.checksum = winner.sealed.checksum;
    replica.stored_length = static_cast<uint32_t>(winner.sealed.frame.view.size());
    holding.push_back(replica.node);
  }
  return HasQuorum(*chunk.map, PlacementGroupOf(chunk.identity.id), holding) ? absl::OkStatus()
                                                                             : chunk.error;
}

Status ChunkStore::PutReplacement(const RecordId& id, uint32_t node, const SealedChunk& sealed) {
  proto::NodePutRequest request = NewPutRequest();
  AddPutEntry(request, id, sealed.checksum, /*replace=*/true);
  RpcMessage message = MakeMessage(rpc::kNodePut, request);
  message.frames.push_back(sealed.frame);
  ASSIGN_OR_RETURN(const RpcMessage reply, ctx_.CallAndWait(NodeAddress(node), message));
  ASSIGN_OR_RETURN(const auto head, ParseHead<proto::NodePutReply>(reply));
  if (head.answers_size() != 1 || head.answers(0).status() != proto::PRESENT ||
      Checksum::FromBytes(AsBytes(head.answers(0).checksum())) != sealed.checksum) {
    return absl::UnavailableError("chunk " + id.hex() + ": node " + std::to_string(node) +
                                  " would not take the replica that counts");
  }
  return absl::OkStatus();
}

}  // namespace holdfast
