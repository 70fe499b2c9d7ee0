// Runs many messages through one digest side by side, a message in each lane of a vector.
//
// A digest of one stream waits on its own last result; several streams in one vector hide that
// wait and share each instruction. Lanes are refilled as messages end, longest messages first, so
// that they stay full until little is left; what is left then goes to single-stream code.
//
// The template is the shell for any width. Instantiate it only with a Vector from an unnamed
// namespace, so that code built for one instruction set is never linked for another.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <vector>

#include "kernels/cpu/object_digest.h"
#include "kernels/cpu/stream.h"

namespace holdfast::kernels {

// One message on its way through one digest.
struct LaneJob {
  uint32_t* state;          // The chaining value; in and out.
  std::array<Run, 3> runs;  // What to run through it, in order. Runs may be empty.

  size_t blocks() const { return runs[0].blocks + runs[1].blocks + runs[2].blocks; }
};

// MD5 of the jobs, in the vectors every target has. `single` takes what would leave lanes empty.
void Md5InPortableLanes(std::span<const LaneJob> jobs, StreamCode::BlockFunction single);

// Digest: kStateWords, kBigEndian, Compress<W>(state, block), kSinglesPerLane (below).
// Vector: kLanes; Load(const uint32_t*) and Store(uint32_t*) of kLanes words; and
// LoadBlock<big_endian>(const uint8_t* const* data, Vector* block), which transposes.
template <class Digest, class Vector>
class LaneRunner {
 public:
  LaneRunner(std::span<const LaneJob> jobs, StreamCode::BlockFunction single)
      : jobs_(jobs), single_(single), order_(jobs.size()) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::ranges::stable_sort(order_, std::greater<>(), [&](size_t i) { return jobs_[i].blocks(); });
  }

  void Run() {
    for (int lane = 0; lane < kLanes; ++lane) Refill(lane);
    while (LanesPay()) {
      Step(FewestBlocks());
      for (int lane = 0; lane < kLanes; ++lane) {
        if (lanes_[lane].job == nullptr || NextRun(lanes_[lane])) continue;
        StoreState(lane);
        Refill(lane);
      }
    }
    for (int lane = 0; lane < kLanes; ++lane) FinishAlone(lane);
  }

 private:
  static constexpr int kLanes = Vector::kLanes;

  struct Lane {
    const LaneJob* job = nullptr;   // Null when idle.
    size_t run = 0;                 // Which of its runs,
    ::holdfast::kernels::Run rest;  // and what is left of that.

    size_t blocks() const {
      size_t sum = rest.blocks;
      for (size_t i = run + 1; i < job->runs.size(); ++i) sum += job->runs[i].blocks;
      return sum;
    }
  };

  // Moves on to the next run with blocks where this one is used up; false at the end of the job.
  static bool NextRun(Lane& lane) {
    while (lane.rest.blocks == 0) {
      if (++lane.run == lane.job->runs.size()) return false;
      lane.rest = lane.job->runs[lane.run];
    }
    return true;
  }

  // Gives the lane the next job that has any blocks; idle when there is none.
  void Refill(int lane) {
    lanes_[lane] = {};
    while (next_ < order_.size()) {
      const LaneJob& job = jobs_[order_[next_++]];
      lanes_[lane] = {.job = &job, .run = 0, .rest = job.runs[0]};
      if (NextRun(lanes_[lane])) {
        for (int i = 0; i < Digest::kStateWords; ++i) state_[i][lane] = job.state[i];
        return;
      }
      lanes_[lane] = {};
    }
  }

  void StoreState(int lane) {
    for (int i = 0; i < Digest::kStateWords; ++i) lanes_[lane].job->state[i] = state_[i][lane];
  }

  // Whether what is left ends sooner in lanes. While jobs wait, all lanes are full.
  bool LanesPay() const {
    if (next_ < order_.size()) return true;
    size_t longest = 0, sum = 0;
    for (const Lane& lane : lanes_) {
      if (lane.job == nullptr) continue;
      longest = std::max(longest, lane.blocks());
      sum += lane.blocks();
    }
    return static_cast<double>(sum) > Digest::kSinglesPerLane * static_cast<double>(longest);
  }

  size_t FewestBlocks() const {
    size_t fewest = SIZE_MAX;
    for (const Lane& lane : lanes_) {
      if (lane.job != nullptr) fewest = std::min(fewest, lane.rest.blocks);
    }
    return fewest;
  }

  // Takes `blocks` blocks in every lane. Idle lanes chew on one block of zeros.
  void Step(size_t blocks) {
    static constexpr uint8_t kZeros[64] = {};
    const uint8_t* data[kLanes];
    size_t stride[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      const bool busy = lanes_[lane].job != nullptr;
      data[lane] = busy ? lanes_[lane].rest.data : kZeros;
      stride[lane] = busy ? 64 : 0;
    }
    Vector state[Digest::kStateWords];
    for (int i = 0; i < Digest::kStateWords; ++i) state[i] = Vector::Load(state_[i]);
    for (size_t n = 0; n < blocks; ++n) {
      Vector block[16];
      Vector::template LoadBlock<Digest::kBigEndian>(data, block);
      Digest::template Compress<Vector>(state, block);
      for (int lane = 0; lane < kLanes; ++lane) data[lane] += stride[lane];
    }
    for (int i = 0; i < Digest::kStateWords; ++i) state[i].Store(state_[i]);
    for (Lane& lane : lanes_) {
      if (lane.job == nullptr) continue;
      lane.rest.data += 64 * blocks;
      lane.rest.blocks -= blocks;
    }
  }

  void FinishAlone(int lane) {
    Lane& l = lanes_[lane];
    if (l.job == nullptr) return;
    StoreState(lane);
    for (; NextRun(l); l.rest.blocks = 0) single_(l.job->state, l.rest.data, l.rest.blocks);
  }

  const std::span<const LaneJob> jobs_;
  const StreamCode::BlockFunction single_;
  std::vector<size_t> order_;
  size_t next_ = 0;
  std::array<Lane, kLanes> lanes_;
  alignas(64) uint32_t state_[Digest::kStateWords][kLanes] = {};
};

}  // namespace holdfast::kernels
