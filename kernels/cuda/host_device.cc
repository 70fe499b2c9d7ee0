#include "kernels/cuda/host_device.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <numeric>
#include <vector>

#include "kernels/cuda/bodies.h"

namespace holdfast::kernels::cuda {
namespace {

constexpr size_t kAlign = 256;

class HostMemory final : public Memory {
 public:
  explicit HostMemory(size_t size)
      : Memory(static_cast<uint8_t*>(::operator new(size, std::align_val_t(kAlign))), size) {
    std::memset(data(), 0xa5, size);  // What was never written does not look like anything.
  }
  ~HostMemory() override { ::operator delete(data(), std::align_val_t(kAlign)); }
};

class HostStream final : public Stream {
 public:
  explicit HostStream(HostFaults* faults) : faults_(faults) {}

  void CopyIn(uint8_t* to, std::span<const uint8_t> from) override {
    if (!lost_ && !from.empty()) std::memcpy(to, from.data(), from.size());
  }
  void CopyOut(std::span<uint8_t> to, const uint8_t* from) override {
    if (!lost_ && !to.empty()) std::memcpy(to.data(), from, to.size());
  }
  void Zero(std::span<uint8_t> bytes) override {
    if (!lost_) std::ranges::fill(bytes, 0);
  }

  void Run(std::span<const Launch> launches) override {
    for (const Launch& launch : launches) {
      if (Lost()) return;
      std::visit(
          [&](const auto& kernel) {
            for (size_t i = 0; i < launch.threads; ++i) RunThread(kernel, i);
          },
          launch.kernel);
      if (const auto* sha256 = std::get_if<Digest<Algorithm::kSha256>>(&launch.kernel)) {
        Spoil(*sha256, launch.threads);
      }
    }
  }

  void Run(const Sort& sort) override {
    if (Lost()) return;
    assert(sort.scratch.size() >= sort.count);
    std::vector<uint32_t> places(sort.count);
    std::iota(places.begin(), places.end(), 0);
    std::ranges::stable_sort(places, {}, [&](uint32_t i) { return sort.keys_in[i]; });
    for (size_t i = 0; i < sort.count; ++i) {
      sort.keys_out[i] = sort.keys_in[places[i]];
      sort.values_out[i] = sort.values_in[places[i]];
    }
  }

  bool Synchronize(std::string* error) override {
    if (lost_) *error = "the host's twin of a device was told to fail";
    return !lost_;
  }

 private:
  bool Lost() {
    if (faults_ != nullptr && faults_->launches_left-- <= 0) lost_ = true;
    return lost_;
  }

  void Spoil(const Digest<Algorithm::kSha256>& digest, size_t jobs) {
    for (size_t i = 0; i < jobs && faults_ != nullptr; ++i) {
      if (faults_->digests_left-- <= 0) digest.states[8 * i + 3] ^= 0x400;
    }
  }

  HostFaults* const faults_;
  bool lost_ = false;
};

class HostDevice final : public Device {
 public:
  explicit HostDevice(HostFaults* faults) : faults_(faults) {}
  std::string_view name() const override { return "host"; }
  double peak_operations() const override { return 0; }
  size_t memory_bytes() const override { return size_t{1} << 30; }
  std::unique_ptr<Memory> Allocate(size_t bytes) override {
    if (faults_ != nullptr && faults_->allocations_left-- <= 0) return nullptr;
    return std::make_unique<HostMemory>(bytes);
  }
  std::unique_ptr<Memory> AllocateHost(size_t bytes) override { return Allocate(bytes); }
  std::unique_ptr<Stream> NewStream() override { return std::make_unique<HostStream>(faults_); }
  size_t SortScratch(size_t count) override { return count; }
  void Register(std::span<const uint8_t> memory) override {
    std::lock_guard lock(mutex_);
    registered_.push_back(memory);
  }
  void Unregister(std::span<const uint8_t> memory) override {
    std::lock_guard lock(mutex_);
    std::erase_if(registered_, [&](const auto& r) { return r.data() == memory.data(); });
  }
  bool Registered(std::span<const uint8_t> memory) const override {
    std::lock_guard lock(mutex_);
    return std::ranges::any_of(registered_, [&](const auto& r) {
      return memory.data() >= r.data() && memory.data() + memory.size() <= r.data() + r.size();
    });
  }

 private:
  HostFaults* const faults_;
  mutable std::mutex mutex_;
  std::vector<std::span<const uint8_t>> registered_;
};

}  // namespace

std::unique_ptr<Device> MakeHostDevice(HostFaults* faults) {
  return std::make_unique<HostDevice>(faults);
}

}  // namespace holdfast::kernels::cuda
