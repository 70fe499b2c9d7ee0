// CURVE keys (curve25519, RFC 7748; CurveZMQ, ZeroMQ RFC 26): who is at the other end of a socket.
#pragma once

#include <array>
#include <string>

#include "common/base/ids.h"
#include "common/base/status.h"

namespace holdfast {

struct CurveKeyPair {
  CurvePublicKey public_key;
  std::array<uint8_t, 32> secret_key{};
};

// What a server says to a key that wants to connect. kNotYet: it cannot say yet; the caller is told
// nothing, and opens its connection anew in a few seconds.
enum class Admission { kYes, kNo, kNotYet };

CurveKeyPair NewCurveKeyPair();
// The pair of any 32 secret bytes.
CurveKeyPair CurveKeyPairOf(const std::array<uint8_t, 32>& secret_key);
// kInvalidArgument when the two do not belong together.
Status CheckCurveKeyPair(const CurveKeyPair& keys);

}  // namespace holdfast
