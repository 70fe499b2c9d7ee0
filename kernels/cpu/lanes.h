// Runs many messages through one digest side by side, a message in each lane.
//
// A digest of one stream waits on its own last result; several streams side by side hide that wait,
// and in a vector share each instruction. Lanes are refilled as messages end, longest messages
// first, so that they stay full until little is left; what is left then goes to fewer lanes, or to
// single-stream code, whichever should end first.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/lane_step.h"
#include "kernels/cpu/object_digest.h"
#include "kernels/cpu/stream.h"

namespace holdfast::kernels {

// One message on its way through one digest.
struct LaneJob {
  uint32_t* state;               // The chaining value; in and out.
  std::array<BlockRun, 3> runs;  // What to run through it, in order. Runs may be empty.
  // Another message with the same beginning: runs[0] and runs[1]. Where these end, which they must
  // not at once, its state is set to this one's, and it follows as a job of its own.
  LaneJob* fork = nullptr;

  size_t blocks() const { return runs[0].blocks + runs[1].blocks + runs[2].blocks; }
  // With the blocks that must wait for these.
  size_t weight() const { return blocks() + (fork == nullptr ? 0 : fork->blocks()); }
};

// One way to run a digest in lanes.
struct LaneKernel {
  LaneStep step = nullptr;
  int lanes = 0;
  // Nanoseconds of one block in every lane, as measured once; only ratios between the kernels of a
  // digest count. bench/kernels prints the measure for the machine it runs on.
  double nanos = 0;
};

// All ways to run one digest on a CPU.
struct DigestCode {
  int state_words = 0;
  StreamCode::BlockFunction single = nullptr;
  double single_nanos = 0;              // Of one block.
  std::array<LaneKernel, 3> kernels{};  // In any order; those not used have no step.
};

// Runs the jobs. Their states end up right; their runs are used up.
void RunLanes(const DigestCode& code, std::span<LaneJob> jobs);

}  // namespace holdfast::kernels
