#include "common/crypto/kdf.h"

#include <gtest/gtest.h>

#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using testing::Hex;

// RFC 5869, appendix A, test cases 1 to 3.
TEST(Hkdf, Rfc5869) {
  Buffer out(42);
  HkdfSha256(Buffer(22, 0x0b), Hex("000102030405060708090a0b0c"), Hex("f0f1f2f3f4f5f6f7f8f9"), out);
  EXPECT_EQ(ToHex(out),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");

  Buffer secret(80), salt(80), info(80), longer(82);
  for (int i = 0; i < 80; ++i) {
    secret[i] = static_cast<uint8_t>(i);
    salt[i] = static_cast<uint8_t>(0x60 + i);
    info[i] = static_cast<uint8_t>(0xb0 + i);
  }
  HkdfSha256(secret, salt, info, longer);
  EXPECT_EQ(ToHex(longer),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87");

  HkdfSha256(Buffer(22, 0x0b), {}, {}, out);
  EXPECT_EQ(ToHex(out),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

// RFC 7914, section 12.
TEST(Scrypt, Rfc7914) {
  Buffer out(64);
  ASSERT_TRUE(Scrypt("", {}, {.n = 16, .r = 1, .p = 1}, out));
  EXPECT_EQ(ToHex(out),
            "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
            "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906");
  ASSERT_TRUE(Scrypt("password", AsBytes("NaCl"), {.n = 1024, .r = 8, .p = 16}, out));
  EXPECT_EQ(ToHex(out),
            "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
            "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640");
}

}  // namespace
}  // namespace holdfast
