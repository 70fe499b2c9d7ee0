#include "common/crypto/kdf.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "common/crypto/evp.h"

namespace holdfast {
namespace {

using KdfCtx = std::unique_ptr<EVP_KDF_CTX, EvpFree<EVP_KDF_CTX_free>>;

EVP_KDF* Fetch(const char* name) {
  EVP_KDF* kdf = EVP_KDF_fetch(nullptr, name, nullptr);
  EvpMust(kdf != nullptr, "EVP_KDF_fetch");
  return kdf;
}

KdfCtx NewKdfCtx(EVP_KDF* kdf) {
  KdfCtx ctx(EVP_KDF_CTX_new(kdf));
  EvpMust(ctx != nullptr, "EVP_KDF_CTX_new");
  return ctx;
}

// OSSL_PARAM holds pointers to non-const but only reads through these; and OpenSSL wants a
// pointer even to nothing.
OSSL_PARAM Octets(const char* name, Bytes bytes) {
  static const uint8_t nothing = 0;
  const uint8_t* data = bytes.empty() ? &nothing : bytes.data();
  return OSSL_PARAM_construct_octet_string(name, const_cast<uint8_t*>(data), bytes.size());
}

}  // namespace

void HkdfSha256(Bytes secret, Bytes salt, Bytes info, MutableBytes out) {
  static EVP_KDF* const hkdf = Fetch("HKDF");
  KdfCtx ctx = NewKdfCtx(hkdf);
  char digest[] = "SHA256";
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
                               Octets(OSSL_KDF_PARAM_KEY, secret),
                               Octets(OSSL_KDF_PARAM_SALT, salt), Octets(OSSL_KDF_PARAM_INFO, info),
                               OSSL_PARAM_construct_end()};
  EvpMust(EVP_KDF_derive(ctx.get(), out.data(), out.size(), params) == 1, "HKDF");
}

bool Scrypt(std::string_view passphrase, Bytes salt, const ScryptCost& cost, MutableBytes out) {
  static EVP_KDF* const scrypt = Fetch("SCRYPT");
  KdfCtx ctx = NewKdfCtx(scrypt);
  uint64_t n = cost.n;
  uint32_t r = cost.r, p = cost.p;
  // The library's own limit is 32 MiB; this one only says that the caller meant what it asked for.
  uint64_t max_bytes = 128 * n * r + 128 * uint64_t{r} * p + (1u << 20);
  const OSSL_PARAM params[] = {
      Octets(OSSL_KDF_PARAM_PASSWORD, AsBytes(passphrase)),
      Octets(OSSL_KDF_PARAM_SALT, salt),
      OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
      OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
      OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
      OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &max_bytes),
      OSSL_PARAM_construct_end()};
  return EVP_KDF_derive(ctx.get(), out.data(), out.size(), params) == 1;
}

}  // namespace holdfast
