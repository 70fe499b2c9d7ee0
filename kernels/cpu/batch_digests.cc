#include "kernels/cpu/batch_digests.h"

namespace holdfast::kernels {
namespace {

DigestState Fresh() {
  DigestState state;
  state.Reset();
  return state;
}

// SHA-256 of an object of one chunk is the chunk's. The state counts what was consumed, so the
// object is one chunk if the state counts no more than that.
bool IsOneChunk(const Message& message) {
  return message.last && message.chunks.size() == 1 && message.state->length == message.consumed;
}

}  // namespace

BatchDigests::ChunkDigest::ChunkDigest(Chunk* chunk, std::span<const uint8_t> data)
    : chunk(chunk), state(Fresh()), plan(state, data, /*last=*/true) {}

BatchDigests::BatchDigests(std::span<Message* const> messages, bool forks) : messages_(messages) {
  size_t chunks = 0;
  for (const Message* message : messages) chunks += message->chunks.size();
  plans_.reserve(messages.size());
  chunks_.reserve(chunks);
  sha256_.reserve(messages.size() + chunks);
  forks_.reserve(messages.size());
  sha1_.reserve(messages.size());
  md5_.reserve(messages.size());
  for (Message* message : messages) Add(*message, forks);
}

// Plans the message's digests, and lists them.
void BatchDigests::Add(Message& message, bool forks) {
  DigestState& state = *message.state;
  const bool fresh = state.length == 0;
  plans_.emplace_back(state, message.data.first(message.consumed), message.last);
  const BlockPlan& plan = plans_.back();
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
  if (!forks || !fresh || message.chunks.empty()) {
    sha256_.push_back(object);
    return;
  }
  // The object begins as its first chunk does, up to the last whole block of that.
  forks_.push_back(object);
  const BlockRun& shared = sha256_[first].runs[1];
  forks_.back().runs[1] = {shared.data + shared.blocks * 64, object.runs[1].blocks - shared.blocks};
  sha256_[first].fork = &forks_.back();
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
