// How other threads reach the thread that owns a set of sockets: tasks, and a file descriptor that
// becomes readable when there are some. Outlives its thread: what is posted then is dropped.
#pragma once

#include <mutex>
#include <vector>

#include "common/base/loop.h"

namespace holdfast {

class Mailbox {
 public:
  Mailbox();
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // Thread-safe. False, and the task is dropped, once the mailbox is closed.
  bool Post(Task task);

  // On the owner's thread.
  int fd() const { return fd_; }
  // True when there are no tasks, and the next Post will make fd() readable.
  bool AboutToSleep();
  std::vector<Task> Take();
  void Close();

 private:
  std::mutex mutex_;
  std::vector<Task> tasks_;
  bool asleep_ = false;  // Posting costs no system call while the owner is awake.
  bool signalled_ = false;
  bool closed_ = false;
  int fd_;
};

}  // namespace holdfast
