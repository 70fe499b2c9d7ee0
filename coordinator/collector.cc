#include "coordinator/collector.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"
#include "common/base/mutant.h"
#include "common/base/text.h"
#include "coordinator/census.h"
#include "coordinator/parts.h"

namespace holdfast {
namespace {

// A disk that does not answer for so long is not waited for.
constexpr int64_t kStandstillNanos = 600 * kSecond;
constexpr uint32_t kMostSteps = 1u << 24;
constexpr int kMaxNotes = 100;

std::string SnapshotKey(uint64_t run) {
  return MetaKey(absl::StrCat(kGcSnapshotRow, EncodeGcNumber(run)));
}

Status DamagedRow(const char* row) {
  return absl::DataLossError(
      absl::StrCat("the catalogue's row \"", row, "\" is damaged: ", kRebuildHint));
}

}  // namespace

std::string EncodeGcNumber(uint64_t value) {
  std::string out;
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
  return out;
}

StatusOr<uint64_t> DecodeGcNumber(std::string_view value) {
  if (value.size() != 8) return absl::DataLossError("a number has 8 bytes");
  uint64_t number = 0;
  for (char c : value) number = number << 8 | static_cast<uint8_t>(c);
  return number;
}

KvBatch GcRowsAfterRebuild(uint64_t run) {
  return {{MetaKey(kGcRunRow), EncodeGcNumber(run)},
          {MetaKey(kGcFloorRow), EncodeGcNumber(run)},
          {MetaKey(kGcRestoredRow), std::string("1")}};
}

StatusOr<proto::GcStartReply> Collector::Start(const proto::GcStartRequest& request) {
  proto::GcStartReply reply;
  reply.set_already_running(running_);
  *reply.mutable_request() = running_ ? request_ : request;
  if (running_) return reply;
  if (request.undo_window_nanos() < 0 || request.grace_nanos() < 0) {
    return absl::InvalidArgumentError("undo window and grace are not negative");
  }
  if (env_.fs == nullptr) {
    return absl::FailedPreconditionError("this coordinator has no directory for marks");
  }
  RETURN_IF_ERROR(log_.refused());
  if (!log_.proved()) {
    return absl::UnavailableError("the catalogue may be behind the nodes: nothing is collected");
  }
  running_ = true;
  stop_ = restored_ = sweeping_ = false;
  ++serial_;
  request_ = request;
  report_ = {};
  more_notes_ = 0;
  report_.set_dry_run(request.dry_run());
  lost_.assign(options_.map.nodes.size(), false);
  cursor_.clear();
  parts_.clear();
  part_names_.clear();
  bucket_ = bucket_end_ = 0;
  Enter(Phase::BEGIN, 0);
  Later([](Collector& c) { c.Census(); });
  return reply;
}

proto::GcStatusReply Collector::Report() const {
  proto::GcStatusReply report = report_;
  if (running_) report.set_phase_nanos(env_.clock.MonotonicNanos() - phase_began_nanos_);
  if (more_notes_ > 0) report.add_notes(absl::StrCat("and ", more_notes_, " more"));
  return report;
}

bool Collector::Stop() {
  stop_ = true;
  return running_;
}

void Collector::Enter(proto::GcStatusReply::Phase phase, uint64_t total) {
  const int64_t now = env_.clock.MonotonicNanos();
  if (report_.phase() != Phase::PHASE_UNSPECIFIED) {
    proto::GcStatusReply::PhaseTime& took = *report_.add_took();
    took.set_phase(report_.phase());
    took.set_nanos(now - phase_began_nanos_);
  }
  report_.set_phase(phase);
  report_.set_done(0);
  report_.set_total(total);
  phase_began_nanos_ = now;
}

void Collector::Fail(const Status& status) {
  if (!running_) return;
  running_ = false;
  Enter(Phase::FAILED, 0);
  report_.set_code(static_cast<int>(status.code()));
  report_.set_error(Message(status));
  snapshot_.reset();
  marks_.reset();
}

void Collector::Note(std::string note) {
  if (report_.notes_size() == kMaxNotes) {
    ++more_notes_;
  } else {
    report_.add_notes(std::move(note));
  }
}

void Collector::LoseNode(uint32_t node, const Status& why) {
  if (lost_[node]) return;
  lost_[node] = true;
  Note(absl::StrCat("node ", node, " is left for another run: ", Message(why)));
}

bool Collector::GoOn() {
  if (!running_) return false;
  if (!log_.refused().ok()) Fail(log_.refused());
  if (stop_) Fail(absl::CancelledError("stopped"));
  return running_;
}

void Collector::Later(std::function<void(Collector&)> then, int64_t rest_nanos) {
  auto task = guard_.Wrap([this, serial = serial_, then = std::move(then)] {
    if (serial == serial_ && GoOn()) then(*this);
  });
  rest_nanos > 0 ? env_.loop.PostAfter(rest_nanos, std::move(task))
                 : env_.loop.Post(std::move(task));
}

void Collector::SetRun(proto::GcRun& run) const {
  run.set_generation(generation_);
  run.set_run(run_);
  run.set_horizon(horizon_);
  run.set_floor_run(floor_run_);
}

StatusOr<uint64_t> Collector::ReadNumber(const char* row) {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, catalogue_.kv().Get(MetaKey(row)));
  if (!value) return 0;
  const StatusOr<uint64_t> number = DecodeGcNumber(*value);
  return number.ok() ? number : DamagedRow(row);
}

void Collector::TellGeneration() {
  const StatusOr<std::optional<std::string>> restored =
      catalogue_.kv().Get(MetaKey(kGcRestoredRow));
  const StatusOr<uint64_t> run = ReadNumber(kGcRunRow);
  if (!restored.ok() || !run.ok() || !*restored) return;
  proto::NodeGcBeginRequest request;
  request.mutable_run()->set_generation(log_.head().generation);
  request.mutable_run()->set_run(*run);
  std::vector<NodeCall> calls;
  for (uint32_t node : NodesToAsk(options_.map)) {
    calls.push_back({node, MakeMessage(rpc::kNodeGcBegin, request)});
  }
  nodes_.Gather(std::move(calls), kAskNanos, [this](const NodeReplies& replies) {
    bool all = true;
    uint64_t epoch = log_.head().epoch;
    for (const NodeReply& reply : replies) {
      const StatusOr<proto::NodeGcBeginReply> known =
          reply.ok() ? ParseHead<proto::NodeGcBeginReply>(*reply) : reply.status();
      all &= known.ok() || absl::IsFailedPrecondition(known.status());
      if (known.ok()) epoch = std::max(epoch, Lifted(log_.head().epoch, known->horizon()));
    }
    // Sessions below what a node was told before could store nothing there.
    if (epoch > log_.head().epoch) all &= log_.SetEpoch(epoch, {}).ok();
    if (all) return;
    env_.loop.PostAfter(kSecond, guard_.Wrap([this] { TellGeneration(); }));
  });
}

// A map that changes meanwhile: a node that came since has nothing that this run would take.
std::vector<uint32_t> Collector::Nodes() const {
  std::vector<uint32_t> nodes = NodesToAsk(options_.map);
  std::erase_if(nodes, [this](uint32_t node) { return node >= lost_.size() || lost_[node]; });
  return nodes;
}

void Collector::Census() {
  StatusOr<std::optional<std::string>> restored = catalogue_.kv().Get(MetaKey(kGcRestoredRow));
  if (!restored.ok()) return Fail(restored.status());
  restored_ = restored->has_value();
  const std::vector<uint32_t> asked = Nodes();
  nodes_.Gather(
      CensusCalls(asked), kAskNanos,
      [this, asked, serial = serial_](const NodeReplies& replies) {
        if (serial == serial_ && GoOn()) TakeCensus(asked, replies);
      },
      kAttempts);
}

void Collector::TakeCensus(const std::vector<uint32_t>& asked, const NodeReplies& replies) {
  const holdfast::Census census = ReadCensus(asked, replies);
  const StatusOr<uint64_t> run = ReadNumber(kGcRunRow), floor_run = ReadNumber(kGcFloorRow);
  if (!run.ok() || !floor_run.ok()) return Fail(run.ok() ? floor_run.status() : run.status());
  generation_ = log_.head().generation;
  run_ = *run;
  floor_run_ = *floor_run;
  uint64_t epoch = log_.head().epoch;
  for (uint32_t node : asked) {
    if (!census.nodes[node].ok()) {
      if (restored_) {
        return Fail(absl::UnavailableError(absl::StrCat(
            "the catalogue was rebuilt, and node ", node,
            " has not said since what it knows: bring it back, or remove it for good (",
            Message(census.nodes[node].status()), ")")));
      }
      LoseNode(node, census.nodes[node].status());
      continue;
    }
    run_ = std::max<uint64_t>(run_, census.nodes[node]->gc_run());
    // A catalogue that was put back to an earlier state may have forgotten runs.
    epoch = std::max(epoch, Lifted(log_.head().epoch, census.nodes[node]->gc_horizon()));
    // But for a rebuild, all touches are of sessions that this coordinator opened.
    if (!restored_) continue;
    epoch = std::max({epoch, census.nodes[node]->max_touch(), census.nodes[node]->gc_horizon()});
    floor_run_ = std::max<uint64_t>(floor_run_, census.nodes[node]->gc_run());
  }
  if (Nodes().empty()) return Fail(absl::UnavailableError("no node answers"));
  // E of the run to come; kept here until it starts.
  horizon_ = epoch + 1;
  ++run_;
  report_.set_run(run_);
  if (request_.dry_run()) return StartRun();
  Enter(Phase::PURGE, 0);
  PurgeSome("");
}

void Collector::PurgeSome(std::string cursor) {
  purge_(env_.clock.WallNanos() - request_.undo_window_nanos(), std::move(cursor),
         [this, serial = serial_](const StatusOr<Purged>& purged) {
           if (serial != serial_ || !GoOn()) return;
           if (!purged.ok()) return Fail(purged.status());
           report_.set_purged_versions(report_.purged_versions() + purged->versions);
           report_.set_done(report_.purged_versions());
           purged->cursor.empty() ? StartRun() : PurgeSome(purged->cursor);
         });
}

// One transaction, as everything on the Loop: no session is opened between E and H.
void Collector::StartRun() {
  const uint64_t epoch = std::max(horizon_, log_.head().epoch + 1);
  horizon_ = sessions_.LowestEpoch(epoch);  // G3
  if (request_.dry_run()) return Mark();
  if (Status s = log_.SetEpoch(epoch, {{MetaKey(kGcRunRow), EncodeGcNumber(run_)}}); !s.ok()) {
    return Fail(s);
  }
  told_horizon_ = horizon_;
  Begin();
}

void Collector::Begin() {
  Enter(Phase::BEGIN, 0);
  proto::NodeGcBeginRequest request;
  SetRun(*request.mutable_run());
  std::vector<NodeCall> calls;
  const std::vector<uint32_t> asked = Nodes();
  for (uint32_t node : asked) calls.push_back({node, MakeMessage(rpc::kNodeGcBegin, request)});
  nodes_.Gather(
      std::move(calls), kAskNanos,
      [this, asked, serial = serial_](const NodeReplies& replies) {
        if (serial == serial_ && GoOn()) TakeBegin(asked, replies);
      },
      kAttempts);
}

void Collector::TakeBegin(const std::vector<uint32_t>& asked, const NodeReplies& replies) {
  for (size_t i = 0; i < asked.size(); ++i) {
    const StatusOr<proto::NodeGcBeginReply> reply =
        replies[i].ok() ? ParseHead<proto::NodeGcBeginReply>(*replies[i]) : replies[i].status();
    if (absl::IsFailedPrecondition(reply.status())) return Fail(FromNode(asked[i], reply.status()));
    if (!reply.ok()) LoseNode(asked[i], reply.status());
    if (!reply.ok() && restored_) return Fail(FromNode(asked[i], reply.status()));
  }
  if (restored_) {
    const KvBatch known = {{MetaKey(kGcRestoredRow), std::nullopt},
                           {MetaKey(kGcFloorRow), EncodeGcNumber(floor_run_)}};
    if (Status s = catalogue_.kv().Write(known, /*sync=*/true); !s.ok()) return Fail(s);
  }
  Mark();
}

Status Collector::NoteSnapshot() {
  const KvBatch taken = {
      {SnapshotKey(run_), EncodeGcNumber(static_cast<uint64_t>(env_.clock.WallNanos()))}};
  return catalogue_.kv().Write(taken, /*sync=*/true);
}

// The highest run whose trash, and that of all before it, has been there for the grace. `past`: the
// rows that say nothing any more.
StatusOr<uint64_t> Collector::FreeRun(KvBatch* past) {
  uint64_t free_run = 0;
  Status damaged;
  const int64_t now = env_.clock.WallNanos();
  const int64_t latest = now - request_.grace_nanos();
  RETURN_IF_ERROR(catalogue_.kv().Scan(
      SnapshotKey(0), SnapshotKey(UINT64_MAX), [&](std::string_view key, std::string_view value) {
        const StatusOr<uint64_t> at = DecodeGcNumber(value);
        const StatusOr<uint64_t> run = DecodeGcNumber(key.substr(SnapshotKey(0).size() - 8));
        if (!at.ok() || !run.ok()) {
          damaged = DamagedRow(kGcSnapshotRow);
          return false;
        }
        auto taken = static_cast<int64_t>(*at);
        if (taken > now) {  // By a clock that was ahead: the grace begins now.
          past->push_back({std::string(key), EncodeGcNumber(static_cast<uint64_t>(now))});
          taken = now;
        }
        if (taken > latest) return false;
        if (free_run != 0) past->push_back({SnapshotKey(free_run), std::nullopt});
        free_run = *run;
        return true;
      }));
  RETURN_IF_ERROR(damaged);
  return free_run;
}

void Collector::Compact() {
  marks_.reset();
  Enter(Phase::COMPACT, 0);
  KvBatch past;
  StatusOr<uint64_t> free_run = FreeRun(&past);
  if (!free_run.ok()) return Fail(free_run.status());
  if (!past.empty()) {
    if (Status s = catalogue_.kv().Write(past, /*sync=*/false); !s.ok()) return Fail(s);
  }
  free_run_ = *free_run;
  FindLastCommit();
}

void Collector::FindLastCommit() {
  const Head& head = log_.head();
  last_commit_there_ = head.number == 0;
  if (last_commit_there_) return CompactNodes();
  const RecordId id = CommitRecordId(options_.vault, head.record_generation, head.number);
  proto::NodeStatRequest request;
  request.set_ids(ToString(id.bytes()));
  std::vector<NodeCall> calls;
  for (const uint32_t node : ActingSet(options_.map, id)) {
    calls.push_back({node, MakeMessage(rpc::kNodeStat, request)});
  }
  nodes_.Gather(std::move(calls), kAskNanos, [this, serial = serial_](const NodeReplies& replies) {
    if (serial != serial_ || !GoOn()) return;
    for (const NodeReply& one : replies) {
      const StatusOr<proto::NodeStatReply> reply =
          one.ok() ? ParseHead<proto::NodeStatReply>(*one) : one.status();
      last_commit_there_ |=
          reply.ok() && reply->answers_size() == 1 && reply->answers(0).status() == proto::PRESENT;
    }
    CompactNodes();
  });
}

void Collector::CompactNodes() {
  const std::vector<uint32_t> nodes = Nodes();
  waiting_ = nodes.size();
  compacting_.clear();
  if (nodes.empty()) return Finish();
  for (uint32_t node : nodes) CompactNode(node, 0, 0);
}

void Collector::CompactNode(uint32_t node, uint32_t step, uint32_t steps) {
  proto::NodeCompactRequest request;
  SetRun(*request.mutable_run());
  request.set_free_run(free_run_);
  request.set_step(step);
  request.set_sparse_only(request_.sparse_only());
  request.set_last_commit_there(last_commit_there_);
  nodes_.Gather(
      {{node, MakeMessage(rpc::kNodeCompact, request)}}, kAskNanos,
      [this, node, step, steps, serial = serial_](const NodeReplies& replies) {
        if (serial == serial_ && GoOn()) TakeCompacted(node, step, steps, replies[0]);
      },
      kAttempts);
}

void Collector::TakeCompacted(uint32_t node, uint32_t step, uint32_t steps,
                              const NodeReply& reply) {
  StatusOr<proto::NodeCompactReply> head =
      reply.ok() ? ParseHead<proto::NodeCompactReply>(*reply) : reply.status();
  if (head.ok() && head->steps() > kMostSteps) head = absl::UnavailableError("too many steps");
  if (head.ok() && head->pending()) {
    if (GetsOn(node, head->progress())) return CompactNode(node, step, steps);
    head = absl::DeadlineExceededError("its compaction does not get on; look at its disk");
  }
  if (!head.ok()) {
    LoseNode(node, head.status());
    step = steps;
  } else if (step == 0) {
    steps = head->steps();
    report_.set_total(report_.total() + steps);
  } else {
    report_.set_done(report_.done() + 1);
    report_.set_freed_segments(report_.freed_segments() + head->segments());
    report_.set_freed_bytes(report_.freed_bytes() + head->freed_bytes());
    report_.set_copied_bytes(report_.copied_bytes() + head->copied_bytes());
    report_.set_freed_records(report_.freed_records() + head->freed_records());
    if (!head->skipped().empty()) Note(absl::StrCat("node ", node, ": ", head->skipped()));
  }
  if (step < steps) return CompactNode(node, step + 1, steps);
  if (--waiting_ == 0) Finish();
}

bool Collector::GetsOn(uint32_t node, uint64_t progress) {
  const int64_t now = env_.clock.MonotonicNanos();
  if (node >= compacting_.size()) compacting_.resize(node + 1);
  Progress& known = compacting_[node];
  if (known.since_nanos == 0 || known.seen != progress) known = {progress, now};
  return now - known.since_nanos < kStandstillNanos;
}

void Collector::Finish() {
  marks_.reset();
  running_ = false;
  Enter(Phase::DONE, 0);
}

}  // namespace holdfast
