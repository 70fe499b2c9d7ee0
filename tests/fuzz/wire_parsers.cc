// Messages as sockets bring them.
#include "common/rpc/zmq/socket.h"
#include "common/rpc/zmq/wire.h"
#include "tests/fuzz/parser_tools.h"

namespace holdfast::fuzz {
namespace {

// What the payload sizes of an envelope add up to, however malformed the rest is.
uint64_t BodySize(Bytes envelope) {
  Reader reader(envelope);
  reader.Raw(5 + 1 + 1 + 2 + 8);
  reader.Blob();
  reader.Raw(4 + 8 + 1 + 8 + 8);
  uint64_t sum = 0;
  for (uint32_t i = reader.U32(); i > 0 && reader.ok(); --i) sum += reader.U32();
  return sum;
}

void EnvelopeParser(Bytes input) {
  (void)DecodeEnvelope(input, 0);
  const auto envelope = DecodeEnvelope(input, BodySize(input));
  if (envelope.ok()) Must(Same(EncodeEnvelope(*envelope), input), "an envelope has one form");
}

// Two ends in one process: a dealer's frames arrive at a router, a pair's at a pair.
struct Ends {
  zmq::context_t context;
  zmq::socket_t dealer{context, zmq::socket_type::dealer};
  zmq::socket_t router{context, zmq::socket_type::router};
  zmq::socket_t out{context, zmq::socket_type::pair};
  zmq::socket_t in{context, zmq::socket_type::pair};
  Ends() {
    router.bind("inproc://router");
    dealer.connect("inproc://router");
    in.bind("inproc://pair");
    out.connect("inproc://pair");
  }
};

// Each frame after its 16-bit length.
void FramesParser(Bytes input) {
  // Never destroyed: its threads would be waited for.
  static Ends& ends = *new Ends;
  std::vector<Bytes> frames;
  Reader reader(input);
  do {
    frames.push_back(UpTo(reader, reader.U16()));
  } while (!reader.rest().empty() && frames.size() < 8);
  for (zmq::socket_t* socket : {&ends.dealer, &ends.out}) {
    for (const Bytes& frame : frames) {
      const bool more = &frame != &frames.back();
      socket->send(zmq::buffer(frame.data(), frame.size()),
                   more ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }
  WireMessage message;
  std::string user;
  (void)ReceiveMessage(ends.router, message, &user);
  if (!ReceiveMessage(ends.in, message).ok()) return;
  Must(SendMessage(ends.out, "", message.envelope, message.head, message.frames), "send");
  WireMessage again;
  Must(ReceiveMessage(ends.in, again).ok() && again.head == message.head &&
           Same(EncodeEnvelope(again.envelope), EncodeEnvelope(message.envelope)),
       "a message comes back");
}

std::vector<Buffer> FrameSeeds() {
  const Buffer envelope = GoldenFile("envelope.hex");
  const Buffer body(BodySize(envelope), 7);
  Buffer message;
  for (const Bytes frame : {Bytes(envelope), AsBytes("head"), Bytes(body)}) {
    Writer(message).U16(static_cast<uint16_t>(frame.size()));
    Append(message, frame);
  }
  Buffer ping;
  Envelope of_ping;
  of_ping.kind = Envelope::Kind::kPing;
  const Buffer encoded = EncodeEnvelope(of_ping);
  Writer(ping).U16(static_cast<uint16_t>(encoded.size()));
  Append(ping, encoded);
  return {message, ping, Buffer(20, 0)};
}

}  // namespace

std::vector<Parser> WireParsers() {
  return {
      {"envelope", EnvelopeParser, Golden({"envelope.hex"})},
      {"frames", FramesParser, FrameSeeds},
  };
}

}  // namespace holdfast::fuzz
