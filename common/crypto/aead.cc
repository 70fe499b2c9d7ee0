#include "common/crypto/aead.h"

#include <algorithm>
#include <cassert>
#include <string>

#include "common/crypto/aead_stream.h"

namespace holdfast {

void AeadSeal(const AeadKey& key, const AeadNonce& nonce, Bytes aad, Bytes plaintext,
              MutableBytes out) {
  assert(out.size() == plaintext.size() + kAeadTagSize);
  AeadEncryptor encryptor(key, nonce, aad);
  encryptor.Update(plaintext, out.data());
  encryptor.Tag(out.last<kAeadTagSize>());
}

bool AeadOpen(const AeadKey& key, const AeadNonce& nonce, Bytes aad, Bytes sealed,
              MutableBytes out) {
  if (sealed.size() < kAeadTagSize) return false;
  assert(out.size() == sealed.size() - kAeadTagSize);
  AeadDecryptor decryptor(key, nonce, aad);
  decryptor.Update(sealed.first(out.size()), out.data());
  return decryptor.Verify(sealed.last<kAeadTagSize>());
}

Buffer AeadSealWithNonce(const AeadKey& key, const AeadNonce& nonce, Bytes aad, Bytes plaintext) {
  Buffer box(kAeadNonceSize + plaintext.size() + kAeadTagSize);
  std::copy(nonce.begin(), nonce.end(), box.begin());
  AeadSeal(key, nonce, aad, plaintext, MutableBytes(box).subspan(kAeadNonceSize));
  return box;
}

StatusOr<Buffer> AeadOpenWithNonce(const AeadKey& key, Bytes aad, Bytes box,
                                   std::string_view what) {
  if (box.size() < kAeadNonceSize + kAeadTagSize) {
    return absl::DataLossError(std::string(what) + " is cut short: " + std::to_string(box.size()) +
                               " bytes");
  }
  AeadNonce nonce;
  std::copy_n(box.begin(), kAeadNonceSize, nonce.begin());
  Buffer plaintext(box.size() - kAeadNonceSize - kAeadTagSize);
  if (!AeadOpen(key, nonce, aad, box.subspan(kAeadNonceSize), plaintext)) {
    return absl::DataLossError(std::string(what) +
                               " does not open: its bytes are damaged or the key is another");
  }
  return plaintext;
}

}  // namespace holdfast
