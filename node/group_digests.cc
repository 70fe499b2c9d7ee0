#include "node/group_digests.h"

#include "common/base/coding.h"
#include "common/cluster/cluster_map.h"

namespace holdfast {
namespace {

constexpr size_t kEntriesAtOnce = 2000;

}  // namespace

GroupDigests::GroupDigests(Rng& rng, Counts counts)
    : counts_(std::move(counts)), digests_(kPlacementGroups), start_(rng.NextU64()) {}

Status GroupDigests::CountSome(Index& index) {
  if (ready_) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto entries, index.List(next_, {}, kEntriesAtOnce));
  for (const auto& [id, entry] : entries) {
    if (counts_(entry)) digests_[PlacementGroupOf(id)].Add(id, entry.checksum);
  }
  if (!entries.empty()) next_ = SuccessorOf(entries.back().first);
  ready_ = entries.size() < kEntriesAtOnce || next_.is_zero();
  return absl::OkStatus();
}

void GroupDigests::Take(const IndexDelta& delta) {
  delta.VisitEntries([this](const RecordId& id, const std::optional<IndexEntry>& before,
                            const std::optional<IndexEntry>& after) {
    if (!ready_ && !(id < next_)) return;
    const bool did = before && counts_(*before), does = after && counts_(*after);
    if (did && does && before->checksum == after->checksum) return;
    GroupDigest& digest = digests_[PlacementGroupOf(id)];
    if (did) digest.Remove(id, before->checksum);
    if (does) digest.Add(id, after->checksum);
    changes_ += did || does;
  });
}

std::string GroupDigests::version() const {
  Buffer out;
  Writer writer(out);
  writer.U64(start_);
  writer.U64(changes_);
  return ToString(out);
}

}  // namespace holdfast
