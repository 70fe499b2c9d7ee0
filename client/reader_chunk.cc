#include "client/reader_chunk.h"

#include <zstd.h>

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/rpc/methods.h"

namespace holdfast {
namespace {

constexpr int64_t kQuarantineTimeoutNanos = 10'000'000'000;

Status WrongBytes(const RecordId& id, const char* what) {
  return absl::DataLossError(absl::StrCat(ChunkName(id), " ", what));
}

bool Decompress(Bytes compressed, MutableBytes out) {
  struct Free {
    void operator()(ZSTD_DCtx* ctx) const { ZSTD_freeDCtx(ctx); }
  };
  thread_local const std::unique_ptr<ZSTD_DCtx, Free> ctx(ZSTD_createDCtx());
  const size_t n =
      ZSTD_decompressDCtx(ctx.get(), out.data(), out.size(), compressed.data(), compressed.size());
  return !ZSTD_isError(n) && n == out.size();
}

}  // namespace

std::string ChunkName(const RecordId& id) { return absl::StrCat("chunk ", id.hex().substr(0, 16)); }

uint32_t RecordedDigests(const SealedManifest& sealed) {
  uint32_t digests = kernels::kSha256;
  if (sealed.sha1) digests |= kernels::kSha1;
  if (sealed.md5) digests |= kernels::kMd5;
  return digests;
}

Status OpenChunkInto(const ChunkRef& ref, const SealedChunkInfo& info, Bytes stored,
                     MutableBytes out) {
  ASSIGN_OR_RETURN(const OpenedChunk opened, OpenChunk(info.h, ref.id, stored, out));
  if (opened.codec == Codec::kZstd) {
    if (!Decompress(opened.payload, out)) return WrongBytes(ref.id, "does not decompress");
    return absl::OkStatus();
  }
  if (opened.payload.size() != out.size()) return WrongBytes(ref.id, "has another length");
  if (opened.payload.data() != out.data()) std::ranges::copy(opened.payload, out.begin());
  return absl::OkStatus();
}

bool HasIdentity(const DomainKeys& keys, const ChunkRef& ref, const SealedChunkInfo& info,
                 Bytes sha256, Bytes poly1305) {
  return keys.ChunkSecret(sha256, info.length, poly1305) == info.h && ChunkIdOf(info.h) == ref.id;
}

bool HasIdentity(const DomainKeys& keys, const ChunkRef& ref, const SealedChunkInfo& info,
                 Bytes plaintext) {
  return plaintext.size() == info.length &&
         HasIdentity(keys, ref, info, kernels::Sha256(plaintext),
                     kernels::Poly1305(keys.poly1305_key(), plaintext));
}

Status OpenAndCheck(const DomainKeys& keys, const ChunkRef& ref, const SealedChunkInfo& info,
                    Bytes stored, MutableBytes out) {
  RETURN_IF_ERROR(OpenChunkInto(ref, info, stored, out));
  if (!HasIdentity(keys, ref, info, out)) {
    return WrongBytes(ref.id, "opens, but to other content than its name says");
  }
  return absl::OkStatus();
}

bool QuarantineRecord(Transport& transport, const GetAnswer& answer) {
  proto::NodeQuarantineRequest request;
  request.set_id(ToString(answer.id.bytes()));
  request.set_checksum(ToString(answer.checksum.bytes()));
  request.set_place(answer.place);
  const StatusOr<RpcMessage> reply =
      CallAndWait(transport, NodeAddress(answer.node), MakeMessage(rpc::kNodeQuarantine, request),
                  kQuarantineTimeoutNanos);
  if (!reply.ok()) return false;
  const auto head = ParseHead<proto::NodeQuarantineReply>(*reply);
  return head.ok() && head->another();
}

}  // namespace holdfast
