// ZAP (ZeroMQ RFC 27): who may connect at all. libzmq asks this handler for every handshake, before
// a peer's first message is seen; whoever it lets in gets its public key as its User-Id.
#pragma once

#include <functional>
#include <thread>
#include <zmq.hpp>

#include "common/rpc/zmq/curve.h"

namespace holdfast {

class ZapHandler {
 public:
  using Admit = std::function<Admission(const CurvePublicKey&)>;
  // Ready when it returns; before any server socket of `context` is bound. `admit` is called on a
  // thread of its own.
  ZapHandler(zmq::context_t& context, Admit admit);
  // After the context was shut down, which is what ends it.
  ~ZapHandler();

 private:
  void Run();
  Admission Decide(const std::vector<std::string>& request) const;

  const Admit admit_;
  zmq::socket_t socket_;
  std::thread thread_;
};

// User-Id and key are one: the key in hexadecimal.
std::string UserIdOf(const CurvePublicKey& key);
// The zero key when it is none.
CurvePublicKey KeyOfUserId(const std::string& user_id);

}  // namespace holdfast
