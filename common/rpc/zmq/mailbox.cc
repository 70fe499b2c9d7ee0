#include "common/rpc/zmq/mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

namespace holdfast {

Mailbox::Mailbox() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (fd_ < 0) std::abort();  // As operator new would: nothing can be done here.
}

Mailbox::~Mailbox() { ::close(fd_); }

bool Mailbox::Post(Task task) {
  std::lock_guard lock(mutex_);
  if (closed_) return false;
  tasks_.push_back(std::move(task));
  if (std::exchange(asleep_, false)) {
    signalled_ = true;
    ::eventfd_write(fd_, 1);
  }
  return true;
}

bool Mailbox::AboutToSleep() {
  std::lock_guard lock(mutex_);
  asleep_ = tasks_.empty();
  return asleep_;
}

std::vector<Task> Mailbox::Take() {
  std::lock_guard lock(mutex_);
  asleep_ = false;
  eventfd_t value;
  if (std::exchange(signalled_, false)) ::eventfd_read(fd_, &value);
  return std::exchange(tasks_, {});
}

void Mailbox::Close() {
  std::vector<Task> dropped;  // Destroyed without the lock: what they hold may post.
  std::lock_guard lock(mutex_);
  closed_ = true;
  dropped = std::exchange(tasks_, {});
}

}  // namespace holdfast
