// Digests of one stream at a time: the block functions that know no lanes.
//
// There are two sets: ours, from kernels/core, and OpenSSL's (SHA-NI and AVX code), where the build
// has it. They give the same bytes; tests/kernels/stream_test.cc holds them to it. All functions
// may be called from any thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/core/all_digests.h"

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
  BlockFunction all;  // The three of the same blocks; chaining values as in core/all_digests.h.
  Poly1305Tag (*poly1305)(const Poly1305Key& key, std::span<const uint8_t> data);
};

// Three block functions one after the other, in pieces that stay in the nearest cache.
template <StreamCode::BlockFunction sha256, StreamCode::BlockFunction sha1,
          StreamCode::BlockFunction md5>
void RunAll(uint32_t* state, const uint8_t* data, size_t blocks) {
  constexpr size_t kPiece = 128;
  for (size_t at = 0; at < blocks; at += kPiece) {
    const size_t n = std::min(kPiece, blocks - at);
    sha256(state, data + at * 64, n);
    sha1(state + core::all_digests::kSha1At, data + at * 64, n);
    md5(state + core::all_digests::kMd5At, data + at * 64, n);
  }
}

// From kernels/core.
const StreamCode& CoreStreamCode();

// OpenSSL's, or nullptr where it was not built in.
const StreamCode* OpensslStreamCode();

// The faster of the two.
const StreamCode& BestStreamCode();

}  // namespace holdfast::kernels
