// What the nodes say about themselves, and whether they know of commits the catalogue lacks (C3).
//
// A commit that was acknowledged has its record on W nodes. So when fewer than W nodes are away,
// those that answer hold a copy of every record's number between them, and a catalogue that is not
// behind them is not behind at all: it is "proved". With more away it may be read, but no commit is
// made, since its number could be in use already.
#pragma once

#include <vector>

#include "coordinator/catalogue.h"
#include "coordinator/node_client.h"

namespace holdfast {

struct Census {
  // By node number; of one that was removed for good, nothing and ok.
  std::vector<StatusOr<proto::NodeStatusReply>> nodes;

  size_t away_count() const;
  // "node 1: nobody answers there; node 3: …"
  std::string away_text() const;
  // (A node that is out for long has copies of what it held made elsewhere: when all others answer,
  // that is enough.)
  bool proves(const ClusterMap& map) const;
  uint64_t highest_commit() const;
  uint64_t highest_generation() const;
  // E of a catalogue whose own is `epoch`, so that no node refuses its sessions.
  uint64_t lifted(uint64_t epoch) const;
};

// Whether a number that only grows, by one at a time, can have come so far: one that cannot is a
// lie, or damage, and would leave no room above it.
constexpr bool IsPossible(uint64_t count) { return count < uint64_t{1} << 62; }

// `epoch`, or a node's horizon where that is higher, by no more than there may have been runs of
// garbage collection that the catalogue has forgotten.
uint64_t Lifted(uint64_t epoch, uint64_t horizon);

std::vector<uint32_t> NodesToAsk(const ClusterMap& map);
std::vector<NodeCall> CensusCalls(const std::vector<uint32_t>& asked);
Census ReadCensus(const std::vector<uint32_t>& asked, const NodeReplies& replies);
// How often a node is asked that does not answer, until it counts as away.
inline constexpr int kCensusAttempts = 3;

// Off the Loop.
Census TakeCensus(NodeClient& nodes, int64_t timeout_nanos);

// C3. kDataLoss when some node is ahead of `head`.
Status CheckNotBehind(const Head& head, const Census& census);

}  // namespace holdfast
