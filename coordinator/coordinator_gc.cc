// Garbage collection: what of it touches commits.
#include <utility>

#include "coordinator/coordinator_impl.h"
#include "coordinator/remove.h"

namespace holdfast {
namespace {

constexpr size_t kPurgedAtOnce = 1000;

}  // namespace

void Coordinator::Impl::PurgeLater(int64_t removed_before, std::string cursor,
                                   Collector::PurgedFn done) {
  Pending pending;
  pending.task = [this, removed_before, cursor = std::move(cursor), done = std::move(done)] {
    if (!log_.refused().ok()) return done(log_.refused());
    if (!log_.obstacle().ok()) return done(log_.obstacle());
    Collector::Purged purged{0, cursor};
    Counters counters = log_.counters();
    counters.last_commit_nanos = env_.clock.WallNanos();
    StatusOr<CommitPlan> plan =
        PlanPurge(counters, catalogue_, removed_before, kPurgedAtOnce, &purged.cursor);
    if (!plan.ok()) return done(plan.status());
    for (const KvMutation& m : plan->mutations) {
      purged.versions += m.key[0] == static_cast<char>(RowKind::kObject);
    }
    if (plan->mutations.empty()) return done(purged);
    if (std::exchange(unrecorded_, false)) cluster_.AppendAllRows(plan->mutations);
    Status written = log_.Append(*std::move(plan), [this, purged, done](const Status& status) {
      status.ok() ? done(purged) : done(status);
      Pump();
    });
    if (written.ok()) return;
    unrecorded_ = cluster_.active();
    done(written);
  };
  queue_.push_back(std::move(pending));
  Pump();
}

StatusOr<proto::GcStartReply> Coordinator::Impl::GcStart(const proto::GcStartRequest& request) {
  return collector_.Start(request);
}

StatusOr<proto::GcStatusReply> Coordinator::Impl::GcStatus(const proto::GcStatusRequest&) {
  return collector_.Report();
}

StatusOr<proto::GcStopReply> Coordinator::Impl::GcStop(const proto::GcStopRequest&) {
  proto::GcStopReply reply;
  reply.set_was_running(collector_.Stop());
  return reply;
}

}  // namespace holdfast
