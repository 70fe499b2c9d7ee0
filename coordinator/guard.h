// Keeps late callbacks away from an object that is gone.
//
// A service posts tasks, timers and replies that may run after it, and its Loop, were destroyed.
// Each goes through a guard: Close returns when none runs, and from then on they do nothing. A
// wrapped task must not run another one inside itself.
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

  // `task`, or nothing once closed.
  Task Wrap(Task task) const {
    return [state = state_, task = std::move(task)] {
      std::lock_guard lock(state->running);
      if (state->open) task();
    };
  }
  // A function for any thread that posts the wrapped task to `loop`, unless closed: the loop need
  // not be there any more then.
  Task Poster(Loop& loop, Task task) const {
    return [state = state_, &loop, task = Wrap(std::move(task))] {
      std::lock_guard lock(state->posting);
      if (state->open) loop.Post(task);
    };
  }
  void Close() {
    std::scoped_lock lock(state_->running, state_->posting);
    state_->open = false;
  }

 private:
  struct State {
    std::mutex running;  // Held while a task runs.
    std::mutex posting;
    bool open = true;  // Changes under both, read under either.
  };
  std::shared_ptr<State> state_;
};

}  // namespace holdfast
