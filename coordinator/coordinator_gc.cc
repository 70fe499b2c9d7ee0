// Garbage collection: what of it touches commits.
#include <utility>

#include "coordinator/coordinator_impl.h"
#include "coordinator/remove.h"

namespace holdfast {
namespace {

constexpr size_t kPurgedAtOnce = 1000;

}  // namespace

void Coordinator::Impl::PurgeLater(int64_t removed_before,
                                   std::function<void(const StatusOr<uint64_t>&)> done) {
  Pending pending;
  pending.task = [this, removed_before, done = std::move(done)] {
    if (!log_.refused().ok()) return done(log_.refused());
    if (!log_.obstacle().ok()) return done(log_.obstacle());
    bool more = false;
    Counters counters = log_.counters();
    counters.last_commit_nanos = env_.clock.WallNanos();
    StatusOr<CommitPlan> plan =
        PlanPurge(counters, catalogue_, removed_before, kPurgedAtOnce, &more);
    if (!plan.ok()) return done(plan.status());
    uint64_t versions = 0;
    for (const KvMutation& m : plan->mutations) {
      versions += m.key[0] == static_cast<char>(RowKind::kObject);
    }
    if (plan->mutations.empty()) return done(uint64_t{0});
    versions = std::max<uint64_t>(versions, more);  // There may be none among what goes.
    if (std::exchange(unrecorded_, false)) cluster_.AppendAllRows(plan->mutations);
    Status written = log_.Append(*std::move(plan), [this, versions, done](const Status& status) {
      status.ok() ? done(versions) : done(status);
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
  collector_.Stop();
  return proto::GcStopReply();
}

}  // namespace holdfast
