// What all simulated disks hang on.
#pragma once

#include <cstdint>
#include <memory>

#include "common/io/sim_fs.h"
#include "common/kv/kv.h"

namespace holdfast::sim {

// Counts the operations that reach any simulated disk, and cuts the power at a chosen one.
class PowerSupply {
 public:
  explicit PowerSupply(SimFs& fs) : fs_(fs) {}
  // Called before an operation of a Kv. False: the power is off.
  bool Step();
  uint64_t steps() const { return kv_steps_ + fs_.operations(); }
  // The power fails `after` operations from now, wherever that is.
  void CutAfter(uint64_t after);
  bool on() const { return fs_.powered(); }

 private:
  SimFs& fs_;
  uint64_t kv_steps_ = 0;
  uint64_t kv_cut_at_ = UINT64_MAX;
};

// Stops with the power: `power` outlives it.
std::unique_ptr<Kv> WithPower(std::unique_ptr<Kv> kv, PowerSupply& power);

}  // namespace holdfast::sim
