#include "cli/fsck_repair.h"

#include <cstdio>
#include <map>

#include "cli/ask.h"
#include "common/base/ids.h"
#include "common/base/text.h"
#include "common/rpc/methods.h"

namespace holdfast::cli {
namespace {

// So many chunks fit into a reply, however large they are.
constexpr size_t kCopiedAtOnce = 16;

}  // namespace

bool Repairer::IsThere(uint32_t node) const {
  for (const OpenedVault::NodeState& state : vault_.nodes()) {
    if (state.number == node) return state.open_status.ok();
  }
  return false;
}

Status Repairer::CopyRecords(const google::protobuf::RepeatedPtrField<proto::Finding>& findings) {
  std::map<uint32_t, std::string> wanted;  // Per node: ids.
  for (const proto::Finding& finding : findings) {
    if (finding.class_() == proto::Finding::NOTE || finding.id().size() != RecordId::kSize) {
      continue;
    }
    if (!IsThere(finding.node()) || !seen_.emplace(finding.node(), finding.id()).second) continue;
    std::string& ids = wanted[finding.node()];
    ids += finding.id();
    if (ids.size() < kCopiedAtOnce * RecordId::kSize) continue;
    RETURN_IF_ERROR(Copy(finding.node(), std::exchange(ids, {})));
  }
  for (auto& [node, ids] : wanted) RETURN_IF_ERROR(Copy(node, std::move(ids)));
  return absl::OkStatus();
}

Status Repairer::Copy(uint32_t node, std::string ids) {
  for (const OpenedVault::NodeState& source : vault_.nodes()) {
    if (source.number == node || !source.open_status.ok() || ids.empty()) continue;
    ASSIGN_OR_RETURN(ids, CopyFrom(source.number, node, ids));
  }
  totals_.without_copy += ids.size() / RecordId::kSize;
  return absl::OkStatus();
}

// The ids that were not there.
StatusOr<std::string> Repairer::CopyFrom(uint32_t source, uint32_t node, const std::string& ids) {
  proto::NodePullRequest request;
  request.set_source(source);
  request.set_ids(ids);
  ASSIGN_OR_RETURN(const auto reply,
                   Ask<proto::NodePullReply>(vault_.vault().transport(), NodeAddress(node),
                                             rpc::kNodePull, request, kCheckNanos));
  if (static_cast<size_t>(reply.answers_size()) != ids.size() / RecordId::kSize) {
    return absl::InternalError("a reply that does not fit the request");
  }
  totals_.copied_bytes += reply.copied_bytes();
  std::string left;
  for (int i = 0; i < reply.answers_size(); ++i) {
    if (reply.answers(i).status() == proto::PRESENT) {
      ++totals_.copied_records;
    } else {
      left += ids.substr(static_cast<size_t>(i) * RecordId::kSize, RecordId::kSize);
    }
  }
  return left;
}

Status Repairer::RewriteSegments() {
  for (const OpenedVault::NodeState& node : vault_.nodes()) {
    if (node.open_status.ok()) RETURN_IF_ERROR(RewriteSegmentsOf(node.number));
  }
  return absl::OkStatus();
}

// As garbage collection does, by the run that the node was told of last: nothing is let go of.
Status Repairer::RewriteSegmentsOf(uint32_t node) {
  Transport& transport = vault_.vault().transport();
  ASSIGN_OR_RETURN(const auto status,
                   Ask<proto::NodeStatusReply>(transport, NodeAddress(node), rpc::kNodeStatus,
                                               proto::NodeStatusRequest()));
  proto::NodeCompactRequest request;
  request.mutable_run()->set_generation(status.generation());
  request.mutable_run()->set_run(status.gc_run());
  request.mutable_run()->set_horizon(status.gc_horizon());
  request.set_damaged_only(true);
  for (uint32_t steps = 0, step = 0; step <= steps;) {
    request.set_step(step);
    ASSIGN_OR_RETURN(const auto reply,
                     Ask<proto::NodeCompactReply>(transport, NodeAddress(node), rpc::kNodeCompact,
                                                  request, kCheckNanos));
    if (reply.pending()) continue;
    if (step == 0) steps = reply.steps();
    totals_.segments += reply.segments();
    totals_.moved_bytes += reply.copied_bytes();
    if (!reply.skipped().empty()) {
      std::fprintf(stderr, "holdfast: %s\n", Printable(reply.skipped()).c_str());
    }
    ++step;
  }
  return absl::OkStatus();
}

}  // namespace holdfast::cli
