#include "tests/sim/story.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/rpc/methods.h"

namespace holdfast::sim {
namespace {

constexpr size_t kLogged = 60;

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
  options.lost = static_cast<double>(scenario.Draw("lost_permille", 0, choice)) / 1000;
  options.slow_nanos = static_cast<int64_t>(scenario.Draw("slow_millis", 0, choice)) * kMilli;
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
  SimOptions options = OptionsOf(scenario, choice_);
  options.on_request = [this](const std::string& address, const RpcMessage& request) {
    Trace(address, request);
  };
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

// Whole heads, and the sizes of what comes with them.
void Story::Trace(const std::string& address, const RpcMessage& request) {
  std::string text = absl::StrCat(trace_, " ", sim_->clock().MonotonicNanos(), " ", address, " ",
                                  request.method, " ", request.head.size(), " ", request.head);
  for (const SharedBytes& frame : request.frames) absl::StrAppend(&text, " ", frame.view.size());
  trace_ = std::hash<std::string>()(text);
  ++requests_;
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
    calm_ = true;
    if (!bad()) Settle();
    if (!bad()) CheckQuiet();
    calm_ = false;
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
  if (action == "bring_back") return BringBack();
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
  if (action == "fail_sync") return FailSync();
  if (action == "fill_disks") return FillDisks();
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

}  // namespace holdfast::sim
