#include "client/reader_bulk.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <thread>

#include "client/reader_batch.h"

namespace holdfast {
namespace {

constexpr uint64_t kBatchBytes = 32u << 20;  // Of plaintext: a slice for each of 16 lanes.
constexpr size_t kBatchSlices = 512;
constexpr size_t kLanes = 16;
constexpr size_t kQueuedJobs = 1024;

size_t ThreadCount(int wanted) {
  if (wanted == 0) return std::max(1u, std::thread::hardware_concurrency());
  return static_cast<size_t>(std::max(0, wanted));
}

}  // namespace

class BulkReader::Impl {
 public:
  Impl(Vault& vault, kernels::Engine& engine, const BulkOptions& options)
      : vault_(vault),
        engine_(engine),
        options_(options),
        lane_bytes_(std::max<size_t>(kBatchBytes / kLanes, vault.engine_options().cut.max_size())),
        thread_count_(ThreadCount(options.threads)) {
    for (size_t i = 0; i < thread_count_; ++i) threads_.emplace_back([this] { Work(); });
  }

  void Push(std::unique_ptr<ReadJob> job) {
    std::unique_lock lock(mutex_);
    queue_.push_back(std::move(job));
    work_.notify_one();
    if (thread_count_ > 0) {
      room_.wait(lock, [&] { return queue_.size() < kQueuedJobs; });
      return;
    }
    lock.unlock();
    while (queue_.size() >= kQueuedJobs) WorkHere();
  }

  void Finish() {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
      work_.notify_all();
    }
    if (thread_count_ == 0) WorkHere();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  uint64_t stored_bytes() const { return stored_bytes_; }

 private:
  // A new job or a stream that was put back.
  struct Next {
    std::unique_ptr<ReadJob> job;
    std::shared_ptr<ReadStream> stream;
  };

  void Work() {
    Slab slab;
    StageClock clock(options_.times);
    std::unique_ptr<ReadBatch> next;
    for (;;) {
      clock.Enter("plan and ask");
      std::unique_ptr<ReadBatch> batch = next ? std::move(next) : Plan(/*wait=*/true, nullptr);
      if (batch == nullptr) return;
      next = Plan(/*wait=*/false, batch.get());
      Process(*batch, next.get(), slab, clock);
    }
  }

  // Without threads: works off what is queued and open.
  void WorkHere() {
    Slab slab;
    StageClock clock(options_.times);
    while (std::unique_ptr<ReadBatch> batch = Plan(/*wait=*/false, nullptr)) {
      Process(*batch, nullptr, slab, clock);
    }
  }

  // Null when there is nothing to do: now, or, with `wait`, ever. `before` is the batch that this
  // thread processes first.
  std::unique_ptr<ReadBatch> Plan(bool wait, ReadBatch* before) {
    auto batch = std::make_unique<ReadBatch>(vault_, options_, SliceBytes(), checked_);
    // Long objects stay with their thread: the next slices are fetched while these are worked on.
    size_t continued = 0;
    if (before != nullptr) continued = GoOn(*before, *batch);
    while (batch->bytes() < kLanes * lane_bytes_ && batch->slices() < kBatchSlices) {
      Next next;
      if (!Take(wait && batch->slices() == 0, continued, next)) break;
      if (next.stream != nullptr) {
        ++continued;
        batch->Add(std::move(next.stream));
      } else if (const Vault::OpenedObject* object = next.job->Open()) {
        batch->Add(std::make_shared<ReadStream>(vault_, std::move(next.job), *object));
      } else {
        Return({}, 1, 0);
      }
    }
    if (batch->slices() == 0) return nullptr;
    {
      std::lock_guard lock(mutex_);
      long_ += batch->long_begun();
    }
    batch->Seal();
    return batch;
  }

  // The digests of an object are one chain. Shorter slices leave the lanes to short objects, where
  // there are any, so that none ends before the others.
  size_t SliceBytes() {
    std::lock_guard lock(mutex_);
    return queue_.empty() ? lane_bytes_ : lane_bytes_ / 2;
  }

  size_t GoOn(ReadBatch& before, ReadBatch& batch) {
    size_t most = 0;
    {
      std::lock_guard lock(mutex_);
      most = Share();
    }
    const size_t count = before.ContinueIn(batch, most);
    std::lock_guard lock(mutex_);
    held_ += count;
    return count;
  }

  // Of how many long objects a thread has slices in a batch: as many as the others, and no more
  // than fill the lanes.
  size_t Share() const {
    const size_t threads = std::max<size_t>(1, thread_count_);
    return std::clamp<size_t>((long_ + threads - 1) / threads, 1, kLanes);
  }

  void Process(ReadBatch& batch, ReadBatch* next, Slab& slab, StageClock& clock) {
    const size_t held = batch.slices();
    std::vector<std::shared_ptr<ReadStream>> unfinished = batch.Process(engine_, next, slab, clock);
    stored_bytes_ += batch.stored_bytes();
    Return(std::move(unfinished), held, batch.long_ended());
  }

  // A long object that no batch goes on with, up to this thread's share of them; else a new one.
  bool Take(bool wait, size_t continued, Next& next) {
    std::unique_lock lock(mutex_);
    for (;;) {
      const bool continues = !open_.empty() && continued < Share();
      if (continues || !queue_.empty()) {
        ++held_;
        if (continues) {
          next.stream = std::move(open_.front());
          open_.pop_front();
        } else {
          next.job = std::move(queue_.front());
          queue_.pop_front();
          room_.notify_one();
        }
        return true;
      }
      if (!wait || (closed_ && held_ == 0 && open_.empty())) return false;
      work_.wait(lock);
    }
  }

  void Return(std::vector<std::shared_ptr<ReadStream>> unfinished, size_t held, size_t long_ended) {
    std::lock_guard lock(mutex_);
    held_ -= held;
    long_ -= long_ended;
    for (auto& stream : unfinished) open_.push_back(std::move(stream));
    work_.notify_all();
  }

  Vault& vault_;
  kernels::Engine& engine_;
  const BulkOptions options_;
  const size_t lane_bytes_;    // What fills a lane.
  const size_t thread_count_;  // Threads that read it start before all are in threads_.
  CheckedRecords checked_;
  std::atomic<uint64_t> stored_bytes_{0};
  std::mutex mutex_;
  std::condition_variable work_, room_;
  std::deque<std::unique_ptr<ReadJob>> queue_;
  std::deque<std::shared_ptr<ReadStream>> open_;  // Streams that no batch holds.
  size_t held_ = 0;                               // Jobs and streams that batches hold.
  size_t long_ = 0;                               // Long objects begun and not finished.
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

std::unique_ptr<kernels::Engine> DefaultEngine(Vault& vault) {
  std::unique_ptr<kernels::Engine> engine = kernels::MakeCpuEngine(vault.engine_options());
  return engine != nullptr ? std::move(engine)
                           : kernels::MakePortableEngine(vault.engine_options());
}

BulkReader::BulkReader(Vault& vault, kernels::Engine& engine, const BulkOptions& options)
    : impl_(std::make_unique<Impl>(vault, engine, options)) {}
BulkReader::~BulkReader() { Finish(); }
void BulkReader::Push(std::unique_ptr<ReadJob> job) { impl_->Push(std::move(job)); }
void BulkReader::Finish() { impl_->Finish(); }
uint64_t BulkReader::stored_bytes() const { return impl_->stored_bytes(); }

}  // namespace holdfast
