#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace holdfast::testing {

// The ids and keys of the golden files: bytes first, first + 1, …, easy to find in a dump.
template <class IdType>
IdType Counting(uint8_t first) {
  IdType id;
  for (size_t i = 0; i < IdType::kSize; ++i) id.value[i] = static_cast<uint8_t>(first + i);
  return id;
}
template <size_t N>
std::array<uint8_t, N> CountingArray(uint8_t first) {
  std::array<uint8_t, N> out;
  for (size_t i = 0; i < N; ++i) out[i] = static_cast<uint8_t>(first + i);
  return out;
}

}  // namespace holdfast::testing
