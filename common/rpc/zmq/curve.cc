#include "common/rpc/zmq/curve.h"

#include <zmq.h>

#include <algorithm>
#include <cstdlib>

namespace holdfast {
namespace {

constexpr size_t kZ85Size = 41;  // 32 bytes in Z85 (ZeroMQ RFC 32), and a NUL.

}  // namespace

CurveKeyPair NewCurveKeyPair() {
  char public_text[kZ85Size], secret_text[kZ85Size];
  CurveKeyPair keys;
  if (zmq_curve_keypair(public_text, secret_text) != 0 ||
      zmq_z85_decode(keys.public_key.value.data(), public_text) == nullptr ||
      zmq_z85_decode(keys.secret_key.data(), secret_text) == nullptr) {
    std::abort();  // A libzmq without CURVE; Debian's has it.
  }
  std::fill_n(secret_text, kZ85Size, '\0');
  return keys;
}

CurveKeyPair CurveKeyPairOf(const std::array<uint8_t, 32>& secret_key) {
  char public_text[kZ85Size], secret_text[kZ85Size];
  CurveKeyPair keys{.secret_key = secret_key};
  zmq_z85_encode(secret_text, secret_key.data(), secret_key.size());
  if (zmq_curve_public(public_text, secret_text) != 0 ||
      zmq_z85_decode(keys.public_key.value.data(), public_text) == nullptr) {
    std::abort();  // As above.
  }
  std::fill_n(secret_text, kZ85Size, '\0');
  return keys;
}

Status CheckCurveKeyPair(const CurveKeyPair& keys) {
  if (CurveKeyPairOf(keys.secret_key).public_key == keys.public_key) return absl::OkStatus();
  return absl::InvalidArgumentError("a CURVE public key that is not its secret key's");
}

}  // namespace holdfast
