#include "common/cluster/cluster_map.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "common/base/coding.h"
#include "common/crypto/check.h"
#include "common/crypto/hmac.h"

namespace holdfast {
namespace {

constexpr std::string_view kMagic = "HFMap";
constexpr uint8_t kVersion = 1;
constexpr size_t kMinNodeSize = 4 + 16 + 8 + 4;

// Placement must come out the same on every machine, so nothing below is floating point but the
// one exact step from a weight to its fixed-point form.
constexpr double kMaxWeight = 4294967296.0;
constexpr double kWeightUnit = 65536.0;
using Wide = unsigned __int128;

bool WeightIsValid(double weight) { return weight >= 0 && weight <= kMaxWeight; }

uint64_t FixedWeight(double weight) {
  return WeightIsValid(weight) ? static_cast<uint64_t>(weight * kWeightUnit) : 0;
}

// -log2(u / 2^64) in units of 2^-32, rounded up, for u > 0: the integer part by the leading zeros,
// each further bit by squaring the mantissa.
uint64_t NegativeLog2(uint64_t u) {
  const int zeros = std::countl_zero(u);
  uint64_t mantissa = u << zeros;  // In [2^63, 2^64): 1.xxx in units of 2^-63.
  uint64_t log = 0;                // log2 of it, in units of 2^-32.
  for (int bit = 31; bit >= 0; --bit) {
    const Wide square = Wide{mantissa} * mantissa;
    if (square >> 127) {
      log |= uint64_t{1} << bit;
      mantissa = static_cast<uint64_t>(square >> 64);
    } else {
      mantissa = static_cast<uint64_t>(square >> 63);
    }
  }
  return (static_cast<uint64_t>(zeros + 1) << 32) - log;
}

// Weighted rendezvous: the node with the highest weight / -ln u comes first. The base of the
// logarithm does not change the order.
struct Candidate {
  const MapNode* node;
  uint64_t weight;
  uint64_t log;  // -log2 u; never zero.
};

bool Better(const Candidate& a, const Candidate& b) {
  const Wide left = Wide{a.weight} * b.log, right = Wide{b.weight} * a.log;
  if (left != right) return left > right;
  return a.node->id < b.node->id;
}

std::vector<Candidate> RankNodes(const std::vector<MapNode>& nodes, uint32_t pg) {
  Buffer number;
  Writer(number).U32(pg);
  std::vector<Candidate> candidates;
  for (const MapNode& node : nodes) {
    const uint64_t weight = FixedWeight(node.weight);
    if (weight == 0) continue;
    const Hash256 hash = Sha256({AsBytes("holdfast/1 placement"), node.id.bytes(), number});
    const uint64_t u = Reader(hash).U64();
    candidates.push_back({&node, weight, NegativeLog2(std::max<uint64_t>(u, 1))});
  }
  std::sort(candidates.begin(), candidates.end(), Better);
  return candidates;
}

// Leading components that two failure domains share. Two nodes of one and the same domain share
// more than any two domains do.
int SharedDepth(std::string_view a, std::string_view b) {
  if (a == b) return INT32_MAX;
  if (a.size() > b.size()) std::swap(a, b);
  int depth = 0;
  size_t i = 0;
  for (; i < a.size() && a[i] == b[i]; ++i) depth += a[i] == '/';
  return i == a.size() && b[i] == '/' ? depth + 1 : depth;
}

// Takes, again and again, the best-ranked node among those that share the least with what was
// taken before: other sites first, then other racks, hosts, disks.
std::vector<uint32_t> Choose(std::vector<Candidate> ranked, uint32_t replicas) {
  std::vector<uint32_t> chosen;
  std::vector<int> shared(ranked.size(), 0);
  while (chosen.size() < replicas && !ranked.empty()) {
    const size_t best = std::min_element(shared.begin(), shared.end()) - shared.begin();
    const MapNode* node = ranked[best].node;
    chosen.push_back(node->number);
    ranked.erase(ranked.begin() + best);
    shared.erase(shared.begin() + best);
    for (size_t i = 0; i < ranked.size(); ++i) {
      shared[i] =
          std::max(shared[i], SharedDepth(ranked[i].node->failure_domain, node->failure_domain));
    }
  }
  return chosen;
}

bool ReadNodes(Reader& reader, std::vector<MapNode>& nodes) {
  const uint32_t count = reader.U32();
  if (!reader.ok() || count > reader.rest().size() / kMinNodeSize) return false;
  nodes.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    MapNode& node = nodes[i];
    node.number = reader.U32();
    node.id = reader.Id<NodeId>();
    node.weight = std::bit_cast<double>(reader.U64());
    node.failure_domain = reader.String();
    if (node.number != i || !WeightIsValid(node.weight)) return false;
  }
  return reader.ok();
}

bool ReadPlacement(Reader& reader, size_t node_count,
                   std::vector<std::vector<uint32_t>>& placement) {
  const uint32_t count = reader.U32();
  if (!reader.ok() || (count != kPlacementGroups && count != 0)) return false;
  placement.resize(count);
  for (std::vector<uint32_t>& nodes : placement) {
    const uint32_t size = reader.U32();
    if (!reader.ok() || size > reader.rest().size() / 4) return false;
    for (uint32_t i = 0; i < size; ++i) {
      const uint32_t number = reader.U32();
      const bool twice = std::find(nodes.begin(), nodes.end(), number) != nodes.end();
      if (number >= node_count || twice) return false;
      nodes.push_back(number);
    }
  }
  return reader.ok();
}

}  // namespace

void ComputePlacement(ClusterMap& map) {
  map.placement.resize(kPlacementGroups);
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
    map.placement[pg] = Choose(RankNodes(map.nodes, pg), map.replicas);
  }
}

std::string EncodeClusterMap(const ClusterMap& map) {
  Buffer buffer;
  Writer writer(buffer);
  writer.Raw(AsBytes(kMagic));
  writer.U8(kVersion);
  writer.U64(map.version);
  writer.U32(map.replicas);
  writer.U32(static_cast<uint32_t>(map.nodes.size()));
  for (const MapNode& node : map.nodes) {
    writer.U32(node.number);
    writer.Id(node.id);
    writer.U64(std::bit_cast<uint64_t>(node.weight));
    writer.Blob(node.failure_domain);
  }
  writer.U32(static_cast<uint32_t>(map.placement.size()));
  for (const std::vector<uint32_t>& nodes : map.placement) {
    writer.U32(static_cast<uint32_t>(nodes.size()));
    for (const uint32_t number : nodes) writer.U32(number);
  }
  writer.U32(Crc32c(buffer));
  return ToString(buffer);
}

StatusOr<ClusterMap> DecodeClusterMap(std::string_view text) {
  constexpr std::string_view kWhat = "cluster map";
  const Bytes bytes = AsBytes(text);
  if (bytes.size() < kMagic.size() + 1 + 4) return Damaged(kWhat, "it is cut short");
  const Bytes covered = bytes.first(bytes.size() - 4);
  if (Reader(bytes.last(4)).U32() != Crc32c(covered)) {
    return Damaged(kWhat, "its checksum does not match");
  }
  Reader reader(covered);
  if (AsView(reader.Raw(kMagic.size())) != kMagic) return Damaged(kWhat, "it has no magic");
  const uint8_t version = reader.U8();
  if (version != kVersion) return UnknownVersion(kWhat, version, kVersion);
  ClusterMap map;
  map.version = reader.U64();
  map.replicas = reader.U32();
  if (!ReadNodes(reader, map.nodes) || !ReadPlacement(reader, map.nodes.size(), map.placement) ||
      !reader.done()) {
    return Damaged(kWhat, "it is malformed");
  }
  return map;
}

std::string NodeAddress(uint32_t number) { return "node/" + std::to_string(number); }

}  // namespace holdfast
