// status ("is everything safe?") and fsck (offline structure check).
#include <cstdio>
#include <set>

#include "cli/commands.h"
#include "cli/output.h"
#include "common/base/text.h"
#include "common/rpc/methods.h"

namespace holdfast::cli {
namespace {

template <class Reply, class Request>
StatusOr<Reply> Call(OpenedVault& vault, const std::string& address, uint16_t method,
                     const Request& request) {
  ASSIGN_OR_RETURN(RpcMessage reply,
                   CallAndWait(vault.vault().transport(), address, MakeMessage(method, request)));
  return ParseHead<Reply>(reply);
}

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
    report.reply = !state.open_status.ok()
                       ? StatusOr<proto::NodeStatusReply>(state.open_status)
                       : Call<proto::NodeStatusReply>(vault, NodeAddress(state.number),
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
    std::printf("          %s set aside as damaged; `holdfast verify` names the objects\n",
                Counted(r.quarantined(), "record", "records").c_str());
  }
  for (const auto& finding : r.findings()) {
    std::printf("          %s: %s\n", FindingClassName(finding.class_()),
                Printable(finding.text()).c_str());
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
  std::printf("  `verify` reads every byte; this looked at structure only.\n");
}

// Shows findings as they come and counts the damage among them.
class FindingCounter {
 public:
  explicit FindingCounter(bool json) : json_(json) {}
  template <class Findings>
  void Take(const Findings& findings) {
    for (const proto::Finding& finding : findings) {
      if (!seen_.insert(finding.text()).second) continue;  // Recovery told it, the scan repeats it.
      damage_ += IsDamage(finding);
      std::fprintf(stderr, "holdfast: %s: %s\n", FindingClassName(finding.class_()),
                   Printable(finding.text()).c_str());
      if (json_) PrintJson(FindingJson(finding));
    }
  }
  void Away(const OpenedVault::NodeState& node) {
    ++damage_;
    std::fprintf(stderr, "holdfast: node %u is away: not checked\n", node.number);
  }
  uint64_t damage() const { return damage_; }

 private:
  bool json_;
  uint64_t damage_ = 0;
  std::set<std::string> seen_;
};

struct FsckTotals {
  uint64_t rows = 0, records = 0, bytes = 0;
};

Status CheckCatalogue(OpenedVault& vault, FindingCounter& counter, FsckTotals& totals) {
  proto::CheckCatalogueRequest request;
  do {
    ASSIGN_OR_RETURN(auto reply, Call<proto::CheckCatalogueReply>(vault, kCoordinatorAddress,
                                                                  rpc::kCheckCatalogue, request));
    counter.Take(reply.findings());
    totals.rows += reply.rows();
    request.set_cursor(reply.cursor());
  } while (!request.cursor().empty());
  return absl::OkStatus();
}

Status CheckNode(OpenedVault& vault, uint32_t node, FindingCounter& counter, FsckTotals& totals) {
  ASSIGN_OR_RETURN(auto recovered,
                   Call<proto::NodeStatusReply>(vault, NodeAddress(node), rpc::kNodeStatus,
                                                proto::NodeStatusRequest()));
  counter.Take(recovered.findings());
  proto::NodeCheckSegmentRequest request;
  do {
    ASSIGN_OR_RETURN(auto reply, Call<proto::NodeCheckSegmentReply>(
                                     vault, NodeAddress(node), rpc::kNodeCheckSegment, request));
    counter.Take(reply.findings());
    totals.records += reply.records();
    totals.bytes += reply.bytes();
    request.set_segment_number(reply.next_segment_number());
  } while (request.segment_number() != 0);
  return absl::OkStatus();
}

// Says all that shows, or may mean, that commits are missing from the new catalogue; true when
// nothing does. A commit lost at the end of the log leaves no gap: only the nodes tell of it.
bool WarnOfLostCommits(const EmbeddedVault::Rebuilt& rebuilt, bool json) {
  const RebuildReport& report = rebuilt.report;
  for (const auto& node : rebuilt.nodes) {
    if (node.open_status.ok()) continue;
    std::fprintf(stderr, "holdfast: warning: node %u is away: %s\n", node.number,
                 Printable(Message(node.open_status)).c_str());
  }
  FindingCounter counter(json);
  std::vector<proto::Finding> damage = rebuilt.findings;
  std::erase_if(damage, [](const proto::Finding& finding) { return !IsDamage(finding); });
  counter.Take(damage);
  for (uint64_t number : report.missing_commits) {
    std::fprintf(stderr,
                 "holdfast: commit %llu is on no node that answers: what it acknowledged is not "
                 "listed\n",
                 static_cast<unsigned long long>(number));
  }
  for (uint64_t number : report.broken_links) {
    std::fprintf(
        stderr,
        "holdfast: commit %llu was made after another commit than the one found before it: "
        "what that one acknowledged is not listed\n",
        static_cast<unsigned long long>(number));
  }
  return counter.damage() == 0 && report.missing_commits.empty() && report.broken_links.empty();
}

void PrintRebuilt(const EmbeddedVault::Rebuilt& rebuilt, bool json) {
  const RebuildReport& report = rebuilt.report;
  if (json) {
    PrintJson(Json{{"type", "rebuild"},
                   {"commits", report.commits},
                   {"objects", report.objects},
                   {"missing_commits", report.missing_commits},
                   {"broken_links", report.broken_links}});
    return;
  }
  std::printf("Catalogue rebuilt from the nodes: %s commits, %s object versions.\n",
              FormatCount(report.commits).c_str(), FormatCount(report.objects).c_str());
  if (!rebuilt.kept_as.empty()) {
    std::printf("The old one is kept as %s; delete it when you are satisfied.\n",
                Printable(rebuilt.kept_as).c_str());
  }
}

int Rebuild(const Globals& globals, const FsckArgs& args) {
  auto key = LoadKey(globals);
  if (!key.ok()) return Fail(key.status());
  OpenError error;
  auto repaired = EmbeddedVault::RepairVaultFile(globals.vault, *key, args.nodes);
  if (!repaired.ok()) return Fail(repaired.status());
  if (!repaired->empty()) {
    std::fprintf(stderr, "holdfast: the vault file was put back from %s\n",
                 Printable(*repaired).c_str());
  }
  auto rebuilt = EmbeddedVault::Rebuild(globals.vault, *key, args.accept_loss, &error);
  if (!rebuilt.ok()) {
    return error.exit_code != 0 ? Fail(Message(error.status), error.exit_code)
                                : Fail(rebuilt.status());
  }
  const bool whole = WarnOfLostCommits(*rebuilt, globals.json);
  PrintRebuilt(*rebuilt, globals.json);
  return whole ? kExitOk : kExitIntegrity;
}

}  // namespace

int RunStatus(const Globals& globals) {
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code);
  if (!vault) return exit_code;
  auto status = Call<proto::VaultStatusReply>(*vault, kCoordinatorAddress, rpc::kVaultStatus,
                                              proto::VaultStatusRequest());
  if (!status.ok()) return Fail(status.status());
  std::vector<NodeReport> nodes = AskNodes(*vault);
  bool ok = status->findings().empty();
  uint64_t log_bytes = 0;
  Json node_list = Json::array();
  for (const NodeReport& node : nodes) {
    ok = ok && node.healthy();
    if (node.reply.ok()) log_bytes += node.reply->log_bytes();
    node_list.push_back(NodeJson(node));
  }
  if (globals.json) {
    PrintJson(Json{{"type", "status"},
                   {"ok", ok},
                   {"collections", status->collections()},
                   {"objects", status->objects()},
                   {"versions", status->versions()},
                   {"commits", status->commits()},
                   {"epoch", status->epoch()},
                   {"replicas", vault->replicas()},
                   {"chunk_size", vault->chunk_size()},
                   {"log_bytes", log_bytes},
                   {"nodes", node_list}});
  } else {
    PrintStatus(*vault, *status, nodes, ok);
  }
  return ok ? kExitOk : kExitIntegrity;
}

int RunFsck(const Globals& globals, const FsckArgs& args) {
  if (args.rebuild_catalogue) {
    // Open's own checks come first, so that a missing vault or key says the same as elsewhere.
    int exit_code = 0;
    if (!FindVault(globals, &exit_code)) return exit_code;
    if (IsEndpoint(globals.vault)) {
      return Fail("a cluster's catalogue is rebuilt where its coordinator runs", kExitUsage);
    }
    return Rebuild(globals, args);
  }
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code);
  if (!vault) return exit_code;
  FindingCounter counter(globals.json);
  FsckTotals totals;
  Status status = CheckCatalogue(*vault, counter, totals);
  for (const auto& node : vault->nodes()) {
    if (!status.ok()) break;
    if (!node.open_status.ok()) {
      counter.Away(node);
      continue;
    }
    status = CheckNode(*vault, node.number, counter, totals);
  }
  if (!status.ok()) return Fail(status);
  if (globals.json) {
    PrintJson(Json{{"type", "summary"},
                   {"rows", totals.rows},
                   {"records", totals.records},
                   {"bytes", totals.bytes},
                   {"damage", counter.damage()}});
  } else {
    std::printf("%s catalogue rows, %s records in %s of log: %s\n",
                FormatCount(totals.rows).c_str(), FormatCount(totals.records).c_str(),
                FormatBytes(totals.bytes).c_str(),
                counter.damage() == 0 ? "clean" : "DAMAGED, as named above");
  }
  return counter.damage() == 0 ? kExitOk : kExitIntegrity;
}

}  // namespace holdfast::cli
