// A sealed chunk as bytes of its own.
#pragma once

#include "common/crypto/domain_keys.h"

namespace holdfast::testing {

// Sealed into memory that was used before: every byte of it has to be written.
inline Buffer Sealed(const Hash256& h, const RecordId& id, Codec codec, Bytes payload) {
  Buffer out(SealedChunkLength(payload.size()), 0xEE);
  SealChunk(h, id, codec, payload, out);
  return out;
}

}  // namespace holdfast::testing
