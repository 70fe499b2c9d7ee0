// Manifests and chunks: what opens under a domain's keys.
#include <nlohmann/json.hpp>

#include "client/object_keys.h"
#include "client/reader_chunk.h"
#include "common/format/manifest.h"
#include "tests/fuzz/parser_tools.h"

namespace holdfast::fuzz {
namespace {

const AeadKey kObjectKey = CountingArray<32>(0x40);
const DomainId kDomain = Counting<DomainId>(0x20);
const VersionId kVersion = Counting<VersionId>(0x40);

// As docs/formats/manifest.md has them.
Buffer ManifestAad() { return ObjectKeyAad(kDomain, kVersion); }
Buffer PartAad(uint32_t index, uint32_t count) {
  Buffer aad = ManifestAad();
  Writer writer(aad);
  writer.U32(index);
  writer.U32(count);
  return aad;
}
AeadNonce PartNonce(uint32_t index) {
  Buffer bytes;
  Writer writer(bytes);
  writer.Raw(AsBytes("part"));
  writer.U64(index);
  AeadNonce nonce;
  std::copy_n(bytes.begin(), nonce.size(), nonce.begin());
  return nonce;
}

// As it is, and with its checksum put right.
template <class Decode, class Encode>
void RunChecked(Bytes input, Decode decode, Encode encode) {
  Buffer fixed = ToBuffer(input);
  if (fixed.size() >= 4) FixCrc(fixed);
  for (const Bytes bytes : {input, Bytes(fixed)}) {
    const auto decoded = decode(bytes);
    if (decoded.ok()) Must(Same(encode(*decoded), bytes), "a manifest has one form");
  }
}

void ClearManifestParser(Bytes input) {
  RunChecked(input, DecodeClearManifest, EncodeClearManifest);
}

void PartClearParser(Bytes input) { RunChecked(input, DecodePartClear, EncodePartClear); }

void SealedManifestParser(Bytes input) {
  (void)OpenManifest(kObjectKey, kDomain, kVersion, input);
  const Buffer sealed = AeadSealWithNonce(kObjectKey, FixedNonce(), ManifestAad(), input);
  const auto opened = OpenManifest(kObjectKey, kDomain, kVersion, sealed);
  if (!opened.ok()) return;
  const Buffer again = SealManifest(kObjectKey, kDomain, kVersion, *opened, FixedNonce());
  Must(Same(again, sealed), "a sealed manifest has one form");
}

Buffer OpenedManifest(Bytes golden) {
  return AeadOpenWithNonce(kObjectKey, ManifestAad(), golden, "golden").value();
}

void SealedPartParser(Bytes input) {
  (void)OpenPart(kObjectKey, kDomain, kVersion, 1, 3, input);
  Buffer sealed(input.size() + kAeadTagSize);
  AeadSeal(kObjectKey, PartNonce(1), PartAad(1, 3), input, sealed);
  const auto opened = OpenPart(kObjectKey, kDomain, kVersion, 1, 3, sealed);
  if (!opened.ok()) return;
  Must(Same(SealPart(kObjectKey, kDomain, kVersion, 1, 3, *opened), sealed),
       "a sealed part has one form");
}

Buffer OpenedPart(Bytes golden) {
  Buffer bytes(golden.size() - kAeadTagSize);
  Must(AeadOpen(kObjectKey, PartNonce(1), PartAad(1, 3), golden, bytes), "golden part");
  return bytes;
}

// As it is; and its two lists, taken from the input, in a record of their own.
void PartRecordParser(Bytes input) {
  const AeadKey key = CountingArray<32>(0xd0);
  const RecordId id = PartId(kVersion, 1);
  (void)DecodePartRecord(key, id, input);
  Reader reader(input);
  const Bytes clear = UpTo(reader, reader.U16());
  const Buffer record = EncodePartRecord(key, id, clear, reader.rest(), FixedNonce());
  const auto decoded = DecodePartRecord(key, id, record);
  Must(decoded.ok() && Same(decoded->clear, clear) && Same(decoded->sealed, reader.rest()),
       "a part record comes back");
}

Buffer ChunkAad(const RecordId& id) {
  Buffer aad = {kSuite1};
  Append(aad, id.bytes());
  return aad;
}

// Two bytes of the length that a reader expects, then what a chunk holds when it is opened.
void ChunkParser(Bytes input) {
  Reader reader(input);
  const SealedChunkInfo info{CountingArray<32>(0x70), reader.U16()};
  const Bytes inner = reader.rest();
  const ChunkRef ref{ChunkIdOf(info.h), 0};
  (void)OpenChunk(info.h, ref.id, inner);
  const AeadKey key = HmacSha256(info.h, {AsBytes("holdfast/1 chunk key")});
  const Buffer stored = AeadSealWithNonce(key, FixedNonce(), ChunkAad(ref.id), inner);
  Buffer out(info.length);
  const auto straight = OpenChunk(info.h, ref.id, stored, out);
  const auto opened = OpenChunk(info.h, ref.id, stored);
  Must(straight.status() == opened.status(), "where a chunk is put says nothing about it");
  (void)OpenChunkInto(ref, info, stored, out);
  if (!opened.ok()) return;
  Must(Same(straight->payload, opened->payload), "a chunk is the same wherever it is put");
  Buffer again(SealedChunkLength(opened->payload.size()));
  SealChunk(info.h, ref.id, opened->codec, opened->payload, again);
  Must(again.size() == stored.size(), "a chunk has one length");
  const auto reopened = OpenChunk(info.h, ref.id, again);
  Must(reopened.ok() && Same(reopened->payload, opened->payload), "a chunk comes back");
}

// The golden chunks, without their seal.
std::vector<Buffer> ChunkSeeds() {
  const auto golden = nlohmann::json::parse(GoldenFile("independent.json"))["chunk"];
  const auto bytes = [&](const char* name) {
    const std::string hex = golden[name];
    Buffer out(hex.size() / 2);
    Must(FromHex(hex, out), name);
    return out;
  };
  const Buffer h = bytes("h");
  const AeadKey key = HmacSha256(h, {AsBytes("holdfast/1 chunk key")});
  const Buffer aad = ChunkAad(RecordId::FromBytes(bytes("id")));
  std::vector<Buffer> seeds;
  for (const char* name : {"chunk-raw.hex", "chunk-zstd.hex"}) {
    Writer(seeds.emplace_back()).U16(static_cast<uint16_t>(bytes("content").size()));
    Append(seeds.back(), AeadOpenWithNonce(key, aad, GoldenFile(name), name).value());
  }
  return seeds;
}

// A wrapped key, a box with a sealing key, a signature: keys and points from a peer.
void ObjectKeyParser(Bytes input) {
  static const KeyPair pair = GenerateKeyPair();
  (void)UnwrapObjectKey(kObjectKey, kDomain, kVersion, input);
  const Buffer wrapped = AeadSealWithNonce(kObjectKey, FixedNonce(), ManifestAad(), input);
  const auto unwrapped = UnwrapObjectKey(kObjectKey, kDomain, kVersion, wrapped);
  Must(unwrapped.ok() == (input.size() == kAeadKeySize), "a key has one length");
  (void)OpenSealingKey(pair, kDomain, Counting<SealingKeyId>(0xb0), input);
  Reader reader(input);
  PublicKey key = pair.public_key;
  if (reader.U8() & 1) std::ranges::copy(UpTo(reader, key.size()), key.begin());
  (void)VerifySignature(key, AsBytes("message"), reader.rest());
}

std::vector<Buffer> ObjectKeySeeds() {
  const KeyPair pair = GenerateKeyPair();
  std::vector<Buffer> seeds = {Buffer(kAeadKeySize, 7), {0}, {1}};
  const Buffer signature = Sign(pair, AsBytes("message")).value();
  Append(seeds[1], signature);
  Append(seeds[2], pair.public_key);
  Append(seeds[2], signature);
  seeds.push_back(
      SealSealingKey(pair.public_key, kDomain, Counting<SealingKeyId>(0xb0), kObjectKey).value());
  return seeds;
}

}  // namespace

std::vector<Parser> ManifestParsers() {
  return {
      {"clear-manifest", ClearManifestParser,
       Golden({"clear-manifest.hex", "clear-manifest-parts.hex"})},
      {"part-clear", PartClearParser, Golden({"part-clear.hex"})},
      {"sealed-manifest", SealedManifestParser, Golden({"sealed-manifest.hex"}, OpenedManifest)},
      {"part-sealed", SealedPartParser, Golden({"part-sealed.hex"}, OpenedPart)},
      {"part-record", PartRecordParser, Golden({"part-record.hex"})},
      {"chunk", ChunkParser, ChunkSeeds},
      {"object-key", ObjectKeyParser, ObjectKeySeeds},
  };
}

}  // namespace holdfast::fuzz
