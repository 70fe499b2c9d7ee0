// Keeps late callbacks away from an object that is gone.
//
// A service posts tasks, timers and replies that may run after it was destroyed. Each is wrapped;
// Close returns when none runs and from then on they do nothing. A wrapped task must not run
// another one inside itself.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "common/base/loop.h"

namespace holdfast {

class Guard {
 public:
  Guard() : state_(std::make_shared<State>()) {}
  ~Guard() { Close(); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  Task Wrap(Task task) const {
    return [state = state_, task = std::move(task)] {
      std::lock_guard<std::mutex> lock(state->mutex);
      if (state->open) task();
    };
  }
  void Close() {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->open = false;
  }

 private:
  struct State {
    std::mutex mutex;
    bool open = true;
  };
  std::shared_ptr<State> state_;
};

}  // namespace holdfast
