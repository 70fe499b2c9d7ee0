// Digests of one stream at a time: the block functions that know no lanes.
//
// There are two sets: ours, from kernels/core, and OpenSSL's (SHA-NI and AVX code), where the build
// has it. They give the same bytes; tests/kernels/stream_test.cc holds them to it. All functions
// may be called from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace holdfast::kernels {

using Poly1305Key = std::array<uint8_t, 32>;
using Poly1305Tag = std::array<uint8_t, 16>;

struct StreamCode {
  // Takes `blocks` blocks of 64 bytes into a chaining value.
  using BlockFunction = void (*)(uint32_t* state, const uint8_t* data, size_t blocks);

  std::string_view name;
  BlockFunction sha256;
  BlockFunction sha1;
  BlockFunction md5;
  Poly1305Tag (*poly1305)(const Poly1305Key& key, std::span<const uint8_t> data);
};

// From kernels/core.
const StreamCode& CoreStreamCode();

// OpenSSL's, or nullptr where it was not built in.
const StreamCode* OpensslStreamCode();

// The faster of the two.
const StreamCode& BestStreamCode();

}  // namespace holdfast::kernels
