// What the device engine asks of a device: memory, copies, and the kernels by name.
//
// There are two: CUDA's (cuda_device.cu) and a host twin (host_device.h), which runs the same code
// thread by thread in a loop, so that all but the calls into CUDA is tested on any machine.
//
// A kernel is a plain struct: what one launch works on. The code of one thread is an overload of
// RunThread in bodies.h. Pointers are device pointers, unless a comment says otherwise.
//
// Errors. Allocations give null. A stream that met an error does nothing more, and says what it was
// when it is next synchronised. What a device has lost, it does not get back: the engine stops
// using it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "kernels/core/duplicates.h"
#include "kernels/core/table.h"

namespace holdfast::kernels::cuda {

// Loads are of whole 16 bytes, so data is readable this far before its begin and past its end.
constexpr size_t kSlack = 64;

// The cut rule's numbers (kernels/core/cut.h).
struct CutRule {
  uint64_t prefilter_multiplier, prefilter_offset;
  uint64_t confirm_seed, confirm_multipliers[8], final_multiplier;
  uint32_t average;
};

// Positions of one buffer, whatever messages lie in it: bit i of `candidates` stands for a cut
// before byte i, and bit j of `summary` says that word j of the candidates is not 0.
struct Prefilter {      // A thread for each word of candidates; the one writer of it.
  const uint8_t* data;  // 16-aligned.
  uint32_t* candidates;
  uint64_t multiplier, offset;
};
struct Confirm {  // A thread for each word of the summary; drops what the loose threshold refuses.
  const uint8_t* data;
  uint32_t* candidates;
  uint32_t* summary;
  CutRule rule;
};

struct CutMessage {
  uint64_t begin;      // In data.
  uint64_t size;       // < 2^32.
  uint32_t last;       // 1: the object ends here.
  uint32_t first_end;  // Where its cuts go in `ends`; there is room for size / min_size + 1.
};
struct Select {  // A thread for each message.
  const uint8_t* data;
  const uint32_t* candidates;
  const uint32_t* summary;
  CutRule rule;
  const CutMessage* messages;
  uint32_t* ends;    // Of the chunks, from the message's begin.
  uint32_t* counts;  // Of chunks, by message.
};

// Rows of whole 64-byte blocks, taken one after the other, from any address.
struct DigestJob {
  const uint8_t* data[3];
  uint32_t blocks[3];
  uint32_t reserved;
};
enum class Algorithm : uint8_t { kSha256, kSha1, kMd5 };
template <Algorithm algorithm>
struct Digest {  // A thread for each job, the longest first.
  const DigestJob* jobs;
  uint32_t* states;  // Chaining values, in and out; a job's words side by side.
};

struct MacJob {
  const uint8_t* data;
  uint64_t size;
};
struct Mac {  // A thread for each job.
  const MacJob* jobs;
  uint64_t key[4];  // r ‖ s, little-endian.
  uint8_t (*tags)[16];
};

struct MarkRuns {  // A thread for each chunk, by its place in the sorted order.
  const uint64_t* keys;
  const uint32_t* order;
  uint64_t count;
  const core::duplicates::Digest* digests;
  uint32_t* first;
};

struct TableInsert {  // A thread for each fingerprint.
  core::table::Slot* table;
  uint64_t slots;
  const uint64_t* fingerprints;
  uint64_t epoch;
  uint8_t* added;  // core::table::Added.
};
struct TableFind {  // A thread for each fingerprint.
  const core::table::Slot* table;
  uint64_t slots;
  const uint64_t* fingerprints;
  uint64_t as_of;
  uint8_t* found;
};

using Kernel =
    std::variant<Prefilter, Confirm, Select, Digest<Algorithm::kSha256>, Digest<Algorithm::kSha1>,
                 Digest<Algorithm::kMd5>, Mac, MarkRuns, TableInsert, TableFind>;
struct Launch {
  Kernel kernel;
  size_t threads;
};

// A stable sort of n keys with their values. `scratch` holds Device::SortScratch(n) bytes.
struct Sort {
  const uint64_t* keys_in;
  uint64_t* keys_out;
  const uint32_t* values_in;
  uint32_t* values_out;
  size_t count;
  std::span<uint8_t> scratch;
};

// Owns memory of the device, or page-locked memory of the host; at least 256-aligned.
class Memory {
 public:
  virtual ~Memory() = default;
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 protected:
  Memory(uint8_t* data, size_t size) : data_(data), size_(size) {}
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

 private:
  uint8_t* const data_;
  const size_t size_;
};

// Work in order. Calls return at once; host memory they name must stay as it is until Synchronize.
// One thread at a time.
class Stream {
 public:
  virtual ~Stream() = default;
  // From page-locked or registered memory without a copy; else by way of page-locked pieces.
  virtual void CopyIn(uint8_t* to, std::span<const uint8_t> from) = 0;
  // `to` is page-locked.
  virtual void CopyOut(std::span<uint8_t> to, const uint8_t* from) = 0;
  virtual void Zero(std::span<uint8_t> bytes) = 0;
  // Launches that may run side by side; what comes next waits for all of them.
  virtual void Run(std::span<const Launch> launches) = 0;
  virtual void Run(const Sort& sort) = 0;
  // Waits for everything so far; false, with a line that says what failed, if anything did.
  virtual bool Synchronize(std::string* error) = 0;

  void Run(const Kernel& kernel, size_t threads) {
    const Launch launch{kernel, threads};
    Run(std::span(&launch, 1));
  }
};

// Thread-safe.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;  // "NVIDIA H200"
  // 32-bit integer operations a second that it could do at best; 0: unknown.
  virtual double peak_operations() const = 0;
  virtual size_t memory_bytes() const = 0;
  // Null when there is no such memory left.
  virtual std::unique_ptr<Memory> Allocate(size_t bytes) = 0;
  virtual std::unique_ptr<Memory> AllocateHost(size_t bytes) = 0;
  virtual std::unique_ptr<Stream> NewStream() = 0;
  virtual size_t SortScratch(size_t count) = 0;
  // Page-locks memory of the caller's, or does without.
  virtual void Register(std::span<const uint8_t> memory) = 0;
  virtual void Unregister(std::span<const uint8_t> memory) = 0;
  // Whether all of it lies in one piece that was registered.
  virtual bool Registered(std::span<const uint8_t> memory) const = 0;
};

}  // namespace holdfast::kernels::cuda
