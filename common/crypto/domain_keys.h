// What a domain's K_dedup gives: identities, chunk keys, tags. DESIGN 5, suite 1.
//
//   x     = Poly1305(poly1305_key, plaintext)           (computed by the engine)
//   h     = HMAC(K_dedup, c ‖ le64(len) ‖ x)            c = SHA-256 of the chunk
//   id    = HMAC(h, "holdfast/1 chunk id")
//   key   = HMAC(h, "holdfast/1 chunk key")
//   nonce = first 12 bytes of HMAC(h, "nonce" ‖ suite ‖ codec [‖ SHA-256(compressed)])
//   tag   = HMAC(K_dedup, "object tag" ‖ algorithm ‖ digest)
//
// Thread-safe after construction.
#pragma once

#include <array>

#include "common/base/ids.h"
#include "common/crypto/aead.h"
#include "common/crypto/hmac.h"

namespace holdfast {

inline constexpr uint8_t kSuite1 = 1;

enum class DigestAlgorithm : uint8_t { kSha256 = 1, kSha1 = 2, kMd5 = 3 };

class DomainKeys {
 public:
  explicit DomainKeys(const std::array<uint8_t, 32>& k_dedup);

  const std::array<uint8_t, 32>& poly1305_key() const { return poly1305_key_; }
  const std::array<uint8_t, 32>& cut_seed() const { return cut_seed_; }
  Hash256 ChunkSecret(Bytes sha256, uint64_t length, Bytes poly1305) const;  // h
  ObjectTag Tag(DigestAlgorithm algorithm, Bytes digest) const;

 private:
  Hmac hmac_;
  std::array<uint8_t, 32> poly1305_key_;
  std::array<uint8_t, 32> cut_seed_;
};

RecordId ChunkIdOf(const Hash256& h);

// Sealed form of a chunk: nonce ‖ AES-GCM(codec ‖ le64 length ‖ payload ‖ zero padding) ‖ tag.
enum class Codec : uint8_t { kRaw = 0, kZstd = 1 };  // kZstd: libzstd 1.5, level 1 (format).

// `payload` is the plaintext (kRaw) or its compressed form (kZstd); `length` the payload's.
// AAD = suite ‖ id. Fills `out`, SealedChunkLength(payload.size()) bytes.
void SealChunk(const Hash256& h, const RecordId& id, Codec codec, Bytes payload, MutableBytes out);

// Move it, never copy it: the view would still lie in the original's storage.
struct OpenedChunk {
  Codec codec;
  Buffer storage;  // Owns the bytes of `payload`, unless the caller's buffer has them.
  Bytes payload;   // Still compressed when codec is kZstd.
};
// kDataLoss when it does not open, or what opens is malformed; kFailedPrecondition for a codec of
// another release.
// A payload that is raw and as long as `out` is put there, and is void if this fails.
StatusOr<OpenedChunk> OpenChunk(const Hash256& h, const RecordId& id, Bytes stored,
                                MutableBytes out = {});

// Length of a sealed chunk whose payload has `payload_length` bytes: padding goes up to a multiple
// of max(64, 2^(floor(log2 len) - 7)), at most 0.8 %.
uint64_t SealedChunkLength(uint64_t payload_length);

// XXH3-128 of stored bytes, canonical form (libxxhash).
Checksum ChecksumOf(Bytes stored);

}  // namespace holdfast
