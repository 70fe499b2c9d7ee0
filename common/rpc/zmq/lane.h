// A thread that owns sockets: at most one ROUTER, and a DEALER to each service that is called. A
// process has one lane for control and one for bulk data, each on a port of its own, so that a
// question about status does not wait behind eight megabytes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <thread>

#include "common/rpc/zmq/peer.h"
#include "common/rpc/zmq/router.h"

namespace holdfast {

class ZmqLane {
 public:
  ZmqLane(zmq::context_t& context, const CurveKeyPair& keys, std::string name);
  // Fails every call that waits, and joins.
  ~ZmqLane();

  const std::shared_ptr<Mailbox>& mailbox() const { return mailbox_; }
  // Before any other method; `router` is used on the lane's thread from then on.
  void Serve(std::unique_ptr<ZmqRouter> router);
  // Thread-safe. From now on calls to `address` go there; to nowhere when the endpoint is empty.
  void Route(const std::string& address, const std::string& endpoint, const CurvePublicKey& server);
  void Call(const std::string& address, WireCall call);

 private:
  void Run();
  void Poll(int64_t until);

  zmq::context_t& context_;
  const CurveKeyPair keys_;
  const std::string name_;
  std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  // Touched by the thread only.
  std::unique_ptr<ZmqRouter> router_;
  std::map<std::string, std::unique_ptr<ZmqPeer>> peers_;
  bool stopping_ = false;
  std::thread thread_;  // Last: it uses everything above.
};

}  // namespace holdfast
