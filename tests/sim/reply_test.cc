// Lies that the fuzzer begins with (scripts/fuzz.sh goes on from there).
#include "tests/sim/reply_fuzz.h"

namespace holdfast::sim {
namespace {

TEST(Replies, LiesAreBorne) {
  ReplyFuzz fuzz;
  const std::vector<Buffer> inputs = fuzz.FirstInputs();
  ASSERT_GT(inputs.size(), 50u);
  for (const Buffer& input : inputs) fuzz.Run(input);
}

}  // namespace
}  // namespace holdfast::sim
