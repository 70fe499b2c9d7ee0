#include "client/sealer.h"

#include <zstd.h>

#include <cmath>

#include "kernels/engine.h"

namespace holdfast {
namespace {

constexpr int kZstdLevel = 1;             // Format: Codec::kZstd names it.
constexpr size_t kMinCompressible = 128;  // Below, padding eats the gain.
constexpr double kWorthTrying = 7.2;      // Bits per byte: a gain of 10 %.
constexpr size_t kSampleRun = 128;        // Bytes read in one place.
constexpr size_t kMaxRuns = 32;
// A request of chunks and the chunk that fills it.
constexpr size_t kBlockBytes = 4u << 20;

// n * log2(n) for every count a histogram of samples can hold.
const std::vector<float>& CountLogs() {
  static const std::vector<float>* const table = [] {
    auto* t = new std::vector<float>(kSampleRun * kMaxRuns + 1);
    for (size_t n = 1; n < t->size(); ++n) (*t)[n] = n * std::log2(static_cast<float>(n));
    return t;
  }();
  return *table;
}

}  // namespace

double SampledEntropy(Bytes data) {
  // Enough samples that noise does not look ordered, few enough to cost nothing.
  const size_t runs = std::clamp<size_t>(data.size() / 1024, 8, kMaxRuns);
  uint16_t counts[4][256] = {};  // Four, so that equal neighbours do not wait for each other.
  size_t taken = 0;
  for (size_t r = 0; r < runs; ++r) {
    const size_t run = std::min(kSampleRun, data.size() / runs) / 4 * 4;
    const uint8_t* p = data.data() + (data.size() - run) / runs * r;
    for (size_t i = 0; i < run; i += 4) {
      ++counts[0][p[i]];
      ++counts[1][p[i + 1]];
      ++counts[2][p[i + 2]];
      ++counts[3][p[i + 3]];
    }
    taken += run;
  }
  if (taken == 0) return 8;
  const std::vector<float>& logs = CountLogs();
  double sum = 0;
  for (int b = 0; b < 256; ++b) {
    sum += logs[counts[0][b] + counts[1][b] + counts[2][b] + counts[3][b]];
  }
  return std::log2(static_cast<double>(taken)) - sum / static_cast<double>(taken);
}

struct Sealer::Scratch {
  ~Scratch() {
    ZSTD_freeCCtx(compressor);
    ZSTD_freeDCtx(decompressor);
  }
  ZSTD_CCtx* compressor = ZSTD_createCCtx();
  ZSTD_DCtx* decompressor = ZSTD_createDCtx();
  Buffer compressed, plain;
  std::shared_ptr<uint8_t[]> block;
  size_t block_size = 0, block_used = 0;
};

Sealer::Sealer(const DomainKeys& keys, bool together)
    : keys_(keys), together_(together), scratch_(std::make_unique<Scratch>()) {}
Sealer::~Sealer() = default;

bool Sealer::Matches(const ChunkIdentity& chunk, Bytes plain) const {
  return plain.size() == chunk.length &&
         kernels::Poly1305(keys_.poly1305_key(), plain) == chunk.poly1305;
}

Bytes Sealer::Compress(Bytes plain) {
  if (plain.size() < kMinCompressible || SampledEntropy(plain) > kWorthTrying) return {};
  Buffer& out = scratch_->compressed;
  if (out.size() < ZSTD_compressBound(plain.size())) out.resize(ZSTD_compressBound(plain.size()));
  const size_t n = ZSTD_compressCCtx(scratch_->compressor, out.data(), out.size(), plain.data(),
                                     plain.size(), kZstdLevel);
  if (ZSTD_isError(n) || n > plain.size() - plain.size() / 20) return {};
  return Bytes(out).first(n);
}

StatusOr<Bytes> Sealer::Decompress(Bytes payload, size_t length) {
  Buffer& out = scratch_->plain;
  if (out.size() < length) out.resize(length);
  const size_t n = ZSTD_decompressDCtx(scratch_->decompressor, out.data(), length, payload.data(),
                                       payload.size());
  if (ZSTD_isError(n)) return absl::DataLossError("does not decompress");
  return Bytes(out).first(n);
}

// Not zeroed: with small files that would be a fiftieth of an ingest.
std::pair<std::shared_ptr<const void>, MutableBytes> Sealer::NewFrame(size_t size) {
  Scratch& s = *scratch_;
  if (!together_) {
    auto memory = std::make_shared_for_overwrite<uint8_t[]>(size);
    return {memory, {memory.get(), size}};
  }
  if (s.block_size - s.block_used < size) {
    s.block_size = std::max(size, kBlockBytes);
    s.block = std::make_shared_for_overwrite<uint8_t[]>(s.block_size);
    s.block_used = 0;
  }
  uint8_t* const at = s.block.get() + s.block_used;
  s.block_used += size;
  return {s.block, {at, size}};
}

void Sealer::Sent(const std::vector<SharedBytes>& frames) {
  Scratch& s = *scratch_;
  if (frames.empty() || s.block == nullptr || frames[0].view.data() != s.block.get()) return;
  size_t size = 0;
  for (const SharedBytes& frame : frames) size += frame.view.size();
  if (size == s.block_used) s.block_used = s.block_size;
}

StatusOr<SealedChunk> Sealer::Seal(const ChunkIdentity& chunk, Bytes plain) {
  const Bytes compressed = Compress(plain);
  const Codec codec = compressed.empty() ? Codec::kRaw : Codec::kZstd;
  const Bytes payload = compressed.empty() ? plain : compressed;
  // What a reader will get is what is checked, so also the codec's work.
  StatusOr<Bytes> decoded = plain;
  if (codec == Codec::kZstd) decoded = Decompress(compressed, plain.size());
  if (!decoded.ok() || !Matches(chunk, *decoded)) {
    return absl::DataLossError("memory error: a chunk changed between digesting and sealing");
  }
  SealedChunk sealed;
  const auto [owner, memory] = NewFrame(SealedChunkLength(payload.size()));
  SealChunk(chunk.h, chunk.id, codec, payload, memory);
  sealed.frame = {owner, memory};
  sealed.checksum = ChecksumOf(sealed.frame.view);
  return sealed;
}

Status Sealer::Check(const ChunkIdentity& chunk, Bytes stored) {
  ASSIGN_OR_RETURN(const OpenedChunk opened, OpenChunk(chunk.h, chunk.id, stored));
  Bytes plain = opened.payload;
  if (opened.codec == Codec::kZstd) {
    ASSIGN_OR_RETURN(plain, Decompress(opened.payload, chunk.length));
  }
  const std::array<uint8_t, 32> sha256 = kernels::Sha256(plain);
  const std::array<uint8_t, 16> x = kernels::Poly1305(keys_.poly1305_key(), plain);
  if (plain.size() != chunk.length || keys_.ChunkSecret(sha256, plain.size(), x) != chunk.h) {
    return absl::DataLossError("chunk " + chunk.id.hex() + " opens to other content");
  }
  return absl::OkStatus();
}

}  // namespace holdfast
