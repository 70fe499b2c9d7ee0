#include "common/rpc/zmq/wire.h"

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"

namespace holdfast {
namespace {

constexpr std::string_view kMagic = "HFrpc";
constexpr size_t kMaxAddress = 64;
constexpr int kMaxStatusCode = 16;  // Of absl::StatusCode.

Status Malformed(std::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("malformed message: ", std::string(why)));
}

}  // namespace

Buffer EncodeEnvelope(const Envelope& envelope) {
  Buffer out;
  Writer writer(out);
  writer.Raw(AsBytes(kMagic));
  writer.U8(kProtocolVersion);
  writer.U8(static_cast<uint8_t>(envelope.kind));
  writer.U16(envelope.method);
  writer.U64(envelope.id);
  writer.Blob(envelope.address);
  writer.U32(envelope.timeout_millis);
  writer.U64(envelope.consumed_bytes);
  writer.U8(static_cast<uint8_t>(envelope.code));
  writer.U64(envelope.start);
  writer.U64(envelope.connection);
  writer.U32(static_cast<uint32_t>(envelope.payload_sizes.size()));
  for (const uint32_t size : envelope.payload_sizes) writer.U32(size);
  return out;
}

StatusOr<Envelope> DecodeEnvelope(Bytes bytes, size_t body_size) {
  Reader reader(bytes);
  if (AsView(reader.Raw(kMagic.size())) != kMagic) return Malformed("it has no magic");
  const uint8_t version = reader.U8();
  if (version != kProtocolVersion) {
    return absl::FailedPreconditionError(absl::StrCat("the peer speaks protocol version ", version,
                                                      ", this release version ", kProtocolVersion,
                                                      ": run the same release on both"));
  }
  Envelope e;
  const uint8_t kind = reader.U8();
  e.kind = static_cast<Envelope::Kind>(kind);
  e.method = reader.U16();
  e.id = reader.U64();
  e.address = reader.String();
  e.timeout_millis = reader.U32();
  e.consumed_bytes = reader.U64();
  const uint8_t code = reader.U8();
  e.code = static_cast<absl::StatusCode>(code);
  e.start = reader.U64();
  e.connection = reader.U64();
  const uint32_t payloads = reader.U32();
  if (!reader.ok() || kind < 1 || kind > 4 || code > kMaxStatusCode ||
      e.address.size() > kMaxAddress || payloads > kMaxPayloads ||
      reader.rest().size() != payloads * sizeof(uint32_t)) {
    return Malformed("its envelope is");
  }
  uint64_t sum = 0;
  e.payload_sizes.resize(payloads);
  for (uint32_t& size : e.payload_sizes) sum += size = reader.U32();
  if (sum != body_size) return Malformed("its payloads do not fill its body");
  return e;
}

}  // namespace holdfast
