#include "common/crypto/check.h"

#include <gtest/gtest.h>

#include "common/crypto/domain_keys.h"
#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(Crc32c(AsBytes("123456789")), 0xe3069283u);
  EXPECT_EQ(Crc32c(Buffer(32, 0x00)), 0x8a9136aau);
  EXPECT_EQ(Crc32c(Buffer(32, 0xff)), 0x62a8ab43u);
  EXPECT_EQ(Crc32c({}), 0u);
}

// The sanity values of xxHash 0.8 (cli/xsum_sanity_check.c) for no bytes, seed 0.
TEST(ChecksumOf, KnownAnswer) {
  EXPECT_EQ(ChecksumOf({}).hex(), "99aa06d3014798d86001c324468d497f");
}

TEST(Refusals, NameWhatTheyRefuse) {
  EXPECT_EQ(UnknownVersion("segment header", 7, 1).message(),
            "segment header version 7 is not known to this release (knows 1)");
  EXPECT_TRUE(absl::IsFailedPrecondition(UnknownSuite("record header", 9)));
  EXPECT_TRUE(absl::IsDataLoss(Damaged("superblock", "it is cut short")));
}

}  // namespace
}  // namespace holdfast
