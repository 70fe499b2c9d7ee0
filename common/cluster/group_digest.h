// What a node holds of one placement group, in 24 bytes: two nodes that hold the same records give
// the same, so that replicas are compared without listing them (anti-entropy, DESIGN 7).
//
// A sum over all records, so it is kept up to date as records come, and their order does not
// matter. It finds what is missing or differs by accident; it proves nothing against a node that
// lies.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"

namespace holdfast {

struct GroupDigest {
  uint64_t count = 0;
  uint64_t low = 0, high = 0;  // Sum, each modulo 2^64, of the halves of XXH3-128(id ‖ checksum).

  void Add(const RecordId& id, const Checksum& checksum);
  void Remove(const RecordId& id, const Checksum& checksum);
  bool operator==(const GroupDigest&) const = default;
};

// All groups, in order, 24 bytes each.
std::string EncodeGroupDigests(const std::vector<GroupDigest>& digests);
// kInvalidArgument unless there is one for each placement group.
StatusOr<std::vector<GroupDigest>> DecodeGroupDigests(const std::string& bytes);

}  // namespace holdfast
