// How well the rule cuts: its candidates on data of several kinds under many keys, and what it
// finds again in a second version of a tree, beside FastCDC (Xia et al., USENIX ATC 2016, with
// normalised chunking at level 2).
#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "gtest/gtest.h"
#include "kernels/core/cut.h"
#include "kernels/cpu/code.h"
#include "kernels/cpu/scan.h"
#include "tests/kernels/testing.h"

namespace holdfast::kernels {
namespace {

using testing::Bytes;

constexpr int kKeys = 1000;

// Words of a language that does not exist, in lines.
Bytes Text(size_t size) {
  std::mt19937_64 rng(1);
  std::vector<std::string> words;
  for (int i = 0; i < 4000; ++i) {
    std::string word;
    for (size_t n = 2 + rng() % 9; n != 0; --n) word += "etaoinshrdlucmfwyp"[rng() % 18];
    words.push_back(word);
  }
  Bytes text;
  while (text.size() < size) {
    // Few words are frequent, as in a language.
    const double u = std::uniform_real_distribution<double>(0, 1)(rng);
    const std::string& word = words[static_cast<size_t>(4000 * u * u * u)];
    text.insert(text.end(), word.begin(), word.end());
    text.push_back(rng() % 12 == 0 ? '\n' : ' ');
  }
  text.resize(size);
  return text;
}

Bytes Csv(size_t size) {
  std::mt19937_64 rng(2);
  Bytes csv;
  for (uint64_t row = 0; csv.size() < size; ++row) {
    const std::string line = std::to_string(row) + ",2026-11-" + std::to_string(10 + rng() % 20) +
                             ",case-" + std::to_string(rng() % 500) + ",IMG_" +
                             std::to_string(rng() % 10000) + ".JPG," +
                             std::to_string(rng() % 5'000'000) + ",ok\n";
    csv.insert(csv.end(), line.begin(), line.end());
  }
  csv.resize(size);
  return csv;
}

// Programs and libraries of this machine, one after the other.
Bytes Binaries(size_t size) {
  Bytes bytes;
  std::set<std::filesystem::path> paths;
  for (const char* folder : {"/usr/bin", "/usr/lib/x86_64-linux-gnu"}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      if (entry.is_regular_file(error) && !entry.is_symlink(error)) paths.insert(entry.path());
    }
  }
  for (const auto& path : paths) {
    if (bytes.size() >= size) break;
    std::ifstream file(path, std::ios::binary);
    bytes.insert(bytes.end(), std::istreambuf_iterator<char>(file),
                 std::istreambuf_iterator<char>());
  }
  bytes.resize(std::min(bytes.size(), size));
  return bytes;
}

std::array<uint8_t, 32> KeySeed(uint32_t key) {
  std::array<uint8_t, 32> seed{};
  core::StoreLe32(seed.data(), key);
  return seed;
}

// For 95 % of keys, one position in 512 to 2,048 passes the prefilter.
TEST(CutQualityTest, CandidatesAreAsRareAsTheyShouldBeUnderMostKeys) {
  constexpr size_t kSize = 512 << 10;
  const std::pair<const char*, Bytes> kinds[] = {{"text", Text(kSize)},
                                                 {"CSV", Csv(kSize)},
                                                 {"binaries", Binaries(kSize)},
                                                 {"random", testing::RandomBytes(kSize, 3)}};
  for (const auto& [kind, data] : kinds) {
    ASSERT_EQ(data.size(), kSize) << kind;
    int good = 0;
    for (uint32_t key = 0; key < kKeys; ++key) {
      const CutParams p = MakeCutParams(64 << 10, KeySeed(key));
      size_t passed = 0;
      for (size_t i = 8; i < kSize; ++i) {
        passed += core::cut::Prefilter(p.prefilter_multiplier, p.prefilter_offset,
                                       core::LoadLe64(data.data() + i - 8));
      }
      good += passed > kSize / 2048 && passed < kSize / 512;
    }
    RecordProperty(kind, good);
    std::printf("%s: %d of %d keys within a factor of 2 of 1/1024\n", kind, good, kKeys);
    EXPECT_GE(good, kKeys * 95 / 100) << kind;
  }
}

std::vector<size_t> RuleCuts(const CutParams& p, std::span<const uint8_t> data) {
  static const CpuCode kCode = MakeCpuCode(BestPath(ThisCpu()), ThisCpu(), BestStreamCode());
  std::vector<size_t> lengths;
  for (; !data.empty(); data = data.subspan(lengths.back())) {
    lengths.push_back(*FirstChunk(p, data, /*last=*/true, kCode.find_cut));
  }
  return lengths;
}

// FastCDC with the same least, mean and greatest sizes.
std::vector<size_t> FastCdcCuts(uint32_t avg, const std::array<uint64_t, 256>& gear,
                                std::span<const uint8_t> data) {
  const int bits = std::countr_zero(avg);
  const auto mask = [](int n) { return ~uint64_t{0} << (64 - n); };
  const uint64_t strict = mask(bits + 2), loose = mask(bits - 2);
  std::vector<size_t> lengths;
  for (; !data.empty(); data = data.subspan(lengths.back())) {
    const size_t end = std::min<size_t>(data.size(), 4 * avg);
    size_t i = std::min<size_t>(avg / 4, end);
    uint64_t hash = 0;
    for (; i < end; ++i) {
      hash = (hash << 1) + gear[data[i]];
      if ((hash & (i < avg ? strict : loose)) == 0) break;
    }
    lengths.push_back(i);
  }
  return lengths;
}

template <class Cuts>
uint64_t UniqueBytes(const std::vector<std::span<const uint8_t>>& files, const Cuts& cuts) {
  std::set<std::array<uint8_t, 32>> seen;
  uint64_t unique = 0;
  for (std::span<const uint8_t> file : files) {
    for (const size_t length : cuts(file)) {
      if (seen.insert(Sha256(file.first(length))).second) unique += length;
      file = file.subspan(length);
    }
  }
  return unique;
}

// A tree of binaries, and its next version: a third of the files rebuilt, with stretches changed,
// grown and dropped; the rest as it was.
TEST(CutQualityTest, FindsAsMuchAgainInANewVersionAsFastCdc) {
  const Bytes all = Binaries(64 << 20);
  ASSERT_GT(all.size(), 40u << 20);
  std::mt19937_64 rng(5);
  std::vector<Bytes> changed;
  std::vector<std::span<const uint8_t>> files, next;
  for (size_t at = 0; at < all.size();) {
    const size_t size = std::min<size_t>(all.size() - at, 20'000 + rng() % 3'000'000);
    files.push_back(std::span(all).subspan(at, size));
    at += size;
  }
  changed.reserve(files.size());
  for (const auto& file : files) {
    next.push_back(file);
    if (rng() % 3 != 0) continue;
    Bytes& copy = changed.emplace_back(file.begin(), file.end());
    for (size_t edits = 1 + rng() % 6; edits != 0; --edits) {
      const auto place = copy.begin() + static_cast<ptrdiff_t>(rng() % copy.size());
      const size_t length = std::min<size_t>(1 + rng() % 4000, copy.end() - place);
      const Bytes fresh = testing::RandomBytes(1 + rng() % 4000, rng());
      if (rng() % 2 == 0) copy.erase(place, place + static_cast<ptrdiff_t>(length));
      copy.insert(copy.begin() + static_cast<ptrdiff_t>(rng() % copy.size()), fresh.begin(),
                  fresh.end());
    }
    next.back() = copy;
  }
  std::vector<std::span<const uint8_t>> both = files;
  both.insert(both.end(), next.begin(), next.end());
  // Where the cuts happen to fall moves the result by about a per cent; so several keys and tables.
  for (const uint32_t avg : {64u << 10, 256u << 10}) {
    double ours = 0, fast = 0;
    for (uint32_t key = 0; key < 6; ++key) {
      const CutParams p = MakeCutParams(avg, KeySeed(key));
      std::array<uint64_t, 256> gear;
      for (uint64_t& word : gear) word = rng();
      ours += static_cast<double>(
          UniqueBytes(both, [&](std::span<const uint8_t> f) { return RuleCuts(p, f); }));
      fast += static_cast<double>(
          UniqueBytes(both, [&](std::span<const uint8_t> f) { return FastCdcCuts(avg, gear, f); }));
    }
    std::printf("avg %u KiB: unique bytes %+.2f %% against FastCDC\n", avg >> 10,
                100 * (ours / fast - 1));
    EXPECT_LT(ours, 1.01 * fast) << avg;
  }
}

}  // namespace
}  // namespace holdfast::kernels
