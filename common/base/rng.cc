#include "common/base/rng.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace holdfast {

uint64_t Rng::NextU64() {
  uint8_t b[8];
  Fill(b);
  uint64_t v = 0;
  for (int i = 0; i < 8; ++i) v |= static_cast<uint64_t>(b[i]) << (8 * i);
  return v;
}

uint64_t Rng::Below(uint64_t n) {
  // Lemire, "Fast Random Integer Generation in an Interval" (2019): the high half of a product is
  // uniform once the few low halves that would favour small results are drawn again.
  unsigned __int128 product = static_cast<unsigned __int128>(NextU64()) * n;
  if (static_cast<uint64_t>(product) < n) {
    uint64_t threshold = -n % n;
    while (static_cast<uint64_t>(product) < threshold) {
      product = static_cast<unsigned __int128>(NextU64()) * n;
    }
  }
  return static_cast<uint64_t>(product >> 64);
}

namespace {

void SystemRandom(uint8_t* out, size_t size) {
  constexpr size_t kAtOnce = 256;  // More than that getentropy refuses.
  while (size > 0) {
    const size_t n = std::min(size, kAtOnce);
    if (getentropy(out, n) != 0) {
      // Going on would mean guessable keys and repeated nonces.
      std::fprintf(stderr, "holdfast: the system gives no random bytes\n");
      std::abort();
    }
    out += n;
    size -= n;
  }
}

// Counts forks, so that a child never hands out the bytes its parent has buffered.
std::atomic<uint64_t> fork_count{0};

// A system call costs about a microsecond however little is asked for; ids and nonces are small.
struct RandomBuffer {
  ~RandomBuffer() { OPENSSL_cleanse(bytes, sizeof bytes); }
  uint8_t bytes[512];
  size_t used = sizeof bytes;
  uint64_t forks = 0;
};

class SystemRng : public Rng {
 public:
  SystemRng() {
    pthread_atfork(nullptr, nullptr, [] { fork_count.fetch_add(1, std::memory_order_relaxed); });
  }

  void Fill(MutableBytes out) override {
    thread_local RandomBuffer buffer;
    if (out.size() > sizeof(buffer.bytes) / 4) return SystemRandom(out.data(), out.size());
    uint64_t forks = fork_count.load(std::memory_order_relaxed);
    if (buffer.forks != forks || sizeof(buffer.bytes) - buffer.used < out.size()) {
      SystemRandom(buffer.bytes, sizeof buffer.bytes);
      buffer.used = 0;
      buffer.forks = forks;
    }
    std::copy_n(buffer.bytes + buffer.used, out.size(), out.data());
    // What was handed out may be a key: no copy of it stays here.
    OPENSSL_cleanse(buffer.bytes + buffer.used, out.size());
    buffer.used += out.size();
  }
};

}  // namespace

Rng& SecureRng() {
  // Never destroyed: threads may still draw while the process ends.
  static SystemRng& rng = *new SystemRng;
  return rng;
}

void SimRng::Fill(MutableBytes out) {
  // splitmix64 (Steele, Lea, Flood, 2014), its words in little-endian order.
  for (size_t done = 0; done < out.size();) {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    for (int i = 0; i < 8 && done < out.size(); ++i, ++done) {
      out[done] = static_cast<uint8_t>(z >> (8 * i));
    }
  }
}

}  // namespace holdfast
