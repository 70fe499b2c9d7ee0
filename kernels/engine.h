// The engine turns batches of object bytes into cuts and digests.
//
// One call takes many messages, each a slice of one object, and gives for each: the chunks it was
// cut into (length, SHA-256, Poly1305 of the plaintext) and the object digests carried on in its
// state. What is computed is defined by kernels/core/ alone, so every backend (portable, SIMD
// lanes, CUDA) gives the same bytes; a backend chooses only order and place.
//
// Slices. A message's `data` starts at a chunk boundary of its object. The engine consumes whole
// chunks: all of `data` when `last`, else up to the last cut it could decide. `consumed` says how
// far; the caller presents the rest again at the front of the object's next slice. Of a slice that
// is not `last`, and holds fewer than CutParams::max_size bytes, that may be nothing. Object
// digests cover exactly the consumed bytes, in order. Whether a slice is the last need not be known
// while bytes are left: an empty last slice ends an object whose bytes are all consumed.
//
// Status. kInvalidArgument: a message without a state; nothing was changed.
// Objects can be slices of other batches in turn, but one object must not be in two batches, or
// twice in one, at a time: its state has one owner.
//
// Thread safety: Submit may be called from several threads at once. The batch and all it points
// to belong to the engine from Submit until `done` runs; `done` may run on any thread, also inside
// Submit. This folder includes only itself and the standard library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::kernels {

enum class Status : uint8_t { kOk, kInvalidArgument, kUnavailable, kInternal };

// The cut rule, version 1 (docs/formats/cut-rule.md): a pure function of the 64 bytes before a
// position, the three sizes and the multipliers.
struct CutParams {
  uint32_t avg_size = 512 * 1024;  // Power of two, 64 KiB … 4 MiB. min = avg / 4, max = 4 * avg.
  uint64_t prefilter_multiplier = 0;              // k1, odd
  uint64_t prefilter_offset = 0;                  // k0
  uint64_t confirm_seed = 0;                      // k
  std::array<uint64_t, 8> confirm_multipliers{};  // K_j, odd
  uint64_t final_multiplier = 0;                  // K', odd

  uint32_t min_size() const { return avg_size / 4; }
  uint32_t max_size() const { return avg_size * 4; }
};

// Draws the multipliers from a 32-byte seed (derived from K_dedup), redrawing by a counter while
// windows of 00 or FF would pass the prefilter. Deterministic.
CutParams MakeCutParams(uint32_t avg_size, const std::array<uint8_t, 32>& seed);

enum DigestSet : uint32_t { kSha256 = 1, kSha1 = 2, kMd5 = 4, kAllDigests = 7 };

// Running state of the object digests: chaining values and the length so far, with the bytes of
// an unfinished 64-byte block. Trivially copyable; value-initialise, then call Reset.
struct DigestState {
  std::array<uint32_t, 8> sha256;
  std::array<uint32_t, 5> sha1;
  std::array<uint32_t, 4> md5;
  uint64_t length;               // Bytes taken so far.
  std::array<uint8_t, 64> tail;  // The last length % 64 bytes.
  void Reset();
};

struct Digests {
  std::array<uint8_t, 32> sha256{};
  std::array<uint8_t, 20> sha1{};
  std::array<uint8_t, 16> md5{};
};

struct Chunk {
  uint32_t length = 0;
  std::array<uint8_t, 32> sha256{};
  std::array<uint8_t, 16> poly1305{};
  // Which chunk of the batch is the first with this SHA-256; its own number where it is the first.
  // Chunks are numbered through all messages, in order.
  uint32_t first_same = 0;
  bool maybe_known = false;  // The resident table had its fingerprint before this batch.
};

struct Message {
  std::span<const uint8_t> data;   // In; borrowed.
  bool last = false;               // In: `data` reaches the end of the object.
  uint32_t digests = kAllDigests;  // In: which object digests to compute (DigestSet bits).
  DigestState* state = nullptr;    // In and out; the caller's, never null. Void after `last`.
  // In: of its chunks, where they are known, as when what is stored is read; borrowed. The rule
  // need not be followed then: an engine may take these, if they are all of `data`, for the cuts.
  std::span<const uint32_t> lengths = {};
  size_t consumed = 0;        // Out: bytes of `data` covered by `chunks`.
  std::vector<Chunk> chunks;  // Out: in order. An empty object has no chunk.
  Digests result;             // Out, when `last`: the digests asked for, the others zero.
  // Out: a device took the digests, of which no more than a sample was checked. Who is about to
  // drop bytes, as another chunk has the same digest, takes Sha256 of them first.
  bool from_device = false;
};

struct Batch {
  std::vector<Message> messages;
};

// Which fingerprints, the first 64 bits of chunks' SHA-256 (little-endian), were met before: a
// cache, which says "maybe" or "not that I know". It holds up to seven eighths of its slots of 16
// bytes; what comes then is not remembered. Thread-safe.
class FingerprintTable {
 public:
  virtual ~FingerprintTable() = default;
  virtual size_t slots() const = 0;
  virtual size_t size() const = 0;
  // Of the last insertion that is complete; 0 before the first.
  virtual uint64_t epoch() const = 0;
  // Adds fingerprints, those of a bulk load too, and moves the epoch on by one. kUnavailable: the
  // device failed, and the table is of no more use.
  virtual Status Insert(std::span<const uint64_t> fingerprints) = 0;
  // Sets found[i] to 1 where fingerprints[i] was inserted in an epoch up to `as_of`, else to 0.
  virtual Status Find(std::span<const uint64_t> fingerprints, uint64_t as_of,
                      std::span<uint8_t> found) = 0;

 protected:
  static size_t MostOf(size_t slots) { return slots - slots / 8; }
};

std::unique_ptr<FingerprintTable> MakeHostTable(size_t slots);

struct EngineOptions {
  CutParams cut;
  std::array<uint8_t, 32> poly1305_key{};  // r ‖ s as in RFC 8439; used as a universal hash.
  FingerprintTable* table = nullptr;       // Borrowed; asked about all chunks, and told of them.
};

class Engine {
 public:
  virtual ~Engine() = default;
  // Which backend this is, for people: "portable", "avx2+sha", "avx512", …
  virtual std::string_view name() const = 0;
  // Starts the batch; calls `done` exactly once. On a status other than kOk the outputs are void.
  virtual void Submit(Batch& batch, std::function<void(Status)> done) = 0;
  // Bytes of a batch from which on it is at its best; 0: any will do.
  virtual size_t good_batch_bytes() const { return 0; }
  // What a device computed was found wrong by the caller: it is not used any more.
  virtual void Distrust(std::string_view /*why*/) {}
  // Memory in which the data of messages will lie, until Unregister: a device copies from it
  // fastest when told before. It must not be freed in between.
  virtual void Register(std::span<const uint8_t> /*memory*/) {}
  virtual void Unregister(std::span<const uint8_t> /*memory*/) {}
};

// The portable backend. Runs in the calling thread, inside Submit.
std::unique_ptr<Engine> MakePortableEngine(const EngineOptions& options);

// The fastest backend of this CPU; or, where the environment has HOLDFAST_KERNELS, the path that it
// names: portable, avx2, avx512. Null if it names one that this CPU or build lacks, or none at all;
// then `why_not` says so in one line, or stderr does. Runs in the calling thread, inside Submit.
std::unique_ptr<Engine> MakeCpuEngine(const EngineOptions& options, std::string* why_not = nullptr);

enum class EngineKind : uint8_t { kAuto, kCpu, kCuda };

// The engine of this machine: kCpu as MakeCpuEngine; kCuda, or HOLDFAST_KERNELS=cuda, on the first
// CUDA device, or, where there is none that works, as kCpu, and `say` is told why in one line;
// kAuto either, whatever is there, and nothing is said of what is not. `say` is kept: it is also
// told, in one line, when a device fails later, and the CPU goes on. It may be called from any
// thread. Null as MakeCpuEngine gives it.
std::unique_ptr<Engine> MakeEngine(EngineKind kind, const EngineOptions& options,
                                   const std::function<void(const std::string&)>& say,
                                   std::string* why_not);

// Poly1305 (RFC 8439, 2.5) and SHA-256 of one message, in the calling thread; for re-checks of
// single chunks. The fastest single-stream code at hand.
std::array<uint8_t, 16> Poly1305(const std::array<uint8_t, 32>& key, std::span<const uint8_t> data);
std::array<uint8_t, 32> Sha256(std::span<const uint8_t> data);

// Takes more bytes into the object digests named in `digests`, and finishes them. Single stream;
// what verify and restore use.
void Update(DigestState& state, uint32_t digests, std::span<const uint8_t> data);
Digests Finish(const DigestState& state, uint32_t digests);

// Runs the known answers of the standards and a fixed batch through `engine`; false on any
// difference.
bool KnownAnswerTest(Engine& engine, const EngineOptions& options);

}  // namespace holdfast::kernels
