#include "coordinator/copy_queue.h"

#include <utility>

namespace holdfast {
namespace {

constexpr uint32_t kPerNode = 2;
constexpr size_t kLookAhead = 64;  // A busy node holds up its own copies, not those of others.
constexpr int64_t kCopyTimeoutNanos = 120LL * 1'000'000'000;

}  // namespace

void CopyQueue::Add(Copy copy) {
  waiting_.push_back(std::move(copy));
  Pump();
}

void CopyQueue::Pump() {
  for (size_t i = 0; i < waiting_.size() && i < kLookAhead;) {
    if (busy(waiting_[i].to) >= kPerNode || busy(waiting_[i].from) >= kPerNode) {
      ++i;
      continue;
    }
    Copy copy = std::move(waiting_[i]);
    waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
    Send(std::move(copy));
  }
}

void CopyQueue::Send(Copy copy) {
  ++busy(copy.to);
  ++busy(copy.from);
  proto::NodePullRequest request;
  request.set_source(copy.from);
  request.set_ids(std::move(copy.ids));
  request.set_touches(std::move(copy.touches));
  nodes_.Call(
      {copy.to, MakeMessage(rpc::kNodePull, request)}, kCopyTimeoutNanos,
      [this, to = copy.to, from = copy.from, done = std::move(copy.done)](const NodeReply& reply) {
        --busy(to);
        --busy(from);
        done(reply.ok() ? ParseHead<proto::NodePullReply>(*reply)
                        : StatusOr<proto::NodePullReply>(FromNode(to, reply.status())));
        Pump();
      });
}

}  // namespace holdfast
