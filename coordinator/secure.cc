#include "coordinator/secure.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"

namespace holdfast {
namespace {

constexpr size_t kAtOnce = 1000;

// The work of one SecureRecords; its callbacks keep it.
class Securer : public std::enable_shared_from_this<Securer> {
 public:
  Securer(NodeClient& nodes, std::vector<RecordId> ids, uint64_t epoch, int64_t timeout_nanos,
          std::function<void(Status)> done)
      : nodes_(nodes),
        ids_(std::move(ids)),
        epoch_(epoch),
        timeout_nanos_(timeout_nanos),
        done_(std::move(done)) {}

  // Pins the next ids on every node of their sets.
  void Pin() {
    if (first_ == ids_.size()) return done_(absl::OkStatus());
    const size_t last = std::min(ids_.size(), first_ + kAtOnce);
    asked_.clear();
    for (size_t i = first_; i < last; ++i) {
      for (uint32_t node : WriteSet(nodes_.map(), PlacementGroupOf(ids_[i]))) {
        asked_[node].push_back(i);
      }
    }
    std::vector<NodeCall> calls;
    for (const auto& [node, places] : asked_) {
      proto::NodePinRequest request;
      request.set_session_epoch(epoch_);
      request.set_generation(nodes_.generation());
      for (size_t i : places) request.mutable_ids()->append(AsView(ids_[i].bytes()));
      calls.push_back({node, MakeMessage(rpc::kNodePin, request)});
    }
    nodes_.Gather(
        std::move(calls), timeout_nanos_,
        [self = shared_from_this()](const NodeReplies& replies) { self->Judge(replies); });
  }

 private:
  struct Found {
    std::vector<uint32_t> holders, lacking;
    std::string checksum;
    bool differs = false;
  };

  void Judge(const NodeReplies& replies) {
    const size_t last = std::min(ids_.size(), first_ + kAtOnce);
    std::vector<Found> found(last - first_);
    Status error = ReadPins(replies, found);
    std::map<std::pair<uint32_t, uint32_t>, std::string> copies;  // (to, from) → ids
    for (size_t i = 0; i < found.size(); ++i) {
      const RecordId& id = ids_[first_ + i];
      const Found& f = found[i];
      if (f.differs || (f.holders.empty() && error.ok())) {
        return done_(absl::AbortedError(
            absl::StrCat("chunk ", id.hex().substr(0, 16),
                         f.differs ? " differs between nodes" : " is not on the nodes any more",
                         ": start the ingest again")));
      }
      if (HasQuorum(nodes_.map(), PlacementGroupOf(id), f.holders)) continue;
      if (f.holders.empty() || f.lacking.empty() || copied_) {
        return done_(absl::UnavailableError(
            absl::StrCat("too few nodes hold a chunk", error.ok() ? "" : ": ", Message(error))));
      }
      for (uint32_t node : f.lacking) {
        copies[{node, f.holders.front()}].append(AsView(id.bytes()));
      }
    }
    if (!copies.empty()) return Copy(copies);
    first_ = last;
    copied_ = false;
    Pin();
  }

  Status ReadPins(const NodeReplies& replies, std::vector<Found>& found) {
    Status error;
    size_t next = 0;
    for (const auto& [node, places] : asked_) {
      const NodeReply& reply = replies[next++];
      StatusOr<proto::NodePinReply> head =
          reply.ok() ? ParseHead<proto::NodePinReply>(*reply) : reply.status();
      if (head.ok() && size_t(head->answers_size()) != places.size()) {
        head = absl::UnavailableError("malformed answer to a pin");
      }
      if (!head.ok()) {
        error = FromNode(node, head.status());
        continue;
      }
      for (size_t k = 0; k < places.size(); ++k) {
        const proto::RecordAnswer& answer = head->answers(static_cast<int>(k));
        Found& f = found[places[k] - first_];
        if (answer.status() != proto::PRESENT) {
          f.lacking.push_back(node);
          continue;
        }
        f.differs |= !f.holders.empty() && f.checksum != answer.checksum();
        f.checksum = answer.checksum();
        f.holders.push_back(node);
      }
    }
    return error;
  }

  void Copy(const std::map<std::pair<uint32_t, uint32_t>, std::string>& copies) {
    copied_ = true;
    std::vector<NodeCall> calls;
    for (const auto& [way, ids] : copies) {
      proto::NodePullRequest request;
      request.set_source(way.second);
      request.set_ids(ids);
      Buffer touches;
      for (size_t i = 0; i < ids.size(); i += RecordId::kSize) Writer(touches).U64(epoch_);
      request.set_touches(ToString(touches));
      calls.push_back({way.first, MakeMessage(rpc::kNodePull, request)});
    }
    nodes_.Gather(std::move(calls), timeout_nanos_,
                  [self = shared_from_this()](const NodeReplies&) { self->Pin(); });
  }

  NodeClient& nodes_;
  const std::vector<RecordId> ids_;
  const uint64_t epoch_;
  const int64_t timeout_nanos_;
  const std::function<void(Status)> done_;
  size_t first_ = 0;                               // Of those that are asked about.
  bool copied_ = false;                            // Copies of these were made.
  std::map<uint32_t, std::vector<size_t>> asked_;  // Node → places in ids_.
};

}  // namespace

void SecureRecords(NodeClient& nodes, std::vector<RecordId> ids, uint64_t epoch,
                   int64_t timeout_nanos, std::function<void(Status)> done) {
  std::make_shared<Securer>(nodes, std::move(ids), epoch, timeout_nanos, std::move(done))->Pin();
}

}  // namespace holdfast
