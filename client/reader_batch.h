// What one thread of a BulkReader works on at a time: slices of many objects.
#pragma once

#include <cstdlib>
#include <memory>
#include <mutex>

#include "absl/container/flat_hash_set.h"
#include "client/reader_bulk.h"
#include "client/reader_cursor.h"
#include "client/reader_gets.h"

namespace holdfast {

// Records all of whose replicas were found equal and good. Forgets everything when full: a record
// is then only read once more. Thread-safe.
class CheckedRecords {
 public:
  bool Contains(const RecordId& id);
  void Insert(const RecordId& id);

 private:
  static constexpr size_t kMax = 1u << 20;
  std::mutex mutex_;
  absl::flat_hash_set<RecordId> ids_;
};

// One object being read.
struct ReadStream {
  ReadStream(Vault& vault, std::unique_ptr<ReadJob> read_job, const Vault::OpenedObject& opened)
      : job(std::move(read_job)), object(opened), cursor(vault, opened) {
    state.Reset();
  }
  const std::unique_ptr<ReadJob> job;
  const Vault::OpenedObject& object;
  ChunkCursor cursor;          // How far slices were planned.
  kernels::DigestState state;  // Of the slices checked.
  Status status;               // The first thing that went wrong.
  bool is_long = false;        // It does not end in its first slice.
  bool finished = false;       // The job is done; slices still planned are dropped.
};

// Pages that a thread keeps between batches. They are not zeroed, so that only what is used is
// touched.
class Slab {
 public:
  MutableBytes OfSize(size_t size) {
    if (size > size_) {
      size_ = (size + size / 8 + kPage - 1) / kPage * kPage;
      memory_.reset(static_cast<uint8_t*>(std::aligned_alloc(kPage, size_)));
      if (memory_ == nullptr) std::abort();  // As operator new would.
    }
    return {memory_.get(), size};
  }

  static constexpr size_t kPage = 4096;

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, Free> memory_;
  size_t size_ = 0;
};

class ReadBatch {
 public:
  ReadBatch(Vault& vault, const BulkOptions& options, size_t slice_bytes, CheckedRecords& checked)
      : vault_(vault),
        options_(options),
        slice_bytes_(slice_bytes),
        checked_(checked),
        gets_(vault.transport()) {}

  // Plans the stream's next slice.
  void Add(std::shared_ptr<ReadStream> stream);
  // Plans the next slices of streams that do not end in this batch, of `most` at most, in `next`,
  // which is processed after this batch, by the same thread. Returns of how many.
  size_t ContinueIn(ReadBatch& next, size_t most);
  // Nothing is added after it.
  void Seal();
  // Asks, waits for the answers, checks, and hands out content; when all of this batch is asked
  // for, asks for the first of `next`, which may be null. `slab` has room for content. Returns the
  // streams that have more slices, but for what ContinueIn took along.
  std::vector<std::shared_ptr<ReadStream>> Process(kernels::Engine& engine, ReadBatch* next,
                                                   Slab& slab, StageClock& clock);

  size_t slices() const { return slices_.size(); }
  uint64_t bytes() const { return bytes_; }
  uint64_t stored_bytes() const { return gets_.bytes_received(); }
  // Long streams that have their first slice here, and those that were finished here.
  size_t long_begun() const { return long_begun_; }
  size_t long_ended() const { return long_ended_; }

 private:
  struct Slot {  // A chunk and where its plaintext goes.
    PlacedChunk chunk;
    size_t first_answer = 0, answers = 0;
    size_t at = 0;  // In the slab.
    bool opened = false;
    bool all_good = false;  // Several answers, all the same.
  };
  struct Slice {
    std::shared_ptr<ReadStream> stream;
    size_t first_slot = 0, slots = 0;
    size_t at = 0, size = 0;  // In the slab.
    bool last = false;
    bool continued = false;               // Another batch has the stream's next slice.
    kernels::Message* message = nullptr;  // Null: not given to the engine.
  };

  Status PlanSlots(Slice& slice);
  Status Ask(const PlacedChunk& chunk);
  void AskAhead(ReadBatch* next);
  void PlaceSlots(Slab& slab);
  void OpenSlots(ReadBatch* next, StageClock& clock);
  // Of which the one node that was asked did not answer.
  bool Unanswered(const Slot& slot);
  // Where a node did not answer, the others are asked for all of its chunks together.
  void AskOthers();
  std::span<Slot> SlotsOf(const Slice& slice) {
    return std::span(slots_).subspan(slice.first_slot, slice.slots);
  }
  MutableBytes PlaceOf(const Slot& slot) { return slab_.subspan(slot.at, slot.chunk.info.length); }
  void OpenSlot(ReadJob& job, Slot& slot);
  Status CheckVariant(const Slot& slot, const GetAnswer& answer);
  void RunEngine(kernels::Engine& engine);
  bool Matches(const Slice& slice);
  void CheckChunkByChunk(Slice& slice);
  Status Repair(Slot& slot);
  void CheckReplicas(ReadJob& job, const Slot& slot);
  Status CompareDigests(const Slice& slice, const kernels::Digests& got) const;
  uint32_t DigestsOf(const Slice& slice) const;
  void Settle(Slice& slice);
  void SettleAll();

  Vault& vault_;
  const BulkOptions& options_;
  const size_t slice_bytes_;
  CheckedRecords& checked_;
  NodeGets gets_;
  std::vector<Slot> slots_;
  std::vector<Slice> slices_;
  uint64_t bytes_ = 0;
  size_t long_begun_ = 0, long_ended_ = 0;
  MutableBytes slab_;
  std::vector<uint32_t> lengths_;  // Of the slots.
  kernels::Batch engine_batch_;
  std::vector<kernels::DigestState> states_before_;  // Per slice.
};

}  // namespace holdfast
