// Seals chunks: picks the codec, checks that the plaintext is still what was digested, encrypts.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/crypto/domain_keys.h"

namespace holdfast {

// A chunk as the engine cut it, with what it was found to be.
struct ChunkIdentity {
  RecordId id;
  Hash256 h{};
  std::array<uint8_t, 16> poly1305{};  // x
  uint32_t length = 0;                 // Of the plaintext.
};

struct SealedChunk {
  SharedBytes frame;
  Checksum checksum;
};

// Holds scratch memory; one thread at a time.
class Sealer {
 public:
  // `together`: chunks are sealed into blocks of memory, one behind the other, so that those of one
  // request are sent as they lie. A block is freed when its last chunk is: not for where one of
  // many nodes could keep blocks of which little is its own.
  explicit Sealer(const DomainKeys& keys, bool together = false);
  ~Sealer();

  // zstd where it makes the chunk at least 5 % smaller, else raw. The same plaintext always gives
  // the same bytes. kDataLoss when x, taken again of what is sealed, is no longer the chunk's:
  // memory changed between digesting and sealing.
  StatusOr<SealedChunk> Seal(const ChunkIdentity& chunk, Bytes plain);

  // These frames are now sent in one request: where they are all of a block, the next chunk begins
  // another.
  void Sent(const std::vector<SharedBytes>& frames);

  // Whether `stored` is the chunk: it opens, and its plaintext has the id. kDataLoss if not.
  Status Check(const ChunkIdentity& chunk, Bytes stored);

 private:
  struct Scratch;
  bool Matches(const ChunkIdentity& chunk, Bytes plain) const;
  // Memory that nobody has written to, and who keeps it.
  std::pair<std::shared_ptr<const void>, MutableBytes> NewFrame(size_t size);
  // The compressed form when it pays, else nothing.
  Bytes Compress(Bytes plain);
  StatusOr<Bytes> Decompress(Bytes payload, size_t length);

  const DomainKeys& keys_;
  const bool together_;
  std::unique_ptr<Scratch> scratch_;
};

// Bits per byte of the order-0 entropy of samples spread over `data`: 8 for noise, which is what
// media and encrypted files look like.
double SampledEntropy(Bytes data);

}  // namespace holdfast
