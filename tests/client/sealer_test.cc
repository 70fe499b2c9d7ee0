#include "client/sealer.h"

#include <gtest/gtest.h>

#include "client/object_keys.h"
#include "client/slab_pool.h"
#include "kernels/engine.h"
#include "tests/client/ingest_testing.h"
#include "tests/common/crypto/sealed.h"

namespace holdfast::testing {
namespace {

class SealerTest : public ::testing::Test {
 protected:
  SealerTest() : keys_(std::array<uint8_t, 32>{1, 2, 3}), sealer_(keys_) {}

  ChunkIdentity Identify(Bytes plain) const {
    ChunkIdentity chunk;
    chunk.poly1305 = kernels::Poly1305(keys_.poly1305_key(), plain);
    chunk.h = keys_.ChunkSecret(kernels::Sha256(plain), plain.size(), chunk.poly1305);
    chunk.id = ChunkIdOf(chunk.h);
    chunk.length = static_cast<uint32_t>(plain.size());
    return chunk;
  }
  Codec CodecOf(const std::string& content) {
    const ChunkIdentity chunk = Identify(AsBytes(content));
    StatusOr<SealedChunk> sealed = sealer_.Seal(chunk, AsBytes(content));
    EXPECT_TRUE(sealed.ok()) << sealed.status();
    StatusOr<OpenedChunk> opened = OpenChunk(chunk.h, chunk.id, sealed->frame.view);
    EXPECT_TRUE(opened.ok()) << opened.status();
    EXPECT_TRUE(sealer_.Check(chunk, sealed->frame.view).ok());
    EXPECT_EQ(ChecksumOf(sealed->frame.view), sealed->checksum);
    return opened->codec;
  }

  DomainKeys keys_;
  Sealer sealer_;
};

TEST_F(SealerTest, CompressesWhatGetsSmaller) {
  EXPECT_EQ(CodecOf(TextBytes(1, 500'000)), Codec::kZstd);
  EXPECT_EQ(CodecOf(TextBytes(1, 2'000)), Codec::kZstd);
  EXPECT_EQ(CodecOf(std::string(1'000'000, '\0')), Codec::kZstd);
  for (size_t size : {1, 127, 128, 129, 1000, 15'000, 700'000}) {
    EXPECT_EQ(CodecOf(NoiseBytes(size, size)), Codec::kRaw) << size;
  }
}

TEST_F(SealerTest, EntropyTellsNoiseFromText) {
  for (size_t size : {1000, 15'000, 500'000}) {
    EXPECT_GT(SampledEntropy(AsBytes(NoiseBytes(1, size))), 7.5) << size;
    EXPECT_LT(SampledEntropy(AsBytes(TextBytes(1, size))), 5.5) << size;
  }
  EXPECT_EQ(SampledEntropy(AsBytes(std::string(5000, 'x'))), 0);
  SampledEntropy({});
}

TEST_F(SealerTest, TheSamePlaintextGivesTheSameBytes) {
  for (const std::string& content : {TextBytes(1, 300'000), NoiseBytes(1, 300'000)}) {
    const ChunkIdentity chunk = Identify(AsBytes(content));
    Sealer other(keys_);
    EXPECT_EQ(other.Seal(chunk, AsBytes(TextBytes(2, 1000))).ok(), false);
    EXPECT_EQ(sealer_.Seal(chunk, AsBytes(content))->checksum,
              other.Seal(chunk, AsBytes(content))->checksum);
  }
}

TEST_F(SealerTest, ChunksOfOneRequestLieTogether) {
  Sealer sealer(keys_, /*together=*/true);
  std::vector<SharedBytes> frames;
  const auto seal = [&](uint64_t seed, size_t size) {
    const std::string content = NoiseBytes(seed, size);
    const ChunkIdentity chunk = Identify(AsBytes(content));
    StatusOr<SealedChunk> sealed = sealer.Seal(chunk, AsBytes(content));
    EXPECT_TRUE(sealed.ok() && sealer_.Check(chunk, sealed->frame.view).ok());
    EXPECT_EQ(ChecksumOf(sealed->frame.view), sealed->checksum);
    frames.push_back(sealed->frame);
  };
  const auto follows = [&](size_t i) {
    return frames[i].owner == frames[i - 1].owner &&
           frames[i].view.data() == frames[i - 1].view.data() + frames[i - 1].view.size();
  };
  for (size_t i = 0; i < 3; ++i) seal(i, 700'000 + i);
  EXPECT_TRUE(follows(1) && follows(2));
  // Of a block of which a part is not sent yet, the rest is used.
  sealer.Sent({frames[0], frames[2]});
  seal(3, 1000);
  EXPECT_TRUE(follows(3));
  sealer.Sent(frames);
  seal(4, 1000);
  EXPECT_NE(frames[4].owner, frames[3].owner);
  // Larger than any block, and what does not fit into what is left of one.
  seal(5, 5'000'000);
  seal(6, 1000);
  EXPECT_NE(frames[5].owner, frames[4].owner);
  EXPECT_NE(frames[6].owner, frames[5].owner);
}

TEST_F(SealerTest, AFlippedBitAfterDigestingIsCaught) {
  for (std::string content : {TextBytes(1, 300'000), NoiseBytes(1, 300'000)}) {
    const ChunkIdentity chunk = Identify(AsBytes(content));
    content[123'456] ^= 4;
    const Status status = sealer_.Seal(chunk, AsBytes(content)).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_NE(status.message().find("memory error"), std::string::npos);
  }
}

TEST_F(SealerTest, CheckRefusesDamageAndOtherContent) {
  const std::string content = TextBytes(1, 30'000), other = TextBytes(2, 30'000);
  const ChunkIdentity chunk = Identify(AsBytes(content));
  // Sealed under the right keys, but with other content: whoever did that knew h.
  const Buffer wrong = Sealed(chunk.h, chunk.id, Codec::kRaw, AsBytes(other));
  EXPECT_TRUE(absl::IsDataLoss(sealer_.Check(chunk, wrong)));
  Buffer right = Sealed(chunk.h, chunk.id, Codec::kRaw, AsBytes(content));
  EXPECT_TRUE(sealer_.Check(chunk, right).ok());
  right[20] ^= 1;
  EXPECT_TRUE(absl::IsDataLoss(sealer_.Check(chunk, right)));
  EXPECT_TRUE(absl::IsDataLoss(sealer_.Check(chunk, {})));
}

TEST(ObjectKeysTest, OpenOnlyWhereTheyBelong) {
  const KeyPair domain_keys = GenerateKeyPair();
  const DomainId domain{{1}};
  const SealingKeyId id{{2}}, other_id{{3}};
  const AeadKey key{7, 8, 9};
  StatusOr<Buffer> box = SealSealingKey(domain_keys.public_key, domain, id, key);
  ASSERT_TRUE(box.ok());
  EXPECT_EQ(OpenSealingKey(domain_keys, domain, id, *box).value(), key);
  EXPECT_FALSE(OpenSealingKey(domain_keys, domain, other_id, *box).ok());
  EXPECT_FALSE(OpenSealingKey(GenerateKeyPair(), domain, id, *box).ok());

  const VersionId version{{4}}, other_version{{5}};
  const AeadKey object_key{1, 1, 1};
  const Buffer wrapped = WrapObjectKey(key, AeadNonce{9}, domain, version, object_key);
  EXPECT_EQ(wrapped.size(), kWrappedKeySize);
  EXPECT_EQ(UnwrapObjectKey(key, domain, version, wrapped).value(), object_key);
  EXPECT_TRUE(absl::IsDataLoss(UnwrapObjectKey(key, domain, other_version, wrapped).status()));
  EXPECT_TRUE(absl::IsDataLoss(UnwrapObjectKey(object_key, domain, version, wrapped).status()));
  EXPECT_TRUE(absl::IsDataLoss(UnwrapObjectKey(key, domain, version, {}).status()));
}

TEST(SlabPoolTest, SlabsAreAlignedAndApart) {
  SlabPool pool(3'000'000, 3);
  for (size_t i = 0; i < 3; ++i) {
    MutableBytes slab = pool.slab(i);
    EXPECT_EQ(slab.size(), 3'000'000u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(slab.data()) % 4096, 0u);
    std::fill(slab.begin(), slab.end(), i);
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(pool.slab(i).back(), i);
}

}  // namespace
}  // namespace holdfast::testing
