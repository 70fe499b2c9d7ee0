#include "kernels/cpu/batch_digests.h"

#include <cstddef>

#include "kernels/core/all_digests.h"

namespace holdfast::kernels {
namespace {

DigestState Fresh() {
  DigestState state;
  state.Reset();
  return state;
}

// The three chaining values as core/all_digests.h has them.
uint32_t* AllWords(DigestState& state) {
  static_assert(offsetof(DigestState, sha256) == 0);
  static_assert(offsetof(DigestState, sha1) == 4 * core::all_digests::kSha1At);
  static_assert(offsetof(DigestState, md5) == 4 * core::all_digests::kMd5At);
  return reinterpret_cast<uint32_t*>(&state);
}

// SHA-256 of an object of one chunk is the chunk's. The state counts what was consumed, so the
// object is one chunk if the state counts no more than that.
bool IsOneChunk(const Message& message) {
  return message.last && message.chunks.size() == 1 && message.state->length == message.consumed;
}

// Whether the first chunk has a block that is the object's too.
bool BeginsWithABlock(const Message& message) {
  return !message.chunks.empty() && message.chunks[0].length >= 64;
}

// The padding is all that differs between the digests of an object.
std::array<BlockRun, 3> OnlyEnding(const BlockPlan& plan, bool big_endian) {
  return {BlockRun{}, BlockRun{}, plan.runs(big_endian)[2]};
}

}  // namespace

BatchDigests::ChunkDigest::ChunkDigest(Chunk* chunk, std::span<const uint8_t> data)
    : chunk(chunk), state(Fresh()), plan(state, data, /*last=*/true) {}

BatchDigests::BatchDigests(std::span<Message* const> messages, Sharing sharing)
    : messages_(messages), sharing_(sharing) {
  size_t chunks = 0;
  for (const Message* message : messages) chunks += message->chunks.size();
  plans_.reserve(messages.size());
  chunks_.reserve(chunks);
  all_.reserve(messages.size());
  sha256_.reserve(messages.size() + chunks);
  forks_.reserve(messages.size());
  sha1_.reserve(messages.size());
  md5_.reserve(messages.size());
  for (Message* message : messages) Add(*message);
}

// Plans the message's digests, and lists them.
void BatchDigests::Add(Message& message) {
  DigestState& state = *message.state;
  const bool fresh = state.length == 0;
  plans_.emplace_back(state, message.data.first(message.consumed), message.last);
  const BlockPlan& plan = plans_.back();
  if (sharing_ == Sharing::kBlocks && message.digests == kAllDigests) {
    return AddTogether(message, plan, fresh);
  }
  const auto runs = plan.runs(/*big_endian=*/true);
  if (message.digests & kSha1) sha1_.push_back({state.sha1.data(), runs});
  if (message.digests & kMd5) md5_.push_back({state.md5.data(), plan.runs(false)});
  if (IsOneChunk(message)) {
    sha256_.push_back({state.sha256.data(), runs});
    return;
  }
  const size_t first = sha256_.size();
  AddChunks(message);
  if (!(message.digests & kSha256)) return;
  const LaneJob object{state.sha256.data(), runs};
  if (sharing_ == Sharing::kNothing || !fresh || !BeginsWithABlock(message)) {
    sha256_.push_back(object);
    return;
  }
  // The object begins as its first chunk does, up to the last whole block of that.
  forks_.push_back(object);
  const BlockRun& shared = sha256_[first].runs[1];
  forks_.back().runs[1] = {shared.data + shared.blocks * 64, object.runs[1].blocks - shared.blocks};
  sha256_[first].fork = &forks_.back();
}

void BatchDigests::AddTogether(Message& message, const BlockPlan& plan, bool fresh) {
  DigestState& state = *message.state;
  const auto runs = plan.runs(true);
  all_.push_back({AllWords(state), {runs[0], runs[1], BlockRun{}}});
  sha256_.push_back({state.sha256.data(), OnlyEnding(plan, true)});
  sha1_.push_back({state.sha1.data(), OnlyEnding(plan, true)});
  md5_.push_back({state.md5.data(), OnlyEnding(plan, false)});
  if (IsOneChunk(message)) return;
  const size_t first = sha256_.size(), first_chunk = chunks_.size();
  AddChunks(message);
  if (!fresh || !BeginsWithABlock(message)) return;
  // The first chunk begins as the object does: it takes the state at its own last whole block.
  LaneJob& object = all_.back();
  const size_t shared = sha256_[first].runs[1].blocks;
  object.runs[1] = {runs[1].data, shared};
  object.runs[2] = {runs[1].data + shared * 64, runs[1].blocks - shared};
  sha256_[first].runs[1] = {};
  forks_.push_back({AllWords(chunks_[first_chunk].state), {}});
  object.fork = &forks_.back();
}

void BatchDigests::AddChunks(Message& message) {
  size_t at = 0;
  for (Chunk& chunk : message.chunks) {
    chunks_.emplace_back(&chunk, message.data.subspan(at, chunk.length));
    sha256_.push_back({chunks_.back().state.sha256.data(), chunks_.back().plan.runs(true)});
    at += chunk.length;
  }
}

void BatchDigests::Conclude() {
  for (const ChunkDigest& chunk : chunks_) {
    chunk.chunk->sha256 = DigestBytes(chunk.state, kSha256).sha256;
  }
  for (Message* message : messages_) {
    if (!message->last) continue;
    if (IsOneChunk(*message)) {
      message->chunks[0].sha256 = DigestBytes(*message->state, kSha256).sha256;
    }
    message->result = DigestBytes(*message->state, message->digests);
  }
}

}  // namespace holdfast::kernels
