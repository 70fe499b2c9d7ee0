#include "client/object_keys.h"

#include "common/base/coding.h"
#include "common/crypto/domain_keys.h"

namespace holdfast {
namespace {

StatusOr<AeadKey> AsKey(Bytes bytes, std::string_view what) {
  if (bytes.size() != kAeadKeySize) {
    return absl::DataLossError(std::string(what) + ": wrong length");
  }
  AeadKey key;
  std::copy(bytes.begin(), bytes.end(), key.begin());
  return key;
}

}  // namespace

Buffer ObjectKeyAad(const DomainId& domain, const VersionId& version) {
  Buffer aad;
  Writer w(aad);
  w.U8(kSuite1);
  w.Id(domain);
  w.Id(version);
  return aad;
}

Buffer SealingKeyContext(const DomainId& domain, const SealingKeyId& id) {
  Buffer context;
  Writer w(context);
  w.Raw(AsBytes("holdfast/1 sealing key"));
  w.Id(domain);
  w.Id(id);
  return context;
}

Buffer WrapObjectKey(const AeadKey& sealing_key, const AeadNonce& nonce, const DomainId& domain,
                     const VersionId& version, const AeadKey& object_key) {
  return AeadSealWithNonce(sealing_key, nonce, ObjectKeyAad(domain, version), object_key);
}

StatusOr<AeadKey> UnwrapObjectKey(const AeadKey& sealing_key, const DomainId& domain,
                                  const VersionId& version, Bytes wrapped) {
  ASSIGN_OR_RETURN(Buffer key, AeadOpenWithNonce(sealing_key, ObjectKeyAad(domain, version),
                                                 wrapped, "wrapped object key"));
  return AsKey(key, "wrapped object key");
}

StatusOr<Buffer> SealSealingKey(const PublicKey& domain_public_key, const DomainId& domain,
                                const SealingKeyId& id, const AeadKey& sealing_key) {
  return SealToPublicKey(domain_public_key, SealingKeyContext(domain, id), sealing_key);
}

StatusOr<AeadKey> OpenSealingKey(const KeyPair& domain_key_pair, const DomainId& domain,
                                 const SealingKeyId& id, Bytes box) {
  ASSIGN_OR_RETURN(Buffer key,
                   OpenWithPrivateKey(domain_key_pair, SealingKeyContext(domain, id), box));
  return AsKey(key, "sealing key");
}

}  // namespace holdfast
