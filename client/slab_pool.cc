#include "client/slab_pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

namespace holdfast {
namespace {

constexpr size_t kHugePage = 2u << 20;

}  // namespace

SlabPool::SlabPool(size_t slab_bytes, size_t count)
    : slab_bytes_(slab_bytes),
      stride_((slab_bytes + kHugePage - 1) / kHugePage * kHugePage),
      total_(stride_ * count) {
  void* memory = ::mmap(nullptr, total_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    ::fprintf(stderr, "holdfast: no memory for %zu buffers of %zu bytes\n", count, slab_bytes);
    ::abort();
  }
  memory_ = static_cast<uint8_t*>(memory);
  ::madvise(memory, total_, MADV_HUGEPAGE);
}

SlabPool::~SlabPool() { ::munmap(memory_, total_); }

}  // namespace holdfast
