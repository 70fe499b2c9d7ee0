// Weighted rendezvous hashing: the node with the highest weight / -ln u comes first, u in (0,1)
// from a hash of node and placement group (Wang & Ravishankar's weighted form; DESIGN 7). In
// integers, so that it comes out the same on every machine; docs/formats/placement.md.
#pragma once

#include <cstdint>

#include "common/base/ids.h"
#include "common/cluster/cluster_map.h"

namespace holdfast {

using Wide = unsigned __int128;

inline constexpr double kMaxWeight = 4294967296.0;
inline bool WeightIsValid(double weight) { return weight >= 0 && weight <= kMaxWeight; }
// In units of 2^-16, at most 2^48; 0, which takes nothing, for what is no weight.
uint64_t FixedWeight(double weight);

// -log2 u in units of 2^-32, never zero: the lower, the better the node fits the group.
uint64_t RendezvousLog(const NodeId& node, uint32_t pg);

struct Candidate {
  const MapNode* node;
  uint64_t weight;  // FixedWeight, not zero.
  uint64_t log;     // RendezvousLog.
};
// The order of candidates, best first; those that score the same by uuid.
bool Better(const Candidate& a, const Candidate& b);

}  // namespace holdfast
