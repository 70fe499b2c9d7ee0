#include "common/cluster/plan_placement.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "common/cluster/fair_shares.h"
#include "common/cluster/rendezvous.h"
#include "common/cluster/spread.h"

// How: every set keeps what it may (Keep), is filled up to R by rendezvous from nodes below their
// share (Fill), and then replicas go from nodes above their share to nodes below it (Balance), by
// the cheapest chain of swaps a -> b -> c, each swap in a set of its own choice: where a set that
// holds `a` has no place for `c`, one may have it for `b`, and another one of b's for `c`.
//
// Why that is optimal: what a set keeps is worth Value to it, Keep and Fill make every set as
// valuable as it can be, and a chain of least loss, then of fewest swaps, leaves the plan the most
// valuable one for its loads (successive shortest paths, over sums of matroid bases). The shares
// are possible loads, so there is a chain until they are reached.

namespace holdfast {
namespace {

using Sets = std::vector<std::vector<uint32_t>>;

// What keeping a node is worth to a set. To hold already counts most, for it costs no copy; to be
// a target comes next, for part of that copy may be done; and of two nodes to keep, the one that
// was to go goes, so that planning again while groups migrate gives the same plan.
constexpr uint8_t kActingValue = 3, kTargetValue = 1;
constexpr int kMaxValue = kActingValue + kTargetValue;
constexpr size_t kLosses = 2 * kMaxValue + 1;  // -kMaxValue … kMaxValue

constexpr uint32_t kNoNode = UINT32_MAX;

std::vector<const MapNode*> EligibleNodes(const ClusterMap& map) {
  std::vector<const MapNode*> nodes;
  for (const MapNode& node : map.nodes) {
    if (IsEligible(map, node)) nodes.push_back(&node);
  }
  std::sort(nodes.begin(), nodes.end(),
            [](const MapNode* a, const MapNode* b) { return a->id < b->id; });
  return nodes;
}

Spread SpreadOf(const std::vector<const MapNode*>& nodes, uint32_t replicas) {
  std::vector<std::string_view> domains;
  domains.reserve(nodes.size());
  for (const MapNode* node : nodes) domains.push_back(node->failure_domain);
  return MakeSpread(domains, replicas);
}

// Nodes are indices into the eligible nodes in order of uuid. Tables with a row of all groups for
// each node are vectors of rows, because what is scanned is a node's row.
class Planner {
 public:
  explicit Planner(const ClusterMap& map)
      : map_(map),
        nodes_(EligibleNodes(map)),
        spread_(SpreadOf(nodes_, map.replicas)),
        sets_(kPlacementGroups),
        load_(nodes_.size()),
        holds_(nodes_.size(), std::vector<uint8_t>(kPlacementGroups)),
        value_(nodes_.size(), std::vector<uint8_t>(kPlacementGroups)),
        log_(nodes_.size(), std::vector<uint64_t>(kPlacementGroups)),
        swaps_(nodes_.size() * nodes_.size()) {
    for (const MapNode* node : nodes_) weights_.push_back(FixedWeight(node->weight));
  }

  Sets Plan() {
    SetValues();
    for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) Keep(pg);
    share_ = FairShares(spread_, weights_, load_);
    for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) Fill(pg);
    Balance();
    Sets plan;
    for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) plan.push_back(Numbers(pg));
    return plan;
  }

 private:
  // Swaps of one node for another that some set allows: how many sets, by what they lose.
  using SwapCounts = std::array<uint16_t, kLosses>;
  // A path of swaps from an overloaded node to an underloaded one, and what each of them loses.
  struct Chain {
    std::vector<uint32_t> nodes;
    std::vector<int> losses;
  };

  int Loss(uint32_t pg, uint32_t from, uint32_t to) const {
    return value_[from][pg] - value_[to][pg];
  }
  SwapCounts& Swaps(uint32_t from, uint32_t to) { return swaps_[from * nodes_.size() + to]; }
  bool Over(uint32_t node) const { return load_[node] > share_[node]; }
  bool Under(uint32_t node) const { return load_[node] < share_[node]; }

  Candidate CandidateOf(uint32_t pg, uint32_t node) {
    uint64_t& log = log_[node][pg];
    if (log == 0) log = RendezvousLog(nodes_[node]->id, pg);
    return {nodes_[node], weights_[node], log};
  }

  void SetValues() {
    std::vector<uint32_t> index;  // By node number.
    for (uint32_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i]->number >= index.size()) index.resize(nodes_[i]->number + 1, kNoNode);
      index[nodes_[i]->number] = i;
    }
    const auto add = [&](uint32_t pg, uint32_t number, uint8_t value) {
      if (number < index.size() && index[number] != kNoNode) value_[index[number]][pg] += value;
    };
    for (uint32_t pg = 0; pg < map_.placement.size(); ++pg) {
      const std::vector<uint32_t>& acting = map_.placement[pg];
      for (const uint32_t number : acting) add(pg, number, kActingValue);
      for (const uint32_t number : Migrating(map_, pg) ? map_.target[pg] : acting) {
        add(pg, number, kTargetValue);
      }
    }
  }

  void Add(uint32_t pg, uint32_t node) {
    sets_[pg].push_back(node);
    holds_[node][pg] = 1;
    ++load_[node];
  }

  // The most valuable part of the set that is well spread.
  void Keep(uint32_t pg) {
    for (int value = kMaxValue; value > 0; --value) {
      for (uint32_t node = 0; node < nodes_.size(); ++node) {
        if (value_[node][pg] == value && spread_.Takes(sets_[pg], node)) Add(pg, node);
      }
    }
  }

  // Adds, of the nodes that it may, those below their share first, and of these the best ranked.
  void Fill(uint32_t pg) {
    while (sets_[pg].size() < spread_.replicas) {
      std::optional<Candidate> best;
      uint32_t best_node = kNoNode;
      for (uint32_t node = 0; node < nodes_.size(); ++node) {
        if (!spread_.Takes(sets_[pg], node)) continue;
        if (best && Under(best_node) && !Under(node)) continue;
        const Candidate candidate = CandidateOf(pg, node);
        if (!best || (Under(node) && !Under(best_node)) || Better(candidate, *best)) {
          best = candidate;
          best_node = node;
        }
      }
      Add(pg, best_node);
    }
  }

  // Counts the swaps that the set allows, or takes them back.
  void CountSwaps(uint32_t pg, uint16_t by) {
    for (const uint32_t from : sets_[pg]) {
      for (uint32_t to = 0; to < nodes_.size(); ++to) {
        if (spread_.Swaps(sets_[pg], from, to)) {
          Swaps(from, to)[Loss(pg, from, to) + kMaxValue] += by;
        }
      }
    }
  }

  void Balance() {
    for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) CountSwaps(pg, 1);
    // Every chain ends with the loads nearer to the shares; the bound is for the day that it does
    // not, when a plan that is less balanced is better than none.
    for (uint32_t i = 0; i < kPlacementGroups * spread_.replicas; ++i) {
      const std::optional<Chain> chain = CheapestChain();
      if (!chain) break;
      // The cheapest chain stays the cheapest for as long as it can be had.
      while (Over(chain->nodes.front()) && Under(chain->nodes.back()) && IsThere(*chain)) {
        if (!Apply(*chain)) break;
      }
    }
  }

  // Bellman-Ford from all overloaded nodes: least loss, then fewest swaps, then order of uuids.
  std::optional<Chain> CheapestChain() {
    const uint32_t n = static_cast<uint32_t>(nodes_.size());
    constexpr int64_t kFar = std::numeric_limits<int64_t>::max();
    std::vector<int64_t> distance(n, kFar);
    std::vector<uint32_t> before(n, kNoNode);
    for (uint32_t node = 0; node < n; ++node) {
      if (Over(node)) distance[node] = 0;
    }
    bool changed = true;
    for (uint32_t round = 0; changed && round < n; ++round) {
      changed = false;
      for (uint32_t from = 0; from < n; ++from) {
        if (distance[from] == kFar) continue;
        for (uint32_t to = 0; to < n; ++to) {
          const std::optional<int> loss = LeastLoss(from, to);
          if (!loss) continue;
          const int64_t through = distance[from] + int64_t{*loss} * (n + 1) + 1;
          if (through >= distance[to]) continue;
          distance[to] = through;
          before[to] = from;
          changed = true;
        }
      }
    }
    uint32_t end = kNoNode;
    for (uint32_t node = 0; node < n; ++node) {
      if (!Under(node) || distance[node] == kFar) continue;
      if (end == kNoNode || distance[node] < distance[end]) end = node;
    }
    if (changed || end == kNoNode) return std::nullopt;
    return ChainTo(end, before);
  }

  std::optional<int> LeastLoss(uint32_t from, uint32_t to) {
    const SwapCounts& counts = Swaps(from, to);
    for (size_t i = 0; i < kLosses; ++i) {
      if (counts[i] > 0) return static_cast<int>(i) - kMaxValue;
    }
    return std::nullopt;
  }

  Chain ChainTo(uint32_t end, const std::vector<uint32_t>& before) {
    Chain chain;
    for (uint32_t node = end; node != kNoNode; node = before[node]) chain.nodes.push_back(node);
    std::reverse(chain.nodes.begin(), chain.nodes.end());
    for (size_t i = 1; i < chain.nodes.size(); ++i) {
      chain.losses.push_back(*LeastLoss(chain.nodes[i - 1], chain.nodes[i]));
    }
    return chain;
  }

  bool IsThere(const Chain& chain) {
    for (size_t i = 0; i < chain.losses.size(); ++i) {
      if (Swaps(chain.nodes[i], chain.nodes[i + 1])[chain.losses[i] + kMaxValue] == 0) return false;
    }
    return true;
  }

  bool Apply(const Chain& chain) {
    for (size_t i = 0; i < chain.losses.size(); ++i) {
      if (!Swap(chain.nodes[i], chain.nodes[i + 1], chain.losses[i])) return false;
    }
    return true;
  }

  // Of the sets that allow the swap at this loss, the one in which the new node ranks best.
  bool Swap(uint32_t from, uint32_t to, int loss) {
    if (Swaps(from, to)[loss + kMaxValue] == 0) return false;
    std::optional<Candidate> best;
    uint32_t best_pg = 0;
    for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
      if (!holds_[from][pg] || holds_[to][pg] || Loss(pg, from, to) != loss) continue;
      if (!spread_.Swaps(sets_[pg], from, to)) continue;
      const Candidate candidate = CandidateOf(pg, to);
      if (best && candidate.log >= best->log) continue;
      best = candidate;
      best_pg = pg;
    }
    CountSwaps(best_pg, static_cast<uint16_t>(-1));
    std::replace(sets_[best_pg].begin(), sets_[best_pg].end(), from, to);
    holds_[from][best_pg] = 0;
    holds_[to][best_pg] = 1;
    --load_[from];
    ++load_[to];
    CountSwaps(best_pg, 1);
    return true;
  }

  std::vector<uint32_t> Numbers(uint32_t pg) {
    std::vector<uint32_t>& set = sets_[pg];
    std::sort(set.begin(), set.end(), [&](uint32_t a, uint32_t b) {
      return Better(CandidateOf(pg, a), CandidateOf(pg, b));
    });
    std::vector<uint32_t> numbers;
    numbers.reserve(set.size());
    for (const uint32_t node : set) numbers.push_back(nodes_[node]->number);
    if (pg >= map_.placement.size()) return numbers;
    const std::vector<uint32_t>& acting = map_.placement[pg];
    const bool same =
        std::is_permutation(numbers.begin(), numbers.end(), acting.begin(), acting.end());
    return same ? acting : numbers;
  }

  const ClusterMap& map_;
  const std::vector<const MapNode*> nodes_;
  const Spread spread_;
  std::vector<uint64_t> weights_;
  Sets sets_;                           // Per PG.
  std::vector<uint32_t> load_, share_;  // Per node: sets that hold it, and that should.
  std::vector<std::vector<uint8_t>> holds_, value_;
  std::vector<std::vector<uint64_t>> log_;  // RendezvousLog; 0 where it was not needed yet.
  std::vector<SwapCounts> swaps_;
};

}  // namespace

std::vector<std::vector<uint32_t>> PlanPlacement(const ClusterMap& map) {
  return Planner(map).Plan();
}

uint64_t MovedReplicas(const std::vector<std::vector<uint32_t>>& from,
                       const std::vector<std::vector<uint32_t>>& to) {
  uint64_t moved = 0;
  for (size_t pg = 0; pg < to.size(); ++pg) {
    for (const uint32_t node : to[pg]) {
      moved +=
          pg >= from.size() || std::find(from[pg].begin(), from[pg].end(), node) == from[pg].end();
    }
  }
  return moved;
}

}  // namespace holdfast
