// Verifying one version of an object.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <tuple>

#include "absl/container/flat_hash_set.h"
#include "client/reader_bulk.h"
#include "client/reader_gets.h"
#include "client/verify.h"
#include "common/format/catalogue_format.h"

namespace holdfast {

// What the jobs of one verify share. Thread-safe.
class Verifying {
 public:
  Verifying(Vault& vault, VerifyObserver& observer, VerifyProgress* progress)
      : vault_(vault),
        keys_(DeriveCatalogueKeys(vault.key().catalogue_key)),
        observer_(observer),
        progress_(progress) {}

  Vault& vault() { return vault_; }
  const CatalogueKeys& catalogue_keys() const { return keys_; }

  // Whether a version with this content (a hash of chunks and digests) was found good, and one was.
  bool IsGood(const Hash256& content);
  void SetGood(const Hash256& content);

  // A version is done. `damage`: what was wrong with any replica; `read`: of the version as a
  // whole.
  void Finish(const ObjectInfo& info, uint64_t bytes, const Status& damage, const Status& read);
  // Of a version that is finished: something that its reading did not show.
  void AddDamage(const ObjectInfo& info, const Status& damage);
  void OnBytes(uint64_t bytes) {
    if (progress_ != nullptr) progress_->bytes_done += bytes;
  }

  // A record with a bad replica: findings about it in a log are not told again.
  void SetDamaged(const RecordId& id);
  bool IsDamaged(const RecordId& id);
  void Tell(const proto::Finding& finding);
  void AddStored(uint64_t bytes);
  VerifySummary& summary() { return summary_; }

 private:
  using Version = std::tuple<std::string, std::string, uint64_t>;  // Collection, name, number.
  static Version VersionOf(const ObjectInfo& info) {
    return {info.collection, info.name, info.row.version_number};
  }

  Vault& vault_;
  const CatalogueKeys keys_;
  VerifyObserver& observer_;
  VerifyProgress* const progress_;
  std::mutex mutex_;
  VerifySummary summary_;
  absl::flat_hash_set<Hash256> good_;
  absl::flat_hash_set<RecordId> damaged_;
  absl::flat_hash_set<Version> told_;  // Of which damage was told.
};

class VerifyJob : public ReadJob {
 public:
  VerifyJob(Verifying& verifying, ObjectInfo info)
      : verifying_(verifying), object_{.info = std::move(info)} {}

  const Vault::OpenedObject* Open() override;
  void OnFault(const ReplicaFault& fault) override;
  Status OnContent(Bytes bytes) override;
  void OnDone(const Status& status) override;

 private:
  Status CheckTags() const;
  Status CheckParts();
  Status CheckPart(const GetAnswer& answer, uint32_t index);
  Status CheckPartOfCluster(const GetAnswer& answer, uint32_t index);

  Verifying& verifying_;
  Vault::OpenedObject object_;
  std::optional<Hash256> content_;  // Where it can be compared with other versions' content.
  Status damage_;                   // The first fault; a kDataLoss one goes before others.
  uint64_t faults_ = 0;
};

}  // namespace holdfast
