// fsck of the catalogue, in steps. A step is one request: it reads a stretch of the catalogue or of
// the commit log, asks the nodes about it, and says where to go on.
//
//   bytes    every stored byte against its checksum; which nodes answer
//   rows     every row decodes; every object's manifest is the one its commit's signature covers;
//            its chunks and parts are present on every node of their acting set
//   commits  numbers 1 … head without a gap, each record on every node of its acting set, opening
//            under the catalogue key and naming the hash of the one before; every row that a
//            record wrote is in the catalogue
//
// Nothing is changed, and commits may go on meanwhile: what a step sees is newer than what the one
// before saw, never older. A finding names object, chunk and node. A node that does not answer is
// one finding; what only it could tell is then left open, not called missing.
#pragma once

#include <functional>
#include <string>

#include "coordinator/catalogue.h"
#include "coordinator/coordinator.h"
#include "coordinator/node_client.h"

namespace holdfast {

struct FsckEnv {
  const CoordinatorOptions& options;
  Catalogue& catalogue;
  NodeClient& nodes;
  Head head;
  Counters counters;
  size_t outbox = 0;  // Records at the end of the log that are not on the nodes yet.
};
using FsckDone = std::function<void(StatusOr<proto::CheckCatalogueReply>)>;

// Runs on the Loop; `done` runs on it, now or later. kInvalidArgument: not a cursor of ours.
void CheckCatalogueStep(const FsckEnv& env, std::string_view cursor, FsckDone done);

}  // namespace holdfast
