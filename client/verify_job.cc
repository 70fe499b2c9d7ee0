#include "client/verify_job.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/reader_chunk.h"
#include "common/base/coding.h"

namespace holdfast {
namespace {

constexpr size_t kGoodKept = 1u << 18;
constexpr size_t kDamagedKept = 1u << 20;
constexpr uint32_t kPartsAtOnce = 64;

// Equal for versions whose content is equal and stored in the same records. Objects with parts are
// left out: the digests of their parts differ even so.
std::optional<Hash256> ContentHash(const Vault::OpenedObject& object) {
  if (!object.info.manifest.parts.empty()) return std::nullopt;
  Buffer bytes;
  Writer w(bytes);
  for (const ChunkRef& chunk : object.info.manifest.chunks) w.Id(chunk.id);
  for (const SealedChunkInfo& chunk : object.sealed.chunks) {
    w.Raw(chunk.h);
    w.U32(chunk.length);
  }
  const SealedManifest& sealed = object.sealed;
  w.Raw(sealed.sha256);
  w.Blob(sealed.sha1 ? Bytes(*sealed.sha1) : Bytes());
  w.Blob(sealed.md5 ? Bytes(*sealed.md5) : Bytes());
  return Sha256(bytes);
}

bool HasContent(const ObjectInfo& info) {
  return info.manifest.type == ObjectType::kFile || info.manifest.type == ObjectType::kHardLink;
}

}  // namespace

bool Verifying::IsGood(const Hash256& content) {
  std::lock_guard lock(mutex_);
  return good_.contains(content);
}

void Verifying::SetGood(const Hash256& content) {
  std::lock_guard lock(mutex_);
  if (good_.size() >= kGoodKept) good_.clear();
  good_.insert(content);
}

void Verifying::SetDamaged(const RecordId& id) {
  std::lock_guard lock(mutex_);
  if (damaged_.size() < kDamagedKept) damaged_.insert(id);
}

bool Verifying::IsDamaged(const RecordId& id) {
  std::lock_guard lock(mutex_);
  return damaged_.contains(id);
}

void Verifying::Finish(const ObjectInfo& info, uint64_t bytes, const Status& damage,
                       const Status& read) {
  std::lock_guard lock(mutex_);
  ++summary_.versions;
  if (progress_ != nullptr) ++progress_->objects_done;
  if (read.ok()) summary_.bytes += bytes;
  const bool lost = absl::IsDataLoss(read);
  if (lost || absl::IsDataLoss(damage)) {
    ++summary_.damaged;
    if (lost) ++summary_.lost;
    if (told_.size() < kDamagedKept) told_.insert(VersionOf(info));
  } else if (!read.ok() || !damage.ok()) {
    ++summary_.unchecked;
  } else {
    return;
  }
  const bool tell_read = lost || damage.ok();
  observer_.OnObjectError(info.collection, info.name, lost, tell_read ? read : damage);
}

void Verifying::AddDamage(const ObjectInfo& info, const Status& damage) {
  std::lock_guard lock(mutex_);
  if (told_.contains(VersionOf(info))) return;
  ++summary_.damaged;
  observer_.OnObjectError(info.collection, info.name, /*lost=*/false, damage);
}

void Verifying::AddStored(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  summary_.stored_bytes += bytes;
}

void Verifying::Tell(const proto::Finding& finding) {
  std::lock_guard lock(mutex_);
  observer_.OnFinding(finding);
}

const Vault::OpenedObject* VerifyJob::Open() {
  Status status = verifying_.vault().Open(object_);
  if (status.ok() && HasContent(object_.info)) status = CheckTags();
  if (!status.ok() || !HasContent(object_.info)) {
    verifying_.Finish(object_.info, 0, absl::OkStatus(), status);
    return nullptr;
  }
  content_ = ContentHash(object_);
  if (faults_ == 0 && content_ && verifying_.IsGood(*content_)) {
    verifying_.OnBytes(object_.sealed.size);
    verifying_.Finish(object_.info, object_.sealed.size, absl::OkStatus(), absl::OkStatus());
    return nullptr;
  }
  status = CheckParts();
  if (!status.ok()) {
    OnDone(status);
    return nullptr;
  }
  return &object_;
}

void VerifyJob::OnFault(const ReplicaFault& fault) {
  if (absl::IsDataLoss(fault.status)) verifying_.SetDamaged(fault.id);
  ++faults_;
  if (!damage_.ok() && (absl::IsDataLoss(damage_) || !absl::IsDataLoss(fault.status))) return;
  damage_ = Annotate(fault.status, absl::StrCat("node ", fault.node, ", ", ChunkName(fault.id)));
}

Status VerifyJob::OnContent(Bytes bytes) {
  verifying_.OnBytes(bytes.size());
  return absl::OkStatus();
}

void VerifyJob::OnDone(const Status& status) {
  if (status.ok() && faults_ == 0 && content_) verifying_.SetGood(*content_);
  if (faults_ > 1) {
    damage_ =
        Status(damage_.code(), absl::StrCat(damage_.message(), " (and ", faults_ - 1, " more)"));
  }
  verifying_.Finish(object_.info, object_.sealed.size, damage_, status);
}

// The clear part's tags, by which a key holder finds content, against the sealed digests.
Status VerifyJob::CheckTags() const {
  const DomainKeys& keys = verifying_.vault().domain_keys();
  const ClearManifest& manifest = object_.info.manifest;
  const SealedManifest& sealed = object_.sealed;
  bool good = manifest.tag_sha256 == keys.Tag(DigestAlgorithm::kSha256, sealed.sha256);
  if (manifest.tag_sha1 && sealed.sha1) {
    good &= *manifest.tag_sha1 == keys.Tag(DigestAlgorithm::kSha1, *sealed.sha1);
  }
  if (manifest.tag_md5 && sealed.md5) {
    good &= *manifest.tag_md5 == keys.Tag(DigestAlgorithm::kMd5, *sealed.md5);
  }
  if (good) return absl::OkStatus();
  return absl::DataLossError("its tags are not those of its recorded digests");
}

// Reads every replica of every part record. What is lost of all of them is found when the chunks
// are read; here each bad replica is a fault.
Status VerifyJob::CheckParts() {
  const auto count = static_cast<uint32_t>(object_.info.manifest.parts.size());
  if (count == 0) return absl::OkStatus();
  Vault& vault = verifying_.vault();
  ASSIGN_OR_RETURN(auto map, vault.CachedMap());
  for (uint32_t begin = 0; begin < count; begin += kPartsAtOnce) {
    NodeGets gets(vault.transport());
    std::vector<uint32_t> indices;  // Of the parts, parallel to the answers.
    for (uint32_t i = begin; i < std::min(count, begin + kPartsAtOnce); ++i) {
      const RecordId& id = object_.info.manifest.parts[i].id;
      for (uint32_t node : ActingSet(*map, id)) {
        gets.Add(node, id, kChunksPerPart * 80);
        indices.push_back(i);
      }
    }
    gets.Send();
    gets.Wait();
    for (size_t k = 0; k < gets.size(); ++k) {
      const Status status = CheckPart(gets[k], indices[k]);
      if (!status.ok()) OnFault({gets[k].node, gets[k].id, status});
    }
    verifying_.AddStored(gets.bytes_received());
  }
  return absl::OkStatus();
}

// A client of a cluster has no key to the record: it is to be the one that the coordinator, which
// has, found to be what was signed.
Status VerifyJob::CheckPartOfCluster(const GetAnswer& answer, uint32_t index) {
  ASSIGN_OR_RETURN(const Vault::SignedPart part,
                   verifying_.vault().GetSignedPart(object_.info.manifest, index));
  if (Sha256({answer.stored.view}) != part.record) {
    return absl::DataLossError("it is not the manifest part that was signed");
  }
  return DecodePartClear(part.clear.view).status();
}

Status VerifyJob::CheckPart(const GetAnswer& answer, uint32_t index) {
  RETURN_IF_ERROR(answer.status);
  if (verifying_.vault().key().cluster) return CheckPartOfCluster(answer, index);
  ASSIGN_OR_RETURN(const PartRecord part, DecodePartRecord(verifying_.catalogue_keys().parts,
                                                           answer.id, answer.stored.view));
  if (Sha256({part.clear, part.sealed}) != object_.info.manifest.parts[index].digest) {
    return absl::DataLossError("it is not the manifest part that was signed");
  }
  return DecodePartClear(part.clear).status();
}

}  // namespace holdfast
