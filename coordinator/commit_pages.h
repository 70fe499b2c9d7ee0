// The commit records of all nodes side by side, a stretch of numbers at a time, and which of
// several copies is the one to believe. Shared by fsck and the rebuild.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "coordinator/coordinator.h"
#include "coordinator/node_client.h"

namespace holdfast {

struct CommitCopy {
  uint32_t node = 0;
  SharedBytes record;  // Empty: damaged there.
};

constexpr int64_t kListCommitsNanos = 60 * kSecond;  // How long a node may take over one of them.
std::vector<NodeCall> ListCommitsCalls(const std::vector<uint32_t>& nodes, uint64_t from);

// The answers to one round of ListCommitsCalls. A node lists what it has from `from` on, in order,
// as far as its page goes; what lies below the end of every page is known.
class CommitPage {
 public:
  explicit CommitPage(uint64_t from) : from_(from) {}
  // kUnavailable when the node did not answer, or not in these terms.
  Status Add(uint32_t node, const NodeReply& reply);
  size_t answers() const { return answers_; }
  // Numbers in [from, end) are known; UINT64_MAX when no node has any from `from` on.
  uint64_t end() const { return end_; }
  const std::vector<CommitCopy>& copies(uint64_t number) const;
  const std::map<uint64_t, std::vector<CommitCopy>>& all() const { return copies_; }

 private:
  uint64_t from_;
  uint64_t end_ = UINT64_MAX;
  size_t answers_ = 0;
  std::map<uint64_t, std::vector<CommitCopy>> copies_;
};

struct ChosenCommit {
  CommitRecord record;
  Hash256 hash{};
  bool broken_link = false;  // Its `previous` is not the hash of the one before, which is known.
  bool differing = false;    // There are other good records under this number.
};
// Of the copies that open under the catalogue key and carry this number: the one that follows
// `previous` (zero: not known), else the one of the highest generation.
std::optional<ChosenCommit> ChooseCommit(const CoordinatorOptions& options,
                                         const std::vector<CommitCopy>& copies, uint64_t number,
                                         const Hash256& previous);

}  // namespace holdfast
