#include "coordinator/census.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/mutant.h"

namespace holdfast {

size_t Census::away_count() const {
  return std::count_if(nodes.begin(), nodes.end(), [](const auto& node) { return !node.ok(); });
}

bool Census::proves(const ClusterMap& map) const {
  if (HOLDFAST_MUTANT(rolled_back_accepted)) return away_count() < nodes.size();
  bool only_out = true;
  for (size_t i = 0; i < nodes.size(); ++i) {
    only_out &= nodes[i].ok() || map.nodes[i].state >= NodeState::kOut;
  }
  return only_out || away_count() < map.write_quorum();
}

std::string Census::away_text() const {
  std::string text;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].ok()) continue;
    absl::StrAppend(&text, text.empty() ? "" : "; ", "node ", i, ": ", Message(nodes[i].status()));
  }
  return text;
}

uint64_t Census::highest_commit() const {
  uint64_t highest = 0;
  for (const auto& node : nodes) {
    if (node.ok()) highest = std::max<uint64_t>(highest, node->highest_commit());
  }
  return highest;
}

uint64_t Census::highest_generation() const {
  uint64_t highest = 0;
  for (const auto& node : nodes) {
    if (node.ok()) highest = std::max<uint64_t>(highest, node->generation());
  }
  return highest;
}

uint64_t Census::lifted(uint64_t epoch) const {
  uint64_t highest = epoch;
  for (const auto& node : nodes) {
    if (node.ok()) highest = std::max(highest, Lifted(epoch, node->gc_horizon()));
  }
  return highest;
}

uint64_t Lifted(uint64_t epoch, uint64_t horizon) {
  constexpr uint64_t kMostForgotten = 1u << 20;
  if (HOLDFAST_MUTANT(restore_without_epoch)) return epoch;
  return horizon > epoch && horizon - epoch <= kMostForgotten ? horizon : epoch;
}

std::vector<uint32_t> NodesToAsk(const ClusterMap& map) {
  std::vector<uint32_t> numbers;
  for (const MapNode& node : map.nodes) {
    if (node.state != NodeState::kRemoved) numbers.push_back(node.number);
  }
  return numbers;
}

std::vector<NodeCall> CensusCalls(const std::vector<uint32_t>& asked) {
  std::vector<NodeCall> calls;
  for (const uint32_t node : asked) {
    calls.push_back({node, MakeMessage(rpc::kNodeStatus, proto::NodeStatusRequest())});
  }
  return calls;
}

Census ReadCensus(const std::vector<uint32_t>& asked, const NodeReplies& replies) {
  Census census;
  if (!asked.empty()) census.nodes.resize(asked.back() + 1, proto::NodeStatusReply());
  for (size_t i = 0; i < asked.size(); ++i) {
    StatusOr<proto::NodeStatusReply>& node = census.nodes[asked[i]];
    node = replies[i].ok() ? ParseHead<proto::NodeStatusReply>(*replies[i]) : replies[i].status();
    if (!node.ok()) continue;
    for (const uint64_t count : {node->highest_commit(), node->generation(), node->gc_run(),
                                 node->gc_horizon(), node->max_touch()}) {
      if (IsPossible(count)) continue;
      node = absl::UnavailableError(absl::StrCat("it counts to ", count, ", which cannot be"));
      break;
    }
  }
  return census;
}

Census TakeCensus(NodeClient& nodes, int64_t timeout_nanos) {
  const std::vector<uint32_t> asked = NodesToAsk(nodes.map());
  return ReadCensus(asked, nodes.GatherAndWait(CensusCalls(asked), timeout_nanos, kCensusAttempts));
}

Status CheckNotBehind(const Head& head, const Census& census) {
  for (size_t i = 0; i < census.nodes.size(); ++i) {
    const auto& node = census.nodes[i];
    if (!node.ok()) continue;
    if (node->highest_commit() > head.number) {
      return absl::DataLossError(absl::StrCat("catalogue is behind the nodes (has commit ",
                                              head.number, ", node ", i, " holds ",
                                              node->highest_commit(), "): ", kRebuildHint));
    }
    if (node->generation() > head.generation) {
      return absl::DataLossError(absl::StrCat("catalogue is behind the nodes (generation ",
                                              head.generation, ", node ", i, " is at ",
                                              node->generation(), "): ", kRebuildHint));
    }
  }
  return absl::OkStatus();
}

}  // namespace holdfast
