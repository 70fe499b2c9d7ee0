// The memory that sources are read into: a fixed number of equal slabs, page-aligned, in huge pages
// where the system gives them. Nothing else in an ingest grows with the size of a file.
#pragma once

#include <cstddef>

#include "common/base/bytes.h"

namespace holdfast {

class SlabPool {
 public:
  // Ends the process when there is no memory. Pages are taken when first written.
  SlabPool(size_t slab_bytes, size_t count);
  ~SlabPool();
  SlabPool(const SlabPool&) = delete;
  SlabPool& operator=(const SlabPool&) = delete;

  Bytes all() const { return {memory_, total_}; }
  MutableBytes slab(size_t i) { return {memory_ + i * stride_, slab_bytes_}; }

 private:
  size_t slab_bytes_;
  size_t stride_;  // From one slab to the next.
  size_t total_;
  uint8_t* memory_;
};

}  // namespace holdfast
