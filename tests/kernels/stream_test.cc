// Both sets of single-stream code against the vectors of the standards, and against OpenSSL's EVP
// at every length where padding or blocks change.
#include "kernels/cpu/stream.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "gtest/gtest.h"
#include "kernels/cpu/code.h"
#include "kernels/cpu/object_digest.h"
#include "tests/kernels/testing.h"

namespace holdfast::kernels {
namespace {

using testing::Bytes;
using testing::FromHex;
using testing::Hex;

class StreamTest : public ::testing::TestWithParam<const StreamCode*> {
 protected:
  void SetUp() override {
    if (GetParam() == nullptr) GTEST_SKIP() << "built without OpenSSL";
  }

  Digests DigestsOf(std::span<const uint8_t> data) const {
    DigestState state;
    state.Reset();
    const BlockPlan plan(state, data, /*last=*/true);
    RunPlan(*GetParam(), plan, kAllDigests, state);
    return DigestBytes(state, kAllDigests);
  }

  Digests DigestsOf(std::string_view text) const {
    return DigestsOf(Bytes(text.begin(), text.end()));
  }
};

TEST_P(StreamTest, Sha256OfFips180) {
  EXPECT_EQ(Hex(DigestsOf("abc").sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hex(DigestsOf("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq").sha256),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Hex(DigestsOf(Bytes(1000000, 'a')).sha256),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(Hex(DigestsOf("").sha256),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST_P(StreamTest, Sha1OfRfc3174) {
  EXPECT_EQ(Hex(DigestsOf("abc").sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(Hex(DigestsOf("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq").sha1),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  EXPECT_EQ(Hex(DigestsOf(Bytes(1000000, 'a')).sha1), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
  std::string text;
  for (int i = 0; i < 80; ++i) text += "01234567";
  EXPECT_EQ(Hex(DigestsOf(text).sha1), "dea356a2cddd90c7a7ecedc5ebb563934f460452");
}

TEST_P(StreamTest, Md5OfRfc1321) {
  EXPECT_EQ(Hex(DigestsOf("").md5), "d41d8cd98f00b204e9800998ecf8427e");
  EXPECT_EQ(Hex(DigestsOf("a").md5), "0cc175b9c0f1b6a831c399e269772661");
  EXPECT_EQ(Hex(DigestsOf("abc").md5), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(Hex(DigestsOf("message digest").md5), "f96b697d7cb7938d525a2f31aaf161d0");
  EXPECT_EQ(Hex(DigestsOf("abcdefghijklmnopqrstuvwxyz").md5), "c3fcd3d76192e4007dfb496cca67e13b");
  EXPECT_EQ(Hex(DigestsOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").md5),
            "d174ab98d277d9f5a5611c2c9f419d9f");
  std::string text;
  for (int i = 0; i < 8; ++i) text += "1234567890";
  EXPECT_EQ(Hex(DigestsOf(text).md5), "57edf4a22be3c955ac49da2e2107b67a");
}

struct MacVector {
  const char* key;
  const char* data;
  const char* tag;
};

// RFC 8439: section 2.5.2, then of appendix A.3 the vectors that reach the carries and the final
// reduction; last one of ours, 2^131 - 1 under r = 1, whose fold carries through all words.
constexpr MacVector kMacVectors[] = {
    {"85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b",
     "43727970746f6772617068696320466f72756d2052657365617263682047726f7570",
     "a8061dc1305136c6c22b8baf0c0127a9"},
    {"0000000000000000000000000000000000000000000000000000000000000000",
     "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "000000000000000000000000000000000000000000000000",
     "00000000000000000000000000000000"},
    {"0200000000000000000000000000000000000000000000000000000000000000",
     "ffffffffffffffffffffffffffffffff", "03000000000000000000000000000000"},
    {"02000000000000000000000000000000ffffffffffffffffffffffffffffffff",
     "02000000000000000000000000000000", "03000000000000000000000000000000"},
    {"0100000000000000000000000000000000000000000000000000000000000000",
     "fffffffffffffffffffffffffffffffff0ffffffffffffffffffffffffffffff"
     "11000000000000000000000000000000",
     "05000000000000000000000000000000"},
    {"0100000000000000000000000000000000000000000000000000000000000000",
     "fffffffffffffffffffffffffffffffffbfefefefefefefefefefefefefefefe"
     "01010101010101010101010101010101",
     "00000000000000000000000000000000"},
    {"0200000000000000000000000000000000000000000000000000000000000000",
     "fdffffffffffffffffffffffffffffff", "faffffffffffffffffffffffffffffff"},
    {"0100000000000000040000000000000000000000000000000000000000000000",
     "e33594d7505e43b900000000000000003394d7505e4379cd0100000000000000"
     "0000000000000000000000000000000001000000000000000000000000000000",
     "14000000000000005500000000000000"},
    {"0100000000000000040000000000000000000000000000000000000000000000",
     "e33594d7505e43b900000000000000003394d7505e4379cd0100000000000000"
     "00000000000000000000000000000000",
     "13000000000000000000000000000000"},
    {"0100000000000000000000000000000000000000000000000000000000000000",
     "ffffffffffffffffffffffffffffffff00000000000000000000000000000000"
     "0000000000000000000000000000000000000000000000000000000000000000"
     "0000000000000000000000000000000000000000000000000000000000000000"
     "00000000000000000000000000000000",
     "09000000000000000000000000000000"},
};

TEST_P(StreamTest, Poly1305OfRfc8439) {
  for (const MacVector& vector : kMacVectors) {
    Poly1305Key key;
    std::ranges::copy(FromHex(vector.key), key.begin());
    EXPECT_EQ(Hex(GetParam()->poly1305(key, FromHex(vector.data))), vector.tag) << vector.data;
  }
}

// Every length near a boundary of 16, 64 or of OpenSSL's vector code, from odd addresses.
TEST_P(StreamTest, AgreesWithEvpAtEveryLength) {
  std::vector<size_t> lengths;
  for (size_t n = 0; n <= 300; ++n) lengths.push_back(n);
  for (const size_t middle : {512, 1024, 4096, 65536, 1 << 20}) {
    for (size_t n = middle - 2; n <= middle + 2; ++n) lengths.push_back(n);
  }
  const Bytes paint = testing::Paint((1 << 20) + 64);
  const Poly1305Key key = testing::Seed(7);
  for (const size_t n : lengths) {
    const std::span<const uint8_t> data = std::span(paint).subspan(n % 17, n);
    const Digests got = DigestsOf(data);
    ASSERT_EQ(Hex(got.sha256), testing::EvpHex("SHA256", data)) << n;
    ASSERT_EQ(Hex(got.sha1), testing::EvpHex("SHA1", data)) << n;
    ASSERT_EQ(Hex(got.md5), testing::EvpHex("MD5", data)) << n;
    ASSERT_EQ(Hex(GetParam()->poly1305(key, data)), testing::EvpPoly1305Hex(key, data)) << n;
  }
}

// Poly1305 under extreme keys and data, where carries run furthest.
TEST_P(StreamTest, Poly1305CarriesAgreeWithEvp) {
  std::mt19937_64 rng(20240611);
  for (int round = 0; round < 2000; ++round) {
    Poly1305Key key;
    Bytes data(rng() % 100);
    for (uint8_t& byte : key) byte = rng() % 4 == 0 ? static_cast<uint8_t>(rng()) : 0xff;
    for (uint8_t& byte : data) byte = rng() % 8 == 0 ? static_cast<uint8_t>(rng()) : 0xff;
    ASSERT_EQ(Hex(GetParam()->poly1305(key, data)), testing::EvpPoly1305Hex(key, data)) << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Code, StreamTest,
                         ::testing::Values(&CoreStreamCode(), OpensslStreamCode()),
                         [](const auto& info) -> std::string {
                           return info.index == 0 ? "Core" : "Openssl";
                         });

// Update in pieces of any length, Finish at any point without disturbing the state.
#if defined(__x86_64__)
// Bit 2 of what is in use: the upper halves of the AVX registers (Intel SDM 1, 13.6: XGETBV with
// ECX = 1).
__attribute__((target("xsave"))) bool UpperHalvesInUse() {
  return (__builtin_ia32_xgetbv(1) >> 2 & 1) != 0;
}

TEST(Poly1305Test, LeavesNoUpperHalvesInUse) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(0xd, 1, &a, &b, &c, &d) == 0 || (a >> 2 & 1) == 0 || !ThisCpu().avx2) {
    GTEST_SKIP() << "this CPU cannot tell";
  }
  const Bytes data = testing::RandomBytes(5000, 3);
  const Poly1305Key key = testing::Seed(9);
  for (size_t size = 0; size < data.size(); size += size < 1000 ? 1 : 61) {
    ClearUpperAvx2();
    ASSERT_FALSE(UpperHalvesInUse());
    BestStreamCode().poly1305(key, std::span(data).first(size));
    ASSERT_FALSE(UpperHalvesInUse()) << size;
  }
}
#endif

TEST(ObjectDigestTest, PiecesMakeTheWhole) {
  std::mt19937_64 rng(11);
  const Bytes paint = testing::Paint(5000);
  for (int round = 0; round < 300; ++round) {
    const std::span<const uint8_t> data = std::span(paint).first(rng() % paint.size());
    const size_t most = 1 + rng() % 300;
    DigestState state;
    state.Reset();
    for (size_t at = 0; at < data.size();) {
      const size_t size = std::min<size_t>(data.size() - at, rng() % (most + 1));
      Update(state, kAllDigests, data.subspan(at, size));
      at += size;
      if (rng() % 16 == 0) Finish(state, kAllDigests);
      ASSERT_EQ(state.length, at);
    }
    const Digests got = Finish(state, kAllDigests);
    ASSERT_EQ(Hex(got.sha256), testing::EvpHex("SHA256", data));
    ASSERT_EQ(Hex(got.sha1), testing::EvpHex("SHA1", data));
    ASSERT_EQ(Hex(got.md5), testing::EvpHex("MD5", data));
    ASSERT_EQ(Hex(Sha256(data)), Hex(got.sha256));
    ASSERT_EQ(Hex(Finish(state, kMd5).sha256), std::string(64, '0'));
  }
}

}  // namespace
}  // namespace holdfast::kernels
