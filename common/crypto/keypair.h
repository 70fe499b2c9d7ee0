// P-256 keys: signatures (ECDSA with SHA-256, FIPS 186-5) and sealing to a public key (ephemeral
// ECDH, HKDF-SHA-256 (RFC 5869), AES-256-GCM). Keys travel as raw bytes.
#pragma once

#include <array>

#include "common/base/bytes.h"
#include "common/base/rng.h"
#include "common/base/status.h"

namespace holdfast {

using PublicKey = std::array<uint8_t, 65>;   // Uncompressed point.
using PrivateKey = std::array<uint8_t, 32>;  // Big-endian scalar.

struct KeyPair {
  PublicKey public_key{};
  PrivateKey private_key{};
};

KeyPair GenerateKeyPair();
// Whether the two halves belong together; false also when either is malformed.
bool KeyPairMatches(const KeyPair& key);

// DER-encoded ECDSA signature of SHA-256(message).
StatusOr<Buffer> Sign(const KeyPair& key, Bytes message);
bool VerifySignature(const PublicKey& key, Bytes message, Bytes signature);

// ephemeral public key (65) ‖ ciphertext ‖ tag. `context` is bound in as HKDF info and AAD.
StatusOr<Buffer> SealToPublicKey(const PublicKey& to, Bytes context, Bytes plaintext);
// kPermissionDenied when it does not open under this key.
StatusOr<Buffer> OpenWithPrivateKey(const KeyPair& key, Bytes context, Bytes box);

}  // namespace holdfast
