// What the coordinator hands to everybody.
#include "common/cluster/access.h"
#include "common/cluster/cluster_map.h"
#include "common/cluster/group_digest.h"
#include "tests/fuzz/parser_tools.h"

namespace holdfast::fuzz {
namespace {

// What whoever got a map does with it.
void UseMap(const ClusterMap& map) {
  for (const MapNode& node : map.nodes) (void)IsEligible(map, node);
  if (map.placement.empty()) return;
  for (uint32_t pg = 0; pg < kPlacementGroups; ++pg) {
    const std::vector<uint32_t> set = WriteSet(map, pg);
    for (const uint32_t node : set) Must(node < map.nodes.size(), "a set names nodes of the map");
    if (set.size() < map.write_quorum()) continue;
    (void)HasQuorum(map, pg, set);
    Must(!HasQuorum(map, pg, {}), "nobody is no quorum");
  }
}

void MapParser(Bytes input) {
  Buffer fixed = ToBuffer(input);
  if (fixed.size() >= 4) FixCrc(fixed);
  for (const Bytes bytes : {input, Bytes(fixed)}) {
    const auto map = DecodeClusterMap(AsView(bytes));
    if (!map.ok()) continue;
    Must(Same(AsBytes(EncodeClusterMap(*map)), bytes), "a map has one form");
    UseMap(*map);
  }
}

ClusterMap SmallMap() {
  ClusterMap map;
  map.replicas = 2;
  map.chunk_size = 65'536;
  for (uint32_t i = 0; i < 3; ++i) {
    MapNode node;
    node.number = i;
    node.id = Counting<NodeId>(static_cast<uint8_t>(i + 1));
    node.failure_domain = "site/rack/host" + std::to_string(i) + "/disk";
    node.endpoint = "tcp://10.0.0.1:7410";
    map.nodes.push_back(node);
  }
  return map;
}

std::vector<Buffer> MapSeeds() {
  std::vector<Buffer> seeds = {GoldenFile("cluster-map.hex")};
  ClusterMap map = SmallMap();
  seeds.push_back(ToBuffer(AsBytes(EncodeClusterMap(map))));
  ComputePlacement(map);
  map.target[5] = {1, 2};
  seeds.push_back(ToBuffer(AsBytes(EncodeClusterMap(map))));
  return seeds;
}

void DigestParser(Bytes input) {
  (void)DecodeGroupDigests(ToString(input));
  std::string all = ToString(input);
  all.resize(kPlacementGroups * 24);
  const auto digests = DecodeGroupDigests(all);
  Must(digests.ok() && EncodeGroupDigests(*digests) == all, "digests come back");
}

void RolesParser(Bytes input) {
  const auto roles = ParseRoles(ToString(input));
  if (!roles.ok()) return;
  const auto again = ParseRoles(RolesText(*roles));
  Must(again.ok() && *again == *roles, "roles come back");
}

}  // namespace

std::vector<Parser> ClusterParsers() {
  return {
      {"cluster-map", MapParser, MapSeeds},
      {"group-digests", DigestParser, [] { return std::vector<Buffer>{Buffer(48, 5)}; }},
      {"roles", RolesParser,
       [] { return std::vector<Buffer>{ToBuffer(AsBytes("ingest,reader,custodian"))}; }},
  };
}

}  // namespace holdfast::fuzz
