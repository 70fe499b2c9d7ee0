#include "client/ingest_manifest.h"

#include <string.h>

#include <utility>

namespace holdfast {
namespace {

constexpr int64_t kRenewNanos = 3'600'000'000'000;

}  // namespace

ManifestMaker::~ManifestMaker() {
  // An ingest host keeps nothing that opens what it stored.
  ::explicit_bzero(current_.key.data(), current_.key.size());
}

Status ManifestMaker::Renew() {
  Rng& rng = ctx_.vault.rng();
  current_.id = rng.NewId<SealingKeyId>();
  rng.Fill(current_.key);
  const KeyFile& key = ctx_.vault.key();
  ASSIGN_OR_RETURN(current_.box,
                   SealSealingKey(key.domain_public_key, key.domain, current_.id, current_.key));
  boxes_[current_.id] = current_.box;
  made_nanos_ = ctx_.vault.clock().MonotonicNanos();
  have_key_ = true;
  return absl::OkStatus();
}

Status ManifestMaker::Draw(Secrets& secrets, SealingKeyId& sealing_key_id, AeadKey& sealing_key) {
  std::lock_guard lock(mutex_);
  if (!have_key_ || ctx_.vault.clock().MonotonicNanos() - made_nanos_ >= kRenewNanos) {
    RETURN_IF_ERROR(Renew());
  }
  static_assert(sizeof(Secrets) == 16 + 32 + 12 + 12);
  ctx_.vault.rng().Fill({reinterpret_cast<uint8_t*>(&secrets), sizeof(secrets)});
  sealing_key_id = current_.id;
  sealing_key = current_.key;
  return absl::OkStatus();
}

Status ManifestMaker::Make(IngestObject& object, const kernels::Digests& digests) {
  Secrets secrets;
  AeadKey sealing_key;
  ClearManifest& clear = object.clear;
  RETURN_IF_ERROR(Draw(secrets, clear.sealing_key, sealing_key));
  const DomainId& domain = ctx_.vault.key().domain;
  const DomainKeys& keys = ctx_.vault.domain_keys();
  clear.name = object.entry.name;
  clear.type = object.entry.type;
  clear.version = secrets.version;
  clear.time_nanos = ctx_.vault.clock().WallNanos();
  clear.chunk_count = object.sealed_chunks.size();
  clear.wrapped_key =
      WrapObjectKey(sealing_key, secrets.wrap_nonce, domain, clear.version, secrets.object_key);

  SealedManifest sealed;
  sealed.size = object.size;
  sealed.sha256 = digests.sha256;
  clear.tag_sha256 = keys.Tag(DigestAlgorithm::kSha256, digests.sha256);
  if (ctx_.options.digests & kernels::kSha1) {
    sealed.sha1 = digests.sha1;
    clear.tag_sha1 = keys.Tag(DigestAlgorithm::kSha1, digests.sha1);
  }
  if (ctx_.options.digests & kernels::kMd5) {
    sealed.md5 = digests.md5;
    clear.tag_md5 = keys.Tag(DigestAlgorithm::kMd5, digests.md5);
  }
  sealed.attributes = std::move(object.entry.attributes);
  sealed.link = std::move(object.entry.link);
  const bool parts = clear.chunk_count > kChunksPerPart;
  if (!parts) sealed.chunks = std::move(object.sealed_chunks);
  clear.sealed =
      SealManifest(secrets.object_key, domain, clear.version, sealed, secrets.manifest_nonce);
  if (parts) object.object_key = secrets.object_key;
  return absl::OkStatus();
}

void ManifestMaker::FillRandom(MutableBytes out) {
  std::lock_guard lock(mutex_);
  ctx_.vault.rng().Fill(out);
}

Buffer ManifestMaker::BoxOf(const SealingKeyId& id) {
  std::lock_guard lock(mutex_);
  return boxes_[id];
}

}  // namespace holdfast
