// What must be true in a story (story.h has the list).
#include <algorithm>

#include "client/reader.h"
#include "common/base/clock.h"
#include "common/cluster/replan.h"
#include "tests/sim/story.h"

namespace holdfast::sim {

// All there, all whole. A copy that is lost on its way is asked for again after two minutes: while
// many get lost there would be no end of that.
void Story::Settle() {
  sim_->SetCalm(true);
  BecomeWhole();
  sim_->SetCalm(calm_);
}

void Story::BecomeWhole() {
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
      return Violated("G4: " + info.name + " needs " + id.hex().substr(0, 12) + " on nodes" +
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
  if (bad()) return;
  if (flipped_.empty()) {
    const auto damage = sim_->Damage();
    if (!damage.ok()) return Violated("a check of everything: " + Message(damage.status()));
    if (!damage->empty()) return Violated("damage: " + damage->front());
  } else {
    if (sim_->Map().replicas == 1) return;  // Damage stays where it is until it is met.
    CheckRepairs();
  }
  if (!bad()) CheckStores();
  if (!bad() && scenario_.Draw("collects", 1, choice_) != 0) CheckCollects();
}

// When all is quiet nothing stands in the way of an ingest.
void Story::CheckStores() {
  // A commit record that found a disk full, or got lost, is sent again within some 15 seconds.
  sim_->RunFor(30 * kSecond);
  busy_ = true;
  const auto stored = IngestSome();
  busy_ = false;
  if (!stored.ok()) return Violated("nothing can be stored: " + Message(stored.status()));
  if (stored->errors > 0) return Violated("not all can be stored");
  Check();
}

// Where there are other copies, what rots is found by a check of everything, and made whole. But
// for garbage, which goes when it is collected.
void Story::CheckRepairs() {
  const auto found = sim_->Damage();
  if (!found.ok()) return Violated("a check of everything: " + Message(found.status()));
  Settle();
  if (bad()) return;
  // What it found when it last started is said until it starts again.
  sim_->StopNode(*rotting_);
  Must(sim_->StartNode(*rotting_), "restart of a node");
  Settle();
  if (bad()) return;
  const auto left = sim_->Damage();
  if (!left.ok()) return Violated("a check of everything: " + Message(left.status()));
  const auto page = sim_->vault().List("case", {.limit = 10'000}, "");
  for (const ObjectInfo& info : page.ok() ? page->objects : std::vector<ObjectInfo>()) {
    const auto ids = RecordsOf(info);
    if (!ids.ok()) return Must(ids.status(), info.name);
    for (const RecordId& id : *ids) {
      for (const std::string& line : *left) {
        if (line.find(id.hex()) != std::string::npos) return Violated("not repaired: " + line);
      }
    }
  }
  flipped_.clear();
  Check();
}

// What nobody needs goes, and nothing else.
void Story::CheckCollects() {
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
  const auto damage = sim_->Damage();
  if (!damage.ok()) return Violated("a check of everything: " + Message(damage.status()));
  if (!damage->empty()) return Violated("damage: " + damage->front());
}

}  // namespace holdfast::sim
