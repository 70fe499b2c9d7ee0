// Poly1305, RFC 8439 section 2.5: sum of the message's 16-byte blocks times powers of r, mod
// 2^130 - 5, plus s. Used here as a keyed universal hash with a fixed key, never as a MAC.
//
// The accumulator is kept in 64 + 64 + 3 bits, products in 128. r's low two bits of each upper
// word are clear, so 5/4 of r's upper word is an integer: that folds 2^128 without a division.
#pragma once

#include "kernels/core/word.h"

namespace holdfast::kernels::core::poly1305 {

__extension__ using Wide = unsigned __int128;

struct State {
  uint64_t r0 = 0, r1 = 0;          // The clamped multiplier.
  uint64_t s0 = 0, s1 = 0;          // Added at the end.
  uint64_t h0 = 0, h1 = 0, h2 = 0;  // The accumulator, partly reduced.
};

// What a key's r is cut to.
constexpr uint64_t kClamp0 = 0x0ffffffc0fffffff, kClamp1 = 0x0ffffffc0ffffffc;

// Starts a message under key r ‖ s.
HOLDFAST_HD constexpr State Init(const uint8_t key[32]) {
  State state;
  state.r0 = LoadLe64(key) & kClamp0;
  state.r1 = LoadLe64(key + 8) & kClamp1;
  state.s0 = LoadLe64(key + 16);
  state.s1 = LoadLe64(key + 24);
  return state;
}

// Takes one 16-byte block, as two little-endian words. `high` is the bit above it: 1, or 0 for the
// last block of a message that is no multiple of 16 and carries its own end mark.
HOLDFAST_HD constexpr void Block(State& state, uint64_t low_word, uint64_t high_word,
                                 uint64_t high) {
  const uint64_t r0 = state.r0, r1 = state.r1, fold = r1 + (r1 >> 2);
  Wide d0 = Wide{state.h0} + low_word;
  Wide d1 = Wide{state.h1} + high_word + static_cast<uint64_t>(d0 >> 64);
  const uint64_t h0 = static_cast<uint64_t>(d0);
  const uint64_t h1 = static_cast<uint64_t>(d1);
  uint64_t h2 = state.h2 + static_cast<uint64_t>(d1 >> 64) + high;
  d0 = Wide{h0} * r0 + Wide{h1} * fold;
  d1 = Wide{h0} * r1 + Wide{h1} * r0 + h2 * fold + static_cast<uint64_t>(d0 >> 64);
  h2 = h2 * r0 + static_cast<uint64_t>(d1 >> 64);
  // 2^130 = 5: what lies above two bits of h2 comes back times five.
  d0 = Wide{static_cast<uint64_t>(d0)} + (h2 >> 2) + (h2 & ~uint64_t{3});
  d1 = Wide{static_cast<uint64_t>(d1)} + static_cast<uint64_t>(d0 >> 64);
  state.h0 = static_cast<uint64_t>(d0);
  state.h1 = static_cast<uint64_t>(d1);
  state.h2 = (h2 & 3) + static_cast<uint64_t>(d1 >> 64);
}

// Takes whole 16-byte blocks.
HOLDFAST_HD constexpr void Blocks(State& state, const uint8_t* data, size_t blocks) {
  for (; blocks != 0; --blocks, data += 16) Block(state, LoadLe64(data), LoadLe64(data + 8), 1);
}

// Takes the last size % 16 bytes of a message, if there are any.
HOLDFAST_HD constexpr void Rest(State& state, const uint8_t* data, size_t size) {
  if (size == 0) return;
  uint8_t end[16] = {};
  for (size_t i = 0; i < size; ++i) end[i] = data[i];
  end[size] = 1;
  Block(state, LoadLe64(end), LoadLe64(end + 8), 0);
}

// Reduces fully, adds s, writes the tag.
HOLDFAST_HD constexpr void Finish(const State& state, uint8_t tag[16]) {
  // h + 5 reaches 2^130 exactly when h >= 2^130 - 5, and then its low bits are h - p.
  const Wide g0 = Wide{state.h0} + 5;
  const Wide g1 = Wide{state.h1} + static_cast<uint64_t>(g0 >> 64);
  const uint64_t g2 = state.h2 + static_cast<uint64_t>(g1 >> 64);
  const uint64_t take = uint64_t{0} - (g2 >> 2);
  const uint64_t h0 = (state.h0 & ~take) | (static_cast<uint64_t>(g0) & take);
  const uint64_t h1 = (state.h1 & ~take) | (static_cast<uint64_t>(g1) & take);
  const Wide t0 = Wide{h0} + state.s0;
  const Wide t1 = Wide{h1} + state.s1 + static_cast<uint64_t>(t0 >> 64);
  StoreLe64(tag, static_cast<uint64_t>(t0));
  StoreLe64(tag + 8, static_cast<uint64_t>(t1));
}

// The tag of one whole message.
HOLDFAST_HD constexpr void Mac(const uint8_t key[32], const uint8_t* data, size_t size,
                               uint8_t tag[16]) {
  State state = Init(key);
  Blocks(state, data, size / 16);
  Rest(state, data + size / 16 * 16, size % 16);
  Finish(state, tag);
}

// RFC 8439, 2.5.2.
constexpr bool CheckRfc() {
  const uint8_t key[32] = {0x85, 0xd6, 0xbe, 0x78, 0x57, 0x55, 0x6d, 0x33, 0x7f, 0x44, 0x52,
                           0xfe, 0x42, 0xd5, 0x06, 0xa8, 0x01, 0x03, 0x80, 0x8a, 0xfb, 0x0d,
                           0xb2, 0xfd, 0x4a, 0xbf, 0xf6, 0xaf, 0x41, 0x49, 0xf5, 0x1b};
  const uint8_t want[16] = {0xa8, 0x06, 0x1d, 0xc1, 0x30, 0x51, 0x36, 0xc6,
                            0xc2, 0x2b, 0x8b, 0xaf, 0x0c, 0x01, 0x27, 0xa9};
  const char text[] = "Cryptographic Forum Research Group";
  uint8_t data[34] = {};
  for (int i = 0; i < 34; ++i) data[i] = static_cast<uint8_t>(text[i]);
  uint8_t tag[16] = {};
  Mac(key, data, 34, tag);
  for (int i = 0; i < 16; ++i) {
    if (tag[i] != want[i]) return false;
  }
  return true;
}
static_assert(CheckRfc());

}  // namespace holdfast::kernels::core::poly1305
