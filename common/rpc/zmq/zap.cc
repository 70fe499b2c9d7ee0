#include "common/rpc/zmq/zap.h"

#include <pthread.h>

#include <vector>

namespace holdfast {
namespace {

// The frames of a request: version, request id, domain, address, identity, mechanism, credentials.
enum { kVersion, kRequestId, kDomain, kAddress, kIdentity, kMechanism, kKey, kRequestFrames };
constexpr char kZapVersion[] = "1.0";
constexpr const char* kCodes[] = {"200", "400", "300"};  // As Admission has them.

bool Receive(zmq::socket_t& socket, std::vector<std::string>& frames) {
  frames.clear();
  for (bool more = true; more;) {
    zmq::message_t frame;
    if (!socket.recv(frame)) return false;
    more = frame.more();
    frames.push_back(frame.to_string());
  }
  return true;
}

}  // namespace

std::string UserIdOf(const CurvePublicKey& key) { return key.hex(); }

CurvePublicKey KeyOfUserId(const std::string& user_id) {
  CurvePublicKey key;
  if (!FromHex(user_id, key.value)) return {};
  return key;
}

ZapHandler::ZapHandler(zmq::context_t& context, Admit admit)
    : admit_(std::move(admit)), socket_(context, zmq::socket_type::rep) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.bind("inproc://zeromq.zap.01");
  thread_ = std::thread([this] { Run(); });
}

ZapHandler::~ZapHandler() { thread_.join(); }

Admission ZapHandler::Decide(const std::vector<std::string>& request) const {
  if (request.size() != kRequestFrames || request[kVersion] != kZapVersion ||
      request[kMechanism] != "CURVE" || request[kKey].size() != CurvePublicKey::kSize) {
    return Admission::kNo;
  }
  return admit_(CurvePublicKey::FromBytes(AsBytes(request[kKey])));
}

void ZapHandler::Run() try {
  pthread_setname_np(pthread_self(), "hf-zap");
  std::vector<std::string> request;
  while (Receive(socket_, request)) {
    const Admission admission = Decide(request);
    const bool admits = admission == Admission::kYes;
    const std::string id = request.size() > kRequestId ? request[kRequestId] : "";
    const std::string user =
        admits ? UserIdOf(CurvePublicKey::FromBytes(AsBytes(request[kKey]))) : "";
    const std::string reply[] = {kZapVersion, id,   kCodes[static_cast<size_t>(admission)],
                                 "",          user, ""};
    for (const std::string& frame : reply) {
      const bool last = &frame == std::end(reply) - 1;
      socket_.send(zmq::buffer(frame), last ? zmq::send_flags::none : zmq::send_flags::sndmore);
    }
  }
} catch (const zmq::error_t&) {
  socket_.close();  // ETERM: the context is shut down.
}

}  // namespace holdfast
