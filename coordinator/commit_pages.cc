#include "coordinator/commit_pages.h"

#include <algorithm>

namespace holdfast {
namespace {

constexpr uint32_t kRecordsPerCall = 4;  // Up to some tens of MiB each.

}  // namespace

std::vector<NodeCall> ListCommitsCalls(const std::vector<uint32_t>& nodes, uint64_t from) {
  proto::NodeListCommitsRequest request;
  request.set_from(from);
  request.set_limit(kRecordsPerCall);
  std::vector<NodeCall> calls;
  calls.reserve(nodes.size());
  for (uint32_t node : nodes) calls.push_back({node, MakeMessage(rpc::kNodeListCommits, request)});
  return calls;
}

Status CommitPage::Add(uint32_t node, const NodeReply& reply) {
  if (!reply.ok()) return reply.status();
  ASSIGN_OR_RETURN(proto::NodeListCommitsReply head,
                   ParseHead<proto::NodeListCommitsReply>(*reply));
  const auto& numbers = head.numbers();
  bool good = static_cast<size_t>(numbers.size()) == reply->frames.size() &&
              std::is_sorted(numbers.begin(), numbers.end());
  if (!numbers.empty()) good &= numbers[0] >= from_ && *numbers.rbegin() < UINT64_MAX;
  if (!good) return absl::UnavailableError("malformed list of commit records");
  ++answers_;
  for (int i = 0; i < numbers.size(); ++i) {
    copies_[numbers[i]].push_back({node, reply->frames[i]});
  }
  // A page without any says that there are none from `from` on.
  if (!numbers.empty()) end_ = std::min(end_, *numbers.rbegin() + 1);
  return absl::OkStatus();
}

const std::vector<CommitCopy>& CommitPage::copies(uint64_t number) const {
  static const std::vector<CommitCopy> kNone;
  auto it = copies_.find(number);
  return it == copies_.end() ? kNone : it->second;
}

std::optional<ChosenCommit> ChooseCommit(const CoordinatorOptions& options,
                                         const std::vector<CommitCopy>& copies, uint64_t number,
                                         const Hash256& previous) {
  const bool known = previous != Hash256{} || number == 1;
  std::optional<ChosenCommit> best;
  bool differing = false;
  for (const CommitCopy& copy : copies) {
    const Hash256 hash = Sha256(copy.record.view);
    if (best && best->hash == hash) continue;
    StatusOr<CommitRecord> record =
        DecodeCommitRecord(options.keys.commit, options.vault, copy.record.view);
    if (!record.ok() || record->number != number) continue;
    ChosenCommit found{*std::move(record), hash, false, false};
    found.broken_link = known && found.record.previous != previous;
    differing |= best.has_value();
    const bool better = !best || (best->broken_link && !found.broken_link) ||
                        (best->broken_link == found.broken_link &&
                         best->record.generation < found.record.generation);
    if (better) best = std::move(found);
  }
  if (best) best->differing = differing;
  return best;
}

}  // namespace holdfast
