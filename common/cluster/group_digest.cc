#include "common/cluster/group_digest.h"

#include <algorithm>

#include "common/base/coding.h"
#include "common/cluster/cluster_map.h"
#include "common/crypto/domain_keys.h"

namespace holdfast {
namespace {

constexpr size_t kEncoded = 24;

struct Element {
  uint64_t low, high;
};

Element ElementOf(const RecordId& id, const Checksum& checksum) {
  std::array<uint8_t, RecordId::kSize + Checksum::kSize> both;
  std::copy_n(id.bytes().data(), RecordId::kSize, both.data());
  std::copy_n(checksum.bytes().data(), Checksum::kSize, both.data() + RecordId::kSize);
  const Checksum hash = ChecksumOf(both);
  Reader reader(hash.bytes());
  const uint64_t low = reader.U64();
  return {low, reader.U64()};
}

}  // namespace

void GroupDigest::Add(const RecordId& id, const Checksum& checksum) {
  const Element element = ElementOf(id, checksum);
  ++count;
  low += element.low;
  high += element.high;
}

void GroupDigest::Remove(const RecordId& id, const Checksum& checksum) {
  const Element element = ElementOf(id, checksum);
  --count;
  low -= element.low;
  high -= element.high;
}

std::string EncodeGroupDigests(const std::vector<GroupDigest>& digests) {
  Buffer out;
  Writer writer(out);
  for (const GroupDigest& digest : digests) {
    writer.U64(digest.count);
    writer.U64(digest.low);
    writer.U64(digest.high);
  }
  return ToString(out);
}

StatusOr<std::vector<GroupDigest>> DecodeGroupDigests(const std::string& bytes) {
  if (bytes.size() != kPlacementGroups * kEncoded) {
    return absl::InvalidArgumentError("a list of group digests has an impossible length");
  }
  Reader reader(AsBytes(bytes));
  std::vector<GroupDigest> digests(kPlacementGroups);
  for (GroupDigest& digest : digests) {
    digest.count = reader.U64();
    digest.low = reader.U64();
    digest.high = reader.U64();
  }
  return digests;
}

}  // namespace holdfast
