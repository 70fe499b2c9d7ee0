// Calls between objects of one process: a request is a task on the service's loop, a reply runs
// where the service gives it. Deadlines are kept by one thread that is woken only when a call is
// to fail sooner than any before it, so that a call that is answered costs no timer.
#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/deadline.h"
#include "common/rpc/attachment.h"

namespace holdfast {
namespace {

struct PendingCall;
using Deadlines = std::multimap<int64_t, std::shared_ptr<PendingCall>>;

struct PendingCall {
  RpcMessage request;
  ReplyFn done;
  Status timeout;  // What `done` gets when the deadline comes first.
  // Guarded by the watch's mutex: whether `deadline` is in its map; who takes it out runs `done`.
  bool waiting = false;
  Deadlines::iterator deadline;
};

// The calls that have no reply yet, by deadline, and the thread that ends the overdue ones.
class DeadlineWatch {
 public:
  DeadlineWatch() : thread_([this] { Run(); }) {}

  // Ends every call that still waits. No Add after it.
  void Stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      wake_.notify_one();
    }
    thread_.join();
  }

  void Add(int64_t deadline, const std::shared_ptr<PendingCall>& call) {
    std::lock_guard lock(mutex_);
    call->waiting = true;
    call->deadline = deadlines_.emplace(deadline, call);
    if (deadline < next_wake_) {
      next_wake_ = deadline;
      wake_.notify_one();
    }
  }

  // True for the one who may run call.done.
  bool Take(PendingCall& call) {
    std::lock_guard lock(mutex_);
    if (!call.waiting) return false;
    call.waiting = false;
    deadlines_.erase(call.deadline);
    return true;
  }

 private:
  void Run() {
    pthread_setname_np(pthread_self(), "rpc-deadlines");
    std::unique_lock lock(mutex_);
    while (!stopping_ || !deadlines_.empty()) {
      if (!deadlines_.empty() &&
          (stopping_ || deadlines_.begin()->first <= SystemClock().MonotonicNanos())) {
        std::shared_ptr<PendingCall> call = std::move(deadlines_.begin()->second);
        call->waiting = false;
        deadlines_.erase(deadlines_.begin());
        lock.unlock();
        call->done(std::move(call->timeout));
        call.reset();
        lock.lock();
      } else {
        Sleep(lock);
      }
    }
  }

  void Sleep(std::unique_lock<std::mutex>& lock) {
    if (deadlines_.empty()) {
      next_wake_ = INT64_MAX;
      wake_.wait(lock);
    } else {
      next_wake_ = deadlines_.begin()->first;
      wake_.wait_for(lock, std::chrono::nanoseconds(next_wake_ - SystemClock().MonotonicNanos()));
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  Deadlines deadlines_;
  int64_t next_wake_ = INT64_MAX;  // When the thread looks next without being woken.
  bool stopping_ = false;
  std::thread thread_;  // Last: it uses everything above.
};

class InProcessTransport : public Transport {
 public:
  ~InProcessTransport() override { watch_->Stop(); }

  void Attach(const std::string& address, Service& service, Loop& loop) override {
    auto attachment = std::make_shared<Attachment>(service, loop);
    std::lock_guard lock(mutex_);
    attachments_[address] = std::move(attachment);
  }

  void Detach(const std::string& address) override {
    std::shared_ptr<Attachment> attachment;
    {
      std::lock_guard lock(mutex_);
      auto it = attachments_.find(address);
      if (it == attachments_.end()) return;
      attachment = std::move(it->second);
      attachments_.erase(it);
    }
    attachment->Detach();
  }

  void Call(const std::string& address, RpcMessage request, int64_t timeout_nanos,
            ReplyFn done) override {
    auto call = std::make_shared<PendingCall>();
    call->request = std::move(request);
    call->done = std::move(done);
    int64_t deadline = DeadlineAfter(SystemClock().MonotonicNanos(), timeout_nanos);
    // Posted under the lock, so that Detach leaves no request behind that nobody answers.
    std::lock_guard lock(mutex_);
    auto it = attachments_.find(address);
    if (it == attachments_.end()) {
      // Fails on the watch's thread: the caller may hold a lock that `done` takes.
      call->timeout = Gone(address);
      watch_->Add(INT64_MIN, call);
      return;
    }
    call->timeout = absl::UnavailableError(absl::StrCat(address, ": no reply in time"));
    watch_->Add(deadline, call);
    it->second->loop().Post([watch = watch_, attachment = it->second, address, call] {
      auto reply = [watch, call](StatusOr<RpcMessage> result) {
        if (watch->Take(*call)) call->done(std::move(result));
      };
      if (!attachment->Handle(std::move(call->request), reply)) reply(Gone(address));
    });
  }

  std::unique_ptr<Monitor> NewMonitor() override { return NewThreadMonitor(); }

 private:
  static Status Gone(const std::string& address) {
    return absl::UnavailableError(absl::StrCat(address, ": nobody answers there"));
  }

  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Attachment>> attachments_;
  // Shared with the replies, which a service may give after the transport is gone.
  std::shared_ptr<DeadlineWatch> watch_ = std::make_shared<DeadlineWatch>();
};

}  // namespace

std::unique_ptr<Transport> NewInProcessTransport() {
  return std::make_unique<InProcessTransport>();
}

}  // namespace holdfast
