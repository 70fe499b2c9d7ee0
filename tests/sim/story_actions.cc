// What happens in a story: each action of a scenario, and what is expected after it.
#include <algorithm>
#include <utility>

#include "common/base/clock.h"
#include "common/rpc/methods.h"
#include "tests/client/memory_source.h"
#include "tests/sim/story.h"

namespace holdfast::sim {
namespace {

// What an ingest is told, and what happens meanwhile.
class Listener : public IngestObserver {
 public:
  Listener(std::function<void(const std::string&)> acked, std::function<void()> beside)
      : acked_(std::move(acked)), beside_(std::move(beside)) {}
  void OnObject(const std::string& name, const VersionId&, ObjectState) override {
    acked_(name);
    beside_();
  }
  void OnError(const std::string&, const Status&) override { beside_(); }

 private:
  std::function<void(const std::string&)> acked_;
  std::function<void()> beside_;
};

}  // namespace

void Story::Ingest() {
  Soon();
  (void)IngestSome();
}

StatusOr<IngestSummary> Story::IngestSome(std::optional<uint64_t> with) {
  auto engine = kernels::MakePortableEngine(sim_->vault().engine_options());
  MemorySource source;
  std::map<std::string, uint64_t> names;
  const uint64_t count = 1 + choice_.Below(objects_.size());
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t n = with ? *std::exchange(with, std::nullopt) : choice_.Below(objects_.size());
    if (names.emplace(Name(n), n).second) source.AddFile(Name(n), objects_[n].content);
  }
  IngestOptions options;
  options.collection = "case";
  options.threads = -1;
  options.slab_bytes = 1u << 20;
  options.commit_objects = 1 + choice_.Below(6);
  const auto acked = [&](const std::string& name) {
    Object& object = objects_[names.at(name)];
    object.expected = object.contested ? Expected::kEither : Expected::kPresent;
    object.in_trash = false;
    ++object.changes;
    ++counts_.acked;
  };
  // What is not acknowledged may be there all the same.
  for (const auto& [name, n] : names) {
    if (objects_[n].expected == Expected::kAbsent) objects_[n].expected = Expected::kEither;
    objects_[n].ingesting = true;
    objects_[n].contested = false;
  }
  Listener listener(acked, [this] { Beside(); });
  const auto summary = holdfast::Ingest(sim_->vault(), *engine, source, options, listener);
  for (const auto& [name, n] : names) {
    objects_[n].ingesting = false;
    if (objects_[n].contested) objects_[n].expected = Expected::kEither;
  }
  log_.push_back(
      "  ingest of " + std::to_string(names.size()) + ": " +
      (summary.ok() ? std::to_string(summary->errors) + " errors" : Message(summary.status())));
  return summary;
}

void Story::Remove() {
  uint64_t n = choice_.Below(objects_.size());
  // Now and then one that is not there.
  for (int i = 0; i < 8 && objects_[n].expected == Expected::kAbsent; ++i) {
    n = choice_.Below(objects_.size());
  }
  RemoveOne(n, choice_.Below(6) == 0);
}

void Story::RemoveOne(uint64_t n, bool now) {
  Object& object = objects_[n];
  ++object.changes;
  Vault::RemoveOptions options;
  options.now = now;
  object.contested |= object.ingesting;
  const auto removed = sim_->vault().Remove("case", Name(n), options);
  if (removed.ok()) {
    object.expected = Expected::kAbsent;
    object.in_trash = !options.now && removed->versions > 0;
    ++counts_.removed;
  } else if (!absl::IsNotFound(removed.status())) {
    object.expected = Expected::kEither;
    object.in_trash = false;
  } else if (object.expected == Expected::kPresent) {
    Violated(Name(n) + " was acknowledged and cannot be removed: " + Message(removed.status()));
  }
  log_.push_back("  " + Name(n) + (options.now ? " for good: " : ": ") +
                 (removed.ok() ? "removed" : Message(removed.status())));
}

void Story::Undo() {
  std::vector<uint64_t> candidates;
  for (uint64_t n = 0; n < objects_.size(); ++n) {
    if (objects_[n].in_trash && objects_[n].expected == Expected::kAbsent) candidates.push_back(n);
  }
  if (candidates.empty()) return;
  const uint64_t n = candidates[choice_.Below(candidates.size())];
  Object& object = objects_[n];
  object.contested |= object.ingesting;
  ++object.changes;
  Vault::RemoveOptions options;
  options.undo = true;
  const auto undone = sim_->vault().Remove("case", Name(n), options);
  if (undone.ok()) {
    object.expected = Expected::kPresent;
    object.in_trash = false;
    ++counts_.undone;
  } else if (!absl::IsNotFound(undone.status())) {
    object.expected = Expected::kEither;
  } else {
    object.in_trash = false;  // Purged meanwhile.
  }
  log_.push_back("  " + Name(n) + ": " + (undone.ok() ? "undone" : Message(undone.status())));
}

void Story::StartCollection(bool thorough) {
  proto::GcStartRequest request;
  request.set_consent(true);
  request.set_sparse_only(!thorough && choice_.Below(3) == 0);
  request.set_dry_run(!thorough && choice_.Below(12) == 0);
  if (!thorough) {
    if (choice_.Below(3) == 0) request.set_undo_window_nanos(30 * kSecond);
    if (choice_.Below(2) == 0) {
      request.set_grace_nanos(static_cast<int64_t>(choice_.Below(120)) * kSecond);
    }
  }
  const auto started = sim_->GcStart(request);
  log_.push_back("  collection: " + (started.ok() ? "begun" : Message(started.status())));
  collecting_ |= started.ok();
}

// Just as a collection is about to let go of it, somebody stores the same content.
void Story::BringBack() {
  const uint64_t n = choice_.Below(objects_.size());
  if (busy_ || objects_[n].expected != Expected::kPresent) return;
  RemoveOne(n, /*now=*/true);
  StartCollection(true);
  const auto compacts = [this] {
    const auto report = sim_->GcStatus();
    return !report.ok() || report->phase() >= proto::GcStatusReply::COMPACT;
  };
  for (int i = 0; i < 1000 && !compacts(); ++i) sim_->RunFor(kMilli);
  sim_->RunFor(static_cast<int64_t>(choice_.Below(40)) * kMilli);
  busy_ = true;
  (void)IngestSome(n);
  busy_ = false;
}

void Story::NoteCollection() {
  const auto report = sim_->GcStatus();
  if (!report.ok()) return;
  const bool over = report->phase() == proto::GcStatusReply::DONE ||
                    report->phase() == proto::GcStatusReply::FAILED ||
                    report->phase() == proto::GcStatusReply::PHASE_UNSPECIFIED;
  if (!over || !collecting_) return;
  collecting_ = false;
  counts_.collections += report->phase() == proto::GcStatusReply::DONE;
  counts_.interrupted += report->phase() != proto::GcStatusReply::DONE;
  if (!report->dry_run()) {
    counts_.trashed += report->trashed_records();
    counts_.freed += report->freed_records();
  }
  std::string text = "  collection over: " + report->ShortDebugString();
  log_.push_back(text);
}

void Story::AwaitCollection() {
  for (int i = 0; i < 4000 && collecting_ && !bad(); ++i) {
    sim_->RunFor(100 * kMilli);
    NoteCollection();
  }
  if (collecting_) {
    const auto report = sim_->GcStatus();
    Violated("a collection does not end: " +
             (report.ok() ? report->ShortDebugString() : Message(report.status())));
  }
}

void Story::StopNode() {
  if (away_) return;
  const uint32_t node = static_cast<uint32_t>(choice_.Below(nodes_));
  if (!sim_->runs(node)) return;
  away_ = node;
  sim_->StopNode(node);
  log_.push_back("  node " + std::to_string(node) + " stops");
}

void Story::StartNode() {
  if (!away_) return;
  Must(sim_->StartNode(*away_), "start of a node");
  log_.push_back("  node " + std::to_string(*away_) + " starts");
  away_.reset();
}

void Story::RestartNode(bool lose_index) {
  const uint32_t node = static_cast<uint32_t>(choice_.Below(nodes_));
  if (!sim_->runs(node)) return;
  sim_->StopNode(node);
  Must(lose_index ? sim_->LoseIndex(node) : sim_->StartNode(node), "restart of a node");
  log_.push_back("  node " + std::to_string(node) + " restarts");
}

// Only while the others have everything.
void Story::ReplaceDisk() {
  if (away_ || sim_->Map().replicas == 1) return;
  Settle();
  if (bad()) return;
  const uint32_t node = rotting_ ? *rotting_ : static_cast<uint32_t>(choice_.Below(nodes_));
  Must(sim_->ReplaceDisk(node), "a new disk");
  log_.push_back("  node " + std::to_string(node) + " has a new disk");
  Settle();
}

void Story::RestartCoordinator() {
  sim_->StopCoordinator();
  Must(sim_->StartCoordinator(), "restart of the coordinator");
  if (collecting_) ++counts_.interrupted;
  collecting_ = false;
}

void Story::LoseCatalogue(bool clone) {
  // Who may do what in a cluster is in commit records, and there is none before the first commit.
  if (away_ || counts_.acked == 0) return;
  Buffer backup;
  if (!backups_.empty() && choice_.Below(2) == 0) {
    backup = backups_[choice_.Below(backups_.size())];
  }
  if (clone) RemoveAtClone();
  Must(clone ? sim_->CloneCatalogue(backup) : sim_->LoseCatalogue(backup),
       "a catalogue that is made anew");
  collecting_ = false;
  restored_ = true;
  ++(clone ? counts_.clones : counts_.restores);
  // Backups and images of another generation's catalogue are of no use.
  backups_.clear();
  image_.reset();
}

// Somebody is with the old coordinator at the moment when another one takes its place.
void Story::RemoveAtClone() {
  const uint64_t n = choice_.Below(objects_.size());
  Object& object = objects_[n];
  if (object.expected != Expected::kPresent || object.ingesting) return;
  object.expected = Expected::kEither;
  object.in_trash = false;
  proto::RemoveRequest request;
  request.set_collection("case");
  request.set_name(Name(n));
  request.set_request(ToString(sim_->rng().NewId<SessionId>().bytes()));
  Send(SimVault::kCloneAddress, static_cast<int64_t>(choice_.Below(20)) * kMilli,
       MakeMessage(rpc::kRemove, request), [this, n, at = ++object.changes](const auto& reply) {
         if (!reply.ok() || objects_[n].changes != at) return;
         objects_[n].expected = Expected::kAbsent;
         log_.push_back("  " + Name(n) + " was removed by the old coordinator");
       });
}

// The old coordinator knows nothing of what has been committed since, and takes it for garbage.
void Story::CollectByClone() {
  if (!sim_->clone_runs()) return;
  proto::GcStartRequest request;
  request.set_consent(true);
  // Each has a horizon above that of the one before.
  for (uint64_t run = busy_ ? 4 : choice_.Below(4); run < 5; ++run) {
    const auto started = sim_->GcStart(request, /*clone=*/true);
    log_.push_back("  collection by the old coordinator: " +
                   (started.ok() ? "begun" : Message(started.status())));
    if (busy_ || !started.ok()) return;
    for (int i = 0; i < 60; ++i) {
      sim_->RunFor(kSecond);
      const auto report = sim_->GcStatus(/*clone=*/true);
      if (!report.ok() || report->phase() == proto::GcStatusReply::DONE ||
          report->phase() == proto::GcStatusReply::FAILED) {
        log_.push_back("  " +
                       (report.ok() ? report->ShortDebugString() : Message(report.status())));
        break;
      }
    }
  }
}

// The coordinator's disk is put back to an earlier image while nodes are away that could say so.
// It must refuse, or do nothing; the disk as it was before is then put back in turn.
void Story::RollBackCatalogue() {
  if (busy_ || away_ || !image_) return;
  AwaitCollection();
  if (bad() || sim_->VaultStatus().commits() <= image_commits_) return;
  std::set<uint32_t> stopped;
  const uint64_t count = 1 + choice_.Below(nodes_ - 1);
  while (stopped.size() < count) stopped.insert(static_cast<uint32_t>(choice_.Below(nodes_)));
  for (const uint32_t node : stopped) sim_->StopNode(node);
  sim_->StopCoordinator();
  MemKvDisk now;
  sim_->TakeImage(now);
  sim_->PutBack(*image_);
  const Status opened = sim_->StartCoordinator();
  log_.push_back("  the catalogue of " + std::to_string(image_commits_) + " commits, " +
                 std::to_string(count) +
                 " nodes away: " + (opened.ok() ? "opens" : Message(opened)));
  ++counts_.put_back;
  const auto collect = [&] {
    StartCollection(true);
    for (int i = 0; i < 600 && collecting_; ++i) {
      sim_->RunFor(100 * kMilli);
      NoteCollection();
    }
    collecting_ = false;
  };
  if (opened.ok()) collect();
  for (const uint32_t node : stopped) Must(sim_->StartNode(node), "start of a node");
  if (opened.ok()) collect();
  sim_->StopCoordinator();
  sim_->PutBack(now);
  Must(sim_->StartCoordinator(), "the catalogue's disk as it was");
}

// With one copy of everything, some object may be gone by that; with more, none, as long as all
// that flips is on one node.
void Story::FlipBit() {
  if (away_) return;
  if (!rotting_ || sim_->Map().replicas == 1) {
    rotting_ = static_cast<uint32_t>(choice_.Below(nodes_));
  }
  sim_->StopNode(*rotting_);
  const auto id = sim_->FlipBit(*rotting_);
  Must(id.status(), "a bit that flips");
  if (id.ok() && *id) {
    flipped_.insert(**id);
    ++counts_.flips;
  }
  Must(choice_.Below(2) == 0 ? sim_->LoseIndex(*rotting_) : sim_->StartNode(*rotting_),
       "restart of a node");
}

// The node trusts its disk no more until it is started again; what it had not answered is lost.
void Story::FailSync() {
  if (busy_) return;
  const uint32_t node = static_cast<uint32_t>(choice_.Below(nodes_));
  if (!sim_->runs(node)) return;
  Must(sim_->FailNextSync(node), "a sync that fails");
  busy_ = true;
  Ingest();
  busy_ = false;
  sim_->StopNode(node);
  // The ingest may have had nothing for it: then it is the start whose sync fails.
  if (!sim_->StartNode(node).ok()) Must(sim_->StartNode(node), "start after a failed sync");
  log_.push_back("  node " + std::to_string(node) + " restarts after a failed sync");
}

// Everybody's, in the middle of an ingest; then there is room again.
void Story::FillDisks() {
  if (busy_) return;
  Must(sim_->LimitSpace(choice_.Below(400'000)), "disks that are full");
  if (choice_.Below(2) == 0) StartCollection(false);
  busy_ = true;
  Ingest();
  busy_ = false;
  AwaitCollection();
  Must(sim_->LimitSpace(std::nullopt), "room");
}

// Everywhere at once, in the middle of an ingest, with or without a collection.
void Story::CutPower() {
  if (busy_) return;
  if (choice_.Below(2) == 0) StartCollection(false);
  sim_->power().CutAfter(1 + choice_.Below(400));
  busy_ = true;  // Nothing else beside it.
  Ingest();
  busy_ = false;
  sim_->CrashAndReboot();
  Must(sim_->Open(), "opening after a power cut");
  away_.reset();
  collecting_ = false;
  log_.push_back("  the power is back");
}

void Story::AddNode() {
  if (spare_ == 0) return;
  const Status added = sim_->AddNode(nodes_);
  if (added.ok()) {
    ++nodes_;
    --spare_;
  }
  log_.push_back("  one more node: " + Message(added));
}

void Story::SetNodeState(proto::SetNodeStateRequest::Action action) {
  const uint32_t node = static_cast<uint32_t>(choice_.Below(nodes_));
  const Status set = sim_->SetNodeState(node, action);
  log_.push_back("  node " + std::to_string(node) + ": " + (set.ok() ? "done" : Message(set)));
}

}  // namespace holdfast::sim
