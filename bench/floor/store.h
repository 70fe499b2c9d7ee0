// Seals chunks that nobody has met, and writes them one behind the other past the page cache, with
// a thread that writes one buffer while the next is filled. One store for each thread.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>

#include "common/crypto/domain_keys.h"
#include "common/io/fs.h"
#include "kernels/engine.h"
#include "node/aligned_buffer.h"

namespace holdfast::floor {

// Thread-safe.
class ChunksMet {
 public:
  // True the first time.
  bool Meet(const RecordId& id) {
    Part& part = parts_[id.value[0] % std::size(parts_)];
    const std::lock_guard lock(part.mutex);
    return part.ids.insert(id).second;
  }

 private:
  struct Hash {
    size_t operator()(const RecordId& id) const;
  };
  struct Part {
    std::mutex mutex;
    std::unordered_set<RecordId, Hash> ids;
  };
  Part parts_[64];
};

class Store {
 public:
  // A new file, in a directory that is there.
  Store(const std::string& path, const DomainKeys& keys, ChunksMet& met);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Stores the chunks of a batch that the engine had.
  void Add(const kernels::Batch& batch);
  // Writes what is left; everything is on the disk then.
  void Close();
  uint64_t bytes() const { return written_; }

 private:
  void AddChunk(const kernels::Chunk& chunk, Bytes plain);
  // Hands the buffer to the writer, once it has written the one before.
  void Flush();
  void Write();

  const DomainKeys& keys_;
  ChunksMet& met_;
  std::unique_ptr<File> file_;
  uint64_t allocated_ = 0, written_ = 0;
  AlignedBuffer filling_, writing_;
  size_t filled_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  size_t to_write_ = 0;  // Of writing_; 0: the writer has nothing to do.
  bool closing_ = false;
  std::thread writer_;
};

}  // namespace holdfast::floor
