#include "client/verify.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/reader_bulk.h"
#include "client/verify_job.h"
#include "client/verify_log.h"
#include "common/base/text.h"

namespace holdfast {
namespace {

class Verifier {
 public:
  Verifier(Vault& vault, kernels::Engine& engine, const VerifyOptions& options,
           VerifyObserver& observer, VerifyProgress* progress)
      : vault_(vault),
        options_(options),
        progress_(progress),
        verifying_(vault, observer, progress),
        reader_(vault, engine,
                {.all_replicas = true, .threads = options.threads, .times = options.times}) {}

  StatusOr<VerifySummary> Run() {
    const int64_t start = vault_.clock().MonotonicNanos();
    const bool whole_vault = options_.collection.empty();
    LogFindings logs;
    if (whole_vault) {
      // First, so that objects whose records have damaged headers are named.
      ASSIGN_OR_RETURN(const ClusterMap map, vault_.Map());
      logs = CheckLogs(vault_, map);
      verifying_.SetLogDamage(logs.findings);
    }
    const Status listed = whole_vault ? PushAll() : PushCollection(options_.collection);
    reader_.Finish();
    RETURN_IF_ERROR(listed);
    TellFindings(logs);
    VerifySummary summary = verifying_.summary();
    summary.objects = objects_;
    summary.stored_bytes += reader_.stored_bytes();
    summary.nanos = vault_.clock().MonotonicNanos() - start;
    return summary;
  }

 private:
  Status PushAll() {
    ASSIGN_OR_RETURN(std::vector<proto::CollectionEntry> collections, vault_.ListCollections());
    for (const proto::CollectionEntry& collection : collections) {
      RETURN_IF_ERROR(PushCollection(collection.name()));
    }
    return absl::OkStatus();
  }

  Status PushCollection(const std::string& collection) {
    const std::string prefix = options_.collection.empty() ? "" : options_.prefix;
    const Vault::ListOptions list{
        .prefix = prefix, .by_component = true, .all_versions = true, .limit = 500};
    std::string after;
    for (bool first = true;; first = false) {
      ASSIGN_OR_RETURN(Vault::Page page, vault_.List(collection, list, after));
      if (first && page.objects.empty() && !prefix.empty()) {
        return absl::NotFoundError(
            absl::StrCat("nothing under ", Printable(collection), "/", Printable(prefix)));
      }
      if (progress_ != nullptr) progress_->objects_total += page.objects.size();
      for (ObjectInfo& info : page.objects) {
        if (std::exchange(after, info.name) != info.name) ++objects_;
        reader_.Push(std::make_unique<VerifyJob>(verifying_, std::move(info)));
      }
      if (!page.more) return absl::OkStatus();
    }
  }

  // What was told of an object is not told again.
  void TellFindings(const LogFindings& logs) {
    VerifySummary& summary = verifying_.summary();
    for (const proto::Finding& finding : logs.findings) {
      if (verifying_.IsDamaged(RecordId::FromBytes(AsBytes(finding.id())))) continue;
      ++summary.findings;
      verifying_.Tell(finding);
    }
    summary.findings += logs.unlisted;
    for (const std::string& text : logs.not_reached) {
      proto::Finding note;
      note.set_class_(proto::Finding::NOTE);
      note.set_text(text);
      verifying_.Tell(note);
      ++summary.unchecked;
    }
  }

  Vault& vault_;
  const VerifyOptions& options_;
  VerifyProgress* const progress_;
  Verifying verifying_;
  BulkReader reader_;
  uint64_t objects_ = 0;
};

}  // namespace

StatusOr<VerifySummary> Verify(Vault& vault, const VerifyOptions& options, VerifyObserver& observer,
                               VerifyProgress* progress) {
  if (!vault.key().can_read()) {
    return absl::PermissionDeniedError(
        "this key can ingest and list, but not read; use the vault's full key file");
  }
  std::unique_ptr<kernels::Engine> own;
  if (options.engine == nullptr) own = DefaultEngine(vault);
  kernels::Engine& engine = options.engine != nullptr ? *options.engine : *own;
  return Verifier(vault, engine, options, observer, progress).Run();
}

}  // namespace holdfast
