// Walks the chunks of an opened object in order, with their offsets; parts of a long manifest are
// fetched one at a time, so that memory does not grow with the object.
#pragma once

#include <optional>

#include "client/vault.h"

namespace holdfast {

struct PlacedChunk {
  ChunkRef ref;
  SealedChunkInfo info;
  uint64_t offset = 0;  // In the object.
};

class ChunkCursor {
 public:
  // Both outlive the cursor.
  ChunkCursor(Vault& vault, const Vault::OpenedObject& object) : vault_(vault), object_(object) {}

  bool at_end() const { return next_ == object_.info.manifest.chunk_count; }
  // Not at the end. kDataLoss when a part is damaged or the lengths do not add up to the size.
  // Messages leave out which object it is.
  StatusOr<PlacedChunk> Next();

 private:
  Vault& vault_;
  const Vault::OpenedObject& object_;
  uint64_t next_ = 0;    // Which chunk,
  uint64_t offset_ = 0;  // and where it starts.
  ManifestPart part_;    // The one that next_ - 1 lies in, where there are parts.
};

}  // namespace holdfast
