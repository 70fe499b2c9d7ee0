// Page-aligned memory for direct I/O, not zeroed. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "common/base/bytes.h"
#include "common/io/fs.h"

namespace holdfast {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t capacity) { Grow(capacity, 0); }

  uint8_t* data() { return memory_.get(); }
  const uint8_t* data() const { return memory_.get(); }
  size_t capacity() const { return capacity_; }

  // Makes room for `capacity` bytes; the first `keep` bytes stay, as far as there were any.
  void Grow(size_t capacity, size_t keep) {
    if (capacity <= capacity_) return;
    capacity = (capacity + kDirectAlign - 1) / kDirectAlign * kDirectAlign;
    void* memory = std::aligned_alloc(kDirectAlign, capacity);
    if (memory == nullptr) std::abort();  // As operator new would: nothing can be done here.
    std::unique_ptr<uint8_t, Free> grown(static_cast<uint8_t*>(memory));
    keep = std::min(keep, capacity_);
    if (keep > 0) std::memcpy(grown.get(), memory_.get(), keep);
    memory_ = std::move(grown);
    capacity_ = capacity;
  }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, Free> memory_;
  size_t capacity_ = 0;
};

}  // namespace holdfast
