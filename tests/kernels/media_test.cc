// Cuts and digests of real media: JPEG and MP4 files that ffmpeg makes, through every backend,
// under any slicing and packing.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "gtest/gtest.h"
#include "tests/kernels/all_engines.h"
#include "tests/kernels/testing.h"

namespace holdfast::kernels {
namespace {

using testing::Bytes;
using testing::Object;

class MediaTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (std::system("ffmpeg -version >/dev/null 2>&1") != 0) return;
    std::string folder = ::testing::TempDir() + "holdfast-media.XXXXXX";
    if (mkdtemp(folder.data()) == nullptr) return;
    const std::string command =
        std::string("cd ") + folder +
        " && ffmpeg -v error -f lavfi -i testsrc2=size=1280x720:rate=25:duration=1"
        " -vf noise=alls=30:allf=t -c:v mpeg4 -q:v 2 a.mp4"
        " && ffmpeg -v error -f lavfi -i testsrc2=size=1024x768:rate=2:duration=2"
        " -vf noise=alls=40:allf=t -q:v 2 %d.jpg";
    if (std::system(command.c_str()) == 0) {
      for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        std::ifstream file(entry.path(), std::ios::binary);
        files().emplace_back(std::istreambuf_iterator<char>(file),
                             std::istreambuf_iterator<char>());
      }
    }
    std::filesystem::remove_all(folder);
  }
  static void TearDownTestSuite() { files().clear(); }

  void SetUp() override {
    if (files().empty()) GTEST_SKIP() << "ffmpeg is missing";
  }

  static std::vector<Bytes>& files() {
    static auto* const kFiles = new std::vector<Bytes>;
    return *kFiles;
  }
};

TEST_F(MediaTest, EveryBackendAgreesUnderAnySlicing) {
  ASSERT_GE(files().size(), 5u);
  const EngineOptions options = testing::TestOptions();
  const std::vector<std::unique_ptr<Engine>> engines = testing::AllEngines(options);
  size_t chunks = 0;
  for (size_t e = 0; e < engines.size(); ++e) {
    for (uint64_t seed = 0; seed < 3; ++seed) {
      SCOPED_TRACE(::testing::Message() << engines[e]->name() << " seed " << seed);
      std::mt19937_64 rng(seed);
      std::vector<Object> objects;
      for (const Bytes& file : files()) objects.push_back({.bytes = file});
      std::shuffle(objects.begin(), objects.end(), rng);
      testing::RunObjects(*engines[e], options.cut, objects, seed == 0 ? nullptr : &rng, 500'000);
      for (const Object& object : objects) testing::ExpectRight(object, options);
      for (const Object& object : objects) chunks += object.chunks.size();
    }
  }
  EXPECT_GT(chunks, 6 * engines.size() * files().size()) << "files too small to be cut";
}

}  // namespace
}  // namespace holdfast::kernels
