#include "kernels/cpu/stream.h"

#include "kernels/core/md5.h"
#include "kernels/core/poly1305.h"
#include "kernels/core/sha1.h"
#include "kernels/core/sha256.h"

namespace holdfast::kernels {
namespace {

// Runs one of the core's compressions over a row of blocks.
template <bool big_endian, void (*compress)(uint32_t*, const uint32_t*)>
void CompressBlocks(uint32_t* state, const uint8_t* data, size_t blocks) {
  for (; blocks != 0; --blocks, data += 64) {
    uint32_t block[16];
    for (int i = 0; i < 16; ++i) {
      block[i] = big_endian ? core::LoadBe32(data + 4 * i) : core::LoadLe32(data + 4 * i);
    }
    compress(state, block);
  }
}

Poly1305Tag CorePoly1305(const Poly1305Key& key, std::span<const uint8_t> data) {
  Poly1305Tag tag;
  core::poly1305::Mac(key.data(), data.data(), data.size(), tag.data());
  return tag;
}

}  // namespace

const StreamCode& CoreStreamCode() {
  namespace c = core;
  constexpr auto kSha256 = CompressBlocks<c::sha256::kBigEndian, c::sha256::Compress<uint32_t>>;
  constexpr auto kSha1 = CompressBlocks<c::sha1::kBigEndian, c::sha1::Compress<uint32_t>>;
  constexpr auto kMd5 = CompressBlocks<c::md5::kBigEndian, c::md5::Compress<uint32_t>>;
  static constexpr StreamCode kCode = {
      "core", kSha256, kSha1, kMd5, RunAll<kSha256, kSha1, kMd5>, CorePoly1305};
  return kCode;
}

#if !defined(HOLDFAST_HAVE_OPENSSL)
const StreamCode* OpensslStreamCode() { return nullptr; }
#endif

const StreamCode& BestStreamCode() {
  const StreamCode* openssl = OpensslStreamCode();
  return openssl != nullptr ? *openssl : CoreStreamCode();
}

}  // namespace holdfast::kernels
