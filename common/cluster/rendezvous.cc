#include "common/cluster/rendezvous.h"

#include <algorithm>
#include <bit>

#include "common/base/coding.h"
#include "common/crypto/hmac.h"

namespace holdfast {
namespace {

constexpr double kWeightUnit = 65536.0;

// -log2(u / 2^64) in units of 2^-32, rounded up, for u > 0: the integer part by the leading zeros,
// each further bit by squaring the mantissa.
uint64_t NegativeLog2(uint64_t u) {
  const int zeros = std::countl_zero(u);
  uint64_t mantissa = u << zeros;  // In [2^63, 2^64): 1.xxx in units of 2^-63.
  uint64_t log = 0;                // log2 of it, in units of 2^-32.
  for (int bit = 31; bit >= 0; --bit) {
    const Wide square = Wide{mantissa} * mantissa;
    if (square >> 127) {
      log |= uint64_t{1} << bit;
      mantissa = static_cast<uint64_t>(square >> 64);
    } else {
      mantissa = static_cast<uint64_t>(square >> 63);
    }
  }
  return (static_cast<uint64_t>(zeros + 1) << 32) - log;
}

}  // namespace

// The one step in floating point, and exact: a multiplication by a power of two.
uint64_t FixedWeight(double weight) {
  return WeightIsValid(weight) ? static_cast<uint64_t>(weight * kWeightUnit) : 0;
}

uint64_t RendezvousLog(const NodeId& node, uint32_t pg) {
  const std::array<uint8_t, 4> number = {static_cast<uint8_t>(pg), static_cast<uint8_t>(pg >> 8),
                                         static_cast<uint8_t>(pg >> 16),
                                         static_cast<uint8_t>(pg >> 24)};
  const Hash256 hash = Sha256({AsBytes("holdfast/1 placement"), node.bytes(), number});
  return NegativeLog2(std::max<uint64_t>(Reader(hash).U64(), 1));
}

// The base of the logarithm does not change the order.
bool Better(const Candidate& a, const Candidate& b) {
  const Wide left = Wide{a.weight} * b.log, right = Wide{b.weight} * a.log;
  if (left != right) return left > right;
  return a.node->id < b.node->id;
}

}  // namespace holdfast
