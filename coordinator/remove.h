// What `rm` changes: versions go into the trash of the catalogue, come back from it, or go for
// good. Writes nothing itself.
//
// The trash is the object rows that say when they were removed; a row under "r" beside each puts
// them in order of that time. Nobody sees them, but what they are made of counts as in use, so that
// they can be brought back until they are purged: then their rows go, and the rest is garbage.
// Signatures, sealing keys and collections stay: other objects, or later ones, need them.
#pragma once

#include "common/proto/holdfast.pb.h"
#include "coordinator/catalogue.h"
#include "coordinator/commit_plan.h"

namespace holdfast {

struct RemovePlan {
  CommitPlan commit;  // Without a reply of its own; no mutations: nothing changes.
  proto::RemoveReply reply;
};

// The next stretch of a removal (proto::RemoveRequest): at most some thousand versions and about
// 16 MiB. All stretches of one have the same time, and each removal of a name a later one than the
// one before, so that the last one can be told.
// kInvalidArgument: the request makes no sense. kNotFound: nothing has that name, or with undo,
// nothing of it is in the trash. kFailedPrecondition: it is a directory with something in it.
StatusOr<RemovePlan> PlanRemove(const Counters& counters, Catalogue& catalogue, int64_t now_nanos,
                                const proto::RemoveRequest& request);

// Takes what was removed before that time out of the trash for good: at most `limit` versions from
// `cursor` on (empty: the first), which then says where to go on (empty: that was all). No
// mutations: there was nothing. `counters` are those after it, with the time of the purge as the
// last commit's.
StatusOr<CommitPlan> PlanPurge(const Counters& counters, Catalogue& catalogue,
                               int64_t removed_before_nanos, size_t limit, std::string* cursor);

// What the last few removals that changed something were answered, so that one that is asked for
// again has one effect (C5) and the same answer, after a restart too.
StatusOr<std::optional<std::string>> FindRemoval(Catalogue& catalogue, std::string_view request);
// The row that remembers one more; it goes into the catalogue with the removal.
StatusOr<KvMutation> RememberRemoval(Catalogue& catalogue, std::string_view request,
                                     std::string_view answer);

// What a client sends back so that a removal goes on.
struct RemoveCursor {
  int64_t time_nanos = 0;  // Of the whole removal.
  std::string name;        // The next one; empty: the first.
};
std::string EncodeRemoveCursor(const RemoveCursor& cursor);
StatusOr<RemoveCursor> DecodeRemoveCursor(std::string_view bytes);

// The row of RememberRemoval.
struct Removal {
  std::string request, answer;
};
std::string EncodeRemovals(const std::vector<Removal>& removals);
StatusOr<std::vector<Removal>> DecodeRemovals(std::string_view row);

}  // namespace holdfast
