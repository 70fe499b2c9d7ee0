#include "kernels/cuda/device_batch.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <functional>
#include <numeric>
#include <thread>

#include "kernels/answers.h"
#include "kernels/core/word.h"
#include "kernels/cuda/share.h"

namespace holdfast::kernels::cuda {
namespace {

constexpr size_t kPositionsPerGroup = 1024;  // Of one word of the summary.
constexpr size_t kExtentAlign = 256;
// A gap is copied when that costs less than a copy of its own.
constexpr size_t kMaxGap = 16 << 10;
constexpr size_t kRowBlocks = 64;

CutRule RuleOf(const CutParams& cut) {
  CutRule rule{.prefilter_multiplier = cut.prefilter_multiplier,
               .prefilter_offset = cut.prefilter_offset,
               .confirm_seed = cut.confirm_seed,
               .confirm_multipliers = {},
               .final_multiplier = cut.final_multiplier,
               .average = cut.avg_size};
  std::ranges::copy(cut.confirm_multipliers, rule.confirm_multipliers);
  return rule;
}

// Of an H200: one thread alone, and what its integer units give in all (docs/performance.md says
// how that was come by). They decide who does what, never what comes out.
DigestRates RatesOf(Algorithm algorithm, const DigestCode& code) {
  DigestRates rates = algorithm == Algorithm::kSha256 ? DigestRates{1306, 0.0767, 0}
                      : algorithm == Algorithm::kSha1 ? DigestRates{615, 0.0363, 0}
                                                      : DigestRates{427, 0.0154, 0};
  rates.cpu_nanos = code.single_nanos;
  for (const LaneKernel& kernel : code.kernels) {
    if (kernel.step != nullptr)
      rates.cpu_nanos = std::min(rates.cpu_nanos, kernel.nanos / kernel.lanes);
  }
  return rates;
}

Kernel DigestKernel(Algorithm algorithm, const DigestJob* jobs, uint32_t* states) {
  switch (algorithm) {
    case Algorithm::kSha256:
      return Digest<Algorithm::kSha256>{jobs, states};
    case Algorithm::kSha1:
      return Digest<Algorithm::kSha1>{jobs, states};
    case Algorithm::kMd5:
      break;
  }
  return Digest<Algorithm::kMd5>{jobs, states};
}

}  // namespace

DeviceBatch::DeviceBatch(Device& device, const EngineOptions& options, const CpuCode& cpu,
                         bool cpu_tails)
    : device_(device),
      options_(options),
      cpu_(cpu),
      cpu_tails_(cpu_tails),
      rule_(RuleOf(options.cut)),
      stream_(device.NewStream()) {}

DeviceBatch::Result DeviceBatch::Run(std::span<Message* const> messages, std::string* error) {
  *error = "it has too little memory left";
  if (stream_ == nullptr) return Result::kNoMemory;
  LayOut(messages);
  if (!ReserveForCuts(messages)) return Result::kNoMemory;
  EnqueueCuts(messages);
  if (!stream_->Synchronize(error)) return Result::kLost;
  TakeCuts(messages);

  BatchDigests digests(messages, BatchDigests::Sharing::kNothing);
  const std::span<LaneJob> jobs[3] = {digests.sha256(), digests.sha1(), digests.md5()};
  const size_t all = jobs[0].size() + jobs[1].size() + jobs[2].size();
  small_used_ = 0;
  // A head and an ending of two blocks each; loads go beyond.
  if (!small_.Reserve(device_, all * 3 * kRowBlocks + 2 * kSlack)) return Result::kNoMemory;
  for (int i = 0; i < 3; ++i) {
    if (!PlanDigests(works_[i], jobs[i])) return Result::kNoMemory;
  }
  if (!PlanMacs(messages)) return Result::kNoMemory;
  EnqueueDigests();
  if (!stream_->Synchronize(error)) return Result::kLost;
  TakeAllDigests(jobs);
  TakeMacs(messages);
  digests.Conclude();
  for (Message* message : messages) message->from_device = true;
  return Result::kOk;
}

// Finds the extents and gives each its place, with the alignment it has on the host.
void DeviceBatch::LayOut(std::span<Message* const> messages) {
  extents_.clear();
  for (const Message* message : messages) {
    if (message->data.empty()) continue;
    extents_.push_back({message->data.data(), message->data.data() + message->data.size(), 0});
  }
  std::ranges::sort(extents_, std::less<>(), &Extent::begin);
  size_t kept = 0;
  for (size_t i = 1; i < extents_.size(); ++i) {
    Extent& last = extents_[kept];
    const Extent& next = extents_[i];
    // What lies in a gap is the caller's own only within what it registered.
    const bool near =
        next.begin <= last.end || (static_cast<size_t>(next.begin - last.end) <= kMaxGap &&
                                   device_.Registered({last.begin, next.end}));
    if (near) {
      last.end = std::max(last.end, next.end);
    } else {
      extents_[++kept] = next;
    }
  }
  if (!extents_.empty()) extents_.resize(kept + 1);
  data_size_ = kExtentAlign;
  for (Extent& extent : extents_) {
    extent.at = data_size_ + reinterpret_cast<uintptr_t>(extent.begin) % kExtentAlign;
    data_size_ = extent.at + static_cast<size_t>(extent.end - extent.begin);
    data_size_ = (data_size_ + kSlack + kExtentAlign - 1) / kExtentAlign * kExtentAlign;
  }
}

const uint8_t* DeviceBatch::OnDevice(const uint8_t* host) const {
  auto after = std::ranges::upper_bound(extents_, host, std::less<>(), &Extent::begin);
  assert(after != extents_.begin());
  const Extent& extent = *--after;
  return data_.data() + extent.at + (host - extent.begin);
}

bool DeviceBatch::ReserveForCuts(std::span<Message* const> messages) {
  const size_t groups = data_size_ / kPositionsPerGroup + 1;
  ends_size_ = 0;
  for (const Message* message : messages) {
    ends_size_ += message->data.size() / options_.cut.min_size() + 1;
  }
  return data_.Reserve(device_, groups * kPositionsPerGroup + kSlack) &&
         candidates_.Reserve(device_, groups * 32) && summary_.Reserve(device_, groups) &&
         cut_messages_.Reserve(device_, messages.size()) && ends_.Reserve(device_, ends_size_) &&
         counts_.Reserve(device_, messages.size());
}

void DeviceBatch::EnqueueCuts(std::span<Message* const> messages) {
  const size_t groups = data_size_ / kPositionsPerGroup + 1;
  size_t at = 0;  // What lies between the extents is read, though nothing depends on it.
  for (const Extent& extent : extents_) {
    stream_->Zero({data_.data() + at, extent.at - at});
    stream_->CopyIn(data_.data() + extent.at, {extent.begin, extent.end});
    at = extent.at + static_cast<size_t>(extent.end - extent.begin);
  }
  stream_->Zero({data_.data() + at, groups * kPositionsPerGroup + kSlack - at});
  uint32_t first_end = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = *messages[i];
    const bool empty = message.data.empty();
    cut_messages_.host[i] = {
        .begin = empty ? 0 : static_cast<uint64_t>(OnDevice(message.data.data()) - data_.data()),
        .size = message.data.size(),
        .last = message.last,
        .first_end = first_end};
    first_end += static_cast<uint32_t>(message.data.size() / options_.cut.min_size() + 1);
  }
  cut_messages_.CopyIn(*stream_, messages.size());
  stream_->Run(Prefilter{data_.data(), candidates_.data(), rule_.prefilter_multiplier,
                         rule_.prefilter_offset},
               groups * 32);
  stream_->Run(Confirm{data_.data(), candidates_.data(), summary_.data(), rule_}, groups);
  stream_->Zero(ends_.device.bytes(ends_size_));  // Not all of them are written.
  stream_->Run(Select{data_.data(), candidates_.data(), summary_.data(), rule_,
                      cut_messages_.device.data(), ends_.device.data(), counts_.device.data()},
               messages.size());
  ends_.CopyOut(*stream_, ends_size_);
  counts_.CopyOut(*stream_, messages.size());
}

void DeviceBatch::TakeCuts(std::span<Message* const> messages) const {
  for (size_t i = 0; i < messages.size(); ++i) {
    Message& message = *messages[i];
    message.chunks.assign(counts_.host[i], {});
    message.consumed = 0;
    for (size_t c = 0; c < message.chunks.size(); ++c) {
      const size_t end = ends_.host[cut_messages_.host[i].first_end + c];
      message.chunks[c].length = static_cast<uint32_t>(end - message.consumed);
      message.consumed = end;
    }
  }
}

size_t DeviceBatch::StateWords(Algorithm algorithm) const {
  return static_cast<size_t>(CodeOf(algorithm).state_words);
}

const DigestCode& DeviceBatch::CodeOf(Algorithm algorithm) const {
  if (algorithm == Algorithm::kSha256) return cpu_.sha256;
  return algorithm == Algorithm::kSha1 ? cpu_.sha1 : cpu_.md5;
}

bool DeviceBatch::PlanDigests(DigestWork& work, std::span<LaneJob> jobs) {
  const size_t words = StateWords(work.algorithm);
  work.jobs.clear();
  for (LaneJob& job : jobs) work.jobs.push_back(&job);
  std::ranges::stable_sort(work.jobs, std::greater<>(), &LaneJob::blocks);
  if (!work.rows.Reserve(device_, jobs.size()) ||
      !work.states.Reserve(device_, jobs.size() * words))
    return false;
  std::vector<size_t> blocks(jobs.size());
  std::ranges::transform(work.jobs, blocks.begin(), &LaneJob::blocks);
  const DigestRates rates = RatesOf(work.algorithm, CodeOf(work.algorithm));
  const size_t share = cpu_tails_ ? DeviceShare(blocks, rates) : SIZE_MAX;
  for (size_t i = 0; i < jobs.size(); ++i) {
    std::copy_n(work.jobs[i]->state, words, work.states.host.data() + i * words);
    PlanRows(work, i, share);
  }
  return true;
}

// The device's share of a job's rows; what is left of them stays with the job.
void DeviceBatch::PlanRows(DigestWork& work, size_t job, size_t share) {
  DigestJob& row = work.rows.host[job];
  row = {};
  for (size_t r = 0; r < 3 && share != 0; ++r) {
    BlockRun& run = work.jobs[job]->runs[r];
    if (run.blocks == 0) continue;
    const size_t blocks = std::min(run.blocks, share);
    row.blocks[r] = static_cast<uint32_t>(blocks);
    if (r == 1) {
      row.data[r] = OnDevice(run.data);
    } else {
      const size_t at = kSlack + small_used_;
      std::memcpy(small_.host.data() + at, run.data, blocks * kRowBlocks);
      row.data[r] = small_.device.data() + at;
      small_used_ += blocks * kRowBlocks;
    }
    run = {run.data + blocks * kRowBlocks, run.blocks - blocks};
    share -= blocks;
  }
}

bool DeviceBatch::PlanMacs(std::span<Message* const> messages) {
  macs_ = 0;
  for (const Message* message : messages) macs_ += message->chunks.size();
  if (!mac_jobs_.Reserve(device_, macs_) || !tags_.Reserve(device_, 16 * macs_)) return false;
  size_t i = 0;
  for (const Message* message : messages) {
    size_t at = 0;
    for (const Chunk& chunk : message->chunks) {
      mac_jobs_.host[i++] = {OnDevice(message->data.data() + at), chunk.length};
      at += chunk.length;
    }
  }
  return true;
}

void DeviceBatch::EnqueueDigests() {
  std::vector<Launch> launches;
  std::memset(small_.host.data(), 0, kSlack);
  std::memset(small_.host.data() + kSlack + small_used_, 0, kSlack);
  small_.CopyIn(*stream_, small_used_ + 2 * kSlack);
  for (DigestWork& work : works_) {
    const size_t n = work.jobs.size();
    if (n == 0) continue;
    work.rows.CopyIn(*stream_, n);
    work.states.CopyIn(*stream_, n * StateWords(work.algorithm));
    launches.push_back(
        {DigestKernel(work.algorithm, work.rows.device.data(), work.states.device.data()), n});
  }
  mac_jobs_.CopyIn(*stream_, macs_);
  Mac mac{mac_jobs_.device.data(), {}, reinterpret_cast<uint8_t(*)[16]>(tags_.device.data())};
  for (int i = 0; i < 4; ++i) mac.key[i] = core::LoadLe64(options_.poly1305_key.data() + 8 * i);
  if (macs_ != 0) launches.push_back({mac, macs_});
  stream_->Run(launches);
  for (DigestWork& work : works_) {
    work.states.CopyOut(*stream_, work.jobs.size() * StateWords(work.algorithm));
  }
  tags_.CopyOut(*stream_, 16 * macs_);
}

// The long tails of one algorithm need not wait for those of another.
void DeviceBatch::TakeAllDigests(const std::span<LaneJob> jobs[3]) {
  std::thread sha1([&] { TakeDigests(works_[1], jobs[1]); });
  std::thread md5([&] { TakeDigests(works_[2], jobs[2]); });
  TakeDigests(works_[0], jobs[0]);
  sha1.join();
  md5.join();
}

// The states as the device left them; then the CPU does what it did not.
void DeviceBatch::TakeDigests(DigestWork& work, std::span<LaneJob> jobs) {
  const size_t words = StateWords(work.algorithm);
  for (size_t i = 0; i < work.jobs.size(); ++i) {
    std::copy_n(work.states.host.data() + i * words, words, work.jobs[i]->state);
  }
  RunLanes(CodeOf(work.algorithm), jobs);
}

void DeviceBatch::TakeMacs(std::span<Message* const> messages) const {
  const uint8_t* tag = tags_.host.data();
  for (Message* message : messages) {
    for (Chunk& chunk : message->chunks) {
      std::copy_n(tag, chunk.poly1305.size(), chunk.poly1305.begin());
      tag += chunk.poly1305.size();
    }
  }
}

std::vector<uint32_t> DeviceBatch::FirstSame(std::span<const core::duplicates::Digest> digests) {
  const size_t n = digests.size();
  const size_t scratch = device_.SortScratch(n);
  if (n == 0 || stream_ == nullptr || !digests_.Reserve(device_, n) || !keys_.Reserve(device_, n) ||
      !order_.Reserve(device_, n) || !first_.Reserve(device_, n) ||
      !sorted_keys_.Reserve(device_, n) || !sorted_order_.Reserve(device_, n) ||
      !scratch_.Reserve(device_, scratch)) {
    return kernels::FirstSame(digests);
  }
  std::ranges::copy(digests, digests_.host.data());
  std::ranges::transform(digests, keys_.host.data(), core::duplicates::KeyOf);
  std::iota(order_.host.data(), order_.host.data() + n, 0);
  digests_.CopyIn(*stream_, n);
  keys_.CopyIn(*stream_, n);
  order_.CopyIn(*stream_, n);
  stream_->Run(Sort{keys_.device.data(), sorted_keys_.data(), order_.device.data(),
                    sorted_order_.data(), n, scratch_.bytes(scratch)});
  stream_->Run(MarkRuns{sorted_keys_.data(), sorted_order_.data(), n, digests_.device.data(),
                        first_.device.data()},
               n);
  first_.CopyOut(*stream_, n);
  std::string error;
  if (!stream_->Synchronize(&error)) return kernels::FirstSame(digests);
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t first = first_.host[i];
    if (first > i || !core::duplicates::Same(digests[first], digests[i])) {
      return kernels::FirstSame(digests);
    }
  }
  return {first_.host.data(), first_.host.data() + n};
}

}  // namespace holdfast::kernels::cuda
