// A service under an address of a transport. Outlives Detach while requests to it are still queued.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "common/rpc/transport.h"

namespace holdfast {

class Attachment {
 public:
  Attachment(Service& service, Loop& loop) : service_(service), loop_(loop) {}

  Loop& loop() { return loop_; }

  // On the loop. False when the service is gone.
  bool Handle(RpcMessage request, ReplyFn reply) {
    {
      std::lock_guard lock(mutex_);
      if (detached_) return false;
      running_in_ = std::this_thread::get_id();
    }
    service_.Handle(std::move(request), std::move(reply));
    std::lock_guard lock(mutex_);
    running_in_ = {};
    idle_.notify_all();
    return true;
  }

  // Returns when no call runs in the service; afterwards neither service nor loop is touched.
  void Detach() {
    std::unique_lock lock(mutex_);
    detached_ = true;
    // A service that detaches itself would wait for its own return.
    idle_.wait(lock, [&] {
      return running_in_ == std::thread::id() || running_in_ == std::this_thread::get_id();
    });
  }

 private:
  Service& service_;
  Loop& loop_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::thread::id running_in_;
  bool detached_ = false;
};

}  // namespace holdfast
