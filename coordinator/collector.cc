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

using Phase = proto::GcStatusReply;

constexpr int64_t kAskNanos = 30 * kSecond;
constexpr int kAttempts = 3;
// What one slice of mark takes on, so that others are served between two.
constexpr size_t kRowsPerSlice = 500;
constexpr size_t kBytesPerSlice = 2u << 20;
constexpr size_t kPartsPerSlice = 32;
constexpr uint32_t kListedAtOnce = 16384;
constexpr size_t kNeededAtOnce = 65536;
constexpr uint32_t kGroupsPerBucket = kPlacementGroups / MarkSet::kBuckets;
constexpr size_t kPulledAtOnce = 1024;
// A run that would let so much go is most likely a mistake.
constexpr double kConsentFraction = 0.2;
constexpr uint64_t kConsentRecords = 10'000;
constexpr int kMaxNotes = 100;

std::string Number(uint64_t value) {
  std::string out;
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
  return out;
}

uint64_t NumberOf(std::string_view bytes) {
  uint64_t value = 0;
  for (char c : bytes.substr(0, 8)) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

std::string SnapshotKey(uint64_t run) { return MetaKey(absl::StrCat(kGcSnapshotRow, Number(run))); }

}  // namespace

KvBatch GcRowsAfterRebuild(uint64_t run) {
  return {{MetaKey(kGcRunRow), Number(run)},
          {MetaKey(kGcFloorRow), Number(run)},
          {MetaKey(kGcRestoredRow), std::string("1")}};
}

StatusOr<proto::GcStartReply> Collector::Start(const proto::GcStartRequest& request) {
  proto::GcStartReply reply;
  reply.set_already_running(running_);
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
  return report;
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
  report_.set_phase(Phase::FAILED);
  report_.set_code(static_cast<int>(status.code()));
  report_.set_error(Message(status));
  snapshot_.reset();
  marks_.reset();
}

void Collector::Note(std::string note) {
  if (report_.notes_size() < kMaxNotes) report_.add_notes(std::move(note));
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

void Collector::Later(std::function<void(Collector&)> then) {
  env_.loop.Post(guard_.Wrap([this, serial = serial_, then = std::move(then)] {
    if (serial == serial_ && GoOn()) then(*this);
  }));
}

void Collector::SetRun(proto::GcRun& run) const {
  run.set_generation(generation_);
  run.set_run(run_);
  run.set_horizon(horizon_);
  run.set_floor_run(floor_run_);
}

StatusOr<uint64_t> Collector::ReadNumber(const char* row) {
  ASSIGN_OR_RETURN(const std::optional<std::string> value, catalogue_.kv().Get(MetaKey(row)));
  if (value && value->size() != 8) {
    return absl::DataLossError(
        absl::StrCat("the catalogue's row \"", row, "\" is damaged: ", kRebuildHint));
  }
  return value ? NumberOf(*value) : 0;
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
    const bool all = std::all_of(replies.begin(), replies.end(), [](const NodeReply& reply) {
      return reply.ok() || absl::IsFailedPrecondition(reply.status());
    });
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
    // But for that, all touches are of sessions that this coordinator opened.
    if (!restored_) continue;
    epoch = std::max({epoch, census.nodes[node]->max_touch(), census.nodes[node]->gc_horizon()});
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
  if (Status s = log_.SetEpoch(epoch, {{MetaKey(kGcRunRow), Number(run_)}}); !s.ok()) {
    return Fail(s);
  }
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
    const KvBatch known = {{MetaKey(kGcRestoredRow), std::nullopt}};
    if (Status s = catalogue_.kv().Write(known, /*sync=*/true); !s.ok()) return Fail(s);
  }
  Mark();
}

// Whoever opens a session from here on has an epoch at or above H, and touches what it uses.
void Collector::Mark() {
  StatusOr<std::unique_ptr<MarkSet>> marks = MarkSet::Make(*env_.fs, options_.gc_dir);
  if (!marks.ok()) return Fail(marks.status());
  marks_ = *std::move(marks);
  snapshot_ = catalogue_.kv().TakeSnapshot();
  if (!request_.dry_run()) {
    const KvBatch taken = {
        {SnapshotKey(run_), Number(static_cast<uint64_t>(env_.clock.WallNanos()))}};
    if (Status s = catalogue_.kv().Write(taken, /*sync=*/true); !s.ok()) return Fail(s);
  }
  Enter(Phase::MARK, log_.counters().versions);
  cursor_ = std::string(1, static_cast<char>(RowKind::kObject));
  MarkSome();
}

void Collector::MarkSome() {
  const std::string end(1, static_cast<char>(RowKind::kObject) + 1);
  size_t rows = 0, bytes = 0;
  bool more = false;
  Status error;
  Status read = snapshot_->Scan(cursor_, end, [&](std::string_view key, std::string_view value) {
    if (rows == kRowsPerSlice || bytes >= kBytesPerSlice || parts_.size() >= kPartsPerSlice) {
      cursor_ = std::string(key);
      more = true;
      return false;
    }
    ++rows;
    bytes += value.size();
    error = MarkObject(key, value);
    return error.ok();
  });
  if (read.ok()) read = error;
  if (!read.ok()) return Fail(read);
  report_.set_versions(report_.versions() + rows);
  report_.set_done(report_.versions());
  if (!more) cursor_.clear();
  FetchParts();
}

Status Collector::MarkObject(std::string_view key, std::string_view value) {
  const auto damaged = [&](const Status& why) {
    const StatusOr<ParsedObjectKey> parsed = ParseObjectKey(key);
    return absl::DataLossError(absl::StrCat(
        "nothing is collected while the catalogue's row of ",
        parsed.ok() ? PrintableObject(catalogue_.CollectionName(parsed->collection), parsed->name)
                    : "an object",
        " is damaged (", Message(why), "): ", kRebuildHint));
  };
  StatusOr<ObjectRow> row = DecodeObjectRow(value);
  if (!row.ok()) return damaged(row.status());
  if (request_.dry_run() && row->removed_nanos != 0 &&
      row->removed_nanos < env_.clock.WallNanos() - request_.undo_window_nanos()) {
    report_.set_purged_versions(report_.purged_versions() + 1);
    return absl::OkStatus();
  }
  if (HOLDFAST_MUTANT(removed_not_marked) && row->removed_nanos != 0) return absl::OkStatus();
  StatusOr<ClearManifest> manifest = DecodeClearManifest(row->manifest);
  if (!manifest.ok()) return damaged(manifest.status());
  for (const ChunkRef& chunk : manifest->chunks) RETURN_IF_ERROR(marks_->Add(chunk.id));
  for (const PartRef& part : manifest->parts) {
    RETURN_IF_ERROR(marks_->Add(part.id));
    parts_.push_back(part);
    part_names_.push_back(manifest->name);
  }
  return absl::OkStatus();
}

void Collector::FetchParts() {
  if (parts_.empty()) {
    if (!cursor_.empty()) return Later([](Collector& c) { c.MarkSome(); });
    snapshot_.reset();
    Enter(Phase::SURVEY, MarkSet::kBuckets);
    return Later([](Collector& c) { c.NextBuckets(); });
  }
  // A file of many parts brings more than a slice's worth: they are fetched in the same slices.
  const size_t count = std::min(parts_.size(), kPartsPerSlice);
  waiting_ = count;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = parts_.size() - 1 - i;
    GetPart(
        nodes_, options_.keys, parts_[at].id,
        absl::StrCat("nothing is collected while a manifest part of ", Printable(part_names_[at]),
                     " cannot be read (`holdfast rm --now` gives the object up)"),
        parts_[at].digest, kAskNanos, [this, serial = serial_](const StatusOr<PartRecord>& part) {
          if (serial != serial_ || !running_) return;
          StatusOr<std::vector<ChunkRef>> chunks =
              part.ok() ? DecodePartClear(part->clear) : part.status();
          if (!chunks.ok()) return Fail(chunks.status());
          for (const ChunkRef& chunk : *chunks) {
            if (Status s = marks_->Add(chunk.id); !s.ok()) return Fail(s);
          }
          if (--waiting_ == 0) Later([](Collector& c) { c.FetchParts(); });
        });
  }
  parts_.resize(parts_.size() - count);
  part_names_.resize(parts_.size());
}

// Both passes go through the ids in order, all nodes side by side: as many buckets at a time as
// make a list worth asking for.
void Collector::NextBuckets() {
  if (bucket_end_ == MarkSet::kBuckets) return AfterPass();
  bucket_ = bucket_end_;
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

void Collector::ListNode(uint32_t node, std::string from) {
  proto::NodeListRecordsRequest request;
  request.set_group(bucket_ * kGroupsPerBucket);
  request.set_groups((bucket_end_ - bucket_) * kGroupsPerBucket);
  request.set_from(std::move(from));
  request.set_limit(kListedAtOnce);
  nodes_.Gather(
      {{node, MakeMessage(rpc::kNodeListRecords, request)}}, kAskNanos,
      [this, node, serial = serial_](const NodeReplies& replies) {
        if (serial == serial_ && GoOn()) TakeList(node, replies[0]);
      },
      kAttempts);
}

void Collector::TakeList(uint32_t node, const NodeReply& reply) {
  StatusOr<proto::NodeListRecordsReply> page =
      reply.ok() ? ParseHead<proto::NodeListRecordsReply>(*reply) : reply.status();
  auto verdict = std::make_shared<Verdict>();
  verdict->node = node;
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
  verdict.next = page.next();
  Reader ids(AsBytes(page.ids())), touches(AsBytes(page.touches()));
  Reader lengths(AsBytes(page.lengths()));
  for (size_t i = 0; i < count; ++i) {
    const RecordId id = ids.Id<RecordId>();
    const uint64_t touch = touches.U64();
    const uint32_t length = lengths.U32();
    const auto state = static_cast<uint8_t>(page.states()[i]);
    const bool trashed = (state & rpc::kRecordTrashed) != 0;
    const bool surplus = (state & rpc::kRecordSurplus) != 0;
    const uint32_t bucket = MarkSet::BucketOf(id);
    if (bucket < bucket_ || bucket >= bucket_end_) {
      return absl::UnavailableError("a list of other records");
    }
    const uint32_t pg = PlacementGroupOf(id);
    const std::vector<uint32_t> holders = WriteSet(options_.map, pg);
    const bool member = std::find(holders.begin(), holders.end(), verdict.node) != holders.end();
    const bool needed = std::binary_search(needed_.begin(), needed_.end(), id);
    if (!sweeping_) {
      report_.set_listed_records(report_.listed_records() + 1);
      report_.set_listed_bytes(report_.listed_bytes() + length);
      if (trashed) {
        report_.set_in_trash_records(report_.in_trash_records() + 1);
        report_.set_in_trash_bytes(report_.in_trash_bytes() + length);
      }
    }
    if (needed) {
      if (trashed && (!surplus || member)) verdict.keep.append(AsView(id.bytes()));
      // (After a rebuild the grace of surplus copies begins anew too.)
      const bool known = trashed && surplus && floor_run_ == 0;
      if (member || known || touch >= horizon_ || Migrating(options_.map, pg)) continue;
      verdict.strays.push_back(id);
      verdict.stray_touches.push_back(touch);
      verdict.stray_bytes += trashed ? 0 : length;
    } else if (touch >= horizon_) {
      if (!sweeping_) report_.set_held_records(report_.held_records() + 1);
    } else if (!trashed || surplus || floor_run_ > 0) {
      // (After a rebuild the node sees which have to begin their grace anew.)
      verdict.trash.append(AsView(id.bytes()));
      if (sweeping_ || trashed) continue;
      report_.set_trashed_records(report_.trashed_records() + 1);
      report_.set_trashed_bytes(report_.trashed_bytes() + length);
    }
  }
  return absl::OkStatus();
}

// Copies on nodes that left their group go once all of its present nodes show that they have them.
void Collector::CheckStrays(std::shared_ptr<Verdict> verdict) {
  if (verdict->strays.empty()) return Act(verdict, "", {});
  std::vector<std::vector<size_t>> asked;  // Per member: places in strays.
  std::vector<uint32_t> members;
  for (size_t i = 0; i < verdict->strays.size(); ++i) {
    for (uint32_t node : ActingSet(options_.map, verdict->strays[i])) {
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
    for (size_t i : asked[m]) request.mutable_ids()->append(AsView(verdict->strays[i].bytes()));
    calls.push_back({members[m], MakeMessage(rpc::kNodeStat, request)});
  }
  nodes_.Gather(std::move(calls), kAskNanos,
                [this, verdict, asked, members, serial = serial_](const NodeReplies& replies) {
                  if (serial == serial_ && GoOn()) JudgeStrays(verdict, asked, members, replies);
                });
}

void Collector::JudgeStrays(const std::shared_ptr<Verdict>& verdict,
                            const std::vector<std::vector<size_t>>& asked,
                            std::vector<uint32_t> members, const NodeReplies& replies) {
  struct Seen {
    uint32_t good = 0;  // Of the group's nodes.
    std::string checksum;
    bool differs = false;
  };
  std::vector<Seen> seen(verdict->strays.size());
  std::vector<NodeCall> pulls;
  for (size_t m = 0; m < members.size(); ++m) {
    const StatusOr<proto::NodeStatReply> reply =
        replies[m].ok() ? ParseHead<proto::NodeStatReply>(*replies[m]) : replies[m].status();
    if (!reply.ok() || static_cast<size_t>(reply->answers_size()) != asked[m].size()) continue;
    proto::NodePullRequest pull;
    Buffer touches;
    for (size_t k = 0; k < asked[m].size(); ++k) {
      const size_t i = asked[m][k];
      const proto::RecordAnswer& answer = reply->answers(static_cast<int>(k));
      const bool stray = members[m] == verdict->node;
      if (answer.status() == proto::PRESENT || stray) {
        seen[i].differs |= !seen[i].checksum.empty() && seen[i].checksum != answer.checksum();
        seen[i].checksum = answer.checksum();
        seen[i].good += !stray;
      } else if (pull.ids().size() < kPulledAtOnce * RecordId::kSize) {
        pull.mutable_ids()->append(AsView(verdict->strays[i].bytes()));
        Writer(touches).U64(std::max(verdict->stray_touches[i], horizon_));
      }
    }
    if (pull.ids().empty()) continue;
    pull.set_source(verdict->node);
    pull.set_touches(ToString(touches));
    pulls.push_back({members[m], MakeMessage(rpc::kNodePull, pull)});
  }
  std::string surplus;
  for (size_t i = 0; i < seen.size(); ++i) {
    if (seen[i].differs || seen[i].good < options_.map.replicas) continue;
    surplus.append(AsView(verdict->strays[i].bytes()));
  }
  if (!sweeping_) {
    report_.set_surplus_records(report_.surplus_records() + surplus.size() / RecordId::kSize);
  }
  Act(verdict, std::move(surplus), std::move(pulls));
}

void Collector::Act(const std::shared_ptr<Verdict>& verdict, std::string surplus,
                    std::vector<NodeCall> pulls) {
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
    calls.push_back({verdict->node, MakeMessage(rpc::kNodeTrash, request)});
  }
  const size_t sweeps = calls.size();
  for (NodeCall& pull : pulls) calls.push_back(std::move(pull));
  if (calls.empty()) return Acted(verdict);
  nodes_.Gather(
      std::move(calls), kAskNanos,
      [this, verdict, sweeps, serial = serial_](const NodeReplies& replies) {
        if (serial != serial_ || !GoOn()) return;
        for (size_t i = 0; i < sweeps; ++i) {
          const StatusOr<proto::NodeTrashReply> reply =
              replies[i].ok() ? ParseHead<proto::NodeTrashReply>(*replies[i]) : replies[i].status();
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
        Acted(verdict);
      },
      kAttempts);
}

void Collector::Acted(const std::shared_ptr<Verdict>& verdict) {
  if (verdict->next.empty()) return NodeListed();
  ListNode(verdict->node, verdict->next);
}

void Collector::NodeListed() {
  if (--waiting_ > 0) return;
  report_.set_done(bucket_end_);
  Later([](Collector& c) { c.NextBuckets(); });
}

void Collector::AfterPass() {
  report_.set_peak_mark_bytes(marks_->peak_bytes());
  if (sweeping_) return Compact();
  if (request_.dry_run()) return Finish();
  const double fraction = static_cast<double>(report_.trashed_records()) /
                          std::max<double>(1, static_cast<double>(report_.listed_records()));
  if (!request_.consent() && report_.trashed_records() > kConsentRecords &&
      fraction > kConsentFraction) {
    return Fail(absl::FailedPreconditionError(
        absl::StrCat(report_.trashed_records(), " of ", report_.listed_records(),
                     " records would go into the trash: give --yes if that is right")));
  }
  if (HOLDFAST_MUTANT(horizon_after_mark)) horizon_ = sessions_.LowestEpoch(log_.head().epoch);
  sweeping_ = true;
  bucket_ = bucket_end_ = 0;
  report_.set_trashed_records(0);  // Counted as it is done.
  Enter(Phase::SWEEP, MarkSet::kBuckets);
  NextBuckets();
}

// The highest run whose trash, and that of all before it, has been there for the grace.
StatusOr<uint64_t> Collector::FreeRun() {
  uint64_t free_run = 0;
  KvBatch past;
  const int64_t latest = env_.clock.WallNanos() - request_.grace_nanos();
  RETURN_IF_ERROR(catalogue_.kv().Scan(
      SnapshotKey(0), SnapshotKey(UINT64_MAX), [&](std::string_view key, std::string_view value) {
        if (key.size() < 8 || static_cast<int64_t>(NumberOf(value)) > latest) return false;
        if (free_run != 0) past.push_back({SnapshotKey(free_run), std::nullopt});
        free_run = NumberOf(key.substr(key.size() - 8));
        return true;
      }));
  if (!past.empty()) RETURN_IF_ERROR(catalogue_.kv().Write(past, /*sync=*/false));
  return free_run;
}

void Collector::Compact() {
  marks_.reset();
  Enter(Phase::COMPACT, 0);
  StatusOr<uint64_t> free_run = FreeRun();
  if (!free_run.ok()) return Fail(free_run.status());
  free_run_ = *free_run;
  const std::vector<uint32_t> nodes = Nodes();
  waiting_ = nodes.size();
  if (nodes.empty()) return Finish();
  for (uint32_t node : nodes) CompactNode(node, 0, 0);
}

void Collector::CompactNode(uint32_t node, uint32_t step, uint32_t steps) {
  proto::NodeCompactRequest request;
  SetRun(*request.mutable_run());
  request.set_free_run(free_run_);
  request.set_step(step);
  request.set_sparse_only(request_.sparse_only());
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
  if (head.ok() && head->pending()) return CompactNode(node, step, steps);
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

void Collector::Finish() {
  marks_.reset();
  running_ = false;
  Enter(Phase::DONE, 0);
}

}  // namespace holdfast
