// Reading content back: chunks are fetched from the best replica, opened, and checked against
// everything their identity says (SHA-256, Poly1305, h, id) before a byte is handed out.
#pragma once

#include <functional>

#include "client/vault.h"

namespace holdfast {

// One opened chunk's plaintext, checked. Tries every replica of the acting set; kDataLoss names
// what was wrong on each when none is good, kUnavailable when they could not be reached.
StatusOr<Buffer> ReadChunk(Vault& vault, const ChunkRef& ref, const SealedChunkInfo& info);

// Calls sink with the bytes [begin, end) of the object, in order; end is clipped to its size.
// Reads ahead, in bounded memory. A whole read also checks the object's digests and returns
// kDataLoss after the last byte when they differ.
Status ReadObject(Vault& vault, const Vault::OpenedObject& object, uint64_t begin, uint64_t end,
                  const std::function<Status(Bytes)>& sink);

}  // namespace holdfast
