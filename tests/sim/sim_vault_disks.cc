// What happens to the disks of a SimVault's nodes.
#include <algorithm>

#include "node/segment_scan.h"
#include "node/segment_table.h"
#include "tests/sim/sim_vault.h"

namespace holdfast::sim {

Status SimVault::ReplaceDisk(uint32_t i) {
  if (nodes_[i] != nullptr) StopNode(i);
  index_disks_[i]->Wipe();
  ASSIGN_OR_RETURN(const std::vector<std::string> segments,
                   fs_.List(node_options(i).dir + "/segments"));
  for (const std::string& name : segments) {
    RETURN_IF_ERROR(fs_.Remove(node_options(i).dir + "/segments/" + name));
  }
  RETURN_IF_ERROR(fs_.Remove(node_options(i).dir + "/superblock"));
  // A power cut does not bring back what was on the old one.
  RETURN_IF_ERROR(fs_.SyncDir(node_options(i).dir + "/segments"));
  RETURN_IF_ERROR(fs_.SyncDir(node_options(i).dir));
  RETURN_IF_ERROR(Node::Format(node_options(i), fs_, rng_));
  return StartNode(i);
}

Status SimVault::LoseIndex(uint32_t node) {
  if (nodes_[node] != nullptr) StopNode(node);
  index_disks_[node]->Wipe();
  return StartNode(node);
}

StatusOr<std::vector<std::string>> SimVault::SegmentPaths(uint32_t node) {
  const std::string dir = node_options(node).dir + "/segments";
  ASSIGN_OR_RETURN(std::vector<std::string> names, fs_.List(dir));
  for (std::string& name : names) name = dir + "/" + name;
  std::sort(names.begin(), names.end());
  return names;
}

StatusOr<std::optional<RecordId>> SimVault::FlipBit(uint32_t node) {
  struct Place {
    std::string path;
    uint64_t begin, length;
    RecordId id;
  };
  std::vector<Place> places;
  ASSIGN_OR_RETURN(const std::vector<std::string> paths, SegmentPaths(node));
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(auto file, fs_.Open(path, {}));
    ASSIGN_OR_RETURN(const uint64_t size, file->Size());
    ScanOptions options;
    options.segment = FindSegmentId(*file, size);
    options.end = size;
    for (const ScannedRecord& record : ScanSegment(*file, options).records) {
      if (!IsBulk(record.header.kind) || record.header.length == 0) continue;
      places.push_back(
          {path, record.offset + kRecordHeaderSize, record.header.length, record.header.id});
    }
  }
  if (places.empty()) return std::optional<RecordId>();
  const Place& place = places[rng_.Below(places.size())];
  fs_.FlipBit(place.path, (place.begin + rng_.Below(place.length)) * 8 + rng_.Below(8));
  return std::optional<RecordId>(place.id);
}

Status SimVault::FailNextSync(uint32_t node) {
  ASSIGN_OR_RETURN(const std::vector<std::string> paths, SegmentPaths(node));
  if (!paths.empty()) fs_.FailNextDataSync(paths.back());
  return absl::OkStatus();
}

Status SimVault::LimitSpace(std::optional<uint64_t> more) {
  constexpr uint64_t kPlenty = uint64_t{1} << 40;
  if (!more) {
    fs_.SetCapacity(kPlenty);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const SpaceInfo space, fs_.Space("/"));
  fs_.SetCapacity(space.total_bytes - space.free_bytes + *more);
  return absl::OkStatus();
}

}  // namespace holdfast::sim
