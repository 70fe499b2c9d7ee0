#include "client/ingest_feed.h"

namespace holdfast {
namespace {

// How far the walk is ahead: so far that of the long files, which are few, enough are seen to fill
// the engine's lanes.
constexpr size_t kMaxShort = 8192;
constexpr size_t kMaxDirectories = 1024;
constexpr size_t kMaxLong = 64;
constexpr size_t kHandful = 64;  // Waking a worker for each entry would cost more than the walk.

}  // namespace

SourceFeed::SourceFeed(Source& source, uint64_t long_bytes, bool inline_mode,
                       IngestProgress& progress)
    : source_(source), long_bytes_(long_bytes), inline_mode_(inline_mode), progress_(progress) {
  if (!inline_mode_) thread_ = std::thread([this] { Walk(); });
}

SourceFeed::~SourceFeed() {
  Stop();
  if (thread_.joinable()) thread_.join();
}

bool SourceFeed::full() const {
  return short_.size() >= kMaxShort || directories_ >= kMaxDirectories || long_.size() >= kMaxLong;
}

// Entries of a directory come one after the other.
void SourceFeed::PushShort(SourceEntry entry) {
  directories_ += short_.empty() || short_.back().parent != entry.parent;
  short_.push_back(std::move(entry));
}

SourceEntry SourceFeed::PopShort() {
  SourceEntry entry = std::move(short_.front());
  short_.pop_front();
  directories_ -= short_.empty() || short_.front().parent != entry.parent;
  return entry;
}

void SourceFeed::Step(std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  std::optional<SourceEntry> entry = source_.Next();
  if (entry && !entry->special && entry->error.ok() &&
      (entry->type == ObjectType::kFile || entry->type == ObjectType::kHardLink)) {
    ++progress_.files_found;
    progress_.bytes_found += entry->stamp.size;
  }
  lock.lock();
  if (!entry) {
    done_ = true;
    progress_.walk_done = true;
    return;
  }
  const bool is_long = entry->error.ok() && entry->stamp.size > long_bytes_ &&
                       (entry->type == ObjectType::kFile || entry->type == ObjectType::kHardLink);
  if (is_long) {
    long_.push_back(*std::move(entry));
  } else {
    PushShort(*std::move(entry));
  }
}

void SourceFeed::Walk() {
  std::unique_lock lock(mutex_);
  while (!done_) {
    room_.wait(lock, [&] { return done_ || !full(); });
    if (done_) break;
    Step(lock);
    if (done_ || !long_.empty() || short_.size() >= kHandful) changed_.notify_all();
  }
}

void SourceFeed::Fill(const std::deque<SourceEntry>& queue) {
  std::unique_lock lock(mutex_);
  while (queue.empty() && !done_ && !full()) Step(lock);
}

std::optional<SourceEntry> SourceFeed::TakeShort(bool wait) {
  if (inline_mode_) Fill(short_);
  std::unique_lock lock(mutex_);
  if (wait && !inline_mode_) {
    changed_.wait(lock, [&] { return done_ || !long_.empty() || short_.size() >= kHandful; });
  }
  if (short_.empty()) return std::nullopt;
  SourceEntry entry = PopShort();
  if (short_.size() % kHandful == 0 && !full()) room_.notify_one();
  return entry;
}

std::optional<SourceEntry> SourceFeed::TakeLong() {
  if (inline_mode_) Fill(long_);
  std::unique_lock lock(mutex_);
  if (long_.empty()) return std::nullopt;
  std::optional<SourceEntry> entry = std::move(long_.front());
  long_.pop_front();
  room_.notify_one();
  return entry;
}

void SourceFeed::PutLong(SourceEntry entry) {
  std::lock_guard lock(mutex_);
  long_.push_back(std::move(entry));
  changed_.notify_all();
}

void SourceFeed::PutShort(SourceEntry entry) {
  std::lock_guard lock(mutex_);
  directories_ += short_.empty() || short_.front().parent != entry.parent;
  short_.push_front(std::move(entry));
}

bool SourceFeed::short_waiting() {
  if (inline_mode_) Fill(short_);
  std::lock_guard lock(mutex_);
  return !short_.empty();
}

bool SourceFeed::finished() {
  std::lock_guard lock(mutex_);
  return done_ && short_.empty() && long_.empty();
}

void SourceFeed::Stop() {
  std::lock_guard lock(mutex_);
  done_ = true;
  room_.notify_all();
  changed_.notify_all();
}

}  // namespace holdfast
