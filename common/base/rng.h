// The Rng seam: random bytes for keys, uuids and nonces.
#pragma once

#include <cstdint>

#include "common/base/bytes.h"

namespace holdfast {

class Rng {
 public:
  virtual ~Rng() = default;
  virtual void Fill(MutableBytes out) = 0;

  template <class IdType>
  IdType NewId() {
    IdType id;
    Fill(id.value);
    return id;
  }
  uint64_t NextU64();
  // Uniform in [0, n); n > 0.
  uint64_t Below(uint64_t n);
};

// OpenSSL's generator; ends the process when the system gives no entropy. Thread-safe.
Rng& SecureRng();

// A fixed sequence for a seed (simulation and tests only). Not thread-safe.
class SimRng : public Rng {
 public:
  explicit SimRng(uint64_t seed) : state_(seed) {}
  void Fill(MutableBytes out) override;

 private:
  uint64_t state_;  // splitmix64
};

}  // namespace holdfast
