#include "tests/sim/story.h"

#include <algorithm>

#include "client/reader.h"
#include "common/base/clock.h"
#include "common/cluster/replan.h"
#include "common/rpc/methods.h"
#include "tests/client/memory_source.h"

namespace holdfast::sim {
namespace {

constexpr size_t kLogged = 60;
constexpr int64_t kDay = 86400 * kSecond;

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

SimOptions OptionsOf(const Scenario& scenario, SimRng& choice) {
  SimOptions options;
  options.cluster = true;
  options.nodes = static_cast<uint32_t>(scenario.Draw("nodes", 3, choice));
  options.replicas =
      std::min(options.nodes, static_cast<uint32_t>(scenario.Draw("replicas", 2, choice)));
  options.spare = static_cast<uint32_t>(scenario.Draw("spare", 0, choice));
  options.segment_bytes = scenario.Draw("segment_kib", 256, choice) / 4 * 4 << 10;
  options.batch_bytes = scenario.Draw("batch_kib", 16, choice) << 10;
  options.chunk_size = 64u << 10;
  options.index_flush_bytes = scenario.Draw("index_flush_kib", 1024, choice) << 10;
  options.duplicate = static_cast<double>(scenario.Draw("duplicate_permille", 0, choice)) / 1000;
  options.drop = static_cast<double>(scenario.Draw("drop_permille", 0, choice)) / 1000;
  options.late = static_cast<double>(scenario.Draw("late_permille", 0, choice)) / 1000;
  options.copy_bytes_per_second = scenario.Draw("copy_kib_per_second", 100u << 10, choice) << 10;
  options.out_after_nanos =
      static_cast<int64_t>(scenario.Draw("out_after_seconds", 3600, choice)) * kSecond;
  options.session_lease_nanos =
      static_cast<int64_t>(scenario.Draw("lease_seconds", 900, choice)) * kSecond;
  return options;
}

}  // namespace

void Story::Counts::Add(const Counts& other) {
  acked += other.acked;
  removed += other.removed;
  undone += other.undone;
  collections += other.collections;
  trashed += other.trashed;
  freed += other.freed;
  interrupted += other.interrupted;
  restores += other.restores;
  flips += other.flips;
  put_back += other.put_back;
  clones += other.clones;
}

Story::Story(const Scenario& scenario, uint64_t seed)
    : scenario_(scenario), choice_(seed ^ 0x570f) {
  const SimOptions options = OptionsOf(scenario, choice_);
  nodes_ = options.nodes;
  spare_ = options.spare;
  lease_nanos_ = options.session_lease_nanos;
  sim_ = std::make_unique<SimVault>(seed, options);
  // A few contents under many names, so that what is removed is often needed elsewhere.
  objects_.resize(scenario.Draw("objects", 24, choice_));
  for (Object& object : objects_) {
    const uint64_t dice = choice_.Below(10);
    const Object& other = objects_[choice_.Below(objects_.size())];
    if (dice < 4 && !other.content.empty()) {
      object.content = other.content;
    } else {
      object.content =
          RandomContent(choice_, dice < 8 ? 1 + choice_.Below(9000) : 1 + choice_.Below(300'000));
    }
  }
}

std::string Story::Play() {
  Must(sim_->Open(), "open");
  const uint64_t rounds = scenario_.Draw("rounds", 4, choice_);
  const uint64_t steps = scenario_.Draw("steps", 6, choice_);
  for (uint64_t round = 0; round < rounds && !bad(); ++round) {
    for (uint64_t step = 0; step < steps && !bad(); ++step) {
      Do(scenario_.Choose("do", choice_));
      if (!bad()) Check();
    }
    sim_->SetCalm(true);
    if (!bad()) Settle();
    if (!bad()) CheckQuiet();
    sim_->SetCalm(false);
  }
  if (!bad()) return "";
  std::string text = violation_;
  const size_t first = log_.size() > kLogged ? log_.size() - kLogged : 0;
  for (size_t i = first; i < log_.size(); ++i) text += "\n    " + log_[i];
  return text;
}

void Story::Violated(const std::string& what) {
  if (violation_.empty()) violation_ = what;
}

void Story::Must(const Status& status, const std::string& what) {
  if (!status.ok()) Violated(what + ": " + Message(status));
}

void Story::Do(const std::string& action) {
  log_.push_back(std::to_string(sim_->clock().MonotonicNanos() / 1'000'000) + " ms " + action);
  if (action == "ingest") return Ingest();
  if (action == "remove") return Remove();
  if (action == "undo") return Undo();
  if (action == "collect") return StartCollection(false);
  if (action == "collect_all") return StartCollection(true);
  if (action == "await_collection") return AwaitCollection();
  if (action == "stop_node") return StopNode();
  if (action == "start_node") return StartNode();
  if (action == "restart_node") return RestartNode(false);
  if (action == "lose_index") return RestartNode(true);
  if (action == "replace_disk") return ReplaceDisk();
  if (action == "restart_coordinator") return RestartCoordinator();
  if (action == "lose_catalogue") return LoseCatalogue(false);
  if (action == "clone_catalogue") return LoseCatalogue(true);
  if (action == "clone_collects") return CollectByClone();
  if (action == "roll_back") return RollBackCatalogue();
  if (action == "flip_bit") return FlipBit();
  if (action == "drain_node") return SetNodeState(proto::SetNodeStateRequest::DRAIN);
  if (action == "undrain_node") return SetNodeState(proto::SetNodeStateRequest::UNDRAIN);
  if (action == "add_node") return AddNode();
  if (action == "cut_power") return CutPower();
  if (action == "backup") {
    StatusOr<Buffer> backup = sim_->Backup();
    if (backup.ok()) backups_.push_back(*std::move(backup));
  } else if (action == "take_image") {
    image_commits_ = sim_->VaultStatus().commits();
    sim_->TakeImage(image_.emplace());
  } else if (action == "clock_jump") {
    sim_->clock().Jump((static_cast<int64_t>(choice_.Below(21)) - 10) * kDay);
  } else if (action == "wait") {
    sim_->RunFor(static_cast<int64_t>(choice_.Below(20'000)) * kMilli);
  } else if (!action.empty()) {
    Violated("the scenario names an action that there is not: " + action);
  }
}

// In the middle of an ingest.
void Story::Beside() {
  if (busy_ || bad() || choice_.Below(100) >= scenario_.Draw("beside_percent", 20, choice_)) return;
  busy_ = true;
  Do(scenario_.Choose("beside", choice_));
  busy_ = false;
}

// At some moment of an ingest, whatever it is at then.
void Story::Soon() {
  const std::string action = scenario_.Choose("soon", choice_);
  if (action.empty() || action == "nothing" || busy_) return;
  const auto nanos = static_cast<int64_t>(choice_.Below(60)) * kMilli;
  log_.push_back("  soon, in " + std::to_string(nanos / kMilli) + " ms: " + action);
  if (action == "collect") {
    proto::GcStartRequest request;
    request.set_consent(true);
    Send(kCoordinatorAddress, nanos, MakeMessage(rpc::kGcStart, request),
         [this](const auto& reply) { collecting_ |= reply.ok(); });
  } else if (action == "drain_node" || action == "undrain_node") {
    proto::SetNodeStateRequest request;
    request.set_node(static_cast<uint32_t>(choice_.Below(nodes_)));
    request.set_action(action == "drain_node" ? proto::SetNodeStateRequest::DRAIN
                                              : proto::SetNodeStateRequest::UNDRAIN);
    Send(kCoordinatorAddress, nanos, MakeMessage(rpc::kSetNodeState, request), [](const auto&) {});
  } else {
    Violated("the scenario names an action that there is not: " + action);
  }
}

void Story::Send(const std::string& address, int64_t nanos, RpcMessage request,
                 std::function<void(const StatusOr<RpcMessage>&)> done) {
  sim_->After(nanos, [this, address, request = std::move(request), done = std::move(done)] {
    sim_->transport().Call(address, request, 60 * kSecond, done);
  });
}

void Story::Ingest() {
  Soon();
  auto engine = kernels::MakePortableEngine(sim_->vault().engine_options());
  MemorySource source;
  std::map<std::string, uint64_t> names;
  const uint64_t count = 1 + choice_.Below(objects_.size());
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t n = choice_.Below(objects_.size());
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
}

void Story::Remove() {
  uint64_t n = choice_.Below(objects_.size());
  // Now and then one that is not there.
  for (int i = 0; i < 8 && objects_[n].expected == Expected::kAbsent; ++i) {
    n = choice_.Below(objects_.size());
  }
  Object& object = objects_[n];
  ++object.changes;
  Vault::RemoveOptions options;
  options.now = choice_.Below(6) == 0;
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

// All there, all whole.
void Story::Settle() {
  StartNode();
  sim_->StopClone();
  AwaitCollection();
  if (bad()) return;
  const auto whole = [this] {
    const proto::VaultStatusReply status = sim_->VaultStatus();
    return status.repair().known() && status.repair().missing() == 0 &&
           status.repair().to_move() == 0 && status.repair().migrating() == 0 &&
           status.repair().unreachable() == 0;
  };
  sim_->RunFor(7 * kSecond);
  const bool lost = !flipped_.empty() && sim_->Map().replicas == 1;
  if (!lost && !sim_->RunUntil(whole, 400 * kSecond)) {
    Violated("redundancy does not return: " + sim_->VaultStatus().repair().ShortDebugString());
  }
}

Status Story::CheckObject(const ObjectInfo& info, const std::string& expected) {
  ASSIGN_OR_RETURN(auto opened, sim_->vault().OpenObject(info));
  std::string got;
  RETURN_IF_ERROR(ReadObject(sim_->vault(), opened, 0, UINT64_MAX, [&](Bytes data) {
    got += AsView(data);
    return absl::OkStatus();
  }));
  return got == expected ? absl::OkStatus() : absl::DataLossError("content differs");
}

StatusOr<std::vector<RecordId>> Story::RecordsOf(const ObjectInfo& info) {
  ASSIGN_OR_RETURN(const auto opened, sim_->vault().OpenObject(info));
  std::vector<RecordId> ids;
  for (const PartRef& part : info.manifest.parts) ids.push_back(part.id);
  ASSIGN_OR_RETURN(const ManifestPart all, sim_->vault().Chunks(opened));
  for (const ChunkRef& chunk : all.chunks) ids.push_back(chunk.id);
  return ids;
}

// Whether it may have lost its only copy of something.
bool Story::Rotten(const ObjectInfo& info) {
  if (flipped_.empty() || sim_->Map().replicas > 1) return false;
  const auto ids = RecordsOf(info);
  return !ids.ok() || std::any_of(ids->begin(), ids->end(),
                                  [&](const RecordId& id) { return flipped_.contains(id); });
}

// What an answer promises, whether or not anybody reads it: G4 of docs/gc.md.
void Story::CheckHeld(const std::vector<ObjectInfo>& listed) {
  if (away_ || restored_ || !flipped_.empty()) return;
  const ClusterMap map = sim_->Map();
  const auto held = sim_->Held();
  if (!held.ok()) return Must(held.status(), "what the nodes hold");
  if (sim_->Map().version != map.version) return;  // Groups have moved meanwhile.
  for (const ObjectInfo& info : listed) {
    const auto ids = RecordsOf(info);
    if (!ids.ok()) return Must(ids.status(), info.name);
    for (const RecordId& id : *ids) {
      uint64_t holders = 0;
      if (const auto it = held->find(id); it != held->end()) {
        for (const uint32_t node : ActingSet(map, id)) {
          holders += std::count(it->second.begin(), it->second.end(), node);
        }
      }
      if (holders >= map.write_quorum()) continue;
      const auto name = [](const std::vector<uint32_t>& nodes) {
        std::string text;
        for (const uint32_t node : nodes) text += " " + std::to_string(node);
        return text.empty() ? " none" : text;
      };
      const auto it = held->find(id);
      return Violated(info.name + " needs " + id.hex().substr(0, 12) + " on nodes" +
                      name(ActingSet(map, id)) + ", and is held by" +
                      (it == held->end() ? " none" : name(it->second)));
    }
  }
}

void Story::Check() {
  const auto page = sim_->vault().List("case", {.limit = 10'000}, "");
  std::map<std::string, const ObjectInfo*> listed;
  if (page.ok()) {
    for (const ObjectInfo& info : page->objects) listed[info.name] = &info;
  } else if (!absl::IsNotFound(page.status())) {
    return Violated("nothing can be listed: " + Message(page.status()));
  }
  if (page.ok()) CheckHeld(page->objects);
  for (uint64_t n = 0; n < objects_.size() && !bad(); ++n) {
    const auto it = listed.find(Name(n));
    const Object& object = objects_[n];
    if (object.expected == Expected::kPresent && it == listed.end()) {
      Violated(Name(n) + " was acknowledged and is not listed");
    } else if (object.expected == Expected::kAbsent && it != listed.end()) {
      Violated(Name(n) + " was removed and is listed");
    } else if (it != listed.end()) {
      Status status = CheckObject(*it->second, object.content);
      // Requests get lost, too.
      for (int i = 0; i < 3 && absl::IsUnavailable(status); ++i) {
        status = CheckObject(*it->second, object.content);
      }
      if (absl::IsDataLoss(status) && Rotten(*it->second)) continue;
      if (absl::IsUnavailable(status) && away_ && sim_->Map().replicas == 1) continue;
      Must(status, Name(n));
    }
  }
}

void Story::CheckQuiet() {
  Check();
  if (bad() || !flipped_.empty()) return;  // Damage stays where it is until it is met.
  StatusOr<std::vector<std::string>> damage = sim_->Damage();
  if (!damage.ok()) return Violated("a check of everything: " + Message(damage.status()));
  if (!damage->empty()) return Violated("damage: " + damage->front());
  if (scenario_.Draw("collects", 1, choice_) == 0) return;
  // A clock that jumped back would keep things longer.
  sim_->clock().Jump(500 * kDay);
  // Two runs: the first may find sessions open that were left behind.
  for (int run = 0; run < 2 && !bad(); ++run) {
    sim_->RunFor(lease_nanos_ + 10 * kSecond);  // By then they are aborted.
    StartCollection(true);
    if (!collecting_) Violated("nothing can be collected when all is quiet");
    AwaitCollection();
  }
  const auto report = sim_->GcStatus();
  if (bad() || !report.ok()) return;
  if (report->phase() != proto::GcStatusReply::DONE || report->notes_size() > 0) {
    return Violated("a collection fails though all is quiet: " + report->ShortDebugString());
  }
  Settle();
  restored_ = false;
  Check();
  for (Object& object : objects_) object.in_trash = false;
  proto::GcStartRequest look;
  look.set_dry_run(true);
  if (bad() || !sim_->GcStart(look).ok()) return;
  collecting_ = true;
  AwaitCollection();
  const auto left = sim_->GcStatus();
  if (bad() || !left.ok()) return;
  const ClusterMap map = sim_->Map();
  const auto in = std::count_if(map.nodes.begin(), map.nodes.end(),
                                [](const MapNode& node) { return node.state == NodeState::kIn; });
  const uint64_t wanted =
      left->marked_records() * std::min<uint64_t>(static_cast<uint64_t>(in), map.replicas);
  if (left->listed_records() != wanted || left->in_trash_records() != 0) {
    Violated("the nodes hold other records than are needed: " + left->ShortDebugString());
  }
  damage = sim_->Damage();
  if (!damage.ok()) return Violated("a check of everything: " + Message(damage.status()));
  if (!damage->empty()) return Violated("damage: " + damage->front());
}

}  // namespace holdfast::sim
