// HMAC-SHA-256 and SHA-256 through OpenSSL 3's EVP, started from precomputed inner and outer
// states, so that a short message costs two hash calls and no allocation. FIPS 198-1, FIPS 180-4.
#pragma once

#include <array>
#include <initializer_list>
#include <memory>

#include "common/base/bytes.h"

namespace holdfast {

using Hash256 = std::array<uint8_t, 32>;

// SHA-256 of the concatenation of `parts`.
Hash256 Sha256(std::initializer_list<Bytes> parts);
inline Hash256 Sha256(Bytes data) { return Sha256({data}); }

// A keyed HMAC; immutable after construction, thread-safe, cheap to call.
class Hmac {
 public:
  explicit Hmac(Bytes key);
  ~Hmac();
  Hmac(Hmac&&) noexcept;
  Hmac& operator=(Hmac&&) noexcept;
  // HMAC of the concatenation of `parts`.
  Hash256 operator()(std::initializer_list<Bytes> parts) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// One-shot HMAC-SHA-256 under a 32-byte key, as used to derive keys: HMAC(key, label ‖ more).
Hash256 HmacSha256(Bytes key, std::initializer_list<Bytes> parts);

bool ConstantTimeEqual(Bytes a, Bytes b);

}  // namespace holdfast
