#include "kernels/cuda/device_engine.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/answers.h"
#include "kernels/cpu/cpu_engine.h"
#include "kernels/cuda/device_batch.h"

namespace holdfast::kernels::cuda {
namespace {

bool SameDigests(const DigestState& a, const DigestState& b, uint32_t digests) {
  return a.length == b.length && (!(digests & kSha256) || a.sha256 == b.sha256) &&
         (!(digests & kSha1) || a.sha1 == b.sha1) && (!(digests & kMd5) || a.md5 == b.md5);
}

bool SameOutcome(const Message& a, const Message& b) {
  const auto same_chunk = [](const Chunk& x, const Chunk& y) {
    return x.length == y.length && x.sha256 == y.sha256 && x.poly1305 == y.poly1305;
  };
  if (a.consumed != b.consumed || !std::ranges::equal(a.chunks, b.chunks, same_chunk)) return false;
  if (!a.last) return SameDigests(*a.state, *b.state, a.digests);
  return a.result.sha256 == b.result.sha256 && a.result.sha1 == b.result.sha1 &&
         a.result.md5 == b.result.md5;
}

class DeviceEngine final : public Engine {
 public:
  DeviceEngine(std::unique_ptr<Device> device, const EngineOptions& options, const CpuCode& cpu,
               DeviceEngineOptions device_options)
      : options_(options),
        device_options_(std::move(device_options)),
        cpu_code_(cpu),
        cpu_(MakeCpuEngine(options, cpu)),
        checker_(MakeCpuEngine({.cut = options.cut, .poly1305_key = options.poly1305_key}, cpu)),
        device_(std::move(device)),
        name_("cuda (" + std::string(device_->name()) + ")") {
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    const int batches =
        device_options_.batches > 0 ? device_options_.batches : std::clamp(cores / 2, 3, 8);
    for (int i = 0; i < batches; ++i) {
      threads_.emplace_back([this] { Work(); });
    }
  }

  ~DeviceEngine() override {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::string_view name() const override { return name_; }
  size_t good_batch_bytes() const override {
    return stopped_ ? 0 : device_options_.batch_bytes / 4;
  }
  void Distrust(std::string_view why) override {
    Stop("IT COMPUTES WRONGLY: " + std::string(why) + ". Do not trust this device");
  }
  void Register(std::span<const uint8_t> memory) override { device_->Register(memory); }
  void Unregister(std::span<const uint8_t> memory) override { device_->Unregister(memory); }

  void Submit(Batch& batch, std::function<void(Status)> done) override {
    for (const Message& message : batch.messages) {
      if (message.state == nullptr) return done(Status::kInvalidArgument);
    }
    if (stopped_) return cpu_->Submit(batch, std::move(done));
    {
      std::lock_guard lock(mutex_);
      jobs_.push_back({&batch, std::move(done)});
    }
    changed_.notify_one();
  }

 private:
  struct Job {
    Batch* batch;
    std::function<void(Status)> done;
  };

  void Work() {
    DeviceBatch device_batch(*device_, options_, cpu_code_, device_options_.cpu_tails);
    while (true) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closing_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      Job job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      Process(device_batch, *job.batch, std::move(job.done));
    }
  }

  void Process(DeviceBatch& device_batch, Batch& batch, std::function<void(Status)> done) {
    std::vector<DigestState> before;
    before.reserve(batch.messages.size());
    for (const Message& message : batch.messages) before.push_back(*message.state);
    // What was under way when the device was found wrong is not handed out either.
    if (stopped_ || !RunOnDevice(device_batch, batch, before) || stopped_) {
      for (size_t i = 0; i < before.size(); ++i) *batch.messages[i].state = before[i];
      return cpu_->Submit(batch, std::move(done));
    }
    AnswerDuplicates(batch, options_.table, [&](std::span<const core::duplicates::Digest> digests) {
      return device_batch.FirstSame(digests);
    });
    done(Status::kOk);
  }

  // In as many parts as it takes.
  bool RunOnDevice(DeviceBatch& device_batch, Batch& batch,
                   const std::vector<DigestState>& before) {
    std::vector<Message*> part;
    size_t bytes = 0;
    for (Message& message : batch.messages) {
      if (!part.empty() && bytes + message.data.size() > device_options_.batch_bytes) {
        if (!RunPart(device_batch, part)) return false;
        part.clear();
        bytes = 0;
      }
      part.push_back(&message);
      bytes += message.data.size();
    }
    return (part.empty() || RunPart(device_batch, part)) && Check(batch, before);
  }

  bool RunPart(DeviceBatch& device_batch, std::span<Message* const> part) {
    // A message that fits nowhere is the CPU's.
    if (part.size() == 1 && part[0]->data.size() > device_options_.batch_bytes) return false;
    std::string error;
    switch (device_batch.Run(part, &error)) {
      case DeviceBatch::Result::kOk:
        return true;
      case DeviceBatch::Result::kNoMemory:
        if (!short_of_memory_.exchange(true))
          Say(error + ": batches that do not fit go to the CPU");
        return false;
      case DeviceBatch::Result::kLost:
        Stop(error);
        return false;
    }
    return false;
  }

  // Computes a sample on the CPU too.
  bool Check(const Batch& batch, const std::vector<DigestState>& before) {
    for (size_t i = 0; i < batch.messages.size(); ++i) {
      if (messages_++ % device_options_.check_every != 0) continue;
      const Message& message = batch.messages[i];
      DigestState state = before[i];
      Batch again;
      again.messages.push_back({.data = message.data,
                                .last = message.last,
                                .digests = message.digests,
                                .state = &state});
      checker_->Submit(again, [](Status) {});
      if (SameOutcome(again.messages[0], message)) continue;
      Stop(
          "IT COMPUTES WRONGLY: a sample differs from what the CPU says. Do not trust this device");
      return false;
    }
    return true;
  }

  void Stop(const std::string& why) {
    if (!stopped_.exchange(true)) Say(why + ": going on with the CPU");
  }

  void Say(const std::string& what) {
    if (device_options_.say) device_options_.say(name_ + ": " + what);
  }

  const EngineOptions options_;
  const DeviceEngineOptions device_options_;
  const CpuCode cpu_code_;
  const std::unique_ptr<Engine> cpu_, checker_;  // The checker asks no table.
  const std::unique_ptr<Device> device_;
  const std::string name_;
  std::atomic<bool> stopped_ = false, short_of_memory_ = false;
  std::atomic<uint64_t> messages_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<Engine> MakeDeviceEngine(std::unique_ptr<Device> device,
                                         const EngineOptions& options, const CpuCode& cpu,
                                         DeviceEngineOptions device_options) {
  return std::make_unique<DeviceEngine>(std::move(device), options, cpu, std::move(device_options));
}

}  // namespace holdfast::kernels::cuda
