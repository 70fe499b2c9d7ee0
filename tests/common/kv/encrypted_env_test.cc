#include "common/kv/encrypted_env.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <fstream>

#include "common/base/rng.h"
#include "common/crypto/hmac.h"
#include "common/kv/rocks_kv.h"
#include "common/kv/row_mac.h"
#include "rocksdb/db.h"
#include "tests/common/io/temp_dir.h"

namespace holdfast {
namespace {

std::array<uint8_t, 32> EnvKey() {
  std::array<uint8_t, 32> key;
  for (size_t i = 0; i < key.size(); ++i) key[i] = static_cast<uint8_t>(i);
  return key;
}

std::string Raw(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Decrypts a whole file as encrypted_env.h describes it, by other means than the code under test.
std::string Decrypt(const std::string& raw) {
  Hash256 file_key = HmacSha256(EnvKey(), {AsBytes(raw).first(32)});
  uint8_t zero_counter[16] = {};
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  EVP_DecryptInit_ex(context, EVP_aes_256_ctr(), nullptr, file_key.data(), zero_counter);
  std::string plain(raw.size(), '\0');
  int n = 0;
  EVP_DecryptUpdate(context, reinterpret_cast<uint8_t*>(plain.data()), &n,
                    reinterpret_cast<const uint8_t*>(raw.data()), static_cast<int>(raw.size()));
  EVP_CIPHER_CTX_free(context);
  return plain.substr(40);
}

TEST(EncryptedEnv, TheFormatIsTheOneDescribed) {
  TempDir temp;
  auto env = NewEncryptedRocksEnv(EnvKey());
  std::string path = temp.path() + "/f", expected;
  std::unique_ptr<rocksdb::WritableFile> file;
  ASSERT_TRUE(env->NewWritableFile(path, &file, {}).ok());
  SimRng rng(1);
  for (size_t n : {1, 15, 16, 17, 4096, 100'000, 3, 31}) {
    std::string piece(n, '\0');
    rng.Fill({reinterpret_cast<uint8_t*>(piece.data()), n});
    ASSERT_TRUE(file->Append(piece).ok());
    expected += piece;
  }
  ASSERT_TRUE(file->Close().ok());
  std::string raw = Raw(path);
  ASSERT_EQ(raw.size(), expected.size() + 40);
  EXPECT_EQ(Decrypt(raw), expected);

  // And every part of it can be read by itself.
  std::unique_ptr<rocksdb::RandomAccessFile> reader;
  ASSERT_TRUE(env->NewRandomAccessFile(path, &reader, {}).ok());
  for (int i = 0; i < 200; ++i) {
    size_t at = rng.Below(expected.size()), n = rng.Below(1000);
    std::string scratch(n, '\0');
    rocksdb::Slice result;
    ASSERT_TRUE(reader->Read(at, n, &result, scratch.data()).ok());
    ASSERT_EQ(result.ToString(), expected.substr(at, n)) << at << " " << n;
  }
  uint64_t size = 0;
  ASSERT_TRUE(env->GetFileSize(path, &size).ok());
  EXPECT_EQ(size, expected.size());
}

TEST(EncryptedEnv, TheSameContentsNeverLookTheSame) {
  TempDir temp;
  auto env = NewEncryptedRocksEnv(EnvKey());
  std::string text(1000, 'x');
  ASSERT_TRUE(rocksdb::WriteStringToFile(env.get(), text, temp.path() + "/a").ok());
  std::string first = Raw(temp.path() + "/a");
  ASSERT_TRUE(rocksdb::WriteStringToFile(env.get(), text, temp.path() + "/a").ok());
  std::string second = Raw(temp.path() + "/a");
  EXPECT_NE(first.substr(0, 32), second.substr(0, 32));
  EXPECT_NE(first.substr(40), second.substr(40));
}

TEST(EncryptedEnv, AWrongPrefixIsCorruption) {
  TempDir temp;
  auto env = NewEncryptedRocksEnv(EnvKey());
  std::string path = temp.path() + "/f", contents;
  ASSERT_TRUE(rocksdb::WriteStringToFile(env.get(), "text", path).ok());
  std::string good = Raw(path);
  for (size_t bit = 0; bit < 8 * 40; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    std::ofstream(path, std::ios::binary) << bad;
    EXPECT_TRUE(rocksdb::ReadFileToString(env.get(), path, &contents).IsCorruption()) << bit;
  }
  std::ofstream(path, std::ios::binary) << good;
  EXPECT_TRUE(rocksdb::ReadFileToString(env.get(), path, &contents).ok());
  auto other_key = EnvKey();
  other_key[0] ^= 1;
  auto other = NewEncryptedRocksEnv(other_key);
  EXPECT_TRUE(rocksdb::ReadFileToString(other.get(), path, &contents).IsCorruption());
}

TEST(EncryptedEnv, AFileShorterThanItsPrefixIsEmptyOrDamaged) {
  TempDir temp;
  auto env = NewEncryptedRocksEnv(EnvKey());
  for (size_t n : {0, 1, 39}) {
    std::string path = temp.path() + "/" + std::to_string(n);
    std::ofstream(path) << std::string(n, 'x');
    uint64_t size = 1;
    ASSERT_TRUE(env->GetFileSize(path, &size).ok());
    EXPECT_EQ(size, 0u);
    std::string contents;
    rocksdb::Status s = rocksdb::ReadFileToString(env.get(), path, &contents);
    EXPECT_TRUE(n == 0 ? s.ok() : s.IsCorruption()) << s.ToString();
    EXPECT_EQ(contents, "");
  }
}

TEST(RowMacTest, CoversKeyAndValue) {
  RowMac mac(EnvKey());
  std::string row;
  mac.Seal("key", "value", row);
  ASSERT_EQ(row.size(), 5 + kRowMacSize);
  std::string_view stored = row;
  ASSERT_TRUE(mac.Open("key", stored));
  EXPECT_EQ(stored, "value");
  for (size_t i = 0; i < row.size() * 8; ++i) {
    std::string bad = row;
    bad[i / 8] = static_cast<char>(bad[i / 8] ^ (1 << (i % 8)));
    std::string_view view = bad;
    EXPECT_FALSE(mac.Open("key", view)) << "bit " << i;
  }
  // The border between key and value counts too.
  std::string other;
  mac.Seal("keyv", "alue", other);
  EXPECT_NE(row.substr(5), other.substr(4));
  stored = row;
  EXPECT_FALSE(mac.Open("kez", stored));
  stored = std::string_view(row).substr(0, 7);
  EXPECT_FALSE(mac.Open("key", stored));
}

TEST(RowMacTest, IsSipHash24UnderTheDerivedKey) {
  RowMac mac(EnvKey());
  std::string row;
  mac.Seal("", "", row);
  // SipHash-2-4 of eight zero bytes, written out from the paper.
  Hash256 derived = HmacSha256(EnvKey(), {AsBytes("holdfast/1 row mac")});
  auto load = [](const uint8_t* p) {
    uint64_t v = 0;
    for (int i = 0; i < 8; ++i) v |= uint64_t{p[i]} << (8 * i);
    return v;
  };
  auto rotl = [](uint64_t x, int b) { return x << b | x >> (64 - b); };
  uint64_t k0 = load(derived.data()), k1 = load(derived.data() + 8);
  uint64_t v0 = k0 ^ 0x736f6d6570736575, v1 = k1 ^ 0x646f72616e646f6d;
  uint64_t v2 = k0 ^ 0x6c7967656e657261, v3 = k1 ^ 0x7465646279746573;
  auto rounds = [&](int n) {
    while (n-- > 0) {
      v0 += v1, v1 = rotl(v1, 13), v1 ^= v0, v0 = rotl(v0, 32);
      v2 += v3, v3 = rotl(v3, 16), v3 ^= v2;
      v0 += v3, v3 = rotl(v3, 21), v3 ^= v0;
      v2 += v1, v1 = rotl(v1, 17), v1 ^= v2, v2 = rotl(v2, 32);
    }
  };
  for (uint64_t word : {uint64_t{0}, uint64_t{8} << 56}) {
    v3 ^= word;
    rounds(2);
    v0 ^= word;
  }
  v2 ^= 0xff;
  rounds(4);
  EXPECT_EQ(load(reinterpret_cast<const uint8_t*>(row.data())), v0 ^ v1 ^ v2 ^ v3);
}

// Rows moved by one who can write the database's files but has no MAC key: as if the encryption
// and every checksum had been forged.
TEST(RowMacTest, AMovedRowIsNamed) {
  TempDir temp;
  RocksKvOptions options{.encryption_key = EnvKey()};
  {
    auto kv = OpenRocksKv(temp.path(), true, options);
    ASSERT_TRUE(kv.ok()) << kv.status();
    ASSERT_TRUE((*kv)->Write({{"a", "1"}, {"b", "2"}, {"c", "3"}}, true).ok());
  }
  {
    auto env = NewEncryptedRocksEnv(EnvKey());
    rocksdb::Options raw_options;
    raw_options.env = env.get();
    raw_options.compression = rocksdb::kNoCompression;
    rocksdb::DB* raw = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(raw_options, temp.path(), &raw).ok());
    std::unique_ptr<rocksdb::DB> owner(raw);
    std::string a;
    ASSERT_TRUE(raw->Get({}, "a", &a).ok());
    ASSERT_TRUE(raw->Put({}, "b", a).ok());
  }
  auto kv = OpenRocksKv(temp.path(), false, options);
  ASSERT_TRUE(kv.ok()) << kv.status();
  EXPECT_EQ(**(*kv)->Get("a"), "1");
  Status s = (*kv)->Get("b").status();
  EXPECT_EQ(s.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(Message(s).find("62"), std::string::npos) << s;
  EXPECT_EQ((*kv)->MultiGet({"a", "b"}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ((*kv)->VerifyAll().code(), absl::StatusCode::kDataLoss);
  int rows = 0;
  s = (*kv)->Scan("", "", [&](std::string_view, std::string_view) { return ++rows > 0; });
  EXPECT_EQ(s.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(rows, 1) << "what comes before the damage";
}

}  // namespace
}  // namespace holdfast
