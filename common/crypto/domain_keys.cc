#include "common/crypto/domain_keys.h"

#include <xxhash.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h>  // AVX2 and AVX-512, where the library's own build has SSE2.
#endif

#include <algorithm>
#include <bit>
#include <cassert>
#include <string>

#include "common/base/coding.h"
#include "common/crypto/aead_stream.h"

namespace holdfast {
namespace {

// K_dedup keys one HMAC for several uses. The message of a chunk secret is always this long; no
// label below reaches that length, so that no message serves two uses.
constexpr size_t kChunkSecretMessage = 32 + 8 + 16;
constexpr std::string_view kPoly1305Label = "holdfast/1 poly1305 key";
constexpr std::string_view kCutLabel = "holdfast/1 cut seed";
constexpr std::string_view kTagLabel = "object tag";
static_assert(kPoly1305Label.size() < kChunkSecretMessage);
static_assert(kCutLabel.size() < kChunkSecretMessage);
static_assert(kTagLabel.size() + 1 + 32 < kChunkSecretMessage);

// Codec and length, in front of the payload inside the encrypted part.
constexpr size_t kInnerHeader = 1 + 8;
constexpr size_t kSealOverhead = kAeadNonceSize + kAeadTagSize;

uint64_t Padded(uint64_t inner_length) {
  const int log = std::bit_width(inner_length) - 1;
  const uint64_t unit = std::max<uint64_t>(64, log > 7 ? uint64_t{1} << (log - 7) : 0);
  return (inner_length + unit - 1) / unit * unit;
}

std::array<uint8_t, 1 + RecordId::kSize> ChunkAad(const RecordId& id) {
  std::array<uint8_t, 1 + RecordId::kSize> aad;
  aad[0] = kSuite1;
  std::copy(id.value.begin(), id.value.end(), aad.begin() + 1);
  return aad;
}

AeadNonce ChunkNonce(const Hash256& h, Codec codec, Bytes payload) {
  const uint8_t numbers[2] = {kSuite1, static_cast<uint8_t>(codec)};
  Hash256 mac;
  if (codec == Codec::kRaw) {
    mac = HmacSha256(h, {AsBytes("nonce"), numbers});
  } else {
    const Hash256 compressed = Sha256(payload);
    mac = HmacSha256(h, {AsBytes("nonce"), numbers, compressed});
  }
  AeadNonce nonce;
  std::copy_n(mac.begin(), nonce.size(), nonce.begin());
  return nonce;
}

AeadKey ChunkKey(const Hash256& h) { return HmacSha256(h, {AsBytes("holdfast/1 chunk key")}); }

void PutLe64(uint64_t v, uint8_t* out) {
  for (int i = 0; i < 8; ++i) out[i] = static_cast<uint8_t>(v >> (8 * i));
}

// What the first bytes inside a sealed chunk of `inner` bytes say.
struct InnerHeader {
  uint8_t codec = 0;
  uint64_t length = 0;  // Of the payload.

  explicit InnerHeader(Bytes bytes) {
    Reader reader(bytes);
    codec = reader.U8();
    length = reader.U64();
  }
  // Whether such a payload is padded to so many bytes.
  bool fits(size_t inner) const {
    return length <= inner - kInnerHeader && Padded(kInnerHeader + length) == inner;
  }
};

Status CheckInner(const RecordId& id, const InnerHeader& header, size_t inner, Bytes padding) {
  if (!header.fits(inner)) {
    return absl::DataLossError("chunk " + id.hex() + " opens to a malformed length");
  }
  if (header.codec > static_cast<uint8_t>(Codec::kZstd)) {
    return absl::FailedPreconditionError("chunk codec " + std::to_string(header.codec) +
                                         " is not known to this release (knows 0 and 1)");
  }
  if (std::any_of(padding.begin(), padding.end(), [](uint8_t b) { return b != 0; })) {
    return absl::DataLossError("chunk " + id.hex() + " opens to padding that is not zero");
  }
  return absl::OkStatus();
}

}  // namespace

DomainKeys::DomainKeys(const std::array<uint8_t, 32>& k_dedup)
    : hmac_(k_dedup),
      poly1305_key_(hmac_({AsBytes(kPoly1305Label)})),
      cut_seed_(hmac_({AsBytes(kCutLabel)})) {}

Hash256 DomainKeys::ChunkSecret(Bytes sha256, uint64_t length, Bytes poly1305) const {
  assert(sha256.size() == 32 && poly1305.size() == 16);
  uint8_t le64[8];
  PutLe64(length, le64);
  return hmac_({sha256, le64, poly1305});
}

ObjectTag DomainKeys::Tag(DigestAlgorithm algorithm, Bytes digest) const {
  const uint8_t number[1] = {static_cast<uint8_t>(algorithm)};
  return ObjectTag{hmac_({AsBytes(kTagLabel), number, digest})};
}

RecordId ChunkIdOf(const Hash256& h) {
  return RecordId{HmacSha256(h, {AsBytes("holdfast/1 chunk id")})};
}

uint64_t SealedChunkLength(uint64_t payload_length) {
  return Padded(kInnerHeader + payload_length) + kSealOverhead;
}

// The payload goes from where it lies straight into the output, encrypted; header and padding are
// pieces of the same stream.
void SealChunk(const Hash256& h, const RecordId& id, Codec codec, Bytes payload, MutableBytes out) {
  assert(out.size() == SealedChunkLength(payload.size()));
  const AeadNonce nonce = ChunkNonce(h, codec, payload);
  std::array<uint8_t, kInnerHeader> header;
  header[0] = static_cast<uint8_t>(codec);
  PutLe64(payload.size(), header.data() + 1);

  std::copy(nonce.begin(), nonce.end(), out.begin());
  MutableBytes rest = out.subspan(kAeadNonceSize);
  AeadEncryptor encryptor(ChunkKey(h), nonce, ChunkAad(id));
  encryptor.Update(header, rest.data());
  rest = rest.subspan(header.size());
  encryptor.Update(payload, rest.data());
  rest = rest.subspan(payload.size());
  const MutableBytes padding = rest.first(rest.size() - kAeadTagSize);
  std::fill(padding.begin(), padding.end(), 0);
  encryptor.Update(padding, padding.data());
  encryptor.Tag(rest.last<kAeadTagSize>());
}

// What lies in the header is believed only once the tag was found right: until then it merely says
// where bytes go.
StatusOr<OpenedChunk> OpenChunk(const Hash256& h, const RecordId& id, Bytes stored,
                                MutableBytes out) {
  if (stored.size() < SealedChunkLength(0)) {
    return absl::DataLossError("chunk " + id.hex() +
                               " is cut short: " + std::to_string(stored.size()) + " bytes");
  }
  AeadNonce nonce;
  std::copy_n(stored.begin(), nonce.size(), nonce.begin());
  const Bytes inner = stored.subspan(kAeadNonceSize, stored.size() - kSealOverhead);
  AeadDecryptor decryptor(ChunkKey(h), nonce, ChunkAad(id));
  std::array<uint8_t, kInnerHeader> header_bytes;
  decryptor.Update(inner.first(kInnerHeader), header_bytes.data());
  const InnerHeader header(header_bytes);
  const bool straight = !out.empty() && header.codec == static_cast<uint8_t>(Codec::kRaw) &&
                        header.length == out.size() && header.fits(inner.size());
  Bytes rest = inner.subspan(kInnerHeader);
  OpenedChunk opened{static_cast<Codec>(header.codec), {}, {}};
  if (straight) {
    decryptor.Update(rest.first(out.size()), out.data());
    rest = rest.subspan(out.size());
  }
  opened.storage = Buffer(rest.size());
  decryptor.Update(rest, opened.storage.data());
  if (!decryptor.Verify(stored.last<kAeadTagSize>())) {
    return absl::DataLossError("chunk " + id.hex() + " does not open: its bytes are damaged");
  }
  const size_t in_storage = straight ? 0 : std::min<uint64_t>(header.length, rest.size());
  RETURN_IF_ERROR(CheckInner(id, header, inner.size(), Bytes(opened.storage).subspan(in_storage)));
  opened.payload = straight ? Bytes(out) : Bytes(opened.storage).first(in_storage);
  return opened;
}

Checksum ChecksumOf(Bytes stored) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(stored.data(), stored.size()));
  return Checksum::FromBytes(canonical.digest);
}

}  // namespace holdfast
