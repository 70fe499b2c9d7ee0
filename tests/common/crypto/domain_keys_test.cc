#include "common/crypto/domain_keys.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/common/crypto/sealed.h"
#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using nlohmann::json;
using testing::CountingArray;
using testing::Hex;
using testing::Sealed;

// What tests/golden/independent.py computed in Python.
json Independent() {
  std::ifstream in(testing::GoldenPath("independent.json"));
  return json::parse(in)["chunk"];
}

Buffer Poly1305(Bytes key, Bytes message) {
  Buffer tag(16);
  size_t size = 0;
  EXPECT_NE(EVP_Q_mac(nullptr, "POLY1305", nullptr, nullptr, nullptr, key.data(), key.size(),
                      message.data(), message.size(), tag.data(), tag.size(), &size),
            nullptr);
  return tag;
}

struct Fixture {
  json v = Independent();
  Buffer content = Bytes1("content"), compressed = Bytes1("compressed");
  DomainKeys keys{CountingArray<32>(0)};
  Hash256 c = Sha256(content);
  Buffer x = Poly1305(keys.poly1305_key(), content);
  Hash256 h = keys.ChunkSecret(c, content.size(), x);
  RecordId id = ChunkIdOf(h);

  std::string Text(const char* name) { return v[name]; }
  Buffer Bytes1(const char* name) { return Hex(Text(name)); }
};

TEST(ChunkIdentity, AgreesWithPython) {
  Fixture f;
  ASSERT_EQ(f.Text("k_dedup"), ToHex(CountingArray<32>(0)));
  EXPECT_EQ(ToHex(f.keys.poly1305_key()), f.Text("poly1305_key"));
  EXPECT_EQ(ToHex(f.keys.cut_seed()), f.Text("cut_seed"));
  EXPECT_EQ(ToHex(f.c), f.Text("c"));
  EXPECT_EQ(ToHex(f.x), f.Text("x"));
  EXPECT_EQ(ToHex(f.h), f.Text("h"));
  EXPECT_EQ(f.id.hex(), f.Text("id"));
  EXPECT_EQ(f.keys.Tag(DigestAlgorithm::kSha256, f.c).hex(), f.Text("tag_sha256"));
}

TEST(ChunkIdentity, SealedChunkAgreesWithPython) {
  Fixture f;
  EXPECT_EQ(ToHex(Sealed(f.h, f.id, Codec::kRaw, f.content)), f.Text("sealed_raw"));
  EXPECT_EQ(ToHex(Sealed(f.h, f.id, Codec::kZstd, f.compressed)), f.Text("sealed_zstd"));
  EXPECT_EQ(f.Text("sealed_raw").substr(0, 24), f.Text("nonce_raw"));
  EXPECT_EQ(f.Text("sealed_zstd").substr(0, 24), f.Text("nonce_zstd"));
}

TEST(SealedChunk, Golden) {
  Fixture f;
  testing::Golden("chunk-raw", Sealed(f.h, f.id, Codec::kRaw, f.content));
  testing::Golden("chunk-zstd", Sealed(f.h, f.id, Codec::kZstd, f.compressed));
}

// Into the caller's buffer, when the payload is raw and as long, and into its own.
StatusOr<OpenedChunk> OpenBothWays(const Hash256& h, const RecordId& id, Bytes stored,
                                   size_t length) {
  StatusOr<OpenedChunk> opened = OpenChunk(h, id, stored);
  Buffer out(length, 0xEE);
  const StatusOr<OpenedChunk> straight = OpenChunk(h, id, stored, out);
  EXPECT_EQ(straight.status(), opened.status());
  if (opened.ok() && straight.ok()) {
    EXPECT_EQ(straight->codec, opened->codec);
    EXPECT_EQ(ToString(straight->payload), ToString(opened->payload));
    const bool fits =
        length > 0 && opened->codec == Codec::kRaw && opened->payload.size() == length;
    EXPECT_EQ(straight->payload.data() == out.data(), fits);
  }
  return opened;
}

TEST(SealedChunk, OpensToItsPayload) {
  Fixture f;
  // Around the piece that sealing works in, and around steps of the padding.
  for (size_t size : {0, 1, 54, 55, 56, 8191, 49142, 49143, 49144, 98295, 98296, 300'000}) {
    const Buffer payload(size, 0x42);
    const Buffer sealed = Sealed(f.h, f.id, Codec::kRaw, payload);
    EXPECT_EQ(sealed.size(), SealedChunkLength(size));
    for (size_t other : {size / 2, size + 1}) {
      EXPECT_TRUE(OpenBothWays(f.h, f.id, sealed, other).ok());
    }
    const auto opened = OpenBothWays(f.h, f.id, sealed, size);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(opened->codec, Codec::kRaw);
    EXPECT_EQ(ToString(opened->payload), ToString(payload));
    EXPECT_GE(opened->payload.data(), opened->storage.data());
  }
}

TEST(SealedChunk, DamageIsRefused) {
  Fixture f;
  const Buffer sealed = Hex(f.Text("sealed_raw"));
  const auto open = [&](Bytes bytes) { return OpenBothWays(f.h, f.id, bytes, f.content.size()); };
  testing::ExpectFlipsRefused(sealed, open);
  testing::ExpectTruncationsRefused(sealed, open);
  EXPECT_TRUE(absl::IsDataLoss(open(Bytes(sealed).first(20)).status()));
  RecordId other = f.id;
  other.value[0] ^= 1;
  EXPECT_TRUE(absl::IsDataLoss(OpenChunk(f.h, other, sealed).status()));
}

// What opens must also be well-formed: a writer with the key can still be wrong.
TEST(SealedChunk, MalformedInsideIsRefused) {
  Fixture f;
  const AeadKey key = HmacSha256(f.h, {AsBytes("holdfast/1 chunk key")});
  Buffer aad(1 + RecordId::kSize, kSuite1);
  std::copy(f.id.value.begin(), f.id.value.end(), aad.begin() + 1);
  const auto open = [&](const Buffer& inner) {
    return OpenBothWays(f.h, f.id, AeadSealWithNonce(key, {}, aad, inner), 5).status();
  };
  Buffer inner(64, 0);
  inner[1] = 5;
  EXPECT_TRUE(open(inner).ok());
  inner[63] = 1;
  EXPECT_TRUE(absl::IsDataLoss(open(inner))) << "padding that is not zero";
  inner[63] = 0;
  inner[0] = 9;
  testing::ExpectRefusedByName(open(inner), "chunk codec 9");
  inner[0] = 0;
  inner[1] = 56;
  EXPECT_TRUE(absl::IsDataLoss(open(inner))) << "longer than what is there";
  inner[8] = 0xff;
  EXPECT_TRUE(absl::IsDataLoss(open(inner))) << "longer than memory";
  inner[1] = 5;
  inner[8] = 0;
  inner.resize(128);
  EXPECT_TRUE(absl::IsDataLoss(open(inner))) << "more padding than the rule gives";
}

TEST(SealedChunk, NoncesDifferByCodecAndByCompressedBytes) {
  Fixture f;
  const auto nonce = [&](Codec codec, std::string_view payload) {
    return ToHex(Bytes(Sealed(f.h, f.id, codec, AsBytes(payload))).first(12));
  };
  EXPECT_EQ(nonce(Codec::kRaw, "a"), nonce(Codec::kRaw, "a"));
  EXPECT_NE(nonce(Codec::kRaw, "a"), nonce(Codec::kZstd, "a"));
  EXPECT_NE(nonce(Codec::kZstd, "a"), nonce(Codec::kZstd, "b"));
}

TEST(SealedChunk, PaddingHidesSizesAndStaysSmall) {
  uint64_t previous = 0;
  for (uint64_t n = 0; n < 5'000'000; n += 1 + n / 100) {
    const uint64_t sealed = SealedChunkLength(n);
    const uint64_t padded = sealed - kAeadNonceSize - kAeadTagSize;
    EXPECT_EQ(padded % 64, 0u);
    EXPECT_GE(padded, n + 9);
    EXPECT_LE(padded - (n + 9), std::max<uint64_t>(63, (n + 9) / 128)) << n;
    EXPECT_GE(sealed, previous);
    previous = sealed;
  }
}

// DESIGN 5, "Why x". The adversary holds K_dedup, and the SHA-256 and length of the content from an
// export or a hash list; without the content there is no x, and without x no key.
TEST(Adversary, DigestAndDedupKeyDoNotOpenTheChunk) {
  Fixture f;
  const Buffer sealed = Sealed(f.h, f.id, Codec::kRaw, f.content);
  const uint64_t length = f.content.size();
  const DomainKeys known(CountingArray<32>(0));
  std::vector<Hash256> guesses = {
      known.ChunkSecret(f.c, length, Buffer(16, 0)),
      known.ChunkSecret(f.c, length, Buffer(16, 0xff)),
      known.ChunkSecret(f.c, length, Bytes(f.c).first(16)),
      known.ChunkSecret(f.c, length, Poly1305(known.poly1305_key(), f.c)),
      HmacSha256(CountingArray<32>(0), {f.c}),
      known.Tag(DigestAlgorithm::kSha256, f.c).value,
      f.c,
      f.id.value,
  };
  for (const Hash256& guess : guesses) {
    EXPECT_NE(guess, f.h);
    EXPECT_NE(ChunkIdOf(guess), f.id);
    EXPECT_TRUE(absl::IsDataLoss(OpenChunk(guess, f.id, sealed).status()));
  }
  // One who holds the content itself needs no key; this much the threat model grants.
  EXPECT_TRUE(OpenChunk(known.ChunkSecret(f.c, length, f.x), f.id, sealed).ok());
}

TEST(Adversary, AnotherDomainSharesNothing) {
  Fixture f;
  const DomainKeys other(CountingArray<32>(1));
  const Buffer x = Poly1305(other.poly1305_key(), f.content);
  EXPECT_NE(x, f.x);
  EXPECT_NE(ChunkIdOf(other.ChunkSecret(f.c, f.content.size(), x)), f.id);
  EXPECT_NE(other.Tag(DigestAlgorithm::kSha256, f.c), f.keys.Tag(DigestAlgorithm::kSha256, f.c));
}

TEST(Tag, AlgorithmsDoNotCollide) {
  Fixture f;
  const Buffer digest(16, 7);
  EXPECT_NE(f.keys.Tag(DigestAlgorithm::kMd5, digest), f.keys.Tag(DigestAlgorithm::kSha1, digest));
}

}  // namespace
}  // namespace holdfast
