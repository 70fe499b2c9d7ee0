#include "bench/floor/store.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "bench/bench.h"

namespace holdfast::floor {
namespace {

constexpr size_t kBuffer = size_t{8} << 20;
constexpr size_t kRoom = kBuffer + (size_t{4} << 20);  // The last chunk may be a long one.
constexpr uint64_t kSegment = uint64_t{256} << 20;     // Allocated at a time.
constexpr size_t kRecordHeader = 128;

}  // namespace

size_t ChunksMet::Hash::operator()(const RecordId& id) const {
  size_t hash;
  std::memcpy(&hash, id.value.data() + 1, sizeof hash);
  return hash;
}

Store::Store(const std::string& path, const DomainKeys& keys, ChunksMet& met)
    : keys_(keys),
      met_(met),
      file_(Must(PosixFs().Open(path, {.write = true, .create = true, .direct = true}))),
      filling_(kRoom),
      writing_(kRoom),
      writer_([this] { Write(); }) {}

Store::~Store() { Close(); }

void Store::Add(const kernels::Batch& batch) {
  for (const kernels::Message& message : batch.messages) {
    size_t at = 0;
    for (const kernels::Chunk& chunk : message.chunks) {
      AddChunk(chunk, message.data.subspan(at, chunk.length));
      at += chunk.length;
    }
  }
}

void Store::AddChunk(const kernels::Chunk& chunk, Bytes plain) {
  const Hash256 h = keys_.ChunkSecret(chunk.sha256, chunk.length, chunk.poly1305);
  const RecordId id = ChunkIdOf(h);
  if (!met_.Meet(id)) return;
  const MutableBytes record{filling_.data() + filled_,
                            kRecordHeader + SealedChunkLength(plain.size())};
  SealChunk(h, id, Codec::kRaw, plain, record.subspan(kRecordHeader));
  const Checksum checksum = ChecksumOf(record.subspan(kRecordHeader));
  std::memset(record.data(), 0, kRecordHeader);
  std::memcpy(record.data(), checksum.value.data(), checksum.value.size());
  filled_ += record.size();
  if (filled_ >= kBuffer) Flush();
}

void Store::Flush() {
  if (filled_ == 0) return;
  const size_t whole = (filled_ + kDirectAlign - 1) / kDirectAlign * kDirectAlign;
  std::memset(filling_.data() + filled_, 0, whole - filled_);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return to_write_ == 0; });
  std::swap(filling_, writing_);
  to_write_ = whole;
  filled_ = 0;
  changed_.notify_all();
}

void Store::Write() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return to_write_ > 0 || closing_; });
    if (to_write_ == 0) return;
    lock.unlock();
    if (written_ + to_write_ > allocated_) {
      Must(file_->Allocate(allocated_, kSegment));
      allocated_ += kSegment;
    }
    Must(file_->WriteAt(written_, {writing_.data(), to_write_}));
    Must(file_->DataSync());
    lock.lock();
    written_ += std::exchange(to_write_, 0);
    changed_.notify_all();
  }
}

void Store::Close() {
  if (!writer_.joinable()) return;
  Flush();
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    changed_.notify_all();
  }
  writer_.join();
  Must(file_->Truncate(written_));
  Must(file_->DataSync());
}

}  // namespace holdfast::floor
