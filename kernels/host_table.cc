// The fingerprint table in the host's memory.
#include <atomic>
#include <mutex>
#include <vector>

#include "kernels/core/table.h"
#include "kernels/engine.h"

namespace holdfast::kernels {
namespace {

using core::table::Added;

class HostTable final : public FingerprintTable {
 public:
  explicit HostTable(size_t slots) : slots_(slots) {}

  size_t slots() const override { return slots_.size(); }
  uint64_t epoch() const override { return epoch_; }
  size_t size() const override { return size_; }

  Status Insert(std::span<const uint64_t> fingerprints) override {
    std::lock_guard lock(inserting_);
    const uint64_t epoch = epoch_ + 1;
    for (const uint64_t fingerprint : fingerprints) {
      if (size_ >= MostOf(slots_.size())) break;
      size_ += core::table::Insert(slots_.data(), slots_.size(), fingerprint, epoch) == Added::kNew;
    }
    epoch_ = epoch;
    return Status::kOk;
  }

  Status Find(std::span<const uint64_t> fingerprints, uint64_t as_of,
              std::span<uint8_t> found) override {
    for (size_t i = 0; i < fingerprints.size(); ++i) {
      found[i] = core::table::Find(slots_.data(), slots_.size(), fingerprints[i], as_of);
    }
    return Status::kOk;
  }

 private:
  std::vector<core::table::Slot> slots_;
  std::mutex inserting_;
  std::atomic<uint64_t> epoch_ = 0;
  std::atomic<size_t> size_ = 0;
};

}  // namespace

std::unique_ptr<FingerprintTable> MakeHostTable(size_t slots) {
  return std::make_unique<HostTable>(std::max<size_t>(slots, 1));
}

}  // namespace holdfast::kernels
