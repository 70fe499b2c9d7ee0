// OpenSSL's block functions, the fastest single-stream code there is (SHA-NI, AVX).
//
// The EVP interface keeps chaining values to itself, and the engine must carry them between slices;
// so the SHA and MD5 code is reached by the low-level interface, deprecated in OpenSSL 3, in this
// file alone. Without the deprecated interface, the build falls back to kernels/core.
#include "kernels/cpu/stream.h"

#if defined(HOLDFAST_HAVE_OPENSSL)

#include <openssl/evp.h>
#include <openssl/md5.h>
#include <openssl/sha.h>

#include <algorithm>
#include <memory>

#include "kernels/cpu/code.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace holdfast::kernels {
namespace {

void Sha256Blocks(uint32_t* state, const uint8_t* data, size_t blocks) {
  SHA256_CTX context{};
  context.md_len = SHA256_DIGEST_LENGTH;
  std::copy_n(state, 8, context.h);
  SHA256_Update(&context, data, blocks * 64);
  std::copy_n(context.h, 8, state);
}

void Sha1Blocks(uint32_t* state, const uint8_t* data, size_t blocks) {
  SHA_CTX context{};
  context.h0 = state[0];
  context.h1 = state[1];
  context.h2 = state[2];
  context.h3 = state[3];
  context.h4 = state[4];
  SHA1_Update(&context, data, blocks * 64);
  state[0] = context.h0;
  state[1] = context.h1;
  state[2] = context.h2;
  state[3] = context.h3;
  state[4] = context.h4;
}

void Md5Blocks(uint32_t* state, const uint8_t* data, size_t blocks) {
  MD5_CTX context{};
  context.A = state[0];
  context.B = state[1];
  context.C = state[2];
  context.D = state[3];
  MD5_Update(&context, data, blocks * 64);
  state[0] = context.A;
  state[1] = context.B;
  state[2] = context.C;
  state[3] = context.D;
}

struct MacContextDeleter {
  void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
};

// A context per thread, so that neither fetching nor allocation is paid per chunk. Null where the
// loaded provider has no Poly1305 (a FIPS-only configuration).
EVP_MAC_CTX* ThreadMacContext() {
  static EVP_MAC* const mac = EVP_MAC_fetch(nullptr, "POLY1305", nullptr);
  if (mac == nullptr) return nullptr;
  thread_local const std::unique_ptr<EVP_MAC_CTX, MacContextDeleter> context(EVP_MAC_CTX_new(mac));
  return context.get();
}

// OpenSSL 3.0's vector code leaves the upper halves of the registers in use after a message that is
// no multiple of 16 bytes. All SHA instructions after it then take 2.7 times as long (Zen 5).
void ClearUpper() {
#if defined(__x86_64__)
  if (ThisCpu().avx2) ClearUpperAvx2();
#endif
}

// OpenSSL 3.0's AVX-512 code takes eight blocks at a time only where a length has its bit of 64
// clear, and else four, at half the speed, to the end. So what is over goes by itself.
constexpr size_t kWholeMac = 128;

// Below this the calls around OpenSSL's code cost more than its vectors save.
constexpr size_t kSmallMac = 512;

Poly1305Tag OpensslPoly1305(const Poly1305Key& key, std::span<const uint8_t> data) {
  Poly1305Tag tag;
  size_t size = 0;
  EVP_MAC_CTX* context = data.size() < kSmallMac ? nullptr : ThreadMacContext();
  const size_t whole = data.size() / kWholeMac * kWholeMac;
  const bool done = context != nullptr &&
                    EVP_MAC_init(context, key.data(), key.size(), nullptr) == 1 &&
                    EVP_MAC_update(context, data.data(), whole) == 1 &&
                    EVP_MAC_update(context, data.data() + whole, data.size() - whole) == 1 &&
                    EVP_MAC_final(context, tag.data(), &size, tag.size()) == 1;
  if (context != nullptr) ClearUpper();
  if (done && size == tag.size()) return tag;
  return CoreStreamCode().poly1305(key, data);
}

}  // namespace

const StreamCode* OpensslStreamCode() {
  static constexpr StreamCode kCode = {"openssl",
                                       Sha256Blocks,
                                       Sha1Blocks,
                                       Md5Blocks,
                                       RunAll<Sha256Blocks, Sha1Blocks, Md5Blocks>,
                                       OpensslPoly1305};
  return &kCode;
}

}  // namespace holdfast::kernels

#endif  // HOLDFAST_HAVE_OPENSSL
