// The storage node: a log of records in segments, and an index over it that can be rebuilt.
//
// All methods but Open run on the node's Loop. Blocking disk writes go to `io`; index updates and
// replies come back on the Loop. Rules (DESIGN 6), by number, as the code cites them:
//   N1  An answer PRESENT is given only after the record and its touch are durable (fdatasync ok).
//   N2  Order: append → fdatasync → index put → answer. The worst crash leaves an orphan record.
//   N3  Blocks are written once. A segment recovered uncleanly is sealed, never appended to.
//   N4  A bad record above the highest synced lsn is torn and dropped, with a note; at or below it
//       is corruption: kept, reported, never truncated.
//   N5  A failed fdatasync is never retried: the segment is suspect, its batch fails.
//   N6  First write wins; touch only grows.
// Idempotent: every request may come twice.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/loop.h"
#include "common/format/segment_format.h"
#include "common/io/fs.h"
#include "common/kv/kv.h"
#include "common/proto/holdfast.pb.h"
#include "common/rpc/transport.h"

namespace holdfast {

struct NodeOptions {
  std::string dir;  // Holds "superblock", "segments/", and by default "index/".
  VaultId vault;
  NodeId node;
  uint32_t node_number = 0;
  uint64_t segment_bytes = 256u << 20;    // A new segment begins when this is reached.
  uint64_t batch_bytes = 8u << 20;        // Group commit: write when this much waits …
  int64_t batch_delay_nanos = 5'000'000;  // … or the oldest has waited this long.
  int64_t idle_sync_nanos = 100'000'000;  // Superblock update when no batch follows.
  double read_only_fraction = 0.95;       // Of the file system; chunks are refused above it.
  uint64_t allocate_bytes = 64u << 20;    // Segments are preallocated in steps of this.
  uint64_t index_flush_bytes =
      1u << 30;  // The index is flushed after this much log: bounds replay.
  uint64_t copy_bytes_per_second = 100u << 20;  // From other nodes, while clients are served.
  bool keeps_digests = true;                    // Of its groups, by which repair compares nodes.
  int64_t verify_within_nanos = 30LL * 86400 * 1'000'000'000;  // A pin reads what is unread longer.
};

// What the node runs on. All outlive it. `open_index(create)` opens the index Kv (no WAL);
// kNotFound when there is none, any other error: the index is wiped with `wipe_index` and rebuilt.
struct NodeEnv {
  Fs& fs;
  Clock& clock;
  Rng& rng;
  Loop& loop;
  Executor& io;
  std::function<StatusOr<std::unique_ptr<Kv>>(bool create)> open_index;
  std::function<Status()> wipe_index;
  Transport* transport = nullptr;  // To other nodes, to copy records from.
};

class Node : public Service {
 public:
  // Makes an empty node in options.dir (which exists and is empty, or does not exist).
  static Status Format(const NodeOptions& options, Fs& fs, Rng& rng);
  // Recovers. kNotFound: nothing there; kDataLoss: superblock damaged in both slots;
  // kPermissionDenied: it belongs to another vault or node (foreign disk), named.
  // Damage inside segments does not fail Open: it is in findings() and answers.
  static StatusOr<std::unique_ptr<Node>> Open(const NodeOptions& options, const NodeEnv& env);
  // Waits for nothing: call Close on the Loop first for a clean shutdown. On the Loop, or on any
  // thread once Close's `done` has run.
  ~Node() override;

  // On the Loop. The placement groups of which principals may bring chunks, one per group; all,
  // until it is said.
  void SetGroups(std::vector<bool> held);
  void Handle(RpcMessage request, ReplyFn reply) override;
  // Writes what waits, gives preallocated space back, updates the superblock, flushes the index;
  // then calls `done`. Later requests are answered kUnavailable.
  void Close(std::function<void(Status)> done);
  // What recovery found.
  const std::vector<proto::Finding>& findings() const;

 private:
  class Impl;
  explicit Node(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;  // Shared with tasks on their way.
};

}  // namespace holdfast
