#include "client/reader_batch.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/reader.h"
#include "client/reader_chunk.h"

namespace holdfast {
namespace {

// Of a thread, under way at a time. More only touches more memory.
constexpr size_t kRequestsAhead = 2;

// Submit, and wait for it.
kernels::Status SubmitAndWait(kernels::Engine& engine, kernels::Batch& batch) {
  std::mutex mutex;
  std::condition_variable done;
  std::optional<kernels::Status> result;
  engine.Submit(batch, [&](kernels::Status status) {
    std::lock_guard lock(mutex);
    result = status;
    done.notify_one();
  });
  std::unique_lock lock(mutex);
  done.wait(lock, [&] { return result.has_value(); });
  return *result;
}

}  // namespace

bool CheckedRecords::Contains(const RecordId& id) {
  std::lock_guard lock(mutex_);
  return ids_.contains(id);
}

void CheckedRecords::Insert(const RecordId& id) {
  std::lock_guard lock(mutex_);
  if (ids_.size() >= kMax) ids_.clear();
  ids_.insert(id);
}

void ReadBatch::Add(std::shared_ptr<ReadStream> stream) {
  Slice slice{.stream = std::move(stream), .first_slot = slots_.size()};
  Status status = PlanSlots(slice);
  slice.slots = slots_.size() - slice.first_slot;
  slice.last = !status.ok() || slice.stream->cursor.at_end();
  if (slice.stream->status.ok()) slice.stream->status = status;
  if (!slice.last && !std::exchange(slice.stream->is_long, true)) ++long_begun_;
  bytes_ += slice.size;
  slices_.push_back(std::move(slice));
}

size_t ReadBatch::ContinueIn(ReadBatch& next, size_t most) {
  size_t count = 0;
  for (Slice& slice : slices_) {
    if (slice.last) continue;
    if (count == most) break;
    slice.continued = true;
    next.Add(slice.stream);
    ++count;
  }
  return count;
}

// A slice holds about slice_bytes_ where the object does; an object of little more is one slice.
Status ReadBatch::PlanSlots(Slice& slice) {
  ReadStream& stream = *slice.stream;
  const uint64_t size = stream.object.sealed.size;
  const uint64_t half_chunk = vault_.engine_options().cut.avg_size / 2;
  const uint64_t enough = size <= slice_bytes_ + half_chunk ? size : slice_bytes_ - half_chunk;
  while (!stream.cursor.at_end() && slice.size < enough) {
    ASSIGN_OR_RETURN(PlacedChunk chunk, stream.cursor.Next());
    slots_.push_back({.chunk = chunk, .first_answer = gets_.size()});
    Slot& slot = slots_.back();
    slice.size += slot.chunk.info.length;
    RETURN_IF_ERROR(Ask(slot.chunk));
    slot.answers = gets_.size() - slot.first_answer;
  }
  return absl::OkStatus();
}

Status ReadBatch::Ask(const PlacedChunk& chunk) {
  ASSIGN_OR_RETURN(auto map, vault_.CachedMap());
  const std::vector<uint32_t> nodes = vault_.ReadOrder(*map, chunk.ref.id);
  const bool all = options_.all_replicas && nodes.size() > 1 && !checked_.Contains(chunk.ref.id);
  if (!all && !nodes.empty()) gets_.Add(nodes[0], chunk.ref.id, chunk.ref.stored_length);
  for (size_t i = 0; i < nodes.size() && all; ++i) {
    gets_.Add(nodes[i], chunk.ref.id, chunk.ref.stored_length);
  }
  return absl::OkStatus();
}

void ReadBatch::Seal() {
  const StatusOr<std::shared_ptr<const ClusterMap>> map = vault_.CachedMap();
  const bool others = !options_.all_replicas && map.ok() && (*map)->replicas > 1;
  gets_.Group(others ? kHedgeNanos : kRequestNanos);
}

void ReadBatch::AskAhead(ReadBatch* next) {
  gets_.SendUpTo(kRequestsAhead);
  if (next != nullptr && gets_.all_sent() && gets_.under_way() < kRequestsAhead) {
    next->gets_.SendUpTo(kRequestsAhead - gets_.under_way());
  }
}

bool ReadBatch::Unanswered(const Slot& slot) {
  return slot.answers == 1 && absl::IsUnavailable(gets_[slot.first_answer].status);
}

void ReadBatch::AskOthers() {
  const StatusOr<std::shared_ptr<const ClusterMap>> map = vault_.CachedMap();
  if (!map.ok()) return;
  for (size_t turn = 1; turn < (*map)->replicas; ++turn) {
    NodeGets again(vault_.transport());
    std::vector<size_t> places;
    for (const Slot& slot : slots_) {
      if (!Unanswered(slot)) continue;
      const GetAnswer& answer = gets_[slot.first_answer];
      vault_.NoteUnavailable(answer.node);
      const std::vector<uint32_t>& nodes = ActingSet(**map, slot.chunk.ref.id);
      auto asked = std::ranges::find(nodes, answer.node);
      if (asked == nodes.end() || nodes.size() == 1) continue;
      const size_t next = (static_cast<size_t>(asked - nodes.begin()) + 1) % nodes.size();
      again.Add(nodes[next], slot.chunk.ref.id, slot.chunk.ref.stored_length);
      places.push_back(slot.first_answer);
    }
    if (places.empty()) return;
    again.Send(turn + 1 < (*map)->replicas ? kHedgeNanos : kRequestNanos);
    again.Wait();
    for (size_t i = 0; i < places.size(); ++i) gets_[places[i]] = std::move(again[i]);
  }
}

std::vector<std::shared_ptr<ReadStream>> ReadBatch::Process(kernels::Engine& engine,
                                                            ReadBatch* next, Slab& slab,
                                                            StageClock& clock) {
  std::erase_if(slices_, [](const Slice& slice) { return slice.stream->finished; });
  PlaceSlots(slab);
  OpenSlots(next, clock);
  clock.Enter("cut and digest");
  RunEngine(engine);
  clock.Enter("compare and hand on");
  std::vector<std::shared_ptr<ReadStream>> unfinished;
  SettleAll();
  for (Slice& slice : slices_) {
    if (slice.stream->finished && slice.stream->is_long) ++long_ended_;
    if (slice.stream->finished || slice.continued) continue;
    unfinished.push_back(std::move(slice.stream));
  }
  return unfinished;
}

// A byte lies as far from the begin of a page as it does in its object: so a job can write most of
// what it gets straight to a disk.
void ReadBatch::PlaceSlots(Slab& slab) {
  size_t at = 0;
  for (Slice& slice : slices_) {
    at = (at + Slab::kPage - 1) / Slab::kPage * Slab::kPage;
    if (slice.slots > 0) at += SlotsOf(slice).front().chunk.offset % Slab::kPage;
    slice.at = at;
    for (Slot& slot : SlotsOf(slice)) {
      slot.at = at;
      at += slot.chunk.info.length;
    }
  }
  slab_ = slab.OfSize(at);
}

// As the answers come, so that few of them lie in memory at a time.
void ReadBatch::OpenSlots(ReadBatch* next, StageClock& clock) {
  std::vector<std::pair<ReadJob*, Slot*>> unanswered;
  clock.Enter("open");
  AskAhead(next);
  for (Slice& slice : slices_) {
    for (Slot& slot : SlotsOf(slice)) {
      for (size_t i = slot.first_answer; i < slot.first_answer + slot.answers; ++i) {
        if (gets_.taken(i)) continue;
        clock.Enter("wait for records");
        gets_.Take(i);
        clock.Enter("open");
        AskAhead(next);
      }
      if (Unanswered(slot)) {
        unanswered.emplace_back(slice.stream->job.get(), &slot);
      } else {
        OpenSlot(*slice.stream->job, slot);
      }
    }
  }
  if (unanswered.empty()) return;
  clock.Enter("wait for records");
  AskOthers();
  for (const auto& [job, slot] : unanswered) OpenSlot(*job, *slot);
}

// Opens the first answer that opens, into the slab, and holds the others to it. The answers'
// bytes are let go.
void ReadBatch::OpenSlot(ReadJob& job, Slot& slot) {
  const PlacedChunk& chunk = slot.chunk;
  SharedBytes good;
  bool all_good = true;
  for (size_t i = 0; i < slot.answers; ++i) {
    GetAnswer& answer = gets_[slot.first_answer + i];
    Status status = answer.status;
    const SharedBytes stored = std::move(answer.stored);
    if (status.ok() && !slot.opened) {
      status = OpenChunkInto(chunk.ref, chunk.info, stored.view, PlaceOf(slot));
      slot.opened = status.ok();
      if (slot.opened) good = stored;
      if (absl::IsDataLoss(status)) {
        QuarantineRecord(vault_.transport(), answer);
      }
    } else if (status.ok() && !std::ranges::equal(stored.view, good.view)) {
      answer.stored = stored;
      status = CheckVariant(slot, answer);
    }
    if (status.ok()) continue;
    all_good = false;
    job.OnFault({answer.node, chunk.ref.id, status});
  }
  slot.all_good = all_good && slot.answers > 1;
}

// A replica whose bytes are not those of the one that opened.
Status ReadBatch::CheckVariant(const Slot& slot, const GetAnswer& answer) {
  const PlacedChunk& chunk = slot.chunk;
  Buffer plaintext(chunk.info.length);
  Status status =
      OpenAndCheck(vault_.domain_keys(), chunk.ref, chunk.info, answer.stored.view, plaintext);
  if (status.ok()) {
    return absl::DataLossError(
        absl::StrCat(ChunkName(chunk.ref.id), " is good, but differs from another replica"));
  }
  if (absl::IsDataLoss(status)) {
    QuarantineRecord(vault_.transport(), answer);
  }
  return status;
}

uint32_t ReadBatch::DigestsOf(const Slice& slice) const {
  return options_.digests & RecordedDigests(slice.stream->object.sealed);
}

// Gives the engine every slice that is whole so far: one pass for chunk identities and digests.
void ReadBatch::RunEngine(kernels::Engine& engine) {
  engine_batch_.messages.reserve(slices_.size());
  states_before_.reserve(slices_.size());
  for (const Slot& slot : slots_) lengths_.push_back(slot.chunk.info.length);
  for (Slice& slice : slices_) {
    states_before_.push_back(slice.stream->state);
    const bool opened = std::ranges::all_of(SlotsOf(slice), &Slot::opened);
    if (!opened || !slice.stream->status.ok()) continue;
    engine_batch_.messages.push_back(
        {.data = slab_.subspan(slice.at, slice.size),
         .last = slice.last,
         .digests = DigestsOf(slice),
         .state = &slice.stream->state,
         .lengths = std::span(lengths_).subspan(slice.first_slot, slice.slots)});
    slice.message = &engine_batch_.messages.back();
  }
  if (SubmitAndWait(engine, engine_batch_) == kernels::Status::kOk) return;
  for (Slice& slice : slices_) slice.message = nullptr;
}

// Whether the engine found the chunks that the manifest lists.
bool ReadBatch::Matches(const Slice& slice) {
  const std::span<const Slot> slots = SlotsOf(slice);
  const kernels::Message& message = *slice.message;
  return message.consumed == slice.size && message.chunks.size() == slots.size() &&
         std::ranges::equal(message.chunks, slots,
                            [&](const kernels::Chunk& got, const Slot& slot) {
                              return got.length == slot.chunk.info.length &&
                                     HasIdentity(vault_.domain_keys(), slot.chunk.ref,
                                                 slot.chunk.info, got.sha256, got.poly1305);
                            });
}

// The slow way, when something is wrong with the slice, or it was cut by another rule.
void ReadBatch::CheckChunkByChunk(Slice& slice) {
  ReadStream& stream = *slice.stream;
  stream.state = states_before_[&slice - slices_.data()];
  for (Slot& slot : SlotsOf(slice)) {
    if (!stream.status.ok() && !options_.all_replicas) return;
    const Bytes plaintext = PlaceOf(slot);
    if (!slot.opened ||
        !HasIdentity(vault_.domain_keys(), slot.chunk.ref, slot.chunk.info, plaintext)) {
      if (slot.opened) CheckReplicas(*stream.job, slot);
      Status status = Repair(slot);
      if (stream.status.ok()) stream.status = status;
    }
    if (stream.status.ok()) kernels::Update(stream.state, DigestsOf(slice), plaintext);
  }
}

// What was asked for opens, but to other content: of all that gave it.
void ReadBatch::CheckReplicas(ReadJob& job, const Slot& slot) {
  const PlacedChunk& chunk = slot.chunk;
  Buffer plaintext(chunk.info.length);
  for (size_t i = 0; i < slot.answers; ++i) {
    const uint32_t node = gets_[slot.first_answer + i].node;
    const GetAnswer answer = GetFromNode(vault_.transport(), node, chunk.ref.id, kRequestNanos);
    if (!answer.status.ok()) continue;  // Told before.
    const Status status =
        OpenAndCheck(vault_.domain_keys(), chunk.ref, chunk.info, answer.stored.view, plaintext);
    if (status.ok()) continue;
    job.OnFault({node, chunk.ref.id, status});
    if (absl::IsDataLoss(status)) QuarantineRecord(vault_.transport(), answer);
  }
}

// Takes the chunk from whichever replica is good.
Status ReadBatch::Repair(Slot& slot) {
  ASSIGN_OR_RETURN(const Buffer good, ReadChunk(vault_, slot.chunk.ref, slot.chunk.info));
  std::ranges::copy(good, PlaceOf(slot).begin());
  return absl::OkStatus();
}

Status ReadBatch::CompareDigests(const Slice& slice, const kernels::Digests& got) const {
  const SealedManifest& sealed = slice.stream->object.sealed;
  const uint32_t digests = DigestsOf(slice);
  const char* wrong = nullptr;
  if ((digests & kernels::kMd5) && got.md5 != *sealed.md5) wrong = "MD5";
  if ((digests & kernels::kSha1) && got.sha1 != *sealed.sha1) wrong = "SHA-1";
  if ((digests & kernels::kSha256) && got.sha256 != sealed.sha256) wrong = "SHA-256";
  if (wrong == nullptr) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("its content does not have the recorded ", wrong));
}

void ReadBatch::SettleAll() {
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < slices_.size(); i = next++) Settle(slices_[i]);
  };
  std::vector<std::jthread> others;
  for (size_t i = 1; i < std::min(options_.writers, slices_.size()); ++i) others.emplace_back(work);
  work();
}

// Finishes with the slice, and with the stream where it ends.
void ReadBatch::Settle(Slice& slice) {
  ReadStream& stream = *slice.stream;
  const bool fast = slice.message != nullptr && Matches(slice);
  if (!fast) CheckChunkByChunk(slice);
  for (const Slot& slot : SlotsOf(slice)) {
    if (fast && options_.all_replicas && slot.all_good) checked_.Insert(slot.chunk.ref.id);
  }
  if (slice.last && stream.status.ok()) {
    stream.status = CompareDigests(
        slice, fast ? slice.message->result : kernels::Finish(stream.state, DigestsOf(slice)));
  }
  if (stream.status.ok())
    stream.status = stream.job->OnContent(slab_.subspan(slice.at, slice.size));
  stream.finished = slice.last || (!stream.status.ok() && !options_.all_replicas);
  if (stream.finished) stream.job->OnDone(stream.status);
}

}  // namespace holdfast
