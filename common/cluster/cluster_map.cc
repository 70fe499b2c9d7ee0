#include "common/cluster/cluster_map.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"
#include "common/base/mutant.h"
#include "common/base/text.h"
#include "common/cluster/rendezvous.h"
#include "common/crypto/check.h"

namespace holdfast {
namespace {

constexpr std::string_view kMagic = "HFMap";
constexpr uint8_t kVersion = 2;
constexpr uint32_t kClasses = 1;
constexpr size_t kMinBlobSize = 4;
constexpr size_t kMinNodeSize = 4 + 16 + 1 + 8 + 2 * kMinBlobSize + 32;

std::vector<Candidate> RankNodes(const ClusterMap& map, uint32_t pg) {
  std::vector<Candidate> candidates;
  for (const MapNode& node : map.nodes) {
    if (!IsEligible(map, node)) continue;
    candidates.push_back({&node, FixedWeight(node.weight), RendezvousLog(node.id, pg)});
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

void WriteNumbers(Writer& writer, const std::vector<uint32_t>& numbers) {
  writer.U32(static_cast<uint32_t>(numbers.size()));
  for (const uint32_t number : numbers) writer.U32(number);
}

void WriteNodes(Writer& writer, const std::vector<MapNode>& nodes) {
  writer.U32(static_cast<uint32_t>(nodes.size()));
  for (const MapNode& node : nodes) {
    writer.U32(node.number);
    writer.Id(node.id);
    writer.U8(static_cast<uint8_t>(node.state));
    writer.U64(std::bit_cast<uint64_t>(node.weight));
    writer.Blob(node.failure_domain);
    writer.Blob(node.endpoint);
    writer.Id(node.public_key);
  }
}

void WriteTargets(Writer& writer, const ClusterMap& map) {
  std::vector<uint32_t> migrating;
  for (uint32_t pg = 0; pg < map.placement.size(); ++pg) {
    if (Migrating(map, pg)) migrating.push_back(pg);
  }
  writer.U32(static_cast<uint32_t>(migrating.size()));
  for (const uint32_t pg : migrating) {
    writer.U32(pg);
    WriteNumbers(writer, map.target[pg]);
  }
}

bool ReadNode(Reader& reader, uint32_t number, MapNode& node) {
  node.number = reader.U32();
  node.id = reader.Id<NodeId>();
  node.state = static_cast<NodeState>(reader.U8());
  node.weight = std::bit_cast<double>(reader.U64());
  node.failure_domain = reader.String();
  node.endpoint = reader.String();
  node.public_key = reader.Id<CurvePublicKey>();
  return reader.ok() && node.number == number && node.state >= NodeState::kIn &&
         node.state <= NodeState::kRemoved && WeightIsValid(node.weight);
}

bool ReadNodes(Reader& reader, std::vector<MapNode>& nodes) {
  const uint32_t count = reader.U32();
  if (!reader.ok() || count > reader.rest().size() / kMinNodeSize) return false;
  nodes.resize(count);
  std::vector<NodeId> ids;
  for (uint32_t i = 0; i < count; ++i) {
    if (!ReadNode(reader, i, nodes[i])) return false;
    ids.push_back(nodes[i].id);
  }
  std::sort(ids.begin(), ids.end());
  return std::adjacent_find(ids.begin(), ids.end()) == ids.end();
}

bool ReadSites(Reader& reader, std::vector<std::string>& sites) {
  const uint32_t count = reader.U32();
  if (!reader.ok() || count > reader.rest().size() / kMinBlobSize) return false;
  for (uint32_t i = 0; i < count; ++i) {
    std::string site = reader.String();
    if (!reader.ok() || site.find('/') != std::string::npos) return false;
    if (!sites.empty() && site <= sites.back()) return false;
    sites.push_back(std::move(site));
  }
  return true;
}

// Distinct numbers of nodes.
bool ReadNumbers(Reader& reader, size_t node_count, std::vector<uint32_t>& numbers) {
  const uint32_t size = reader.U32();
  if (!reader.ok() || size > node_count || size > reader.rest().size() / 4) return false;
  numbers.resize(size);
  for (uint32_t& number : numbers) number = reader.U32();
  std::vector<uint32_t> sorted = numbers;
  std::sort(sorted.begin(), sorted.end());
  return std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end() &&
         (sorted.empty() || sorted.back() < node_count);
}

bool ReadPlacement(Reader& reader, ClusterMap& map) {
  const uint32_t count = reader.U32();
  if (!reader.ok() || (count != kPlacementGroups && count != 0)) return false;
  map.placement.resize(count);
  for (std::vector<uint32_t>& acting : map.placement) {
    if (!ReadNumbers(reader, map.nodes.size(), acting)) return false;
  }
  return true;
}

bool ReadTargets(Reader& reader, ClusterMap& map) {
  const uint32_t count = reader.U32();
  if (!reader.ok() || count > map.placement.size()) return false;
  map.target.resize(map.placement.size());
  uint32_t next = 0;  // Groups come in order, each once.
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t pg = reader.U32();
    if (!reader.ok() || pg < next || pg >= map.target.size()) return false;
    if (!ReadNumbers(reader, map.nodes.size(), map.target[pg]) || map.target[pg].empty()) {
      return false;
    }
    next = pg + 1;
  }
  return true;
}

bool ReadClass(Reader& reader, ClusterMap& map) {
  if (reader.U32() != kClasses) return false;
  map.replicas = reader.U32();
  map.chunk_size = reader.U32();
  return reader.ok() && map.replicas > 0 && ReadSites(reader, map.sites) &&
         ReadPlacement(reader, map) && ReadTargets(reader, map);
}

// Whoever made the map: nobody puts anything where it may not be.
Status CheckSites(const ClusterMap& map) {
  for (const auto* sets : {&map.placement, &map.target}) {
    for (const std::vector<uint32_t>& set : *sets) {
      for (const uint32_t number : set) {
        const std::string& place = map.nodes[number].failure_domain;
        if (AllowsSite(map, place)) continue;
        return absl::InvalidArgumentError(
            absl::StrCat("the cluster map wants records on ", NodeAddress(number), " at site ",
                         Printable(SiteOf(place)), ", where they may not be"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<uint32_t> WriteSet(const ClusterMap& map, uint32_t pg) {
  if (HOLDFAST_MUTANT(pins_to_acting_only)) return map.placement[pg];
  const std::vector<uint32_t>& acting = map.placement[pg];
  std::vector<uint32_t> numbers = acting;
  if (!Migrating(map, pg)) return numbers;
  for (const uint32_t number : map.target[pg]) {
    if (std::find(acting.begin(), acting.end(), number) == acting.end()) numbers.push_back(number);
  }
  return numbers;
}

bool HasQuorum(const ClusterMap& map, uint32_t pg, std::span<const uint32_t> holders) {
  const auto enough = [&](const std::vector<uint32_t>& set) {
    uint32_t count = 0;
    for (const uint32_t node : set) {
      count += std::find(holders.begin(), holders.end(), node) != holders.end();
    }
    return count >= map.write_quorum();
  };
  if (HOLDFAST_MUTANT(pins_to_acting_only)) return enough(map.placement[pg]);
  if (HOLDFAST_MUTANT(acks_of_outgoing_counted)) {
    return holders.size() >= map.write_quorum();
  }
  return enough(map.placement[pg]) && (!Migrating(map, pg) || enough(map.target[pg]));
}

bool AllowsSite(const ClusterMap& map, std::string_view failure_domain) {
  return map.sites.empty() || std::binary_search(map.sites.begin(), map.sites.end(),
                                                 SiteOf(failure_domain), std::less<>());
}

bool IsEligible(const ClusterMap& map, const MapNode& node) {
  return node.state == NodeState::kIn && FixedWeight(node.weight) > 0 &&
         AllowsSite(map, node.failure_domain);
}

void ComputePlacement(ClusterMap& map) {
  map.placement.resize(kPlacementGroups);
  map.target.assign(kPlacementGroups, {});
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
    map.placement[pg] = Choose(RankNodes(map, pg), map.replicas);
  }
}

std::string EncodeClusterMap(const ClusterMap& map) {
  Buffer buffer;
  Writer writer(buffer);
  writer.Raw(AsBytes(kMagic));
  writer.U8(kVersion);
  writer.U64(map.version);
  WriteNodes(writer, map.nodes);
  writer.U32(kClasses);
  writer.U32(map.replicas);
  writer.U32(map.chunk_size);
  writer.U32(static_cast<uint32_t>(map.sites.size()));
  for (const std::string& site : map.sites) writer.Blob(site);
  writer.U32(static_cast<uint32_t>(map.placement.size()));
  for (const std::vector<uint32_t>& acting : map.placement) WriteNumbers(writer, acting);
  WriteTargets(writer, map);
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
  if (!ReadNodes(reader, map.nodes) || !ReadClass(reader, map) || !reader.done()) {
    return Damaged(kWhat, "it is malformed");
  }
  RETURN_IF_ERROR(CheckSites(map));
  return map;
}

}  // namespace holdfast
