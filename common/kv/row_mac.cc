#include "common/kv/row_mac.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "common/crypto/hmac.h"

namespace holdfast {
namespace {

struct FreeMacContext {
  void operator()(EVP_MAC_CTX* c) const { EVP_MAC_CTX_free(c); }
};
using MacContext = std::unique_ptr<EVP_MAC_CTX, FreeMacContext>;

void Must(bool ok) {
  if (ok) return;
  std::fprintf(stderr, "holdfast: OpenSSL cannot compute SipHash\n");
  std::abort();
}

// A context of this thread's own, set to 8-byte tags.
EVP_MAC_CTX* ThreadContext() {
  thread_local MacContext context = [] {
    // Fetching searches the providers; once is enough, and it is never freed.
    static EVP_MAC* mac = EVP_MAC_fetch(nullptr, "SIPHASH", nullptr);
    MacContext made(mac != nullptr ? EVP_MAC_CTX_new(mac) : nullptr);
    size_t size = kRowMacSize;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
                           OSSL_PARAM_construct_end()};
    Must(made && EVP_MAC_CTX_set_params(made.get(), params) == 1);
    return made;
  }();
  return context.get();
}

}  // namespace

RowMac::RowMac(const std::array<uint8_t, 32>& key) {
  Hash256 derived = HmacSha256(key, {AsBytes("holdfast/1 row mac")});
  std::copy_n(derived.begin(), key_.size(), key_.begin());
  OPENSSL_cleanse(derived.data(), derived.size());
}

RowMac::~RowMac() { OPENSSL_cleanse(key_.data(), key_.size()); }

std::array<uint8_t, kRowMacSize> RowMac::Compute(std::string_view key,
                                                 std::string_view value) const {
  // The length keeps (key, value) apart from every other split of the same bytes.
  uint8_t length[8];
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(key.size() >> (8 * i));
  EVP_MAC_CTX* context = ThreadContext();
  std::array<uint8_t, kRowMacSize> tag;
  size_t size = 0;
  Bytes k = AsBytes(key), v = AsBytes(value);
  Must(EVP_MAC_init(context, key_.data(), key_.size(), nullptr) == 1 &&
       EVP_MAC_update(context, length, sizeof length) == 1 &&
       EVP_MAC_update(context, k.data(), k.size()) == 1 &&
       EVP_MAC_update(context, v.data(), v.size()) == 1 &&
       EVP_MAC_final(context, tag.data(), &size, tag.size()) == 1 && size == tag.size());
  return tag;
}

void RowMac::Seal(std::string_view key, std::string_view value, std::string& out) const {
  std::array<uint8_t, kRowMacSize> tag = Compute(key, value);
  out.assign(value);
  out.append(AsView(tag));
}

bool RowMac::Open(std::string_view key, std::string_view& stored) const {
  if (stored.size() < kRowMacSize) return false;
  std::string_view value = stored.substr(0, stored.size() - kRowMacSize);
  std::array<uint8_t, kRowMacSize> tag = Compute(key, value);
  if (CRYPTO_memcmp(tag.data(), stored.data() + value.size(), tag.size()) != 0) return false;
  stored = value;
  return true;
}

}  // namespace holdfast
