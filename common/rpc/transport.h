// The Transport seam: requests to services and their replies. A message is a method number, a
// serialised Protobuf head (common/proto/holdfast.proto) and payload frames of its own, so that
// chunk bytes are never inside Protobuf.
//
// Delivery is at least once: a request may arrive twice, late, or not at all, so every method of
// every service is idempotent. A Call's callback runs exactly once: with the reply, with the
// service's error, or with kUnavailable when no reply came before the deadline.
// The in-process transport (production for the embedded vault) delivers exactly once and in order
// per caller; the simulated one delays, duplicates and drops by seed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/loop.h"
#include "common/base/status.h"

namespace holdfast {

// Who sent a request. Within one process nobody is asked, and everything is allowed.
struct Caller {
  CurvePublicKey key;             // Proved to the transport; zero within one process.
  uint32_t roles = ~uint32_t{0};  // Role (common/cluster/access.h), or-ed.
};

struct RpcMessage {
  uint16_t method = 0;  // One of rpc::Method (common/rpc/methods.h).
  std::string head;     // A serialised Protobuf message.
  std::vector<SharedBytes> frames;
  Caller caller;  // Of a request, as the transport that serves it knows.
};

using ReplyFn = std::function<void(StatusOr<RpcMessage>)>;

class Service {
 public:
  virtual ~Service() = default;
  // Runs on the service's Loop. `reply` is called exactly once, now or later, from that Loop.
  virtual void Handle(RpcMessage request, ReplyFn reply) = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  // Attaches `service`, which runs on `loop`, under `address` ("coordinator", "node/3"). Both
  // outlive the transport or are detached first. Detach returns when no call runs in the service.
  virtual void Attach(const std::string& address, Service& service, Loop& loop) = 0;
  virtual void Detach(const std::string& address) = 0;
  // Thread-safe. `done` runs on a thread of the transport or the service; it must be short.
  virtual void Call(const std::string& address, RpcMessage request, int64_t timeout_nanos,
                    ReplyFn done) = 0;
  // Where the service at `address` is, for a transport between processes; others know already.
  // Calls go there from now on, and it must prove that it holds the secret key of `server`.
  virtual void Route(const std::string& address, const std::string& endpoint,
                     const CurvePublicKey& server) {
    (void)address, (void)endpoint, (void)server;
  }
  // For waiting on replies (see loop.h).
  virtual std::unique_ptr<Monitor> NewMonitor() = 0;
};

std::unique_ptr<Transport> NewInProcessTransport();

struct SimNetworkOptions {
  double drop = 0, duplicate = 0;       // Probabilities per message.
  int64_t max_delay_nanos = 1'000'000;  // Uniform in [0, max].
};
std::unique_ptr<Transport> NewSimTransport(SimLoop& loop, Rng& rng, SimNetworkOptions options);

// How long a request may take; but for one that changes the cluster, which itself waits for nodes,
// and for the checks that read a whole log or catalogue.
constexpr int64_t kRequestNanos = 30 * kSecond;
constexpr int64_t kChangeNanos = 90 * kSecond;
constexpr int64_t kCheckNanos = 600 * kSecond;

// Call, and wait for the reply.
StatusOr<RpcMessage> CallAndWait(Transport& transport, const std::string& address,
                                 RpcMessage request, int64_t timeout_nanos = kRequestNanos);

// Head helpers: serialise `head` (a Protobuf message) into a message; parse one (kInvalidArgument
// when it does not parse).
template <class Proto>
RpcMessage MakeMessage(uint16_t method, const Proto& head) {
  RpcMessage m;
  m.method = method;
  head.SerializeToString(&m.head);
  return m;
}
template <class Proto>
StatusOr<Proto> ParseHead(const RpcMessage& m) {
  Proto p;
  if (!p.ParseFromString(m.head)) return absl::InvalidArgumentError("malformed message head");
  return p;
}

}  // namespace holdfast
