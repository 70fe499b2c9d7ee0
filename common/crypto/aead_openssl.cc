// AES-256-GCM by OpenSSL, where libipsec-mb is not: see aead_ipsec_mb.cc.
#include <algorithm>
#include <array>
#include <cassert>

#include "common/crypto/aead_stream.h"
#include "common/crypto/evp.h"

namespace holdfast {
namespace {

const EVP_CIPHER* Aes256Gcm() {
  static const EVP_CIPHER* const cipher = [] {
    EVP_CIPHER* fetched = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
    EvpMust(fetched != nullptr, "EVP_CIPHER_fetch(AES-256-GCM)");
    return fetched;
  }();
  return cipher;
}

EVP_CIPHER_CTX* ScratchCipherCtx() {
  thread_local CipherCtx ctx(EVP_CIPHER_CTX_new());
  EvpMust(ctx != nullptr, "EVP_CIPHER_CTX_new");
  return ctx.get();
}

// EVP counts in int; a call takes at most this much.
constexpr size_t kMaxCall = 1u << 30;

void UpdateInCalls(EVP_CIPHER_CTX* ctx, Bytes in, uint8_t* out) {
  while (!in.empty()) {
    const size_t n = std::min(in.size(), kMaxCall);
    int written = 0;
    EvpMust(EVP_CipherUpdate(ctx, out, &written, in.data(), static_cast<int>(n)) == 1 &&
                static_cast<size_t>(written) == n,
            "EVP_CipherUpdate");
    in = in.subspan(n);
    if (out != nullptr) out += n;
  }
}

void Start(bool encrypt, const AeadKey& key, const AeadNonce& nonce, Bytes aad) {
  EVP_CIPHER_CTX* ctx = ScratchCipherCtx();
  EvpMust(
      EVP_CipherInit_ex2(ctx, Aes256Gcm(), key.data(), nonce.data(), encrypt ? 1 : 0, nullptr) == 1,
      "EVP_CipherInit_ex2");
  UpdateInCalls(ctx, aad, nullptr);  // No output means additional data.
}

}  // namespace

AeadEncryptor::AeadEncryptor(const AeadKey& key, const AeadNonce& nonce, Bytes aad) {
  Start(true, key, nonce, aad);
}

void AeadEncryptor::Update(Bytes in, uint8_t* out) { UpdateInCalls(ScratchCipherCtx(), in, out); }

void AeadEncryptor::Tag(std::span<uint8_t, kAeadTagSize> tag) {
  EVP_CIPHER_CTX* ctx = ScratchCipherCtx();
  uint8_t none[16];
  int written = 0;
  EvpMust(EVP_CipherFinal_ex(ctx, none, &written) == 1 && written == 0, "EVP_CipherFinal_ex");
  EvpMust(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, kAeadTagSize, tag.data()) == 1,
          "EVP_CTRL_AEAD_GET_TAG");
}

AeadDecryptor::AeadDecryptor(const AeadKey& key, const AeadNonce& nonce, Bytes aad) {
  Start(false, key, nonce, aad);
}

void AeadDecryptor::Update(Bytes in, uint8_t* out) { UpdateInCalls(ScratchCipherCtx(), in, out); }

bool AeadDecryptor::Verify(std::span<const uint8_t, kAeadTagSize> tag) {
  EVP_CIPHER_CTX* ctx = ScratchCipherCtx();
  std::array<uint8_t, kAeadTagSize> copy;  // The call takes a pointer to non-const.
  std::copy(tag.begin(), tag.end(), copy.begin());
  EvpMust(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, kAeadTagSize, copy.data()) == 1,
          "EVP_CTRL_AEAD_SET_TAG");
  uint8_t none[16];
  int written = 0;
  return EVP_CipherFinal_ex(ctx, none, &written) == 1;
}

}  // namespace holdfast
