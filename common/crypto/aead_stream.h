// AES-256-GCM in pieces, for callers in this folder whose plaintext does not lie in one piece. One
// stream per thread at a time: it borrows this thread's cipher context.
#pragma once

#include "common/crypto/aead.h"

namespace holdfast {

class AeadEncryptor {
 public:
  AeadEncryptor(const AeadKey& key, const AeadNonce& nonce, Bytes aad);
  // Writes in.size() bytes to `out`, which may be `in`.
  void Update(Bytes in, uint8_t* out);
  void Tag(std::span<uint8_t, kAeadTagSize> tag);
};

class AeadDecryptor {
 public:
  AeadDecryptor(const AeadKey& key, const AeadNonce& nonce, Bytes aad);
  // Writes in.size() bytes to `out`, which may be `in`. They are anybody's until Verify says true.
  void Update(Bytes in, uint8_t* out);
  [[nodiscard]] bool Verify(std::span<const uint8_t, kAeadTagSize> tag);
};

}  // namespace holdfast
