#include "common/format/manifest.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "common/base/coding.h"
#include "common/crypto/check.h"

namespace holdfast {
namespace {

constexpr std::string_view kClearMagic = "HFMC";
constexpr std::string_view kPartClearMagic = "HFMP";
constexpr std::string_view kPartRecordMagic = "HFPR";
constexpr uint8_t kClearVersion = 1;
constexpr uint8_t kSealedVersion = 1;
constexpr uint8_t kPartVersion = 1;

constexpr uint8_t kHasSha1 = 1, kHasMd5 = 2, kSparse = 4;

constexpr size_t kChunkRefSize = 32 + 4;
constexpr size_t kPartRefSize = 32 + 32;
constexpr size_t kSealedChunkSize = 32 + 4;

uint64_t PartCount(uint64_t chunk_count) {
  return chunk_count <= kChunksPerPart ? 0 : 1 + (chunk_count - 1) / kChunksPerPart;
}

// Every byte string here ends with the CRC-32C of what stands before it.
void AppendCrc(Buffer& buffer) {
  const uint32_t crc = Crc32c(buffer);
  Writer(buffer).U32(crc);
}

// Gives a reader after magic and version that ends before the checksum. The checksum comes first:
// later versions keep its place, so that an unknown version is told from damage.
StatusOr<Reader> OpenChecked(Bytes bytes, std::string_view magic, uint8_t version,
                             std::string_view what) {
  if (bytes.size() < magic.size() + 1 + 4) return Damaged(what, "it is cut short");
  const Bytes covered = bytes.first(bytes.size() - 4);
  Reader crc(bytes.last(4));
  if (crc.U32() != Crc32c(covered)) return Damaged(what, "its checksum does not match");
  Reader reader(covered);
  if (AsView(reader.Raw(magic.size())) != magic) return Damaged(what, "it has no magic");
  const uint8_t found = reader.U8();
  if (found != version) return UnknownVersion(what, found, version);
  return reader;
}

void WriteChunkRefs(Writer& writer, std::span<const ChunkRef> chunks) {
  for (const ChunkRef& chunk : chunks) {
    writer.Id(chunk.id);
    writer.U32(chunk.stored_length);
  }
}

// False, and nothing allocated, when fewer bytes are left than `count` entries take.
bool ReadChunkRefs(Reader& reader, uint64_t count, std::vector<ChunkRef>& chunks) {
  if (!reader.ok() || count > reader.rest().size() / kChunkRefSize) return false;
  chunks.resize(count);
  for (ChunkRef& chunk : chunks) {
    chunk.id = reader.Id<RecordId>();
    chunk.stored_length = reader.U32();
  }
  return true;
}

bool ReadPartRefs(Reader& reader, uint64_t count, std::vector<PartRef>& parts) {
  if (!reader.ok() || count > reader.rest().size() / kPartRefSize) return false;
  parts.resize(count);
  for (PartRef& part : parts) {
    part.id = reader.Id<RecordId>();
    const Bytes digest = reader.Raw(part.digest.size());
    std::copy(digest.begin(), digest.end(), part.digest.begin());
  }
  return true;
}

void WriteSealedChunks(Writer& writer, std::span<const SealedChunkInfo> chunks) {
  writer.U32(static_cast<uint32_t>(chunks.size()));
  for (const SealedChunkInfo& chunk : chunks) {
    writer.Raw(chunk.h);
    writer.U32(chunk.length);
  }
}

bool ReadSealedChunks(Reader& reader, std::vector<SealedChunkInfo>& chunks) {
  const uint32_t count = reader.U32();
  if (!reader.ok() || count > reader.rest().size() / kSealedChunkSize) return false;
  chunks.resize(count);
  for (SealedChunkInfo& chunk : chunks) {
    const Bytes h = reader.Raw(chunk.h.size());
    std::copy(h.begin(), h.end(), chunk.h.begin());
    chunk.length = reader.U32();
  }
  return true;
}

template <size_t N>
std::array<uint8_t, N> ReadArray(Reader& reader) {
  std::array<uint8_t, N> out{};
  const Bytes bytes = reader.Raw(N);
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

Buffer ManifestAad(const DomainId& domain, const VersionId& version) {
  Buffer aad;
  Writer writer(aad);
  writer.U8(kSuite1);
  writer.Id(domain);
  writer.Id(version);
  return aad;
}

Buffer PartAad(const DomainId& domain, const VersionId& version, uint32_t index, uint32_t count) {
  Buffer aad = ManifestAad(domain, version);
  Writer writer(aad);
  writer.U32(index);
  writer.U32(count);
  return aad;
}

// The part number. The prefix keeps it apart from any nonce a caller gives SealManifest under the
// same key, should that one start from zero.
AeadNonce PartNonce(uint32_t index) {
  Buffer bytes;
  Writer writer(bytes);
  writer.Raw(AsBytes("part"));
  writer.U64(index);
  AeadNonce nonce{};
  std::copy_n(bytes.begin(), nonce.size(), nonce.begin());
  return nonce;
}

bool NameIsValid(std::string_view name) {
  return !name.empty() && name.find('\0') == std::string_view::npos;
}

void WriteAttributes(Writer& writer, const Attributes& attributes) {
  writer.U32(attributes.mode);
  writer.U32(attributes.uid);
  writer.U32(attributes.gid);
  writer.I64(attributes.mtime_seconds);
  writer.U32(attributes.mtime_nanos);
  writer.U32(static_cast<uint32_t>(attributes.xattrs.size()));
  for (const XAttr& xattr : attributes.xattrs) {
    writer.Blob(xattr.name);
    writer.Blob(xattr.value);
  }
}

bool ReadAttributes(Reader& reader, Attributes& attributes) {
  attributes.mode = reader.U32();
  attributes.uid = reader.U32();
  attributes.gid = reader.U32();
  attributes.mtime_seconds = reader.I64();
  attributes.mtime_nanos = reader.U32();
  const uint32_t count = reader.U32();
  if (!reader.ok() || count > reader.rest().size() / 8) return false;  // Two lengths each.
  attributes.xattrs.resize(count);
  for (XAttr& xattr : attributes.xattrs) {
    xattr.name = reader.String();
    xattr.value = reader.String();
  }
  return reader.ok();
}

Buffer EncodeSealed(const SealedManifest& manifest) {
  Buffer buffer;
  Writer writer(buffer);
  writer.U8(kSealedVersion);
  writer.U8((manifest.sha1 ? kHasSha1 : 0) | (manifest.md5 ? kHasMd5 : 0) |
            (manifest.attributes.sparse ? kSparse : 0));
  writer.U64(manifest.size);
  writer.Raw(manifest.sha256);
  if (manifest.sha1) writer.Raw(*manifest.sha1);
  if (manifest.md5) writer.Raw(*manifest.md5);
  WriteAttributes(writer, manifest.attributes);
  writer.Blob(manifest.link);
  WriteSealedChunks(writer, manifest.chunks);
  return buffer;
}

StatusOr<SealedManifest> DecodeSealed(Bytes bytes) {
  constexpr std::string_view kWhat = "sealed manifest";
  Reader reader(bytes);
  const uint8_t version = reader.U8();
  if (reader.ok() && version != kSealedVersion) {
    return UnknownVersion(kWhat, version, kSealedVersion);
  }
  SealedManifest manifest;
  const uint8_t flags = reader.U8();
  manifest.size = reader.U64();
  manifest.sha256 = ReadArray<32>(reader);
  if (flags & kHasSha1) manifest.sha1 = ReadArray<20>(reader);
  if (flags & kHasMd5) manifest.md5 = ReadArray<16>(reader);
  const bool attributes = ReadAttributes(reader, manifest.attributes);
  manifest.attributes.sparse = (flags & kSparse) != 0;
  manifest.link = reader.String();
  if (!attributes || !ReadSealedChunks(reader, manifest.chunks) || !reader.done() ||
      (flags & ~(kHasSha1 | kHasMd5 | kSparse)) != 0) {
    return Damaged(kWhat, "it opens to something malformed");
  }
  return manifest;
}

}  // namespace

Buffer EncodeClearManifest(const ClearManifest& manifest) {
  const uint64_t parts = PartCount(manifest.chunk_count);
  assert(NameIsValid(manifest.name) && manifest.parts.size() == parts);
  assert(manifest.chunks.size() == (parts == 0 ? manifest.chunk_count : 0));
  Buffer buffer;
  buffer.reserve(256 + manifest.name.size() + manifest.wrapped_key.size() +
                 manifest.chunks.size() * kChunkRefSize + manifest.parts.size() * kPartRefSize +
                 manifest.sealed.size());
  Writer writer(buffer);
  writer.Raw(AsBytes(kClearMagic));
  writer.U8(kClearVersion);
  writer.U8(kSuite1);
  writer.U8(static_cast<uint8_t>(manifest.type));
  writer.U8((manifest.tag_sha1 ? kHasSha1 : 0) | (manifest.tag_md5 ? kHasMd5 : 0));
  writer.Id(manifest.version);
  writer.I64(manifest.time_nanos);
  writer.Blob(manifest.name);
  writer.Id(manifest.tag_sha256);
  if (manifest.tag_sha1) writer.Id(*manifest.tag_sha1);
  if (manifest.tag_md5) writer.Id(*manifest.tag_md5);
  writer.Id(manifest.sealing_key);
  writer.Blob(manifest.wrapped_key);
  writer.U64(manifest.chunk_count);
  WriteChunkRefs(writer, manifest.chunks);
  for (const PartRef& part : manifest.parts) {
    writer.Id(part.id);
    writer.Raw(part.digest);
  }
  writer.Blob(manifest.sealed);
  AppendCrc(buffer);
  return buffer;
}

StatusOr<ClearManifest> DecodeClearManifest(Bytes bytes) {
  constexpr std::string_view kWhat = "manifest";
  ASSIGN_OR_RETURN(Reader reader, OpenChecked(bytes, kClearMagic, kClearVersion, kWhat));
  ClearManifest manifest;
  const uint8_t suite = reader.U8();
  if (reader.ok() && suite != kSuite1) return UnknownSuite(kWhat, suite);
  manifest.type = static_cast<ObjectType>(reader.U8());
  const uint8_t flags = reader.U8();
  manifest.version = reader.Id<VersionId>();
  manifest.time_nanos = reader.I64();
  manifest.name = reader.String();
  manifest.tag_sha256 = reader.Id<ObjectTag>();
  if (flags & kHasSha1) manifest.tag_sha1 = reader.Id<ObjectTag>();
  if (flags & kHasMd5) manifest.tag_md5 = reader.Id<ObjectTag>();
  manifest.sealing_key = reader.Id<SealingKeyId>();
  const Bytes wrapped_key = reader.Blob();
  manifest.wrapped_key.assign(wrapped_key.begin(), wrapped_key.end());
  manifest.chunk_count = reader.U64();
  const uint64_t parts = PartCount(manifest.chunk_count);
  const bool lists =
      ReadChunkRefs(reader, parts == 0 ? manifest.chunk_count : 0, manifest.chunks) &&
      ReadPartRefs(reader, parts, manifest.parts);
  const Bytes sealed = reader.Blob();
  manifest.sealed.assign(sealed.begin(), sealed.end());
  if (!lists || !reader.done() || !NameIsValid(manifest.name) ||
      (flags & ~(kHasSha1 | kHasMd5)) != 0) {
    return Damaged(kWhat, "it is malformed");
  }
  if (manifest.type < ObjectType::kFile || manifest.type > ObjectType::kHardLink) {
    return absl::FailedPreconditionError("object type " +
                                         std::to_string(static_cast<int>(manifest.type)) +
                                         " is not known to this release (knows 1 to 4)");
  }
  return manifest;
}

RecordId PartId(const VersionId& version, uint32_t index) {
  Buffer number;
  Writer(number).U32(index);
  return RecordId{Sha256({AsBytes("holdfast/1 manifest part"), version.bytes(), number})};
}

Buffer EncodePartClear(std::span<const ChunkRef> chunks) {
  Buffer buffer;
  buffer.reserve(16 + chunks.size() * kChunkRefSize);
  Writer writer(buffer);
  writer.Raw(AsBytes(kPartClearMagic));
  writer.U8(kPartVersion);
  writer.U32(static_cast<uint32_t>(chunks.size()));
  WriteChunkRefs(writer, chunks);
  AppendCrc(buffer);
  return buffer;
}

StatusOr<std::vector<ChunkRef>> DecodePartClear(Bytes bytes) {
  constexpr std::string_view kWhat = "manifest part";
  ASSIGN_OR_RETURN(Reader reader, OpenChecked(bytes, kPartClearMagic, kPartVersion, kWhat));
  std::vector<ChunkRef> chunks;
  const uint32_t count = reader.U32();
  if (!ReadChunkRefs(reader, count, chunks) || !reader.done()) {
    return Damaged(kWhat, "it is malformed");
  }
  return chunks;
}

Buffer SealManifest(const AeadKey& object_key, const DomainId& domain, const VersionId& version,
                    const SealedManifest& manifest, const AeadNonce& nonce) {
  return AeadSealWithNonce(object_key, nonce, ManifestAad(domain, version), EncodeSealed(manifest));
}

StatusOr<SealedManifest> OpenManifest(const AeadKey& object_key, const DomainId& domain,
                                      const VersionId& version, Bytes sealed) {
  ASSIGN_OR_RETURN(const Buffer bytes, AeadOpenWithNonce(object_key, ManifestAad(domain, version),
                                                         sealed, "sealed manifest"));
  return DecodeSealed(bytes);
}

Buffer SealPart(const AeadKey& object_key, const DomainId& domain, const VersionId& version,
                uint32_t index, uint32_t count, std::span<const SealedChunkInfo> chunks) {
  Buffer buffer;
  buffer.reserve(8 + chunks.size() * kSealedChunkSize + kAeadTagSize);
  Writer writer(buffer);
  writer.U8(kPartVersion);
  WriteSealedChunks(writer, chunks);
  const size_t length = buffer.size();
  buffer.resize(length + kAeadTagSize);
  AeadSeal(object_key, PartNonce(index), PartAad(domain, version, index, count),
           Bytes(buffer).first(length), buffer);
  return buffer;
}

StatusOr<std::vector<SealedChunkInfo>> OpenPart(const AeadKey& object_key, const DomainId& domain,
                                                const VersionId& version, uint32_t index,
                                                uint32_t count, Bytes sealed) {
  const std::string what = "sealed manifest part " + std::to_string(index);
  if (sealed.size() < kAeadTagSize) return Damaged(what, "it is cut short");
  Buffer bytes(sealed.size() - kAeadTagSize);
  if (!AeadOpen(object_key, PartNonce(index), PartAad(domain, version, index, count), sealed,
                bytes)) {
    return Damaged(what, "it does not open");
  }
  Reader reader(bytes);
  const uint8_t format = reader.U8();
  if (reader.ok() && format != kPartVersion) return UnknownVersion(what, format, kPartVersion);
  std::vector<SealedChunkInfo> chunks;
  if (!ReadSealedChunks(reader, chunks) || !reader.done()) {
    return Damaged(what, "it opens to something malformed");
  }
  return chunks;
}

namespace {

// The head of a part record; with the id and the sealed list it is what the clear list's seal is
// bound to, so that the catalogue key tells any change of the whole record.
Buffer PartRecordHead() {
  Buffer head;
  Writer writer(head);
  writer.Raw(AsBytes(kPartRecordMagic));
  writer.U8(kPartVersion);
  writer.U8(kSuite1);
  return head;
}

Buffer PartRecordAad(const RecordId& id, Bytes sealed) {
  Buffer aad = PartRecordHead();
  Writer writer(aad);
  writer.Id(id);
  writer.Raw(sealed);
  return aad;
}

}  // namespace

Buffer EncodePartRecord(const AeadKey& catalogue_part_key, const RecordId& id, Bytes clear,
                        Bytes sealed, const AeadNonce& nonce) {
  Buffer record = PartRecordHead();
  Writer writer(record);
  writer.Blob(AeadSealWithNonce(catalogue_part_key, nonce, PartRecordAad(id, sealed), clear));
  writer.Blob(sealed);
  return record;
}

StatusOr<PartRecord> DecodePartRecord(const AeadKey& catalogue_part_key, const RecordId& id,
                                      Bytes stored) {
  const std::string what = "manifest part " + id.hex();
  Reader reader(stored);
  const bool magic = AsView(reader.Raw(kPartRecordMagic.size())) == kPartRecordMagic;
  const uint8_t version = reader.U8();
  const uint8_t suite = reader.U8();
  const Bytes box = reader.Blob();
  const Bytes sealed = reader.Blob();
  if (magic && version != kPartVersion) return UnknownVersion(what, version, kPartVersion);
  if (magic && suite != kSuite1) return UnknownSuite(what, suite);
  if (!magic || !reader.done()) return Damaged(what, "it is malformed");
  PartRecord record;
  ASSIGN_OR_RETURN(record.clear,
                   AeadOpenWithNonce(catalogue_part_key, PartRecordAad(id, sealed), box, what));
  record.sealed.assign(sealed.begin(), sealed.end());
  return record;
}

Hash256 ChunksHash(std::span<const ChunkRef> chunks) {
  Buffer ids;
  Writer writer(ids);
  for (const ChunkRef& chunk : chunks) writer.Id(chunk.id);
  return Sha256(ids);
}

Hash256 ManifestLeaf(const DomainId& domain, std::string_view collection, Bytes clear_manifest) {
  Buffer head;
  Writer writer(head);
  writer.U8(0x00);
  writer.Id(domain);
  writer.Blob(collection);
  return Sha256({head, clear_manifest});
}

// RFC 6962, section 2.1: the left subtree holds the largest power of two of leaves that is smaller
// than their number.
Hash256 MerkleRoot(std::span<const Hash256> leaves) {
  assert(!leaves.empty());
  if (leaves.size() == 1) return leaves[0];
  const size_t split = std::bit_floor(leaves.size() - 1);
  const Hash256 left = MerkleRoot(leaves.first(split));
  const Hash256 right = MerkleRoot(leaves.subspan(split));
  const uint8_t node[1] = {0x01};
  return Sha256({node, left, right});
}

Buffer SignatureMessage(const DomainId& domain, const Hash256& root) {
  Buffer message;
  Writer writer(message);
  writer.Raw(AsBytes("holdfast/1 commit"));
  writer.Id(domain);
  writer.Raw(root);
  return message;
}

}  // namespace holdfast
