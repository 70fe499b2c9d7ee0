#include "common/crypto/keypair.h"

#include <gtest/gtest.h>

#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using testing::Hex;

PublicKey PublicKeyOf(const std::string& hex) {
  PublicKey key;
  EXPECT_TRUE(FromHex(hex, key));
  return key;
}

// RFC 6979, appendix A.2.5: P-256 with SHA-256, messages "sample" and "test".
TEST(Signatures, Rfc6979Verify) {
  const PublicKey key = PublicKeyOf(
      "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
      "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299");
  const Buffer sample =
      Hex("3046"
          "022100efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
          "022100f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8");
  EXPECT_TRUE(VerifySignature(key, AsBytes("sample"), sample));
  EXPECT_FALSE(VerifySignature(key, AsBytes("test"), sample));
  const Buffer test =
      Hex("3045"
          "022100f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367"
          "0220019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083");
  EXPECT_TRUE(VerifySignature(key, AsBytes("test"), test));
}

TEST(Signatures, SignAndVerify) {
  const KeyPair key = GenerateKeyPair();
  const auto signature = Sign(key, AsBytes("message"));
  ASSERT_TRUE(signature.ok()) << signature.status();
  EXPECT_TRUE(VerifySignature(key.public_key, AsBytes("message"), *signature));
  EXPECT_FALSE(VerifySignature(key.public_key, AsBytes("messagf"), *signature));
  EXPECT_FALSE(VerifySignature(GenerateKeyPair().public_key, AsBytes("message"), *signature));
  EXPECT_FALSE(VerifySignature(key.public_key, AsBytes("message"), {}));
  for (size_t i = 0; i < signature->size(); ++i) {
    Buffer changed = *signature;
    changed[i] ^= 1;
    EXPECT_FALSE(VerifySignature(key.public_key, AsBytes("message"), changed)) << i;
  }
}

TEST(Signatures, KeysThatAreNoPointsAreRefused) {
  const KeyPair key = GenerateKeyPair();
  PublicKey off_curve = key.public_key;
  off_curve[64] ^= 1;
  EXPECT_FALSE(VerifySignature(off_curve, AsBytes("m"), Buffer(70)));
  EXPECT_FALSE(VerifySignature(PublicKey{}, AsBytes("m"), Buffer(70)));
  EXPECT_FALSE(SealToPublicKey(off_curve, {}, AsBytes("secret")).ok());
  PublicKey hybrid = key.public_key;  // The same point in a form that keys do not travel in.
  hybrid[0] = static_cast<uint8_t>(0x06 | (hybrid[64] & 1));
  EXPECT_FALSE(SealToPublicKey(hybrid, {}, AsBytes("secret")).ok());
}

TEST(KeyPairMatches, TellsHalvesApart) {
  const KeyPair a = GenerateKeyPair(), b = GenerateKeyPair();
  EXPECT_TRUE(KeyPairMatches(a));
  EXPECT_FALSE(KeyPairMatches({a.public_key, b.private_key}));
  EXPECT_FALSE(KeyPairMatches({a.public_key, PrivateKey{}}));
  EXPECT_FALSE(KeyPairMatches({PublicKey{}, a.private_key}));
}

TEST(Sealing, OpensOnlyUnderItsKeyAndContext) {
  const KeyPair key = GenerateKeyPair();
  const auto box = SealToPublicKey(key.public_key, AsBytes("context"), AsBytes("a sealing key"));
  ASSERT_TRUE(box.ok()) << box.status();
  EXPECT_EQ(box->size(), 65 + 13 + 16u);
  const auto open = [&](Bytes bytes) { return OpenWithPrivateKey(key, AsBytes("context"), bytes); };
  ASSERT_TRUE(open(*box).ok());
  EXPECT_EQ(AsView(*open(*box)), "a sealing key");
  EXPECT_TRUE(absl::IsPermissionDenied(
      OpenWithPrivateKey(GenerateKeyPair(), AsBytes("context"), *box).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(OpenWithPrivateKey(key, AsBytes("contexu"), *box).status()));
  testing::ExpectFlipsRefused(*box, open);
  testing::ExpectTruncationsRefused(*box, open);
  EXPECT_NE(*SealToPublicKey(key.public_key, AsBytes("context"), AsBytes("a sealing key")), *box);
}

}  // namespace
}  // namespace holdfast
