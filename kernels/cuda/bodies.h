// The code of one thread of each kernel: ordinary functions, for the device's grid and for a loop
// on the host.
#pragma once

#include "kernels/core/cut.h"
#include "kernels/core/md5.h"
#include "kernels/core/poly1305.h"
#include "kernels/core/sha1.h"
#include "kernels/core/sha256.h"
#include "kernels/cuda/device.h"

namespace holdfast::kernels::cuda {

// 16 bytes from a 16-aligned address, as four words.
HOLDFAST_HD void LoadQuad(const uint8_t* p, uint32_t words[4]) {
#if defined(__CUDA_ARCH__)
  const uint4 quad = *reinterpret_cast<const uint4*>(p);
  words[0] = quad.x;
  words[1] = quad.y;
  words[2] = quad.z;
  words[3] = quad.w;
#else
  for (int i = 0; i < 4; ++i) words[i] = core::LoadLe32(p + 4 * i);
#endif
}

// Four of the eight bytes low ‖ high, by number: the lowest 4 bits of `selector` name the lowest.
HOLDFAST_HD uint32_t PickBytes(uint32_t low, uint32_t high, uint32_t selector) {
#if defined(__CUDA_ARCH__)
  return __byte_perm(low, high, selector);
#else
  const uint64_t bytes = uint64_t{high} << 32 | low;
  uint32_t picked = 0;
  for (int i = 0; i < 4; ++i) {
    picked |= static_cast<uint32_t>(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  }
  return picked;
#endif
}

HOLDFAST_HD int LowestBit(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __ffs(static_cast<int>(bits)) - 1;
#else
  return __builtin_ctz(bits);
#endif
}

// The whole quads that a block of 64 bytes at any address lies in.
HOLDFAST_HD void LoadQuads(const uint8_t* p, uint32_t quads[20]) {
  const uint8_t* aligned = p - (reinterpret_cast<uintptr_t>(p) & 15);
  HOLDFAST_UNROLL
  for (int i = 0; i < 5; ++i) LoadQuad(aligned + 16 * i, quads + 4 * i);
}

// The block at p as 16 words, from its quads. Words, then bytes, are moved to their place, and the
// order of bytes comes with that at no cost.
template <bool big_endian>
HOLDFAST_HD void TakeBlock(const uint8_t* p, const uint32_t quads[20], uint32_t block[16]) {
  const uint32_t offset = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p) & 15);
  uint32_t w[20];
  HOLDFAST_UNROLL
  for (int i = 0; i < 20; ++i) w[i] = quads[i];
  const bool by_one = (offset & 4) != 0, by_two = (offset & 8) != 0;
  HOLDFAST_UNROLL
  for (int i = 0; i < 19; ++i) w[i] = by_one ? w[i + 1] : w[i];
  HOLDFAST_UNROLL
  for (int i = 0; i < 17; ++i) w[i] = by_two ? w[i + 2] : w[i];
  const uint32_t selector = (big_endian ? 0x0123u : 0x3210u) + (offset & 3) * 0x1111u;
  HOLDFAST_UNROLL
  for (int i = 0; i < 16; ++i) block[i] = PickBytes(w[i], w[i + 1], selector);
}

template <bool big_endian>
HOLDFAST_HD void LoadBlock(const uint8_t* p, uint32_t block[16]) {
  uint32_t quads[20];
  LoadQuads(p, quads);
  TakeBlock<big_endian>(p, quads, block);
}

HOLDFAST_HD void RunThread(const Prefilter& k, size_t word) {
  if (word == 0) {  // No window ends there, and nothing lies before it.
    k.candidates[0] = 0;
    return;
  }
  uint32_t w[12];  // From 16 bytes before the first position on.
  HOLDFAST_UNROLL
  for (int i = 0; i < 3; ++i) LoadQuad(k.data + 32 * word + 16 * i - 16, w + 4 * i);
  uint32_t bits = 0;
  HOLDFAST_UNROLL
  for (int j = 0; j < 32; ++j) {
    const int at = (j + 8) / 4;  // The word in which the 8 bytes before the position begin.
    const uint32_t selector = 0x3210u + static_cast<uint32_t>(j % 4) * 0x1111u;
    const uint64_t last = PickBytes(w[at], w[at + 1], selector) |
                          uint64_t{PickBytes(w[at + 1], w[at + 2], selector)} << 32;
    bits |= uint32_t{core::cut::Prefilter(k.multiplier, k.offset, last)} << j;
  }
  k.candidates[word] = bits;
}

// The confirm value of the window that ends before `end`.
HOLDFAST_HD uint64_t ConfirmValue(const CutRule& rule, const uint8_t* end) {
  uint32_t w[16];
  LoadBlock<false>(end - core::cut::kWindow, w);
  uint64_t words[8];
  HOLDFAST_UNROLL
  for (int i = 0; i < 8; ++i) words[i] = uint64_t{w[2 * i + 1]} << 32 | w[2 * i];
  return core::cut::Confirm(rule.confirm_seed, rule.confirm_multipliers, rule.final_multiplier,
                            words);
}

HOLDFAST_HD void RunThread(const Confirm& k, size_t group) {
  const uint64_t loose = core::cut::LooseThreshold(k.rule.average);
  uint32_t summary = 0;
  for (size_t i = 0; i < 32; ++i) {
    uint32_t bits = k.candidates[32 * group + i], kept = 0;
    if (bits == 0) continue;
    for (; bits != 0; bits &= bits - 1) {
      const int bit = LowestBit(bits);
      const size_t position = 32 * (32 * group + i) + static_cast<size_t>(bit);
      // No message has a window that begins before the buffer.
      if (position < core::cut::kWindow) continue;
      if (ConfirmValue(k.rule, k.data + position) < loose) kept |= uint32_t{1} << bit;
    }
    k.candidates[32 * group + i] = kept;
    summary |= uint32_t{kept != 0} << i;
  }
  k.summary[group] = summary;
}

// The first candidate in [from, to), or `to`.
HOLDFAST_HD uint64_t NextCandidate(const Select& k, uint64_t from, uint64_t to) {
  uint64_t word = from / 32;
  uint32_t bits = k.candidates[word] & ~uint32_t{0} << from % 32;
  while (bits == 0) {
    ++word;
    uint64_t group = word / 32;
    uint32_t words = k.summary[group] & ~uint32_t{0} << word % 32;
    while (words == 0 && 1024 * (group + 1) < to) words = k.summary[++group];
    word = 32 * group + static_cast<uint64_t>(words == 0 ? 0 : LowestBit(words));
    if (words == 0 || 32 * word >= to) return to;
    bits = k.candidates[word];
  }
  const uint64_t position = 32 * word + static_cast<uint64_t>(LowestBit(bits));
  return position < to ? position : to;
}

// The length of the chunk that starts `start` bytes into the message; 0 if it is not decided there.
HOLDFAST_HD uint64_t ChunkLength(const Select& k, const CutMessage& message, uint64_t start) {
  const uint64_t avg = k.rule.average, min = avg / 4, max = 4 * avg;
  const uint64_t rest = message.size - start, begin = message.begin + start;
  // The end of a slice that is not the last is a position like any other.
  const uint64_t room = message.last ? rest : rest + 1;
  const uint64_t end = room < max ? room : max;
  for (uint64_t d = min; d < end; ++d) {
    d = NextCandidate(k, begin + d, begin + end) - begin;
    if (d == end) break;
    if (d >= avg) return d;
    const uint64_t value = ConfirmValue(k.rule, k.data + begin + d);
    if (value < core::cut::StrictThreshold(k.rule.average)) return d;
  }
  if (rest >= max) return max;
  return message.last ? rest : 0;
}

HOLDFAST_HD void RunThread(const Select& k, size_t i) {
  const CutMessage message = k.messages[i];
  uint64_t start = 0;
  uint32_t count = 0;
  while (start < message.size) {
    const uint64_t length = ChunkLength(k, message, start);
    if (length == 0) break;
    start += length;
    k.ends[message.first_end + count++] = static_cast<uint32_t>(start);
  }
  k.counts[i] = count;
}

template <Algorithm algorithm>
struct AlgorithmOf;
template <>
struct AlgorithmOf<Algorithm::kSha256> {
  static constexpr int kStateWords = core::sha256::kStateWords;
  static constexpr bool kBigEndian = core::sha256::kBigEndian;
};
template <>
struct AlgorithmOf<Algorithm::kSha1> {
  static constexpr int kStateWords = core::sha1::kStateWords;
  static constexpr bool kBigEndian = core::sha1::kBigEndian;
};
template <>
struct AlgorithmOf<Algorithm::kMd5> {
  static constexpr int kStateWords = core::md5::kStateWords;
  static constexpr bool kBigEndian = core::md5::kBigEndian;
};

template <Algorithm algorithm>
HOLDFAST_HD void Compress(uint32_t* state, const uint32_t* block) {
  if constexpr (algorithm == Algorithm::kSha256) core::sha256::Compress<uint32_t>(state, block);
  if constexpr (algorithm == Algorithm::kSha1) core::sha1::Compress<uint32_t>(state, block);
  if constexpr (algorithm == Algorithm::kMd5) core::md5::Compress<uint32_t>(state, block);
}

// All threads of a warp compress in step, whichever of their rows they are in. The next block is
// loaded before the one at hand is compressed, and not touched until then: there are too few warps
// to hide the wait otherwise.
template <Algorithm algorithm>
HOLDFAST_HD void RunThread(const Digest<algorithm>& k, size_t i) {
  constexpr int kWords = AlgorithmOf<algorithm>::kStateWords;
  constexpr bool kBigEndian = AlgorithmOf<algorithm>::kBigEndian;
  const DigestJob job = k.jobs[i];
  const uint8_t* data = job.data[0];
  uint32_t left = job.blocks[0];
  int row = 0;
  const auto next_row = [&] {
    while (left == 0 && row < 2) {
      ++row;
      data = row == 1 ? job.data[1] : job.data[2];
      left = row == 1 ? job.blocks[1] : job.blocks[2];
    }
  };
  next_row();
  if (left == 0) return;
  uint32_t state[kWords], quads[20];
  HOLDFAST_UNROLL
  for (int w = 0; w < kWords; ++w) state[w] = k.states[i * kWords + w];
  LoadQuads(data, quads);
  while (left != 0) {
    uint32_t block[16];
    TakeBlock<kBigEndian>(data, quads, block);
    data += 64;
    --left;
    next_row();
    if (left != 0) LoadQuads(data, quads);
    Compress<algorithm>(state, block);
  }
  HOLDFAST_UNROLL
  for (int w = 0; w < kWords; ++w) k.states[i * kWords + w] = state[w];
}

HOLDFAST_HD void RunThread(const Mac& k, size_t i) {
  namespace poly1305 = core::poly1305;
  const MacJob job = k.jobs[i];
  poly1305::State state;
  state.r0 = k.key[0] & poly1305::kClamp0;
  state.r1 = k.key[1] & poly1305::kClamp1;
  state.s0 = k.key[2];
  state.s1 = k.key[3];
  const uint8_t* data = job.data;
  uint64_t left = job.size;
  for (; left >= 64; left -= 64, data += 64) {
    uint32_t w[16];
    LoadBlock<false>(data, w);
    HOLDFAST_UNROLL
    for (int j = 0; j < 16; j += 4) {
      poly1305::Block(state, uint64_t{w[j + 1]} << 32 | w[j], uint64_t{w[j + 3]} << 32 | w[j + 2],
                      1);
    }
  }
  poly1305::Blocks(state, data, left / 16);
  poly1305::Rest(state, data + left / 16 * 16, left % 16);
  poly1305::Finish(state, k.tags[i]);
}

HOLDFAST_HD void RunThread(const MarkRuns& k, size_t i) {
  core::duplicates::MarkRun(k.keys, k.order, k.count, k.digests, i, k.first);
}

HOLDFAST_HD void RunThread(const TableInsert& k, size_t i) {
  k.added[i] =
      static_cast<uint8_t>(core::table::Insert(k.table, k.slots, k.fingerprints[i], k.epoch));
}

HOLDFAST_HD void RunThread(const TableFind& k, size_t i) {
  k.found[i] = core::table::Find(k.table, k.slots, k.fingerprints[i], k.as_of);
}

}  // namespace holdfast::kernels::cuda
