#include "coordinator/parts.h"

#include <algorithm>

namespace holdfast {

Hash256 PartDigest(Bytes clear, Bytes sealed) { return Sha256({clear, sealed}); }

Buffer MakePartRecord(const CatalogueKeys& keys, const RecordId& id, Bytes clear, Bytes sealed) {
  const Hash256 derived = HmacSha256(keys.parts, {id.bytes(), PartDigest(clear, sealed)});
  AeadNonce nonce;
  std::copy_n(derived.begin(), nonce.size(), nonce.begin());
  return EncodePartRecord(keys.parts, id, clear, sealed, nonce);
}

void GetPart(NodeClient& nodes, const CatalogueKeys& keys, const RecordId& id,
             const std::string& what, std::optional<Hash256> digest, int64_t timeout_nanos,
             std::function<void(StatusOr<PartRecord>)> done) {
  auto part = std::make_shared<PartRecord>();
  auto check = [&keys, id, digest, part](Bytes stored) -> Status {
    ASSIGN_OR_RETURN(*part, DecodePartRecord(keys.parts, id, stored));
    if (digest && PartDigest(part->clear, part->sealed) != *digest) {
      return absl::DataLossError("it is not the part that the manifest names");
    }
    return absl::OkStatus();
  };
  nodes.GetRecord(id, what, check, timeout_nanos,
                  [part, done = std::move(done)](StatusOr<SharedBytes> bytes) {
                    if (!bytes.ok()) {
                      done(bytes.status());
                    } else {
                      done(std::move(*part));
                    }
                  });
}

}  // namespace holdfast
