// Lists that nodes give page by page: what a page must not do. And nodes that have to be asked
// twice.
#include "coordinator/node_client.h"

#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "common/base/rng.h"
#include "common/rpc/addresses.h"
#include "tests/common/format/counting.h"

namespace holdfast {
namespace {

std::string Id(uint8_t first) { return ToString(testing::Counting<RecordId>(first).bytes()); }

TEST(CheckIdPageTest, PagesThatGoOnAreTaken) {
  EXPECT_TRUE(CheckIdPage("", "", "").ok());
  EXPECT_TRUE(CheckIdPage("", Id(1) + Id(2), Id(3)).ok());
  EXPECT_TRUE(CheckIdPage(Id(3), Id(3) + Id(7), "").ok());
  // All that was looked at was of no interest.
  EXPECT_TRUE(CheckIdPage(Id(3), "", Id(4)).ok());
}

TEST(CheckIdPageTest, AListThatWouldNotEndIsRefused) {
  for (const std::string& next : {Id(2), Id(3), std::string("x"), Id(4) + "x"}) {
    EXPECT_TRUE(absl::IsUnavailable(CheckIdPage(Id(3), "", next))) << next;
  }
  EXPECT_TRUE(absl::IsUnavailable(CheckIdPage(Id(3), Id(5), Id(4))));
  EXPECT_TRUE(absl::IsUnavailable(CheckIdPage(Id(3), Id(5), Id(5))));
}

TEST(CheckIdPageTest, IdsOutOfOrderOrTwiceAreRefused) {
  EXPECT_TRUE(absl::IsUnavailable(CheckIdPage("", Id(2) + Id(1), "")));
  EXPECT_TRUE(absl::IsUnavailable(CheckIdPage("", Id(2) + Id(2), "")));
  EXPECT_TRUE(absl::IsUnavailable(CheckIdPage(Id(3), Id(2), "")));
  EXPECT_TRUE(absl::IsUnavailable(CheckIdPage("", Id(2) + "x", "")));
}

// As a node that starts answers.
class Starting : public Service {
 public:
  Starting(SimClock& clock, int64_t ready_nanos) : clock_(clock), ready_nanos_(ready_nanos) {}
  void Handle(RpcMessage request, ReplyFn reply) override {
    ++asked;
    if (clock_.MonotonicNanos() < ready_nanos_) return reply(absl::UnavailableError("starting"));
    reply(std::move(request));
  }
  int asked = 0;

 private:
  SimClock& clock_;
  const int64_t ready_nanos_;
};

TEST(NodeClientTest, ANodeThatIsAboutToStartIsAskedAgain) {
  SimClock clock;
  SimRng rng(1);
  SimLoop loop(clock, rng);
  auto transport = NewSimTransport(loop, rng, {});
  const Guard guard;
  const ClusterMap map;
  const DomainId domain;
  NodeClient nodes(*transport, loop.NewChannel(), guard, map, domain);
  Starting soon(clock, clock.MonotonicNanos() + 3 * kSecond);
  Starting never(clock, INT64_MAX);
  transport->Attach(NodeAddress(0), soon, loop.NewChannel());
  transport->Attach(NodeAddress(1), never, loop.NewChannel());
  std::optional<NodeReplies> replies;
  nodes.Gather(
      {{0, {}}, {1, {}}}, 30 * kSecond, [&](NodeReplies got) { replies = std::move(got); },
      /*attempts=*/3);
  loop.RunUntil([&] { return replies.has_value(); });
  EXPECT_TRUE((*replies)[0].ok());
  EXPECT_TRUE(absl::IsUnavailable((*replies)[1].status()));
  EXPECT_EQ(soon.asked, 3);
  EXPECT_EQ(never.asked, 3);
}

}  // namespace
}  // namespace holdfast
