// Strong types for the names of things, so that a segment's uuid never passes for a node's.
#pragma once

#include <algorithm>
#include <array>
#include <compare>
#include <cstring>
#include <string>

#include "common/base/bytes.h"

namespace holdfast {

template <class Tag, size_t N>
struct FixedId {
  static constexpr size_t kSize = N;
  std::array<uint8_t, N> value{};

  auto operator<=>(const FixedId&) const = default;
  Bytes bytes() const { return value; }
  std::string hex() const { return ToHex(value); }
  bool is_zero() const { return *this == FixedId{}; }
  // Bytes of any other length give the zero id, which names nothing.
  static FixedId FromBytes(Bytes b) {
    FixedId id;
    if (b.size() == N) std::copy(b.begin(), b.end(), id.value.begin());
    return id;
  }
  template <typename H>
  friend H AbslHashValue(H h, const FixedId& id) {
    return H::combine_contiguous(std::move(h), id.value.data(), N);
  }
};

using VaultId = FixedId<struct VaultIdTag, 16>;
using DomainId = FixedId<struct DomainIdTag, 16>;
using NodeId = FixedId<struct NodeIdTag, 16>;
using DiskIncarnation = FixedId<struct DiskIncarnationTag, 16>;
using SegmentId = FixedId<struct SegmentIdTag, 16>;
using VersionId = FixedId<struct VersionIdTag, 16>;
using SessionId = FixedId<struct SessionIdTag, 16>;
using SealingKeyId = FixedId<struct SealingKeyIdTag, 16>;
// Who wrote a record: the first 16 bytes of SHA-256 of the writer's public signing key.
using WriterId = FixedId<struct WriterIdTag, 16>;
// Public address of a record: a chunk, a manifest part or a commit record.
using RecordId = FixedId<struct RecordIdTag, 32>;
// HMAC of an object digest under K_dedup (DESIGN 5, "tag").
using ObjectTag = FixedId<struct ObjectTagTag, 32>;
// XXH3-128 of the stored bytes, canonical (big-endian) form.
using Checksum = FixedId<struct ChecksumTag, 16>;
// A principal's public key, which is also its name.
using CurvePublicKey = FixedId<struct CurvePublicKeyTag, 32>;

}  // namespace holdfast
