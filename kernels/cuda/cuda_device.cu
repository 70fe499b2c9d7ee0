// The calls into CUDA. All that is computed on the device is in bodies.h and kernels/core.
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <cub/device/device_radix_sort.cuh>
#include <map>
#include <mutex>
#include <utility>

#include "kernels/cuda/bodies.h"
#include "kernels/cuda/cuda_device.h"

namespace holdfast::kernels::cuda {
namespace {

// Threads of a block. A digest's thread is long and takes many registers, and the more blocks there
// are, the more evenly they spread; elsewhere neighbours share what they load.
template <class K>
constexpr unsigned kBlockThreads = 256;
template <Algorithm algorithm>
constexpr unsigned kBlockThreads<Digest<algorithm>> = 32;
template <>
constexpr unsigned kBlockThreads<Mac> = 32;
template <>
constexpr unsigned kBlockThreads<Select> = 32;

template <class K>
__global__ void __launch_bounds__(kBlockThreads<K>) RunKernel(K kernel, size_t threads) {
  const size_t i = size_t{blockIdx.x} * kBlockThreads<K> + threadIdx.x;
  if (i < threads) RunThread(kernel, i);
}

class DeviceMemory final : public Memory {
 public:
  DeviceMemory(void* data, size_t size) : Memory(static_cast<uint8_t*>(data), size) {}
  ~DeviceMemory() override { cudaFree(data()); }  // Fails only when the device is lost.
};

// The host's memory that the device can copy from by itself.
class LockedRanges {
 public:
  void Add(const uint8_t* begin, size_t size) {
    std::lock_guard lock(mutex_);
    ranges_[begin] = size;
  }
  // Whether it was there.
  bool Remove(const uint8_t* begin) {
    std::lock_guard lock(mutex_);
    return ranges_.erase(begin) != 0;
  }
  bool Contains(std::span<const uint8_t> bytes) const {
    std::lock_guard lock(mutex_);
    auto after = ranges_.upper_bound(bytes.data());
    if (after == ranges_.begin()) return false;
    const auto& [begin, size] = *--after;
    return bytes.data() + bytes.size() <= begin + size;
  }

 private:
  mutable std::mutex mutex_;
  std::map<const uint8_t*, size_t> ranges_;
};

class LockedMemory final : public Memory {
 public:
  LockedMemory(void* data, size_t size, LockedRanges& ranges)
      : Memory(static_cast<uint8_t*>(data), size), ranges_(ranges) {
    ranges_.Add(this->data(), size);
  }
  ~LockedMemory() override {
    ranges_.Remove(data());
    cudaFreeHost(data());
  }

 private:
  LockedRanges& ranges_;
};

class CudaStream final : public Stream {
 public:
  explicit CudaStream(LockedRanges& locked) : locked_(locked) {}

  ~CudaStream() override {
    if (main_ != nullptr) cudaStreamSynchronize(main_);
    for (Piece& piece : pieces_) {
      if (piece.free != nullptr) cudaEventDestroy(piece.free);
      if (piece.data != nullptr) cudaFreeHost(piece.data);
    }
    for (Side& side : sides_) {
      if (side.end != nullptr) cudaEventDestroy(side.end);
      if (side.stream != nullptr) cudaStreamDestroy(side.stream);
    }
    if (begin_ != nullptr) cudaEventDestroy(begin_);
    if (main_ != nullptr) cudaStreamDestroy(main_);
  }

  // False when there is no memory for it.
  bool Init() {
    Check(cudaStreamCreateWithFlags(&main_, cudaStreamNonBlocking), "cudaStreamCreate");
    Check(cudaEventCreateWithFlags(&begin_, cudaEventDisableTiming), "cudaEventCreate");
    for (Side& side : sides_) {
      Check(cudaStreamCreateWithFlags(&side.stream, cudaStreamNonBlocking), "cudaStreamCreate");
      Check(cudaEventCreateWithFlags(&side.end, cudaEventDisableTiming), "cudaEventCreate");
    }
    for (Piece& piece : pieces_) {
      Check(cudaHostAlloc(&piece.data, kPieceBytes, cudaHostAllocDefault), "cudaHostAlloc");
      Check(cudaEventCreateWithFlags(&piece.free, cudaEventDisableTiming | cudaEventBlockingSync),
            "cudaEventCreate");
    }
    return error_.empty();
  }

  void CopyIn(uint8_t* to, std::span<const uint8_t> from) override {
    if (locked_.Contains(from)) {
      if (ok() && !from.empty()) CopyAsync(to, from.data(), from.size(), cudaMemcpyHostToDevice);
      return;
    }
    for (; ok() && !from.empty();) {
      const size_t n = std::min(from.size(), kPieceBytes);
      Piece& piece = pieces_[next_piece_++ % pieces_.size()];
      Check(cudaEventSynchronize(piece.free), "cudaEventSynchronize");
      std::memcpy(piece.data, from.data(), n);
      CopyAsync(to, piece.data, n, cudaMemcpyHostToDevice);
      Check(cudaEventRecord(piece.free, main_), "cudaEventRecord");
      to += n;
      from = from.subspan(n);
    }
  }

  void CopyOut(std::span<uint8_t> to, const uint8_t* from) override {
    if (ok() && !to.empty()) CopyAsync(to.data(), from, to.size(), cudaMemcpyDeviceToHost);
  }

  void Zero(std::span<uint8_t> bytes) override {
    if (!ok() || bytes.empty()) return;
    Check(cudaMemsetAsync(bytes.data(), 0, bytes.size(), main_), "cudaMemsetAsync");
  }

  void Run(std::span<const Launch> launches) override {
    if (launches.size() == 1) return Start(launches[0], main_);
    if (ok()) Check(cudaEventRecord(begin_, main_), "cudaEventRecord");
    for (size_t i = 0; i < launches.size() && ok(); ++i) {
      Side& side = sides_[i % sides_.size()];
      Check(cudaStreamWaitEvent(side.stream, begin_, 0), "cudaStreamWaitEvent");
      Start(launches[i], side.stream);
      Check(cudaEventRecord(side.end, side.stream), "cudaEventRecord");
      Check(cudaStreamWaitEvent(main_, side.end, 0), "cudaStreamWaitEvent");
    }
  }

  void Run(const Sort& sort) override {
    if (!ok()) return;
    size_t bytes = sort.scratch.size();
    Check(
        cub::DeviceRadixSort::SortPairs(sort.scratch.data(), bytes, sort.keys_in, sort.keys_out,
                                        sort.values_in, sort.values_out, sort.count, 0, 64, main_),
        "sorting");
  }

  bool Synchronize(std::string* error) override {
    // Also after an error: what was begun may still read the caller's memory.
    Check(cudaStreamSynchronize(main_), "cudaStreamSynchronize");
    if (!ok()) *error = error_;
    return ok();
  }

 private:
  // A page-locked piece that memory of the caller's goes through.
  struct Piece {
    void* data = nullptr;
    cudaEvent_t free = nullptr;  // Once what is in it has been copied.
  };
  // What runs beside other launches.
  struct Side {
    cudaStream_t stream = nullptr;
    cudaEvent_t end = nullptr;
  };
  static constexpr size_t kPieceBytes = size_t{4} << 20;

  bool ok() const { return error_.empty(); }

  void Check(cudaError_t result, const char* what) {
    if (result == cudaSuccess || !error_.empty()) return;
    error_ = std::string(what) + ": " + cudaGetErrorString(result);
  }

  void CopyAsync(void* to, const void* from, size_t n, cudaMemcpyKind kind) {
    Check(cudaMemcpyAsync(to, from, n, kind, main_), "cudaMemcpyAsync");
  }

  void Start(const Launch& launch, cudaStream_t stream) {
    if (!ok() || launch.threads == 0) return;
    std::visit(
        [&]<class K>(const K& kernel) {
          constexpr unsigned kThreads = kBlockThreads<K>;
          const size_t blocks = (launch.threads + kThreads - 1) / kThreads;
          RunKernel<K>
              <<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(kernel, launch.threads);
        },
        launch.kernel);
    Check(cudaGetLastError(), "starting a kernel");
  }

  LockedRanges& locked_;
  std::string error_;  // The first there was.
  cudaStream_t main_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  std::array<Side, 4> sides_;
  std::array<Piece, 3> pieces_;
  size_t next_piece_ = 0;
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(const cudaDeviceProp& properties)
      : name_(properties.name),
        multiprocessors_(properties.multiProcessorCount),
        memory_bytes_(properties.totalGlobalMem) {}

  std::string_view name() const override { return name_; }
  size_t memory_bytes() const override { return memory_bytes_; }

  // 64 lanes of integers a multiprocessor, on all architectures of this build.
  double peak_operations() const override {
    int kilohertz = 0;
    if (Failed(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, 0))) return 0;
    return 64.0 * multiprocessors_ * kilohertz * 1e3;
  }

  std::unique_ptr<Memory> Allocate(size_t bytes) override {
    void* data = nullptr;
    if (Failed(cudaMalloc(&data, bytes))) return nullptr;
    return std::make_unique<DeviceMemory>(data, bytes);
  }

  std::unique_ptr<Memory> AllocateHost(size_t bytes) override {
    void* data = nullptr;
    if (Failed(cudaHostAlloc(&data, bytes, cudaHostAllocPortable))) return nullptr;
    return std::make_unique<LockedMemory>(data, bytes, locked_);
  }

  std::unique_ptr<Stream> NewStream() override {
    auto stream = std::make_unique<CudaStream>(locked_);
    if (stream->Init()) return stream;
    cudaGetLastError();
    return nullptr;
  }

  size_t SortScratch(size_t count) override {
    size_t bytes = 0;
    const uint64_t* keys = nullptr;
    const uint32_t* values = nullptr;
    Failed(cub::DeviceRadixSort::SortPairs(nullptr, bytes, keys, static_cast<uint64_t*>(nullptr),
                                           values, static_cast<uint32_t*>(nullptr), count));
    return bytes;
  }

  void Register(std::span<const uint8_t> memory) override {
    void* begin = const_cast<uint8_t*>(memory.data());
    if (Failed(cudaHostRegister(begin, memory.size(), cudaHostRegisterPortable))) return;
    locked_.Add(memory.data(), memory.size());
  }

  bool Registered(std::span<const uint8_t> memory) const override {
    return locked_.Contains(memory);
  }

  void Unregister(std::span<const uint8_t> memory) override {
    if (!locked_.Remove(memory.data())) return;
    Failed(cudaHostUnregister(const_cast<uint8_t*>(memory.data())));
  }

 private:
  // Takes the error out of the runtime's memory too, or the next launch would be blamed for it.
  static bool Failed(cudaError_t result) {
    if (result == cudaSuccess) return false;
    cudaGetLastError();
    return true;
  }

  const std::string name_;
  const int multiprocessors_;
  const size_t memory_bytes_;
  LockedRanges locked_;
};

// Whether there is code for this device, of all kernels, and memory for it.
template <size_t... i>
cudaError_t LoadKernels(std::index_sequence<i...>) {
  cudaError_t result = cudaSuccess;
  cudaFuncAttributes attributes{};
  ((result =
        result != cudaSuccess
            ? result
            : cudaFuncGetAttributes(&attributes, RunKernel<std::variant_alternative_t<i, Kernel>>)),
   ...);
  return result;
}

}  // namespace

std::unique_ptr<Device> OpenCudaDevice(std::string* why_not) {
  int count = 0;
  cudaError_t result = cudaGetDeviceCount(&count);
  if (result == cudaSuccess && count == 0) result = cudaErrorNoDevice;
  cudaDeviceProp properties{};
  if (result == cudaSuccess) result = cudaGetDeviceProperties(&properties, 0);
  // Who waits for the device leaves the core to others.
  if (result == cudaSuccess) result = cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync);
  if (result == cudaSuccess) {
    result = LoadKernels(std::make_index_sequence<std::variant_size_v<Kernel>>());
  }
  if (result != cudaSuccess) {
    cudaGetLastError();
    *why_not = cudaGetErrorString(result);
    return nullptr;
  }
  return std::make_unique<CudaDevice>(properties);
}

}  // namespace holdfast::kernels::cuda
