// Brings the members of one placement group to hold the same records: lists them, and has each copy
// what it lacks from one that has it. Never deletes, and never decides between records that differ.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "coordinator/copy_queue.h"
#include "coordinator/node_client.h"

namespace holdfast {

struct GroupRepairResult {
  // Every member answered, and what any of them held when it was listed is on all of them.
  Status status;
  uint64_t copied_records = 0, copied_bytes = 0;
  uint64_t disputed = 0;  // Records that are not the same everywhere.
  uint64_t trashed = 0;   // Copies that were not made: it is garbage that one node still has.
};

// On the Loop. `members` in the order in which they are listed: what one of the first has taken by
// then, the last have been sent too.
void RepairGroup(NodeClient& nodes, CopyQueue& copies, uint32_t group,
                 std::vector<uint32_t> members, std::function<void(const GroupRepairResult&)> done);

}  // namespace holdfast
