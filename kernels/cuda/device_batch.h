// One batch on its way through a device: cuts, then chunk and object digests.
//
//   copy in → prefilter → confirm → select → (host: plan) → digests and Poly1305 → (CPU: long
//   tails)
//
// Messages that lie close together in the host's memory are copied as one extent, with the gaps;
// each keeps its place in the extent, so that one bitmap of candidates serves all of them. Buffers
// are kept from batch to batch and grow as batches need.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cpu/batch_digests.h"
#include "kernels/cpu/code.h"
#include "kernels/cuda/device.h"
#include "kernels/engine.h"

namespace holdfast::kernels::cuda {

// Typed memory that grows; what it held is lost when it does.
template <class T>
class Array {
 public:
  enum class Where { kDevice, kHost };
  explicit Array(Where where) : where_(where) {}

  // False when there is no memory for n.
  bool Reserve(Device& device, size_t n) {
    if (memory_ != nullptr && n * sizeof(T) <= memory_->size()) return true;
    const size_t bytes = n * sizeof(T) + n * sizeof(T) / 4 + 4096;
    memory_.reset();
    memory_ = where_ == Where::kDevice ? device.Allocate(bytes) : device.AllocateHost(bytes);
    return memory_ != nullptr;
  }
  T* data() const { return reinterpret_cast<T*>(memory_->data()); }
  T& operator[](size_t i) const { return data()[i]; }
  std::span<uint8_t> bytes(size_t n) const { return {memory_->data(), n * sizeof(T)}; }

 private:
  Where where_;
  std::unique_ptr<Memory> memory_;
};

// The same array on the host and on the device.
template <class T>
struct Mirrored {
  Array<T> host{Array<T>::Where::kHost}, device{Array<T>::Where::kDevice};
  bool Reserve(Device& d, size_t n) { return host.Reserve(d, n) && device.Reserve(d, n); }
  void CopyIn(Stream& stream, size_t n) { stream.CopyIn(device.bytes(n).data(), host.bytes(n)); }
  void CopyOut(Stream& stream, size_t n) { stream.CopyOut(host.bytes(n), device.bytes(n).data()); }
};

// Runs batches, one at a time. One thread.
class DeviceBatch {
 public:
  enum class Result { kOk, kNoMemory, kLost };

  // Borrows the device, the options and the code.
  DeviceBatch(Device& device, const EngineOptions& options, const CpuCode& cpu, bool cpu_tails);

  // Cuts and digests the messages, all of them acceptable. On any other result states are as they
  // were left, and void; `error` says why.
  Result Run(std::span<Message* const> messages, std::string* error);

  // As kernels::FirstSame; on the CPU if the device does not do it.
  std::vector<uint32_t> FirstSame(std::span<const core::duplicates::Digest> digests);

 private:
  // A piece of the host's memory and where it lies on the device.
  struct Extent {
    const uint8_t* begin;
    const uint8_t* end;
    size_t at;  // In data_.
  };
  // The jobs of one algorithm and what is on the device for them.
  struct DigestWork {
    explicit DigestWork(Algorithm a) : algorithm(a) {}
    const Algorithm algorithm;
    std::vector<LaneJob*> jobs;  // The longest first.
    Mirrored<DigestJob> rows;
    Mirrored<uint32_t> states;
  };

  void LayOut(std::span<Message* const> messages);
  const uint8_t* OnDevice(const uint8_t* host) const;
  bool ReserveForCuts(std::span<Message* const> messages);
  void EnqueueCuts(std::span<Message* const> messages);
  void TakeCuts(std::span<Message* const> messages) const;

  size_t StateWords(Algorithm algorithm) const;
  const DigestCode& CodeOf(Algorithm algorithm) const;
  bool PlanDigests(DigestWork& work, std::span<LaneJob> jobs);
  void PlanRows(DigestWork& work, size_t job, size_t share);
  bool PlanMacs(std::span<Message* const> messages);
  void EnqueueDigests();
  void TakeAllDigests(const std::span<LaneJob> jobs[3]);
  void TakeDigests(DigestWork& work, std::span<LaneJob> jobs);
  void TakeMacs(std::span<Message* const> messages) const;

  Device& device_;
  const EngineOptions& options_;
  const CpuCode& cpu_;
  const bool cpu_tails_;
  const CutRule rule_;
  const std::unique_ptr<Stream> stream_;

  std::vector<Extent> extents_;  // By address in the host's memory.
  size_t data_size_ = 0;
  Array<uint8_t> data_{Array<uint8_t>::Where::kDevice};
  Array<uint32_t> candidates_{Array<uint32_t>::Where::kDevice};
  Array<uint32_t> summary_{Array<uint32_t>::Where::kDevice};
  Mirrored<CutMessage> cut_messages_;
  Mirrored<uint32_t> ends_, counts_;
  size_t ends_size_ = 0;

  // Blocks that are not in the data: the heads and endings of objects and chunks.
  Mirrored<uint8_t> small_;
  size_t small_used_ = 0;
  DigestWork works_[3] = {DigestWork(Algorithm::kSha256), DigestWork(Algorithm::kSha1),
                          DigestWork(Algorithm::kMd5)};
  Mirrored<MacJob> mac_jobs_;
  Mirrored<uint8_t> tags_;
  size_t macs_ = 0;

  Mirrored<core::duplicates::Digest> digests_;
  Mirrored<uint64_t> keys_;
  Mirrored<uint32_t> order_, first_;
  Array<uint64_t> sorted_keys_{Array<uint64_t>::Where::kDevice};
  Array<uint32_t> sorted_order_{Array<uint32_t>::Where::kDevice};
  Array<uint8_t> scratch_{Array<uint8_t>::Where::kDevice};
};

}  // namespace holdfast::kernels::cuda
