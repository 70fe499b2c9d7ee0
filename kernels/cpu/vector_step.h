// The step of all lanes in GNU vectors; included only by files built for one instruction set.
//
// Everything here is in an unnamed namespace, and so compiled anew, with internal linkage, by each
// of these files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/core/all_digests.h"
#include "kernels/cpu/lane_step.h"

namespace holdfast::kernels {
namespace {

template <int kWords>
struct WordVector {
  typedef uint32_t Type __attribute__((vector_size(kWords * 4)));
  typedef uint8_t Bytes __attribute__((vector_size(kWords * 4)));
};
typedef uint32_t Quad __attribute__((vector_size(16)));

// Shuffles the four words in each 16 bytes of x and y: the numbers 0 to 3 mean a word of x, 4 to 7
// one of y.
template <int a, int b, int c, int d, class V, size_t... i>
inline void ShuffleQuads(const V& x, const V& y, std::index_sequence<i...>, V& out) {
  constexpr int kPick[4] = {a, b, c, d};
  constexpr int kWords = sizeof...(i);
  out = __builtin_shufflevector(x, y,
                                (int(i) / 4 * 4 + kPick[i % 4] % 4 + kPick[i % 4] / 4 * kWords)...);
}

template <class Bytes, size_t... i>
inline void SwapBytes(Bytes& x, std::index_sequence<i...>) {
  x = __builtin_shufflevector(x, x, int(i ^ 3)...);
}

// kParts vectors of kWords words each, all lanes in order.
template <int kWords, int kParts>
struct Lanes {
  static constexpr int kLanes = kWords * kParts;
  using V = typename WordVector<kWords>::Type;
  V v[kParts];

  static Lanes Load(const uint32_t* words) {
    Lanes x;
    std::memcpy(&x, words, sizeof x);
    return x;
  }
  void Store(uint32_t* words) const { std::memcpy(words, this, sizeof *this); }

  // The next block of every lane, as one vector for each of its 16 words.
  template <bool big_endian>
  static void LoadBlock(const uint8_t* const* data, Lanes* block) {
    HOLDFAST_UNROLL
    for (int word = 0; word < 16; word += 4) {
      HOLDFAST_UNROLL
      for (int part = 0; part < kParts; ++part) {
        V words[4];
        Transpose<big_endian>(data + part * kWords, 4 * word, words);
        HOLDFAST_UNROLL
        for (int i = 0; i < 4; ++i) block[word + i].v[part] = words[i];
      }
    }
  }

  // Four words of kWords messages. Row i gets messages i, i + 4, …, 16 bytes of each; then each
  // 16 bytes are transposed by themselves, and every word ends in the lane of its message.
  template <bool big_endian>
  static void Transpose(const uint8_t* const* data, int offset, V out[4]) {
    V m[4];
    HOLDFAST_UNROLL
    for (int i = 0; i < 4; ++i) {
      LoadRow(data + i, offset, m[i]);
      if constexpr (big_endian) {
        SwapWords(m[i]);
      }
    }
    constexpr std::make_index_sequence<kWords> kAll;
    V low01, low23, high01, high23;
    ShuffleQuads<0, 4, 1, 5>(m[0], m[1], kAll, low01);
    ShuffleQuads<0, 4, 1, 5>(m[2], m[3], kAll, low23);
    ShuffleQuads<2, 6, 3, 7>(m[0], m[1], kAll, high01);
    ShuffleQuads<2, 6, 3, 7>(m[2], m[3], kAll, high23);
    ShuffleQuads<0, 1, 4, 5>(low01, low23, kAll, out[0]);
    ShuffleQuads<2, 3, 6, 7>(low01, low23, kAll, out[1]);
    ShuffleQuads<0, 1, 4, 5>(high01, high23, kAll, out[2]);
    ShuffleQuads<2, 3, 6, 7>(high01, high23, kAll, out[3]);
  }

  static void SwapWords(V& words) {
    using Bytes = typename WordVector<kWords>::Bytes;
    Bytes bytes = (Bytes)words;
    SwapBytes(bytes, std::make_index_sequence<kWords * 4>());
    words = (V)bytes;
  }

  // Every word in the other byte order.
  Lanes Swapped() const {
    Lanes x = *this;
    HOLDFAST_UNROLL
    for (int i = 0; i < kParts; ++i) SwapWords(x.v[i]);
    return x;
  }

  // 16 bytes of every fourth message. By reference, as vectors wider than the target's own cannot
  // be returned without a word on ABIs.
  static void LoadRow(const uint8_t* const* data, int offset, V& row) {
    Quad quads[kWords / 4];
    HOLDFAST_UNROLL
    for (int j = 0; j < kWords / 4; ++j) std::memcpy(&quads[j], data[4 * j] + offset, 16);
    if constexpr (kWords == 4) {
      row = quads[0];
    } else if constexpr (kWords == 8) {
      row = __builtin_shufflevector(quads[0], quads[1], 0, 1, 2, 3, 4, 5, 6, 7);
    } else {
      using Half = typename WordVector<8>::Type;
      const Half low = __builtin_shufflevector(quads[0], quads[1], 0, 1, 2, 3, 4, 5, 6, 7);
      const Half high = __builtin_shufflevector(quads[2], quads[3], 0, 1, 2, 3, 4, 5, 6, 7);
      row =
          __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    }
  }

#define HOLDFAST_LANES_BINARY(op)                                   \
  friend inline Lanes operator op(const Lanes& x, const Lanes& y) { \
    Lanes z;                                                        \
    HOLDFAST_UNROLL                                                 \
    for (int i = 0; i < kParts; ++i) z.v[i] = x.v[i] op y.v[i];     \
    return z;                                                       \
  }
  HOLDFAST_LANES_BINARY(+)
  HOLDFAST_LANES_BINARY(&)
  HOLDFAST_LANES_BINARY(|)
  HOLDFAST_LANES_BINARY(^)
#undef HOLDFAST_LANES_BINARY
#define HOLDFAST_LANES_SCALAR(op, type)                     \
  friend inline Lanes operator op(const Lanes& x, type y) { \
    Lanes z;                                                \
    HOLDFAST_UNROLL                                         \
    for (int i = 0; i < kParts; ++i) z.v[i] = x.v[i] op y;  \
    return z;                                               \
  }
  HOLDFAST_LANES_SCALAR(+, uint32_t)
  HOLDFAST_LANES_SCALAR(<<, int)
  HOLDFAST_LANES_SCALAR(>>, int)
#undef HOLDFAST_LANES_SCALAR
  friend inline Lanes operator~(const Lanes& x) {
    Lanes z;
    HOLDFAST_UNROLL
    for (int i = 0; i < kParts; ++i) z.v[i] = ~x.v[i];
    return z;
  }
};

struct Sha256Digest {
  static constexpr int kStateWords = core::sha256::kStateWords;
  static constexpr bool kBigEndian = core::sha256::kBigEndian;
  template <class W>
  static void Compress(W* state, const W* block) {
    core::sha256::Compress<W>(state, block);
  }
};

struct Sha1Digest {
  static constexpr int kStateWords = core::sha1::kStateWords;
  static constexpr bool kBigEndian = core::sha1::kBigEndian;
  template <class W>
  static void Compress(W* state, const W* block) {
    core::sha1::Compress<W>(state, block);
  }
};

struct Md5Digest {
  static constexpr int kStateWords = core::md5::kStateWords;
  static constexpr bool kBigEndian = core::md5::kBigEndian;
  template <class W>
  static void Compress(W* state, const W* block) {
    core::md5::Compress<W>(state, block);
  }
};

struct AllDigests {
  static constexpr int kStateWords = core::all_digests::kStateWords;
  static constexpr bool kBigEndian = false;
  template <class W>
  static void Compress(W* state, const W* block) {
    W swapped[16];
    HOLDFAST_UNROLL
    for (int i = 0; i < 16; ++i) swapped[i] = block[i].Swapped();
    core::all_digests::Compress<W>(state, swapped, block);
  }
};

// A LaneStep.
template <class Digest, class W>
void VectorStep(LaneSet& set, size_t blocks) {
  W state[Digest::kStateWords];
  for (int i = 0; i < Digest::kStateWords; ++i) state[i] = W::Load(set.state + i * W::kLanes);
  for (; blocks != 0; --blocks) {
    W block[16];
    W::template LoadBlock<Digest::kBigEndian>(set.data, block);
    Digest::template Compress<W>(state, block);
    for (int lane = 0; lane < W::kLanes; ++lane) set.data[lane] += 64;
  }
  for (int i = 0; i < Digest::kStateWords; ++i) state[i].Store(set.state + i * W::kLanes);
}

}  // namespace
}  // namespace holdfast::kernels
