#include "kernels/cpu/portable.h"

#include <cassert>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/core/cut.h"
#include "kernels/core/md5.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/object_digest.h"
#include "kernels/cpu/scan.h"

namespace holdfast::kernels {
namespace {

class PortableEngine final : public Engine {
 public:
  PortableEngine(const EngineOptions& options, const StreamCode& code)
      : options_(options), code_(code) {
    // Multipliers that were never drawn would cut at every position.
    assert(core::cut::ValidAverage(options.cut.avg_size));
    assert(options.cut.prefilter_multiplier % 2 == 1 && options.cut.final_multiplier % 2 == 1);
  }

  std::string_view name() const override { return "portable"; }

  void Submit(Batch& batch, std::function<void(Status)> done) override {
    for (const Message& message : batch.messages) {
      if (!Acceptable(message)) return done(Status::kInvalidArgument);
    }
    std::vector<BlockPlan> plans;
    plans.reserve(batch.messages.size());
    for (Message& message : batch.messages) {
      CutAndIdentify(message);
      plans.emplace_back(*message.state, message.data.first(message.consumed), message.last);
      // SHA from the SHA extensions beats lanes of four words; MD5 has no such instructions.
      RunPlan(code_, plans.back(), DigestsToRun(message) & ~uint32_t{kMd5}, *message.state);
    }
    RunMd5(batch, plans);
    for (Message& message : batch.messages) {
      if (message.last) Conclude(message);
    }
    done(Status::kOk);
  }

 private:
  bool Acceptable(const Message& message) const {
    return message.state != nullptr &&
           (message.last || message.data.size() >= options_.cut.max_size());
  }

  // Fills in the message's chunks, and how far they reach.
  void CutAndIdentify(Message& message) const {
    message.chunks.clear();
    message.consumed = 0;
    while (message.consumed < message.data.size()) {
      const std::span<const uint8_t> rest = message.data.subspan(message.consumed);
      const std::optional<size_t> length = FirstChunk(options_.cut, rest, message.last);
      if (!length) break;
      const std::span<const uint8_t> bytes = rest.first(*length);
      message.chunks.push_back({static_cast<uint32_t>(*length), Sha256With(code_, bytes),
                                code_.poly1305(options_.poly1305_key, bytes)});
      message.consumed += *length;
    }
  }

  // SHA-256 of an object of one chunk is the chunk's, which is there already. The state counts
  // what was consumed, so the object is one chunk if the state counts no more than that.
  static bool IsOneChunk(const Message& message) {
    return message.last && message.chunks.size() == 1 && message.state->length == message.consumed;
  }

  static uint32_t DigestsToRun(const Message& message) {
    return IsOneChunk(message) ? message.digests & ~uint32_t{kSha256} : message.digests;
  }

  void RunMd5(Batch& batch, const std::vector<BlockPlan>& plans) const {
    std::vector<LaneJob> jobs;
    jobs.reserve(plans.size());
    for (size_t i = 0; i < plans.size(); ++i) {
      const Message& message = batch.messages[i];
      if (!(message.digests & kMd5)) continue;
      jobs.push_back({message.state->md5.data(), plans[i].runs(core::md5::kBigEndian)});
    }
    Md5InPortableLanes(jobs, code_.md5);
  }

  static void Conclude(Message& message) {
    message.result = DigestBytes(*message.state, message.digests);
    if (IsOneChunk(message) && (message.digests & kSha256)) {
      message.result.sha256 = message.chunks[0].sha256;
    }
  }

  const EngineOptions options_;
  const StreamCode& code_;
};

}  // namespace

std::unique_ptr<Engine> MakePortableEngine(const EngineOptions& options) {
  return MakePortableEngine(options, BestStreamCode());
}

std::unique_ptr<Engine> MakePortableEngine(const EngineOptions& options, const StreamCode& code) {
  return std::make_unique<PortableEngine>(options, code);
}

}  // namespace holdfast::kernels
