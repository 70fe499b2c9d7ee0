#include "common/format/manifest.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using testing::Counting;
using testing::CountingArray;
using testing::FixCrc;
using testing::Golden;
using testing::Hex;

const AeadKey kObjectKey = CountingArray<32>(0x40);
const AeadNonce kNonce = CountingArray<12>(0x01);
const DomainId kDomain = Counting<DomainId>(0x20);
const VersionId kVersion = Counting<VersionId>(0x40);

ClearManifest FixedManifest() {
  ClearManifest m;
  m.name = "exhibit-7/IMG_0042.jpg";
  m.type = ObjectType::kFile;
  m.version = kVersion;
  m.time_nanos = 1'700'000'000'123'456'789;
  m.tag_sha256 = Counting<ObjectTag>(0x60);
  m.tag_md5 = Counting<ObjectTag>(0x90);
  m.sealing_key = Counting<SealingKeyId>(0xb0);
  m.wrapped_key = AeadSealWithNonce(CountingArray<32>(0x99), kNonce, {}, kObjectKey);
  m.chunk_count = 2;
  m.chunks = {{Counting<RecordId>(0xc0), 1052}, {Counting<RecordId>(0x05), 92}};
  m.sealed = Hex("5ea1ed");
  return m;
}

ClearManifest FixedLongManifest() {
  ClearManifest m = FixedManifest();
  m.name = std::string("caf\xe9/video.mp4");  // Latin-1: names are bytes.
  m.tag_md5.reset();
  m.tag_sha1 = Counting<ObjectTag>(0x91);
  m.chunk_count = 2 * kChunksPerPart + 1;
  m.chunks.clear();
  for (uint32_t i = 0; i < 3; ++i) {
    m.parts.push_back({PartId(kVersion, i), CountingArray<32>(static_cast<uint8_t>(i))});
  }
  return m;
}

SealedManifest FixedSealed() {
  SealedManifest m;
  m.size = 1200;
  m.sha256 = CountingArray<32>(0x10);
  m.sha1 = CountingArray<20>(0x31);
  m.md5 = CountingArray<16>(0x51);
  m.attributes = {.mode = 04755,
                  .uid = 1000,
                  .gid = 100,
                  .mtime_seconds = -5,
                  .mtime_nanos = 999'999'999,
                  .sparse = true,
                  .xattrs = {{"user.origin", std::string("\0\xff", 2)}, {"user.empty", ""}}};
  m.link = "";
  m.chunks = {{CountingArray<32>(0x70), 1100}, {CountingArray<32>(0x71), 100}};
  return m;
}

void ExpectSame(const ClearManifest& a, const ClearManifest& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.version, b.version);
  EXPECT_EQ(a.time_nanos, b.time_nanos);
  EXPECT_EQ(a.tag_sha256, b.tag_sha256);
  EXPECT_EQ(a.tag_sha1, b.tag_sha1);
  EXPECT_EQ(a.tag_md5, b.tag_md5);
  EXPECT_EQ(a.sealing_key, b.sealing_key);
  EXPECT_EQ(a.wrapped_key, b.wrapped_key);
  EXPECT_EQ(a.chunk_count, b.chunk_count);
  EXPECT_EQ(a.sealed, b.sealed);
  ASSERT_EQ(a.chunks.size(), b.chunks.size());
  for (size_t i = 0; i < a.chunks.size(); ++i) {
    EXPECT_EQ(a.chunks[i].id, b.chunks[i].id);
    EXPECT_EQ(a.chunks[i].stored_length, b.chunks[i].stored_length);
  }
  ASSERT_EQ(a.parts.size(), b.parts.size());
  for (size_t i = 0; i < a.parts.size(); ++i) {
    EXPECT_EQ(a.parts[i].id, b.parts[i].id);
    EXPECT_EQ(a.parts[i].digest, b.parts[i].digest);
  }
}

void ExpectSoundManifest(const Buffer& golden, const ClearManifest& expected) {
  const auto decoded = DecodeClearManifest(golden);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ExpectSame(*decoded, expected);
  testing::ExpectFlipsRefused(golden, DecodeClearManifest);
  testing::ExpectTruncationsRefused(golden, DecodeClearManifest);
  testing::ExpectChangesSurvived(golden, [](Bytes bytes) {
    Buffer fixed(bytes.begin(), bytes.end());
    FixCrc(fixed);
    return DecodeClearManifest(fixed);
  });
}

TEST(ClearManifest, Golden) {
  ExpectSoundManifest(Golden("clear-manifest", EncodeClearManifest(FixedManifest())),
                      FixedManifest());
}

TEST(ClearManifest, GoldenWithParts) {
  ExpectSoundManifest(Golden("clear-manifest-parts", EncodeClearManifest(FixedLongManifest())),
                      FixedLongManifest());
}

TEST(ClearManifest, UnknownNumbersAreRefusedByName) {
  const Buffer bytes = EncodeClearManifest(FixedManifest());
  const auto with = [&](size_t offset, uint8_t value) {
    Buffer changed = bytes;
    changed[offset] = value;
    FixCrc(changed);
    return DecodeClearManifest(changed).status();
  };
  testing::ExpectRefusedByName(with(4, 7), "manifest version 7");
  testing::ExpectRefusedByName(with(5, 3), "manifest suite 3");
  testing::ExpectRefusedByName(with(6, 9), "object type 9");
  EXPECT_TRUE(absl::IsDataLoss(with(0, 'X')));
  EXPECT_TRUE(absl::IsDataLoss(with(7, 0x80))) << "an unknown flag";
}

TEST(ClearManifest, NamesAreCheckedAndKeptByByte) {
  ClearManifest m = FixedManifest();
  m.name = std::string("\xff\n\\ \x01", 5);
  EXPECT_EQ(DecodeClearManifest(EncodeClearManifest(m))->name, m.name);
  m.name = "with*nul";
  Buffer bytes = EncodeClearManifest(m);
  *std::find(bytes.begin(), bytes.end(), '*') = 0;
  FixCrc(bytes);
  EXPECT_TRUE(absl::IsDataLoss(DecodeClearManifest(bytes).status()));
}

TEST(ClearManifest, EmptyAndFullLists) {
  ClearManifest m = FixedManifest();
  m.chunks.clear();
  m.chunk_count = 0;
  EXPECT_TRUE(DecodeClearManifest(EncodeClearManifest(m)).ok());
  m.chunks.resize(kChunksPerPart);
  m.chunk_count = kChunksPerPart;
  EXPECT_TRUE(DecodeClearManifest(EncodeClearManifest(m)).ok());
  m.chunks.clear();
  m.chunk_count = kChunksPerPart + 1;
  m.parts.resize(2);
  EXPECT_TRUE(DecodeClearManifest(EncodeClearManifest(m)).ok());
}

void ExpectSame(const SealedManifest& a, const SealedManifest& b) {
  EXPECT_EQ(a.size, b.size);
  EXPECT_EQ(a.sha256, b.sha256);
  EXPECT_EQ(a.sha1, b.sha1);
  EXPECT_EQ(a.md5, b.md5);
  EXPECT_EQ(a.link, b.link);
  EXPECT_EQ(a.attributes.mode, b.attributes.mode);
  EXPECT_EQ(a.attributes.uid, b.attributes.uid);
  EXPECT_EQ(a.attributes.gid, b.attributes.gid);
  EXPECT_EQ(a.attributes.mtime_seconds, b.attributes.mtime_seconds);
  EXPECT_EQ(a.attributes.mtime_nanos, b.attributes.mtime_nanos);
  EXPECT_EQ(a.attributes.sparse, b.attributes.sparse);
  ASSERT_EQ(a.attributes.xattrs.size(), b.attributes.xattrs.size());
  for (size_t i = 0; i < a.attributes.xattrs.size(); ++i) {
    EXPECT_EQ(a.attributes.xattrs[i].name, b.attributes.xattrs[i].name);
    EXPECT_EQ(a.attributes.xattrs[i].value, b.attributes.xattrs[i].value);
  }
  ASSERT_EQ(a.chunks.size(), b.chunks.size());
  for (size_t i = 0; i < a.chunks.size(); ++i) {
    EXPECT_EQ(a.chunks[i].h, b.chunks[i].h);
    EXPECT_EQ(a.chunks[i].length, b.chunks[i].length);
  }
}

TEST(SealedManifest, Golden) {
  const Buffer golden =
      Golden("sealed-manifest", SealManifest(kObjectKey, kDomain, kVersion, FixedSealed(), kNonce));
  const auto open = [](Bytes bytes) { return OpenManifest(kObjectKey, kDomain, kVersion, bytes); };
  const auto opened = open(golden);
  ASSERT_TRUE(opened.ok()) << opened.status();
  ExpectSame(*opened, FixedSealed());
  testing::ExpectFlipsRefused(golden, open);
  testing::ExpectTruncationsRefused(golden, open);
  EXPECT_TRUE(
      absl::IsDataLoss(OpenManifest(kObjectKey, Counting<DomainId>(1), kVersion, golden).status()));
  EXPECT_TRUE(
      absl::IsDataLoss(OpenManifest(kObjectKey, kDomain, Counting<VersionId>(1), golden).status()));
}

// The AAD by hand, as docs/formats/manifest.md gives it.
Buffer Aad(std::initializer_list<Bytes> more = {}) {
  std::string aad(1, '\x01');
  aad += AsView(kDomain.bytes());
  aad += AsView(kVersion.bytes());
  for (Bytes part : more) aad += AsView(part);
  return Buffer(aad.begin(), aad.end());
}

TEST(SealedManifest, WhatOpensIsStillParsedWithCare) {
  const auto inner = AeadOpenWithNonce(
      kObjectKey, Aad(), SealManifest(kObjectKey, kDomain, kVersion, FixedSealed(), kNonce), "");
  ASSERT_TRUE(inner.ok()) << inner.status();
  const auto decode = [](Bytes bytes) {
    return OpenManifest(kObjectKey, kDomain, kVersion,
                        AeadSealWithNonce(kObjectKey, kNonce, Aad(), bytes));
  };
  ASSERT_TRUE(decode(*inner).ok());
  testing::ExpectTruncationsRefused(*inner, decode);
  testing::ExpectChangesSurvived(*inner, decode);
  Buffer changed = *inner;
  changed[0] = 7;
  testing::ExpectRefusedByName(decode(changed).status(), "sealed manifest version 7");
}

const std::vector<ChunkRef>& FixedRefs() {
  static const std::vector<ChunkRef> refs = {{Counting<RecordId>(0xc0), 1052},
                                             {Counting<RecordId>(0x05), 92}};
  return refs;
}

TEST(Parts, ClearGolden) {
  const Buffer golden = Golden("part-clear", EncodePartClear(FixedRefs()));
  const auto refs = DecodePartClear(golden);
  ASSERT_TRUE(refs.ok()) << refs.status();
  ASSERT_EQ(refs->size(), 2u);
  EXPECT_EQ((*refs)[1].id, FixedRefs()[1].id);
  EXPECT_EQ((*refs)[1].stored_length, 92u);
  testing::ExpectFlipsRefused(golden, DecodePartClear);
  testing::ExpectTruncationsRefused(golden, DecodePartClear);
  Buffer changed = golden;
  changed[4] = 7;
  FixCrc(changed);
  testing::ExpectRefusedByName(DecodePartClear(changed).status(), "manifest part version 7");
  changed = golden;
  std::fill_n(changed.begin() + 5, 4, 0xff);  // A count far beyond the bytes there.
  FixCrc(changed);
  EXPECT_TRUE(absl::IsDataLoss(DecodePartClear(changed).status()));
}

TEST(Parts, SealedGolden) {
  const std::vector<SealedChunkInfo> chunks = FixedSealed().chunks;
  const Buffer golden =
      Golden("part-sealed", SealPart(kObjectKey, kDomain, kVersion, 1, 3, chunks));
  const auto open = [](Bytes bytes) {
    return OpenPart(kObjectKey, kDomain, kVersion, 1, 3, bytes);
  };
  const auto opened = open(golden);
  ASSERT_TRUE(opened.ok()) << opened.status();
  ASSERT_EQ(opened->size(), 2u);
  EXPECT_EQ((*opened)[1].h, chunks[1].h);
  EXPECT_EQ((*opened)[1].length, chunks[1].length);
  testing::ExpectFlipsRefused(golden, open);
  testing::ExpectTruncationsRefused(golden, open);
  // A part does not pass for another, nor for the same of a shorter or longer object.
  EXPECT_FALSE(OpenPart(kObjectKey, kDomain, kVersion, 0, 3, golden).ok());
  EXPECT_FALSE(OpenPart(kObjectKey, kDomain, kVersion, 1, 2, golden).ok());
  EXPECT_FALSE(OpenPart(kObjectKey, kDomain, Counting<VersionId>(1), 1, 3, golden).ok());
}

TEST(Parts, RecordGolden) {
  const AeadKey key = CountingArray<32>(0xd0);
  const RecordId id = PartId(kVersion, 1);
  const Buffer clear = EncodePartClear(FixedRefs());
  const Buffer sealed = SealPart(kObjectKey, kDomain, kVersion, 1, 3, FixedSealed().chunks);
  const Buffer golden = Golden("part-record", EncodePartRecord(key, id, clear, sealed, kNonce));
  const auto decode = [&](Bytes bytes) { return DecodePartRecord(key, id, bytes); };
  const auto decoded = decode(golden);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->clear, clear);
  EXPECT_EQ(decoded->sealed, sealed);
  testing::ExpectFlipsRefused(golden, decode);
  testing::ExpectTruncationsRefused(golden, decode);
  EXPECT_FALSE(DecodePartRecord(key, PartId(kVersion, 2), golden).ok());
  EXPECT_FALSE(DecodePartRecord(kObjectKey, id, golden).ok());
  Buffer changed = golden;
  changed[4] = 7;
  testing::ExpectRefusedByName(decode(changed).status(), "version 7");
}

TEST(Parts, IdAgreesWithPython) {
  std::ifstream in(testing::GoldenPath("independent.json"));
  const auto v = nlohmann::json::parse(in)["names"];
  EXPECT_EQ(PartId(kVersion, 7).hex(), v["part_id"].get<std::string>());
}

// The tree of certificate-transparency's own tests (RFC 6962 hashing), roots of its first n leaves.
TEST(MerkleRoot, Rfc6962) {
  const std::vector<std::string> entries = {"",
                                            "00",
                                            "10",
                                            "2021",
                                            "3031",
                                            "40414243",
                                            "5051525354555657",
                                            "606162636465666768696a6b6c6d6e6f"};
  const std::vector<std::string> roots = {
      "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
      "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
      "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
      "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
      "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
      "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
      "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
      "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
  std::vector<Hash256> leaves;
  for (size_t i = 0; i < entries.size(); ++i) {
    leaves.push_back(Sha256({Hex("00"), Hex(entries[i])}));
    EXPECT_EQ(ToHex(MerkleRoot(leaves)), roots[i]) << i + 1 << " leaves";
  }
}

TEST(ManifestLeaf, BindsDomainCollectionAndManifest) {
  const Buffer manifest = EncodeClearManifest(FixedManifest());
  const Hash256 leaf = ManifestLeaf(kDomain, "case-1", manifest);
  EXPECT_EQ(leaf,
            Sha256({Hex("00"), kDomain.bytes(), Hex("06000000"), AsBytes("case-1"), manifest}));
  EXPECT_NE(leaf, ManifestLeaf(Counting<DomainId>(1), "case-1", manifest));
  EXPECT_NE(leaf, ManifestLeaf(kDomain, "case-2", manifest));
  EXPECT_NE(leaf, ManifestLeaf(kDomain, "case-1", EncodeClearManifest(FixedLongManifest())));
}

TEST(SignatureMessage, IsLabelDomainRoot) {
  const Hash256 root = CountingArray<32>(0x10);
  EXPECT_EQ(ToHex(SignatureMessage(kDomain, root)),
            ToHex(AsBytes("holdfast/1 commit")) + kDomain.hex() + ToHex(root));
}

}  // namespace
}  // namespace holdfast
