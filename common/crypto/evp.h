// For common/crypto only: owners of OpenSSL objects, and the check for calls that fail only when
// memory runs out or the library is broken. Algorithms are fetched once per process and never
// freed, so that a thread that still runs at exit finds them.
#pragma once

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "common/base/bytes.h"

namespace holdfast {

template <auto Free>
struct EvpFree {
  template <class T>
  void operator()(T* p) const {
    Free(p);
  }
};
using MdCtx = std::unique_ptr<EVP_MD_CTX, EvpFree<EVP_MD_CTX_free>>;
using CipherCtx = std::unique_ptr<EVP_CIPHER_CTX, EvpFree<EVP_CIPHER_CTX_free>>;
using Pkey = std::unique_ptr<EVP_PKEY, EvpFree<EVP_PKEY_free>>;
using PkeyCtx = std::unique_ptr<EVP_PKEY_CTX, EvpFree<EVP_PKEY_CTX_free>>;

// Going on without a digest or a cipher would lose or expose data, so the process ends.
inline void EvpMust(bool ok, const char* call) {
  if (ok) return;
  std::fprintf(stderr, "holdfast: the cryptographic library failed in %s\n", call);
  std::abort();
}

inline const EVP_MD* EvpSha256() {
  static const EVP_MD* const md = [] {
    EVP_MD* fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    EvpMust(fetched != nullptr, "EVP_MD_fetch(SHA256)");
    return fetched;
  }();
  return md;
}

// Overwrites a secret when its scope ends.
class Cleanser {
 public:
  explicit Cleanser(MutableBytes secret) : secret_(secret) {}
  ~Cleanser() { OPENSSL_cleanse(secret_.data(), secret_.size()); }
  Cleanser(const Cleanser&) = delete;
  Cleanser& operator=(const Cleanser&) = delete;

 private:
  MutableBytes secret_;
};

}  // namespace holdfast
