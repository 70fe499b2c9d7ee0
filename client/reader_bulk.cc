#include "client/reader_bulk.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <thread>

#include "client/reader_batch.h"

namespace holdfast {
namespace {

constexpr uint64_t kBatchBytes = 16u << 20;  // Of plaintext.
constexpr size_t kBatchSlices = 512;
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
        slice_bytes_(vault.engine_options().cut.max_size()),
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
    Buffer slab;
    std::unique_ptr<ReadBatch> next;
    for (;;) {
      std::unique_ptr<ReadBatch> batch = next ? std::move(next) : Plan(/*wait=*/true, nullptr);
      if (batch == nullptr) return;
      next = Plan(/*wait=*/false, batch.get());
      Process(*batch, slab);
    }
  }

  // Without threads: works off what is queued and open.
  void WorkHere() {
    Buffer slab;
    while (std::unique_ptr<ReadBatch> batch = Plan(/*wait=*/false, nullptr)) Process(*batch, slab);
  }

  // Null when there is nothing to do: now, or, with `wait`, ever. `before` is the batch that this
  // thread processes first.
  std::unique_ptr<ReadBatch> Plan(bool wait, ReadBatch* before) {
    auto batch = std::make_unique<ReadBatch>(vault_, options_, slice_bytes_, checked_);
    size_t continued = 0;
    while (batch->bytes() < kBatchBytes && batch->slices() < kBatchSlices) {
      Next next;
      if (!Take(wait && batch->slices() == 0, continued, next)) break;
      if (next.stream != nullptr) {
        ++continued;
        batch->Add(std::move(next.stream));
      } else if (const Vault::OpenedObject* object = next.job->Open()) {
        batch->Add(std::make_shared<ReadStream>(vault_, std::move(next.job), *object));
      } else {
        Return({}, 1);
      }
    }
    if (batch->slices() == 0) {
      // A long object alone: its next slice is fetched while this one is worked on.
      if (before == nullptr || !before->ContinueIn(*batch)) return nullptr;
      std::lock_guard lock(mutex_);
      ++held_;
    }
    batch->Send();
    return batch;
  }

  void Process(ReadBatch& batch, Buffer& slab) {
    const size_t held = batch.slices();
    std::vector<std::shared_ptr<ReadStream>> unfinished = batch.Process(engine_, slab);
    stored_bytes_ += batch.stored_bytes();
    Return(std::move(unfinished), held);
  }

  // A batch continues its share of the long streams and fills up with new ones: so streams are
  // many enough for the lanes, and at the end every thread has some.
  bool Take(bool wait, size_t continued, Next& next) {
    std::unique_lock lock(mutex_);
    const size_t batches = 2 * std::max<size_t>(1, thread_count_);
    for (;;) {
      const size_t share = (open_.size() + continued + batches - 1) / batches;
      const bool continues = !open_.empty() && (continued < std::max<size_t>(1, share));
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

  void Return(std::vector<std::shared_ptr<ReadStream>> unfinished, size_t held) {
    std::lock_guard lock(mutex_);
    held_ -= held;
    for (auto& stream : unfinished) open_.push_back(std::move(stream));
    work_.notify_all();
  }

  Vault& vault_;
  kernels::Engine& engine_;
  const BulkOptions options_;
  const size_t slice_bytes_;
  const size_t thread_count_;  // Threads that read it start before all are in threads_.
  CheckedRecords checked_;
  std::atomic<uint64_t> stored_bytes_{0};
  std::mutex mutex_;
  std::condition_variable work_, room_;
  std::deque<std::unique_ptr<ReadJob>> queue_;
  std::deque<std::shared_ptr<ReadStream>> open_;  // Streams that no batch holds.
  size_t held_ = 0;                               // Jobs and streams that batches hold.
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
