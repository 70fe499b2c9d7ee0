// fsck: offline structure check; and the catalogue made anew from the nodes.
#include <cstdio>
#include <set>

#include "cli/ask.h"
#include "cli/catalogue_files.h"
#include "cli/commands.h"
#include "cli/embedded.h"
#include "cli/fsck_repair.h"
#include "cli/kv_options.h"
#include "cli/output.h"
#include "cli/serve.h"
#include "common/base/text.h"
#include "common/cluster/routes.h"
#include "common/kv/rocks_kv.h"
#include "common/rpc/methods.h"
#include "common/rpc/zmq/zmq_transport.h"

namespace holdfast::cli {
namespace {

bool IsDamage(const proto::Finding& finding) { return finding.class_() != proto::Finding::NOTE; }

// Shows findings as they come and counts the damage among them.
class FindingCounter {
 public:
  enum class Show : uint8_t { kNothing, kText, kTextAndJson };
  explicit FindingCounter(Show show) : show_(show) {}
  template <class Findings>
  void Take(const Findings& findings) {
    for (const proto::Finding& finding : findings) {
      if (!seen_.insert(finding.text()).second) continue;  // Recovery told it, the scan repeats it.
      damage_ += IsDamage(finding);
      if (show_ == Show::kNothing) continue;
      std::fprintf(stderr, "holdfast: %s: %s\n", FindingClassName(finding.class_()),
                   Printable(finding.text()).c_str());
      if (show_ == Show::kTextAndJson) PrintJson(FindingJson(finding));
    }
  }
  void Away(const OpenedVault::NodeState& node) {
    ++damage_;
    std::fprintf(stderr, "holdfast: node %u is away: not checked\n", node.number);
  }
  uint64_t damage() const { return damage_; }

 private:
  Show show_;
  uint64_t damage_ = 0;
  std::set<std::string> seen_;
};

struct FsckTotals {
  uint64_t rows = 0, records = 0, bytes = 0;
};

// Looks at everything once: the nodes' logs, then what the catalogue expects of them.
class Check {
 public:
  // With a repairer all bytes are read, and what is found is made good as it is found.
  Check(OpenedVault& vault, FindingCounter::Show show, Repairer* repairer)
      : vault_(vault), repairer_(repairer), counter_(show) {}

  Status Run() {
    for (const OpenedVault::NodeState& node : vault_.nodes()) {
      if (node.open_status.ok()) {
        RETURN_IF_ERROR(CheckNode(node.number));
      } else {
        counter_.Away(node);
      }
    }
    return CheckCatalogue();
  }

  // The structure alone.
  Status CheckCatalogue() {
    proto::CheckCatalogueRequest request;
    do {
      ASSIGN_OR_RETURN(const auto reply,
                       Ask<proto::CheckCatalogueReply>(transport(), kCoordinatorAddress,
                                                       rpc::kCheckCatalogue, request, kCheckNanos));
      Take(reply.findings());
      RETURN_IF_ERROR(Repair());
      totals_.rows += reply.rows();
      request.set_cursor(reply.cursor());
    } while (!request.cursor().empty());
    return absl::OkStatus();
  }

  uint64_t damage() const { return counter_.damage(); }
  const FsckTotals& totals() const { return totals_; }

 private:
  Transport& transport() { return vault_.vault().transport(); }

  template <class Findings>
  void Take(const Findings& findings) {
    counter_.Take(findings);
    if (repairer_ != nullptr) repairer_->Note(findings);
  }
  Status Repair() { return repairer_ == nullptr ? absl::OkStatus() : repairer_->CopyNoted(); }

  Status CheckNode(uint32_t node) {
    ASSIGN_OR_RETURN(const auto recovered,
                     Ask<proto::NodeStatusReply>(transport(), NodeAddress(node), rpc::kNodeStatus,
                                                 proto::NodeStatusRequest()));
    Take(recovered.findings());
    proto::NodeCheckSegmentRequest request;
    request.set_all_payloads(repairer_ != nullptr);
    do {
      ASSIGN_OR_RETURN(const auto reply, Ask<proto::NodeCheckSegmentReply>(
                                             transport(), NodeAddress(node), rpc::kNodeCheckSegment,
                                             request, kCheckNanos));
      Take(reply.findings());
      totals_.records += reply.records();
      totals_.bytes += reply.bytes();
      request.set_segment_number(reply.next_segment_number());
    } while (request.segment_number() != 0);
    return Repair();
  }

  OpenedVault& vault_;
  Repairer* repairer_;
  FindingCounter counter_;
  FsckTotals totals_;
};

void PrintRepaired(const RepairTotals& totals, bool json) {
  if (json) {
    return PrintJson(Json{{"type", "repair"},
                          {"copied_records", totals.copied_records},
                          {"copied_bytes", totals.copied_bytes},
                          {"without_copy", totals.without_copy},
                          {"in_trash", totals.in_trash},
                          {"not_copied", totals.not_copied},
                          {"trouble", Printable(Message(totals.trouble))},
                          {"segments", totals.segments},
                          {"moved_bytes", totals.moved_bytes}});
  }
  std::printf("%s (%s) brought back from other disks, %s rewritten (%s moved)\n",
              Counted(totals.copied_records, "record", "records").c_str(),
              FormatBytes(totals.copied_bytes).c_str(),
              Counted(totals.segments, "segment", "segments").c_str(),
              FormatBytes(totals.moved_bytes).c_str());
  if (totals.without_copy > 0) {
    std::printf("%s no other disk has: ingest the files again, if they are still wanted\n",
                Counted(totals.without_copy, "record", "records").c_str());
  }
  if (totals.in_trash > 0) {
    std::printf("%s in the trash; `holdfast gc` takes out what is needed\n",
                Counted(totals.in_trash, "record is", "records are").c_str());
  }
  if (totals.not_copied > 0) {
    std::printf("%s could not be copied: %s\n",
                Counted(totals.not_copied, "record", "records").c_str(),
                Printable(Message(totals.trouble)).c_str());
  }
}

FindingCounter::Show ShowOf(bool json) {
  return json ? FindingCounter::Show::kTextAndJson : FindingCounter::Show::kText;
}

// What is found is made good; then it is looked at anew, and that counts.
StatusOr<Check> CheckAndRepair(OpenedVault& vault, bool json) {
  Repairer repairer(vault);
  Check first(vault, ShowOf(json), &repairer);
  RETURN_IF_ERROR(first.Run());
  if (first.damage() == 0) return first;
  Check catalogue(vault, FindingCounter::Show::kNothing, nullptr);
  RETURN_IF_ERROR(catalogue.CheckCatalogue());
  RETURN_IF_ERROR(repairer.RewriteSegments(/*last_commit_there=*/catalogue.damage() == 0));
  PrintRepaired(repairer.totals(), json);
  Check again(vault, ShowOf(json), nullptr);
  RETURN_IF_ERROR(again.Run());
  return again;
}

StatusOr<Check> CheckOnly(OpenedVault& vault, bool json) {
  Check check(vault, ShowOf(json), nullptr);
  RETURN_IF_ERROR(check.Run());
  return check;
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
  FindingCounter counter(ShowOf(json));
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

StatusOr<Buffer> ReadBackup(const std::string& path) {
  if (path.empty()) return Buffer();
  return ReadFile(PosixFs(), path);
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
  const StatusOr<Buffer> backup = ReadBackup(args.backup);
  if (!backup.ok()) return Fail(backup.status());
  auto rebuilt = EmbeddedVault::Rebuild(globals.vault, *key, args.accept_loss, *backup, &error);
  if (!rebuilt.ok()) {
    return error.exit_code != 0 ? Fail(Message(error.status), error.exit_code)
                                : Fail(rebuilt.status());
  }
  const bool whole = WarnOfLostCommits(*rebuilt, globals.json);
  PrintRebuilt(*rebuilt, globals.json);
  return whole ? kExitOk : kExitIntegrity;
}

// The catalogue of a cluster, from its nodes: they let in the coordinator alone, and that is who
// asks.
StatusOr<EmbeddedVault::Rebuilt> RebuildCluster(const RebuildArgs& args) {
  ASSIGN_OR_RETURN(const CoordinatorConfig config, ReadCoordinatorConfig(args.config));
  ASSIGN_OR_RETURN(const KeyFile key, ReadKeyFile(PosixFs(), config.key_file, std::nullopt));
  if (!key.cluster) return absl::PermissionDeniedError(config.key_file + " is no cluster's");
  ASSIGN_OR_RETURN(const Buffer encoded_map, ReadFile(PosixFs(), args.map));
  ASSIGN_OR_RETURN(const Buffer backup, ReadBackup(args.backup));
  CoordinatorOptions options;
  options.vault = key.vault;
  options.domain = key.domain;
  options.keys = DeriveCatalogueKeys(key.catalogue_key);
  ASSIGN_OR_RETURN(options.map, DecodePlacedMap(AsView(encoded_map)));
  ZmqOptions zmq;
  zmq.keys = {key.cluster->public_key, key.cluster->secret_key};
  ASSIGN_OR_RETURN(const std::unique_ptr<ZmqTransport> transport, ZmqTransport::Open(zmq));
  RouteNodes(*transport, options.map);
  const std::string path = config.dir + "/catalogue", fresh = path + ".new";
  RETURN_IF_ERROR(DestroyRocksKv(fresh));
  EmbeddedVault::Rebuilt rebuilt;
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<Kv> catalogue,
                     OpenRocksKv(fresh, true, CatalogueKvOptions(key)));
    const std::unique_ptr<Loop> loop = NewThreadLoop("hf-coordinator");
    const CoordinatorEnv env{SystemClock(), SecureRng(), *loop, *transport, *catalogue};
    ASSIGN_OR_RETURN(rebuilt.report, RebuildCatalogue(options, env, args.accept_loss, backup));
    RETURN_IF_ERROR(catalogue->Flush());
  }
  AddCommitsOfOld(path, CatalogueKvOptions(key), rebuilt.report);
  ASSIGN_OR_RETURN(rebuilt.kept_as, ReplaceCatalogue(PosixFs(), path, fresh));
  return rebuilt;
}

}  // namespace

int RunCoordinatorRebuild(const Globals& globals, const RebuildArgs& args) {
  const StatusOr<EmbeddedVault::Rebuilt> rebuilt = RebuildCluster(args);
  if (!rebuilt.ok()) return Fail(rebuilt.status());
  const bool whole = WarnOfLostCommits(*rebuilt, globals.json);
  PrintRebuilt(*rebuilt, globals.json);
  return whole ? kExitOk : kExitIntegrity;
}

int RunFsck(const Globals& globals, const FsckArgs& args) {
  if (args.rebuild_catalogue) {
    // Open's own checks come first, so that a missing vault or key says the same as elsewhere.
    int exit_code = 0;
    if (!FindVault(globals, &exit_code)) return exit_code;
    if (IsEndpoint(globals.vault)) {
      return Fail(
          "a cluster's catalogue is rebuilt by `holdfast coordinator rebuild`, on its machine",
          kExitUsage);
    }
    return Rebuild(globals, args);
  }
  int exit_code = 0;
  if (args.repair && IsEndpoint(globals.vault)) {
    return Fail(
        "the nodes of a cluster bring back each other's records by themselves, and `holdfast gc` "
        "rewrites damaged segments",
        kExitUsage);
  }
  auto vault = OpenVault(globals, &exit_code);
  if (!vault) return exit_code;
  const StatusOr<Check> check =
      args.repair ? CheckAndRepair(*vault, globals.json) : CheckOnly(*vault, globals.json);
  if (!check.ok()) return Fail(check.status());
  const FsckTotals& totals = check->totals();
  if (globals.json) {
    PrintJson(Json{{"type", "summary"},
                   {"rows", totals.rows},
                   {"records", totals.records},
                   {"bytes", totals.bytes},
                   {"damage", check->damage()}});
  } else {
    std::printf("%s catalogue rows, %s records in %s of log: %s\n",
                FormatCount(totals.rows).c_str(), FormatCount(totals.records).c_str(),
                FormatBytes(totals.bytes).c_str(),
                check->damage() == 0 ? "clean" : "DAMAGED, as named above");
    if (check->damage() > 0 && !args.repair) PrintRepairHint(globals);
  }
  return check->damage() == 0 ? kExitOk : kExitIntegrity;
}

}  // namespace holdfast::cli
