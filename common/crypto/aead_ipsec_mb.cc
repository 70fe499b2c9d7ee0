// AES-256-GCM by libipsec-mb: with VAES and VPCLMULQDQ it is several times as fast as OpenSSL 3.0,
// which has neither. Keys are expanded anew for each message, as every chunk has its own.
#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <cassert>

#include "common/crypto/aead_stream.h"
#include "common/crypto/evp.h"

namespace holdfast {
namespace {

// The functions for this CPU. They keep no state in it, so threads share it.
IMB_MGR* Functions() {
  static IMB_MGR* const functions = [] {
    IMB_MGR* const made = alloc_mb_mgr(0);
    EvpMust(made != nullptr, "alloc_mb_mgr");
    init_mb_mgr_auto(made, nullptr);
    const bool tested = (made->features & IMB_FEATURE_SELF_TEST) == 0 ||
                        (made->features & IMB_FEATURE_SELF_TEST_PASS) != 0;
    EvpMust(imb_get_errno(made) == 0 && tested, "init_mb_mgr_auto");
    return made;
  }();
  return functions;
}

// The message that this thread is at. The library's code wants this alignment, and its header says
// so only to who defines LINUX.
struct GcmStream {
  alignas(64) gcm_key_data key;
  alignas(64) gcm_context_data context;
};

GcmStream& ThreadStream() {
  thread_local GcmStream stream;
  return stream;
}

void Start(GcmStream& stream, const AeadKey& key, const AeadNonce& nonce, Bytes aad) {
  IMB_AES256_GCM_PRE(Functions(), key.data(), &stream.key);
  IMB_AES256_GCM_INIT(Functions(), &stream.key, &stream.context, nonce.data(), aad.data(),
                      aad.size());
}

void Forget(GcmStream& stream) { OPENSSL_cleanse(&stream, sizeof stream); }

}  // namespace

AeadEncryptor::AeadEncryptor(const AeadKey& key, const AeadNonce& nonce, Bytes aad) {
  Start(ThreadStream(), key, nonce, aad);
}

void AeadEncryptor::Update(Bytes in, uint8_t* out) {
  GcmStream& stream = ThreadStream();
  IMB_AES256_GCM_ENC_UPDATE(Functions(), &stream.key, &stream.context, out, in.data(), in.size());
}

void AeadEncryptor::Tag(std::span<uint8_t, kAeadTagSize> tag) {
  GcmStream& stream = ThreadStream();
  IMB_AES256_GCM_ENC_FINALIZE(Functions(), &stream.key, &stream.context, tag.data(), tag.size());
  Forget(stream);
}

AeadDecryptor::AeadDecryptor(const AeadKey& key, const AeadNonce& nonce, Bytes aad) {
  Start(ThreadStream(), key, nonce, aad);
}

void AeadDecryptor::Update(Bytes in, uint8_t* out) {
  GcmStream& stream = ThreadStream();
  IMB_AES256_GCM_DEC_UPDATE(Functions(), &stream.key, &stream.context, out, in.data(), in.size());
}

bool AeadDecryptor::Verify(std::span<const uint8_t, kAeadTagSize> tag) {
  GcmStream& stream = ThreadStream();
  std::array<uint8_t, kAeadTagSize> own;
  IMB_AES256_GCM_DEC_FINALIZE(Functions(), &stream.key, &stream.context, own.data(), own.size());
  Forget(stream);
  return CRYPTO_memcmp(own.data(), tag.data(), tag.size()) == 0;
}

}  // namespace holdfast
