#include "common/rpc/zmq/wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/rng.h"
#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

Envelope Sample() {
  Envelope e;
  e.kind = Envelope::Kind::kRequest;
  e.method = 2;
  e.id = 77;
  e.address = "node/3";
  e.timeout_millis = 30'000;
  e.connection = 5;
  e.consumed_bytes = 1 << 20;
  e.payload_sizes = {3, 0, 9};
  return e;
}

TEST(WireTest, Golden) { testing::Golden("envelope", EncodeEnvelope(Sample())); }

TEST(WireTest, ComesBackAsItWas) {
  const Envelope e = Sample();
  const StatusOr<Envelope> back = DecodeEnvelope(EncodeEnvelope(e), 12);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(EncodeEnvelope(*back), EncodeEnvelope(e));
  Envelope error;
  error.kind = Envelope::Kind::kReply;
  error.code = absl::StatusCode::kDataLoss;
  EXPECT_EQ(DecodeEnvelope(EncodeEnvelope(error), 0)->code, absl::StatusCode::kDataLoss);
}

TEST(WireTest, ABodyOfAnotherSizeIsMalformed) {
  EXPECT_TRUE(absl::IsInvalidArgument(DecodeEnvelope(EncodeEnvelope(Sample()), 13).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(DecodeEnvelope(EncodeEnvelope(Sample()), 0).status()));
}

TEST(WireTest, AnUnknownVersionIsNamed) {
  Buffer bytes = EncodeEnvelope(Sample());
  bytes[5] = 9;
  const Status status = DecodeEnvelope(bytes, 12).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("version 9"));
}

// Sizes that add up to the body only when they wrap around must not pass.
TEST(WireTest, SizesDoNotWrapAround) {
  Envelope e = Sample();
  e.payload_sizes.assign(2, UINT32_MAX);
  e.payload_sizes.push_back(14);
  EXPECT_FALSE(DecodeEnvelope(EncodeEnvelope(e), 12).ok());
}

TEST(WireTest, DamagedBytesNeverDoHarm) {
  const uint64_t seed = SecureRng().Below(UINT32_MAX);
  SCOPED_TRACE("seed " + std::to_string(seed));
  SimRng rng(seed);
  const Buffer good = EncodeEnvelope(Sample());
  for (size_t cut = 0; cut < good.size(); ++cut) {
    EXPECT_FALSE(DecodeEnvelope(Bytes(good).first(cut), 12).ok()) << cut;
  }
  for (int i = 0; i < 20'000; ++i) {
    Buffer bad = good;
    for (uint64_t n = rng.Below(4); n-- > 0;) bad[rng.Below(bad.size())] ^= 1 << rng.Below(8);
    bad.resize(rng.Below(bad.size() + 8));
    const StatusOr<Envelope> e = DecodeEnvelope(bad, rng.Below(20));
    if (!e.ok()) continue;
    EXPECT_LE(e->payload_sizes.size(), bad.size() / 4);
  }
}

}  // namespace
}  // namespace holdfast
