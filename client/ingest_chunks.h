// Which chunks of this session are stored where, and how missing ones get there. DESIGN 5, 9.
//
// A chunk is decided once per session (while it is remembered): the first worker that meets it asks
// every node of its acting set (pin), seals it if any of them lacks it, and puts it there. Everyone
// else who meets it meanwhile waits for that. It is acknowledged when a quorum of its nodes
// (HasQuorum) holds it with the same length and checksum, and no node that answered holds another.
// With too few nodes it is kept, sealed, and sent again every second, as long as
// IngestOptions::wait_nanos allow. What another principal stored is put too, for the node to
// compare (PROVE).
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "client/ingest_context.h"
#include "client/sealer.h"

namespace holdfast {

// A chunk that is not decided yet.
struct PendingChunk {
  struct Waiter {
    IngestObject* object;
    uint32_t index;  // In object->clear.chunks.
  };
  enum class State : uint8_t { kAsked, kPresent, kMissing, kToProve, kBad, kFailed };
  struct Replica {
    uint32_t node;
    State state = State::kAsked;
    uint32_t stored_length = 0;
    Checksum checksum;
    bool differs = false;  // From what was put to prove it.
    // To be put there.
    bool wanted() const {
      return state == State::kMissing || state == State::kToProve || state == State::kBad;
    }
  };

  ChunkIdentity identity;
  std::shared_ptr<const ClusterMap> map;   // By which it is placed.
  int64_t stalled_nanos = 0;               // Since when too few nodes take it; 0: they do.
  absl::InlinedVector<Waiter, 1> waiters;  // The first is who met it first.
  absl::InlinedVector<Replica, 2> replicas;
  uint32_t outstanding = 0;  // Replicas in state kAsked.
  bool put = false;          // Sent to a node, or to be sent.
  bool is_new = false;       // No node had it.
  Status error;              // Of a replica that failed.
  SealedChunk sealed;        // While it is being put.
};

class ChunkStore {
 public:
  explicit ChunkStore(IngestContext& ctx);

  // A chunk of an object, in order; `plain` lies in the slab.
  struct Cut {
    IngestObject* object;
    ChunkIdentity identity;
    Bytes plain;
    Hash256 sha256;
    bool from_device;  // Then bytes are not dropped on the word of sha256 alone.
  };
  // The chunks of a slab that this worker has to decide. Stays where it is until Complete.
  struct Round {
    struct Owned {
      PendingChunk* pending;  // Null once decided.
      Bytes plain;
      Hash256 sha256;
      bool from_device;
    };
    // A chunk that another one stands for, if the device is right. The object waits for that.
    struct Claim {
      IngestObject* object;
      Bytes plain;
      Hash256 sha256;
    };
    std::vector<Owned> owned;
    std::vector<Claim> claims;
    size_t outstanding = 0;  // Pin requests without an answer. Guarded by the monitor.
  };

  // Appends the cuts to their objects and asks the nodes for those not met before.
  void Begin(const std::vector<Cut>& cuts, Round& round);
  // Waits for the answers and sends what is missing; afterwards `plain` is not needed any more.
  void Complete(Round& round, Sealer& sealer);
  // Sends again what too few nodes took, once a second. On the committer's thread.
  void RetryStalled();
  // Settles chunks of which replicas were found to differ, if there are any.
  void ResolveDisputes(Sealer& sealer);
  // With the monitor held.
  bool idle() const { return pending_.empty(); }
  bool has_disputes() const { return !disputes_.empty(); }

 private:
  enum class Verdict { kAcked, kMissing, kDisputed, kShort };
  struct PutBatch;
  struct Variant;

  // With the monitor held.
  void Meet(const Cut& cut, Round& round);
  // What is known of a chunk decided before.
  struct Remembered {
    uint32_t stored_length = 0;
    bool put = false;  // In this session: not all nodes had it.
  };
  std::optional<Remembered> FindStored(const RecordId& id);
  void CountDuplicates(uint64_t chunks, uint64_t bytes);
  Verdict Judge(const PendingChunk& chunk) const;
  void Settle(PendingChunk& chunk);
  void Reject(PendingChunk& chunk, const Status& status);
  void Remember(const RecordId& id, const Remembered& stored);
  void AfterPut(PendingChunk& chunk);
  void Stall(PendingChunk& chunk);
  void Dispute(PendingChunk& chunk);
  static void KeepApart(PendingChunk& chunk);
  void PlaceAgain(PendingChunk& chunk);
  // Into the requests to the nodes that lack it; those that are full then are named.
  using Nodes = absl::InlinedVector<uint32_t, 4>;
  Nodes AddToBatches(PendingChunk& chunk, std::vector<PutBatch>& batches);
  uint64_t CostOf(const PendingChunk& chunk) const;

  proto::NodePutRequest NewPutRequest() const;
  static void AddPutEntry(proto::NodePutRequest& request, const RecordId& id,
                          const Checksum& checksum, bool replace);

  void SendPins(Round& round);
  void OnPins(Round& round, uint32_t node, const std::vector<uint32_t>& asked,
              const StatusOr<RpcMessage>& reply);
  void CheckClaims(Round& round);
  Status CheckDevice(Bytes plain, const Hash256& sha256);
  void Prepare(Round::Owned& owned, Sealer& sealer, std::vector<PutBatch>& batches);
  // `wait`: for other bytes in flight to be answered, if there are many.
  void SendPuts(uint32_t node, PutBatch& batch, bool wait);
  void OnPuts(uint32_t node, const std::vector<PendingChunk*>& chunks, uint64_t bytes,
              const StatusOr<RpcMessage>& reply);

  // client/ingest_resolve.cc
  Status Resolve(PendingChunk& chunk, Sealer& sealer);
  std::vector<Variant> FetchVariants(PendingChunk& chunk);
  Status Replace(PendingChunk& chunk, const Variant& winner);
  Status PutReplacement(const RecordId& id, uint32_t node, const SealedChunk& sealed);

  IngestContext& ctx_;
  const WriterId writer_;

  // Guarded by ctx_.monitor. Stored chunks are kept in two generations: when the young one is
  // full, the old one is forgotten, so that memory is bounded; what is met again is asked again.
  absl::flat_hash_map<RecordId, std::unique_ptr<PendingChunk>> pending_;
  absl::flat_hash_map<RecordId, Remembered> young_, old_;
  uint64_t remembered_version_ = 0;  // Of the map by which those were stored.
  std::deque<PendingChunk*> disputes_;
  std::vector<PendingChunk*> stalled_;
  int64_t retry_nanos_ = 0;  // When they are next sent again.
  struct NodeHealth {
    uint32_t failed_pins = 0, failed_puts = 0;  // Requests, in a row.
  };
  absl::flat_hash_map<uint32_t, NodeHealth> nodes_;
};

}  // namespace holdfast
