// The table of parsers that libFuzzer runs (tests/fuzz), with seeds and seeded changes of them: a
// smoke test. Whatever does not hold ends the process.
#include "tests/fuzz/parsers.h"

#include <gtest/gtest.h>

#include "common/base/rng.h"

namespace holdfast::fuzz {
namespace {

constexpr int kChanges = 200;  // Of each parser's seeds.

Buffer Changed(const std::vector<Buffer>& seeds, SimRng& rng) {
  Buffer bytes = seeds[rng.Below(seeds.size())];
  for (uint64_t i = rng.Below(4); !bytes.empty() && i < 4; ++i) {
    const size_t at = rng.Below(bytes.size());
    constexpr uint8_t kValues[] = {0, 1, 0x7f, 0x80, 0xff};
    switch (rng.Below(4)) {
      case 0:
        bytes[at] ^= static_cast<uint8_t>(1u << rng.Below(8));
        break;
      case 1:
        std::fill_n(bytes.begin() + at, std::min<size_t>(bytes.size() - at, 1 + rng.Below(8)),
                    kValues[rng.Below(std::size(kValues))]);
        break;
      case 2:
        bytes.resize(at);
        break;
      default:
        const Buffer& other = seeds[rng.Below(seeds.size())];
        bytes.insert(bytes.begin() + at, other.begin(),
                     other.begin() + rng.Below(other.size() + 1));
    }
  }
  return bytes;
}

TEST(Parsers, BearSeedsAndChangesOfThem) {
  for (const Parser& parser : Parsers()) {
    SCOPED_TRACE(parser.name);
    const std::vector<Buffer> seeds = parser.seeds();
    ASSERT_FALSE(seeds.empty());
    parser.run({});
    for (const Buffer& seed : seeds) parser.run(seed);
    SimRng rng(1);
    for (int i = 0; i < kChanges; ++i) parser.run(Changed(seeds, rng));
  }
}

}  // namespace
}  // namespace holdfast::fuzz
