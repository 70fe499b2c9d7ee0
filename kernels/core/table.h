// The fingerprint table: which 64-bit fingerprints were seen, and since when. Open addressing over
// 16-byte slots with linear probing; fingerprints are digests, so they spread by themselves.
//
// A table forgets nothing, and may refuse: a fingerprint whose probes are all taken is not added.
// So "absent" is no proof, and, as fingerprints are 64 bits of a digest, neither is "there".
//
// Snapshots. Each insertion has an epoch, from 1 up. A find as of epoch e tells of insertions of
// epochs up to e and of none later, even while later ones run beside it: a slot gets its key first,
// and counts only once it has its epoch.
#pragma once

#include "kernels/core/word.h"

namespace holdfast::kernels::core::table {

struct alignas(16) Slot {
  uint64_t key;    // 0: empty.
  uint64_t epoch;  // 0: not written yet.
};
static_assert(sizeof(Slot) == 16);

constexpr uint32_t kMaxProbes = 512;
enum class Added : uint8_t { kNew, kThere, kRefused };

// Fingerprints of 0 share the slot of 1: the table only ever says "maybe".
HOLDFAST_HD constexpr uint64_t KeyOf(uint64_t fingerprint) {
  return fingerprint == 0 ? 1 : fingerprint;
}

// Where the probes for a key begin: its share of the table, high bits first.
HOLDFAST_HD uint64_t Home(uint64_t key, uint64_t slots) {
#if defined(__CUDA_ARCH__)
  return __umul64hi(key, slots);
#else
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>(Wide{key} * slots >> 64);
#endif
}

HOLDFAST_HD uint64_t Load(const uint64_t* word) {
#if defined(__CUDA_ARCH__)
  return *reinterpret_cast<const volatile uint64_t*>(word);
#else
  return __atomic_load_n(word, __ATOMIC_RELAXED);
#endif
}

// Puts `key` where 0 was; gives what was there.
HOLDFAST_HD uint64_t Claim(uint64_t* word, uint64_t key) {
#if defined(__CUDA_ARCH__)
  return atomicCAS(reinterpret_cast<unsigned long long*>(word), 0ull, key);
#else
  uint64_t was = 0;
  __atomic_compare_exchange_n(word, &was, key, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return was;
#endif
}

HOLDFAST_HD void Store(uint64_t* word, uint64_t value) {
#if defined(__CUDA_ARCH__)
  *reinterpret_cast<volatile uint64_t*>(word) = value;
#else
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
#endif
}

HOLDFAST_HD Added Insert(Slot* table, uint64_t slots, uint64_t fingerprint, uint64_t epoch) {
  const uint64_t key = KeyOf(fingerprint);
  uint64_t at = Home(key, slots);
  for (uint32_t probe = 0; probe < kMaxProbes && probe < slots; ++probe) {
    uint64_t was = Load(&table[at].key);
    if (was == 0) was = Claim(&table[at].key, key);
    if (was == 0) {
      Store(&table[at].epoch, epoch);
      return Added::kNew;
    }
    if (was == key) return Added::kThere;
    if (++at == slots) at = 0;
  }
  return Added::kRefused;
}

HOLDFAST_HD bool Find(const Slot* table, uint64_t slots, uint64_t fingerprint, uint64_t as_of) {
  const uint64_t key = KeyOf(fingerprint);
  uint64_t at = Home(key, slots);
  for (uint32_t probe = 0; probe < kMaxProbes && probe < slots; ++probe) {
    const uint64_t there = Load(&table[at].key);
    if (there == 0) return false;
    if (there == key) {
      const uint64_t epoch = Load(&table[at].epoch);
      return epoch != 0 && epoch <= as_of;
    }
    if (++at == slots) at = 0;
  }
  return false;
}

}  // namespace holdfast::kernels::core::table
