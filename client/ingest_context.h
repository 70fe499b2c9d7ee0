// What the parts of one ingest share: the vault, one lock with its waits, counts, and how it stops.
//
//   SourceFeed → IngestWorker (one per thread) → ChunkStore → Committer → observer
//
// All state that parts share is guarded by the one monitor. Handlers of replies take it themselves;
// no part calls the transport with it held.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "client/ingest.h"

namespace holdfast {

// One object on its way from the source to its commit. Owned by its `waits`: whoever drops the
// last one hands it to the committer (IngestContext::Drop).
struct IngestObject {
  SourceEntry entry;
  uint64_t size = 0;  // Content bytes read.
  AeadKey object_key{};
  ClearManifest clear;  // Complete once read, but for stored lengths and parts.
  std::vector<SealedChunkInfo> sealed_chunks;

  // Guarded by the monitor, with clear.chunks.
  uint32_t waits = 1;                 // The worker that reads it, and each chunk not decided yet.
  uint32_t new_chunks = 0;            // Not stored before this object.
  bool put = false;                   // A chunk of it was put in this session, or may be yet.
  VersionId unchanged;                // The version that has the same content, or zero.
  VersionId short_version;            // Of the same content, but not whole on the nodes; or zero.
  uint64_t map_version = UINT64_MAX;  // The oldest by which one of its chunks was acknowledged.
  Status status;
};

// The head of a reply, or what went wrong instead.
template <class Proto>
StatusOr<Proto> ReplyHead(const StatusOr<RpcMessage>& reply) {
  if (!reply.ok()) return reply.status();
  return ParseHead<Proto>(*reply);
}

class IngestContext {
 public:
  IngestContext(Vault& vault, kernels::Engine& engine, const IngestOptions& options,
                IngestProgress& progress);

  Vault& vault;
  kernels::Engine& engine;
  const IngestOptions& options;
  IngestProgress& progress;
  const std::shared_ptr<Monitor> monitor;
  // Set before the first worker starts.
  SessionId session;
  uint64_t epoch = 0;
  uint64_t generation = 0;  // Of the catalogue that the session is in.
  // Never null, never changed, but replaced: read with the monitor held.
  std::shared_ptr<const ClusterMap> map;

  bool inline_mode() const { return options.threads < 0; }
  // Whether chunks go to other processes. For a vault without nodes either answer will do.
  bool nodes_elsewhere() const {
    MonitorLock lock(*monitor);
    return !map->nodes.empty() && !map->nodes[0].endpoint.empty();
  }
  size_t max_open_objects() const { return std::max<size_t>(2 * options.commit_objects, 8192); }

  // Opens the session, or tells the coordinator that it is still wanted; takes the map of now.
  Status OpenSession();
  void RenewSession();

  // Sends a request, again while the answer is kUnavailable (every request of an ingest may be
  // repeated): a few times to a node, to the coordinator as long as options.wait_nanos allow.
  // `done` runs once, without the monitor.
  void Call(const std::string& address, RpcMessage request, ReplyFn done);
  // The same, waiting for the reply.
  StatusOr<RpcMessage> CallAndWait(const std::string& address, const RpcMessage& request);
  // Waits; called with the monitor held. In inline mode the committer's work is done meanwhile.
  void Await(const std::function<bool()>& condition);

  // Entries taken from the source and not reported yet; comes down only with the monitor held.
  std::atomic<size_t> open_objects{0};
  // Long files that workers have under way.
  std::atomic<size_t> open_streams{0};

  // The rest with the monitor held.
  // Nothing more can be stored: workers stop, what is acknowledged stays. The first one counts.
  void Fail(const Status& status);
  bool failed() const { return !vault_error.ok(); }
  // Drops one wait of `object`; with the last one it goes to `finished`.
  void Drop(IngestObject* object);

  IngestSummary summary;
  Status vault_error;
  size_t calls = 0;              // Without a reply.
  uint64_t bytes_in_flight = 0;  // Sealed, sent, unanswered.
  // Set by the committer: takes over an object that is read and whose chunks are decided.
  std::function<void(std::unique_ptr<IngestObject>)> finished;
  // Set by the committer when it has a thread: for what is tried again later, and who is told.
  Loop* timer = nullptr;
  std::function<void(const Status& why)> waiting;
  // Inline mode: the committer has something to do, and does it in `pump`.
  bool pump_wanted = false;
  std::function<void()> pump;

 private:
  struct Attempt;
  RpcMessage SessionRequest() const;
  Status TakeSession(const StatusOr<RpcMessage>& reply);
  void Send(const std::shared_ptr<Attempt>& attempt);
  void SendLater(const std::shared_ptr<Attempt>& attempt, const Status& why);
};

}  // namespace holdfast
