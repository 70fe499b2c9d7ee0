// Files that are ingested once more: what is the same is not digested, and what is not gets the
// digests of a second pass.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/rpc/methods.h"
#include "tests/client/ingest_testing.h"

namespace holdfast::testing {
namespace {

using ::testing::HasSubstr;

constexpr size_t kLong = 3'000'000;  // Several slices of a slab of a MiB.

// Counts the bytes of which it is asked for object digests; these may come out wrong.
class CountingEngine : public kernels::Engine {
 public:
  explicit CountingEngine(const kernels::EngineOptions& options)
      : engine_(kernels::MakePortableEngine(options)) {}
  std::string_view name() const override { return "counting"; }
  void Submit(kernels::Batch& batch, std::function<void(kernels::Status)> done) override {
    engine_->Submit(batch, [&](kernels::Status status) {
      for (kernels::Message& message : batch.messages) {
        if (message.digests != 0) digested += message.consumed;
        message.result.sha256[0] ^= wrong;
      }
      done(status);
    });
  }
  uint64_t digested = 0;
  bool wrong = false;

 private:
  std::unique_ptr<kernels::Engine> engine_;
};

class IngestAgainTest : public ::testing::Test {
 protected:
  IngestAgainTest() : rig_({}) {
    auto engine = std::make_unique<CountingEngine>(rig_.vault().engine_options());
    engine_ = engine.get();
    rig_.UseEngine(std::move(engine));
    Intercept(nullptr);
  }

  IngestSummary Run(Source& source) {
    engine_->digested = committed_ = 0;
    rig_.coordinator().requests.clear();
    const auto summary = rig_.Run(source, {.slab_bytes = 1 << 20, .slabs_bytes = 2 << 20});
    EXPECT_TRUE(summary.ok()) << summary.status();
    return summary.ok() ? *summary : IngestSummary{};
  }

  // Short files, of one chunk and of several, an empty one, and two long ones.
  static void Fill(MemorySource& source) {
    for (int i = 0; i < 20; ++i) {
      source.AddFile("f" + std::to_string(i), NoiseBytes(i, 1000 + 20'000 * i));
    }
    source.AddFile("empty", "");
    source.AddFile("long", NoiseBytes(30, kLong));
    source.AddFile("second", NoiseBytes(31, kLong));
  }

  // What else the coordinator answers otherwise.
  void Intercept(Interceptor::Hook answer) {
    rig_.coordinator().hook = [this, answer](RpcMessage& request, ReplyFn& reply) {
      if (request.method == rpc::kCommit) {
        committed_ += ParseHead<proto::CommitRequest>(request)->manifests_size();
      }
      return answer && answer(request, reply);
    };
  }

  // What the manifest says of the content is what the content is.
  void ExpectStored(const std::string& name, const std::string& content) {
    const auto opened = rig_.Opened(name);
    ASSERT_TRUE(opened.ok()) << opened.status();
    kernels::DigestState state{};
    state.Reset();
    kernels::Update(state, kernels::kAllDigests, AsBytes(content));
    const kernels::Digests digests = kernels::Finish(state, kernels::kAllDigests);
    EXPECT_EQ(opened->sealed.size, content.size());
    EXPECT_EQ(opened->sealed.sha256, digests.sha256);
    EXPECT_EQ(*opened->sealed.sha1, digests.sha1);
    EXPECT_EQ(*opened->sealed.md5, digests.md5);
    EXPECT_TRUE(rig_.Read(name) == content);
  }

  IngestRig rig_;
  CountingEngine* engine_;
  uint64_t committed_ = 0;  // Objects in commits of the last run.
};

TEST_F(IngestAgainTest, WhatIsTheSameIsNotDigested) {
  VersionId before;
  for (int run = 0; run < 2; ++run) {
    MemorySource source;
    Fill(source);
    const IngestSummary s = Run(source);
    EXPECT_EQ(s.files, 23u);
    EXPECT_EQ(s.errors, 0u);
    EXPECT_EQ(s.unchanged, run == 0 ? 0u : 23u);
    EXPECT_EQ(s.duplicates, run == 0 ? 0u : 22u);  // An empty file has no chunk.
    EXPECT_EQ(engine_->digested, run == 0 ? s.bytes : 0u);
    EXPECT_EQ(committed_, run == 0 ? 23u : 0u);
    const VersionId version = rig_.Opened("long")->info.manifest.version;
    if (run == 1) {
      EXPECT_EQ(version, before);
    }
    before = version;
  }
}

TEST_F(IngestAgainTest, WhatIsAnotherIsDigestedInASecondPass) {
  MemorySource first;
  Fill(first);
  Run(first);
  std::string f7 = NoiseBytes(7, 141'000), end = NoiseBytes(30, kLong);
  f7[100'000] ^= 1;
  end.back() ^= 1;
  const std::string shorter = NoiseBytes(31, kLong - 1'000'000);
  MemorySource source;
  source.AddFile("f6", NoiseBytes(6, 121'000));
  source.AddFile("f7", f7);
  source.AddFile("long", end);
  source.AddFile("second", shorter);
  source.AddFile("empty", "no more");
  const IngestSummary s = Run(source);
  EXPECT_EQ(s.errors, 0u);
  EXPECT_EQ(s.unchanged, 1u);
  EXPECT_EQ(engine_->digested, f7.size() + end.size() + shorter.size() + 7);
  ExpectStored("f7", f7);
  ExpectStored("long", end);
  ExpectStored("second", shorter);
  ExpectStored("empty", "no more");
  EXPECT_EQ(rig_.Opened("f6")->info.row.version_number, 1u);
  EXPECT_EQ(rig_.Opened("long")->info.row.version_number, 2u);
}

TEST_F(IngestAgainTest, ALongFileMustBeTheSameInItsSecondPass) {
  for (const bool restamped : {false, true}) {
    MemorySource first;
    first.AddFile("f", NoiseBytes(1, kLong));
    Run(first);
    MemorySource source;
    source.AddFile("f", NoiseBytes(2, kLong)).after_read = [&](MemorySource::Item& item,
                                                               uint64_t end) {
      if (end != kLong) return;
      if (restamped) {
        ++item.entry.stamp.ctime_nanos;
      } else {
        item.content = NoiseBytes(3, kLong);
      }
    };
    const IngestSummary s = Run(source);
    EXPECT_EQ(s.errors, 1u);
    EXPECT_THAT(rig_.seen().errors["f"].ToString(), HasSubstr("changed while it was read"));
    ExpectStored("f", NoiseBytes(1, kLong));
  }
}

// Its chunks count as those of the version only where they are.
TEST_F(IngestAgainTest, AChunkThatWasLostIsPutAndTheObjectCommitted) {
  for (const size_t size : {size_t{30'000}, kLong}) {
    const std::string name = std::to_string(size);
    MemorySource first;
    first.AddFile(name, NoiseBytes(size, size));
    Run(first);
    const ChunkRef chunk = rig_.Opened(name)->info.manifest.chunks[0];
    proto::NodeQuarantineRequest request;
    request.set_id(ToString(chunk.id.bytes()));
    request.set_checksum(rig_.Stat(chunk.id)[0].checksum());
    ASSERT_TRUE(rig_.Ask(0, MakeMessage(rpc::kNodeQuarantine, request)).ok());
    MemorySource again;
    again.AddFile(name, NoiseBytes(size, size));
    const IngestSummary s = Run(again);
    EXPECT_EQ(s.unchanged, 1u);
    EXPECT_EQ(engine_->digested, size);
    EXPECT_EQ(committed_, 1u);
    EXPECT_EQ(rig_.Stat(chunk.id)[0].status(), proto::PRESENT);
  }
}

// Nor do they where they are by a map that is not the coordinator's: a commit makes sure of them.
TEST_F(IngestAgainTest, ChunksFoundByAnOlderMapAreNotEnough) {
  for (const bool answers : {true, false}) {
    SCOPED_TRACE(answers);
    const std::string name = std::to_string(answers);
    MemorySource first;
    first.AddFile(name, NoiseBytes(answers, 30'000));
    Run(first);
    Intercept([&](RpcMessage& request, ReplyFn& reply) {
      if (request.method != rpc::kFindContent) return false;
      if (ParseHead<proto::FindContentRequest>(request)->names_size() > 0) return false;
      proto::FindContentReply newer;
      newer.set_map_version(rig_.map().version + 1);
      if (answers) {
        reply(MakeMessage(rpc::kFindContent, newer));
      } else {
        reply(absl::DataLossError("a row is damaged"));
      }
      return true;
    });
    MemorySource again;
    again.AddFile(name, NoiseBytes(answers, 30'000));
    const IngestSummary s = Run(again);
    EXPECT_EQ(s.unchanged, 1u);
    EXPECT_EQ(s.errors, 0u);
    EXPECT_EQ(engine_->digested, 30'000u);
    EXPECT_EQ(committed_, 1u);
    Intercept(nullptr);
  }
}

// What verify calls damaged, because of a digest that was wrong from the first, is made good.
TEST_F(IngestAgainTest, AWrongDigestIsNotTakenForTheContents) {
  for (const bool wrong : {true, false}) {
    MemorySource source;
    source.AddFile("f", NoiseBytes(1, 1000));
    engine_->wrong = wrong;
    EXPECT_EQ(Run(source).unchanged, 0u);
  }
  ExpectStored("f", NoiseBytes(1, 1000));
  EXPECT_EQ(rig_.Opened("f")->info.row.version_number, 2u);
}

TEST_F(IngestAgainTest, AnotherTypeIsAnotherObject) {
  MemorySource first;
  first.AddFile("a", "content");
  first.AddFile("b", "content");
  Run(first);
  MemorySource source;
  source.AddFile("a", "content");
  source.AddHardLink("b", "a", "content");
  EXPECT_EQ(Run(source).unchanged, 1u);
  EXPECT_EQ(rig_.Opened("b")->info.manifest.type, ObjectType::kHardLink);
}

// Where nothing is as it was, it is not read, or digested, twice for long.
TEST_F(IngestAgainTest, NobodyIsAskedWhereAllHasChanged) {
  constexpr int kFiles = 300;
  for (int run = 0; run < 2; ++run) {
    MemorySource source;
    for (int i = 0; i < kFiles; ++i) {
      source.AddFile(std::to_string(i), NoiseBytes(run * 1000 + i, 20'000));
    }
    const IngestSummary s = Run(source);
    EXPECT_EQ(s.unchanged, 0u);
    EXPECT_EQ(engine_->digested, s.bytes);
    const uint64_t asked = rig_.coordinator().requests[rpc::kFindContent];
    EXPECT_GT(asked, 0u);
    if (run == 1) {
      EXPECT_LT(asked, 8u);  // Names, and after them the map, of the first slabs.
    }
  }
}

TEST_F(IngestAgainTest, ACoordinatorThatCannotSayIsDoneWithout) {
  rig_.coordinator().hook = [](RpcMessage& request, ReplyFn& reply) {
    if (request.method != rpc::kFindContent) return false;
    reply(absl::DataLossError("a row is damaged"));
    return true;
  };
  for (int run = 0; run < 2; ++run) {
    MemorySource source;
    Fill(source);
    EXPECT_EQ(Run(source).unchanged, run == 0 ? 0u : 23u);
  }
  EXPECT_GT(engine_->digested, 0u);
}

}  // namespace
}  // namespace holdfast::testing
