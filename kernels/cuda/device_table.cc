// The fingerprint table in a device's memory.
#include <algorithm>
#include <atomic>
#include <mutex>

#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/device_engine.h"

namespace holdfast::kernels::cuda {
namespace {

using core::table::Added;
using core::table::Slot;

constexpr size_t kPiece = 1 << 20;  // Fingerprints in one launch; bounds the buffers.

class DeviceTable final : public FingerprintTable {
 public:
  DeviceTable(Device& device, std::unique_ptr<Memory> table, size_t slots)
      : table_(std::move(table)), slots_(slots), inserts_(device), finds_(device) {}

  bool Init() {
    std::string error;
    if (inserts_.stream == nullptr || finds_.stream == nullptr) return false;
    inserts_.stream->Zero({table_->data(), table_->size()});
    return inserts_.stream->Synchronize(&error);
  }

  size_t slots() const override { return slots_; }
  size_t size() const override { return size_; }
  uint64_t epoch() const override { return epoch_; }

  Status Insert(std::span<const uint64_t> fingerprints) override {
    std::lock_guard lock(inserts_.mutex);
    const uint64_t epoch = epoch_ + 1;
    while (!fingerprints.empty()) {
      const size_t room = MostOf(slots_) - std::min<size_t>(size_, MostOf(slots_));
      const size_t n = std::min({fingerprints.size(), kPiece, room});
      if (n == 0) break;
      const Status status =
          inserts_.Run(fingerprints.first(n), [&](const uint64_t* in, uint8_t* out) -> Kernel {
            return TableInsert{table(), slots_, in, epoch, out};
          });
      if (status != Status::kOk) return status;
      const uint8_t* added = inserts_.answers.host.data();
      size_ += static_cast<size_t>(std::count(added, added + n, static_cast<uint8_t>(Added::kNew)));
      fingerprints = fingerprints.subspan(n);
    }
    epoch_ = epoch;
    return Status::kOk;
  }

  Status Find(std::span<const uint64_t> fingerprints, uint64_t as_of,
              std::span<uint8_t> found) override {
    std::lock_guard lock(finds_.mutex);
    while (!fingerprints.empty()) {
      const size_t n = std::min(fingerprints.size(), kPiece);
      const Status status =
          finds_.Run(fingerprints.first(n), [&](const uint64_t* in, uint8_t* out) -> Kernel {
            return TableFind{table(), slots_, in, as_of, out};
          });
      if (status != Status::kOk) return status;
      std::copy_n(finds_.answers.host.data(), n, found.begin());
      fingerprints = fingerprints.subspan(n);
      found = found.subspan(n);
    }
    return Status::kOk;
  }

 private:
  // A stream with a question and its answer.
  struct Lane {
    explicit Lane(Device& d) : device(d), stream(d.NewStream()) {}

    template <class MakeKernel>
    Status Run(std::span<const uint64_t> fingerprints, const MakeKernel& make) {
      const size_t n = fingerprints.size();
      if (!questions.Reserve(device, n) || !answers.Reserve(device, n)) return Status::kUnavailable;
      std::ranges::copy(fingerprints, questions.host.data());
      questions.CopyIn(*stream, n);
      stream->Run(make(questions.device.data(), answers.device.data()), n);
      answers.CopyOut(*stream, n);
      std::string error;
      return stream->Synchronize(&error) ? Status::kOk : Status::kUnavailable;
    }

    Device& device;
    const std::unique_ptr<Stream> stream;
    std::mutex mutex;
    Mirrored<uint64_t> questions;
    Mirrored<uint8_t> answers;
  };

  Slot* table() const { return reinterpret_cast<Slot*>(table_->data()); }

  const std::unique_ptr<Memory> table_;
  const size_t slots_;
  Lane inserts_, finds_;
  std::atomic<uint64_t> epoch_ = 0;
  std::atomic<size_t> size_ = 0;
};

}  // namespace

std::unique_ptr<FingerprintTable> MakeDeviceTable(Device& device, size_t slots) {
  slots = std::max<size_t>(slots, 1);
  std::unique_ptr<Memory> memory = device.Allocate(slots * sizeof(Slot));
  if (memory == nullptr) return nullptr;
  auto table = std::make_unique<DeviceTable>(device, std::move(memory), slots);
  if (!table->Init()) return nullptr;
  return table;
}

}  // namespace holdfast::kernels::cuda
