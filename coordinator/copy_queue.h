// Copies between nodes that wait for their turn: so many at a time leave or reach one node, so that
// a node that is rebuilt from many, or read by many, still serves its clients.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "coordinator/node_client.h"

namespace holdfast {

class CopyQueue {
 public:
  explicit CopyQueue(NodeClient& nodes) : nodes_(nodes) {}

  struct Copy {
    uint32_t to = 0, from = 0;
    std::string ids;      // 32 bytes each.
    std::string touches;  // u64 each: the highest that any node has.
    std::function<void(const StatusOr<proto::NodePullReply>&)> done;
  };
  // On the Loop, as `done`, which runs once, later.
  void Add(Copy copy);
  size_t waiting() const { return waiting_.size(); }

 private:
  uint32_t& busy(uint32_t node) {
    if (node >= busy_.size()) busy_.resize(node + 1);
    return busy_[node];
  }
  void Pump();
  void Send(Copy copy);

  NodeClient& nodes_;
  std::deque<Copy> waiting_;
  std::vector<uint32_t> busy_;  // Per node: copies under way from and to it.
};

}  // namespace holdfast
