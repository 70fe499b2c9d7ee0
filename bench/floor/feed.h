// Reads the files of a directory into batches for an engine, as fast as can be: short files packed
// one behind the other, slices of long ones side by side so that they fill its lanes. One feed for
// each thread; they share a FileList.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "kernels/engine.h"

namespace holdfast::floor {

struct FileList {
  struct File {
    std::string path;
    uint64_t size;
  };
  // Short ones first.
  FileList(const std::string& directory, uint64_t max_chunk);
  std::vector<File> files;
  size_t shorts = 0;
  uint64_t bytes = 0;
  std::atomic<size_t> next_short = 0, next_long = 0;
};

class Feed {
 public:
  // Takes every file of the list that no other feed has taken. `memory` is a slab.
  Feed(FileList& list, size_t max_chunk, MutableBytes memory);
  ~Feed();
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  // The next batch; false when there is none. Its bytes and states stay until the next call.
  bool Fill(kernels::Batch& batch);
  // After the engine had the batch: what it did not consume comes again.
  void Consumed(const kernels::Batch& batch);

 private:
  struct Stream {
    int fd;
    uint64_t size, at = 0;
    kernels::DigestState state{};
    Buffer carry{};
  };
  void AddSlice(kernels::Batch& batch, Stream& stream);
  void AddShort(kernels::Batch& batch, const FileList::File& file);

  FileList& list_;
  const MutableBytes memory_;
  const size_t slice_;
  size_t used_ = 0;
  size_t held_ = SIZE_MAX;  // A short file that did not fit.
  std::vector<kernels::DigestState> states_;
  std::vector<Stream> streams_;
};

}  // namespace holdfast::floor
