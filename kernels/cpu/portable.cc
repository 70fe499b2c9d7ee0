// The portable engine: plain C++ and, where built in, OpenSSL's single-stream code.
#include <functional>
#include <memory>
#include <utility>

#include "kernels/core/cut.h"
#include "kernels/cpu/object_digest.h"
#include "kernels/cpu/scan.h"
#include "kernels/cpu/stream.h"
#include "kernels/engine.h"

namespace holdfast::kernels {
namespace {

class PortableEngine final : public Engine {
 public:
  explicit PortableEngine(const EngineOptions& options)
      : options_(options), code_(BestStreamCode()) {}

  std::string_view name() const override { return "portable"; }

  void Submit(Batch& batch, std::function<void(Status)> done) override {
    for (const Message& message : batch.messages) {
      if (!Acceptable(message)) return done(Status::kInvalidArgument);
    }
    for (Message& message : batch.messages) {
      CutAndIdentify(message);
      DigestObject(message);
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

  // Takes the consumed bytes into the object digests.
  void DigestObject(Message& message) const {
    DigestState& state = *message.state;
    uint32_t digests = message.digests;
    // SHA-256 of an object of one chunk is the chunk's, which is there already.
    const bool one_chunk = message.last && state.length == 0 && message.chunks.size() == 1;
    if (one_chunk) digests &= ~uint32_t{kSha256};
    const BlockPlan plan(state, message.data.first(message.consumed), message.last);
    RunPlan(code_, plan, digests, state);
    if (!message.last) return;
    message.result = DigestBytes(state, digests);
    if (one_chunk && (message.digests & kSha256)) message.result.sha256 = message.chunks[0].sha256;
  }

  const EngineOptions options_;
  const StreamCode& code_;
};

}  // namespace

std::unique_ptr<Engine> MakePortableEngine(const EngineOptions& options) {
  return std::make_unique<PortableEngine>(options);
}

}  // namespace holdfast::kernels
