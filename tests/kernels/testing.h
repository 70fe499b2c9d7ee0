// What the kernels' tests share: paint, oracles that do not use the code under test, and a driver
// that feeds objects to an engine in slices.
#pragma once

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <future>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/engine.h"

namespace holdfast::kernels::testing {

using Bytes = std::vector<uint8_t>;

// 0, 1, … 250, 0, …: no power of two divides the period, so misplaced blocks show.
inline Bytes Paint(size_t size, size_t from = 0) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>((from + i) % 251);
  return bytes;
}

inline Bytes RandomBytes(size_t size, uint64_t seed) {
  Bytes bytes(size);
  std::mt19937_64 rng(seed);
  for (size_t i = 0; i < size; i += 8) {
    const uint64_t word = rng();
    for (size_t j = i; j < std::min(size, i + 8); ++j) {
      bytes[j] = static_cast<uint8_t>(word >> (8 * (j - i)));
    }
  }
  return bytes;
}

inline std::string Hex(std::span<const uint8_t> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

inline Bytes FromHex(std::string_view text) {
  Bytes bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoul(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

// A digest by OpenSSL's EVP, which shares no line with the engine's use of OpenSSL.
inline std::string EvpHex(const char* algorithm, std::span<const uint8_t> data) {
  std::array<uint8_t, EVP_MAX_MD_SIZE> digest;
  size_t size = 0;
  EXPECT_EQ(
      EVP_Q_digest(nullptr, algorithm, nullptr, data.data(), data.size(), digest.data(), &size), 1);
  return Hex(std::span(digest).first(size));
}

inline std::string EvpPoly1305Hex(std::span<const uint8_t> key, std::span<const uint8_t> data) {
  std::array<uint8_t, 16> tag;
  size_t size = 0;
  EXPECT_NE(EVP_Q_mac(nullptr, "POLY1305", nullptr, nullptr, nullptr, key.data(), key.size(),
                      data.data(), data.size(), tag.data(), tag.size(), &size),
            nullptr);
  return Hex(std::span(tag).first(size));
}

// The cut rule as docs/formats/cut-rule.md has it, one position at a time.
inline bool NaivePasses(const CutParams& p, const uint8_t* end, uint64_t distance) {
  static_assert(std::endian::native == std::endian::little);
  const auto word = [&](int j) {
    uint64_t w;
    std::memcpy(&w, end - 64 + 8 * j, sizeof w);  // Byte by byte it takes tsan half an hour.
    return w;
  };
  if (p.prefilter_multiplier * word(7) + p.prefilter_offset >= uint64_t{1} << 54) return false;
  uint64_t h = p.confirm_seed;
  for (int j = 0; j < 8; ++j) {
    h = (h ^ word(j)) * p.confirm_multipliers[j];
    h ^= h >> 32;
  }
  int log2_avg = 0;
  while (uint64_t{1} << log2_avg < p.avg_size) ++log2_avg;
  const int bits = (distance < p.avg_size ? 72 : 76) - log2_avg;
  return (h * p.final_multiplier) >> bits == 0;
}

inline std::vector<size_t> NaiveCuts(const CutParams& p, std::span<const uint8_t> object) {
  std::vector<size_t> lengths;
  for (size_t start = 0; start < object.size();) {
    const size_t left = object.size() - start;
    const size_t avg = p.avg_size;
    size_t length = std::min(left, 4 * avg);
    for (size_t d = avg / 4; d < length; ++d) {
      if (NaivePasses(p, object.data() + start + d, d)) {
        length = d;
        break;
      }
    }
    lengths.push_back(length);
    start += length;
  }
  return lengths;
}

inline Status SubmitAndWait(Engine& engine, Batch& batch) {
  std::promise<Status> promise;
  engine.Submit(batch, [&](Status status) { promise.set_value(status); });
  return promise.get_future().get();
}

// An object on its way through an engine.
struct Object {
  std::span<const uint8_t> bytes;
  uint32_t digests = kAllDigests;
  size_t at = 0;
  bool done = false;
  DigestState state{};
  std::vector<Chunk> chunks{};
  Digests result{};
};

// Feeds the objects, all side by side, each call one slice of each; a slice holds max_size plus
// what `rng` draws, up to `spread` bytes more. With no rng, every object is one slice.
inline void RunObjects(Engine& engine, const CutParams& cut, std::vector<Object>& objects,
                       std::mt19937_64* rng = nullptr, size_t spread = 0) {
  for (Object& object : objects) object.state.Reset();
  while (true) {
    Batch batch;
    std::vector<Object*> owners;
    for (Object& object : objects) {
      if (object.done) continue;
      const std::span<const uint8_t> rest = object.bytes.subspan(object.at);
      size_t size = rest.size();
      if (rng != nullptr) size = std::min<size_t>(size, cut.max_size() + (*rng)() % (spread + 1));
      // A slice that holds the rest but does not know it comes before an empty last one.
      object.done =
          size == rest.size() && (rng == nullptr || size < cut.max_size() || (*rng)() % 2 == 0);
      batch.messages.push_back({.data = rest.first(size),
                                .last = object.done,
                                .digests = object.digests,
                                .state = &object.state});
      owners.push_back(&object);
    }
    if (batch.messages.empty()) return;
    ASSERT_EQ(SubmitAndWait(engine, batch), Status::kOk);
    for (size_t i = 0; i < owners.size(); ++i) {
      const Message& message = batch.messages[i];
      Object& object = *owners[i];
      ASSERT_TRUE(message.consumed > 0 || message.last);
      object.at += message.consumed;
      object.chunks.insert(object.chunks.end(), message.chunks.begin(), message.chunks.end());
      object.result = message.result;
    }
  }
}

// Compares what the engine said about an object with the oracles.
inline void ExpectRight(const Object& object, const EngineOptions& options) {
  ASSERT_EQ(object.at, object.bytes.size());
  const std::vector<size_t> cuts = NaiveCuts(options.cut, object.bytes);
  ASSERT_EQ(object.chunks.size(), cuts.size());
  size_t at = 0;
  for (size_t i = 0; i < cuts.size(); ++i) {
    ASSERT_EQ(object.chunks[i].length, cuts[i]) << "chunk " << i;
    const std::span<const uint8_t> bytes = object.bytes.subspan(at, cuts[i]);
    ASSERT_EQ(Hex(object.chunks[i].sha256), EvpHex("SHA256", bytes)) << "chunk " << i;
    ASSERT_EQ(Hex(object.chunks[i].poly1305), EvpPoly1305Hex(options.poly1305_key, bytes));
    at += cuts[i];
  }
  const auto expected = [&](DigestSet bit, const char* name, size_t size) {
    return object.digests & bit ? EvpHex(name, object.bytes) : std::string(2 * size, '0');
  };
  EXPECT_EQ(Hex(object.result.sha256), expected(kSha256, "SHA256", 32));
  EXPECT_EQ(Hex(object.result.sha1), expected(kSha1, "SHA1", 20));
  EXPECT_EQ(Hex(object.result.md5), expected(kMd5, "MD5", 16));
}

inline std::array<uint8_t, 32> Seed(uint8_t first) {
  std::array<uint8_t, 32> seed;
  for (size_t i = 0; i < seed.size(); ++i) seed[i] = static_cast<uint8_t>(first + i);
  return seed;
}

inline EngineOptions TestOptions(uint32_t avg_size = 64 * 1024) {
  return {.cut = MakeCutParams(avg_size, Seed(0)), .poly1305_key = Seed(100)};
}

}  // namespace holdfast::kernels::testing
