#include "kernels/cpu/cpu_engine.h"

#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "kernels/answers.h"
#include "kernels/core/cut.h"
#include "kernels/cpu/batch_digests.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/scan.h"

namespace holdfast::kernels {
namespace {

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
      if (message.state == nullptr) return done(Status::kInvalidArgument);
    }
    std::vector<Message*> messages;
    messages.reserve(batch.messages.size());
    for (Message& message : batch.messages) {
      CutAndAuthenticate(message);
      messages.push_back(&message);
    }
    const bool together = code_.all.single != nullptr;
    BatchDigests digests(
        messages, together ? BatchDigests::Sharing::kBlocks : BatchDigests::Sharing::kBeginnings);
    if (together) RunLanes(code_.all, digests.all());
    RunLanes(code_.sha256, digests.sha256());
    RunLanes(code_.sha1, digests.sha1());
    RunLanes(code_.md5, digests.md5());
    digests.Conclude();
    AnswerDuplicates(batch, options_.table);
    done(Status::kOk);
  }

 private:
  // Fills in lengths and Poly1305 of the message's chunks, and how far they reach.
  void CutAndAuthenticate(Message& message) const {
    message.chunks.clear();
    message.consumed = 0;
    message.from_device = false;
    const auto& lengths = message.lengths;
    if (std::accumulate(lengths.begin(), lengths.end(), size_t{0}) == message.data.size()) {
      for (const uint32_t length : lengths) Append(message, length);
      return;
    }
    while (message.consumed < message.data.size()) {
      const std::span<const uint8_t> rest = message.data.subspan(message.consumed);
      const std::optional<size_t> length =
          FirstChunk(options_.cut, rest, message.last, code_.find_cut);
      if (!length) break;
      Append(message, *length);
    }
  }

  // The next chunk.
  void Append(Message& message, size_t length) const {
    message.chunks.push_back(
        {.length = static_cast<uint32_t>(length),
         .poly1305 = code_.stream->poly1305(options_.poly1305_key,
                                            message.data.subspan(message.consumed, length))});
    message.consumed += length;
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
