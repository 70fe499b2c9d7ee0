#include "common/cluster/fair_shares.h"

#include <algorithm>
#include <numeric>

#include "common/cluster/cluster_map.h"
#include "common/cluster/rendezvous.h"

namespace holdfast {
namespace {

// One node, or a cell or group of nodes, that takes its weight's part of a number of replicas.
struct Part {
  Wide weight = 0;
  uint32_t held = 0;
};

// Splits `total`, of which `weight` parts were `whole` before rounding: each part gets
// whole * part.weight / weight, rounded down or up so that they add up to `total`. Up go first
// those that hold more than the floor, then those with the largest rest, then in order.
std::vector<uint32_t> Split(uint32_t total, uint64_t whole, Wide weight,
                            const std::vector<Part>& parts) {
  std::vector<uint32_t> shares;
  std::vector<Wide> rests;
  for (const Part& part : parts) {
    const Wide product = whole * part.weight;
    shares.push_back(static_cast<uint32_t>(product / weight));
    rests.push_back(product % weight);
    total -= shares.back();
  }
  std::vector<uint32_t> order(parts.size());
  std::iota(order.begin(), order.end(), 0);
  const auto rank = [&](uint32_t i) {
    return std::pair(rests[i] != 0 && parts[i].held > shares[i], rests[i]);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return rank(a) > rank(b); });
  for (uint32_t i = 0; i < total; ++i) ++shares[order[i]];
  return shares;
}

// The nodes as a tree of two levels, and the answer as it forms.
class Shares {
 public:
  Shares(const Spread& spread, const std::vector<uint64_t>& weights,
         const std::vector<uint32_t>& held)
      : spread_(spread),
        groups_(spread.groups),
        cells_(spread.cells),
        cells_of_group_(spread.groups),
        nodes_of_cell_(spread.cells),
        shares_(weights.size()) {
    for (uint32_t n = 0; n < weights.size(); ++n) {
      nodes_.push_back({weights[n], held[n]});
      const uint32_t c = spread.cell_of[n], g = spread.group_of[n];
      if (nodes_of_cell_[c].empty()) cells_of_group_[g].push_back(c);
      nodes_of_cell_[c].push_back(n);
      Add(cells_[c], nodes_[n]);
      Add(groups_[g], nodes_[n]);
    }
  }

  std::vector<uint32_t> Compute() {
    const Wide full = FullWeight();
    std::vector<uint32_t> free_groups;
    uint32_t replicas = spread_.replicas;  // For the free cells, of each PG.
    for (uint32_t g = 0; g < groups_.size(); ++g) {
      if (spread_.groups == spread_.replicas || groups_[g].weight < full) {
        --replicas;
        ShareGroup(g);
        continue;
      }
      free_groups.push_back(g);
      replicas -= CapCells(g, full);
    }
    ShareFree(free_groups, replicas);
    return shares_;
  }

 private:
  static void Add(Part& sum, const Part& part) {
    sum.weight += part.weight;
    sum.held += part.held;
  }

  // The replicas per PG that all would get if the weight `full` were what holds every PG once,
  // in units of full: falls as `full` grows.
  Wide Demand(Wide full) const {
    Wide demand = 0;
    for (const std::vector<uint32_t>& cells : cells_of_group_) {
      Wide sum = 0;
      for (const uint32_t c : cells) sum += std::min(full, cells_[c].weight);
      demand += std::max(full, sum);
    }
    return demand;
  }

  // The least weight of a cell or group at which the demand is no more than there are replicas.
  // Between this and the next smaller one lies the true value, and no cell or group.
  Wide FullWeight() const {
    std::vector<Wide> steps;
    for (const Part& cell : cells_) steps.push_back(cell.weight);
    for (const Part& group : groups_) steps.push_back(group.weight);
    std::sort(steps.begin(), steps.end());
    return *std::partition_point(steps.begin(), steps.end(),
                                 [&](Wide full) { return Demand(full) > full * spread_.replicas; });
  }

  std::vector<Part> PartsOf(const std::vector<uint32_t>& which, const std::vector<Part>& all) {
    std::vector<Part> parts;
    parts.reserve(which.size());
    for (const uint32_t i : which) parts.push_back(all[i]);
    return parts;
  }

  void ShareNodes(const std::vector<uint32_t>& nodes, uint32_t total, uint64_t whole, Wide weight) {
    const std::vector<uint32_t> shares = Split(total, whole, weight, PartsOf(nodes, nodes_));
    for (size_t i = 0; i < nodes.size(); ++i) shares_[nodes[i]] = shares[i];
  }

  // Every PG once in the group, by weight.
  void ShareGroup(uint32_t g) {
    std::vector<uint32_t> nodes;
    for (const uint32_t c : cells_of_group_[g]) {
      nodes.insert(nodes.end(), nodes_of_cell_[c].begin(), nodes_of_cell_[c].end());
    }
    ShareNodes(nodes, kPlacementGroups, kPlacementGroups, groups_[g].weight);
  }

  // Every PG once in each cell that is heavy enough; the group keeps the others. Their number.
  uint32_t CapCells(uint32_t g, Wide full) {
    std::vector<uint32_t>& cells = cells_of_group_[g];
    const auto capped = std::stable_partition(cells.begin(), cells.end(),
                                              [&](uint32_t c) { return cells_[c].weight < full; });
    for (auto c = capped; c != cells.end(); ++c) {
      ShareNodes(nodes_of_cell_[*c], kPlacementGroups, kPlacementGroups, cells_[*c].weight);
    }
    const uint32_t count = static_cast<uint32_t>(cells.end() - capped);
    cells.erase(capped, cells.end());
    return count;
  }

  // `replicas` of every PG among the cells left in these groups, by weight: by group, then by
  // cell, then by node, so that the rounded loads too are ones that well spread sets can have.
  void ShareFree(const std::vector<uint32_t>& groups, uint32_t replicas) {
    std::vector<Part> parts;
    Wide weight = 0;
    for (const uint32_t g : groups) {
      Part& part = parts.emplace_back();
      for (const uint32_t c : cells_of_group_[g]) Add(part, cells_[c]);
      weight += part.weight;
    }
    if (weight == 0) return;
    const uint64_t whole = uint64_t{replicas} * kPlacementGroups;
    const std::vector<uint32_t> of_groups =
        Split(static_cast<uint32_t>(whole), whole, weight, parts);
    for (size_t i = 0; i < groups.size(); ++i) {
      const std::vector<uint32_t>& cells = cells_of_group_[groups[i]];
      const std::vector<uint32_t> of_cells =
          Split(of_groups[i], whole, weight, PartsOf(cells, cells_));
      for (size_t j = 0; j < cells.size(); ++j) {
        ShareNodes(nodes_of_cell_[cells[j]], of_cells[j], whole, weight);
      }
    }
  }

  const Spread& spread_;
  std::vector<Part> groups_, cells_, nodes_;
  std::vector<std::vector<uint32_t>> cells_of_group_, nodes_of_cell_;
  std::vector<uint32_t> shares_;
};

}  // namespace

std::vector<uint32_t> FairShares(const Spread& spread, const std::vector<uint64_t>& weights,
                                 const std::vector<uint32_t>& held) {
  if (weights.empty()) return {};
  return Shares(spread, weights, held).Compute();
}

}  // namespace holdfast
