// Walks the source ahead of the workers and hands its entries out, short and long files apart, so
// that each worker can mix them.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "client/ingest_context.h"

namespace holdfast {

class SourceFeed {
 public:
  // Files longer than `long_bytes` are long. With a thread of its own, or (inline mode) walking
  // when asked.
  SourceFeed(Source& source, uint64_t long_bytes, bool inline_mode, IngestProgress& progress);
  ~SourceFeed();

  // Nothing when there is none now. With `wait`, first waits until there is a handful, or a long
  // file, or the walk is done.
  std::optional<SourceEntry> TakeShort(bool wait);
  std::optional<SourceEntry> TakeLong();
  // An entry taken as a short one that turned out to be long.
  void PutLong(SourceEntry entry);
  // A short one that cannot be opened yet: the next one taken.
  void PutShort(SourceEntry entry);
  bool short_waiting();
  // The walk is done and everything was taken.
  bool finished();
  // Ends the walk early.
  void Stop();

 private:
  void Walk();
  bool full() const;
  void PushShort(SourceEntry entry);
  SourceEntry PopShort();
  // Takes one entry from the source. With mutex_ held; lets it go meanwhile.
  void Step(std::unique_lock<std::mutex>& lock);
  // Inline mode: walks until `queue` has something, or cannot.
  void Fill(const std::deque<SourceEntry>& queue);

  Source& source_;
  const uint64_t long_bytes_;
  const bool inline_mode_;
  IngestProgress& progress_;
  std::mutex mutex_;
  std::condition_variable changed_, room_;
  std::deque<SourceEntry> short_, long_;
  size_t directories_ = 0;  // Kept open by what is in short_.
  bool done_ = false;
  std::thread thread_;
};

}  // namespace holdfast
