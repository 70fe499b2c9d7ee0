#include "common/crypto/aead.h"

#include <gtest/gtest.h>

#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using testing::CountingArray;
using testing::Hex;

struct GcmVector {
  std::string key, nonce, plaintext, aad, ciphertext, tag;
};

// McGrew and Viega, "The Galois/Counter Mode of Operation" (the submission to NIST), appendix B,
// test cases 13, 14 and 16.
std::vector<GcmVector> GcmVectors() {
  const std::string zeros(64, '0');
  return {
      {zeros, "000000000000000000000000", "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
      {zeros, "000000000000000000000000", "00000000000000000000000000000000", "",
       "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
      {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
       "cafebabefacedbaddecaf888",
       "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
       "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
       "feedfacedeadbeeffeedfacedeadbeefabaddad2",
       "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
       "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
       "76fc6ece0f4e1768cddf8853bb2d551b"},
  };
}

template <class Array>
Array ArrayOf(const std::string& hex) {
  Array out;
  EXPECT_TRUE(FromHex(hex, out));
  return out;
}

TEST(Aead, GcmVectors) {
  for (const GcmVector& v : GcmVectors()) {
    const auto key = ArrayOf<AeadKey>(v.key);
    const auto nonce = ArrayOf<AeadNonce>(v.nonce);
    const Buffer aad = Hex(v.aad), plaintext = Hex(v.plaintext);
    Buffer sealed(plaintext.size() + kAeadTagSize);
    AeadSeal(key, nonce, aad, plaintext, sealed);
    EXPECT_EQ(ToHex(sealed), v.ciphertext + v.tag);
    Buffer opened(plaintext.size());
    EXPECT_TRUE(AeadOpen(key, nonce, aad, sealed, opened));
    EXPECT_EQ(opened, plaintext);
  }
}

TEST(Aead, SealsInPlace) {
  const auto key = CountingArray<32>(1);
  const auto nonce = CountingArray<12>(50);
  const Buffer plaintext(100'000, 0x5a);
  Buffer expected(plaintext.size() + kAeadTagSize);
  AeadSeal(key, nonce, AsBytes("aad"), plaintext, expected);
  Buffer in_place = plaintext;
  in_place.resize(plaintext.size() + kAeadTagSize);
  AeadSeal(key, nonce, AsBytes("aad"), Bytes(in_place).first(plaintext.size()), in_place);
  EXPECT_EQ(in_place, expected);
}

TEST(Aead, AnyChangeIsRefused) {
  const auto key = CountingArray<32>(1);
  const auto nonce = CountingArray<12>(50);
  const Buffer box = AeadSealWithNonce(key, nonce, AsBytes("aad"), AsBytes("the plaintext"));
  const auto open = [&](Bytes bytes) {
    return AeadOpenWithNonce(key, AsBytes("aad"), bytes, "box");
  };
  ASSERT_TRUE(open(box).ok());
  EXPECT_EQ(AsView(*open(box)), "the plaintext");
  testing::ExpectFlipsRefused(box, open);
  testing::ExpectTruncationsRefused(box, open);
  EXPECT_FALSE(AeadOpenWithNonce(key, AsBytes("aae"), box, "box").ok());
  EXPECT_FALSE(AeadOpenWithNonce(CountingArray<32>(2), AsBytes("aad"), box, "box").ok());
}

TEST(Aead, RefusalNamesTheThing) {
  const Status status = AeadOpenWithNonce({}, {}, Buffer(40), "wrapped key of x.jpg").status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_NE(status.ToString().find("wrapped key of x.jpg"), std::string::npos) << status;
}

}  // namespace
}  // namespace holdfast
