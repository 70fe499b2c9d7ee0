#include "common/rpc/zmq/zmq_transport.h"

#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/deadline.h"
#include "common/base/text.h"
#include "common/io/open_files.h"
#include "common/rpc/methods.h"
#include "common/rpc/zmq/lane.h"
#include "common/rpc/zmq/zap.h"

namespace holdfast {
namespace {

constexpr std::string_view kTcp = "tcp://", kIpc = "ipc://";
constexpr int kMaxSockets = 65'536;
constexpr size_t kFilesOfATransport = 64;  // With its threads, and a few peers.
constexpr int kPortAttempts = 32;
constexpr uint32_t kMaxPort = 65'535;

Status NoEndpoint(const std::string& text) {
  return absl::InvalidArgumentError(Printable(text) +
                                    " is no endpoint: give tcp://HOST:PORT or ipc://PATH");
}

// A TCP endpoint taken apart: "tcp://host:" and the port.
struct TcpEndpoint {
  std::string host;
  uint32_t port = 0;
  std::string text(uint32_t p) const { return absl::StrCat(host, p); }
};

StatusOr<TcpEndpoint> ParseTcp(const std::string& text) {
  const size_t colon = text.rfind(':');
  TcpEndpoint e;
  if (colon <= kTcp.size()) return NoEndpoint(text);
  e.host = text.substr(0, colon + 1);
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data() + colon + 1, end, e.port);
  // The next port must be one too.
  if (at != end || error != std::errc() || e.port >= kMaxPort) return NoEndpoint(text);
  return e;
}

// Two sockets side by side, bound.
struct Listeners {
  zmq::socket_t control, data;
  std::string endpoint;
};

Status CannotListen(const std::string& where, const zmq::error_t& error) {
  return absl::UnavailableError(absl::StrCat("cannot listen on ", where, ": ", error.what()));
}

}  // namespace

StatusOr<std::string> DataEndpoint(const std::string& control) {
  if (control.starts_with(kIpc) && control.size() > kIpc.size()) {
    const std::string data = control + ".data";
    if (data.size() - kIpc.size() >= sizeof(sockaddr_un::sun_path)) {
      return absl::InvalidArgumentError(Printable(control) + " is too long for a Unix socket");
    }
    return data;
  }
  if (!control.starts_with(kTcp)) return NoEndpoint(control);
  ASSIGN_OR_RETURN(const TcpEndpoint tcp, ParseTcp(control));
  return tcp.text(tcp.port + 1);
}

class ZmqTransport::Impl {
 public:
  explicit Impl(const ZmqOptions& options) : options_(options) {
    context_.set(zmq::ctxopt::max_sockets, kMaxSockets);
    // CURVE is computed on these threads, a connection on one of them.
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    context_.set(zmq::ctxopt::io_threads, std::clamp(cores / 2, 1, 4));
    control_.emplace(context_, options.keys, "hf-control");
    data_.emplace(context_, options.keys, "hf-data");
  }

  ~Impl() {
    control_.reset();
    data_.reset();
    context_.shutdown();
    zap_.reset();
  }

  Status Listen() {
    if (options_.listen.empty()) return absl::OkStatus();
    zap_.emplace(context_, options_.admit);
    ASSIGN_OR_RETURN(Listeners bound, Bind(options_.listen));
    endpoint_ = bound.endpoint;
    SystemStart();
    control_->Serve(NewRouter(*control_, std::move(bound.control)));
    data_->Serve(NewRouter(*data_, std::move(bound.data)));
    return absl::OkStatus();
  }

  void Route(const std::string& address, const std::string& endpoint,
             const CurvePublicKey& server) {
    std::lock_guard lock(mutex_);
    auto& known = routes_[address];
    if (known == std::pair(endpoint, server)) return;
    known = {endpoint, server};
    const StatusOr<std::string> data = DataEndpoint(endpoint);
    control_->Route(address, data.ok() ? endpoint : "", server);
    data_->Route(address, data.ok() ? *data : "", server);
  }

  void Call(const std::string& address, WireCall call) {
    ZmqLane& lane = rpc::IsBulk(call.request.method) ? *data_ : *control_;
    lane.Call(address, std::move(call));
  }

  Attachments& attachments() { return attachments_; }
  const std::string& endpoint() const { return endpoint_; }

 private:
  void SystemStart() { start_ = SecureRng().NextU64() | 1; }

  std::unique_ptr<ZmqRouter> NewRouter(ZmqLane& lane, zmq::socket_t socket) {
    return std::make_unique<ZmqRouter>(
        ZmqRouter::Parts{attachments_, lane.mailbox(), options_.authorise, options_.warn, start_},
        std::move(socket));
  }

  zmq::socket_t NewListener() {
    zmq::socket_t socket = NewSocket(context_, zmq::socket_type::router);
    socket.set(zmq::sockopt::router_mandatory, true);
    BecomeCurveServer(socket, options_.keys);
    return socket;
  }

  StatusOr<Listeners> BindBoth(const std::string& control, const std::string& data) try {
    Listeners bound{NewListener(), NewListener(), control};
    bound.control.bind(control);
    bound.data.bind(data);
    return bound;
  } catch (const zmq::error_t& error) {
    return CannotListen(control, error);
  }

  StatusOr<Listeners> Bind(const std::string& control) {
    if (control.starts_with(kIpc)) {
      ASSIGN_OR_RETURN(const std::string data, DataEndpoint(control));
      return BindBoth(control, data);
    }
    if (!control.starts_with(kTcp)) return NoEndpoint(control);
    ASSIGN_OR_RETURN(const TcpEndpoint tcp, ParseTcp(control));
    if (tcp.port != 0) return BindBoth(control, tcp.text(tcp.port + 1));
    StatusOr<Listeners> bound = absl::UnavailableError("no two free ports");
    for (int i = 0; i < kPortAttempts && !bound.ok(); ++i) bound = BindAny(tcp);
    return bound;
  }

  // A port that the system gives, and the next one, if that is free.
  StatusOr<Listeners> BindAny(const TcpEndpoint& tcp) try {
    Listeners bound{NewListener(), NewListener(), ""};
    bound.control.bind(tcp.host + "*");
    ASSIGN_OR_RETURN(const TcpEndpoint got,
                     ParseTcp(bound.control.get(zmq::sockopt::last_endpoint)));
    bound.data.bind(tcp.text(got.port + 1));
    bound.endpoint = tcp.text(got.port);
    return bound;
  } catch (const zmq::error_t& error) {
    return CannotListen(tcp.host + "0", error);
  }

  const ZmqOptions options_;
  uint64_t start_ = 0;
  std::string endpoint_;
  Attachments attachments_;
  zmq::context_t context_;
  std::optional<ZapHandler> zap_;
  std::optional<ZmqLane> control_, data_;
  std::mutex mutex_;
  std::map<std::string, std::pair<std::string, CurvePublicKey>> routes_;
};

ZmqTransport::ZmqTransport(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqTransport::~ZmqTransport() = default;

StatusOr<std::unique_ptr<ZmqTransport>> ZmqTransport::Open(const ZmqOptions& options) try {
  RETURN_IF_ERROR(CheckCurveKeyPair(options.keys));
  // The library ends the process where it gets none.
  if (FreeOpenFiles() < kFilesOfATransport) {
    return absl::ResourceExhaustedError(absl::StrCat("sockets need ", kFilesOfATransport,
                                                     " more open files than are in use: raise "
                                                     "the limit (ulimit -n) of ",
                                                     OpenFileLimit()));
  }
  auto impl = std::make_unique<Impl>(options);
  RETURN_IF_ERROR(impl->Listen());
  return std::unique_ptr<ZmqTransport>(new ZmqTransport(std::move(impl)));
} catch (const zmq::error_t& error) {
  return absl::UnavailableError(absl::StrCat("cannot open sockets: ", error.what()));
}

const std::string& ZmqTransport::endpoint() const { return impl_->endpoint(); }

void ZmqTransport::Route(const std::string& address, const std::string& endpoint,
                         const CurvePublicKey& server) {
  impl_->Route(address, endpoint, server);
}

void ZmqTransport::Attach(const std::string& address, Service& service, Loop& loop) {
  impl_->attachments().Add(address, service, loop);
}

void ZmqTransport::Detach(const std::string& address) {
  if (auto attachment = impl_->attachments().Remove(address)) attachment->Detach();
}

void ZmqTransport::Call(const std::string& address, RpcMessage request, int64_t timeout_nanos,
                        ReplyFn done) {
  const int64_t deadline = DeadlineAfter(SystemClock().MonotonicNanos(), timeout_nanos);
  impl_->Call(address, {std::move(request), deadline, std::move(done)});
}

std::unique_ptr<Monitor> ZmqTransport::NewMonitor() { return NewThreadMonitor(); }

}  // namespace holdfast
