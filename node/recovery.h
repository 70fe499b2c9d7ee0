// Brings a node up: superblock, segments, index, and replay of what the index does not have yet.
//
// Crash cases: recovery writes only the index, so it may be cut at any point and begins again.
#pragma once

#include "node/index.h"
#include "node/log.h"
#include "node/segment_table.h"

namespace holdfast {

struct Recovered {
  SegmentTable segments;
  std::unique_ptr<Index> index;
  LogStart log;
  std::vector<proto::Finding> findings;
  std::vector<QuarantineEntry> quarantine;  // Found bad; to be noted in the log.
};

StatusOr<Recovered> Recover(const NodeOptions& options, const NodeEnv& env);

// Makes the next Recover build the index anew. Blocking.
Status MarkIndexDamaged(Fs& fs, const std::string& dir);

}  // namespace holdfast
