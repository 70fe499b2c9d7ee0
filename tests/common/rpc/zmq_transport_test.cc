// What the ZeroMQ transport promises beside the conformance suite (transport_test.cc): who gets in,
// what is sent again, and how it ends when the other side is gone, mute or hostile.
#include "common/rpc/zmq/zmq_transport.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "common/base/clock.h"
#include "common/io/open_files.h"
#include "common/rpc/addresses.h"
#include "common/rpc/zmq/socket.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

// Method 1 echoes, 2 takes half a second, 3 answers with as many bytes as the head says.
class CurveEcho : public Service {
 public:
  explicit CurveEcho(Loop& loop) : loop_(loop) {}
  void Handle(RpcMessage request, ReplyFn reply) override {
    ++handled;
    if (request.method == 2) {
      loop_.PostAfter(500 * kMilli, [request, reply] { reply(request); });
      return;
    }
    if (request.method == 3) {
      request.frames.push_back(SharedBytes::Own(Buffer(std::stoul(request.head), 3)));
    }
    reply(std::move(request));
  }
  std::atomic<int> handled = 0;

 private:
  Loop& loop_;
};

struct Server {
  explicit Server(const std::string& listen = "tcp://127.0.0.1:0",
                  const CurveKeyPair& own = NewCurveKeyPair())
      : keys(own) {
    ZmqOptions options;
    options.keys = keys;
    options.listen = listen;
    options.admit = [this](const CurvePublicKey& key) {
      std::lock_guard lock(mutex);
      if (!knows_principals) return Admission::kNotYet;
      return admitted.contains(key) ? Admission::kYes : Admission::kNo;
    };
    options.authorise = [this](const CurvePublicKey& key, const std::string&,
                               uint16_t method) -> StatusOr<uint32_t> {
      std::lock_guard lock(mutex);
      if (!admitted.contains(key)) return absl::PermissionDeniedError("revoked");
      if (method == 9) return absl::PermissionDeniedError("needs another role");
      return method;
    };
    options.warn = [this](const std::string&) { ++warnings; };
    transport = ZmqTransport::Open(options).value();
    transport->Attach("echo", echo, *loop);
  }
  ~Server() {
    if (transport != nullptr) transport->Detach("echo");
  }
  void Admit(const CurvePublicKey& key) {
    std::lock_guard lock(mutex);
    admitted.insert(key);
  }
  void Revoke(const CurvePublicKey& key) {
    std::lock_guard lock(mutex);
    admitted.erase(key);
  }

  const CurveKeyPair keys;
  std::mutex mutex;
  std::set<CurvePublicKey> admitted;
  std::atomic<bool> knows_principals = true;
  std::atomic<int> warnings = 0;
  std::unique_ptr<Loop> loop = NewThreadLoop("echo");
  CurveEcho echo{*loop};
  std::unique_ptr<ZmqTransport> transport;
};

struct Client {
  explicit Client(Server& server) : Client(server, server.keys.public_key) {
    server.Admit(keys.public_key);
  }
  Client(Server& server, const CurvePublicKey& server_key) {
    ZmqOptions options;
    options.keys = keys;
    transport = ZmqTransport::Open(options).value();
    transport->Route("echo", server.transport->endpoint(), server_key);
  }
  StatusOr<RpcMessage> Call(uint16_t method, const std::string& head = "",
                            int64_t timeout = kMinute) {
    RpcMessage m;
    m.method = method;
    m.head = head;
    return CallAndWait(*transport, "echo", std::move(m), timeout);
  }

  const CurveKeyPair keys = NewCurveKeyPair();
  std::unique_ptr<ZmqTransport> transport;
};

TEST(ZmqTransportTest, EndpointsAreChecked) {
  ZmqOptions options;
  options.keys = NewCurveKeyPair();
  for (const char* bad : {"10.0.0.1:7400", "tcp://", "tcp://host", "tcp://host:", "tcp://host:x",
                          "tcp://host:65535", "udp://host:1", "ipc://"}) {
    options.listen = bad;
    const Status status = ZmqTransport::Open(options).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad << ": " << status;
  }
  EXPECT_EQ(*DataEndpoint("tcp://[::1]:7400"), "tcp://[::1]:7401");
  EXPECT_EQ(*DataEndpoint("ipc:///run/v"), "ipc:///run/v.data");
  options.listen = "tcp://127.0.0.1:0";
  options.keys.secret_key[0] ^= 8;
  EXPECT_TRUE(absl::IsInvalidArgument(ZmqTransport::Open(options).status()));
}

TEST(ZmqTransportTest, APortInUseIsSaid) {
  Server server;
  ZmqOptions options;
  options.keys = NewCurveKeyPair();
  options.listen = server.transport->endpoint();
  const Status status = ZmqTransport::Open(options).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("in use"));
}

TEST(ZmqTransportTest, OverAUnixSocket) {
  const std::string path = "/tmp/holdfast_zmq_test." + std::to_string(::getpid());
  {
    Server server("ipc://" + path);
    Client client(server);
    EXPECT_EQ(client.Call(1, "over ipc")->head, "over ipc");
  }
  ::unlink(path.c_str());
  ::unlink((path + ".data").c_str());
}

// ---- Who may not enter ----

TEST(ZmqTransportTest, AnUnknownKeyDoesNotGetIn) {
  Server server;
  Client stranger(server, server.keys.public_key);
  EXPECT_TRUE(absl::IsUnavailable(stranger.Call(1, "", 700 * kMilli).status()));
  EXPECT_EQ(server.echo.handled, 0);
  server.Admit(stranger.keys.public_key);
  const int64_t before = SystemClock().MonotonicNanos();
  EXPECT_TRUE(stranger.Call(1).ok()) << "who is admitted later gets in later";
  EXPECT_LT(SystemClock().MonotonicNanos() - before, 1000 * kMilli) << "and soon";
}

TEST(ZmqTransportTest, TheCoordinatorSaysThatItDoesNotAdmitAKey) {
  Server server;
  server.transport->Attach(kCoordinatorAddress, server.echo, *server.loop);
  Client client(server, server.keys.public_key);
  client.transport->Route(kCoordinatorAddress, server.transport->endpoint(),
                          server.keys.public_key);
  const auto call = [&](int64_t timeout) {
    return CallAndWait(*client.transport, kCoordinatorAddress, RpcMessage{1, "", {}}, timeout)
        .status();
  };
  for (int i = 0; i < 2; ++i) {
    const Status refused = call(30 * kSecond);
    EXPECT_TRUE(absl::IsPermissionDenied(refused)) << refused;
  }
  server.knows_principals = false;
  EXPECT_TRUE(absl::IsUnavailable(call(700 * kMilli))) << "it cannot say yet";
  server.Admit(client.keys.public_key);
  server.knows_principals = true;
  EXPECT_TRUE(call(kMinute).ok());
  server.transport->Detach(kCoordinatorAddress);
}

TEST(ZmqTransportTest, AServerWithAnotherKeyIsNotSpokenTo) {
  Server server;
  Client client(server, NewCurveKeyPair().public_key);
  server.Admit(client.keys.public_key);
  EXPECT_TRUE(absl::IsUnavailable(client.Call(1, "secret", 700 * kMilli).status()));
  EXPECT_EQ(server.echo.handled, 0);
}

TEST(ZmqTransportTest, AKnownKeyMayNotDoEverything) {
  Server server;
  Client client(server);
  const Status status = client.Call(9).status();
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_EQ(Message(status), "needs another role");
  EXPECT_EQ(server.warnings, 1);
  EXPECT_TRUE(client.Call(1).ok());
}

TEST(ZmqTransportTest, ARevokedKeyIsRefusedOnItsLiveConnection) {
  Server server;
  Client client(server);
  ASSERT_TRUE(client.Call(1).ok());
  server.Revoke(client.keys.public_key);
  EXPECT_TRUE(absl::IsPermissionDenied(client.Call(1).status()));
  EXPECT_EQ(server.echo.handled, 1);
}

// A plain socket of libzmq, with no keys at all, to either plane.
TEST(ZmqTransportTest, NobodyGetsInWithoutCurve) {
  Server server;
  zmq::context_t context;
  for (const std::string& endpoint :
       {server.transport->endpoint(), *DataEndpoint(server.transport->endpoint())}) {
    zmq::socket_t plain(context, zmq::socket_type::dealer);
    plain.set(zmq::sockopt::linger, 0);
    plain.connect(endpoint);
    Envelope envelope;
    envelope.address = "echo";
    envelope.method = 1;
    EXPECT_TRUE(SendMessage(plain, "", envelope, "let me in", {}));
    plain.set(zmq::sockopt::rcvtimeo, 300);
    zmq::message_t reply;
    EXPECT_FALSE(plain.recv(reply)) << endpoint;
  }
  EXPECT_EQ(server.echo.handled, 0);
}

// libzmq lets anybody in when a CURVE server has no ZAP handler, unless the domain is enforced; and
// Debian's header does not have the option's name.
TEST(ZmqTransportTest, NobodyGetsInWithoutTheZapHandler) {
  zmq::context_t context;
  const CurveKeyPair server_keys = NewCurveKeyPair();
  zmq::socket_t router = NewSocket(context, zmq::socket_type::router);
  BecomeCurveServer(router, server_keys);
  router.bind("tcp://127.0.0.1:*");
  zmq::socket_t dealer = NewSocket(context, zmq::socket_type::dealer);
  BecomeCurveClient(dealer, NewCurveKeyPair(), server_keys.public_key);
  dealer.set(zmq::sockopt::sndtimeo, 500);
  dealer.connect(router.get(zmq::sockopt::last_endpoint));
  EXPECT_FALSE(dealer.send(zmq::str_buffer("anybody there"), zmq::send_flags::none));
  zmq::message_t message;
  EXPECT_FALSE(router.recv(message, zmq::recv_flags::dontwait));
}

// ---- What goes wrong on the way ----

TEST(ZmqTransportTest, NobodyListensThere) {
  auto server = std::make_unique<Server>();
  Client client(*server);
  server.reset();
  EXPECT_TRUE(absl::IsUnavailable(client.Call(1, "", 300 * kMilli).status()));
}

// The peer's kernel takes the connection, nobody answers on it.
TEST(ZmqTransportTest, AMutePeerIsDownAfterFiveSeconds) {
  const int mute = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(mute, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(mute, 16), 0);
  ASSERT_EQ(::getsockname(mute, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ZmqOptions options;
  options.keys = NewCurveKeyPair();
  auto transport = ZmqTransport::Open(options).value();
  transport->Route("echo", "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port)),
                   NewCurveKeyPair().public_key);
  const auto call = [&] {
    const int64_t start = SystemClock().MonotonicNanos();
    const Status status = CallAndWait(*transport, "echo", {.method = 1}, kMinute).status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(Message(status), HasSubstr("nobody answers"));
    return SystemClock().MonotonicNanos() - start;
  };
  EXPECT_LT(call(), 7 * kSecond);
  EXPECT_LT(call(), kSecond) << "then each call fails at once";
  ::close(mute);
}

// A server that dies with requests under way and comes back: they are sent again.
TEST(ZmqTransportTest, WhatARestartLostIsSentAgain) {
  auto server = std::make_unique<Server>();
  Client client(*server);
  ASSERT_TRUE(client.Call(1).ok());
  auto monitor = client.transport->NewMonitor();
  int ok = 0, failed = 0;
  for (int i = 0; i < 8; ++i) {
    client.transport->Call("echo", {.method = 2}, 20 * kSecond, [&](StatusOr<RpcMessage> r) {
      MonitorLock lock(*monitor);
      ++(r.ok() ? ok : failed);
    });
  }
  while (server->echo.handled < 5) std::this_thread::yield();
  const std::string endpoint = server->transport->endpoint();
  const CurveKeyPair keys = server->keys;
  server->transport.reset();  // What the service says from here on nobody hears.
  server.reset();
  server = std::make_unique<Server>(endpoint, keys);
  server->Admit(client.keys.public_key);
  MonitorLock lock(*monitor);
  monitor->Await([&] { return ok + failed == 8; });
  EXPECT_EQ(ok, 8);
}

TEST(ZmqTransportTest, GarbageFromStrangersIsDropped) {
  Server server;
  Client client(server);
  ASSERT_TRUE(client.Call(1).ok());
  const std::string endpoint = server.transport->endpoint();
  const int port = std::stoi(endpoint.substr(endpoint.rfind(':') + 1));
  SimRng rng(5);
  for (int i = 0; i < 200; ++i) {
    const int s = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port + i % 2);
    ASSERT_EQ(::connect(s, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    Buffer bytes(1 + rng.Below(300));
    rng.Fill(bytes);
    // Some begin as ZMTP does, and then announce a frame of 2^63 bytes.
    const uint8_t greeting[] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'C', 'U', 'R', 'V', 'E'};
    if (i % 3 == 0) std::copy_n(greeting, std::min(bytes.size(), sizeof greeting), bytes.begin());
    (void)!::send(s, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    ::close(s);
  }
  EXPECT_TRUE(client.Call(1).ok());
}

// One whose key is known sends what is no message.
TEST(ZmqTransportTest, AMalformedMessageOfAPrincipalIsDropped) {
  Server server;
  Client client(server);
  zmq::context_t context;
  zmq::socket_t dealer = NewSocket(context, zmq::socket_type::dealer);
  BecomeCurveClient(dealer, client.keys, server.keys.public_key);
  dealer.connect(server.transport->endpoint());
  dealer.set(zmq::sockopt::sndtimeo, 5000);
  ASSERT_TRUE(dealer.send(zmq::str_buffer("no envelope"), zmq::send_flags::none));
  for (int i = 0; i < 20; ++i) {
    dealer.send(zmq::str_buffer("many frames"),
                i < 19 ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
  Buffer other_version = EncodeEnvelope({});
  other_version[5] = 200;
  dealer.send(zmq::buffer(other_version.data(), other_version.size()), zmq::send_flags::none);
  dealer.set(zmq::sockopt::rcvtimeo, 5000);
  WireMessage reply;
  zmq::pollitem_t item = {dealer.handle(), 0, ZMQ_POLLIN, 0};
  ASSERT_EQ(zmq::poll(&item, 1, std::chrono::milliseconds(5000)), 1);
  ASSERT_TRUE(ReceiveMessage(dealer, reply).ok());
  EXPECT_EQ(reply.envelope.code, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(reply.head, HasSubstr("version 200"));
  EXPECT_EQ(server.warnings, 3);
  EXPECT_EQ(server.echo.handled, 0);
  EXPECT_TRUE(client.Call(1).ok());
}

// ---- Bounds ----

// Far more than the credit of a caller, both ways: all of it gets through.
TEST(ZmqTransportTest, CreditsDoNotLoseOrStall) {
  Server server;
  Client client(server);
  auto monitor = client.transport->NewMonitor();
  int ok = 0, failed = 0;
  constexpr int kCalls = 100;
  for (int i = 0; i < kCalls; ++i) {
    RpcMessage m;
    m.method = 3;
    m.head = std::to_string(1'000'000 + i);
    m.frames.push_back(SharedBytes::Own(Buffer(1'500'000, static_cast<uint8_t>(i))));
    m.frames.push_back(SharedBytes::Own(Buffer(i, 9)));
    client.transport->Call("echo", std::move(m), kMinute, [&, i](StatusOr<RpcMessage> r) {
      MonitorLock lock(*monitor);
      const bool good = r.ok() && r->frames.size() == 3 && r->frames[0].view.size() == 1'500'000 &&
                        r->frames[0].view[77] == i && r->frames[1].view.size() == size_t(i) &&
                        r->frames[2].view.size() == 1'000'000 + size_t(i);
      ++(good ? ok : failed);
    });
  }
  MonitorLock lock(*monitor);
  monitor->Await([&] { return ok + failed == kCalls; });
  EXPECT_EQ(ok, kCalls);
}

TEST(ZmqTransportTest, TheEndOfTheTransportEndsWhatWaits) {
  Server server;
  Client client(server);
  ASSERT_TRUE(client.Call(1).ok());
  std::atomic<int> ended = 0;
  for (int i = 0; i < 5; ++i) {
    client.transport->Call("echo", {.method = 2}, kMinute, [&](StatusOr<RpcMessage> r) {
      EXPECT_TRUE(absl::IsUnavailable(r.status()));
      ++ended;
    });
  }
  while (server.echo.handled < 6) std::this_thread::yield();
  client.transport.reset();
  EXPECT_EQ(ended, 5);
}

// The library would end the process.
TEST(ZmqTransportTest, TooFewDescriptorsAreAnError) {
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const size_t open = OpenFileLimit() - FreeOpenFiles();
  ZmqOptions options;
  options.keys = NewCurveKeyPair();
  for (const size_t more : {0, 8, 16, 24, 32, 48, 80}) {
    rlimit limit = before;
    limit.rlim_cur = open + more;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    const auto transport = ZmqTransport::Open(options);
    EXPECT_EQ(transport.ok(), more == 80) << transport.status();
    if (transport.ok()) continue;
    EXPECT_THAT(transport.status().message(), HasSubstr("ulimit -n"));
  }
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace holdfast
