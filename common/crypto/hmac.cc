#include "common/crypto/hmac.h"

#include <cstring>

#include "common/crypto/evp.h"

namespace holdfast {
namespace {

constexpr size_t kBlock = 64;  // Of SHA-256.

MdCtx NewMdCtx() {
  MdCtx ctx(EVP_MD_CTX_new());
  EvpMust(ctx != nullptr, "EVP_MD_CTX_new");
  return ctx;
}

// A context of this thread's own. The callers below finish with it before they return.
EVP_MD_CTX* ScratchMdCtx() {
  thread_local MdCtx ctx = NewMdCtx();
  return ctx.get();
}

void Start(EVP_MD_CTX* ctx) {
  EvpMust(EVP_DigestInit_ex2(ctx, EvpSha256(), nullptr) == 1, "EVP_DigestInit_ex2");
}

void Update(EVP_MD_CTX* ctx, Bytes data) {
  EvpMust(EVP_DigestUpdate(ctx, data.data(), data.size()) == 1, "EVP_DigestUpdate");
}

void Update(EVP_MD_CTX* ctx, std::initializer_list<Bytes> parts) {
  for (Bytes part : parts) Update(ctx, part);
}

Hash256 Finish(EVP_MD_CTX* ctx) {
  Hash256 hash;
  EvpMust(EVP_DigestFinal_ex(ctx, hash.data(), nullptr) == 1, "EVP_DigestFinal_ex");
  return hash;
}

void CopyState(EVP_MD_CTX* to, const EVP_MD_CTX* from) {
  EvpMust(EVP_MD_CTX_copy_ex(to, from) == 1, "EVP_MD_CTX_copy_ex");
}

// The two padded keys of FIPS 198-1.
struct Pads {
  std::array<uint8_t, kBlock> inner{}, outer{};

  explicit Pads(Bytes key) {
    Hash256 hashed;
    if (key.size() > kBlock) {
      hashed = Sha256(key);
      key = hashed;
    }
    for (size_t i = 0; i < kBlock; ++i) {
      const uint8_t k = i < key.size() ? key[i] : 0;
      inner[i] = k ^ 0x36;
      outer[i] = k ^ 0x5c;
    }
  }
  ~Pads() {
    OPENSSL_cleanse(inner.data(), kBlock);
    OPENSSL_cleanse(outer.data(), kBlock);
  }
};

}  // namespace

Hash256 Sha256(std::initializer_list<Bytes> parts) {
  EVP_MD_CTX* ctx = ScratchMdCtx();
  Start(ctx);
  Update(ctx, parts);
  return Finish(ctx);
}

struct Hmac::State {
  MdCtx inner = NewMdCtx();
  MdCtx outer = NewMdCtx();
};

Hmac::Hmac(Bytes key) : state_(std::make_unique<State>()) {
  const Pads pads(key);
  Start(state_->inner.get());
  Update(state_->inner.get(), Bytes(pads.inner));
  Start(state_->outer.get());
  Update(state_->outer.get(), Bytes(pads.outer));
}

Hmac::~Hmac() = default;
Hmac::Hmac(Hmac&&) noexcept = default;
Hmac& Hmac::operator=(Hmac&&) noexcept = default;

Hash256 Hmac::operator()(std::initializer_list<Bytes> parts) const {
  EVP_MD_CTX* ctx = ScratchMdCtx();
  CopyState(ctx, state_->inner.get());
  Update(ctx, parts);
  const Hash256 inner = Finish(ctx);
  CopyState(ctx, state_->outer.get());
  Update(ctx, Bytes(inner));
  return Finish(ctx);
}

Hash256 HmacSha256(Bytes key, std::initializer_list<Bytes> parts) {
  const Pads pads(key);
  EVP_MD_CTX* ctx = ScratchMdCtx();
  Start(ctx);
  Update(ctx, Bytes(pads.inner));
  Update(ctx, parts);
  const Hash256 inner = Finish(ctx);
  Start(ctx);
  Update(ctx, Bytes(pads.outer));
  Update(ctx, Bytes(inner));
  return Finish(ctx);
}

bool ConstantTimeEqual(Bytes a, Bytes b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace holdfast
