// The serving side: one ROUTER, the callers it has heard of, and what they are owed.
//
// Every message is authorised by the User-Id that the ZAP handler gave its sender, each time, so
// that who is no longer admitted is refused on the connection it has. A caller has only so many
// requests under way, and none begins while it has not taken in what it was sent before; the rest
// waits in order. What waits is bounded for all callers together: above that the answer is
// kUnavailable. Runs on the thread of its lane.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "common/rpc/attachment.h"
#include "common/rpc/zmq/mailbox.h"
#include "common/rpc/zmq/socket.h"

namespace holdfast {

// The services of a process, by address. Thread-safe.
class Attachments {
 public:
  void Add(const std::string& address, Service& service, Loop& loop);
  // The one that was there, if any; whoever takes it detaches it.
  std::shared_ptr<Attachment> Remove(const std::string& address);
  std::shared_ptr<Attachment> Find(const std::string& address);

 private:
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Attachment>> all_;
};

// The roles of `caller` when it may call `method` of the service at `address`. Thread-safe.
using Authorise = std::function<StatusOr<uint32_t>(const CurvePublicKey& caller,
                                                   const std::string& address, uint16_t method)>;

class ZmqRouter {
 public:
  struct Parts {
    Attachments& attachments;
    std::shared_ptr<Mailbox> mailbox;  // Of the lane; replies come back through it.
    Authorise authorise;
    std::function<void(const std::string&)> warn;
    uint64_t start = 0;  // Drawn when the process started.
  };
  ZmqRouter(Parts parts, zmq::socket_t socket);

  void Receive(int64_t now);
  // When to be called again, at the latest.
  int64_t Tick(int64_t now);
  zmq::socket_t& socket() { return socket_; }

 private:
  struct Held {
    WireMessage message;
    ::holdfast::Caller from;
    int64_t deadline = 0;
    uint64_t bytes = 0;
  };
  struct Caller {
    uint64_t connection = 0;
    int64_t last_heard = 0;
    std::deque<Held> waiting;
    absl::flat_hash_map<uint64_t, int64_t> running;  // Request id → when the caller gives up.
    uint64_t replied_bytes = 0, consumed_bytes = 0;
    bool owed() const;
  };
  using Callers = absl::flat_hash_map<std::string, Caller>;  // By routing id.

  void OnRequest(Caller& caller, WireMessage message, const ::holdfast::Caller& from, int64_t now);
  void OnPing(const Caller& caller, const WireMessage& message);
  void StartWaiting(int64_t now);
  void Start(Caller& caller, Held held);
  void Reply(const std::string& routing_id, uint64_t connection, uint64_t id,
             const StatusOr<RpcMessage>& result);
  void Refuse(const WireMessage& message, const Status& status);
  void ForgetOverdue(int64_t now);

  const Parts parts_;
  zmq::socket_t socket_;
  Callers callers_;
  uint64_t connections_ = 0;
  size_t running_ = 0;
  size_t waiting_ = 0;
  uint64_t waiting_bytes_ = 0;
  int64_t next_sweep_ = 0;   // Of running requests …
  int64_t next_forget_ = 0;  // … and of callers.
};

}  // namespace holdfast
