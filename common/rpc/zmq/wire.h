// Messages on a socket, as docs/formats/protocol.md has them: an envelope, a head, a body.
//
// The envelope says what it is and how the body falls into payload frames. A message has at most
// three frames on the wire however many payloads it carries, since libzmq keeps frames of a message
// that has not ended unseen (DESIGN 11).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/status.h"

namespace holdfast {

inline constexpr uint8_t kProtocolVersion = 1;
// Of one frame on the wire. libzmq drops a connection that announces more, before it allocates.
inline constexpr int64_t kMaxWireFrame = 48 << 20;
inline constexpr size_t kMaxPayloads = 65'536;  // In one message.

struct Envelope {
  enum class Kind : uint8_t {
    kRequest = 1,
    kReply = 2,  // With the service's answer, or with an error.
    kPing = 3,   // Answered by the peer's transport, however busy its service is.
    kPong = 4,
  };
  Kind kind = Kind::kRequest;
  uint16_t method = 0;
  uint64_t id = 0;  // The caller's; a repeated request has the same one.

  // Requests.
  std::string address;          // Which service.
  uint32_t timeout_millis = 0;  // What is left until the caller gives up.
  // Requests and pings: bytes of replies that the caller has taken in so far on `connection`.
  uint64_t consumed_bytes = 0;

  // Replies: absl::StatusCode; when it is not kOk, the head is the error's message.
  absl::StatusCode code = absl::StatusCode::kOk;

  // Pongs say who answers: `start` is drawn when a process starts, `connection` counts those it has
  // met. When either changes, what was sent before may be lost.
  uint64_t start = 0;
  uint64_t connection = 0;

  std::vector<uint32_t> payload_sizes;  // The body is these, one after the other.
};

Buffer EncodeEnvelope(const Envelope& envelope);
// kInvalidArgument when malformed; kFailedPrecondition names an unknown version. `body_size` must
// be what payload_sizes add up to.
StatusOr<Envelope> DecodeEnvelope(Bytes bytes, size_t body_size);

}  // namespace holdfast
