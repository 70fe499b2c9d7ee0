// Lies that the fuzzer begins with (scripts/fuzz.sh goes on from there).
#include "common/rpc/methods.h"
#include "tests/sim/reply_fuzz.h"

namespace holdfast::sim {
namespace {

TEST(Replies, LiesAreBorne) {
  ReplyFuzz fuzz;
  const std::vector<Buffer> inputs = fuzz.FirstInputs();
  ASSERT_GT(inputs.size(), 50u);
  for (const uint16_t method : {rpc::kNodeGcBegin, rpc::kNodeListRecords, rpc::kNodeTrash,
                                rpc::kNodeCompact, rpc::kRemove}) {
    EXPECT_TRUE(fuzz.answered().contains(method)) << method;
  }
  for (const Buffer& input : inputs) fuzz.Run(input);
}

}  // namespace
}  // namespace holdfast::sim
