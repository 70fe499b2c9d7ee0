// The part of verify that looks at the nodes' logs instead of objects.
#pragma once

#include <stop_token>
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
// renews. Ends early, with what was found so far, when it is asked to stop.
LogFindings CheckLogs(Vault& vault, const ClusterMap& map, const std::stop_token& stop);

}  // namespace holdfast
