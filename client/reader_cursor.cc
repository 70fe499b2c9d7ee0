#include "client/reader_cursor.h"

namespace holdfast {

StatusOr<PlacedChunk> ChunkCursor::Next() {
  const ClearManifest& manifest = object_.info.manifest;
  PlacedChunk chunk{.offset = offset_};
  if (manifest.parts.empty()) {
    chunk.ref = manifest.chunks[next_];
    chunk.info = object_.sealed.chunks[next_];
  } else {
    const size_t within = next_ % kChunksPerPart;
    if (within == 0) {
      ASSIGN_OR_RETURN(part_, vault_.Part(object_, static_cast<uint32_t>(next_ / kChunksPerPart)));
    }
    chunk.ref = part_.chunks[within];
    chunk.info = part_.sealed_chunks[within];
  }
  ++next_;
  offset_ += chunk.info.length;
  if (offset_ > object_.sealed.size || (at_end() && offset_ != object_.sealed.size)) {
    return absl::DataLossError("its manifest contradicts itself (size)");
  }
  return chunk;
}

}  // namespace holdfast
