#include "client/verify_log.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/rpc/methods.h"

namespace holdfast {
namespace {

constexpr int kLogAttempts = 3;

StatusOr<proto::NodeCheckSegmentReply> CheckSegment(Vault& vault, uint32_t node, uint64_t segment) {
  proto::NodeCheckSegmentRequest request;
  request.set_segment_number(segment);
  // Verify reads the payloads of all objects itself, but only the node can say of a segment that
  // all of it was read. Else, after a month, it would read every duplicate before each ingest.
  request.set_renew(true);
  StatusOr<RpcMessage> reply = absl::UnavailableError("");
  for (int i = 0; i < kLogAttempts && absl::IsUnavailable(reply.status()); ++i) {
    reply = CallAndWait(vault.transport(), NodeAddress(node),
                        MakeMessage(rpc::kNodeCheckSegment, request), kCheckNanos);
  }
  if (!reply.ok()) return reply.status();
  return ParseHead<proto::NodeCheckSegmentReply>(*reply);
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

Status CheckLog(Vault& vault, uint32_t node, LogFindings& found) {
  RETURN_IF_ERROR(TakeRecoveryFindings(vault, node, found));
  const size_t recovered = found.findings.size();
  size_t listed = 0;
  uint64_t segment = 0;
  do {
    ASSIGN_OR_RETURN(proto::NodeCheckSegmentReply reply, CheckSegment(vault, node, segment));
    for (proto::Finding& finding : *reply.mutable_findings()) {
      if (finding.class_() == proto::Finding::NOTE) continue;
      if (IsKnown(found.findings, recovered, finding)) continue;
      if (listed++ < kMaxFindings) {
        finding.set_node(node);
        found.findings.push_back(std::move(finding));
      } else {
        ++found.unlisted;
      }
    }
    if (reply.next_segment_number() != 0 && reply.next_segment_number() <= segment) {
      return absl::UnavailableError("it lists its segments in no order");
    }
    segment = reply.next_segment_number();
  } while (segment != 0);
  return absl::OkStatus();
}

}  // namespace

LogFindings CheckLogs(Vault& vault, const ClusterMap& map) {
  LogFindings found;
  for (const MapNode& node : map.nodes) {
    if (node.state >= NodeState::kOut) continue;  // Holds nothing that counts.
    Status status = CheckLog(vault, node.number, found);
    if (status.ok()) continue;
    found.not_reached.push_back(absl::StrCat("the log of node ", node.number,
                                             " was not checked to its end: ", Message(status)));
  }
  return found;
}

}  // namespace holdfast
