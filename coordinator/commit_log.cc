#include "coordinator/commit_log.h"

#include <algorithm>
#include <cassert>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/mutant.h"

namespace holdfast {
namespace {

constexpr int64_t kFirstBackoffNanos = kSecond / 10;
constexpr int64_t kMaxBackoffNanos = 5 * kSecond;
constexpr int64_t kIdleNanos = kSecond;
constexpr int64_t kProbeNanos = kSecond;
constexpr int64_t kStatusTimeoutNanos = 10 * kSecond;
constexpr int64_t kPutTimeoutNanos = 30 * kSecond;
constexpr int64_t kRetryTimeoutNanos = 10 * kSecond;

// The catalogue has the commit, so it may be asked for again and must not be reported as refused:
// kUnavailable, whatever the node's own code, but for a full disk, where to wait is no use.
Status NotOnNodes(uint64_t number, const Status& why) {
  const bool full = absl::IsResourceExhausted(why);
  return Status(full ? why.code() : absl::StatusCode::kUnavailable,
                absl::StrCat("commit ", number, " is not yet on enough nodes: ", Message(why)));
}

}  // namespace

RecordPut CommitLog::MakePut(const Outgoing& outgoing) const {
  RecordPut put;
  put.id = CommitRecordId(options_.vault, outgoing.generation, outgoing.number);
  put.kind = RecordKind::kCommitRecord;
  put.number = outgoing.number;
  put.epoch = head_.epoch;
  put.payload = outgoing.record;
  return put;
}

// The record that `row` stands for, from the rows of the catalogue that it brought there.
StatusOr<CommitLog::Outgoing> CommitLog::MakeAgain(const OutboxRow& row) {
  if (!row.record.empty()) {
    Outgoing outgoing{head_.number, row.generation, SharedBytes::Own(row.record)};
    if (Sha256(outgoing.record.view) == head_.hash) return outgoing;
    return absl::DataLossError(absl::StrCat("commit ", head_.number,
                                            " in the outbox is not the last one: ", kRebuildHint));
  }
  CommitRecord record;
  record.generation = row.generation;
  record.number = head_.number;
  record.previous = row.previous;
  record.time_nanos = row.time_nanos;
  record.epoch = row.epoch;
  ASSIGN_OR_RETURN(auto values, catalogue_.kv().MultiGet(row.keys));
  for (size_t i = 0; i < row.keys.size(); ++i) {
    record.mutations.push_back({row.keys[i], std::move(values[i])});
  }
  Outgoing outgoing{record.number, record.generation, {}};
  outgoing.record =
      SharedBytes::Own(EncodeCommitRecord(options_.keys.commit, options_.vault, record, row.nonce));
  if (Sha256(outgoing.record.view) != head_.hash) {
    return absl::DataLossError(
        absl::StrCat("commit ", record.number, " cannot be made again: ", kRebuildHint));
  }
  return outgoing;
}

Status CommitLog::LoadOutbox() {
  std::vector<std::pair<std::string, std::string>> rows;
  const std::string begin = OutboxKey(0);
  const std::string end(1, static_cast<char>(RowKind::kOutbox) + 1);
  RETURN_IF_ERROR(
      catalogue_.kv().Scan(begin, end, [&](std::string_view key, std::string_view value) {
        rows.emplace_back(key, value);
        return true;
      }));
  for (const auto& [key, value] : rows) {
    // The last commit has the only one: none is made before the one before is on W nodes, and each
    // takes the row of that one away.
    if (key != OutboxKey(head_.number)) {
      return absl::DataLossError(absl::StrCat("the catalogue's outbox holds another commit than ",
                                              head_.number, ", its last: ", kRebuildHint));
    }
    StatusOr<OutboxRow> row = DecodeOutboxRow(value);
    if (!row.ok()) return Annotate(row.status(), "the catalogue's outbox");
    ASSIGN_OR_RETURN(Outgoing outgoing, MakeAgain(*row));
    outbox_.push_back(std::move(outgoing));
  }
  return absl::OkStatus();
}

// Two histories with the same numbers: the catalogue's last record must be the one on the nodes.
// Says nothing when no node has it (fsck does).
Status CommitLog::CheckLastRecord() {
  if (head_.number == 0 || head_.hash == Hash256{}) return absl::OkStatus();
  if (!outbox_.empty() && outbox_.back().number == head_.number) return absl::OkStatus();
  const RecordId id = CommitRecordId(options_.vault, head_.record_generation, head_.number);
  proto::NodeGetRequest request;
  request.set_ids(ToString(id.bytes()));
  std::vector<NodeCall> calls;
  for (uint32_t node : ActingSet(options_.map, id)) {
    calls.push_back({node, MakeMessage(rpc::kNodeGet, request)});
  }
  NodeReplies replies = nodes_.GatherAndWait(calls, kStatusTimeoutNanos);
  for (size_t i = 0; i < replies.size(); ++i) {
    if (!replies[i].ok() || replies[i]->frames.size() != 1) continue;
    const Bytes record = replies[i]->frames[0].view;
    StatusOr<proto::NodeGetReply> head = ParseHead<proto::NodeGetReply>(*replies[i]);
    if (!head.ok() || head->answers_size() != 1 || head->answers(0).status() != proto::PRESENT) {
      continue;
    }
    if (Sha256(record) != head_.hash &&
        DecodeCommitRecord(options_.keys.commit, options_.vault, record).ok()) {
      return absl::DataLossError(absl::StrCat("node ", calls[i].node, " holds another commit ",
                                              head_.number, " than the catalogue: ", kRebuildHint));
    }
  }
  return absl::OkStatus();
}

Status CommitLog::SendOutboxAndWait() {
  while (!outbox_.empty()) {
    const Outgoing& front = outbox_.front();
    Status sent;
    for (int attempt = 0; attempt < 3; ++attempt) {
      sent = nodes_.PutRecordAndWait(MakePut(front), kRetryTimeoutNanos);
      if (sent.code() != absl::StatusCode::kUnavailable) break;
    }
    if (sent.code() == absl::StatusCode::kDataLoss) {
      return Annotate(sent, absl::StrCat("commit ", front.number, " differs from the nodes'"));
    }
    if (!sent.ok()) {
      // A node is away or full: the vault opens for reading, and it is sent again later.
      obstacle_ = NotOnNodes(front.number, sent);
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(catalogue_.kv().Write({{OutboxKey(front.number), std::nullopt}}, false));
    outbox_.pop_front();
  }
  return absl::OkStatus();
}

Status CommitLog::Open() {
  ASSIGN_OR_RETURN(std::optional<Head> head, catalogue_.FindHead());
  if (!head) {
    return absl::DataLossError(absl::StrCat("the catalogue is missing or empty: ", kRebuildHint));
  }
  head_ = *head;
  nodes_.SetGeneration(head_.generation);
  ASSIGN_OR_RETURN(counters_, catalogue_.GetCounters());
  RETURN_IF_ERROR(LoadOutbox());
  census_ = TakeCensus(nodes_, kStatusTimeoutNanos);
  // In a process of their own, nodes may come later; here they would not.
  if (env_.access == nullptr && census_.away_count() == census_.nodes.size()) {
    return absl::UnavailableError(absl::StrCat("no node answers: ", census_.away_text()));
  }
  RETURN_IF_ERROR(CheckNotBehind(head_, census_));
  RETURN_IF_ERROR(CheckLastRecord());
  const uint64_t delivered = head_.number - std::min<uint64_t>(outbox_.size(), head_.number);
  if (census_.away_count() == 0 && census_.highest_commit() < delivered) {
    lost_ = absl::DataLossError(absl::StrCat("the nodes know of ", census_.highest_commit(),
                                             " commits, the catalogue of ", delivered,
                                             ": a disk was put back to an earlier state"));
  }
  proved_ = census_.proves(options_.map);
  if (!proved_) {
    obstacle_ = absl::UnavailableError(absl::StrCat(
        "too many nodes are away to tell whether the catalogue is current: ", census_.away_text()));
    return absl::OkStatus();
  }
  // A catalogue that was put back to an earlier state, with no commit since, may have forgotten
  // runs of garbage collection: sessions below what nodes were told could store nothing.
  const uint64_t lifted = census_.lifted(head_.epoch);
  if (lifted > head_.epoch) RETURN_IF_ERROR(SetEpoch(lifted, {}));
  return SendOutboxAndWait();
}

void CommitLog::Start() {
  if (census_.away_count() > 0) ProbeLater();
  if (!outbox_.empty()) RetryLater();
}

CommitLog::Outgoing CommitLog::EncodeNext(CommitRecord& record, OutboxRow& row) {
  record.generation = row.generation = head_.generation;
  record.number = head_.number + 1;
  record.previous = row.previous = head_.hash;
  record.epoch = row.epoch = head_.epoch;
  row.time_nanos = record.time_nanos;
  env_.rng.Fill(row.nonce);
  for (const KvMutation& mutation : record.mutations) row.keys.push_back(mutation.key);
  Outgoing outgoing{record.number, record.generation, {}};
  outgoing.record =
      SharedBytes::Own(EncodeCommitRecord(options_.keys.commit, options_.vault, record, row.nonce));
  return outgoing;
}

Status CommitLog::Append(CommitPlan plan, std::function<void(Status)> done) {
  assert(!busy_ && obstacle_.ok() && refused_.ok() && outbox_.empty());
  assert(!plan.mutations.empty());
  CommitRecord record;
  record.time_nanos = plan.counters.last_commit_nanos;
  record.mutations = std::move(plan.mutations);
  KvBatch catalogue_only = std::move(plan.catalogue_only);
  OutboxRow row;
  Outgoing outgoing = EncodeNext(record, row);
  Head next = head_;
  next.number = outgoing.number;
  next.record_generation = outgoing.generation;
  next.hash = Sha256(outgoing.record.view);
  KvBatch batch = std::move(record.mutations);
  batch.push_back({OutboxKey(outgoing.number), Encode(row)});
  batch.push_back({MetaKey(kHeadRow), EncodeHead(next)});
  for (KvMutation& mutation : catalogue_only) batch.push_back(std::move(mutation));
  if (delivered_row_ != 0) batch.push_back({OutboxKey(delivered_row_), std::nullopt});
  const bool sync = !HOLDFAST_MUTANT(record_before_catalogue_sync);
  Status written = catalogue_.kv().Write(batch, sync);
  if (!written.ok()) {
    // Out of space: nothing was stored. Anything else leaves open what a crash would bring back,
    // so the number is not used again by this process.
    if (written.code() != absl::StatusCode::kResourceExhausted) {
      Refuse(Annotate(written, "the catalogue could not be written; open the vault again"));
    }
    return written;
  }
  delivered_row_ = 0;
  head_ = next;
  counters_ = plan.counters;
  const RecordPut put = MakePut(outgoing);
  outbox_.push_back(std::move(outgoing));
  busy_ = true;
  nodes_.PutRecord(put, kPutTimeoutNanos, [this, done = std::move(done)](Status status) {
    busy_ = false;
    const uint64_t number = outbox_.front().number;
    Sent(status);
    done(status.ok() ? status : NotOnNodes(number, status));
  });
  return absl::OkStatus();
}

// They may be among those that the record in the outbox is made of: from here on its row has the
// record itself.
Status CommitLog::WriteApart(KvBatch rows) {
  if (!outbox_.empty()) {
    OutboxRow row;
    row.generation = outbox_.front().generation;
    const Bytes record = outbox_.front().record.view;
    row.record.assign(record.begin(), record.end());
    rows.push_back({OutboxKey(outbox_.front().number), Encode(row)});
  }
  if (delivered_row_ != 0) rows.push_back({OutboxKey(delivered_row_), std::nullopt});
  RETURN_IF_ERROR(catalogue_.kv().Write(rows, /*sync=*/true));
  delivered_row_ = 0;
  return absl::OkStatus();
}

Status CommitLog::SetEpoch(uint64_t epoch, KvBatch rows) {
  assert(epoch >= head_.epoch);
  Head next = head_;
  next.epoch = epoch;
  rows.push_back({MetaKey(kHeadRow), EncodeHead(next)});
  RETURN_IF_ERROR(catalogue_.kv().Write(rows, /*sync=*/true));
  head_ = next;
  return absl::OkStatus();
}

void CommitLog::Refuse(Status why) {
  if (!refused_.ok()) return;
  refused_ = std::move(why);
  if (env_.on_refused) env_.on_refused(refused_);
}

void CommitLog::Sent(const Status& status) {
  if (!status.ok()) {
    if (absl::IsFailedPrecondition(status)) Refuse(status);  // Another coordinator took over.
    obstacle_ = NotOnNodes(outbox_.front().number, status);
    RetryLater();
    return;
  }
  // A row that is left over from before goes now; normally there is none.
  DropDeliveredRow();
  delivered_row_ = outbox_.front().number;
  outbox_.pop_front();
  if (outbox_.empty()) obstacle_ = absl::OkStatus();
  backoff_nanos_ = 0;
  DropDeliveredRowLater();
}

void CommitLog::RetryLater() {
  backoff_nanos_ = std::clamp(backoff_nanos_ * 2, kFirstBackoffNanos, kMaxBackoffNanos);
  env_.loop.PostAfter(backoff_nanos_, guard_.Wrap([this] {
    if (!proved_) {
      RetryLater();
      return;
    }
    nodes_.PutRecord(MakePut(outbox_.front()), kRetryTimeoutNanos, [this](Status status) {
      Sent(status);
      if (status.ok() && !outbox_.empty()) RetryLater();
      on_change_();
    });
  }));
}

void CommitLog::ProbeLater() {
  env_.loop.PostAfter(kProbeNanos, guard_.Wrap([this] {
    const std::vector<uint32_t> asked = NodesToAsk(options_.map);
    nodes_.Gather(CensusCalls(asked), kStatusTimeoutNanos,
                  [this, asked](const NodeReplies& replies) {
                    census_ = ReadCensus(asked, replies);
                    if (Status behind = CheckNotBehind(head_, census_); !behind.ok()) {
                      Refuse(behind);
                    }
                    if (!proved_ && census_.proves(options_.map)) {
                      proved_ = true;
                      if (outbox_.empty()) obstacle_ = absl::OkStatus();
                    }
                    on_change_();
                    if (census_.away_count() > 0) ProbeLater();
                  });
  }));
}

// Not synced, and a failure does no harm: see the head of commit_log.h.
void CommitLog::DropDeliveredRow() {
  if (delivered_row_ == 0) return;
  const KvBatch drop = {{OutboxKey(delivered_row_), std::nullopt}};
  if (catalogue_.kv().Write(drop, /*sync=*/false).ok()) delivered_row_ = 0;
}

void CommitLog::DropDeliveredRowLater() {
  env_.loop.PostAfter(kIdleNanos, guard_.Wrap([this, number = delivered_row_] {
    if (delivered_row_ == number) DropDeliveredRow();
  }));
}

}  // namespace holdfast
