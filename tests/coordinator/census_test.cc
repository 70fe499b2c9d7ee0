// What nodes say about themselves is believed within bounds.
#include "coordinator/census.h"

#include <gtest/gtest.h>

namespace holdfast {
namespace {

TEST(CensusTest, NumbersThatCannotBeAreNotBelieved) {
  proto::NodeStatusReply honest, liar;
  honest.set_gc_run(7);
  liar.set_gc_run(UINT64_MAX - 1);
  const Census census = ReadCensus(
      {0, 1}, {MakeMessage(rpc::kNodeStatus, honest), MakeMessage(rpc::kNodeStatus, liar)});
  EXPECT_TRUE(census.nodes[0].ok());
  EXPECT_TRUE(absl::IsUnavailable(census.nodes[1].status()));
  EXPECT_EQ(census.away_count(), 1u);
}

TEST(CensusTest, AnEpochIsLiftedToWhatNodesWereTold) {
  proto::NodeStatusReply node, far;
  node.set_gc_horizon(9);
  far.set_gc_horizon(uint64_t{1} << 40);
  const Census census =
      ReadCensus({0, 1}, {MakeMessage(rpc::kNodeStatus, node), MakeMessage(rpc::kNodeStatus, far)});
  EXPECT_EQ(census.lifted(5), 9u);
  EXPECT_EQ(census.lifted(12), 12u);
}

}  // namespace
}  // namespace holdfast
