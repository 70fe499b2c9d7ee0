// The border between ordinary code and the code of one instruction set.
//
// This header is all that files built for one instruction set see of the C++ side: plain types, and
// nothing of the standard library that is a template or inline. Were one of its functions emitted
// by a file built for AVX-512, the linker could take that copy for the whole program.
// tests/kernels/isa_test.py looks for such symbols.
#pragma once

#include <cstddef>
#include <cstdint>

namespace holdfast::kernels {

constexpr int kMaxLanes = 32;
constexpr int kMaxStateWords = 17;  // Of the three digests together.

// Messages side by side, one in each lane.
struct LaneSet {
  const uint8_t* data[kMaxLanes];  // The next block of each lane.
  // Word w of lane l is state[w * lanes + l], with as many lanes as the step has.
  alignas(64) uint32_t state[kMaxStateWords * kMaxLanes];
};

// Takes `blocks` blocks of 64 bytes in every lane, and moves the data pointers on.
using LaneStep = void (*)(LaneSet& set, size_t blocks);

// Gives a position in [from, to] such that the cut rule's prefilter passes nowhere in [from, it).
// It passes at the position itself, or as good as always, unless that has come nearer to `to` than
// kMaxCutGroup. `from` is at least 8.
using CutFinder = size_t (*)(const uint8_t* data, size_t from, size_t to, uint64_t k1, uint64_t k0);
constexpr size_t kMaxCutGroup = 64;

// What every target has: lanes_portable.cc, scan.cc.
void Md5PortableX8(LaneSet& set, size_t blocks);
size_t FindCutPortable(const uint8_t* data, size_t from, size_t to, uint64_t k1, uint64_t k0);

#if defined(__x86_64__)
// The SHA extensions, with SSE4.1 and SSSE3: sha_ni.cc.
void Sha256NiX1(LaneSet& set, size_t blocks);
void Sha256NiX2(LaneSet& set, size_t blocks);
void Sha256NiX3(LaneSet& set, size_t blocks);
void Sha1NiX1(LaneSet& set, size_t blocks);
void Sha1NiX2(LaneSet& set, size_t blocks);
void Sha1NiX3(LaneSet& set, size_t blocks);

// AVX2: avx2.cc.
// Says that the upper halves of the vector registers hold nothing. While they do, each instruction
// of the SHA extensions, which know only the lower halves, waits for a merge.
void ClearUpperAvx2();
void Sha256Avx2X8(LaneSet& set, size_t blocks);
void Sha1Avx2X8(LaneSet& set, size_t blocks);
void Md5Avx2X8(LaneSet& set, size_t blocks);
void Md5Avx2X16(LaneSet& set, size_t blocks);
size_t FindCutAvx2(const uint8_t* data, size_t from, size_t to, uint64_t k1, uint64_t k0);

// AVX-512 F, BW, DQ and VL: avx512.cc.
void Sha256Avx512X16(LaneSet& set, size_t blocks);
void Sha1Avx512X16(LaneSet& set, size_t blocks);
void Md5Avx512X16(LaneSet& set, size_t blocks);
void Md5Avx512X32(LaneSet& set, size_t blocks);
// SHA-256, SHA-1 and MD5 of the same blocks.
void AllAvx512X16(LaneSet& set, size_t blocks);
size_t FindCutAvx512(const uint8_t* data, size_t from, size_t to, uint64_t k1, uint64_t k0);
#endif

}  // namespace holdfast::kernels
