#include "client/reader_gets.h"

#include <optional>
#include <utility>

#include "common/cluster/cluster_map.h"
#include "common/proto/holdfast.pb.h"
#include "common/rpc/methods.h"

namespace holdfast {
namespace {

constexpr uint64_t kRequestBytes = 4u << 20;  // Of records asked for in one request, and
constexpr size_t kRequestRecords = 1024;      // how many.

Status AnswerStatus(const proto::RecordAnswer& answer, const SharedBytes& frame) {
  switch (answer.status()) {
    case proto::PRESENT:
      if (!frame.view.empty()) return absl::OkStatus();
      return absl::UnavailableError("an answer without the bytes");
    case proto::MISSING:
      return absl::DataLossError("missing");
    case proto::CORRUPT:
      return absl::DataLossError("corrupt: its bytes fail the record checksum");
    case proto::UNREADABLE:
      return absl::DataLossError("unreadable: the disk gives an I/O error");
    default:
      return absl::UnavailableError("an answer that makes no sense");
  }
}

}  // namespace

struct NodeGets::Request {
  uint32_t node;
  std::vector<size_t> answers;  // Their places, in the order of the request's ids.
  uint64_t bytes = 0;
  bool taken = false;
};

// What the callbacks touch; outlives the round when a late one runs.
struct NodeGets::Shared {
  std::unique_ptr<Monitor> monitor;
  std::vector<std::optional<StatusOr<RpcMessage>>> replies;  // Per request.
};

NodeGets::NodeGets(Transport& transport) : transport_(transport) {}
NodeGets::~NodeGets() = default;

size_t NodeGets::Add(uint32_t node, const RecordId& id, uint32_t stored_length) {
  answers_.push_back({.node = node, .id = id});
  lengths_.push_back(stored_length);
  return answers_.size() - 1;
}

void NodeGets::Group(int64_t timeout_nanos) {
  timeout_nanos_ = timeout_nanos;
  request_of_.resize(answers_.size());
  std::vector<size_t> open;  // Per node, the request that still takes records, plus one.
  for (size_t i = 0; i < answers_.size(); ++i) {
    const uint32_t node = answers_[i].node;
    if (node >= open.size()) open.resize(node + 1);
    if (open[node] != 0) {
      const Request& r = requests_[open[node] - 1];
      const bool full =
          r.bytes + lengths_[i] > kRequestBytes || r.answers.size() == kRequestRecords;
      if (full) open[node] = 0;
    }
    if (open[node] == 0) {
      requests_.push_back({.node = node});
      open[node] = requests_.size();
    }
    request_of_[i] = open[node] - 1;
    Request& request = requests_[request_of_[i]];
    request.answers.push_back(i);
    request.bytes += lengths_[i];
  }
  shared_ = std::make_shared<Shared>();
  shared_->monitor = transport_.NewMonitor();
  shared_->replies.resize(requests_.size());
}

bool NodeGets::all_sent() const { return sent_ == requests_.size(); }

void NodeGets::SendUpTo(size_t most) {
  while (!all_sent() && under_way() < most) SendNext();
}

void NodeGets::SendNext() {
  const size_t r = sent_++;
  proto::NodeGetRequest head;
  head.mutable_ids()->reserve(requests_[r].answers.size() * RecordId::kSize);
  for (size_t i : requests_[r].answers) head.mutable_ids()->append(AsView(answers_[i].id.bytes()));
  transport_.Call(NodeAddress(requests_[r].node), MakeMessage(rpc::kNodeGet, head), timeout_nanos_,
                  [shared = shared_, r](StatusOr<RpcMessage> reply) {
                    MonitorLock lock(*shared->monitor);
                    shared->replies[r] = std::move(reply);
                  });
}

bool NodeGets::taken(size_t i) const { return requests_[request_of_[i]].taken; }

void NodeGets::Take(size_t i) {
  if (taken(i)) return;
  Request& request = requests_[request_of_[i]];
  while (sent_ <= request_of_[i]) SendNext();
  TakeRequest(request);
}

void NodeGets::TakeRequest(Request& request) {
  std::optional<StatusOr<RpcMessage>>& reply = shared_->replies[&request - requests_.data()];
  {
    MonitorLock lock(*shared_->monitor);
    shared_->monitor->Await([&] { return reply.has_value(); });
  }
  TakeReply(request, *std::exchange(reply, std::nullopt));
  request.taken = true;
  ++taken_;
}

void NodeGets::Send(int64_t timeout_nanos) {
  Group(timeout_nanos);
  SendUpTo(requests_.size());
}

void NodeGets::Wait() {
  for (size_t i = 0; i < answers_.size(); ++i) Take(i);
}

void NodeGets::TakeReply(const Request& request, StatusOr<RpcMessage> reply) {
  StatusOr<proto::NodeGetReply> head =
      reply.ok() ? ParseHead<proto::NodeGetReply>(*reply) : reply.status();
  const size_t n = request.answers.size();
  if (head.ok() && (static_cast<size_t>(head->answers_size()) != n || reply->frames.size() != n)) {
    head = absl::UnavailableError("a reply that does not fit the request");
  }
  for (size_t k = 0; k < n; ++k) {
    GetAnswer& answer = answers_[request.answers[k]];
    if (!head.ok()) {
      answer.status = absl::UnavailableError(head.status().message());
      continue;
    }
    const proto::RecordAnswer& a = head->answers(static_cast<int>(k));
    answer.status = AnswerStatus(a, reply->frames[k]);
    if (!answer.status.ok()) continue;
    answer.checksum = Checksum::FromBytes(AsBytes(a.checksum()));
    answer.place = a.place();
    answer.stored = std::move(reply->frames[k]);
    bytes_received_ += answer.stored.view.size();
  }
}

GetAnswer GetFromNode(Transport& transport, uint32_t node, const RecordId& id,
                      int64_t timeout_nanos) {
  NodeGets gets(transport);
  gets.Add(node, id, 0);
  gets.Send(timeout_nanos);
  gets.Wait();
  return std::move(gets[0]);
}

}  // namespace holdfast
