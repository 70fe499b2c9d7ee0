// How an object key is kept: wrapped under its session's sealing key, which is itself sealed to the
// domain's public key once per session and hour. Shared by ingest (wrap, seal) and readers (unwrap,
// open). docs/formats/manifest.md. Suite 1.
//
//   wrapped object key = nonce ‖ AES-256-GCM(sealing key, nonce, object key) ‖ tag   (60 bytes)
//       AAD     = suite (1 byte) ‖ domain (16) ‖ version (16)
//   sealing key box    = SealToPublicKey(domain public key, context, sealing key)    (113 bytes)
//       context = "holdfast/1 sealing key" ‖ domain (16) ‖ sealing key id (16)
//
// A wrapped key moved to another version, or a box filed under another id, does not open.
#pragma once

#include "common/base/ids.h"
#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/crypto/aead.h"
#include "common/crypto/keypair.h"

namespace holdfast {

inline constexpr size_t kWrappedKeySize = kAeadNonceSize + kAeadKeySize + kAeadTagSize;

// The context strings above, for whoever else needs them (rewrapping, tests).
Buffer ObjectKeyAad(const DomainId& domain, const VersionId& version);
Buffer SealingKeyContext(const DomainId& domain, const SealingKeyId& id);

// `nonce` is fresh from an Rng for every call.
Buffer WrapObjectKey(const AeadKey& sealing_key, const AeadNonce& nonce, const DomainId& domain,
                     const VersionId& version, const AeadKey& object_key);
// kDataLoss when it does not open.
StatusOr<AeadKey> UnwrapObjectKey(const AeadKey& sealing_key, const DomainId& domain,
                                  const VersionId& version, Bytes wrapped);

// The box that the coordinator keeps (NewSealingKey::box).
StatusOr<Buffer> SealSealingKey(const PublicKey& domain_public_key, const DomainId& domain,
                                const SealingKeyId& id, const AeadKey& sealing_key);
// kPermissionDenied when it does not open under this private key; kDataLoss when what opens is not
// a key.
StatusOr<AeadKey> OpenSealingKey(const KeyPair& domain_key_pair, const DomainId& domain,
                                 const SealingKeyId& id, Bytes box);

}  // namespace holdfast
