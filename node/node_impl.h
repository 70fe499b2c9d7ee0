// The node's service, split by request: node.cc (start, stop, small requests), node_put.cc (pin
// and put), node_get.cc (get, quarantine, commits), node_check.cc, node_repair.cc (digests, lists,
// copies from other nodes), node_gc.cc (what goes into the trash), node_compact.cc (what leaves
// it). Runs on the Loop; what blocks goes to io and comes back by Post. Callbacks hold the Impl;
// after Stop they do nothing.
#pragma once

#include <atomic>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "common/rpc/methods.h"
#include "node/findings.h"
#include "node/group_commit.h"
#include "node/group_digests.h"
#include "node/node.h"
#include "node/record_reader.h"
#include "node/recovery.h"
#include "node/segment_scan.h"

namespace holdfast {

class Node::Impl : public std::enable_shared_from_this<Node::Impl> {
 public:
  Impl(const NodeOptions& options, const NodeEnv& env, Recovered recovered);
  // Makes the parts that call back; once, after construction.
  void Start();
  void Stop();
  void Handle(RpcMessage request, ReplyFn reply);
  void Close(std::function<void(Status)> done);
  void SetGroups(std::vector<bool> held) { groups_ = std::move(held); }
  const std::vector<proto::Finding>& findings() const { return findings_; }

 private:
  struct Admission;
  struct Pull;
  struct Copies;
  struct Check;
  struct EntryTally;
  class Compactor;

  // node.cc
  void HandleStat(const RpcMessage& request, const ReplyFn& reply);
  void HandleStatus(const ReplyFn& reply);
  void HandleProbe(const RpcMessage& request, const ReplyFn& reply);
  Status OnWritten(const Batch& batch, const Log::Written& written);
  Status IndexBatch(const Batch& batch, const Log::Written& written);
  void FlushIndexSometimes(uint64_t written_bytes);
  // What a request is told when the index fails; marks a damaged one for the next start.
  Status IndexError(const Status& status);
  StatusOr<std::vector<RecordId>> ParseIds(const std::string& bytes) const;
  // Whether the log still holds what the entry points to.
  bool Reachable(const IndexEntry& entry) const;
  // Reachable and not quarantined.
  bool Present(const RecordId& id, const std::optional<IndexEntry>& entry) const;
  // Whether the segment was last read in full longer ago than that.
  bool OlderThan(const SegmentInfo& info, int64_t nanos) const;
  // Not read for longer than the scrub target.
  bool Stale(const IndexEntry& entry) const;
  uint64_t Lsn() const;
  // Runs `work` on io, then `then` on the Loop unless stopped.
  void RunOnIo(std::function<void()> work, std::function<void()> then);

  // node_put.cc
  void HandlePin(const RpcMessage& request, ReplyFn reply);
  void HandlePut(RpcMessage request, ReplyFn reply);
  void Admit(const std::shared_ptr<Admission>& a);
  Status CheckSpace(const Admission& a, const std::vector<std::optional<IndexEntry>>& entries);
  void Decide(const std::shared_ptr<Admission>& a,
              const std::vector<std::optional<IndexEntry>>& entries);
  void DecideOne(Admission& a, size_t i, const std::optional<IndexEntry>& entry,
                 const OperationPtr& op);
  bool PresentFor(const Admission& a, size_t i, const std::optional<IndexEntry>& entry) const;
  // The puts and pins among them that have to prove what another principal stored, by the index.
  StatusOr<std::vector<bool>> Doubted(const Admission& a,
                                      const std::vector<std::optional<IndexEntry>>& entries);
  // Whether a put of what another principal's batch, on its way, holds too has to wait for that.
  bool WaitsForOthers(const std::shared_ptr<Admission>& a);
  // The coordinator counts on what is here by this map.
  void HearMap(const RpcMessage& request, uint64_t version);
  // Whether the map places here what a principal brings.
  Status CheckGroups(const Admission& a) const;
  void Compare(Admission& a, size_t i, const IndexEntry& entry);
  // Whether the record that is there, or on its way, is of a kind that keeps this put out: nobody
  // who stores chunks takes the place of anything else, nor keeps it from the coordinator.
  static bool KeepsOut(const Admission& a, RecordKind kind);
  static bool GivesWay(const Admission& a, size_t i, RecordKind kind);
  void Touch(const RecordId& id, uint64_t known, uint64_t epoch, const OperationPtr& op);
  // Sends the answers of an admission.
  template <class Reply>
  std::function<void(const Status&, const Admission&)> AnswerWith(uint16_t method, ReplyFn reply);
  bool KeepsWhatItSays(const Admission& a);

  // node_repair.cc
  void CountDigests();
  void HandleDigests(const RpcMessage& request, const ReplyFn& reply);
  void HandleListGroup(const RpcMessage& request, const ReplyFn& reply);
  void HandlePull(const RpcMessage& request, ReplyFn reply);
  void FetchLater(const std::shared_ptr<Pull>& pull);
  void Fetch(const std::shared_ptr<Pull>& pull);
  Copies TakeCopies(Pull& pull, const proto::NodeGetReply& head,
                    const std::vector<SharedBytes>& frames) const;
  void Admit(const std::shared_ptr<Pull>& pull, const StatusOr<RpcMessage>& reply);
  bool ServesClients() const;
  // How long the next copy waits for clients.
  int64_t CopyDelay() const;

  // node_gc.cc
  void HandleGcBegin(const RpcMessage& request, const ReplyFn& reply);
  void HandleListRecords(const RpcMessage& request, const ReplyFn& reply);
  void HandleTrash(const RpcMessage& request, const ReplyFn& reply);
  Status CheckRun(const proto::GcRun& run) const;
  // Refuses what a session that cannot commit any more stores (G3).
  Status CheckSession(uint64_t epoch, uint64_t generation, const Caller& caller) const;
  // Refuses a commit of a coordinator whose catalogue was made anew since, by another one.
  Status CheckCommits(const Admission& a) const;
  // Makes it durable before `op` ends, if it is news.
  void LearnGeneration(uint64_t generation, const OperationPtr& op);
  // Out of the trash, if the touch is high enough.
  void TakeOut(const RecordId& id, const IndexEntry& entry, uint64_t touch, const OperationPtr& op);
  // The highest touch that is durable or on its way.
  uint64_t KnownTouch(const RecordId& id, const std::optional<IndexEntry>& entry) const;

  // node_get.cc
  void HandleGet(const RpcMessage& request, ReplyFn reply);
  void HandleQuarantine(const RpcMessage& request, ReplyFn reply);
  void HandleListCommits(const RpcMessage& request, ReplyFn reply);
  // Reads on io; quarantines what is bad, durably if the disk takes it; then calls `then`.
  void ReadAndQuarantine(std::vector<RecordRead> reads,
                         std::function<void(std::vector<RecordRead>)> then);
  bool FollowMoved(std::vector<RecordRead>& reads);
  void QuarantineBad(const RecordId& id, Location at, const OperationPtr& op);
  // After a reader found that the record with this checksum does not open: what it had replaced
  // comes back.
  void BringBack(const proto::NodeQuarantineRequest& request, const ReplyFn& reply);
  void BringBack(const RecordRead& read, const ReplyFn& reply);
  Status AddSetAside(const std::vector<RecordId>& ids, std::vector<RecordRead>& reads);

  // node_check.cc
  void HandleCheckSegment(const RpcMessage& request, ReplyFn reply);
  void CheckTally(const std::shared_ptr<Check>& c);
  void CheckFile(const std::shared_ptr<Check>& c);
  void CheckRecords(const std::shared_ptr<Check>& c);
  Status CheckSomeRecords(Check& c, size_t first, size_t last);
  void CheckRecord(Check& c, const ScannedRecord& record, const std::optional<IndexEntry>& entry);
  Status CheckTouches(Check& c, const ScannedRecord& record);
  void CheckEntries(const std::shared_ptr<Check>& c);
  void CheckLostEntries(Check& c, const std::vector<std::pair<RecordId, IndexEntry>>& entries);
  void FinishCheck(const std::shared_ptr<Check>& c);

  // node_compact.cc
  void HandleCompact(const RpcMessage& request, const ReplyFn& reply);

  const NodeOptions options_;
  const NodeEnv env_;
  const FindingMaker make_;
  const DiskIncarnation incarnation_;
  const uint64_t generation_;     // Of the superblock.
  uint64_t map_version_ = 0;      // The newest by which the coordinator counts on what is here.
  uint64_t told_generation_ = 0;  // By the coordinator, durable or on its way.
  SegmentTable segments_;
  std::unique_ptr<Index> index_;
  LogStart log_start_;  // Until Start.
  std::vector<QuarantineEntry> recovered_quarantine_;
  std::shared_ptr<GroupCommit> commits_;
  std::vector<proto::Finding> findings_;
  Status broken_;  // The index cannot follow the log any more; a restart mends it.
  bool marked_damaged_ = false;
  bool flushing_ = false;
  bool closed_ = false;
  std::atomic<bool> stopped_ = false;  // The owner may let go on any thread.
  uint64_t unflushed_bytes_ = 0;
  std::shared_ptr<EntryTally> tally_;  // Of the check pass under way.
  std::shared_ptr<Compactor> compactor_;
  GroupDigests digests_;
  std::vector<bool> groups_;              // That principals may bring chunks of; empty: all.
  int64_t client_nanos_ = INT64_MIN / 2;  // When a client was last served.
  int64_t copy_free_nanos_ = 0;           // When the next copy may begin.
};

// What is asked of some records together: pinned, or stored where they are not present.
struct Node::Impl::Admission {
  std::vector<RecordId> ids;
  std::vector<uint64_t> touches;  // Per id.
  uint64_t generation = 0;        // Of the catalogue that the session is in; 0: not said.
  // Of puts and copies, per id.
  std::vector<RecordHeader> headers;
  std::vector<bool> replace;
  std::vector<SharedBytes> frames;
  std::vector<proto::RecordAnswer> answers;
  std::function<void(const Status&, const Admission&)> done;
  // The principal, if it is one whose word about a record of others is not enough.
  std::optional<WriterId> prover;
  std::vector<bool> doubted;                          // Per id.
  std::vector<std::pair<RecordId, Location>> proofs;  // What it has shown.
  int rounds = 0;
  // What reading told about records that were stale or doubted, by id.
  struct Checked {
    Location at;
    RecordRead::Result result;
    bool same = false;  // As the bytes that were put.
  };
  absl::flat_hash_map<RecordId, Checked> checked;

  bool is_put() const { return !headers.empty(); }
  bool is_put_of(size_t i) const { return is_put() && !replace[i]; }
  bool of_others(RecordKind kind, const WriterId& writer) const {
    return prover && kind == RecordKind::kChunk && writer != *prover;
  }
  bool refused(size_t i) const { return answers[i].status() == proto::REFUSED; }
  // The next one; its frame and its answer are there already.
  void AddPut(RecordHeader header, uint64_t touch_epoch, bool replaces);
  // One that another node has, as it is there (node_repair.cc).
  void AddCopy(const RecordId& id, const proto::RecordAnswer& from, const SharedBytes& frame,
               uint64_t horizon, bool replaces);
  const Checked* Find(const RecordId& id, const IndexEntry& entry) const {
    auto it = checked.find(id);
    return it != checked.end() && it->second.at == entry.at ? &it->second : nullptr;
  }
};

}  // namespace holdfast
