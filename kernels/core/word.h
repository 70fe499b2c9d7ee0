// What the algorithms in this folder are written in: a word type W, rotations, and byte order.
//
// W is uint32_t (one message), or any type of several 32-bit lanes with the same operators
// (+ & | ^ ~ << >>, and + with a uint32_t that goes to every lane): a GNU vector, or a struct of
// them. A lane is a message. Loading words and swapping bytes is left to the shell that calls, as
// that is all in which lanes differ.
//
// Every function in this folder has internal linkage. A shell built for AVX-512 instantiates the
// same templates as the portable one; were the symbols weak, the linker could put the AVX-512 code
// in the portable path. Under nvcc the same functions compile for host and device.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define HOLDFAST_HD __host__ __device__ static inline
#define HOLDFAST_HD_ALWAYS __host__ __device__ static __forceinline__
#else
#define HOLDFAST_HD static inline
// For what must see constants in place of its arguments: a round, whose number unrolling gives.
#define HOLDFAST_HD_ALWAYS static inline __attribute__((always_inline))
#endif

// Full unrolling turns the round tables into immediates and the rotation of variables into names.
#if defined(__CUDA_ARCH__) || defined(__clang__)
#define HOLDFAST_UNROLL _Pragma("unroll")
#elif defined(__CUDACC__)
#define HOLDFAST_UNROLL  // nvcc's host pass knows neither spelling, and is only for tests.
#else
#define HOLDFAST_UNROLL _Pragma("GCC unroll 80")
#endif

namespace holdfast::kernels::core {

template <class W>
HOLDFAST_HD constexpr W RotateLeft(const W& x, int n) {
  return (x << n) | (x >> (32 - n));
}

template <class W>
HOLDFAST_HD constexpr W RotateRight(const W& x, int n) {
  return (x >> n) | (x << (32 - n));
}

// Byte order, one byte at a time: compilers make one load and one swap of these.
HOLDFAST_HD constexpr uint32_t LoadBe32(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | uint32_t{p[3]};
}

HOLDFAST_HD constexpr uint32_t LoadLe32(const uint8_t* p) {
  return uint32_t{p[3]} << 24 | uint32_t{p[2]} << 16 | uint32_t{p[1]} << 8 | uint32_t{p[0]};
}

HOLDFAST_HD constexpr uint64_t LoadLe64(const uint8_t* p) {
  return uint64_t{LoadLe32(p + 4)} << 32 | LoadLe32(p);
}

HOLDFAST_HD constexpr void StoreBe32(uint8_t* p, uint32_t x) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(x >> (24 - 8 * i));
}

HOLDFAST_HD constexpr void StoreLe32(uint8_t* p, uint32_t x) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(x >> (8 * i));
}

HOLDFAST_HD constexpr void StoreLe64(uint8_t* p, uint64_t x) {
  for (int i = 0; i < 8; ++i) p[i] = static_cast<uint8_t>(x >> (8 * i));
}

HOLDFAST_HD constexpr void StoreBe64(uint8_t* p, uint64_t x) {
  for (int i = 0; i < 8; ++i) p[i] = static_cast<uint8_t>(x >> (56 - 8 * i));
}

}  // namespace holdfast::kernels::core
