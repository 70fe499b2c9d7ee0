// How well a set of nodes is spread over failure domains.
//
// A failure domain is a path, so nodes form a tree whose levels are all nodes, sites, racks, hosts,
// disks, and last each node by itself. At a level with D domains, a set of R nodes can touch
// min(R, D) of them; taking, again and again, a node that shares the least with those taken touches
// that many at every level at once. Such a set is well spread. Since D grows with the level, all
// comes down to two neighbouring levels:
//   groups   the deepest level with D <= R: the set touches every group;
//   cells    the level below it, with D > R: the set has at most one node of each cell.
// (With R nodes or fewer there is nothing to choose, and nodes are both.) Sets of this kind are the
// bases of a matroid: what a greedy choice by any order gives is best for that order, and loads
// that look possible group by group and cell by cell are possible.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace holdfast {

struct Spread {
  uint32_t replicas = 0;  // min(R, nodes)
  uint32_t groups = 0;
  uint32_t cells = 0;
  // Per node, in the order of the failure domains given.
  std::vector<uint32_t> group_of, cell_of;

  // Whether the set, spread so far, can take `node` and still become well spread.
  bool Takes(const std::vector<uint32_t>& set, uint32_t node) const;
  // Whether the well spread set stays so when `to` takes the place of its member `from`.
  bool Swaps(const std::vector<uint32_t>& set, uint32_t from, uint32_t to) const;
};

Spread MakeSpread(const std::vector<std::string_view>& failure_domains, uint32_t replicas);

}  // namespace holdfast
