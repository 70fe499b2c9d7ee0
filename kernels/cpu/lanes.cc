#include "kernels/cpu/lanes.h"

#include <algorithm>
#include <cassert>
#include <functional>
#include <vector>

namespace holdfast::kernels {
namespace {

class LaneRunner {
 public:
  // Borrows all three.
  LaneRunner(const DigestCode& code, std::span<LaneJob> jobs) : code_(code) {
    for (LaneJob& job : jobs) {
      if (job.blocks() != 0) queue_.push_back(&job);
    }
    Sort();
  }
  LaneRunner(const LaneRunner&) = delete;
  LaneRunner& operator=(const LaneRunner&) = delete;

  // Runs all there is.
  void Run() {
    while (!queue_empty()) {
      const LaneKernel* kernel = Fastest();
      if (kernel == nullptr) return RunSingles();
      Start(*kernel);
      for (int busy = kernel->lanes; busy_ != 0;) {
        Step();
        if (busy_ == busy) continue;
        // Once lanes are idle, another kernel may end sooner.
        busy = busy_;
        if (busy != 0 && Fastest() != kernel) break;
      }
      Park();
    }
  }

 private:
  struct Lane {
    LaneJob* job = nullptr;  // Null when idle.
    int run = 0;             // Which of its runs; how much of that is left is in left_.
  };

  bool queue_empty() const { return next_ == queue_.size(); }

  // Fills the kernel's lanes.
  void Start(const LaneKernel& kernel) {
    kernel_ = &kernel;
    busy_ = 0;
    for (int lane = 0; lane < kernel.lanes; ++lane) Refill(lane);
  }

  // Puts the jobs in the lanes back into the queue, with what is left of them.
  void Park() {
    queue_.erase(queue_.begin(), queue_.begin() + static_cast<ptrdiff_t>(next_));
    next_ = 0;
    for (int lane = 0; lane < kernel_->lanes; ++lane) {
      const Lane& l = lanes_[lane];
      if (l.job == nullptr) continue;
      StoreState(lane, l.job->state);
      for (int i = 0; i < l.run; ++i) l.job->runs[i].blocks = 0;
      l.job->runs[l.run] = {set_.data[lane], left_[lane]};
      queue_.push_back(l.job);
      lanes_[lane].job = nullptr;
    }
    kernel_ = nullptr;
    busy_ = 0;
    Sort();
  }

  // Takes as many blocks as every lane has.
  void Step() {
    const size_t blocks = Fewest();
    kernel_->step(Lanes(), blocks);
    Advance(blocks);
  }

  // How many blocks every busy lane has before its job must be looked at.
  size_t Fewest() const {
    size_t fewest = SIZE_MAX;
    for (int lane = 0; lane < kernel_->lanes; ++lane) fewest = std::min(fewest, left_[lane]);
    return fewest;
  }

  // The lanes, fit for a step. An idle lane reads along with a busy one; nobody looks at its
  // result.
  LaneSet& Lanes() {
    if (busy_ == kernel_->lanes) return set_;
    const uint8_t* data = nullptr;
    size_t least = SIZE_MAX;
    for (int lane = 0; lane < kernel_->lanes; ++lane) {
      if (left_[lane] >= least) continue;
      least = left_[lane];
      data = set_.data[lane];
    }
    for (int lane = 0; lane < kernel_->lanes; ++lane) {
      if (lanes_[lane].job == nullptr) set_.data[lane] = data;
    }
    return set_;
  }

  // Books a step of so many blocks, and refills lanes.
  void Advance(size_t blocks) {
    for (int lane = 0; lane < kernel_->lanes; ++lane) {
      if (lanes_[lane].job == nullptr) continue;
      left_[lane] -= blocks;
      if (left_[lane] == 0) EndRun(lane);
    }
    // A fork may have come after lanes went idle.
    for (int lane = 0; lane < kernel_->lanes && !queue_empty() && busy_ < kernel_->lanes; ++lane) {
      if (lanes_[lane].job == nullptr) Refill(lane);
    }
  }

  void Sort() { std::ranges::stable_sort(queue_, std::greater<>(), &LaneJob::weight); }

  // The kernel that should end first with all there is; null for single-stream code. A kernel ends
  // when its lanes have shared the work, but not before the longest message has ended.
  const LaneKernel* Fastest() const {
    size_t sum = 0, longest = 0;
    const auto add = [&](size_t blocks) {
      sum += blocks;
      longest = std::max(longest, blocks);
    };
    for (size_t i = next_; i < queue_.size(); ++i) add(queue_[i]->weight());
    for (int lane = 0; lane < (kernel_ == nullptr ? 0 : kernel_->lanes); ++lane) {
      const LaneJob* job = lanes_[lane].job;
      if (job == nullptr) continue;
      size_t done = job->runs[lanes_[lane].run].blocks - left_[lane];
      for (int i = 0; i < lanes_[lane].run; ++i) done += job->runs[i].blocks;
      add(job->weight() - done);
    }
    const LaneKernel* fastest = nullptr;
    double least = static_cast<double>(sum) * code_.single_nanos;
    for (const LaneKernel& kernel : code_.kernels) {
      if (kernel.step == nullptr) continue;
      const double share = static_cast<double>(sum) / kernel.lanes;
      const double nanos = kernel.nanos * std::max(static_cast<double>(longest), share);
      if (nanos >= least) continue;
      least = nanos;
      fastest = &kernel;
    }
    return fastest;
  }

  // Gives the lane the next job; idle when there is none.
  void Refill(int lane) {
    lanes_[lane].job = nullptr;
    left_[lane] = SIZE_MAX;
    if (queue_empty()) return;
    LaneJob* job = queue_[next_++];
    int run = 0;
    while (job->runs[run].blocks == 0) ++run;
    lanes_[lane] = {job, run};
    set_.data[lane] = job->runs[run].data;
    left_[lane] = job->runs[run].blocks;
    for (int i = 0; i < code_.state_words; ++i) {
      set_.state[i * kernel_->lanes + lane] = job->state[i];
    }
    ++busy_;
  }

  // Moves a lane that has used up a run on to the next one with blocks, or to the next job.
  void EndRun(int lane) {
    Lane& l = lanes_[lane];
    while (true) {
      if (l.run == 1 && l.job->fork != nullptr) Fork(lane);
      if (++l.run == static_cast<int>(l.job->runs.size())) break;
      const BlockRun& run = l.job->runs[l.run];
      if (run.blocks == 0) continue;
      set_.data[lane] = run.data;
      left_[lane] = run.blocks;
      return;
    }
    StoreState(lane, l.job->state);
    --busy_;
    Refill(lane);
  }

  void Fork(int lane) {
    LaneJob* fork = lanes_[lane].job->fork;
    lanes_[lane].job->fork = nullptr;
    StoreState(lane, fork->state);
    Enqueue(fork);
  }

  void Enqueue(LaneJob* job) {
    if (job->blocks() == 0) return;
    const auto heavier = [](const LaneJob* a, const LaneJob* b) {
      return a->weight() > b->weight();
    };
    queue_.insert(std::upper_bound(queue_.begin() + static_cast<ptrdiff_t>(next_), queue_.end(),
                                   job, heavier),
                  job);
  }

  void StoreState(int lane, uint32_t* state) const {
    for (int i = 0; i < code_.state_words; ++i) state[i] = set_.state[i * kernel_->lanes + lane];
  }

  void RunSingles() {
    while (!queue_empty()) {
      LaneJob& job = *queue_[next_++];
      for (size_t i = 0; i < job.runs.size(); ++i) {
        if (job.runs[i].blocks != 0) code_.single(job.state, job.runs[i].data, job.runs[i].blocks);
        if (i != 1 || job.fork == nullptr) continue;
        std::copy_n(job.state, code_.state_words, job.fork->state);
        Enqueue(job.fork);
        job.fork = nullptr;
      }
    }
  }

  const DigestCode& code_;
  std::vector<LaneJob*> queue_;  // From next_ on: what no lane has, longest first.
  size_t next_ = 0;
  const LaneKernel* kernel_ = nullptr;
  int busy_ = 0;  // Lanes with a job.
  std::array<Lane, kMaxLanes> lanes_;
  std::array<size_t, kMaxLanes> left_;  // Blocks left in each lane's run; SIZE_MAX when idle.
  LaneSet set_;
};

}  // namespace

void RunLanes(const DigestCode& code, std::span<LaneJob> jobs) { LaneRunner(code, jobs).Run(); }

}  // namespace holdfast::kernels
