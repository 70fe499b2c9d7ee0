// Sockets as every part of the transport wants them, and whole messages on them.
#pragma once

#include <string>
#include <vector>
#include <zmq.hpp>

#include "common/rpc/transport.h"
#include "common/rpc/zmq/curve.h"
#include "common/rpc/zmq/wire.h"

namespace holdfast {

// Limits and times that hold for every socket (DESIGN 11).
zmq::socket_t NewSocket(zmq::context_t& context, zmq::socket_type type);
void BecomeCurveServer(zmq::socket_t& socket, const CurveKeyPair& keys);
void BecomeCurveClient(zmq::socket_t& socket, const CurveKeyPair& keys,
                       const CurvePublicKey& server);
// Where a message arrives when the server that `client` connects to says that it does not admit its
// key. Made before it connects.
zmq::socket_t RefusalsOf(zmq::context_t& context, zmq::socket_t& client);
// Before either is closed: a thread of libzmq that finds nobody to tell waits for ever.
void EndRefusals(zmq::socket_t& client);

struct WireMessage {
  std::string routing_id;  // Of a ROUTER's peer; empty elsewhere.
  Envelope envelope;
  std::string head;
  std::vector<SharedBytes> frames;
};

// Whole or not at all. False when the peer cannot take it now, or is gone. Frames are shared, not
// copied, when there is one, or they lie one behind the other.
bool SendMessage(zmq::socket_t& socket, const std::string& routing_id, Envelope envelope,
                 std::string_view head, const std::vector<SharedBytes>& frames);

// kNotFound: nothing has arrived. kInvalidArgument, kFailedPrecondition: something that is no
// message; `out.routing_id` says from whom, and it is gone from the socket. Payload frames share
// the memory they arrived in. `user` is the peer's User-Id as the ZAP handler gave it.
Status ReceiveMessage(zmq::socket_t& socket, WireMessage& out, std::string* user = nullptr);

}  // namespace holdfast
