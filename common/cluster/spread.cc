#include "common/cluster/spread.h"

#include <algorithm>
#include <numeric>

#include "absl/container/flat_hash_map.h"

namespace holdfast {
namespace {

uint32_t Components(std::string_view domain) {
  return static_cast<uint32_t>(1 + std::count(domain.begin(), domain.end(), '/'));
}

// The first `level` components, or all there are.
std::string_view Prefix(std::string_view domain, uint32_t level) {
  if (level == 0) return {};
  size_t end = domain.find('/');
  for (; level > 1 && end != domain.npos; --level) end = domain.find('/', end + 1);
  return domain.substr(0, end);
}

// Numbers the domains of a level as they come.
struct Level {
  uint32_t count = 0;
  std::vector<uint32_t> domain_of;
};

Level LevelOf(const std::vector<std::string_view>& domains, uint32_t level) {
  absl::flat_hash_map<std::string_view, uint32_t> numbers;
  Level out;
  for (const std::string_view domain : domains) {
    const auto [it, fresh] = numbers.try_emplace(Prefix(domain, level), out.count);
    out.count += fresh;
    out.domain_of.push_back(it->second);
  }
  return out;
}

Level EachNode(size_t count) {
  Level out;
  out.count = static_cast<uint32_t>(count);
  out.domain_of.resize(count);
  std::iota(out.domain_of.begin(), out.domain_of.end(), 0);
  return out;
}

}  // namespace

Spread MakeSpread(const std::vector<std::string_view>& failure_domains, uint32_t replicas) {
  Spread spread;
  spread.replicas = static_cast<uint32_t>(std::min<size_t>(replicas, failure_domains.size()));
  uint32_t depth = 0;
  for (const std::string_view domain : failure_domains) depth = std::max(depth, Components(domain));
  Level groups = LevelOf(failure_domains, 0), cells;
  for (uint32_t level = 1; level <= depth + 1; ++level) {
    cells = level <= depth ? LevelOf(failure_domains, level) : EachNode(failure_domains.size());
    if (cells.count > spread.replicas) break;
    groups = cells;
  }
  spread.groups = groups.count;
  spread.cells = cells.count;
  spread.group_of = std::move(groups.domain_of);
  spread.cell_of = std::move(cells.domain_of);
  return spread;
}

bool Spread::Takes(const std::vector<uint32_t>& set, uint32_t node) const {
  bool covered = false;  // The node's group.
  uint32_t touched = 0;  // Groups of the set.
  for (size_t i = 0; i < set.size(); ++i) {
    if (cell_of[set[i]] == cell_of[node]) return false;
    covered |= group_of[set[i]] == group_of[node];
    touched += std::none_of(set.begin(), set.begin() + i,
                            [&](uint32_t other) { return group_of[other] == group_of[set[i]]; });
  }
  // Room for a node of each group that is not yet touched.
  return set.size() + (groups - touched) + covered <= replicas;
}

bool Spread::Swaps(const std::vector<uint32_t>& set, uint32_t from, uint32_t to) const {
  bool covered = group_of[from] == group_of[to];
  for (const uint32_t node : set) {
    if (node == to || (node != from && cell_of[node] == cell_of[to])) return false;
    covered |= node != from && group_of[node] == group_of[from];
  }
  return covered;
}

}  // namespace holdfast
