#include "client/restore.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "client/reader_bulk.h"
#include "client/tree_writer.h"
#include "common/base/text.h"

namespace holdfast {
namespace {

// Files that a thread of the reader writes at a time: what waits for a disk is in its queue.
constexpr size_t kWriters = 4;

// Whether `prefix` names `name` or a directory above it; empty names all.
bool InScope(const std::string& name, const std::string& prefix) {
  return prefix.empty() ||
         (name.starts_with(prefix) && (name.size() == prefix.size() || name[prefix.size()] == '/'));
}

// What the jobs of one restore share. Thread-safe.
class Restoring {
 public:
  Restoring(Vault& vault, TreeWriter& tree, RestoreObserver& observer, RestoreProgress* progress)
      : vault_(vault), tree_(tree), observer_(observer), progress_(progress) {}

  Vault& vault() { return vault_; }
  TreeWriter& tree() { return tree_; }

  // Opens the object, given its info, or reports why not.
  bool Open(Vault::OpenedObject& object) {
    const Status status = vault_.Open(object);
    if (!status.ok()) Finish(object.info.name, status, nullptr);
    return status.ok();
  }

  // `counter`: which of the summary's to raise when all went well.
  void Finish(const std::string& name, const Status& status, uint64_t RestoreSummary::*counter,
              uint64_t bytes = 0) {
    std::lock_guard lock(mutex_);
    if (status.ok()) {
      if (counter != nullptr) summary_.*counter += 1;
      summary_.bytes += bytes;
      observer_.OnObject(name);
    } else {
      ++summary_.errors;
      if (absl::IsDataLoss(status)) ++summary_.integrity_errors;
      failed_.insert(name);
      observer_.OnError(name, status);
    }
    if (progress_ == nullptr) return;
    ++progress_->files_done;
    progress_->bytes_done += bytes;
  }

  bool Failed(const std::string& name) {
    std::lock_guard lock(mutex_);
    return failed_.contains(name);
  }

  void TellSkipped(const std::string& name, const std::string& what) {
    std::lock_guard lock(mutex_);
    observer_.OnXattrsSkipped(name, what);
  }

  RestoreSummary& summary() { return summary_; }

 private:
  Vault& vault_;
  TreeWriter& tree_;
  RestoreObserver& observer_;
  RestoreProgress* const progress_;
  std::mutex mutex_;
  RestoreSummary summary_;
  absl::flat_hash_set<std::string> failed_;
};

// Restores one object as a regular file.
class FileJob : public ReadJob {
 public:
  FileJob(Restoring& restoring, ObjectInfo info)
      : restoring_(restoring), object_{.info = std::move(info)} {}
  FileJob(Restoring& restoring, Vault::OpenedObject object)
      : restoring_(restoring), object_(std::move(object)), is_open_(true) {}

  const Vault::OpenedObject* Open() override {
    return is_open_ || restoring_.Open(object_) ? &object_ : nullptr;
  }

  Status OnContent(Bytes bytes) override {
    const Attributes& attributes = object_.sealed.attributes;
    if (sink_ == nullptr && bytes.size() == object_.sealed.size) {
      return restoring_.tree().WriteFile(object_.info.name, bytes, attributes);
    }
    if (sink_ == nullptr) {
      ASSIGN_OR_RETURN(
          sink_, restoring_.tree().CreateFile(object_.info.name, object_.sealed.size, attributes));
    }
    return sink_->Append(bytes);
  }

  void OnDone(const Status& done) override {
    Status status = done;
    if (status.ok() && sink_ != nullptr) status = sink_->Commit();
    sink_ = nullptr;
    restoring_.Finish(object_.info.name, status, &RestoreSummary::files, object_.sealed.size);
  }

 private:
  Restoring& restoring_;
  Vault::OpenedObject object_;
  const bool is_open_ = false;
  std::unique_ptr<TreeWriter::Sink> sink_;
};

class Restorer {
 public:
  Restorer(Vault& vault, kernels::Engine& engine, TreeWriter& tree, const RestoreOptions& options,
           RestoreObserver& observer, RestoreProgress* progress)
      : vault_(vault),
        options_(options),
        progress_(progress),
        restoring_(vault, tree, observer, progress),
        bulk_({.digests = kernels::kSha256,
               .threads = options.threads,
               .writers = options.threads < 0 ? 1 : kWriters,
               .times = options.times}),
        files_(std::make_unique<BulkReader>(vault, engine, bulk_)),
        engine_(engine) {
    tree.OnXattrsSkipped([this](const std::string& name, const std::string& what) {
      restoring_.TellSkipped(name, what);
    });
  }

  StatusOr<RestoreSummary> Run() {
    const int64_t start = vault_.clock().MonotonicNanos();
    Status listed = ForEachObject();
    files_->Finish();
    // Links need their files, and a directory's time and mode nothing more made in it.
    RestoreHardLinks();
    RestoreDirectories();
    RETURN_IF_ERROR(listed);
    RestoreSummary summary = restoring_.summary();
    summary.xattrs_skipped = restoring_.tree().xattrs_skipped();
    summary.already_there = restoring_.tree().already_there();
    summary.nanos = vault_.clock().MonotonicNanos() - start;
    return summary;
  }

 private:
  Status ForEachObject() {
    const Vault::ListOptions list{.prefix = options_.prefix, .by_component = true};
    std::string after;
    for (bool first = true;; first = false) {
      ASSIGN_OR_RETURN(Vault::Page page, vault_.List(options_.collection, list, after));
      if (first && page.objects.empty()) {
        if (options_.prefix.empty()) return absl::OkStatus();
        return absl::NotFoundError(absl::StrCat("nothing under ", Printable(options_.collection),
                                                "/", Printable(options_.prefix)));
      }
      if (progress_ != nullptr) progress_->objects_total += page.objects.size();
      if (page.more) after = page.objects.back().name;
      for (ObjectInfo& info : page.objects) Begin(std::move(info));
      if (!page.more) return absl::OkStatus();
    }
  }

  // In order of names, so that a directory is made before what it holds.
  void Begin(ObjectInfo info) {
    switch (info.manifest.type) {
      case ObjectType::kDirectory:
        return BeginDirectory(std::move(info));
      case ObjectType::kSymlink:
        return RestoreSymlink(std::move(info));
      case ObjectType::kHardLink:
        hard_links_.push_back(std::move(info));
        return;
      default:
        files_->Push(std::make_unique<FileJob>(restoring_, std::move(info)));
    }
  }

  void BeginDirectory(ObjectInfo info) {
    Status status = restoring_.tree().MakeDirectory(info.name);
    if (!status.ok()) return restoring_.Finish(info.name, status, nullptr);
    directories_.push_back(std::move(info));
  }

  void RestoreSymlink(ObjectInfo info) {
    Vault::OpenedObject object{.info = std::move(info)};
    if (!restoring_.Open(object)) return;
    const std::string& name = object.info.name;
    restoring_.Finish(
        name, restoring_.tree().MakeSymlink(name, object.sealed.link, object.sealed.attributes),
        &RestoreSummary::symlinks);
  }

  void RestoreHardLinks() {
    BulkReader copies(vault_, engine_, bulk_);
    for (ObjectInfo& info : hard_links_) {
      Vault::OpenedObject object{.info = std::move(info)};
      if (!restoring_.Open(object)) continue;
      const std::string& name = object.info.name;
      if (IsRestored(object.sealed.link, object.info.manifest.tag_sha256)) {
        restoring_.Finish(name, restoring_.tree().MakeHardLink(name, object.sealed.link),
                          &RestoreSummary::hard_links);
      } else {
        copies.Push(std::make_unique<FileJob>(restoring_, std::move(object)));
      }
    }
    copies.Finish();
  }

  // Whether this restore made a file of that name with that content.
  bool IsRestored(const std::string& name, const ObjectTag& tag) {
    if (!InScope(name, options_.prefix) || restoring_.Failed(name)) return false;
    StatusOr<ObjectInfo> first = vault_.Lookup(options_.collection, name);
    return first.ok() && first->manifest.type == ObjectType::kFile &&
           first->manifest.tag_sha256 == tag;
  }

  // From the last name to the first: what lies in a directory comes after it.
  void RestoreDirectories() {
    for (auto info = directories_.rbegin(); info != directories_.rend(); ++info) {
      Vault::OpenedObject object{.info = std::move(*info)};
      if (!restoring_.Open(object)) continue;
      const std::string& name = object.info.name;
      restoring_.Finish(name,
                        restoring_.tree().SetDirectoryAttributes(name, object.sealed.attributes),
                        &RestoreSummary::directories);
    }
  }

  Vault& vault_;
  const RestoreOptions& options_;
  RestoreProgress* const progress_;
  Restoring restoring_;
  const BulkOptions bulk_;
  std::unique_ptr<BulkReader> files_;
  kernels::Engine& engine_;
  std::vector<ObjectInfo> directories_, hard_links_;
};

}  // namespace

StatusOr<RestoreSummary> Restore(Vault& vault, const RestoreOptions& options,
                                 RestoreObserver& observer, RestoreProgress* progress) {
  if (!vault.key().can_read()) {
    return absl::PermissionDeniedError(
        "this key can ingest and list, but not read; use the vault's full key file");
  }
  ASSIGN_OR_RETURN(std::unique_ptr<TreeWriter> tree, TreeWriter::Open(options.to));
  std::unique_ptr<kernels::Engine> own;
  if (options.engine == nullptr) own = DefaultEngine(vault);
  kernels::Engine& engine = options.engine != nullptr ? *options.engine : *own;
  RestoreOptions scope = options;
  while (scope.prefix.ends_with('/')) scope.prefix.pop_back();
  return Restorer(vault, engine, *tree, scope, observer, progress).Run();
}

}  // namespace holdfast
