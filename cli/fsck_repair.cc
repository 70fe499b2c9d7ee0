#include "cli/fsck_repair.h"

#include <algorithm>
#include <cstdio>
#include <span>

#include "absl/strings/str_join.h"
#include "cli/ask.h"
#include "common/base/coding.h"
#include "common/base/ids.h"
#include "common/base/text.h"
#include "common/rpc/methods.h"

namespace holdfast::cli {
namespace {

// So many chunks fit into a reply, however large they are.
constexpr size_t kCopiedAtOnce = 16;

Status CheckCount(int answers, const std::string& ids) {
  if (static_cast<size_t>(answers) == ids.size() / RecordId::kSize) return absl::OkStatus();
  return absl::InternalError("a reply that does not fit the request");
}

}  // namespace

bool Repairer::IsThere(uint32_t node) const {
  for (const OpenedVault::NodeState& state : vault_.nodes()) {
    if (state.number == node) return state.open_status.ok();
  }
  return false;
}

void Repairer::Note(const google::protobuf::RepeatedPtrField<proto::Finding>& findings) {
  for (const proto::Finding& finding : findings) {
    const bool damage = finding.class_() != proto::Finding::NOTE;
    if (!damage || finding.id().size() != RecordId::kSize || !IsThere(finding.node())) continue;
    if (!seen_.emplace(finding.node(), finding.id()).second) continue;
    noted_[finding.node()].push_back(finding.id());
  }
}

Status Repairer::CopyNoted() {
  for (const auto& [node, noted] : std::exchange(noted_, {})) {
    for (size_t first = 0; first < noted.size(); first += kCopiedAtOnce) {
      const size_t count = std::min(kCopiedAtOnce, noted.size() - first);
      RETURN_IF_ERROR(Copy(node, absl::StrJoin(std::span(noted).subspan(first, count), "")));
    }
  }
  return absl::OkStatus();
}

Status Repairer::Copy(uint32_t node, std::string ids) {
  ASSIGN_OR_RETURN(const proto::NodeStatReply before, Stat(node, ids));
  std::string left;
  for (int i = 0; i < before.answers_size(); ++i) {
    if (before.answers(i).status() == proto::PRESENT) continue;
    left.append(ids, static_cast<size_t>(i) * RecordId::kSize, RecordId::kSize);
  }
  bool refused = false;
  for (const OpenedVault::NodeState& source : vault_.nodes()) {
    if (source.number == node || !source.open_status.ok() || left.empty()) continue;
    StatusOr<std::string> still = CopyFrom(source.number, node, left);
    if (still.ok()) {
      left = *std::move(still);
      continue;
    }
    // The others, and the other nodes, are looked at all the same.
    if (totals_.trouble.ok()) totals_.trouble = still.status();
    refused = true;
  }
  if (left.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const proto::NodeStatReply after, Stat(node, left));
  for (const proto::RecordAnswer& answer : after.answers()) {
    if (answer.status() == proto::TRASHED) {
      ++totals_.in_trash;
    } else if (answer.status() != proto::PRESENT) {
      ++(refused ? totals_.not_copied : totals_.without_copy);
    }
  }
  return absl::OkStatus();
}

StatusOr<proto::NodeStatReply> Repairer::Stat(uint32_t node, const std::string& ids) {
  proto::NodeStatRequest request;
  request.set_ids(ids);
  ASSIGN_OR_RETURN(proto::NodeStatReply reply,
                   Ask<proto::NodeStatReply>(vault_.vault().transport(), NodeAddress(node),
                                             rpc::kNodeStat, request));
  RETURN_IF_ERROR(CheckCount(reply.answers_size(), ids));
  return reply;
}

// With the touch that the source has: where it is not in the trash, neither is the copy.
StatusOr<std::string> Repairer::CopyFrom(uint32_t source, uint32_t node, const std::string& ids) {
  ASSIGN_OR_RETURN(const proto::NodeStatReply there, Stat(source, ids));
  proto::NodePullRequest request;
  request.set_source(source);
  request.set_ids(ids);
  Buffer touches;
  for (const proto::RecordAnswer& answer : there.answers()) {
    Writer(touches).U64(answer.touch_epoch());
  }
  request.set_touches(ToString(touches));
  ASSIGN_OR_RETURN(const auto reply,
                   Ask<proto::NodePullReply>(vault_.vault().transport(), NodeAddress(node),
                                             rpc::kNodePull, request, kCheckNanos));
  RETURN_IF_ERROR(CheckCount(reply.answers_size(), ids));
  totals_.copied_bytes += reply.copied_bytes();
  std::string left;
  for (int i = 0; i < reply.answers_size(); ++i) {
    if (reply.answers(i).status() == proto::PRESENT) {
      ++totals_.copied_records;
    } else {
      left.append(ids, static_cast<size_t>(i) * RecordId::kSize, RecordId::kSize);
    }
  }
  return left;
}

Status Repairer::RewriteSegments(bool last_commit_there) {
  for (const OpenedVault::NodeState& node : vault_.nodes()) {
    if (!node.open_status.ok()) continue;
    RETURN_IF_ERROR(RewriteSegmentsOf(node.number, last_commit_there));
  }
  return absl::OkStatus();
}

// As garbage collection does, by the run that the node was told of last: nothing is let go of.
Status Repairer::RewriteSegmentsOf(uint32_t node, bool last_commit_there) {
  Transport& transport = vault_.vault().transport();
  ASSIGN_OR_RETURN(const auto status,
                   Ask<proto::NodeStatusReply>(transport, NodeAddress(node), rpc::kNodeStatus,
                                               proto::NodeStatusRequest()));
  proto::NodeCompactRequest request;
  request.mutable_run()->set_generation(status.generation());
  request.mutable_run()->set_run(status.gc_run());
  request.mutable_run()->set_horizon(status.gc_horizon());
  request.set_damaged_only(true);
  request.set_last_commit_there(last_commit_there);
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
