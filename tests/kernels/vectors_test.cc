// NIST's CAVP vectors for SHA-1 and SHA-256, and RFC 1321's and RFC 8439's, from the files of
// Debian's python3-cryptography-vectors, through the single streams, every lane and whole engines.
#include <filesystem>
#include <fstream>
#include <map>

#include "gtest/gtest.h"
#include "tests/kernels/all_engines.h"
#include "tests/kernels/testing.h"

namespace holdfast::kernels {
namespace {

using testing::Bytes;
using testing::FromHex;
using testing::Hex;

constexpr char kFolder[] = "/usr/lib/python3/dist-packages/cryptography_vectors/";

struct Vector {
  Bytes message;
  std::string digest;
};

// "Len = 8 / Msg = d3 / MD = …" of a CAVP response file; the length is in bits.
std::vector<Vector> ReadVectors(const std::string& name) {
  std::vector<Vector> vectors;
  std::ifstream file(kFolder + name);
  std::string line, message;
  size_t bits = 0;
  while (std::getline(file, line)) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.starts_with("Len = ")) bits = std::stoul(line.substr(6));
    if (line.starts_with("Msg = ")) message = line.substr(6);
    if (!line.starts_with("MD = ")) continue;
    Bytes bytes = FromHex(message);
    bytes.resize(bits / 8);
    vectors.push_back({std::move(bytes), line.substr(5)});
  }
  return vectors;
}

struct File {
  const char* name;
  const char* path;
  size_t least;  // Vectors in it.
  DigestSet digest;
};

class CavpTest : public ::testing::TestWithParam<File> {};

// All messages of a file as one batch, so that they meet in the lanes, and each alone.
TEST_P(CavpTest, EveryEngineGivesTheAnswers) {
  if (!std::filesystem::exists(kFolder)) GTEST_SKIP() << "python3-cryptography-vectors is missing";
  const std::vector<Vector> vectors = ReadVectors(GetParam().path);
  ASSERT_GE(vectors.size(), GetParam().least);
  const EngineOptions options = testing::TestOptions();
  for (const std::unique_ptr<Engine>& engine : testing::AllEngines(options)) {
    SCOPED_TRACE(engine->name());
    std::vector<testing::Object> all;
    for (const Vector& vector : vectors) {
      all.push_back({.bytes = vector.message, .digests = GetParam().digest});
    }
    testing::RunObjects(*engine, options.cut, all);
    for (size_t i = 0; i < vectors.size(); ++i) {
      std::vector<testing::Object> alone = {
          {.bytes = vectors[i].message, .digests = GetParam().digest}};
      if (i % 8 == 0) testing::RunObjects(*engine, options.cut, alone);
      for (const testing::Object& object : {all[i], alone[0]}) {
        if (!object.done) continue;
        const Digests& d = object.result;
        const std::string got = GetParam().digest == kSha256 ? Hex(d.sha256)
                                : GetParam().digest == kSha1 ? Hex(d.sha1)
                                                             : Hex(d.md5);
        ASSERT_EQ(got, vectors[i].digest) << "length " << vectors[i].message.size();
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    File, CavpTest,
    ::testing::Values(File{"Sha256Short", "hashes/SHA2/SHA256ShortMsg.rsp", 65, kSha256},
                      File{"Sha256Long", "hashes/SHA2/SHA256LongMsg.rsp", 64, kSha256},
                      File{"Sha1Short", "hashes/SHA1/SHA1ShortMsg.rsp", 65, kSha1},
                      File{"Sha1Long", "hashes/SHA1/SHA1LongMsg.rsp", 64, kSha1},
                      File{"Md5Rfc1321", "hashes/MD5/rfc-1321.txt", 7, kMd5}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace holdfast::kernels
