#include "client/verify.h"

#include <functional>
#include <optional>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "client/reader_bulk.h"
#include "client/reader_chunk.h"
#include "client/reader_cursor.h"
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
    LogFindings logs;
    {
      // Beside the reading: each waits for the disk more than for a processor.
      std::optional<std::jthread> log_check;
      if (options_.collection.empty()) {
        ASSIGN_OR_RETURN(const ClusterMap map, vault_.Map());
        const auto check = [this, &logs, map](const std::stop_token& stop) {
          logs = CheckLogs(vault_, map, stop);
        };
        if (options_.threads < 0) {
          check({});
        } else {
          log_check.emplace(check);
        }
      }
      const Status listed = ForEachPage([this](Vault::Page page) { Push(std::move(page)); });
      reader_.Finish();
      RETURN_IF_ERROR(listed);  // The check of the logs is stopped.
      if (log_check) log_check->join();
    }
    RETURN_IF_ERROR(NameObjectsOf(logs));
    TellFindings(logs);
    VerifySummary summary = verifying_.summary();
    summary.objects = objects_;
    summary.stored_bytes += reader_.stored_bytes();
    summary.nanos = vault_.clock().MonotonicNanos() - start;
    return summary;
  }

 private:
  // Of the whole vault, or of the collection and prefix that are asked for.
  Status ForEachPage(const std::function<void(Vault::Page)>& take) {
    if (!options_.collection.empty()) return ForEachPage(options_.collection, take);
    ASSIGN_OR_RETURN(std::vector<proto::CollectionEntry> collections, vault_.ListCollections());
    for (const proto::CollectionEntry& collection : collections) {
      RETURN_IF_ERROR(ForEachPage(collection.name(), take));
    }
    return absl::OkStatus();
  }

  Status ForEachPage(const std::string& collection, const std::function<void(Vault::Page)>& take) {
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
      const bool more = page.more;
      if (!page.objects.empty()) after = page.objects.back().name;
      take(std::move(page));
      if (!more) return absl::OkStatus();
    }
  }

  void Push(Vault::Page page) {
    if (progress_ != nullptr) progress_->objects_total += page.objects.size();
    for (ObjectInfo& info : page.objects) {
      if (std::exchange(last_, {info.collection, info.name}) !=
          std::pair(info.collection, info.name)) {
        ++objects_;
      }
      reader_.Push(std::make_unique<VerifyJob>(verifying_, std::move(info)));
    }
  }

  // Damage that logs show around records that read well through an index (a record header, which an
  // index rebuilt from the log would miss): all objects are gone through again, for those whose
  // content it is.
  Status NameObjectsOf(const LogFindings& logs) {
    absl::flat_hash_map<RecordId, const proto::Finding*> damage;
    for (const proto::Finding& finding : logs.findings) {
      const RecordId id = RecordId::FromBytes(AsBytes(finding.id()));
      if (!id.is_zero() && !verifying_.IsDamaged(id)) damage.emplace(id, &finding);
    }
    if (damage.empty()) return absl::OkStatus();
    return ForEachPage([&](Vault::Page page) {
      for (ObjectInfo& info : page.objects) NameObject(std::move(info), damage);
    });
  }

  void NameObject(ObjectInfo info,
                  const absl::flat_hash_map<RecordId, const proto::Finding*>& damage) {
    Vault::OpenedObject object{.info = std::move(info)};
    if (!vault_.Open(object).ok()) return;  // That was told.
    uint64_t faults = 0;
    Status first;
    const auto look = [&](const RecordId& id) {
      const auto found = damage.find(id);
      if (found == damage.end()) return;
      verifying_.SetDamaged(id);
      if (++faults > 1) return;
      const proto::Finding& finding = *found->second;
      first = absl::DataLossError(
          absl::StrCat("node ", finding.node(), ", ", ChunkName(id), ": ", finding.text()));
    };
    for (const PartRef& part : object.info.manifest.parts) look(part.id);
    for (ChunkCursor cursor(vault_, object); !cursor.at_end();) {
      const StatusOr<PlacedChunk> chunk = cursor.Next();
      if (!chunk.ok()) break;
      look(chunk->ref.id);
    }
    if (faults > 1)
      first = absl::DataLossError(absl::StrCat(first.message(), " (and ", faults - 1, " more)"));
    if (faults > 0) verifying_.AddDamage(object.info, first);
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
  std::pair<std::string, std::string> last_;  // Collection and name of the object counted last.
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
