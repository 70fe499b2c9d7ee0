// The coordinator's calls to nodes: records put to W nodes of their acting set, and read from
// whichever replica is good.
//
// Methods without "AndWait" run on the Loop and call back on it, exactly once; those with it run
// off the Loop and wait.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/loop.h"
#include "common/cluster/cluster_map.h"
#include "common/format/segment_format.h"
#include "common/proto/holdfast.pb.h"
#include "common/rpc/methods.h"
#include "common/rpc/transport.h"
#include "coordinator/guard.h"

namespace holdfast {

struct NodeCall {
  uint32_t node = 0;
  RpcMessage request;
};
using NodeReply = StatusOr<RpcMessage>;
using NodeReplies = std::vector<NodeReply>;  // In the order of the calls.

struct RecordPut {
  RecordId id;
  RecordKind kind = RecordKind::kCommitRecord;
  uint64_t number = 0;
  uint64_t epoch = 0;
  WriterId writer;
  SharedBytes payload;
};

// Of a list of ids that a node gives page by page, from the one named `from` (empty: the first) on:
// kUnavailable unless the ids are in order, none twice, and the next page lies behind them. So a
// list comes to an end, and no page counts twice.
Status CheckIdPage(std::string_view from, std::string_view ids, std::string_view next);

class NodeClient {
 public:
  // Callbacks run under `guard`.
  NodeClient(Transport& transport, Loop& loop, const Guard& guard, const ClusterMap& map,
             const DomainId& domain)
      : transport_(transport), loop_(loop), guard_(guard), map_(map), domain_(domain) {}
  const ClusterMap& map() const { return map_; }
  // Of the catalogue; what is pinned and put from here on says it.
  void SetGeneration(uint64_t generation) { generation_ = generation; }
  uint64_t generation() const { return generation_; }

  void Call(NodeCall call, int64_t timeout_nanos, std::function<void(NodeReply)> done);
  // All at once; `done` when every one has its reply. kUnavailable counts as one only when it came
  // `attempts` times, seconds apart.
  void Gather(std::vector<NodeCall> calls, int64_t timeout_nanos,
              std::function<void(NodeReplies)> done, int attempts = 1);
  // The same, but `done` as soon as `enough` says so of those that have come (of the others it sees
  // kUnavailable).
  using Enough = std::function<bool(const NodeReplies&)>;
  void GatherEnough(std::vector<NodeCall> calls, int64_t timeout_nanos, Enough enough,
                    std::function<void(NodeReplies)> done);
  // Off the Loop: again at once, and while a reply is kUnavailable, up to `attempts` times.
  NodeReplies GatherAndWait(const std::vector<NodeCall>& calls, int64_t timeout_nanos,
                            int attempts = 1);

  // ok as soon as a quorum of the record's sets (HasQuorum) holds exactly these bytes; otherwise,
  // when that cannot happen any more, the first node's reason, naming it. kDataLoss: a node holds
  // other bytes.
  void PutRecord(const RecordPut& put, int64_t timeout_nanos, std::function<void(Status)> done);
  Status PutRecordAndWait(const RecordPut& put, int64_t timeout_nanos);

  // The first replica, best node first, that `check` accepts; of other nodes when the acting set
  // has none. kDataLoss when every node of the acting set answered; kUnavailable when some did not.
  using Check = std::function<Status(Bytes)>;
  void GetRecord(const RecordId& id, std::string what, Check check, int64_t timeout_nanos,
                 std::function<void(StatusOr<SharedBytes>)> done);

 private:
  class PutTally;
  struct GetAttempt;
  std::vector<NodeCall> PutCalls(const RecordPut& put) const;
  void GatherUntil(std::vector<NodeCall> calls, int64_t timeout_nanos, int attempts, Enough enough,
                   std::function<void(NodeReplies)> done);
  void AskSilent(const std::vector<NodeCall>& calls, int64_t timeout_nanos, NodeReplies& replies);
  void CallAgain(std::shared_ptr<const NodeCall> call, int64_t timeout_nanos, int attempts,
                 std::function<void(NodeReply)> done);
  void TryNext(std::shared_ptr<GetAttempt> attempt);

  Transport& transport_;
  Loop& loop_;
  const Guard& guard_;
  const ClusterMap& map_;
  DomainId domain_;
  uint64_t generation_ = 0;
};

// The answer of a one-record request as an ack or the reason why it is none; `node` leads.
Status CheckPutReply(uint32_t node, const NodeReply& reply, const RecordPut& put);
// The bytes in the answer to a get of one record, when it has it and `check` accepts them.
StatusOr<SharedBytes> CheckGetReply(const NodeReply& reply, const NodeClient::Check& check);
// One line for an answer that is not PRESENT.
std::string Describe(proto::RecordStatus status);
// "node 3: " before the message.
Status FromNode(uint32_t node, const Status& status);

}  // namespace holdfast
