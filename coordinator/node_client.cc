#include "coordinator/node_client.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/crypto/domain_keys.h"

namespace holdfast {
namespace {

// Before a node is asked again: it may be about to start.
constexpr int64_t kPauseNanos = 2 * kSecond;

}  // namespace

Status FromNode(uint32_t node, const Status& status) {
  return Annotate(status, absl::StrCat("node ", node));
}

std::string Describe(proto::RecordStatus status) {
  switch (status) {
    case proto::PRESENT:
      return "present";
    case proto::MISSING:
      return "missing";
    case proto::CORRUPT:
      return "corrupt: its bytes fail their checksum";
    case proto::UNREADABLE:
      return "unreadable: the disk gives an I/O error";
    case proto::TRASHED:
      return "in the trash";
    case proto::REFUSED:
      return "refused by the node";
    default:
      return absl::StrCat("in an unknown state (", static_cast<int>(status), ")");
  }
}

Status CheckIdPage(std::string_view from, std::string_view ids, std::string_view next) {
  const auto bad = [](const char* what) {
    return absl::UnavailableError(absl::StrCat("malformed list of records: ", what));
  };
  if (ids.size() % RecordId::kSize != 0) return bad("half an id");
  std::string_view lowest = from;  // Of ids to come.
  for (size_t at = 0; at < ids.size(); at += RecordId::kSize) {
    const std::string_view id = ids.substr(at, RecordId::kSize);
    if (id < lowest || (at > 0 && id == lowest)) return bad("its ids do not go on in order");
    lowest = id;
  }
  if (next.empty()) return absl::OkStatus();
  if (next.size() != RecordId::kSize || next < lowest || next == from || next == lowest) {
    return bad("it does not go on behind its end");
  }
  return absl::OkStatus();
}

Status CheckPutReply(uint32_t node, const NodeReply& reply, const RecordPut& put) {
  if (!reply.ok()) return FromNode(node, reply.status());
  StatusOr<proto::NodePutReply> head = ParseHead<proto::NodePutReply>(*reply);
  if (!head.ok()) return FromNode(node, head.status());
  if (head->answers_size() != 1) {
    return FromNode(node, absl::UnavailableError("malformed answer to a put"));
  }
  const proto::RecordAnswer& answer = head->answers(0);
  if (answer.status() != proto::PRESENT) {
    return FromNode(
        node, absl::UnavailableError(absl::StrCat("the record is ", Describe(answer.status()))));
  }
  const Checksum want = ChecksumOf(put.payload.view);
  if (AsBytes(answer.checksum()).size() != Checksum::kSize ||
      Checksum::FromBytes(AsBytes(answer.checksum())) != want) {
    return FromNode(node, absl::DataLossError(absl::StrCat("holds other bytes under record ",
                                                           put.id.hex().substr(0, 16))));
  }
  return absl::OkStatus();
}

StatusOr<SharedBytes> CheckGetReply(const NodeReply& reply, const NodeClient::Check& check) {
  if (!reply.ok()) return reply.status();
  ASSIGN_OR_RETURN(proto::NodeGetReply head, ParseHead<proto::NodeGetReply>(*reply));
  if (head.answers_size() != 1 || reply->frames.size() != 1) {
    return absl::UnavailableError("malformed answer to a get");
  }
  if (head.answers(0).status() != proto::PRESENT) {
    return absl::DataLossError(Describe(head.answers(0).status()));
  }
  RETURN_IF_ERROR(check(reply->frames[0].view));
  return reply->frames[0];
}

void NodeClient::Call(NodeCall call, int64_t timeout_nanos, std::function<void(NodeReply)> done) {
  // The reply may come on any thread, and late. It lies in a shared place because tasks are copied.
  auto slot = std::make_shared<std::optional<NodeReply>>();
  Task post = guard_.Poster(loop_, [slot, done = std::move(done)] { done(*std::move(*slot)); });
  transport_.Call(NodeAddress(call.node), std::move(call.request), timeout_nanos,
                  [slot, post = std::move(post)](NodeReply reply) {
                    slot->emplace(std::move(reply));
                    post();
                  });
}

void NodeClient::CallAgain(std::shared_ptr<const NodeCall> call, int64_t timeout_nanos,
                           int attempts, std::function<void(NodeReply)> done) {
  Call(*call, timeout_nanos,
       [this, call, timeout_nanos, attempts, done = std::move(done)](NodeReply reply) {
         if (attempts <= 1 || !absl::IsUnavailable(reply.status())) return done(std::move(reply));
         loop_.PostAfter(kPauseNanos, guard_.Wrap([this, call, timeout_nanos, attempts, done] {
           CallAgain(call, timeout_nanos, attempts - 1, done);
         }));
       });
}

void NodeClient::Gather(std::vector<NodeCall> calls, int64_t timeout_nanos,
                        std::function<void(NodeReplies)> done, int attempts) {
  GatherUntil(std::move(calls), timeout_nanos, attempts, nullptr, std::move(done));
}

void NodeClient::GatherEnough(std::vector<NodeCall> calls, int64_t timeout_nanos, Enough enough,
                              std::function<void(NodeReplies)> done) {
  GatherUntil(std::move(calls), timeout_nanos, 1, std::move(enough), std::move(done));
}

void NodeClient::GatherUntil(std::vector<NodeCall> calls, int64_t timeout_nanos, int attempts,
                             Enough enough, std::function<void(NodeReplies)> done) {
  struct State {
    NodeReplies replies;
    size_t waiting = 0;
    Enough enough;
    std::function<void(NodeReplies)> done;
  };
  auto state = std::make_shared<State>();
  state->replies.resize(calls.size(), absl::UnavailableError("no reply"));
  state->waiting = calls.size();
  state->enough = std::move(enough);
  state->done = std::move(done);
  if (calls.empty()) {
    loop_.Post(guard_.Wrap([state] { state->done({}); }));
    return;
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    auto call = std::make_shared<const NodeCall>(std::move(calls[i]));
    CallAgain(std::move(call), timeout_nanos, attempts, [state, i](NodeReply reply) {
      if (!state->done) return;  // It was enough.
      state->replies[i] = std::move(reply);
      if (--state->waiting > 0 && !(state->enough && state->enough(state->replies))) return;
      std::exchange(state->done, nullptr)(std::move(state->replies));
    });
  }
}

NodeReplies NodeClient::GatherAndWait(const std::vector<NodeCall>& calls, int64_t timeout_nanos,
                                      int attempts) {
  NodeReplies replies(calls.size(), absl::UnavailableError("not asked"));
  for (int attempt = 0; attempt < attempts; ++attempt) AskSilent(calls, timeout_nanos, replies);
  return replies;
}

// Those of which the reply is kUnavailable so far.
void NodeClient::AskSilent(const std::vector<NodeCall>& calls, int64_t timeout_nanos,
                           NodeReplies& replies) {
  struct State {
    std::unique_ptr<Monitor> monitor;
    NodeReplies replies;
    size_t waiting = 0;
  };
  std::vector<size_t> silent;
  for (size_t i = 0; i < calls.size(); ++i) {
    if (absl::IsUnavailable(replies[i].status())) silent.push_back(i);
  }
  auto state = std::make_shared<State>();
  state->monitor = transport_.NewMonitor();
  state->replies.resize(calls.size(), absl::UnavailableError("no reply"));
  state->waiting = silent.size();
  for (const size_t i : silent) {
    transport_.Call(NodeAddress(calls[i].node), calls[i].request, timeout_nanos,
                    [state, i](NodeReply reply) {
                      MonitorLock lock(*state->monitor);
                      state->replies[i] = std::move(reply);
                      --state->waiting;
                    });
  }
  MonitorLock lock(*state->monitor);
  state->monitor->Await([&] { return state->waiting == 0; });
  for (const size_t i : silent) replies[i] = std::move(state->replies[i]);
}

std::vector<NodeCall> NodeClient::PutCalls(const RecordPut& put) const {
  proto::NodePutRequest head;
  head.set_session_epoch(put.epoch);
  head.set_generation(generation_);
  head.set_domain(ToString(domain_.bytes()));
  head.set_writer(ToString(put.writer.bytes()));
  proto::PutEntry& entry = *head.add_entries();
  entry.set_id(ToString(put.id.bytes()));
  entry.set_kind(static_cast<uint32_t>(put.kind));
  entry.set_number(put.number);
  entry.set_checksum(ToString(ChecksumOf(put.payload.view).bytes()));
  RpcMessage message = MakeMessage(rpc::kNodePut, head);
  message.frames.push_back(put.payload);
  std::vector<NodeCall> calls;
  for (uint32_t node : WriteSet(map_, PlacementGroupOf(put.id))) calls.push_back({node, message});
  return calls;
}

// Counts acks until enough agree or too few can.
class NodeClient::PutTally {
 public:
  PutTally(const ClusterMap& map, const RecordId& id)
      : map_(map), pg_(PlacementGroupOf(id)), possible_(WriteSet(map, pg_)) {
    Judge();
  }

  void Add(uint32_t node, const Status& ack) {
    if (ack.ok()) {
      acked_.push_back(node);
    } else {
      std::erase(possible_, node);
      if (first_error_.ok() || ack.code() == absl::StatusCode::kDataLoss) first_error_ = ack;
    }
    Judge();
  }
  bool decided() const { return decided_; }
  Status result() const {
    if (enough_) return absl::OkStatus();
    if (!first_error_.ok()) return first_error_;
    return absl::UnavailableError(
        absl::StrCat("the cluster has too few nodes: ", map_.write_quorum(), " copies are needed"));
  }

 private:
  // The map may change meanwhile: what counts is the one of the moment.
  void Judge() {
    enough_ = HasQuorum(map_, pg_, acked_);
    decided_ = enough_ || !HasQuorum(map_, pg_, possible_);
  }

  const ClusterMap& map_;
  const uint32_t pg_;
  std::vector<uint32_t> possible_;  // Have acknowledged, or may still.
  std::vector<uint32_t> acked_;
  Status first_error_;
  bool enough_ = false, decided_ = false;
};

void NodeClient::PutRecord(const RecordPut& put, int64_t timeout_nanos,
                           std::function<void(Status)> done) {
  struct State {
    PutTally tally;
    RecordPut put;
    std::function<void(Status)> done;
  };
  std::vector<NodeCall> calls = PutCalls(put);
  auto state = std::make_shared<State>(State{PutTally(map_, put.id), put, std::move(done)});
  if (state->tally.decided()) {
    loop_.Post(guard_.Wrap([state] { state->done(state->tally.result()); }));
    return;
  }
  for (NodeCall& call : calls) {
    const uint32_t node = call.node;
    Call(std::move(call), timeout_nanos, [state, node](NodeReply reply) {
      if (state->tally.decided()) return;  // A third replica, late: its ack is not waited for.
      state->tally.Add(node, CheckPutReply(node, reply, state->put));
      if (state->tally.decided()) state->done(state->tally.result());
    });
  }
}

Status NodeClient::PutRecordAndWait(const RecordPut& put, int64_t timeout_nanos) {
  std::vector<NodeCall> calls = PutCalls(put);
  std::vector<uint32_t> nodes;
  for (const NodeCall& call : calls) nodes.push_back(call.node);
  PutTally tally(map_, put.id);
  NodeReplies replies = GatherAndWait(calls, timeout_nanos);
  for (size_t i = 0; i < replies.size(); ++i) {
    tally.Add(nodes[i], CheckPutReply(nodes[i], replies[i], put));
  }
  return tally.result();
}

struct NodeClient::GetAttempt {
  RecordId id;
  std::string what;
  Check check;
  int64_t timeout_nanos = 0;
  std::function<void(StatusOr<SharedBytes>)> done;
  std::vector<uint32_t> nodes;  // To be asked, in this order; the first are the acting set.
  size_t acting = 0;
  size_t next = 0;
  Status first_error;
  bool all_answered = true;  // Of the acting set.
};

void NodeClient::GetRecord(const RecordId& id, std::string what, Check check, int64_t timeout_nanos,
                           std::function<void(StatusOr<SharedBytes>)> done) {
  auto attempt = std::make_shared<GetAttempt>();
  attempt->id = id;
  attempt->what = std::move(what);
  attempt->check = std::move(check);
  attempt->timeout_nanos = timeout_nanos;
  attempt->done = std::move(done);
  attempt->nodes = ActingSet(map_, id);
  attempt->acting = attempt->nodes.size();
  for (const MapNode& node : map_.nodes) {
    const auto end = attempt->nodes.begin() + static_cast<ptrdiff_t>(attempt->acting);
    const bool acts = std::find(attempt->nodes.begin(), end, node.number) != end;
    if (!acts && node.state != NodeState::kRemoved) attempt->nodes.push_back(node.number);
  }
  TryNext(std::move(attempt));
}

void NodeClient::TryNext(std::shared_ptr<GetAttempt> attempt) {
  if (attempt->next >= attempt->nodes.size()) {
    std::string text = absl::StrCat(attempt->what, ": ", Message(attempt->first_error));
    attempt->done(attempt->all_answered ? absl::DataLossError(text) : absl::UnavailableError(text));
    return;
  }
  const bool acts = attempt->next < attempt->acting;
  const uint32_t node = attempt->nodes[attempt->next++];
  proto::NodeGetRequest request;
  request.set_ids(ToString(attempt->id.bytes()));
  Call({node, MakeMessage(rpc::kNodeGet, request)}, attempt->timeout_nanos,
       [this, node, acts, attempt](NodeReply reply) {
         StatusOr<SharedBytes> bytes = CheckGetReply(reply, attempt->check);
         if (bytes.ok()) {
           attempt->done(*std::move(bytes));
           return;
         }
         attempt->all_answered &= reply.ok() || !acts;
         if (attempt->first_error.ok()) attempt->first_error = FromNode(node, bytes.status());
         TryNext(attempt);
       });
}

}  // namespace holdfast
