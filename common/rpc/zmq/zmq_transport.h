// The Transport between processes: ZeroMQ over TCP or a Unix socket, CURVE on every socket
// (CurveZMQ, ZeroMQ RFC 26), peers admitted by a ZAP handler. docs/formats/protocol.md.
//
// Delivery is at least once: a request is sent again when its connection was lost before the reply
// came. A peer that is silent for five seconds is down, and calls to it fail with kUnavailable.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/rpc/transport.h"
#include "common/rpc/zmq/curve.h"

namespace holdfast {

struct ZmqOptions {
  CurveKeyPair keys;  // Who this process is.
  // Serves there when not empty: "tcp://10.0.0.2:7410", the control plane, with bulk data on the
  // next port, or "ipc:///run/vault.sock" with ".data" beside it. Port 0 takes two that are free.
  std::string listen;
  // Who may connect, and who may call what, by which roles. Called on threads of the transport, any
  // time.
  std::function<Admission(const CurvePublicKey&)> admit = [](const CurvePublicKey&) {
    return Admission::kNo;
  };
  std::function<StatusOr<uint32_t>(const CurvePublicKey& caller, const std::string& address,
                                   uint16_t method)>
      authorise = [](const CurvePublicKey&, const std::string&, uint16_t) {
        return absl::PermissionDeniedError("not authorised");
      };
  // One line for whoever runs the process, about a peer that misbehaves.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
};

class ZmqTransport : public Transport {
 public:
  // kInvalidArgument: the address to listen on is malformed, or the keys are no pair.
  // kUnavailable: it cannot be bound, with the reason.
  static StatusOr<std::unique_ptr<ZmqTransport>> Open(const ZmqOptions& options);
  ~ZmqTransport() override;

  // Where it listens, with the port it got; empty when it serves nobody.
  const std::string& endpoint() const;
  void Attach(const std::string& address, Service& service, Loop& loop) override;
  void Detach(const std::string& address) override;
  void Call(const std::string& address, RpcMessage request, int64_t timeout_nanos,
            ReplyFn done) override;
  // `endpoint` is as in ZmqOptions::listen; an empty one forgets the address.
  void Route(const std::string& address, const std::string& endpoint,
             const CurvePublicKey& server) override;
  std::unique_ptr<Monitor> NewMonitor() override;

 private:
  class Impl;
  explicit ZmqTransport(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The bulk data endpoint beside a control endpoint. kInvalidArgument when `control` is no endpoint.
StatusOr<std::string> DataEndpoint(const std::string& control);

}  // namespace holdfast
