#include "node/window.h"

#include "common/format/segment_format.h"

namespace holdfast {
namespace {

constexpr size_t kMostStep = 1u << 20;

}  // namespace

Bytes Window::View(uint64_t offset, uint64_t length) {
  if (offset >= end_) return {};
  length = std::min(length, end_ - offset);
  if (offset < begin_ || offset + length > begin_ + filled_) {
    const uint64_t begin = offset / kBlockSize * kBlockSize;
    const uint64_t needed = RoundUpToBlock(offset + length - begin);
    const bool ahead = offset > begin_ + filled_ + step_;
    const bool goes_on = !ahead && offset >= begin_;
    if (!goes_on) next_ = step_;
    Fill(begin, ahead ? needed : std::max<uint64_t>(next_, needed));
    if (goes_on) next_ = std::max(step_, std::min(2 * next_, kMostStep));
  }
  const uint64_t available = begin_ + filled_ > offset ? begin_ + filled_ - offset : 0;
  return {buffer_.data() + (offset - begin_), std::min(length, available)};
}

void Window::Fill(uint64_t begin, uint64_t length) {
  length = std::min(length, RoundUpToBlock(end_ - begin));
  buffer_.Grow(length, 0);
  begin_ = begin;
  StatusOr<size_t> n = file_.ReadAt(begin, {buffer_.data(), length});
  filled_ = n.ok() ? *n : 0;
  if (!n.ok()) next_ = step_;
  // One bad block fails the whole read: ask for each block by itself.
  for (uint64_t done = 0; !n.ok() && done < length; done += kBlockSize) {
    uint8_t* block = buffer_.data() + done;
    StatusOr<size_t> one = file_.ReadAt(begin + done, {block, kBlockSize});
    if (one.ok() && *one == 0) break;
    if (!one.ok()) {
      std::memset(block, 0, kBlockSize);
      unreadable_.insert(begin + done);
    }
    filled_ = done + (one.ok() ? *one : kBlockSize);
  }
  filled_ = std::min(filled_, end_ - begin);
}

bool Window::Unreadable(uint64_t begin, uint64_t end) const {
  auto it = unreadable_.lower_bound(begin / kBlockSize * kBlockSize);
  return it != unreadable_.end() && *it < end;
}

bool Window::AllZero(uint64_t begin, uint64_t end) {
  while (begin < end) {
    const Bytes view = View(begin, std::min<uint64_t>(end - begin, step_));
    if (view.empty()) return true;
    // Every byte equals its successor and the first is zero: memcmp does this at memory speed.
    if (view[0] != 0 || std::memcmp(view.data(), view.data() + 1, view.size() - 1) != 0) {
      return false;
    }
    begin += view.size();
  }
  return true;
}

}  // namespace holdfast
