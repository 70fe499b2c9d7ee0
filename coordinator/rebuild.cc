// RebuildCatalogue: the catalogue out of the commit records on the nodes.
//
// Rows are written in synced batches, one per record; the head comes last. A crash on the way
// leaves a catalogue without a head, which Open refuses as missing and a rebuild as not empty: it
// is wiped and rebuilt.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/mutant.h"
#include "coordinator/backup.h"
#include "coordinator/catalogue.h"
#include "coordinator/census.h"
#include "coordinator/collector.h"
#include "coordinator/commit_pages.h"
#include "coordinator/coordinator.h"
#include "coordinator/guard.h"
#include "coordinator/node_client.h"

namespace holdfast {
namespace {

constexpr int64_t kStatusTimeoutNanos = 10'000'000'000;

// Whether it brings a version, and does not only remove one or bring one back.
bool IsBrought(const KvMutation& mutation, uint64_t commit_number) {
  if (!mutation.value) return false;
  const StatusOr<ObjectRow> row = DecodeObjectRow(*mutation.value);
  return row.ok() && row->commit_number == commit_number;
}

class Rebuild {
 public:
  Rebuild(const CoordinatorOptions& options, const CoordinatorEnv& env, bool accept_loss,
          Bytes backup)
      : options_(options),
        accept_loss_(accept_loss),
        backup_(backup),
        catalogue_(env.catalogue),
        nodes_(env.transport, env.loop, guard_, options.map, options.domain) {}

  StatusOr<RebuildReport> Run() {
    RETURN_IF_ERROR(CheckEmpty());
    census_ = TakeCensus(nodes_, kStatusTimeoutNanos);
    if (census_.away_count() == census_.nodes.size()) {
      return absl::UnavailableError(absl::StrCat("no node answers: ", census_.away_text()));
    }
    highest_generation_ = census_.highest_generation();
    for (uint32_t i : NodesToAsk(options_.map)) {
      if (census_.nodes[i].ok()) asked_.push_back(i);
    }
    if (!backup_.empty()) RETURN_IF_ERROR(BeginFromBackup());
    // Before the commits are read: what an older coordinator brings later is refused, not missed.
    RETURN_IF_ERROR(CheckAway());
    if (!HOLDFAST_MUTANT(fence_after_replay)) Fence();
    RETURN_IF_ERROR(CheckAway());
    highest_listed_ = census_.highest_commit();
    for (bool more = true; more;) {
      ASSIGN_OR_RETURN(more, ReplayPage());
    }
    if (report_.commits == 0 && highest_listed_ > last_good_) {
      return absl::PermissionDeniedError(
          "no commit record on the nodes opens under this catalogue key");
    }
    RETURN_IF_ERROR(KeepNewerMap());
    RETURN_IF_ERROR(CountRows());
    RETURN_IF_ERROR(WriteHead());
    return std::move(report_);
  }

 private:
  Status CheckEmpty();
  Status BeginFromBackup();
  Status KeepNewerMap();
  StatusOr<bool> ReplayPage();
  StatusOr<CommitPage> NextPage();
  Status Replay(const ChosenCommit& commit);
  Status CountRows();
  Status WriteHead();
  Status CheckAway() const;
  void Fence();
  uint64_t highest_run() const;

  const CoordinatorOptions& options_;
  const bool accept_loss_;
  const Bytes backup_;
  Catalogue catalogue_;
  Guard guard_;
  NodeClient nodes_;
  Census census_;
  std::vector<uint32_t> asked_;
  RebuildReport report_;
  uint64_t next_ = 1;            // The number looked for.
  uint64_t highest_listed_ = 0;  // Number, of good records and bad.
  uint64_t highest_generation_ = 0;
  uint64_t fenced_generation_ = 0;
  uint64_t highest_epoch_ = 0;
  uint64_t last_good_ = 0, last_generation_ = 0;
  Hash256 last_hash_{};  // Of record last_good_.
  Counters counters_;
};

Status Rebuild::CheckAway() const {
  if (census_.proves(options_.map) || accept_loss_) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("commits may be on nodes that are away: ", census_.away_text(),
                   "; bring them back, or give --accept-loss if they are gone for good"));
}

Status Rebuild::CheckEmpty() {
  bool empty = true;
  RETURN_IF_ERROR(catalogue_.kv().Scan("", "", [&](std::string_view, std::string_view) {
    empty = false;
    return false;
  }));
  if (empty) return absl::OkStatus();
  return absl::FailedPreconditionError("the catalogue to rebuild is not empty");
}

Status Rebuild::BeginFromBackup() {
  ASSIGN_OR_RETURN(const Head head, LoadBackup(options_, catalogue_, backup_));
  next_ = head.number + 1;
  last_good_ = head.number;
  last_generation_ = head.record_generation;
  last_hash_ = head.hash;
  highest_generation_ = std::max(highest_generation_, head.generation);
  highest_epoch_ = head.epoch;
  return absl::OkStatus();
}

// Nodes have been told of a map before the next commit recorded it.
Status Rebuild::KeepNewerMap() {
  ASSIGN_OR_RETURN(const std::optional<std::string> row, catalogue_.kv().Get(MapKey()));
  if (!row) return absl::OkStatus();
  ASSIGN_OR_RETURN(const ClusterMap map, DecodeClusterMap(*row));
  if (map.version >= options_.map.version) return absl::OkStatus();
  return catalogue_.kv().Write({{MapKey(), EncodeClusterMap(options_.map)}}, /*sync=*/true);
}

// A node left out here would look like a gap.
StatusOr<CommitPage> Rebuild::NextPage() {
  CommitPage page(next_);
  const NodeReplies replies =
      nodes_.GatherAndWait(ListCommitsCalls(asked_, next_), kListCommitsNanos, kCensusAttempts);
  for (size_t i = 0; i < asked_.size(); ++i) {
    const Status added = page.Add(asked_[i], replies[i]);
    if (!added.ok()) return FromNode(asked_[i], added);
  }
  return page;
}

// One stretch of numbers. False when no node has any more.
StatusOr<bool> Rebuild::ReplayPage() {
  ASSIGN_OR_RETURN(CommitPage page, NextPage());
  if (page.end() == UINT64_MAX) return false;
  for (const auto& [number, copies] : page.all()) {
    if (number >= page.end()) break;
    highest_listed_ = std::max(highest_listed_, number);
    const bool adjacent = last_good_ + 1 == number;
    std::optional<ChosenCommit> chosen =
        ChooseCommit(options_, copies, number, adjacent ? last_hash_ : Hash256{});
    if (!chosen) continue;  // Counted as missing when a later one is found, or at the end.
    for (uint64_t n = last_good_ + 1; n < number; ++n) report_.missing_commits.push_back(n);
    if (chosen->broken_link) report_.broken_links.push_back(number);
    RETURN_IF_ERROR(Annotate(Replay(*chosen), absl::StrCat("commit ", number)));
  }
  next_ = page.end();
  return true;
}

Status Rebuild::Replay(const ChosenCommit& commit) {
  const CommitRecord& record = commit.record;
  KvBatch batch;
  for (const KvMutation& mutation : record.mutations) {
    if (mutation.key.empty()) return absl::DataLossError("a row without a key");
    switch (static_cast<RowKind>(mutation.key[0])) {
      case RowKind::kMeta:
        continue;  // Counted anew at the end.
      case RowKind::kObject:
        report_.objects += IsBrought(mutation, record.number);
        break;
      default:
        break;
    }
    batch.push_back(mutation);
  }
  RETURN_IF_ERROR(catalogue_.kv().Write(batch, /*sync=*/true));
  ++report_.commits;
  highest_generation_ = std::max(highest_generation_, record.generation);
  highest_epoch_ = std::max(highest_epoch_, record.epoch);
  counters_.last_commit_nanos = record.time_nanos;
  last_good_ = record.number;
  last_generation_ = record.generation;
  last_hash_ = commit.hash;
  return absl::OkStatus();
}

Status Rebuild::CountRows() {
  std::string last_name;
  uint64_t highest_collection = 0;
  Status error;
  RETURN_IF_ERROR(catalogue_.kv().Scan("", "", [&](std::string_view key, std::string_view value) {
    if (key[0] == static_cast<char>(RowKind::kCollection)) {
      StatusOr<CollectionRow> row = DecodeCollectionRow(value);
      if (!row.ok()) {
        error = row.status();
        return false;
      }
      ++counters_.collections;
      highest_collection = std::max(highest_collection, row->number);
    } else if (key[0] == static_cast<char>(RowKind::kObject)) {
      StatusOr<ParsedObjectKey> parsed = ParseObjectKey(key);
      if (!parsed.ok()) {
        error = parsed.status();
        return false;
      }
      highest_collection = std::max(highest_collection, parsed->collection);
      StatusOr<ObjectRow> row = DecodeObjectRow(value);
      if (!row.ok()) {
        error = row.status();
        return false;
      }
      if (row->removed_nanos != 0) return true;
      std::string name = ObjectNameBegin(parsed->collection, parsed->name);
      ++counters_.versions;
      if (name != last_name) ++counters_.objects;
      last_name = std::move(name);
    }
    return true;
  }));
  RETURN_IF_ERROR(error);
  counters_.next_collection = highest_collection + 1;
  return absl::OkStatus();
}

// The log goes on after the highest number that any node ever saw: a number whose record is lost is
// not given away again.
Status Rebuild::WriteHead() {
  Head head;
  if (fenced_generation_ <= highest_generation_) Fence();
  head.generation = fenced_generation_;
  head.number = report_.last_commit = std::max(highest_listed_, last_good_);
  for (const auto& node : census_.nodes) {
    if (!node.ok()) continue;
    highest_epoch_ = std::max({highest_epoch_, node->max_touch(), node->gc_horizon()});
  }
  head.epoch = highest_epoch_ + 1;
  if (HOLDFAST_MUTANT(restore_without_epoch)) head.epoch = 1;
  if (head.number == last_good_) {
    head.record_generation = last_generation_;
    head.hash = last_hash_;
  }
  // Numbers at the end that only a damaged record, or a node's word, tells of.
  for (uint64_t n = last_good_ + 1; n <= head.number; ++n) report_.missing_commits.push_back(n);
  KvBatch rows = GcRowsAfterRebuild(highest_run());
  rows.push_back({MetaKey(kCountersRow), EncodeCounters(counters_)});
  rows.push_back({MetaKey(kKeyCheckRow), CatalogueKeyCheck(options_.keys, options_.vault)});
  rows.push_back({MetaKey(kHeadRow), EncodeHead(head)});
  RETURN_IF_ERROR(catalogue_.kv().Write(rows, /*sync=*/true));
  return absl::OkStatus();
}

uint64_t Rebuild::highest_run() const {
  uint64_t highest = 0;
  for (const auto& node : census_.nodes) {
    if (node.ok()) highest = std::max<uint64_t>(highest, node->gc_run());
  }
  return highest;
}

// From here on nodes refuse commits and garbage collection by an older coordinator. Who cannot be
// told counts as away, and is told before anything is collected.
void Rebuild::Fence() {
  fenced_generation_ = highest_generation_ + (HOLDFAST_MUTANT(restore_without_generation) ? 0 : 1);
  proto::NodeGcBeginRequest request;
  request.mutable_run()->set_generation(fenced_generation_);
  request.mutable_run()->set_run(highest_run());
  const std::vector<uint32_t> asked = std::exchange(asked_, {});
  std::vector<NodeCall> calls;
  for (uint32_t node : asked) calls.push_back({node, MakeMessage(rpc::kNodeGcBegin, request)});
  const NodeReplies told = nodes_.GatherAndWait(calls, kStatusTimeoutNanos, kCensusAttempts);
  for (size_t i = 0; i < asked.size(); ++i) {
    if (told[i].ok()) {
      asked_.push_back(asked[i]);
    } else {
      census_.nodes[asked[i]] = told[i].status();
    }
  }
}

}  // namespace

StatusOr<RebuildReport> RebuildCatalogue(const CoordinatorOptions& options,
                                         const CoordinatorEnv& env, bool accept_loss,
                                         Bytes backup) {
  return Rebuild(options, env, accept_loss, backup).Run();
}

}  // namespace holdfast
