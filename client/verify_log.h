// The part of verify that looks at the nodes' logs instead of objects.
#pragma once

#include <vector>

#include "client/vault.h"

namespace holdfast {

struct LogFindings {
  std::vector<proto::Finding> findings;  // NOTEs left out; the first kMaxFindings of each node.
  uint64_t unlisted = 0;                 // How many more there were.
  std::vector<std::string> not_reached;  // One line for each node that could not be asked.
};
inline constexpr size_t kMaxFindings = 10'000;

// Has every node of the map check every segment: all headers, and the payloads of all records but
// chunks and manifest parts; of these too in segments not read for some weeks, whose date it
// renews.
LogFindings CheckLogs(Vault& vault, const ClusterMap& map);

}  // namespace holdfast
