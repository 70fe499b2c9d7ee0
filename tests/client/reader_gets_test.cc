#include "client/reader_gets.h"

#include <deque>

#include "common/proto/holdfast.pb.h"
#include "common/rpc/addresses.h"
#include "common/rpc/methods.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

// Answers when the test says so, and as the test says.
class SlowTransport : public Transport {
 public:
  struct Asked {
    std::string address;
    size_t records;
    ReplyFn done;
  };

  void Attach(const std::string&, Service&, Loop&) override {}
  void Detach(const std::string&) override {}
  void Call(const std::string& address, RpcMessage request, int64_t, ReplyFn done) override {
    const auto head = ParseHead<proto::NodeGetRequest>(request);
    asked.push_back({address, head->ids().size() / RecordId::kSize, std::move(done)});
    if (at_once) Answer(asked.size() - 1);
  }
  std::unique_ptr<Monitor> NewMonitor() override { return NewThreadMonitor(); }

  void Answer(size_t i) {
    proto::NodeGetReply head;
    RpcMessage message;
    for (size_t k = 0; k < asked[i].records; ++k) head.add_answers()->set_status(proto::PRESENT);
    message = MakeMessage(rpc::kNodeGet, head);
    message.frames.assign(asked[i].records, SharedBytes::Own(Buffer(10, static_cast<uint8_t>(i))));
    asked[i].done(std::move(message));
  }

  std::deque<Asked> asked;
  bool at_once = false;
};

RecordId IdOf(size_t n) {
  RecordId id;
  id.value[0] = static_cast<uint8_t>(n);
  return id;
}

TEST(NodeGetsTest, NoMoreRequestsAreUnderWayThanWanted) {
  SlowTransport transport;
  NodeGets gets(transport);
  for (size_t n = 0; n < 12; ++n) gets.Add(0, IdOf(n), 2u << 20);  // Two fit in a request.
  gets.Group();
  gets.SendUpTo(3);
  EXPECT_EQ(transport.asked.size(), 3u);
  EXPECT_FALSE(gets.all_sent());
  transport.Answer(1);
  transport.Answer(0);
  gets.SendUpTo(3);
  EXPECT_EQ(transport.asked.size(), 3u);  // Answered, but not taken.
  gets.Take(0);
  EXPECT_TRUE(gets.taken(1));
  EXPECT_FALSE(gets.taken(2));
  gets.SendUpTo(3);
  EXPECT_EQ(transport.asked.size(), 4u);
  gets.Take(2);
  EXPECT_EQ(gets.under_way(), 2u);
  EXPECT_EQ(gets[0].stored.view[0], 0);
  EXPECT_EQ(gets[3].stored.view[0], 1);
}

TEST(NodeGetsTest, WhatIsTakenIsSentIfItWasNot) {
  SlowTransport transport;
  transport.at_once = true;
  NodeGets gets(transport);
  for (size_t n = 0; n < 12; ++n) gets.Add(n % 2, IdOf(n), 2u << 20);
  gets.Group();
  gets.Take(11);
  EXPECT_TRUE(gets.all_sent());
  EXPECT_EQ(transport.asked[0].address, NodeAddress(0));
  EXPECT_EQ(transport.asked[1].address, NodeAddress(1));
  gets.Wait();
  EXPECT_EQ(gets.under_way(), 0u);
  EXPECT_EQ(gets.bytes_received(), 120u);
  for (size_t n = 0; n < 12; ++n) EXPECT_TRUE(gets[n].status.ok()) << n;
}

TEST(NodeGetsTest, NothingToAsk) {
  SlowTransport transport;
  NodeGets gets(transport);
  gets.Send();
  gets.Wait();
  EXPECT_TRUE(transport.asked.empty());
}

}  // namespace
}  // namespace holdfast
