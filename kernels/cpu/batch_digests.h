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
  // What jobs share.
  enum class Sharing {
    kNothing,     // Every job is whole.
    kBeginnings,  // An object of several chunks goes on from its first chunk's SHA-256.
    kBlocks       // Also, the three digests of an object are one job of all(), but for its end.
  };
  // Chunks have their lengths, and `consumed` is their sum. Moves the states' lengths and tails on;
  // borrows messages, their data and states.
  BatchDigests(std::span<Message* const> messages, Sharing sharing);
  BatchDigests(const BatchDigests&) = delete;
  BatchDigests& operator=(const BatchDigests&) = delete;

  // To be run before the others.
  std::span<LaneJob> all() { return all_; }
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

  void Add(Message& message);
  void AddTogether(Message& message, const BlockPlan& plan, bool fresh);
  void AddChunks(Message& message);

  std::span<Message* const> messages_;
  const Sharing sharing_;
  // Jobs borrow plans and states, so all vectors are made at their size.
  std::vector<BlockPlan> plans_;     // Of the messages.
  std::vector<ChunkDigest> chunks_;  // Of the chunks that are not whole objects.
  std::vector<LaneJob> all_, sha256_, sha1_, md5_;
  std::vector<LaneJob> forks_;  // What goes on from, or ends, where another has got.
};

}  // namespace holdfast::kernels
