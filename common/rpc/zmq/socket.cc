#include "common/rpc/zmq/socket.h"

#include <atomic>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

// Debian's zmq.h gives it only with the draft API, and the library has it: without it a server
// whose ZAP handler is gone lets anybody in.
constexpr int kZapEnforceDomain = 93;

constexpr int kHandshakeMillis = 5000;
constexpr int kReconnectMillis = 100;
constexpr int kMaxReconnectMillis = 1000;
constexpr int kBacklog = 1024;
constexpr size_t kMaxFrames = 4;  // Routing id, envelope, head, body.

void ReleaseOwner(void*, void* owner) { delete static_cast<std::shared_ptr<const void>*>(owner); }

// Whether they lie one behind the other in memory of one owner.
bool AreOne(const std::vector<SharedBytes>& frames) {
  for (size_t i = 1; i < frames.size(); ++i) {
    const Bytes before = frames[i - 1].view;
    if (frames[i].owner != frames[0].owner ||
        frames[i].view.data() != before.data() + before.size())
      return false;
  }
  return !frames.empty();
}

zmq::message_t BodyOf(const std::vector<SharedBytes>& frames) {
  size_t size = 0;
  for (const SharedBytes& frame : frames) size += frame.view.size();
  if (size > 0 && AreOne(frames)) {
    auto* owner = new std::shared_ptr<const void>(frames[0].owner);
    return {const_cast<uint8_t*>(frames[0].view.data()), size, ReleaseOwner, owner};
  }
  zmq::message_t body(size);
  auto* at = static_cast<uint8_t*>(body.data());
  for (const SharedBytes& frame : frames) {
    if (!frame.view.empty()) std::memcpy(at, frame.view.data(), frame.view.size());
    at += frame.view.size();
  }
  return body;
}

Bytes ViewOf(const zmq::message_t& m) { return {m.data<uint8_t>(), m.size()}; }

std::string UserOf(zmq::message_t& m) {
  const char* user = zmq_msg_gets(m.handle(), "User-Id");
  return user == nullptr ? "" : user;
}

// All frames of the next message; those beyond kMaxFrames are counted, not kept.
bool ReceiveFrames(zmq::socket_t& socket, std::vector<zmq::message_t>& frames, size_t& count) {
  count = 0;
  for (bool more = true; more; ++count) {
    zmq::message_t frame;
    if (!socket.recv(frame, zmq::recv_flags::dontwait)) return false;
    more = frame.more();
    if (count < kMaxFrames) frames.push_back(std::move(frame));
  }
  return true;
}

}  // namespace

zmq::socket_t NewSocket(zmq::context_t& context, zmq::socket_type type) {
  zmq::socket_t socket(context, type);
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::immediate, true);
  socket.set(zmq::sockopt::maxmsgsize, kMaxWireFrame);
  socket.set(zmq::sockopt::handshake_ivl, kHandshakeMillis);
  socket.set(zmq::sockopt::reconnect_ivl, kReconnectMillis);
  socket.set(zmq::sockopt::reconnect_ivl_max, kMaxReconnectMillis);
  socket.set(zmq::sockopt::backlog, kBacklog);
  socket.set(zmq::sockopt::ipv6, true);
  // What is on its way is bounded by credits (peer.h, router.h); a full queue would drop messages.
  socket.set(zmq::sockopt::sndhwm, 0);
  return socket;
}

void BecomeCurveServer(zmq::socket_t& socket, const CurveKeyPair& keys) {
  const int on = 1;
  socket.set(zmq::sockopt::curve_server, true);
  socket.set(zmq::sockopt::curve_secretkey, AsView(keys.secret_key));
  socket.set(zmq::sockopt::zap_domain, "holdfast");
  if (zmq_setsockopt(socket.handle(), kZapEnforceDomain, &on, sizeof on) != 0) throw zmq::error_t();
}

void BecomeCurveClient(zmq::socket_t& socket, const CurveKeyPair& keys,
                       const CurvePublicKey& server) {
  socket.set(zmq::sockopt::curve_publickey, AsView(keys.public_key.bytes()));
  socket.set(zmq::sockopt::curve_secretkey, AsView(keys.secret_key));
  socket.set(zmq::sockopt::curve_serverkey, AsView(server.bytes()));
}

zmq::socket_t RefusalsOf(zmq::context_t& context, zmq::socket_t& client) {
  static std::atomic<uint64_t> made = 0;
  const std::string at = absl::StrCat("inproc://refusals-", ++made);
  if (zmq_socket_monitor(client.handle(), at.c_str(), ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) != 0) {
    throw zmq::error_t();
  }
  zmq::socket_t refusals(context, zmq::socket_type::pair);
  refusals.set(zmq::sockopt::linger, 0);
  refusals.connect(at);
  return refusals;
}

void EndRefusals(zmq::socket_t& client) { (void)zmq_socket_monitor(client.handle(), nullptr, 0); }

bool SendMessage(zmq::socket_t& socket, const std::string& routing_id, Envelope envelope,
                 std::string_view head, const std::vector<SharedBytes>& frames) try {
  using zmq::send_flags;
  envelope.payload_sizes.clear();
  for (const SharedBytes& frame : frames) {
    envelope.payload_sizes.push_back(static_cast<uint32_t>(frame.view.size()));
  }
  const Buffer encoded = EncodeEnvelope(envelope);
  const auto more = send_flags::dontwait | send_flags::sndmore;
  const auto last = send_flags::dontwait;
  // A socket that took the first frame takes the rest: its queues have no limit.
  if (!routing_id.empty() && !socket.send(zmq::buffer(routing_id), more)) return false;
  if (!socket.send(zmq::buffer(encoded.data(), encoded.size()), more)) return false;
  if (!socket.send(zmq::buffer(head), frames.empty() ? last : more)) return false;
  return frames.empty() || socket.send(BodyOf(frames), last).has_value();
} catch (const zmq::error_t&) {
  return false;  // EHOSTUNREACH: the peer of a ROUTER is gone.
}

Status ReceiveMessage(zmq::socket_t& socket, WireMessage& out, std::string* user) {
  std::vector<zmq::message_t> frames;
  size_t count = 0;
  out = {};
  if (!ReceiveFrames(socket, frames, count)) return absl::NotFoundError("nothing has arrived");
  size_t at = 0;
  if (socket.get(zmq::sockopt::type) == static_cast<int>(zmq::socket_type::router)) {
    out.routing_id = frames[at++].to_string();
  }
  if (count > kMaxFrames || frames.size() < at + 1 || frames.size() > at + 3) {
    return absl::InvalidArgumentError("malformed message: it has an impossible number of frames");
  }
  if (user != nullptr) *user = UserOf(frames[at]);
  zmq::message_t body;
  if (frames.size() == at + 3) body = std::move(frames[at + 2]);
  ASSIGN_OR_RETURN(out.envelope, DecodeEnvelope(ViewOf(frames[at]), body.size()));
  if (frames.size() > at + 1) out.head = frames[at + 1].to_string();
  auto owner = std::make_shared<const zmq::message_t>(std::move(body));
  size_t begin = 0;
  for (const uint32_t size : out.envelope.payload_sizes) {
    out.frames.push_back({owner, ViewOf(*owner).subspan(begin, size)});
    begin += size;
  }
  return absl::OkStatus();
}

}  // namespace holdfast
