// The digests of all placement groups, kept as records come and go. Used on the node's Loop.
//
// After a start the index is counted in order of id, some entries at a time, between other work.
// What changes behind the place that the count has reached is added at once; what lies before it is
// counted when its turn comes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/base/rng.h"
#include "common/cluster/group_digest.h"
#include "node/index.h"

namespace holdfast {

class GroupDigests {
 public:
  // Says whether an entry counts: whole, and to be read.
  using Counts = std::function<bool(const IndexEntry&)>;
  GroupDigests(Rng& rng, Counts counts);

  // Counts the next entries of `index`.
  Status CountSome(Index& index);
  bool ready() const { return ready_; }
  // Before the delta is applied.
  void Take(const IndexDelta& delta);

  const std::vector<GroupDigest>& all() const { return digests_; }
  // Another one after every change and every start.
  std::string version() const;

 private:
  const Counts counts_;
  std::vector<GroupDigest> digests_;
  const uint64_t start_;
  uint64_t changes_ = 0;
  RecordId next_;  // The first id that is not counted yet.
  bool ready_ = false;
};

}  // namespace holdfast
