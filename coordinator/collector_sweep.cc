// Survey and sweep: two passes over what the nodes list. The first counts, the second acts.
#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"
#include "common/base/mutant.h"
#include "coordinator/collector.h"

namespace holdfast {
namespace {

constexpr uint32_t kListedAtOnce = 16384;
constexpr size_t kNeededAtOnce = 65536;
constexpr uint32_t kGroupsPerBucket = kPlacementGroups / MarkSet::kBuckets;
constexpr size_t kCopiedAtOnce = 1024;       // Records at most …
constexpr uint64_t kCopiedBytes = 8u << 20;  // … and about so many bytes.
// Sweep rests as long as it works while sessions are open, so that ingests keep most of the
// machine.
constexpr int64_t kLongestRest = 5 * kSecond;
// With options.gc_consent_records.
constexpr double kConsentFraction = 0.2;

}  // namespace

// Both passes go through the ids in order, all nodes side by side: as many buckets at a time as
// make a list worth asking for.
void Collector::NextBuckets() {
  if (bucket_end_ == MarkSet::kBuckets) return AfterPass();
  bucket_ = bucket_end_;
  buckets_nanos_ = env_.clock.MonotonicNanos();
  needed_.clear();
  do {
    StatusOr<std::vector<RecordId>> needed = marks_->Load(bucket_end_++);
    if (!needed.ok()) return Fail(needed.status());
    needed_.insert(needed_.end(), needed->begin(), needed->end());
  } while (bucket_end_ < MarkSet::kBuckets && needed_.size() < kNeededAtOnce);
  if (!sweeping_) report_.set_marked_records(report_.marked_records() + needed_.size());
  const std::vector<uint32_t> nodes = Nodes();
  waiting_ = nodes.size() + 1;
  for (uint32_t node : nodes) ListNode(node, "");
  NodeListed();
}

void Collector::ListNode(uint32_t node, const std::string& from) {
  proto::NodeListRecordsRequest request;
  request.set_group(bucket_ * kGroupsPerBucket);
  request.set_groups((bucket_end_ - bucket_) * kGroupsPerBucket);
  request.set_from(from);
  request.set_limit(kListedAtOnce);
  request.set_floor_run(floor_run_);
  request.set_free_run(free_run_);
  nodes_.Gather(
      {{node, MakeMessage(rpc::kNodeListRecords, request)}}, kAskNanos,
      [this, node, from, serial = serial_](const NodeReplies& replies) {
        if (serial == serial_ && GoOn()) TakeList(node, from, replies[0]);
      },
      kAttempts);
}

void Collector::TakeList(uint32_t node, const std::string& from, const NodeReply& reply) {
  StatusOr<proto::NodeListRecordsReply> page =
      reply.ok() ? ParseHead<proto::NodeListRecordsReply>(*reply) : reply.status();
  auto verdict = std::make_shared<Verdict>();
  verdict->node = node;
  verdict->map_version = options_.map.version;
  verdict->from = from;
  const Status judged = page.ok() ? Judge(*page, *verdict) : page.status();
  if (!judged.ok()) {
    LoseNode(node, judged);
    return NodeListed();
  }
  CheckStrays(std::move(verdict));
}

Status Collector::Judge(const proto::NodeListRecordsReply& page, Verdict& verdict) {
  const size_t count = page.states().size();
  if (page.ids().size() != count * RecordId::kSize || page.touches().size() != count * 8 ||
      page.lengths().size() != count * 4) {
    return absl::UnavailableError("malformed list of records");
  }
  RETURN_IF_ERROR(CheckIdPage(verdict.from, page.ids(), page.next()));
  verdict.next = page.next();
  Reader ids(AsBytes(page.ids())), touches(AsBytes(page.touches()));
  Reader lengths(AsBytes(page.lengths()));
  for (size_t i = 0; i < count; ++i) {
    const auto state = static_cast<uint8_t>(page.states()[i]);
    const Listed record = {.id = ids.Id<RecordId>(),
                           .touch = touches.U64(),
                           .length = lengths.U32(),
                           .trashed = (state & rpc::kRecordTrashed) != 0,
                           .surplus = (state & rpc::kRecordSurplus) != 0,
                           .due = (state & rpc::kRecordDue) != 0};
    const uint32_t bucket = MarkSet::BucketOf(record.id);
    if (bucket < bucket_ || bucket >= bucket_end_) {
      return absl::UnavailableError("a list of other records");
    }
    if (!sweeping_) CountListed(record);
    const bool needed = std::binary_search(needed_.begin(), needed_.end(), record.id);
    needed ? JudgeNeeded(record, verdict) : JudgeGarbage(record, verdict);
  }
  return absl::OkStatus();
}

void Collector::CountListed(const Listed& record) {
  report_.set_listed_records(report_.listed_records() + 1);
  report_.set_listed_bytes(report_.listed_bytes() + record.length);
  if (!record.trashed) return;
  report_.set_in_trash_records(report_.in_trash_records() + 1);
  report_.set_in_trash_bytes(report_.in_trash_bytes() + record.length);
}

// Of a dry run.
void Collector::CountDue(uint64_t records) {
  if (request_.dry_run()) report_.set_due_records(report_.due_records() + records);
}

void Collector::JudgeNeeded(const Listed& record, Verdict& verdict) {
  const uint32_t pg = PlacementGroupOf(record.id);
  const std::vector<uint32_t> holders = WriteSet(options_.map, pg);
  const bool member = std::find(holders.begin(), holders.end(), verdict.node) != holders.end();
  // A surplus copy is looked at in each run: the group may have lost its own meanwhile.
  const bool settled = !member && !Migrating(options_.map, pg);
  if (record.trashed && (!record.surplus || !settled)) {
    verdict.keep.append(AsView(record.id.bytes()));
  } else if (settled && record.touch < horizon_) {
    verdict.strays.push_back(record);
  }
}

void Collector::JudgeGarbage(const Listed& record, Verdict& verdict) {
  if (record.touch >= horizon_) {
    if (!sweeping_) report_.set_held_records(report_.held_records() + 1);
    return;
  }
  // What goes into the trash now is let go of in the same run when there is no grace.
  const bool stays = record.trashed && !record.surplus;
  if (request_.grace_nanos() == 0 || (stays && record.due)) CountDue(1);
  // (After a rebuild the node sees which have to begin their grace anew.)
  if (stays && floor_run_ == 0) return;
  verdict.trash.append(AsView(record.id.bytes()));
  if (sweeping_ || record.trashed) return;
  report_.set_trashed_records(report_.trashed_records() + 1);
  report_.set_trashed_bytes(report_.trashed_bytes() + record.length);
}

// Copies on nodes that left their group go once all of its present nodes show that they have them.
void Collector::CheckStrays(std::shared_ptr<Verdict> verdict) {
  if (verdict->strays.empty()) return Act(verdict, "");
  std::vector<std::vector<size_t>> asked;  // Per member: places in strays.
  std::vector<uint32_t> members;
  for (size_t i = 0; i < verdict->strays.size(); ++i) {
    for (uint32_t node : ActingSet(options_.map, verdict->strays[i].id)) {
      auto it = std::find(members.begin(), members.end(), node);
      if (it == members.end()) {
        members.push_back(node);
        asked.emplace_back();
        it = members.end() - 1;
      }
      asked[it - members.begin()].push_back(i);
    }
  }
  // The copy itself has to be the same.
  members.push_back(verdict->node);
  asked.emplace_back();
  for (size_t i = 0; i < verdict->strays.size(); ++i) asked.back().push_back(i);
  std::vector<NodeCall> calls;
  for (size_t m = 0; m < members.size(); ++m) {
    proto::NodeStatRequest request;
    for (size_t i : asked[m]) request.mutable_ids()->append(AsView(verdict->strays[i].id.bytes()));
    request.set_map_version(verdict->map_version);
    calls.push_back({members[m], MakeMessage(rpc::kNodeStat, request)});
  }
  nodes_.Gather(std::move(calls), kAskNanos,
                [this, verdict, asked, members, serial = serial_](const NodeReplies& replies) {
                  if (serial == serial_ && GoOn()) JudgeStrays(verdict, asked, members, replies);
                });
}

void Collector::JudgeStrays(const std::shared_ptr<Verdict>& verdict,
                            const std::vector<std::vector<size_t>>& asked,
                            const std::vector<uint32_t>& members, const NodeReplies& replies) {
  struct Seen {
    uint32_t good = 0;              // Of the group's nodes; who answered and …
    std::vector<uint32_t> lacking;  // … lacks it.
    std::string checksum;
    bool here = false;  // The copy itself.
    bool differs = false;
  };
  std::vector<Seen> seen(verdict->strays.size());
  for (size_t m = 0; m < members.size(); ++m) {
    const StatusOr<proto::NodeStatReply> reply =
        replies[m].ok() ? ParseHead<proto::NodeStatReply>(*replies[m]) : replies[m].status();
    if (!reply.ok() || static_cast<size_t>(reply->answers_size()) != asked[m].size()) continue;
    for (size_t k = 0; k < asked[m].size(); ++k) {
      Seen& s = seen[asked[m][k]];
      const proto::RecordAnswer& answer = reply->answers(static_cast<int>(k));
      const bool stray = members[m] == verdict->node;
      if (answer.status() == proto::PRESENT || (stray && answer.status() == proto::TRASHED)) {
        s.differs |= !s.checksum.empty() && s.checksum != answer.checksum();
        s.checksum = answer.checksum();
        if (stray) {
          s.here = true;
        } else {
          ++s.good;
        }
      } else if (!stray) {
        s.lacking.push_back(members[m]);
      }
    }
  }
  std::string surplus;
  std::map<uint32_t, std::vector<size_t>> wanted;
  for (size_t i = 0; i < seen.size(); ++i) {
    const Seen& s = seen[i];
    const Listed& stray = verdict->strays[i];
    if (s.here && !s.differs && s.good >= options_.map.replicas) {
      surplus.append(AsView(stray.id.bytes()));
      if (stray.due && request_.grace_nanos() > 0) CountDue(1);
      continue;
    }
    // Not yet, or no more.
    if (stray.trashed) verdict->keep.append(AsView(stray.id.bytes()));
    // What one member has, repair brings to the others.
    for (const uint32_t node : s.lacking) {
      if (s.good == 0) wanted[node].push_back(i);
    }
  }
  if (!sweeping_) {
    const size_t records = surplus.size() / RecordId::kSize;
    report_.set_surplus_records(report_.surplus_records() + records);
    if (request_.grace_nanos() == 0) CountDue(records);
  }
  for (const auto& [node, strays] : wanted) Want(*verdict, node, strays);
  Act(verdict, std::move(surplus));
}

// In requests that neither node has to hold much for.
void Collector::Want(Verdict& verdict, uint32_t node, const std::vector<size_t>& strays) {
  uint64_t bytes = kCopiedBytes;
  for (const size_t i : strays) {
    const Listed& stray = verdict.strays[i];
    if (bytes >= kCopiedBytes ||
        verdict.copies.back().ids.size() >= kCopiedAtOnce * RecordId::kSize) {
      verdict.copies.push_back({node, verdict.node, "", "", nullptr});
      bytes = 0;
    }
    verdict.copies.back().ids.append(AsView(stray.id.bytes()));
    Buffer touch;
    Writer(touch).U64(std::max(stray.touch, horizon_));
    verdict.copies.back().touches.append(AsView(touch));
    bytes += stray.length;
  }
}

void Collector::Act(const std::shared_ptr<Verdict>& verdict, std::string surplus) {
  if (!sweeping_) return Acted(verdict);
  std::vector<NodeCall> calls;
  if (!verdict->trash.empty() || !verdict->keep.empty()) {
    proto::NodeTrashRequest request;
    SetRun(*request.mutable_run());
    request.set_ids(verdict->trash);
    request.set_keep(verdict->keep);
    calls.push_back({verdict->node, MakeMessage(rpc::kNodeTrash, request)});
  }
  if (!surplus.empty()) {
    proto::NodeTrashRequest request;
    SetRun(*request.mutable_run());
    request.set_ids(std::move(surplus));
    request.set_surplus(true);
    request.set_map_version(verdict->map_version);
    calls.push_back({verdict->node, MakeMessage(rpc::kNodeTrash, request)});
  }
  if (calls.empty()) return CopyStrays(verdict);
  nodes_.Gather(
      std::move(calls), kAskNanos,
      [this, verdict, serial = serial_](const NodeReplies& replies) {
        if (serial == serial_ && GoOn()) TakeTrashed(verdict, replies);
      },
      kAttempts);
}

void Collector::TakeTrashed(const std::shared_ptr<Verdict>& verdict, const NodeReplies& replies) {
  for (const NodeReply& one : replies) {
    const StatusOr<proto::NodeTrashReply> reply =
        one.ok() ? ParseHead<proto::NodeTrashReply>(*one) : one.status();
    if (absl::IsFailedPrecondition(reply.status())) {
      return Fail(FromNode(verdict->node, reply.status()));
    }
    if (!reply.ok()) {
      LoseNode(verdict->node, reply.status());
      return NodeListed();
    }
    report_.set_trashed_records(report_.trashed_records() + reply->trashed());
    report_.set_kept_records(report_.kept_records() + reply->kept());
  }
  CopyStrays(verdict);
}

// What could not be copied, another run tries again.
void Collector::CopyStrays(const std::shared_ptr<Verdict>& verdict) {
  if (verdict->copies.empty()) return Acted(verdict);
  CopyQueue::Copy copy = std::move(verdict->copies.back());
  verdict->copies.pop_back();
  copy.done = [this, verdict, serial = serial_](const auto&) {
    if (serial == serial_ && GoOn()) CopyStrays(verdict);
  };
  copies_.Add(std::move(copy));
}

void Collector::Acted(const std::shared_ptr<Verdict>& verdict) {
  if (verdict->next.empty()) return NodeListed();
  ListNode(verdict->node, verdict->next);
}

void Collector::NodeListed() {
  if (--waiting_ > 0) return;
  report_.set_done(bucket_end_);
  const int64_t worked = env_.clock.MonotonicNanos() - buckets_nanos_;
  const bool beside = sweeping_ && sessions_.open_count() > 0;
  Later([](Collector& c) { c.NextBuckets(); }, beside ? std::min(worked, kLongestRest) : 0);
}

std::string Collector::TooMuch() const {
  std::string text = absl::StrCat(report_.trashed_records(), " of ", report_.listed_records(),
                                  " records would go into the trash: give --yes if that is right");
  // Purge comes before all else: a version whose chunks go must not be there to be brought back.
  const uint64_t purged = report_.purged_versions();
  if (purged == 0) return text;
  return absl::StrCat(text, "; ", purged, purged == 1 ? " version was" : " versions were",
                      " purged before that, and cannot be brought back");
}

void Collector::AfterPass() {
  report_.set_peak_mark_bytes(marks_->peak_bytes());
  if (sweeping_) return Compact();
  const double fraction = static_cast<double>(report_.trashed_records()) /
                          std::max<double>(1, static_cast<double>(report_.listed_records()));
  report_.set_needs_consent(report_.trashed_records() > options_.gc_consent_records &&
                            fraction > kConsentFraction);
  if (request_.dry_run()) return Finish();
  if (report_.needs_consent() && !request_.consent()) {
    return Fail(absl::FailedPreconditionError(TooMuch()));
  }
  if (HOLDFAST_MUTANT(horizon_after_mark)) horizon_ = sessions_.LowestEpoch(log_.head().epoch);
  sweeping_ = true;
  bucket_ = bucket_end_ = 0;
  report_.set_trashed_records(0);  // Counted as it is done.
  Enter(Phase::SWEEP, MarkSet::kBuckets);
  NextBuckets();
}

}  // namespace holdfast
