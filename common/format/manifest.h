// Manifests: what a version of an object is made of. docs/formats/manifest.md.
//
// The clear part goes to the coordinator (its disks are encrypted under the catalogue key); the
// sealed part opens only for readers. The client encodes and signs the clear part; the coordinator
// stores it unchanged inside an object row.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/crypto/aead.h"
#include "common/crypto/domain_keys.h"

namespace holdfast {

enum class ObjectType : uint8_t { kFile = 1, kDirectory = 2, kSymlink = 3, kHardLink = 4 };

// Chunks of objects with more than this many lie in manifest parts of up to this many each.
#ifndef HOLDFAST_CHUNKS_PER_PART
#define HOLDFAST_CHUNKS_PER_PART 1024  // Fewer in the build that plays stories with planted bugs.
#endif
inline constexpr size_t kChunksPerPart = HOLDFAST_CHUNKS_PER_PART;

struct ChunkRef {
  RecordId id;
  uint32_t stored_length = 0;
};

struct PartRef {
  RecordId id;     // PartId(version, index)
  Hash256 digest;  // SHA-256 of the part's clear ‖ sealed bytes; covered by the signature.
};

struct ClearManifest {
  std::string name;  // Raw path bytes, never normalised; no NUL, not empty.
  ObjectType type = ObjectType::kFile;
  VersionId version;
  int64_t time_nanos = 0;  // When the client made it.
  ObjectTag tag_sha256;    // Of the content: file bytes, link target; of "" for a directory.
  std::optional<ObjectTag> tag_sha1, tag_md5;
  SealingKeyId sealing_key;  // Which session sealing key wraps the object key.
  Buffer wrapped_key;        // The object key under it: nonce ‖ ciphertext ‖ tag.
  uint64_t chunk_count = 0;
  std::vector<ChunkRef> chunks;  // All of them when chunk_count <= kChunksPerPart, else none.
  std::vector<PartRef> parts;    // ceil(chunk_count / kChunksPerPart) otherwise.
  Buffer sealed;                 // The sealed part, as SealManifest gives it.
};
Buffer EncodeClearManifest(const ClearManifest& manifest);
StatusOr<ClearManifest> DecodeClearManifest(Bytes bytes);

struct SealedChunkInfo {
  Hash256 h;
  uint32_t length = 0;  // Of the plaintext.
};

struct XAttr {
  std::string name;
  std::string value;
};

struct Attributes {
  uint32_t mode = 0;  // Permission bits with suid, sgid, sticky (07777).
  uint32_t uid = 0, gid = 0;
  int64_t mtime_seconds = 0;
  uint32_t mtime_nanos = 0;
  bool sparse = false;  // The source had holes: restore skips aligned zero blocks.
  std::vector<XAttr> xattrs;
};

struct SealedManifest {
  uint64_t size = 0;
  Hash256 sha256{};
  std::optional<std::array<uint8_t, 20>> sha1;
  std::optional<std::array<uint8_t, 16>> md5;
  Attributes attributes;
  std::string link;  // Symbolic link: the target. Hard link: the first name in the collection.
  std::vector<SealedChunkInfo> chunks;  // Parallel to ClearManifest::chunks; empty with parts.
};

// One part of a long manifest: both lists, for chunks [index * kChunksPerPart, …).
struct ManifestPart {
  std::vector<ChunkRef> chunks;
  std::vector<SealedChunkInfo> sealed_chunks;
};
RecordId PartId(const VersionId& version, uint32_t index);
// SHA-256 of the chunks' ids, in order: content that has it is the same, byte for byte.
Hash256 ChunksHash(std::span<const ChunkRef> chunks);
Buffer EncodePartClear(std::span<const ChunkRef> chunks);
StatusOr<std::vector<ChunkRef>> DecodePartClear(Bytes bytes);

// Seals under the object key; AAD = suite ‖ domain ‖ version. For parts the nonce is the part
// number and the AAD adds index and count. kDataLoss when it does not open.
Buffer SealManifest(const AeadKey& object_key, const DomainId& domain, const VersionId& version,
                    const SealedManifest& manifest, const AeadNonce& nonce);
StatusOr<SealedManifest> OpenManifest(const AeadKey& object_key, const DomainId& domain,
                                      const VersionId& version, Bytes sealed);
Buffer SealPart(const AeadKey& object_key, const DomainId& domain, const VersionId& version,
                uint32_t index, uint32_t count, std::span<const SealedChunkInfo> chunks);
StatusOr<std::vector<SealedChunkInfo>> OpenPart(const AeadKey& object_key, const DomainId& domain,
                                                const VersionId& version, uint32_t index,
                                                uint32_t count, Bytes sealed);

// The stored payload of a manifest-part record: blob(clear under the catalogue key) ‖ blob(sealed).
Buffer EncodePartRecord(const AeadKey& catalogue_part_key, const RecordId& id, Bytes clear,
                        Bytes sealed, const AeadNonce& nonce);
struct PartRecord {
  Buffer clear;
  Buffer sealed;
};
StatusOr<PartRecord> DecodePartRecord(const AeadKey& catalogue_part_key, const RecordId& id,
                                      Bytes stored);

// Merkle leaf of one object in its commit batch's signature (RFC 6962 hashing):
// SHA-256(0x00 ‖ domain ‖ blob(collection) ‖ encoded clear manifest).
Hash256 ManifestLeaf(const DomainId& domain, std::string_view collection, Bytes clear_manifest);
// RFC 6962 tree hash over leaves; leaves must not be empty.
Hash256 MerkleRoot(std::span<const Hash256> leaves);
// What an ingest key signs: "holdfast/1 commit" ‖ domain ‖ root.
Buffer SignatureMessage(const DomainId& domain, const Hash256& root);

}  // namespace holdfast
