// A sliding view of a file's bytes for scanning, filled by large direct reads. Not thread-safe.
#pragma once

#include <set>

#include "common/io/fs.h"
#include "node/aligned_buffer.h"

namespace holdfast {

class Window {
 public:
  // Reads `step` bytes at a time, or more the longer it goes on without a gap, nothing beyond
  // `end`; where a view lies further on than `step`, only the blocks of the view.
  Window(File& file, uint64_t end, size_t step)
      : file_(file), end_(end), step_(step), next_(step) {}

  // The bytes [offset, offset + length), fewer at the end. Valid until the next call. Blocks that
  // cannot be read give zeros.
  Bytes View(uint64_t offset, uint64_t length);
  bool Unreadable(uint64_t begin, uint64_t end) const;
  bool AllZero(uint64_t begin, uint64_t end);

 private:
  void Fill(uint64_t begin, uint64_t length);

  File& file_;
  const uint64_t end_;
  const size_t step_;
  size_t next_;  // How much is read next, where there is no gap.
  AlignedBuffer buffer_;
  uint64_t begin_ = 0;             // File offset of the buffer.
  uint64_t filled_ = 0;            // Valid bytes in it.
  std::set<uint64_t> unreadable_;  // Blocks, by offset.
};

}  // namespace holdfast
