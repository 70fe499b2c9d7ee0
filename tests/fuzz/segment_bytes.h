// Segment files made of any bytes.
#pragma once

#include "common/io/fs.h"

namespace holdfast::fuzz {

// What the first byte of an input says.
constexpr uint8_t kFixHeaders = 1;
constexpr uint8_t kFixChecksums = 2;
constexpr uint8_t kAllPayloads = 4;
constexpr uint8_t kTrustNothing = 8;

// Puts right the checksums of everything in it that begins as a batch or record header does.
void FixSegment(MutableBytes file, uint8_t how);

class BytesFile : public File {
 public:
  explicit BytesFile(Buffer bytes) : bytes_(std::move(bytes)) {}
  StatusOr<size_t> ReadAt(uint64_t offset, MutableBytes out) override {
    if (offset >= bytes_.size()) return 0;
    const size_t n = std::min<uint64_t>(out.size(), bytes_.size() - offset);
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), n, out.begin());
    return n;
  }
  Status WriteAt(uint64_t, Bytes) override { return absl::UnimplementedError("read only"); }
  Status DataSync() override { return absl::OkStatus(); }
  Status Truncate(uint64_t) override { return absl::UnimplementedError("read only"); }
  Status Allocate(uint64_t, uint64_t) override { return absl::UnimplementedError("read only"); }
  StatusOr<uint64_t> Size() override { return bytes_.size(); }

 private:
  Buffer bytes_;
};

}  // namespace holdfast::fuzz
