#include "common/crypto/hmac.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using testing::Hex;

// FIPS 180-4 examples.
TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(ToHex(Sha256({})), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(ToHex(Sha256(AsBytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256({AsBytes("a"), AsBytes(""), AsBytes("bc")}), Sha256(AsBytes("abc")));
}

struct HmacVector {
  Buffer key, data;
  std::string mac;
};

// RFC 4231, test cases 1 to 4, 6 and 7.
std::vector<HmacVector> Rfc4231() {
  const Buffer counting = Hex("0102030405060708090a0b0c0d0e0f10111213141516171819");
  return {
      {Buffer(20, 0x0b), Hex("4869205468657265"),
       "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
      {Hex("4a656665"), Hex("7768617420646f2079612077616e7420666f72206e6f7468696e673f"),
       "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
      {Buffer(20, 0xaa), Buffer(50, 0xdd),
       "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
      {counting, Buffer(50, 0xcd),
       "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
      {Buffer(131, 0xaa),
       Hex("54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b6579202d204861736"
           "8"
           "204b6579204669727374"),
       "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
      {Buffer(131, 0xaa),
       Hex("5468697320697320612074657374207573696e672061206c6172676572207468616e20626c6f636b2d73697"
           "a"
           "65206b657920616e642061206c6172676572207468616e20626c6f636b2d73697a6520646174612e2054686"
           "5"
           "206b6579206e6565647320746f20626520686173686564206265666f7265206265696e67207573656420627"
           "9"
           "2074686520484d414320616c676f726974686d2e"),
       "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
  };
}

TEST(Hmac, Rfc4231) {
  for (const HmacVector& v : Rfc4231()) {
    const Hmac hmac(v.key);
    EXPECT_EQ(ToHex(hmac({v.data})), v.mac);
    EXPECT_EQ(ToHex(hmac({v.data})), v.mac) << "a second call starts from the same state";
    EXPECT_EQ(ToHex(HmacSha256(v.key, {v.data})), v.mac);
    const Bytes data(v.data);
    EXPECT_EQ(ToHex(hmac({data.first(3), data.subspan(3)})), v.mac);
  }
}

TEST(Hmac, MovedKeyStillWorks) {
  Hmac a(AsBytes("Jefe"));
  Hmac b(std::move(a));
  EXPECT_EQ(b({AsBytes("x")}), HmacSha256(AsBytes("Jefe"), {AsBytes("x")}));
}

TEST(Hmac, ManyThreadsShareOneKey) {
  const Hmac hmac(AsBytes("shared key"));
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        const std::string message = std::to_string(t * 10000 + i);
        if (hmac({AsBytes(message)}) != HmacSha256(AsBytes("shared key"), {AsBytes(message)})) {
          ++wrong[t];
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(ConstantTimeEqual, Compares) {
  EXPECT_TRUE(ConstantTimeEqual(AsBytes("abc"), AsBytes("abc")));
  EXPECT_FALSE(ConstantTimeEqual(AsBytes("abc"), AsBytes("abd")));
  EXPECT_FALSE(ConstantTimeEqual(AsBytes("abc"), AsBytes("ab")));
  EXPECT_TRUE(ConstantTimeEqual({}, {}));
}

}  // namespace
}  // namespace holdfast
