// Keys from shared secrets and from passphrases, through EVP.
#pragma once

#include <array>
#include <string_view>

#include "common/base/bytes.h"

namespace holdfast {

// HKDF-SHA-256 (RFC 5869), extract and expand; fills `out` (at most 255 * 32 bytes).
void HkdfSha256(Bytes secret, Bytes salt, Bytes info, MutableBytes out);

struct ScryptCost {
  uint64_t n = 1u << 16;  // A power of two; 128 * n * r bytes of memory.
  uint32_t r = 8;
  uint32_t p = 1;
};
// scrypt (RFC 7914); fills `out`. False when there is not enough memory.
[[nodiscard]] bool Scrypt(std::string_view passphrase, Bytes salt, const ScryptCost& cost,
                          MutableBytes out);

}  // namespace holdfast
