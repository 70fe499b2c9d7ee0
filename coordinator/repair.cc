#include "coordinator/repair.h"

#include <algorithm>
#include <utility>

#include "common/base/clock.h"
#include "common/cluster/replan.h"

namespace holdfast {
namespace {

constexpr int64_t kTickNanos = kSecond;
constexpr int64_t kAskTimeoutNanos = 5 * kSecond;
constexpr int64_t kSilenceNanos = 5 * kSecond;
constexpr int64_t kRefreshNanos = kSecond;
constexpr int64_t kAskAgainNanos = kSecond / 10;
// Writes reach replicas one after another: groups that have just changed may differ for a moment.
constexpr int64_t kQuietNanos = 2 * kSecond;
constexpr int64_t kDifferLongNanos = 30 * kSecond;
constexpr int64_t kRetryNanos = 2 * kSecond;
constexpr int64_t kSettledNanos = 3600 * kSecond;
constexpr size_t kGroupsAtOnce = 8;
constexpr size_t kRateSamples = 10;

bool AllEqual(const std::vector<GroupDigest>& digests) {
  return std::adjacent_find(digests.begin(), digests.end(), std::not_equal_to<>()) == digests.end();
}

}  // namespace

Repair::Repair(const ClusterMap& map, const CoordinatorEnv& env, NodeClient& nodes,
               const Guard& guard, int64_t out_after_nanos, Hooks hooks)
    : map_(map),
      env_(env),
      nodes_(nodes),
      guard_(guard),
      out_after_nanos_(out_after_nanos),
      hooks_(std::move(hooks)),
      copies_(nodes),
      groups_(kPlacementGroups) {}

void Repair::Start() { Tick(); }

void Repair::MapChanged(const ClusterMap& before) {
  const int64_t now = env_.clock.MonotonicNanos();
  for (uint32_t pg = 0; pg < map_.placement.size(); ++pg) {
    if (pg < before.placement.size() && Members(before, pg) == Members(map_, pg) &&
        Migrating(before, pg) == Migrating(map_, pg)) {
      continue;
    }
    const bool running = groups_[pg].running;
    groups_[pg] = {};
    groups_[pg].running = running;
    groups_[pg].changed_nanos = now;
  }
}

const RepairReport& Repair::Report() {
  Evaluate();
  return report_;
}

void Repair::Refresh(std::function<void(bool)> done) {
  GrowViews();
  waiters_.push_back({env_.clock.MonotonicNanos(), std::move(done)});
  env_.loop.PostAfter(kRefreshNanos, guard_.Wrap([this] { ReleaseWaiters(); }));
  AskForWaiters();
}

// Whoever may ask for the status may do so all the time: nodes are asked now and then only.
void Repair::AskForWaiters() {
  ReleaseWaiters();
  if (waiters_.empty() || will_ask_for_waiters_) return;
  const int64_t now = env_.clock.MonotonicNanos();
  const int64_t wait = asked_for_waiters_nanos_ + kAskAgainNanos - now;
  if (wait > 0) {
    will_ask_for_waiters_ = true;
    env_.loop.PostAfter(wait, guard_.Wrap([this] {
      will_ask_for_waiters_ = false;
      AskForWaiters();
    }));
    return;
  }
  asked_for_waiters_nanos_ = now;
  for (uint32_t node = 0; node < views_.size(); ++node) {
    if (!HasSaid(node, waiters_.back().since_nanos)) Ask(node);
  }
}

bool Repair::HasSaid(uint32_t node, int64_t since_nanos) const {
  return map_.nodes[node].state == NodeState::kRemoved || views_[node].failed ||
         views_[node].asked_nanos >= since_nanos;
}

void Repair::ReleaseWaiters() {
  while (!waiters_.empty()) {
    const int64_t since = waiters_.front().since_nanos;
    bool all = true;
    for (uint32_t node = 0; node < views_.size(); ++node) all &= HasSaid(node, since);
    if (!all && env_.clock.MonotonicNanos() - since < kRefreshNanos) return;
    const auto done = std::move(waiters_.front().done);
    waiters_.pop_front();
    done(all);
  }
}

bool Repair::answers(uint32_t node) const {
  return node < views_.size() && !views_[node].failed &&
         env_.clock.MonotonicNanos() - views_[node].answered_nanos < kSilenceNanos;
}

void Repair::GrowViews() {
  const size_t known = views_.size();
  views_.resize(map_.nodes.size());
  // Nobody is blamed for the time before somebody listened.
  for (size_t i = known; i < views_.size(); ++i) {
    views_[i].answered_nanos = env_.clock.MonotonicNanos() - kSilenceNanos;
  }
}

void Repair::Tick() {
  GrowViews();
  for (uint32_t node = 0; node < views_.size(); ++node) Ask(node);
  FindAway();
  Evaluate();
  StartJobs();
  SwitchGroups();
  MeasureRate();
  env_.loop.PostAfter(kTickNanos, guard_.Wrap([this] { Tick(); }));
}

void Repair::Ask(uint32_t node) {
  NodeView& view = views_[node];
  if (view.asking || map_.nodes[node].state == NodeState::kRemoved) return;
  view.asking = true;
  const int64_t now = env_.clock.MonotonicNanos();
  proto::NodeDigestsRequest request;
  if (view.ready) request.set_version(view.version);
  request.set_map_version(map_.version);
  nodes_.Call({node, MakeMessage(rpc::kNodeDigests, request)}, kAskTimeoutNanos,
              [this, node, now](const NodeReply& reply) { TakeDigests(node, now, reply); });
}

void Repair::TakeDigests(uint32_t node, int64_t asked_nanos, const NodeReply& reply) {
  TakeAnswer(node, asked_nanos, reply);
  AskForWaiters();  // What was asked before somebody began to wait does not tell him enough.
}

void Repair::TakeAnswer(uint32_t node, int64_t asked_nanos, const NodeReply& reply) {
  NodeView& view = views_[node];
  view.asking = false;
  StatusOr<proto::NodeDigestsReply> head =
      reply.ok() ? ParseHead<proto::NodeDigestsReply>(*reply) : reply.status();
  view.failed = !head.ok();
  if (view.failed) return;
  view.answered_nanos = env_.clock.MonotonicNanos();
  view.asked_nanos = asked_nanos;
  if (!head->ready()) {
    view.ready = false;
  } else if (!head->digests().empty()) {
    StatusOr<std::vector<GroupDigest>> groups = DecodeGroupDigests(head->digests());
    view.ready = groups.ok();
    if (groups.ok()) view.groups = *std::move(groups);
    view.version = head->version();
  }
}

const GroupDigest* Repair::DigestOf(uint32_t node, uint32_t pg) const {
  if (!answers(node) || !views_[node].ready) return nullptr;
  return views_[node].asked_nanos >= groups_[pg].changed_nanos ? &views_[node].groups[pg] : nullptr;
}

// So many away at once are not lost, but cut off: then nobody is taken out.
void Repair::FindAway() {
  std::vector<uint32_t> gone, back;
  size_t there = 0, away = 0;
  const int64_t now = env_.clock.MonotonicNanos();
  for (const MapNode& node : map_.nodes) {
    if (node.state == NodeState::kRemoved) continue;
    const bool answers_now = answers(node.number);
    ++(answers_now ? there : away);
    const bool out = node.state == NodeState::kOut;
    if (out && answers_now) back.push_back(node.number);
    if (!out && now - views_[node.number].answered_nanos > out_after_nanos_) {
      gone.push_back(node.number);
    }
  }
  if (away >= there) gone.clear();
  if (!gone.empty() || !back.empty()) hooks_.set_away(std::move(gone), std::move(back));
}

void Repair::Evaluate() {
  RepairReport report = report_;
  report.known = true;
  report.missing = report.to_move = report.migrating = report.unreachable = report.disputed = 0;
  for (const MapNode& node : map_.nodes) {
    const bool silent = answers(node.number) && !views_[node.number].ready;
    if (node.state != NodeState::kRemoved && silent) report.known = false;
  }
  std::vector<Candidate> candidates;
  for (uint32_t pg = 0; pg < map_.placement.size(); ++pg) EvaluateGroup(pg, report, candidates);
  std::sort(candidates.begin(), candidates.end());
  queue_.assign(candidates.begin(), candidates.end());
  report_ = report;
}

bool Repair::StillWhole(uint32_t pg) const {
  const Group& group = groups_[pg];
  const std::vector<uint32_t>& acting = map_.placement[pg];
  if (Migrating(map_, pg) || acting.size() != map_.replicas || group.disputed != 0 ||
      group.digests.size() != acting.size() || group.differ_nanos != 0) {
    return false;
  }
  for (const uint32_t node : acting) {
    const GroupDigest* digest = DigestOf(node, pg);
    if (digest == nullptr || map_.nodes[node].state >= NodeState::kOut) return false;
    for (const GroupDigest& before : group.digests) {
      if (!(*digest == before)) return false;
    }
  }
  return true;
}

void Repair::EvaluateGroup(uint32_t pg, RepairReport& report, std::vector<Candidate>& candidates) {
  if (StillWhole(pg)) return;
  Group& group = groups_[pg];
  const std::vector<uint32_t>& acting = map_.placement[pg];
  const bool migrating = Migrating(map_, pg);
  report.migrating += migrating;
  report.disputed += group.disputed;
  std::vector<GroupDigest> digests;
  uint64_t most = 0;
  bool all_answer = true;
  const std::vector<uint32_t> members = Members(map_, pg);
  for (uint32_t node : members) {
    const GroupDigest* digest = DigestOf(node, pg);
    all_answer &= digest != nullptr;
    if (digest == nullptr) {
      if (answers(node)) report.known = false;  // It will say so.
      continue;
    }
    digests.push_back(*digest);
    most = std::max(most, digest->count);
  }
  if (digests.empty()) {
    report.unreachable += !members.empty();
    group.settled_nanos.reset();
    group.complete = false;
    return;
  }
  const int64_t now = env_.clock.MonotonicNanos();
  if (digests != group.digests) {
    group.since_nanos = now;
    group.settled_nanos.reset();
    group.complete = false;  // A target's disk may have been replaced.
    group.digests = std::move(digests);
  }
  const bool equal = AllEqual(group.digests);
  const bool settled = equal || group.settled_nanos;
  uint32_t copies = 0;
  bool lacks_all = false;
  for (uint32_t node : WriteSet(map_, pg)) {
    const GroupDigest* digest = DigestOf(node, pg);
    const uint64_t count = digest != nullptr ? digest->count : 0;
    const bool in_acting = std::find(acting.begin(), acting.end(), node) != acting.end();
    copies += digest != nullptr && count == most;
    lacks_all |= digest != nullptr && count == 0 && most > 0;
    if (!settled || digest == nullptr)
      (in_acting ? report.missing : report.to_move) += most - count;
  }
  if (acting.size() < map_.replicas) report.missing += most * (map_.replicas - acting.size());
  if (settled) group.differ_nanos = 0;
  if (!settled && group.differ_nanos == 0) group.differ_nanos = now;
  if (equal) {
    group.complete |= migrating && all_answer;
    group.disputed = 0;
  }
  const bool again = !equal && settled && now - *group.settled_nanos >= kSettledNanos;
  if (settled && !again) return;
  // Equal counts that differ are at least one record that somebody lacks.
  if (!settled && copies == group.digests.size()) ++report.missing;
  if (!group.running && !group.complete && Due(group, lacks_all, migrating)) {
    candidates.push_back({copies, pg});
  }
}

bool Repair::Due(const Group& group, bool lacks_all, bool migrating) const {
  const int64_t now = env_.clock.MonotonicNanos();
  if (now < group.not_before_nanos) return false;
  return lacks_all || migrating || now - group.since_nanos >= kQuietNanos ||
         now - group.differ_nanos >= kDifferLongNanos;
}

void Repair::StartJobs() {
  while (running_ < kGroupsAtOnce && !queue_.empty()) {
    const uint32_t pg = queue_.front().group;
    queue_.pop_front();
    if (!groups_[pg].running) StartJob(pg);
  }
}

void Repair::StartJob(uint32_t pg) {
  std::vector<uint32_t> members = Members(map_, pg);
  const size_t all = members.size();
  // A member that is away cannot be compared; the others need not wait for it.
  std::erase_if(members, [this](uint32_t node) { return !answers(node); });
  if (members.size() < 2) return;
  const Group& group = groups_[pg];
  const Job job{pg, members.size() == all, group.changed_nanos, group.since_nanos};
  groups_[pg].running = true;
  ++running_;
  RepairGroup(nodes_, copies_, pg, std::move(members),
              [this, job](const GroupRepairResult& result) { Finished(job, result); });
}

void Repair::Finished(const Job& job, const GroupRepairResult& result) {
  Group& group = groups_[job.pg];
  group.running = false;
  --running_;
  report_.copied_records += result.copied_records;
  report_.copied_bytes += result.copied_bytes;
  if (!result.status.ok()) {
    report_.trouble = result.status;
    group.not_before_nanos = env_.clock.MonotonicNanos() + kRetryNanos;
  } else if (job.changed_nanos == group.changed_nanos) {
    group.disputed = result.disputed;
    // Garbage that one of them still has is not copied: the next collection takes it. What came
    // since was not compared.
    const bool differs = result.disputed + result.trashed > 0;
    if (job.all && differs && result.copied_records == 0 && job.since_nanos == group.since_nanos) {
      group.settled_nanos = env_.clock.MonotonicNanos();
    }
    // Where the members do not agree, a reader has to say who is right before any of them goes.
    group.complete |= job.all && Migrating(map_, job.pg) && result.disputed == 0;
  }
  StartJobs();
}

void Repair::SwitchGroups() {
  std::vector<uint32_t> complete;
  for (uint32_t pg = 0; pg < map_.placement.size(); ++pg) {
    if (Migrating(map_, pg) && groups_[pg].complete) complete.push_back(pg);
  }
  if (!complete.empty()) hooks_.finish_migration(std::move(complete));
}

void Repair::MeasureRate() {
  samples_.push_back({env_.clock.MonotonicNanos(), report_.copied_records});
  if (samples_.size() > kRateSamples) samples_.pop_front();
  const double seconds =
      static_cast<double>(samples_.back().nanos - samples_.front().nanos) / kSecond;
  const uint64_t records = samples_.back().records - samples_.front().records;
  report_.records_per_second = seconds > 0 ? static_cast<double>(records) / seconds : 0;
}

}  // namespace holdfast
