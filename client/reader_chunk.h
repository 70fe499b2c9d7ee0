// One chunk, from stored bytes to checked plaintext.
#pragma once

#include "client/reader_gets.h"
#include "client/vault.h"

namespace holdfast {

// Opens `stored` and decompresses it into `out`, which has info.length bytes. kDataLoss when it
// does not open to that many bytes; `out` is then void. What comes out is genuine as far as the
// holder of the chunk's key made it; HasIdentity says whether it is the content.
Status OpenChunkInto(const ChunkRef& ref, const SealedChunkInfo& info, Bytes stored,
                     MutableBytes out);

// Whether a plaintext with this SHA-256 and Poly1305, and info.length bytes, is the chunk.
bool HasIdentity(const DomainKeys& keys, const ChunkRef& ref, const SealedChunkInfo& info,
                 Bytes sha256, Bytes poly1305);
// The same for the plaintext itself.
bool HasIdentity(const DomainKeys& keys, const ChunkRef& ref, const SealedChunkInfo& info,
                 Bytes plaintext);

// Both steps.
Status OpenAndCheck(const DomainKeys& keys, const ChunkRef& ref, const SealedChunkInfo& info,
                    Bytes stored, MutableBytes out);

// Tells the node to set aside the record it gave, which does not open to its chunk; true when it
// has put another in its place. Waits; a node that does not answer leaves it for the next reader.
bool QuarantineRecord(Transport& transport, const GetAnswer& answer);

// The object digests that a manifest records (kernels::DigestSet).
uint32_t RecordedDigests(const SealedManifest& sealed);

// "chunk 0123456789abcdef": enough of the id to find it by.
std::string ChunkName(const RecordId& id);

}  // namespace holdfast
