// status: is everything safe?
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "common/base/text.h"
#include "common/cluster/cluster_map.h"
#include "common/rpc/methods.h"

namespace holdfast::cli {
namespace {

bool IsDamage(const proto::Finding& finding) { return finding.class_() != proto::Finding::NOTE; }

struct NodeReport {
  OpenedVault::NodeState state;
  StatusOr<proto::NodeStatusReply> reply = absl::UnknownError("");
  bool healthy() const {
    if (!reply.ok() || reply->quarantined() > 0) return false;
    for (const auto& finding : reply->findings()) {
      if (IsDamage(finding)) return false;
    }
    return true;
  }
};

std::vector<NodeReport> AskNodes(OpenedVault& vault) {
  std::vector<NodeReport> reports;
  for (const auto& state : vault.nodes()) {
    NodeReport report{state};
    report.reply =
        !state.open_status.ok()
            ? StatusOr<proto::NodeStatusReply>(state.open_status)
            : Ask<proto::NodeStatusReply>(vault.vault().transport(), NodeAddress(state.number),
                                          rpc::kNodeStatus, proto::NodeStatusRequest());
    reports.push_back(std::move(report));
  }
  return reports;
}

Json NodeJson(const NodeReport& node) {
  Json json;
  json["node"] = node.state.number;
  SetName(json, "path", node.state.path);
  json["ok"] = node.healthy();
  if (!node.reply.ok()) {
    json["message"] = Printable(Message(node.reply.status()));
    return json;
  }
  json["free_bytes"] = node.reply->free_bytes();
  json["total_bytes"] = node.reply->total_bytes();
  json["segments"] = node.reply->segments();
  json["log_bytes"] = node.reply->log_bytes();
  json["read_only"] = node.reply->read_only();
  json["quarantined"] = node.reply->quarantined();
  json["findings"] = Json::array();
  for (const auto& finding : node.reply->findings())
    json["findings"].push_back(FindingJson(finding));
  return json;
}

void PrintNode(const NodeReport& node) {
  if (!node.reply.ok()) {
    std::printf("  node %u  %s  AWAY: %s\n", node.state.number, Printable(node.state.path).c_str(),
                Printable(Message(node.reply.status())).c_str());
    return;
  }
  const auto& r = *node.reply;
  std::printf("  node %u  %s  %s in %s, %s free of %s%s\n", node.state.number,
              Printable(node.state.path).c_str(), FormatBytes(r.log_bytes()).c_str(),
              Counted(r.segments(), "segment", "segments").c_str(),
              FormatBytes(r.free_bytes()).c_str(), FormatBytes(r.total_bytes()).c_str(),
              r.read_only() ? "  READ ONLY: disk nearly full" : "");
  if (r.quarantined() > 0) {
    std::printf("          %s set aside as damaged; `holdfast verify` names the objects, if any\n",
                Counted(r.quarantined(), "record", "records").c_str());
  }
  for (const auto& finding : r.findings()) {
    std::printf("          %s: %s\n", FindingClassName(finding.class_()),
                Printable(finding.text()).c_str());
  }
}

// Of a cluster: where its nodes stand, and what repair has to do.
std::string StateText(const proto::NodeSummary& node) {
  switch (static_cast<NodeState>(node.state())) {
    case NodeState::kIn:
      return node.answers() ? "in" : "in, AWAY";
    case NodeState::kDraining:
      return absl::StrCat(node.groups() == 0 ? "drained: `holdfast node remove` it" : "draining",
                          node.answers() ? "" : ", AWAY");
    case NodeState::kOut:
      return "out: away for long, its records get their copies elsewhere";
    case NodeState::kRemoved:
      break;
  }
  return "removed";
}

// Nodes that hold nothing that counts may be away.
bool Counts(const proto::NodeSummary& node) {
  return node.state() < static_cast<uint32_t>(NodeState::kOut);
}

bool Counts(const proto::VaultStatusReply& status, uint32_t number) {
  return static_cast<int>(number) >= status.nodes_size() ||
         Counts(status.nodes(static_cast<int>(number)));
}

bool ClusterIsWell(const proto::VaultStatusReply& status) {
  for (const proto::NodeSummary& node : status.nodes()) {
    if (Counts(node) && !node.answers()) return false;
  }
  const proto::RepairSummary& repair = status.repair();
  return repair.known() && repair.missing() == 0 && repair.unreachable() == 0 &&
         repair.disputed() == 0;
}

double RepairSeconds(const proto::RepairSummary& repair) {
  const auto left = static_cast<double>(repair.missing() + repair.to_move());
  return repair.records_per_second() > 0 ? left / repair.records_per_second() : -1;
}

Json ClusterJson(const proto::VaultStatusReply& status) {
  const proto::RepairSummary& repair = status.repair();
  Json json = {{"known", repair.known()},
               {"missing", repair.missing()},
               {"to_move", repair.to_move()},
               {"migrating_groups", repair.migrating()},
               {"unreachable_groups", repair.unreachable()},
               {"disputed", repair.disputed()},
               {"copied_records", repair.copied_records()},
               {"copied_bytes", repair.copied_bytes()},
               {"records_per_second", repair.records_per_second()},
               {"trouble", Printable(repair.trouble())},
               {"nodes", Json::array()}};
  const double seconds = RepairSeconds(repair);
  json["eta_seconds"] = seconds < 0 ? Json() : Json(seconds);
  for (const proto::NodeSummary& node : status.nodes()) {
    json["nodes"].push_back({{"node", node.number()},
                             {"state", StateText(node)},
                             {"answers", node.answers()},
                             {"endpoint", Printable(node.endpoint())},
                             {"place", Printable(node.failure_domain())},
                             {"weight", node.weight()},
                             {"groups", node.groups()}});
  }
  return json;
}

void PrintCluster(const proto::VaultStatusReply& status) {
  const proto::RepairSummary& repair = status.repair();
  for (const proto::NodeSummary& node : status.nodes()) {
    std::printf("  node %u  %s  %s  %s\n", node.number(), Printable(node.failure_domain()).c_str(),
                Counted(node.groups(), "group", "groups").c_str(), StateText(node).c_str());
  }
  if (!repair.known()) std::printf("  nodes are still counting what they hold\n");
  std::printf("  redundancy: %s missing", Counted(repair.missing(), "copy", "copies").c_str());
  if (repair.migrating() > 0) {
    std::printf("; %s on the move, %s to copy",
                Counted(repair.migrating(), "group", "groups").c_str(),
                FormatCount(repair.to_move()).c_str());
  }
  const double seconds = RepairSeconds(repair);
  if (repair.missing() + repair.to_move() > 0 && seconds >= 0) {
    std::printf("; about %s to go", FormatSeconds(seconds).c_str());
  }
  std::printf("\n");
  if (repair.unreachable() > 0) {
    std::printf("  %s cannot be reached: none of their nodes answers\n",
                Counted(repair.unreachable(), "group", "groups").c_str());
  }
  if (repair.disputed() > 0) {
    std::printf("  %s differ between nodes: `holdfast verify` tells which are right\n",
                Counted(repair.disputed(), "record", "records").c_str());
  }
  if (!repair.trouble().empty() && repair.missing() + repair.to_move() > 0) {
    std::printf("  last trouble of repair: %s\n", Printable(repair.trouble()).c_str());
  }
}

void PrintStatus(OpenedVault& vault, const proto::VaultStatusReply& status,
                 const std::vector<NodeReport>& nodes, bool ok) {
  std::printf("%s\n", ok ? "Everything that was acknowledged is where it belongs."
                         : "NOT EVERYTHING IS WELL: see below, then run `holdfast verify`.");
  std::printf("  %s (%s) in %s, %s\n", Counted(status.objects(), "object", "objects").c_str(),
              Counted(status.versions(), "version", "versions").c_str(),
              Counted(status.collections(), "collection", "collections").c_str(),
              Counted(status.commits(), "commit", "commits").c_str());
  std::printf("  %s of every chunk on %s; chunks of about %s\n",
              Counted(vault.replicas(), "copy", "copies").c_str(),
              Counted(vault.nodes().size(), "node", "nodes").c_str(),
              FormatBytes(vault.chunk_size()).c_str());
  if (vault.replicas() == 1) std::printf("  One copy only: a lost disk loses data.\n");
  if (status.last_commit_nanos() != 0) {
    std::printf("  last commit %s\n",
                FormatTime(status.last_commit_nanos() / 1'000'000'000,
                           static_cast<uint32_t>(status.last_commit_nanos() % 1'000'000'000))
                    .c_str());
  }
  for (const auto& finding : status.findings()) {
    // Nodes that are away are named below.
    if (finding.class_() != proto::Finding::UNREADABLE)
      std::printf("  %s\n", Printable(finding.text()).c_str());
  }
  for (const NodeReport& node : nodes) PrintNode(node);
  if (status.has_repair()) PrintCluster(status);
  std::printf("  `verify` reads every byte; this looked at structure only.\n");
}

}  // namespace

int RunStatus(const Globals& globals) {
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code, /*brief=*/true);
  if (!vault) return exit_code;
  auto status = Ask<proto::VaultStatusReply>(vault->vault().transport(), kCoordinatorAddress,
                                             rpc::kVaultStatus, proto::VaultStatusRequest());
  if (!status.ok()) return Fail(status.status());
  std::vector<NodeReport> nodes = AskNodes(*vault);
  bool ok = status->findings().empty() && (!status->has_repair() || ClusterIsWell(*status));
  uint64_t log_bytes = 0;
  Json node_list = Json::array();
  for (const NodeReport& node : nodes) {
    const bool counts = !status->has_repair() || Counts(*status, node.state.number);
    ok = ok && (node.healthy() || !counts);
    if (node.reply.ok()) log_bytes += node.reply->log_bytes();
    node_list.push_back(NodeJson(node));
  }
  if (globals.json) {
    Json json = {{"type", "status"},
                 {"ok", ok},
                 {"collections", status->collections()},
                 {"objects", status->objects()},
                 {"versions", status->versions()},
                 {"commits", status->commits()},
                 {"epoch", status->epoch()},
                 {"replicas", vault->replicas()},
                 {"chunk_size", vault->chunk_size()},
                 {"log_bytes", log_bytes},
                 {"nodes", node_list}};
    if (status->has_repair()) json["cluster"] = ClusterJson(*status);
    PrintJson(json);
  } else {
    PrintStatus(*vault, *status, nodes, ok);
    if (!ok) PrintRepairHint(globals);
  }
  return ok ? kExitOk : kExitIntegrity;
}

}  // namespace holdfast::cli
