#include "client/verify_log.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/rpc/methods.h"

namespace holdfast {
namespace {

constexpr int kLogAttempts = 3;
// Asked for at a time, as most of a check is waiting for a disk. Each takes one of the few threads
// with which a node reads and writes.
constexpr uint64_t kSegmentsAhead = 2;

RpcMessage CheckRequest(uint64_t segment, bool only) {
  proto::NodeCheckSegmentRequest request;
  request.set_segment_number(segment);
  request.set_only(only);
  // Verify reads the payloads of all objects itself, but only the node can say of a segment that
  // all of it was read. Else, after a month, it would read every duplicate before each ingest.
  request.set_renew(true);
  return MakeMessage(rpc::kNodeCheckSegment, request);
}

StatusOr<proto::NodeCheckSegmentReply> TakeCheck(Vault& vault, uint32_t node, uint64_t segment,
                                                 StatusOr<RpcMessage> reply) {
  for (int i = 1; i < kLogAttempts && absl::IsUnavailable(reply.status()); ++i) {
    reply = CallAndWait(vault.transport(), NodeAddress(node), CheckRequest(segment, false),
                        kCheckNanos);
  }
  if (!reply.ok()) return reply.status();
  return ParseHead<proto::NodeCheckSegmentReply>(*reply);
}

// The check of `segment`, and of those that probably follow it.
std::vector<StatusOr<RpcMessage>> CheckSegments(Vault& vault, uint32_t node, uint64_t segment) {
  struct Round {
    std::unique_ptr<Monitor> monitor;
    std::vector<StatusOr<RpcMessage>> replies;
    size_t waiting = 0;
  };
  // The first check of a node counts the entries of its index, for the others.
  const uint64_t count = segment == 0 ? 1 : kSegmentsAhead;
  auto round = std::make_shared<Round>();
  round->monitor = vault.transport().NewMonitor();
  round->replies.resize(count, absl::UnavailableError(""));
  round->waiting = count;
  for (uint64_t i = 0; i < count; ++i) {
    vault.transport().Call(NodeAddress(node), CheckRequest(segment + i, /*only=*/i > 0),
                           kCheckNanos, [round, i](StatusOr<RpcMessage> reply) {
                             MonitorLock lock(*round->monitor);
                             round->replies[i] = std::move(reply);
                             --round->waiting;
                           });
  }
  MonitorLock lock(*round->monitor);
  round->monitor->Await([&] { return round->waiting == 0; });
  return std::move(round->replies);
}

// What the node's recovery met at this open; a log that has recovered does not show it again.
Status TakeRecoveryFindings(Vault& vault, uint32_t node, LogFindings& found) {
  ASSIGN_OR_RETURN(const RpcMessage reply,
                   CallAndWait(vault.transport(), NodeAddress(node),
                               MakeMessage(rpc::kNodeStatus, proto::NodeStatusRequest())));
  ASSIGN_OR_RETURN(proto::NodeStatusReply status, ParseHead<proto::NodeStatusReply>(reply));
  for (proto::Finding& finding : *status.mutable_findings()) {
    if (finding.class_() == proto::Finding::NOTE) continue;
    finding.set_node(node);
    found.findings.push_back(std::move(finding));
  }
  return absl::OkStatus();
}

bool IsKnown(const std::vector<proto::Finding>& findings, size_t count,
             const proto::Finding& finding) {
  return std::any_of(findings.begin(), findings.begin() + static_cast<ptrdiff_t>(count),
                     [&](const proto::Finding& known) { return known.text() == finding.text(); });
}

// Findings of one segment. What recovery met is known already.
void TakeFindings(proto::NodeCheckSegmentReply& reply, uint32_t node, size_t recovered,
                  LogFindings& found) {
  for (proto::Finding& finding : *reply.mutable_findings()) {
    if (finding.class_() == proto::Finding::NOTE) continue;
    if (IsKnown(found.findings, recovered, finding)) continue;
    if (found.findings.size() - recovered < kMaxFindings) {
      finding.set_node(node);
      found.findings.push_back(std::move(finding));
    } else {
      ++found.unlisted;
    }
  }
}

Status CheckLog(Vault& vault, uint32_t node, const std::stop_token& stop, LogFindings& found) {
  RETURN_IF_ERROR(TakeRecoveryFindings(vault, node, found));
  const size_t recovered = found.findings.size();
  uint64_t segment = 0;
  do {
    const uint64_t first = segment;
    std::vector<StatusOr<RpcMessage>> replies = CheckSegments(vault, node, first);
    for (size_t i = 0; i < replies.size(); ++i) {
      if (first + i != segment) continue;  // There is none of that number, or an older one is next.
      ASSIGN_OR_RETURN(proto::NodeCheckSegmentReply reply,
                       TakeCheck(vault, node, segment, std::move(replies[i])));
      TakeFindings(reply, node, recovered, found);
      if (reply.next_segment_number() != 0 && reply.next_segment_number() <= segment) {
        return absl::UnavailableError("it lists its segments in no order");
      }
      segment = reply.next_segment_number();
      if (segment == 0) break;
    }
  } while (segment != 0 && !stop.stop_requested());
  return absl::OkStatus();
}

}  // namespace

LogFindings CheckLogs(Vault& vault, const ClusterMap& map, const std::stop_token& stop) {
  LogFindings found;
  for (const MapNode& node : map.nodes) {
    if (node.state >= NodeState::kOut) continue;  // Holds nothing that counts.
    Status status = CheckLog(vault, node.number, stop, found);
    if (status.ok()) continue;
    found.not_reached.push_back(absl::StrCat("the log of node ", node.number,
                                             " was not checked to its end: ", Message(status)));
  }
  return found;
}

}  // namespace holdfast
