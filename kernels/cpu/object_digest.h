// The bookkeeping between byte slices of any length and digests that take 64-byte blocks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/stream.h"
#include "kernels/engine.h"

namespace holdfast::kernels {

// A row of whole 64-byte blocks.
struct BlockRun {
  const uint8_t* data = nullptr;
  size_t blocks = 0;
};

// The whole blocks that a slice completes, in order: the tail of the slices before filled up
// (head), the slice itself (body), and, at the end of the object, its padding (ending). The three
// digests take the same blocks, but for the byte order of the length in the padding. Borrows the
// slice; `runs()` points into this object, which must stay where it is meanwhile.
class BlockPlan {
 public:
  // Plans for `data` after what `state` has taken, and moves the state's length and tail on; its
  // chaining values are moved on by who runs the blocks. With `last`, no tail is kept.
  BlockPlan(DigestState& state, std::span<const uint8_t> data, bool last);

  // What to run through a digest whose length is written big-endian (SHA) or not (MD5).
  std::array<BlockRun, 3> runs(bool big_endian) const;

 private:
  void MakeEnding(const uint8_t* tail, size_t tail_size, uint64_t length);

  std::array<uint8_t, 64> head_;
  std::array<uint8_t, 128> ending_be_, ending_le_;
  BlockRun body_;
  size_t head_blocks_ = 0;
  size_t ending_blocks_ = 0;
};

// Runs the plan's blocks through the digests named, in `state`, one stream after the other.
void RunPlan(const StreamCode& code, const BlockPlan& plan, uint32_t digests, DigestState& state);

// The digests named, from chaining values that have taken the padding.
Digests DigestBytes(const DigestState& state, uint32_t digests);

// SHA-256 of a message.
std::array<uint8_t, 32> Sha256With(const StreamCode& code, std::span<const uint8_t> data);

}  // namespace holdfast::kernels
