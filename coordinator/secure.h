// Makes sure that records are on W nodes of the sets they belong to now, touched by a session.
//
// For a commit whose chunks were acknowledged under an older map: the nodes of the present sets are
// pinned, and who lacks a record copies it from one that has it. DESIGN 9, rule 3.
#pragma once

#include <functional>
#include <vector>

#include "coordinator/node_client.h"

namespace holdfast {

// On the Loop. kUnavailable when too few nodes answer or can take them; kAborted when some record
// is on no node, or not the same on all: then only a new ingest of its content helps.
void SecureRecords(NodeClient& nodes, std::vector<RecordId> ids, uint64_t epoch,
                   int64_t timeout_nanos, std::function<void(Status)> done);

}  // namespace holdfast
