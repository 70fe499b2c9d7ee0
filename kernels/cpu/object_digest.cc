#include "kernels/cpu/object_digest.h"

#include <algorithm>
#include <type_traits>

#include "kernels/core/md5.h"
#include "kernels/core/sha1.h"
#include "kernels/core/sha256.h"

namespace holdfast::kernels {

BlockPlan::BlockPlan(DigestState& state, std::span<const uint8_t> data, bool last) {
  size_t tail_size = state.length % 64;
  state.length += data.size();
  if (tail_size != 0) {
    const size_t fill = std::min(64 - tail_size, data.size());
    std::copy_n(data.data(), fill, state.tail.data() + tail_size);
    data = data.subspan(fill);
    tail_size += fill;
    if (tail_size == 64) {
      head_ = state.tail;
      head_blocks_ = 1;
      tail_size = 0;
    }
  }
  // From here on either the slice is used up, or there is no tail.
  body_ = {data.data(), data.size() / 64};
  const std::span<const uint8_t> rest = data.subspan(body_.blocks * 64);
  std::copy_n(rest.data(), rest.size(), state.tail.data() + tail_size);
  if (last) MakeEnding(state.tail.data(), tail_size + rest.size(), state.length);
}

void BlockPlan::MakeEnding(const uint8_t* tail, size_t tail_size, uint64_t length) {
  ending_blocks_ = tail_size < 56 ? 1 : 2;
  ending_be_.fill(0);
  std::copy_n(tail, tail_size, ending_be_.data());
  ending_be_[tail_size] = 0x80;
  ending_le_ = ending_be_;
  core::StoreBe64(ending_be_.data() + ending_blocks_ * 64 - 8, length * 8);
  core::StoreLe64(ending_le_.data() + ending_blocks_ * 64 - 8, length * 8);
}

std::array<BlockRun, 3> BlockPlan::runs(bool big_endian) const {
  const auto& ending = big_endian ? ending_be_ : ending_le_;
  return {BlockRun{head_.data(), head_blocks_}, body_, BlockRun{ending.data(), ending_blocks_}};
}

void RunPlan(const StreamCode& code, const BlockPlan& plan, uint32_t digests, DigestState& state) {
  const auto run = [&](StreamCode::BlockFunction function, uint32_t* words, bool big_endian) {
    for (const BlockRun& r : plan.runs(big_endian)) {
      if (r.blocks != 0) function(words, r.data, r.blocks);
    }
  };
  if (digests & kSha256) run(code.sha256, state.sha256.data(), core::sha256::kBigEndian);
  if (digests & kSha1) run(code.sha1, state.sha1.data(), core::sha1::kBigEndian);
  if (digests & kMd5) run(code.md5, state.md5.data(), core::md5::kBigEndian);
}

Digests DigestBytes(const DigestState& state, uint32_t digests) {
  Digests result;
  for (int i = 0; i < 8 && (digests & kSha256); ++i) {
    core::StoreBe32(result.sha256.data() + 4 * i, state.sha256[i]);
  }
  for (int i = 0; i < 5 && (digests & kSha1); ++i) {
    core::StoreBe32(result.sha1.data() + 4 * i, state.sha1[i]);
  }
  for (int i = 0; i < 4 && (digests & kMd5); ++i) {
    core::StoreLe32(result.md5.data() + 4 * i, state.md5[i]);
  }
  return result;
}

std::array<uint8_t, 32> Sha256With(const StreamCode& code, std::span<const uint8_t> data) {
  DigestState state;
  state.Reset();
  const BlockPlan plan(state, data, /*last=*/true);
  RunPlan(code, plan, kSha256, state);
  return DigestBytes(state, kSha256).sha256;
}

static_assert(std::is_trivially_copyable_v<DigestState>);

void DigestState::Reset() {
  *this = DigestState{};
  core::sha256::Init(sha256.data());
  core::sha1::Init(sha1.data());
  core::md5::Init(md5.data());
}

void Update(DigestState& state, uint32_t digests, std::span<const uint8_t> data) {
  const BlockPlan plan(state, data, /*last=*/false);
  RunPlan(BestStreamCode(), plan, digests, state);
}

Digests Finish(const DigestState& state, uint32_t digests) {
  DigestState end = state;
  const BlockPlan plan(end, {}, /*last=*/true);
  RunPlan(BestStreamCode(), plan, digests, end);
  return DigestBytes(end, digests);
}

std::array<uint8_t, 32> Sha256(std::span<const uint8_t> data) {
  return Sha256With(BestStreamCode(), data);
}

std::array<uint8_t, 16> Poly1305(const std::array<uint8_t, 32>& key,
                                 std::span<const uint8_t> data) {
  return BestStreamCode().poly1305(key, data);
}

}  // namespace holdfast::kernels
