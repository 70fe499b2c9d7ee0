// The start-up check of a backend: standards' vectors, and a fixed batch against kernels/core.
//
// The answers are computed here by the plainest code there is: the core's scalar functions, one
// message and one position at a time. So a backend is compared with the definition itself, under
// the very parameters it was made with.
#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>

#include "kernels/core/cut.h"
#include "kernels/cpu/object_digest.h"
#include "kernels/cpu/stream.h"
#include "kernels/engine.h"

namespace holdfast::kernels {
namespace {

// One object of the batch. With a second slice, `split` bytes are given first.
struct Case {
  std::vector<uint8_t> bytes;
  std::optional<size_t> split;
  DigestState state;
  std::vector<Chunk> chunks;
  Digests result;
};

std::vector<uint8_t> PseudoRandom(size_t size, uint64_t seed) {
  std::vector<uint8_t> bytes(size);
  uint64_t x = seed * 2 + 1;
  for (uint8_t& byte : bytes) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<uint8_t>(x >> 56);
  }
  return bytes;
}

// FIPS 180-4, RFC 3174 and RFC 1321 on "abc", through the engine.
bool MatchesStandards(const Digests& abc) {
  constexpr std::array<uint8_t, 32> kSha256Abc = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
                                                  0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
                                                  0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
                                                  0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
  constexpr std::array<uint8_t, 20> kSha1Abc = {0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81,
                                                0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50,
                                                0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d};
  constexpr std::array<uint8_t, 16> kMd5Abc = {0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0,
                                               0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72};
  return abc.sha256 == kSha256Abc && abc.sha1 == kSha1Abc && abc.md5 == kMd5Abc;
}

// RFC 8439, 2.5.2, through the free function: an engine's key is fixed. Long enough inputs reach
// the vector code, so the same key is also tried on a paint of 4 KiB against the core.
bool Poly1305Matches() {
  const std::array<uint8_t, 32> key = {0x85, 0xd6, 0xbe, 0x78, 0x57, 0x55, 0x6d, 0x33,
                                       0x7f, 0x44, 0x52, 0xfe, 0x42, 0xd5, 0x06, 0xa8,
                                       0x01, 0x03, 0x80, 0x8a, 0xfb, 0x0d, 0xb2, 0xfd,
                                       0x4a, 0xbf, 0xf6, 0xaf, 0x41, 0x49, 0xf5, 0x1b};
  constexpr std::array<uint8_t, 16> kWant = {0xa8, 0x06, 0x1d, 0xc1, 0x30, 0x51, 0x36, 0xc6,
                                             0xc2, 0x2b, 0x8b, 0xaf, 0x0c, 0x01, 0x27, 0xa9};
  constexpr std::string_view kText = "Cryptographic Forum Research Group";
  const std::vector<uint8_t> text(kText.begin(), kText.end());
  const std::vector<uint8_t> paint = PseudoRandom(4097, 0);
  return Poly1305(key, text) == kWant &&
         Poly1305(key, paint) == CoreStreamCode().poly1305(key, paint);
}

bool Passes(const CutParams& p, const uint8_t* end, uint64_t threshold) {
  uint64_t words[8];
  for (int j = 0; j < 8; ++j) words[j] = core::LoadLe64(end - 64 + 8 * j);
  return core::cut::Prefilter(p.prefilter_multiplier, p.prefilter_offset, words[7]) &&
         core::cut::Confirm(p.confirm_seed, p.confirm_multipliers.data(), p.final_multiplier,
                            words) < threshold;
}

size_t PlainChunkLength(const CutParams& p, std::span<const uint8_t> rest) {
  const size_t end = std::min<size_t>(p.max_size(), rest.size());
  const uint64_t strict = core::cut::StrictThreshold(p.avg_size);
  const uint64_t loose = core::cut::LooseThreshold(p.avg_size);
  for (size_t d = p.min_size(); d < end; ++d) {
    if (Passes(p, rest.data() + d, d < p.avg_size ? strict : loose)) return d;
  }
  return end;
}

bool MatchesCore(const Case& c, const EngineOptions& options) {
  // The core's scalar code would take most of the time of a start on the one long object; that one
  // is held to the faster single-stream code, which the others have just held to the core.
  const StreamCode& code = c.split ? BestStreamCode() : CoreStreamCode();
  size_t at = 0;
  for (const Chunk& chunk : c.chunks) {
    const std::span<const uint8_t> rest = std::span(c.bytes).subspan(at);
    if (rest.empty() || chunk.length != PlainChunkLength(options.cut, rest)) return false;
    const std::span<const uint8_t> bytes = rest.first(chunk.length);
    if (chunk.sha256 != Sha256With(code, bytes)) return false;
    if (chunk.poly1305 != code.poly1305(options.poly1305_key, bytes)) return false;
    at += chunk.length;
  }
  DigestState state;
  state.Reset();
  const BlockPlan plan(state, c.bytes, /*last=*/true);
  RunPlan(code, plan, kAllDigests, state);
  const Digests want = DigestBytes(state, kAllDigests);
  return at == c.bytes.size() && c.result.sha256 == want.sha256 && c.result.sha1 == want.sha1 &&
         c.result.md5 == want.md5;
}

// Lengths around every padding boundary and around the three chunk sizes; two slices for some.
std::vector<Case> FixedCases(const CutParams& cut) {
  const size_t min = cut.min_size(), max = cut.max_size();
  std::vector<Case> cases;
  cases.push_back({.bytes = {'a', 'b', 'c'}});
  for (const size_t size : {size_t{0}, size_t{1}, size_t{55}, size_t{56}, size_t{63}, size_t{64},
                            size_t{65}, size_t{119}, size_t{120}, size_t{4096}, min + 1}) {
    cases.push_back({.bytes = PseudoRandom(size, size)});
  }
  cases.push_back({.bytes = PseudoRandom(max + min + 77, 3), .split = max + 13});
  for (Case& c : cases) c.state.Reset();
  return cases;
}

bool SubmitAndWait(Engine& engine, Batch& batch) {
  std::mutex mutex;
  std::condition_variable ready;
  std::optional<Status> status;
  engine.Submit(batch, [&](Status s) {
    const std::lock_guard lock(mutex);
    status = s;
    ready.notify_one();
  });
  std::unique_lock lock(mutex);
  ready.wait(lock, [&] { return status.has_value(); });
  return *status == Status::kOk;
}

// Gives the cases to the engine; split ones in two batches.
bool RunCases(Engine& engine, std::vector<Case>& cases) {
  std::vector<size_t> taken(cases.size(), 0);
  for (const bool second : {false, true}) {
    Batch batch;
    std::vector<size_t> owner;
    for (size_t i = 0; i < cases.size(); ++i) {
      Case& c = cases[i];
      if (second && !c.split) continue;
      const bool last = second || !c.split;
      const std::span<const uint8_t> bytes(c.bytes.data(), last ? c.bytes.size() : *c.split);
      batch.messages.push_back({.data = bytes.subspan(taken[i]), .last = last, .state = &c.state});
      owner.push_back(i);
    }
    if (!SubmitAndWait(engine, batch)) return false;
    for (size_t m = 0; m < owner.size(); ++m) {
      Case& c = cases[owner[m]];
      const Message& message = batch.messages[m];
      taken[owner[m]] += message.consumed;
      c.chunks.insert(c.chunks.end(), message.chunks.begin(), message.chunks.end());
      c.result = message.result;
    }
  }
  return true;
}

}  // namespace

bool KnownAnswerTest(Engine& engine, const EngineOptions& options) {
  if (!core::cut::ValidAverage(options.cut.avg_size)) return false;
  std::vector<Case> cases = FixedCases(options.cut);
  if (!Poly1305Matches() || !RunCases(engine, cases)) return false;
  if (!MatchesStandards(cases[0].result)) return false;
  return std::ranges::all_of(cases, [&](const Case& c) { return MatchesCore(c, options); });
}

}  // namespace holdfast::kernels
