// What there is to digest in a batch whose cuts are made: the jobs of each algorithm, and where
// their results go. Who runs the jobs is free: lanes of the CPU, a device, or one after the other.
#pragma once

#include <span>
#include <vector>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/object_digest.h"
#include "kernels/engine.h"

namespace holdfast::kernels {

class BatchDigests {
 public:
  // Chunks have their lengths, and `consumed` is their sum. Moves the states' lengths and tails on;
  // borrows messages, their data and states. With `forks`, an object of several chunks goes on from
  // its first chunk's state (LaneJob::fork); else every job is whole.
  BatchDigests(std::span<Message* const> messages, bool forks);
  BatchDigests(const BatchDigests&) = delete;
  BatchDigests& operator=(const BatchDigests&) = delete;

  std::span<LaneJob> sha256() { return sha256_; }
  std::span<LaneJob> sha1() { return sha1_; }
  std::span<LaneJob> md5() { return md5_; }

  // Once all jobs have run: SHA-256 of the chunks, and the digests of objects that ended.
  void Conclude();

 private:
  // SHA-256 of one chunk of an object of several.
  struct ChunkDigest {
    ChunkDigest(Chunk* chunk, std::span<const uint8_t> data);

    Chunk* chunk;
    DigestState state;
    BlockPlan plan;
  };

  void Add(Message& message, bool forks);
  void AddChunks(Message& message);

  std::span<Message* const> messages_;
  // Jobs borrow plans and states, so all vectors are made at their size.
  std::vector<BlockPlan> plans_;     // Of the messages.
  std::vector<ChunkDigest> chunks_;  // Of the chunks that are not whole objects.
  std::vector<LaneJob> sha256_, sha1_, md5_;
  std::vector<LaneJob> forks_;  // Objects that go on from their first chunk.
};

}  // namespace holdfast::kernels
