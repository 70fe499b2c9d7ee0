// Makes the manifest of an object whose content was read: keys, tags, the sealed part.
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "client/ingest_context.h"
#include "client/object_keys.h"

namespace holdfast {

// The sealing key of this hour, sealed to the domain.
struct SessionSealingKey {
  SealingKeyId id;
  AeadKey key{};
  Buffer box;
};

// Thread-safe.
class ManifestMaker {
 public:
  explicit ManifestMaker(IngestContext& ctx) : ctx_(ctx) {}
  ~ManifestMaker();

  // Completes object.clear but for stored lengths and parts.
  Status Make(IngestObject& object, const kernels::Digests& digests);

  // From the vault's Rng, which may not be thread-safe in tests.
  void FillRandom(MutableBytes out);
  // The box of a sealing key of this ingest.
  Buffer BoxOf(const SealingKeyId& id);

 private:
  // What one object needs, drawn in one go.
  struct Secrets {
    VersionId version;
    AeadKey object_key;
    AeadNonce wrap_nonce, manifest_nonce;
  };
  // The current sealing key, made anew when it is an hour old, and fresh secrets.
  Status Draw(Secrets& secrets, SealingKeyId& sealing_key_id, AeadKey& sealing_key);
  Status Renew();

  IngestContext& ctx_;
  std::mutex mutex_;
  bool have_key_ = false;
  int64_t made_nanos_ = 0;  // Monotonic.
  SessionSealingKey current_;
  std::map<SealingKeyId, Buffer> boxes_;  // Of all the keys there were: one each hour.
};

}  // namespace holdfast
