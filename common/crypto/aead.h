// AES-256-GCM (NIST SP 800-38D) through EVP. Suite 1's AEAD.
#pragma once

#include <array>

#include "common/base/bytes.h"
#include "common/base/status.h"

namespace holdfast {

inline constexpr size_t kAeadKeySize = 32;
inline constexpr size_t kAeadNonceSize = 12;
inline constexpr size_t kAeadTagSize = 16;

using AeadKey = std::array<uint8_t, kAeadKeySize>;
using AeadNonce = std::array<uint8_t, kAeadNonceSize>;

// Writes ciphertext ‖ tag to `out` (plaintext.size() + 16 bytes; may start at plaintext.data()).
// Never use one (key, nonce) for two plaintexts.
void AeadSeal(const AeadKey& key, const AeadNonce& nonce, Bytes aad, Bytes plaintext,
              MutableBytes out);
// False when the tag does not match; `out` (sealed.size() - 16 bytes) is then void.
[[nodiscard]] bool AeadOpen(const AeadKey& key, const AeadNonce& nonce, Bytes aad, Bytes sealed,
                            MutableBytes out);

// nonce ‖ ciphertext ‖ tag, the nonce given by the caller (fresh from Rng, or derived).
Buffer AeadSealWithNonce(const AeadKey& key, const AeadNonce& nonce, Bytes aad, Bytes plaintext);
// kDataLoss when `box` is too short or does not open. `what` names it in the message.
StatusOr<Buffer> AeadOpenWithNonce(const AeadKey& key, Bytes aad, Bytes box, std::string_view what);

}  // namespace holdfast
