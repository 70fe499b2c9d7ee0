// The caller's side: one DEALER to one service of another process, and the calls that wait on it.
//
// A call is sent when the connection has answered a ping, within a credit of bytes, and kept until
// its reply or its deadline. While calls wait the peer is pinged; when its answer shows a new
// connection or a new process, what was sent before is sent again (every request may come twice).
// When it is silent for longer than a peer may be it is down: all calls fail with kUnavailable, new
// ones at once, until a ping is answered. Not so where there is nobody else to ask: calls to the
// coordinator wait for it until their deadline. If the first thing ever heard of it is that it does
// not admit the key, they fail with kPermissionDenied. Later that ends nothing: such a word has no
// seal, and a catalogue of yesterday knows fewer keys. Nor does it of a node, which may not have
// heard of the key yet: it is tried again soon. Runs on the thread of its lane.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "common/rpc/zmq/socket.h"

namespace holdfast {

struct WireCall {
  RpcMessage request;
  int64_t deadline = 0;  // Monotonic.
  ReplyFn done;
};

class ZmqPeer {
 public:
  // `name` is the service's address there; messages to people show it.
  ZmqPeer(zmq::context_t& context, std::string name, std::string endpoint, const CurveKeyPair& keys,
          const CurvePublicKey& server);
  ~ZmqPeer();

  void Add(WireCall call, int64_t now);
  // Takes in what has arrived.
  void Receive(int64_t now);
  // Sends what can be sent, pings, ends what is overdue. When to be called again, at the latest.
  int64_t Tick(int64_t now);
  void FailAll(const Status& status);
  zmq::socket_t& socket() { return socket_; }

 private:
  struct Pending {
    WireCall call;
    uint64_t bytes = 0;
    bool sent = false;
    std::multimap<int64_t, uint64_t>::iterator by_deadline;
  };
  using Calls = std::map<uint64_t, Pending>;

  void Open();
  void Close();
  void Pump(int64_t now);
  bool Send(uint64_t id, Pending& pending, int64_t now);
  void Ping(int64_t now);
  void OnPong(const Envelope& pong);
  void OnReply(WireMessage message, int64_t now);
  void SendAllAgain();
  void EndOverdue(int64_t now);
  void CheckSilence(int64_t now);
  void CheckRefusal(int64_t now);
  // libzmq gives a connection up for good when its peer refuses the handshake, as it does while
  // the caller's key is not known there yet.
  void OpenAnew();
  // Takes the call out; its `done` is run by whoever gets it.
  WireCall Remove(Calls::iterator it);

  zmq::context_t& context_;
  const std::string name_, endpoint_;
  const CurveKeyPair keys_;
  const CurvePublicKey server_;
  zmq::socket_t socket_;
  zmq::socket_t refusals_;

  Calls calls_;
  std::multimap<int64_t, uint64_t> deadlines_;
  std::deque<uint64_t> unsent_;  // In order; some may be gone from calls_.
  uint64_t next_id_ = 1;
  uint64_t sent_bytes_ = 0;  // Of calls that were sent and have no reply.
  size_t sent_calls_ = 0;
  uint64_t consumed_bytes_ = 0;  // Of replies on this connection …
  uint64_t told_bytes_ = 0;      // … and how much of that the peer has been told.
  // Of the last pong; zero until one came.
  uint64_t start_ = 0, connection_ = 0;
  int64_t last_ping_ = 0;
  int64_t first_ping_ = 0;     // On this socket.
  int64_t waiting_since_ = 0;  // For a sign of life; 0: nobody waits.
  bool down_ = false;          // It was silent for too long, and has not been heard since.
  bool heard_ = false;         // Ever.
  bool refused_ = false;   // This socket will not connect any more; the next call opens another.
  int64_t reopen_at_ = 0;  // The same, and another is opened then.
  const bool only_one_;    // There is no other that could be asked.
};

}  // namespace holdfast
