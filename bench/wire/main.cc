// What moving bytes over ZeroMQ costs, and nothing else: two sockets on loopback in one process,
// messages of one frame, with CURVE or without. The floor that bench/throughput holds a cluster to.
//
//   holdfast-wire --bytes 3000000000 --curve
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "common/base/clock.h"

namespace holdfast {
namespace {

// As the credits of a client let it (client/ingest_chunks.cc).
constexpr int kMessagesUnderWay = 16;
constexpr size_t kSourceBytes = 256u << 20;

struct Keys {
  char public_key[41], secret_key[41];
  Keys() { zmq_curve_keypair(public_key, secret_key); }
};

// Messages come from all over `source`, so that no cache holds them, as none does what was sealed
// elsewhere.
void SendAll(zmq::socket_t& socket, uint64_t bytes, size_t message, std::vector<char>& source) {
  for (size_t at = 0; bytes > 0; at += message) {
    if (at + message > source.size()) at = 0;
    const size_t size = std::min<uint64_t>(bytes, message);
    socket.send(zmq::message_t(&source[at], size, [](void*, void*) {}), zmq::send_flags::none);
    bytes -= size;
  }
}

void ReceiveAll(zmq::socket_t& socket, uint64_t bytes) {
  while (bytes > 0) {
    zmq::message_t message;
    (void)socket.recv(message);
    bytes -= message.size();
  }
}

int Run(uint64_t bytes, size_t message_size, bool curve) {
  // A context has one I/O thread: each end has its own, as two processes have.
  zmq::context_t sending, receiving;
  zmq::socket_t from(sending, zmq::socket_type::dealer), to(receiving, zmq::socket_type::dealer);
  const Keys server, client;
  if (curve) {
    to.set(zmq::sockopt::curve_server, true);
    to.set(zmq::sockopt::curve_secretkey, server.secret_key);
    from.set(zmq::sockopt::curve_serverkey, server.public_key);
    from.set(zmq::sockopt::curve_publickey, client.public_key);
    from.set(zmq::sockopt::curve_secretkey, client.secret_key);
  }
  from.set(zmq::sockopt::sndhwm, kMessagesUnderWay);
  to.set(zmq::sockopt::rcvhwm, 1);
  to.bind("tcp://127.0.0.1:*");
  from.connect(to.get(zmq::sockopt::last_endpoint));
  std::vector<char> source(std::max(kSourceBytes, message_size), 'x');
  SendAll(from, 1, 1, source);
  ReceiveAll(to, 1);  // The handshake is over.
  const double cpu = ProcessCpuSeconds();
  const int64_t start = SystemClock().MonotonicNanos();
  std::thread sender([&] { SendAll(from, bytes, message_size, source); });
  ReceiveAll(to, bytes);
  sender.join();
  const double wall = static_cast<double>(SystemClock().MonotonicNanos() - start) / kSecond;
  const nlohmann::json result{{"bytes", bytes},
                              {"message_bytes", message_size},
                              {"curve", curve},
                              {"wall_s", wall},
                              {"cpu_s", ProcessCpuSeconds() - cpu}};
  std::printf("%s\n", result.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  CLI::App app("What moving bytes over ZeroMQ costs");
  uint64_t bytes = 1'000'000'000;
  size_t message = 2u << 20;
  bool curve = false;
  app.add_option("--bytes", bytes, "How many are moved")->capture_default_str();
  app.add_option("--message", message, "Bytes of one message")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_flag("--curve", curve, "Encrypted and authenticated, as a cluster's sockets all are");
  CLI11_PARSE(app, argc, argv);
  return holdfast::Run(bytes, message, curve);
}
