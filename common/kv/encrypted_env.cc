#include "common/kv/encrypted_env.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cassert>
#include <climits>

#include "common/base/rng.h"
#include "common/crypto/hmac.h"
#include "rocksdb/env_encryption.h"
#include "rocksdb/file_system.h"

namespace holdfast {
namespace {

constexpr size_t kAesBlock = 16;
constexpr size_t kSaltSize = 32;  // The prefix's random bytes; its check follows.

struct FreeCipherContext {
  void operator()(EVP_CIPHER_CTX* c) const { EVP_CIPHER_CTX_free(c); }
};

// Fetching an algorithm searches OpenSSL's providers; once is enough.
const EVP_CIPHER* Aes256Ctr() {
  static const EVP_CIPHER* cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CTR", nullptr);
  return cipher;
}

// Encrypts and decrypts whole buffers at any offset of one file. Thread-safe, because RocksDB reads
// a file from several threads: each has a context of its own, which costs a key schedule per call.
class CtrStream : public rocksdb::BlockAccessCipherStream {
 public:
  explicit CtrStream(const Hash256& file_key) : key_(file_key) {}
  ~CtrStream() override { OPENSSL_cleanse(key_.data(), key_.size()); }

  size_t BlockSize() override { return kAesBlock; }

  rocksdb::Status Encrypt(uint64_t offset, char* data, size_t size) override {
    return Crypt(offset, reinterpret_cast<uint8_t*>(data), size);
  }

  rocksdb::Status Decrypt(uint64_t offset, char* data, size_t size) override {
    return Crypt(offset, reinterpret_cast<uint8_t*>(data), size);
  }

 protected:
  // The base class's block-wise path, which nothing takes since Encrypt and Decrypt are ours.
  void AllocateScratch(std::string&) override {}
  rocksdb::Status EncryptBlock(uint64_t, char*, char*) override {
    return rocksdb::Status::NotSupported();
  }
  rocksdb::Status DecryptBlock(uint64_t, char*, char*) override {
    return rocksdb::Status::NotSupported();
  }

 private:
  rocksdb::Status Crypt(uint64_t offset, uint8_t* data, size_t size) {
    thread_local std::unique_ptr<EVP_CIPHER_CTX, FreeCipherContext> context(EVP_CIPHER_CTX_new());
    uint8_t counter[kAesBlock] = {};
    for (size_t i = 0; i < 8; ++i) {
      counter[kAesBlock - 1 - i] = static_cast<uint8_t>((offset / kAesBlock) >> (8 * i));
    }
    bool ok = EVP_EncryptInit_ex2(context.get(), Aes256Ctr(), key_.data(), counter, nullptr) == 1;
    uint8_t skipped[kAesBlock] = {};
    int n = static_cast<int>(offset % kAesBlock), out = 0;
    if (n > 0) ok = ok && EVP_EncryptUpdate(context.get(), skipped, &out, skipped, n) == 1;
    while (ok && size > 0) {
      n = static_cast<int>(std::min<size_t>(size, INT_MAX / 2));
      ok = EVP_EncryptUpdate(context.get(), data, &out, data, n) == 1;
      data += n;
      size -= static_cast<size_t>(n);
    }
    return ok ? rocksdb::Status::OK() : rocksdb::Status::IOError("AES-256-CTR is not available");
  }

  Hash256 key_;
};

class Provider : public rocksdb::EncryptionProvider {
 public:
  explicit Provider(const std::array<uint8_t, 32>& key) : key_(key) {}
  ~Provider() override { OPENSSL_cleanse(key_.data(), key_.size()); }

  const char* Name() const override { return "holdfast.aes-256-ctr"; }
  size_t GetPrefixLength() const override { return kEncryptedFilePrefixSize; }

  rocksdb::Status CreateNewPrefix(const std::string&, char* prefix, size_t size) const override {
    assert(size == kEncryptedFilePrefixSize);
    MutableBytes bytes(reinterpret_cast<uint8_t*>(prefix), size);
    SecureRng().Fill(bytes.first(kSaltSize));
    Hash256 check = CheckOf(bytes.first(kSaltSize));
    std::copy_n(check.begin(), size - kSaltSize, bytes.begin() + kSaltSize);
    return rocksdb::Status::OK();
  }

  rocksdb::Status AddCipher(const std::string&, const char*, size_t, bool) override {
    return rocksdb::Status::NotSupported("the key is given once");
  }

  rocksdb::Status CreateCipherStream(
      const std::string& name, const rocksdb::EnvOptions&, rocksdb::Slice& prefix,
      std::unique_ptr<rocksdb::BlockAccessCipherStream>* result) override {
    if (prefix.size() != kEncryptedFilePrefixSize) {
      return rocksdb::Status::Corruption("shorter than its encryption prefix", name);
    }
    Bytes bytes(reinterpret_cast<const uint8_t*>(prefix.data()), prefix.size());
    Bytes salt = bytes.first(kSaltSize), check = bytes.subspan(kSaltSize);
    Hash256 right = CheckOf(salt);
    if (!ConstantTimeEqual(check, Bytes(right).first(check.size()))) {
      return rocksdb::Status::Corruption("not under this key, or its encryption prefix is damaged",
                                         name);
    }
    *result = std::make_unique<CtrStream>(HmacSha256(key_, {salt}));
    return rocksdb::Status::OK();
  }

 private:
  Hash256 CheckOf(Bytes salt) const {
    return HmacSha256(key_, {AsBytes("holdfast/1 file prefix"), salt});
  }

  std::array<uint8_t, 32> key_;
};

// RocksDB's encrypted file system asserts that every file holds its prefix, and so ends the process
// over one that a crash left shorter. Here such a file has no contents, and reading it is
// corruption unless it is empty.
class CrashSafeFs : public rocksdb::FileSystemWrapper {
 public:
  explicit CrashSafeFs(const std::shared_ptr<Provider>& provider)
      : FileSystemWrapper(rocksdb::NewEncryptedFS(rocksdb::FileSystem::Default(), provider)),
        raw_(rocksdb::FileSystem::Default()) {}

  const char* Name() const override { return "holdfast.encrypted"; }

  rocksdb::IOStatus GetFileSize(const std::string& name, const rocksdb::IOOptions& options,
                                uint64_t* size, rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus s = raw_->GetFileSize(name, options, size, debug);
    if (s.ok()) *size -= std::min<uint64_t>(*size, kEncryptedFilePrefixSize);
    return s;
  }

  // RocksDB reopens a recovered log only to give back space; its encrypted file system would add a
  // second prefix to the end, which a crash could leave there. The log is deleted soon anyway.
  rocksdb::IOStatus ReopenWritableFile(const std::string&, const rocksdb::FileOptions&,
                                       std::unique_ptr<rocksdb::FSWritableFile>*,
                                       rocksdb::IODebugContext*) override {
    return rocksdb::IOStatus::NotSupported();
  }

  rocksdb::IOStatus GetChildrenFileAttributes(const std::string& dir,
                                              const rocksdb::IOOptions& options,
                                              std::vector<rocksdb::FileAttributes>* files,
                                              rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus s = raw_->GetChildrenFileAttributes(dir, options, files, debug);
    if (!s.ok()) return s;
    for (rocksdb::FileAttributes& f : *files) {
      f.size_bytes -= std::min<uint64_t>(f.size_bytes, kEncryptedFilePrefixSize);
    }
    return s;
  }

 private:
  const std::shared_ptr<rocksdb::FileSystem> raw_;
};

}  // namespace

std::unique_ptr<rocksdb::Env> NewEncryptedRocksEnv(const std::array<uint8_t, 32>& key) {
  return rocksdb::NewCompositeEnv(std::make_shared<CrashSafeFs>(std::make_shared<Provider>(key)));
}

}  // namespace holdfast
