// `fsck --repair` of a vault in a directory: brings back from its other disks what is damaged or
// missing on one, and rewrites segments that are damaged. Nothing of the catalogue is changed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "cli/opened_vault.h"

namespace holdfast::cli {

struct RepairTotals {
  uint64_t copied_records = 0, copied_bytes = 0;
  uint64_t without_copy = 0;  // Damaged or missing, and no other disk has it.
  uint64_t in_trash = 0;      // Needed; the next garbage collection takes it out.
  uint64_t not_copied = 0;    // Another disk has it, but …
  Status trouble;             // … this was in the way, of the first of them.
  uint64_t segments = 0, moved_bytes = 0;
};

class Repairer {
 public:
  explicit Repairer(OpenedVault& vault) : vault_(vault) {}

  // Takes down the records that these findings name, each once.
  void Note(const google::protobuf::RepeatedPtrField<proto::Finding>& findings);
  // Copies those noted to the nodes that the findings are about. Not while a node's log is checked.
  Status CopyNoted();
  // Rewrites the segments that the checks so far have found damaged, where nothing is needed of
  // them that is still damaged; says on stderr which stay, and why. `last_commit_there`: whether
  // the catalogue finds all commits on the nodes.
  Status RewriteSegments(bool last_commit_there);
  const RepairTotals& totals() const { return totals_; }

 private:
  Status Copy(uint32_t node, std::string ids);
  // The ids of those that are not there.
  StatusOr<std::string> CopyFrom(uint32_t source, uint32_t node, const std::string& ids);
  StatusOr<proto::NodeStatReply> Stat(uint32_t node, const std::string& ids);
  Status RewriteSegmentsOf(uint32_t node, bool last_commit_there);
  bool IsThere(uint32_t node) const;

  OpenedVault& vault_;
  absl::flat_hash_set<std::pair<uint32_t, std::string>> seen_;
  std::map<uint32_t, std::vector<std::string>> noted_;  // Per node: ids.
  RepairTotals totals_;
};

}  // namespace holdfast::cli
