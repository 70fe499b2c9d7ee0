// Golden files: tests/golden/README.md. A test encodes fixed values, compares with the bytes that
// lie in the tree, and decodes those bytes again. With HOLDFAST_WRITE_GOLDEN set the files are
// written instead.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/crypto/check.h"
#include "tests/common/format/counting.h"

namespace holdfast::testing {

inline std::string GoldenPath(const std::string& name) {
  return std::string(HOLDFAST_GOLDEN_DIR "/") + name;
}

inline bool WritingGolden() { return std::getenv("HOLDFAST_WRITE_GOLDEN") != nullptr; }

// The file as it lies in the tree, written first when asked for.
inline std::string GoldenText(const std::string& name, const std::string& text) {
  if (WritingGolden()) std::ofstream(GoldenPath(name), std::ios::binary) << text;
  std::ifstream in(GoldenPath(name), std::ios::binary);
  EXPECT_TRUE(in) << name << " is not there: see tests/golden/README.md";
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// 32 bytes a line, as `xxd -p -c 32` prints and `xxd -p -r` reads.
inline std::string HexLines(Bytes bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 32) {
    text += ToHex(bytes.subspan(i, std::min<size_t>(32, bytes.size() - i))) + "\n";
  }
  return text;
}

inline Buffer FromHexText(const std::string& text) {
  std::string digits;
  for (const char c : text) {
    if (c != '\n') digits.push_back(c);
  }
  Buffer bytes(digits.size() / 2);
  EXPECT_TRUE(FromHex(digits, bytes));
  return bytes;
}

// Compares `encoded` with tests/golden/<name>.hex and returns the file's bytes.
inline Buffer Golden(const std::string& name, Bytes encoded) {
  const std::string text = GoldenText(name + ".hex", HexLines(encoded));
  EXPECT_EQ(text, HexLines(encoded)) << name;
  return FromHexText(text);
}

inline Buffer Hex(std::string_view digits) { return FromHexText(std::string(digits)); }

// Every shorter input is refused.
template <class Decode>
void ExpectTruncationsRefused(Bytes bytes, const Decode& decode) {
  for (size_t n = 0; n < bytes.size(); ++n) {
    // A copy of its own, so that a sanitizer sees a read past its end.
    const Buffer shorter(bytes.begin(), bytes.begin() + n);
    ASSERT_FALSE(decode(Bytes(shorter)).ok()) << "cut to " << n << " bytes";
  }
}

// Every input with one byte changed is refused.
template <class Decode>
void ExpectFlipsRefused(Bytes bytes, const Decode& decode) {
  Buffer damaged(bytes.begin(), bytes.end());
  for (size_t i = 0; i < damaged.size(); ++i) {
    for (const uint8_t flip : {0x01, 0x80, 0xff}) {
      damaged[i] ^= flip;
      ASSERT_FALSE(decode(Bytes(damaged)).ok()) << "byte " << i << " flipped by " << int{flip};
      damaged[i] ^= flip;
    }
  }
}

// Changed inputs may be taken or refused, but nothing worse: no crash, no huge allocation.
template <class Decode>
void ExpectChangesSurvived(Bytes bytes, const Decode& decode) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      Buffer changed(bytes.begin(), bytes.end());
      changed[i] = static_cast<uint8_t>(value);
      decode(Bytes(changed)).status().IgnoreError();
      const size_t rest = std::min<size_t>(changed.size() - i, 8);
      std::fill_n(changed.begin() + i, rest, static_cast<uint8_t>(value));
      decode(Bytes(changed)).status().IgnoreError();
    }
  }
}

// Writes the CRC-32C of everything before them into the last four bytes.
inline void FixCrc(Buffer& bytes) {
  const uint32_t crc = Crc32c(Bytes(bytes).first(bytes.size() - 4));
  for (int i = 0; i < 4; ++i) bytes[bytes.size() - 4 + i] = static_cast<uint8_t>(crc >> (8 * i));
}

inline void ExpectRefusedByName(const Status& status, std::string_view words) {
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_NE(status.ToString().find(words), std::string::npos) << status << " lacks: " << words;
  EXPECT_NE(status.ToString().find("is not known to this release"), std::string::npos) << status;
}

}  // namespace holdfast::testing
