// `fsck --repair` of a vault in a directory: brings back from its other disks what is damaged or
// missing on one, and rewrites segments that are damaged. Nothing of the catalogue is changed.
#pragma once

#include <cstdint>

#include "absl/container/flat_hash_set.h"
#include "cli/opened_vault.h"

namespace holdfast::cli {

struct RepairTotals {
  uint64_t copied_records = 0, copied_bytes = 0;
  uint64_t without_copy = 0;  // Damaged or missing, and no other disk has it.
  uint64_t segments = 0, moved_bytes = 0;
};

class Repairer {
 public:
  explicit Repairer(OpenedVault& vault) : vault_(vault) {}

  // Copies the records that these findings name to the nodes that they are about; each once.
  Status CopyRecords(const google::protobuf::RepeatedPtrField<proto::Finding>& findings);
  // Rewrites the segments that the checks so far have found damaged, where nothing is needed of
  // them that is still damaged; says on stderr which stay, and why.
  Status RewriteSegments();
  const RepairTotals& totals() const { return totals_; }

 private:
  Status Copy(uint32_t node, std::string ids);
  StatusOr<std::string> CopyFrom(uint32_t source, uint32_t node, const std::string& ids);
  Status RewriteSegmentsOf(uint32_t node);
  bool IsThere(uint32_t node) const;

  OpenedVault& vault_;
  absl::flat_hash_set<std::pair<uint32_t, std::string>> seen_;
  RepairTotals totals_;
};

}  // namespace holdfast::cli
