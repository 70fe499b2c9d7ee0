#include "bench/floor/feed.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace holdfast::floor {
namespace {

constexpr size_t kStreams = 16;  // As many as the engine has lanes.
constexpr size_t kMaxShorts = 512;
constexpr size_t kAlign = 64;

// The measure is of files that stay as they are.
void Read(int fd, MutableBytes to, uint64_t offset) {
  for (size_t done = 0; done < to.size();) {
    const ssize_t n =
        ::pread(fd, to.data() + done, to.size() - done, static_cast<off_t>(offset + done));
    if (n <= 0) {
      std::perror("a file cannot be read, or has become shorter");
      std::exit(1);
    }
    done += static_cast<size_t>(n);
  }
}

size_t AlignUp(size_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

}  // namespace

FileList::FileList(const std::string& directory, uint64_t max_chunk) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file() || entry.is_symlink()) continue;
    files.push_back({entry.path().string(), entry.file_size()});
    bytes += files.back().size;
  }
  const auto longs = std::stable_partition(
      files.begin(), files.end(), [&](const File& file) { return file.size <= 2 * max_chunk; });
  next_long = shorts = static_cast<size_t>(longs - files.begin());
}

Feed::Feed(FileList& list, size_t max_chunk, MutableBytes memory)
    : list_(list), memory_(memory), slice_(std::max(max_chunk + kAlign, memory.size() / kStreams)) {
  states_.reserve(kMaxShorts);
}

Feed::~Feed() {
  for (const Stream& stream : streams_) ::close(stream.fd);
}

bool Feed::Fill(kernels::Batch& batch) {
  batch.messages.clear();
  states_.clear();
  used_ = 0;
  while (streams_.size() < memory_.size() / slice_) {
    const size_t i = list_.next_long++;
    if (i >= list_.files.size()) break;
    const FileList::File& file = list_.files[i];
    streams_.push_back({::open(file.path.c_str(), O_RDONLY | O_CLOEXEC), file.size});
    streams_.back().state.Reset();
  }
  for (Stream& stream : streams_) AddSlice(batch, stream);
  while (states_.size() < kMaxShorts) {
    const size_t i = held_ != SIZE_MAX ? held_ : list_.next_short++;
    held_ = SIZE_MAX;
    if (i >= list_.shorts) break;
    if (list_.files[i].size > memory_.size() - used_) {
      held_ = i;
      break;
    }
    AddShort(batch, list_.files[i]);
  }
  return !batch.messages.empty();
}

void Feed::AddSlice(kernels::Batch& batch, Stream& stream) {
  const size_t carried = stream.carry.size();
  const MutableBytes to = memory_.subspan(used_);
  std::ranges::copy(stream.carry, to.begin());
  const size_t n = std::min<uint64_t>(slice_ - carried, stream.size - stream.at);
  Read(stream.fd, to.subspan(carried, n), stream.at);
  stream.at += n;
  batch.messages.push_back(
      {.data = to.first(carried + n), .last = stream.at == stream.size, .state = &stream.state});
  used_ = std::min(AlignUp(used_ + carried + n), memory_.size());
}

void Feed::AddShort(kernels::Batch& batch, const FileList::File& file) {
  const MutableBytes to = memory_.subspan(used_, file.size);
  const int fd = ::open(file.path.c_str(), O_RDONLY | O_CLOEXEC);
  Read(fd, to, 0);
  ::close(fd);
  states_.emplace_back().Reset();
  batch.messages.push_back({.data = to, .last = true, .state = &states_.back()});
  used_ = std::min(AlignUp(used_ + file.size), memory_.size());
}

void Feed::Consumed(const kernels::Batch& batch) {
  for (size_t i = 0; i < streams_.size(); ++i) {
    const kernels::Message& message = batch.messages[i];
    const Bytes rest = message.data.subspan(message.consumed);
    streams_[i].carry.assign(rest.begin(), rest.end());
    if (!message.last) continue;
    ::close(streams_[i].fd);
    streams_[i].fd = -1;
  }
  std::erase_if(streams_, [](const Stream& stream) { return stream.fd < 0; });
}

}  // namespace holdfast::floor
