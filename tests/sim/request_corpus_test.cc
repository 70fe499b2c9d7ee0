// What the fuzzer found worth keeping, played again (scripts/fuzz.sh finds more).
#include "tests/sim/request_fuzz.h"

namespace holdfast::sim {
namespace {

TEST(RequestCorpus, EveryInputIsAnswered) {
  RequestFuzz fuzz;
  size_t messages = 0;
  std::vector<std::string> inputs = ReadCorpus(HOLDFAST_FUZZ_CORPUS);
  ASSERT_GT(inputs.size(), 100u) << HOLDFAST_FUZZ_CORPUS;
  for (const std::string& input : inputs) messages += fuzz.Run(AsBytes(input));
  for (const std::string& input : FirstInputs()) EXPECT_TRUE(fuzz.Run(AsBytes(input)));
  EXPECT_GT(messages, inputs.size() / 4);
  fuzz.Check();
}

}  // namespace
}  // namespace holdfast::sim
