// Views of bytes and small conversions. Nothing here owns memory but `Buffer`.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast {

using Bytes = std::span<const uint8_t>;
using MutableBytes = std::span<uint8_t>;
using Buffer = std::vector<uint8_t>;

inline Bytes AsBytes(std::string_view s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}
inline std::string_view AsView(Bytes b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}
inline std::string ToString(Bytes b) { return std::string(AsView(b)); }

std::string ToHex(Bytes bytes);
// False unless `hex` is exactly 2 * out.size() hexadecimal digits.
bool FromHex(std::string_view hex, MutableBytes out);

// Bytes that several owners share: a frame of a message, a sealed chunk on its way to two nodes.
// The view lies inside memory that `owner` keeps alive.
struct SharedBytes {
  std::shared_ptr<const void> owner;
  Bytes view;

  static SharedBytes Own(Buffer buffer) {
    auto owner = std::make_shared<const Buffer>(std::move(buffer));
    Bytes view(*owner);
    return {std::move(owner), view};
  }
};

}  // namespace holdfast
