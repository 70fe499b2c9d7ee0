#include "common/crypto/keypair.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/param_build.h>

#include <algorithm>

#include "common/base/coding.h"
#include "common/crypto/aead.h"
#include "common/crypto/evp.h"
#include "common/crypto/kdf.h"

namespace holdfast {
namespace {

constexpr char kGroup[] = "prime256v1";  // P-256.
constexpr uint8_t kUncompressed = 0x04;
constexpr std::string_view kSealLabel = "holdfast/1 seal";

using Bignum = std::unique_ptr<BIGNUM, EvpFree<BN_clear_free>>;
using ParamBuilder = std::unique_ptr<OSSL_PARAM_BLD, EvpFree<OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, EvpFree<OSSL_PARAM_free>>;

// Null when the bytes are not a point of the curve, or not a scalar. Never aborts: public keys
// come from files and messages.
Pkey Import(const PublicKey& public_key, const PrivateKey* private_key) {
  if (public_key[0] != kUncompressed) return nullptr;
  ParamBuilder builder(OSSL_PARAM_BLD_new());
  Bignum scalar;
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, kGroup, 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, public_key.data(),
                                   public_key.size());
  if (private_key != nullptr) {
    scalar.reset(BN_secure_new());
    if (BN_bin2bn(private_key->data(), private_key->size(), scalar.get()) == nullptr) {
      return nullptr;
    }
    OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_PRIV_KEY, scalar.get());
  }
  Params params(OSSL_PARAM_BLD_to_param(builder.get()));
  PkeyCtx ctx(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
  EvpMust(params != nullptr && ctx != nullptr, "EVP_PKEY_CTX_new_from_name");
  EVP_PKEY* pkey = nullptr;
  const int selection = private_key != nullptr ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY;
  if (EVP_PKEY_fromdata_init(ctx.get()) != 1 ||
      EVP_PKEY_fromdata(ctx.get(), &pkey, selection, params.get()) != 1) {
    return nullptr;
  }
  return Pkey(pkey);
}

// The x coordinate of the shared point. False when the peer's key is not on the curve.
bool SharedSecret(EVP_PKEY* own, EVP_PKEY* peer, std::array<uint8_t, 32>& secret) {
  PkeyCtx ctx(EVP_PKEY_CTX_new_from_pkey(nullptr, own, nullptr));
  size_t size = secret.size();
  return ctx != nullptr && EVP_PKEY_derive_init(ctx.get()) == 1 &&
         EVP_PKEY_derive_set_peer(ctx.get(), peer) == 1 &&
         EVP_PKEY_derive(ctx.get(), secret.data(), &size) == 1 && size == secret.size();
}

struct BoxKeys {
  AeadKey key;
  AeadNonce nonce;
  ~BoxKeys() { OPENSSL_cleanse(key.data(), key.size()); }
};

// Key and nonce of one box. The ephemeral key is used once, so the nonce may be derived with it.
BoxKeys DeriveBoxKeys(std::array<uint8_t, 32>& secret, Bytes ephemeral, Bytes to, Bytes context) {
  Cleanser cleanse_secret(secret);
  Buffer salt, info;
  Writer(salt).Raw(ephemeral);
  Writer(salt).Raw(to);
  Writer(info).Raw(AsBytes(kSealLabel));
  Writer(info).Raw(context);
  std::array<uint8_t, kAeadKeySize + kAeadNonceSize> out;
  Cleanser cleanse_out(out);
  HkdfSha256(secret, salt, info, out);
  BoxKeys keys;
  std::copy_n(out.begin(), kAeadKeySize, keys.key.begin());
  std::copy_n(out.begin() + kAeadKeySize, kAeadNonceSize, keys.nonce.begin());
  return keys;
}

}  // namespace

KeyPair GenerateKeyPair() {
  Pkey pkey(EVP_EC_gen(kGroup));
  EvpMust(pkey != nullptr, "EVP_EC_gen");
  KeyPair pair;
  unsigned char* encoded = nullptr;
  const size_t size = EVP_PKEY_get1_encoded_public_key(pkey.get(), &encoded);
  EvpMust(size == pair.public_key.size() && encoded[0] == kUncompressed,
          "EVP_PKEY_get1_encoded_public_key");
  std::copy_n(encoded, size, pair.public_key.begin());
  OPENSSL_free(encoded);
  BIGNUM* scalar = nullptr;
  EvpMust(EVP_PKEY_get_bn_param(pkey.get(), OSSL_PKEY_PARAM_PRIV_KEY, &scalar) == 1,
          "EVP_PKEY_get_bn_param");
  Bignum owner(scalar);
  EvpMust(BN_bn2binpad(scalar, pair.private_key.data(), pair.private_key.size()) ==
              static_cast<int>(pair.private_key.size()),
          "BN_bn2binpad");
  return pair;
}

bool KeyPairMatches(const KeyPair& key) {
  Pkey pkey = Import(key.public_key, &key.private_key);
  if (pkey == nullptr) return false;
  PkeyCtx ctx(EVP_PKEY_CTX_new_from_pkey(nullptr, pkey.get(), nullptr));
  return ctx != nullptr && EVP_PKEY_pairwise_check(ctx.get()) == 1;
}

StatusOr<Buffer> Sign(const KeyPair& key, Bytes message) {
  Pkey pkey = Import(key.public_key, &key.private_key);
  if (pkey == nullptr) return absl::InvalidArgumentError("the signing key is malformed");
  MdCtx ctx(EVP_MD_CTX_new());
  size_t size = 0;
  if (EVP_DigestSignInit_ex(ctx.get(), nullptr, "SHA256", nullptr, nullptr, pkey.get(), nullptr) !=
          1 ||
      EVP_DigestSign(ctx.get(), nullptr, &size, message.data(), message.size()) != 1) {
    return absl::InternalError("OpenSSL cannot sign with this key");
  }
  Buffer signature(size);
  if (EVP_DigestSign(ctx.get(), signature.data(), &size, message.data(), message.size()) != 1) {
    return absl::InternalError("OpenSSL failed to sign");
  }
  signature.resize(size);
  return signature;
}

bool VerifySignature(const PublicKey& key, Bytes message, Bytes signature) {
  Pkey pkey = Import(key, nullptr);
  if (pkey == nullptr) return false;
  MdCtx ctx(EVP_MD_CTX_new());
  return EVP_DigestVerifyInit_ex(ctx.get(), nullptr, "SHA256", nullptr, nullptr, pkey.get(),
                                 nullptr) == 1 &&
         EVP_DigestVerify(ctx.get(), signature.data(), signature.size(), message.data(),
                          message.size()) == 1;
}

StatusOr<Buffer> SealToPublicKey(const PublicKey& to, Bytes context, Bytes plaintext) {
  Pkey peer = Import(to, nullptr);
  if (peer == nullptr) return absl::InvalidArgumentError("the public key is not a P-256 point");
  KeyPair ephemeral = GenerateKeyPair();
  Cleanser cleanse(ephemeral.private_key);
  Pkey own = Import(ephemeral.public_key, &ephemeral.private_key);
  std::array<uint8_t, 32> secret;
  if (own == nullptr || !SharedSecret(own.get(), peer.get(), secret)) {
    return absl::InternalError("OpenSSL failed in ECDH");
  }
  const BoxKeys keys = DeriveBoxKeys(secret, ephemeral.public_key, to, context);
  Buffer box(ephemeral.public_key.begin(), ephemeral.public_key.end());
  box.resize(box.size() + plaintext.size() + kAeadTagSize);
  AeadSeal(keys.key, keys.nonce, context, plaintext,
           MutableBytes(box).subspan(ephemeral.public_key.size()));
  return box;
}

StatusOr<Buffer> OpenWithPrivateKey(const KeyPair& key, Bytes context, Bytes box) {
  const Status refused =
      absl::PermissionDeniedError("the sealed key does not open under this private key");
  PublicKey ephemeral;
  if (box.size() < ephemeral.size() + kAeadTagSize) return refused;
  std::copy_n(box.begin(), ephemeral.size(), ephemeral.begin());
  Pkey peer = Import(ephemeral, nullptr);
  Pkey own = Import(key.public_key, &key.private_key);
  std::array<uint8_t, 32> secret;
  if (peer == nullptr || own == nullptr || !SharedSecret(own.get(), peer.get(), secret)) {
    return refused;
  }
  const BoxKeys keys = DeriveBoxKeys(secret, ephemeral, key.public_key, context);
  const Bytes sealed = box.subspan(ephemeral.size());
  Buffer plaintext(sealed.size() - kAeadTagSize);
  if (!AeadOpen(keys.key, keys.nonce, context, sealed, plaintext)) return refused;
  return plaintext;
}

}  // namespace holdfast
