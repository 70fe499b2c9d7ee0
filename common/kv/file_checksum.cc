#include "common/kv/file_checksum.h"

#include "common/crypto/check.h"

namespace holdfast {
namespace {

constexpr char kName[] = "FileChecksumCrc32c";

class Generator : public rocksdb::FileChecksumGenerator {
 public:
  void Update(const char* data, size_t size) override {
    crc_ = ExtendCrc32c(crc_, {reinterpret_cast<const uint8_t*>(data), size});
  }
  void Finalize() override {
    for (int shift = 24; shift >= 0; shift -= 8) sum_.push_back(static_cast<char>(crc_ >> shift));
  }
  std::string GetChecksum() const override { return sum_; }
  const char* Name() const override { return kName; }

 private:
  uint32_t crc_ = 0;
  std::string sum_;  // Big-endian.
};

class Factory : public rocksdb::FileChecksumGenFactory {
 public:
  std::unique_ptr<rocksdb::FileChecksumGenerator> CreateFileChecksumGenerator(
      const rocksdb::FileChecksumGenContext& context) override {
    const std::string& wanted = context.requested_checksum_func_name;
    if (!wanted.empty() && wanted != kName) return nullptr;
    return std::make_unique<Generator>();
  }
  const char* Name() const override { return "holdfast.crc32c"; }
};

}  // namespace

std::shared_ptr<rocksdb::FileChecksumGenFactory> FastFileChecksums() {
  return std::make_shared<Factory>();
}

}  // namespace holdfast
