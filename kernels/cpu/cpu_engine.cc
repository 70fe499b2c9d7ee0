#include "kernels/cpu/cpu_engine.h"

#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/core/cut.h"
#include "kernels/core/md5.h"
#include "kernels/core/sha1.h"
#include "kernels/core/sha256.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/object_digest.h"
#include "kernels/cpu/scan.h"

namespace holdfast::kernels {
namespace {

// The digests of one batch. Jobs borrow plans and states, so all vectors are made at their size.
class BatchDigests {
 public:
  BatchDigests(const CpuCode& code, Batch& batch) : code_(code), batch_(batch) {
    size_t chunks = 0;
    for (const Message& message : batch.messages) chunks += message.chunks.size();
    const size_t messages = batch.messages.size();
    plans_.reserve(messages);
    chunks_.reserve(chunks);
    sha256_.reserve(messages + chunks);
    forks_.reserve(messages);
    sha1_.reserve(messages);
    md5_.reserve(messages);
    for (Message& message : batch.messages) Add(message);
  }

  void Run() {
    RunLanes(code_.sha256, sha256_);
    RunLanes(code_.sha1, sha1_);
    RunLanes(code_.md5, md5_);
    for (const ChunkDigest& chunk : chunks_) {
      chunk.chunk->sha256 = DigestBytes(chunk.state, kSha256).sha256;
    }
    for (Message& message : batch_.messages) {
      if (message.last) Conclude(message);
    }
  }

 private:
  // SHA-256 of one chunk of an object of several.
  struct ChunkDigest {
    ChunkDigest(Chunk* chunk, std::span<const uint8_t> data)
        : chunk(chunk), state(Fresh()), plan(state, data, /*last=*/true) {}

    static DigestState Fresh() {
      DigestState state;
      state.Reset();
      return state;
    }

    Chunk* chunk;
    DigestState state;
    BlockPlan plan;
  };

  // SHA-256 of an object of one chunk is the chunk's. The state counts what was consumed, so the
  // object is one chunk if the state counts no more than that.
  static bool IsOneChunk(const Message& message) {
    return message.last && message.chunks.size() == 1 && message.state->length == message.consumed;
  }

  // Plans the message's digests, and lists them.
  void Add(Message& message) {
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
    if (!fresh || message.chunks.empty()) {
      sha256_.push_back(object);
      return;
    }
    // The object begins as its first chunk does, up to the last whole block of that.
    forks_.push_back(object);
    const BlockRun& shared = sha256_[first].runs[1];
    forks_.back().runs[1] = {shared.data + shared.blocks * 64,
                             object.runs[1].blocks - shared.blocks};
    sha256_[first].fork = &forks_.back();
  }

  void AddChunks(Message& message) {
    size_t at = 0;
    for (Chunk& chunk : message.chunks) {
      chunks_.emplace_back(&chunk, message.data.subspan(at, chunk.length));
      sha256_.push_back({chunks_.back().state.sha256.data(), chunks_.back().plan.runs(true)});
      at += chunk.length;
    }
  }

  static void Conclude(Message& message) {
    if (IsOneChunk(message)) {
      message.chunks[0].sha256 = DigestBytes(*message.state, kSha256).sha256;
    }
    message.result = DigestBytes(*message.state, message.digests);
  }

  const CpuCode& code_;
  Batch& batch_;
  std::vector<BlockPlan> plans_;     // Of the messages.
  std::vector<ChunkDigest> chunks_;  // Of the chunks that are not whole objects.
  std::vector<LaneJob> sha256_, sha1_, md5_;
  std::vector<LaneJob> forks_;  // Objects that go on from their first chunk.
};

class CpuEngine final : public Engine {
 public:
  CpuEngine(const EngineOptions& options, const CpuCode& code) : options_(options), code_(code) {
    // Multipliers that were never drawn would cut at every position.
    assert(core::cut::ValidAverage(options.cut.avg_size));
    assert(options.cut.prefilter_multiplier % 2 == 1 && options.cut.final_multiplier % 2 == 1);
  }

  std::string_view name() const override { return code_.name; }

  void Submit(Batch& batch, std::function<void(Status)> done) override {
    for (const Message& message : batch.messages) {
      if (!Acceptable(message)) return done(Status::kInvalidArgument);
    }
    for (Message& message : batch.messages) CutAndAuthenticate(message);
    BatchDigests(code_, batch).Run();
    done(Status::kOk);
  }

 private:
  bool Acceptable(const Message& message) const {
    return message.state != nullptr &&
           (message.last || message.data.size() >= options_.cut.max_size());
  }

  // Fills in lengths and Poly1305 of the message's chunks, and how far they reach.
  void CutAndAuthenticate(Message& message) const {
    message.chunks.clear();
    message.consumed = 0;
    while (message.consumed < message.data.size()) {
      const std::span<const uint8_t> rest = message.data.subspan(message.consumed);
      const std::optional<size_t> length =
          FirstChunk(options_.cut, rest, message.last, code_.find_cut);
      if (!length) break;
      message.chunks.push_back(
          {.length = static_cast<uint32_t>(*length),
           .poly1305 = code_.stream->poly1305(options_.poly1305_key, rest.first(*length))});
      message.consumed += *length;
    }
  }

  const EngineOptions options_;
  const CpuCode code_;
};

}  // namespace

std::unique_ptr<Engine> MakeCpuEngine(const EngineOptions& options, const CpuCode& code) {
  return std::make_unique<CpuEngine>(options, code);
}

std::unique_ptr<Engine> MakePortableEngine(const EngineOptions& options) {
  return MakeCpuEngine(options, MakeCpuCode(CpuPath::kPortable, ThisCpu(), BestStreamCode()));
}

std::unique_ptr<Engine> MakeCpuEngine(const EngineOptions& options, std::string* why_not) {
  const CpuFeatures features = ThisCpu();
  CpuPath path = BestPath(features);
  const char* forced = std::getenv("HOLDFAST_KERNELS");
  if (forced != nullptr && *forced != '\0') {
    const std::optional<CpuPath> named = CpuPathByName(forced);
    if (!named || !HasPath(features, *named)) {
      const std::string message = std::string("HOLDFAST_KERNELS=") + forced +
                                  (named ? ": this CPU, or this build, has no such instructions"
                                         : ": not a path of the CPU (portable, avx2, avx512)");
      if (why_not != nullptr) {
        *why_not = message;
      } else {
        std::fprintf(stderr, "%s\n", message.c_str());
      }
      return nullptr;
    }
    path = *named;
  }
  return MakeCpuEngine(options, MakeCpuCode(path, features, BestStreamCode()));
}

}  // namespace holdfast::kernels
