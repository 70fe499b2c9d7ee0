// What the tables of parsers share.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "common/base/coding.h"
#include "common/base/status.h"
#include "common/crypto/aead.h"
#include "common/crypto/check.h"
#include "tests/common/format/counting.h"
#include "tests/fuzz/parsers.h"

namespace holdfast::fuzz {

// The tables, by folder of what they are about.
std::vector<Parser> SegmentParsers();
std::vector<Parser> NodeParsers();
std::vector<Parser> ManifestParsers();
std::vector<Parser> CatalogueParsers();
std::vector<Parser> ClusterParsers();
std::vector<Parser> FileParsers();
std::vector<Parser> KvParsers();
std::vector<Parser> WireParsers();

inline void Must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}
inline bool Same(Bytes a, Bytes b) { return std::ranges::equal(a, b); }

// tests/golden/<name>; *.hex as the bytes.
Buffer GoldenFile(const std::string& name);
// Seeds that are golden files as they are, or as `make` has them.
std::function<std::vector<Buffer>()> Golden(std::vector<std::string> names,
                                            Buffer (*make)(Bytes) = nullptr);

inline Buffer ToBuffer(Bytes bytes) { return Buffer(bytes.begin(), bytes.end()); }
inline void Append(Buffer& to, Bytes bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }
inline Bytes UpTo(Reader& reader, size_t size) {
  return reader.Raw(std::min(size, reader.rest().size()));
}

// Writes the CRC-32C of all before them into the last four bytes.
inline void FixCrc(MutableBytes bytes) {
  const uint32_t crc = Crc32c(bytes.first(bytes.size() - 4));
  for (int i = 0; i < 4; ++i) bytes[bytes.size() - 4 + i] = static_cast<uint8_t>(crc >> (8 * i));
}

using testing::Counting;
using testing::CountingArray;

inline const AeadNonce& FixedNonce() {
  static const AeadNonce nonce = CountingArray<12>(0x01);
  return nonce;
}

}  // namespace holdfast::fuzz
