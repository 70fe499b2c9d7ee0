// Ingest against the real coordinator and nodes, in the simulator.
#include "client/ingest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/format/segment_format.h"
#include "common/rpc/methods.h"
#include "tests/client/ingest_testing.h"
#include "tests/common/crypto/sealed.h"

namespace holdfast::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

IngestSummary MustRun(IngestRig& rig, Source& source, IngestOptions options = {}) {
  StatusOr<IngestSummary> summary = rig.Run(source, std::move(options));
  EXPECT_TRUE(summary.ok()) << summary.status();
  return summary.ok() ? *summary : IngestSummary{};
}

TEST(IngestTest, AReadersKeyStoresNothing) {
  IngestRig rig({});
  MemorySource source;
  source.AddFile("a", "x");
  SimRng rng(1);
  Vault vault(rig.transport(), *MakeReader(rig.key(), /*ingests=*/false), rig.vault().params(),
              rig.clock(), rng);
  const Status status =
      Ingest(vault, rig.engine(), source, {.collection = "c"}, rig.seen(), nullptr).status();
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_THAT(rig.coordinator().requests, IsEmpty());
}

TEST(IngestTest, StoresWhatReadsBack) {
  IngestRig rig({});
  MemorySource source;
  const std::string noise = NoiseBytes(1, 3'000'000), text = TextBytes(2, 900'000);
  source.AddDirectory("d");
  source.AddFile("d/noise", noise);
  source.AddFile("d/text", text);
  source.AddFile("empty", "");
  source.AddFile("one", "x");
  source.AddSymlink("link", "d/text");
  source.AddHardLink("again", "one", "x");
  source.AddSpecial("fifo");
  source.AddError("closed", absl::PermissionDeniedError("open: Permission denied"));
  const IngestSummary s = MustRun(rig, source);
  EXPECT_EQ(s.files, 5u);
  EXPECT_EQ(s.directories, 1u);
  EXPECT_EQ(s.symlinks, 1u);
  EXPECT_EQ(s.special, 1u);
  EXPECT_EQ(s.errors, 1u);
  EXPECT_EQ(s.bytes, noise.size() + text.size() + 2);
  EXPECT_EQ(s.duplicates, 1u);  // The hard link.
  EXPECT_LT(s.stored_bytes, noise.size() + text.size() / 2);
  EXPECT_GT(s.stored_bytes, noise.size());
  EXPECT_THAT(rig.seen().skipped, ElementsAre("fifo"));
  ASSERT_EQ(rig.seen().errors.size(), 1u);
  EXPECT_TRUE(absl::IsPermissionDenied(rig.seen().errors["closed"]));
  EXPECT_TRUE(rig.Read("d/noise") == noise);
  EXPECT_TRUE(rig.Read("d/text") == text);
  EXPECT_EQ(rig.Read("empty"), "");
  EXPECT_EQ(rig.Read("again"), "x");
  EXPECT_EQ(rig.Opened("link")->sealed.link, "d/text");
  EXPECT_EQ(rig.Opened("again")->sealed.link, "one");
  EXPECT_EQ(rig.Opened("d")->info.manifest.type, ObjectType::kDirectory);
  EXPECT_EQ(rig.Opened("d/text")->sealed.attributes.mode, 0644u);
  EXPECT_EQ(rig.progress().files_found, 5u);
  EXPECT_EQ(rig.progress().files_done, 5u + 1);  // What failed is done with, too.
  EXPECT_EQ(rig.progress().bytes_found, s.bytes);
  EXPECT_TRUE(rig.progress().walk_done);
}

TEST(IngestTest, DigestsAreThoseOfStandardTools) {
  IngestRig rig({});
  MemorySource source;
  source.AddFile("abc", "abc");
  source.AddFile("empty", "");
  MustRun(rig, source);
  const SealedManifest abc = rig.Opened("abc")->sealed;
  EXPECT_EQ(ToHex(abc.sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(ToHex(*abc.sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(ToHex(*abc.md5), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(ToHex(*rig.Opened("empty")->sealed.md5), "d41d8cd98f00b204e9800998ecf8427e");
  MemorySource only_sha256;
  only_sha256.AddFile("abc", "abc2");
  MustRun(rig, only_sha256, {.digests = 0});
  EXPECT_FALSE(rig.Opened("abc")->sealed.md5.has_value());
  EXPECT_FALSE(rig.Opened("abc")->info.manifest.tag_sha1.has_value());
}

TEST(IngestTest, ASecondIngestStoresNothing) {
  IngestRig rig({});
  for (int run = 0; run < 2; ++run) {
    MemorySource source;
    for (int i = 0; i < 50; ++i) source.AddFile("f" + std::to_string(i), NoiseBytes(i, 20'000));
    source.AddFile("long", NoiseBytes(99, 2'000'000));
    source.AddDirectory("d");
    source.AddSymlink("l", "f0");
    const IngestSummary s = MustRun(rig, source);
    EXPECT_EQ(s.files, 51u);
    EXPECT_EQ(s.unchanged, run == 0 ? 0u : 53u);
    EXPECT_EQ(s.duplicates, run == 0 ? 0u : 51u);
    EXPECT_EQ(s.duplicate_chunks, run == 0 ? 0u : s.chunks);
    EXPECT_EQ(s.stored_bytes > 0, run == 0);
    EXPECT_EQ(rig.seen().objects["f7"], run == 0 ? ObjectState::kStored : ObjectState::kUnchanged);
  }
}

TEST(IngestTest, EqualContentIsStoredOnce) {
  IngestRig rig({});
  MemorySource source;
  const std::string content = NoiseBytes(1, 100'000);
  for (int i = 0; i < 40; ++i) source.AddFile("copy" + std::to_string(i), content);
  source.AddFile("zeros", std::string(5'000'000, '\0'));
  const IngestSummary s = MustRun(rig, source);
  EXPECT_EQ(s.duplicates, 39u);
  EXPECT_GE(s.duplicate_bytes, 39 * content.size() + 4'500'000);
  EXPECT_EQ(rig.progress().duplicate_bytes, s.duplicate_bytes);
  EXPECT_LT(s.stored_bytes, content.size() + 20'000);
  EXPECT_EQ(rig.Read("copy39"), content);
  EXPECT_TRUE(rig.Read("zeros") == std::string(5'000'000, '\0'));
}

TEST(IngestTest, ANewVersionUnderAnOldName) {
  IngestRig rig({});
  for (const std::string content : {"first", "second"}) {
    MemorySource source;
    source.AddFile("f", content);
    MustRun(rig, source);
    EXPECT_EQ(rig.Read("f"), content);
  }
  EXPECT_EQ(rig.Opened("f")->info.row.version_number, 2u);
}

// What a node is asked to keep, in order. Commit records are left out: their signatures have nonces
// of OpenSSL's (tests/sim fixes those too and compares whole disks).
std::vector<std::string> PutsOfOneRun(uint64_t seed) {
  IngestRig rig({.seed = seed, .nodes = 2, .replicas = 2});
  std::vector<std::string> puts;
  for (uint32_t node = 0; node < 2; ++node) {
    rig.node(node).hook = [&puts, node](RpcMessage& request, ReplyFn&) {
      if (request.method != rpc::kNodePut) return false;
      const auto head = *ParseHead<proto::NodePutRequest>(request);
      for (int i = 0; i < head.entries_size(); ++i) {
        if (head.entries(i).kind() != uint32_t(RecordKind::kChunk)) continue;
        puts.push_back(std::to_string(node) + head.entries(i).id() +
                       ToString(request.frames[i].view));
      }
      return false;
    };
  }
  MemorySource source;
  for (int i = 0; i < 30; ++i) source.AddFile("f" + std::to_string(i), NoiseBytes(i % 20, 50'000));
  source.AddFile("long", TextBytes(1, 3'000'000));
  MustRun(rig, source);
  return puts;
}

TEST(IngestTest, OneSeedGivesOneSequenceOfBytes) {
  const std::vector<std::string> first = PutsOfOneRun(7);
  EXPECT_GT(first.size(), 40u);
  EXPECT_TRUE(first == PutsOfOneRun(7));
  EXPECT_FALSE(first == PutsOfOneRun(8));
}

TEST(IngestTest, TwoReplicasAreTheSameBytes) {
  IngestRig rig({.nodes = 3, .replicas = 2});
  MemorySource source;
  for (int i = 0; i < 20; ++i) source.AddFile("f" + std::to_string(i), NoiseBytes(i, 70'000));
  MustRun(rig, source);
  for (int i = 0; i < 20; ++i) {
    StatusOr<Vault::OpenedObject> object = rig.Opened("f" + std::to_string(i));
    ASSERT_TRUE(object.ok()) << object.status();
    for (const ChunkRef& chunk : object->info.manifest.chunks) {
      const std::vector<proto::RecordAnswer> answers = rig.Stat(chunk.id);
      ASSERT_EQ(answers.size(), 2u);
      for (const proto::RecordAnswer& a : answers) {
        EXPECT_EQ(a.status(), proto::PRESENT);
        EXPECT_EQ(a.checksum(), answers[0].checksum());
        EXPECT_EQ(a.stored_length(), chunk.stored_length);
      }
    }
  }
}

TEST(IngestTest, LosingAndRepeatingMessagesChangesNothing) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    IngestRig rig(
        {.seed = seed, .nodes = 2, .replicas = 2, .network = {.drop = 0.05, .duplicate = 0.1}});
    MemorySource source;
    for (int i = 0; i < 60; ++i) source.AddFile("f" + std::to_string(i), NoiseBytes(i, 30'000));
    source.AddFile("long", NoiseBytes(1000, 4'000'000));
    StatusOr<IngestSummary> s = rig.Run(source, {.commit_objects = 10});
    ASSERT_TRUE(s.ok()) << s.status();
    EXPECT_EQ(s->files + s->errors, 61u);
    EXPECT_EQ(rig.seen().objects.size() + rig.seen().errors.size(), 61u);
    for (const auto& [name, state] : rig.seen().objects) {
      if (name == "long") continue;
      EXPECT_EQ(rig.Read(name), NoiseBytes(std::stoi(name.substr(1)), 30'000));
    }
  }
}

TEST(IngestTest, AFileThatChangesWhileItIsReadIsNotStored) {
  IngestRig rig({});
  MemorySource source;
  source.AddFile("before", "1");
  source.AddFile("touched", "22").after_read = [](MemorySource::Item& item, uint64_t) {
    ++item.entry.stamp.mtime_nanos;
  };
  source.AddFile("grown", "333").after_read = [](MemorySource::Item& item, uint64_t) {
    item.content += "x";
    item.entry.stamp.size = item.content.size();
  };
  source.AddFile("shorter", "4444").content = "4";
  source.AddFile("longer", "5").content = "555";
  source.AddFile("proc", "").content = "content of a file that says it is empty";
  source.AddFile("failing", "6").read_error = absl::UnavailableError("read: Input/output error");
  source.AddFile("long", NoiseBytes(1, 6'000'000)).after_read = [](MemorySource::Item& item,
                                                                   uint64_t end) {
    if (end > 3'000'000) item.entry.stamp.ctime_nanos = 1;
  };
  source.AddFile("after", "7");
  const IngestSummary s = MustRun(rig, source);
  EXPECT_EQ(s.files, 2u);
  EXPECT_EQ(s.errors, 7u);
  for (const char* name : {"touched", "grown", "shorter", "longer", "proc", "long"}) {
    EXPECT_THAT(rig.seen().errors[name].ToString(), HasSubstr("changed while it was read")) << name;
    EXPECT_TRUE(absl::IsNotFound(rig.vault().Lookup("c", name).status())) << name;
  }
  EXPECT_THAT(rig.seen().errors["failing"].ToString(), HasSubstr("Input/output error"));
  EXPECT_EQ(rig.Read("after"), "7");
}

// Changed between listing and reading, say: what counts is how it is then.
TEST(IngestTest, AShortFileThatChangedOnceIsReadAgain) {
  IngestRig rig({});
  MemorySource source;
  bool grown = false;
  source.AddFile("grown", "333").after_read = [&](MemorySource::Item& item, uint64_t) {
    if (std::exchange(grown, true)) return;
    item.content = "4444";
    item.entry.stamp.size = item.content.size();
  };
  bool huge = false;
  source.AddFile("huge", "1").after_read = [&](MemorySource::Item& item, uint64_t) {
    if (std::exchange(huge, true)) return;
    item.content = NoiseBytes(3, 9'000'000);
    item.entry.stamp.size = item.content.size();
  };
  const IngestSummary s = MustRun(rig, source);
  EXPECT_EQ(s.files, 2u);
  EXPECT_EQ(s.errors, 0u);
  EXPECT_EQ(rig.Read("grown"), "4444");
  EXPECT_TRUE(rig.Read("huge") == NoiseBytes(3, 9'000'000));
}

TEST(IngestTest, LongObjectsHaveTheirListsInParts) {
  IngestRig rig({});
  MemorySource source;
  // Over 2,048 chunks of 64 KiB on average.
  constexpr uint64_t kSize = 180u << 20;
  auto bytes_at = [](uint64_t offset, MutableBytes out) {
    for (size_t i = 0; i < out.size();) {
      const uint64_t word = (offset + i) / 8;
      uint64_t v = (word + 1) * 0x9E3779B97F4A7C15u;
      v ^= v >> 29;
      v *= 0xBF58476D1CE4E5B9u;
      v ^= v >> 32;
      for (size_t b = (offset + i) % 8; b < 8 && i < out.size(); ++b, ++i) {
        out[i] = static_cast<uint8_t>(v >> (8 * b));
      }
    }
  };
  source.AddGenerated("long", kSize, bytes_at);
  source.AddFile("short", "x");
  const IngestSummary s = MustRun(rig, source);
  EXPECT_EQ(s.files, 2u);
  StatusOr<Vault::OpenedObject> object = rig.Opened("long");
  ASSERT_TRUE(object.ok()) << object.status();
  EXPECT_GT(object->info.manifest.chunk_count, 2 * kChunksPerPart);
  EXPECT_EQ(object->info.manifest.parts.size(),
            (object->info.manifest.chunk_count + kChunksPerPart - 1) / kChunksPerPart);
  StatusOr<ManifestPart> chunks = rig.vault().Chunks(*object);
  ASSERT_TRUE(chunks.ok()) << chunks.status();
  ASSERT_EQ(chunks->chunks.size(), object->info.manifest.chunk_count);
  uint64_t size = 0;
  for (const SealedChunkInfo& info : chunks->sealed_chunks) size += info.length;
  EXPECT_EQ(size, kSize);
  for (size_t i = 0; i < chunks->chunks.size(); i += 100) {
    const std::vector<proto::RecordAnswer> answers = rig.Stat(chunks->chunks[i].id);
    EXPECT_EQ(answers[0].stored_length(), chunks->chunks[i].stored_length);
  }
}

// What a device's engine gives, by a CPU; from `lie` on, whatever has the length of `liar` is said
// to be the same as the first chunk of that length.
class DeviceLikeEngine : public kernels::Engine {
 public:
  explicit DeviceLikeEngine(const kernels::EngineOptions& options, size_t liar = 0)
      : cpu_(kernels::MakePortableEngine(options)), liar_(liar) {}
  std::string_view name() const override { return "device-like"; }
  void Submit(kernels::Batch& batch, std::function<void(kernels::Status)> done) override {
    cpu_->Submit(batch, [](kernels::Status) {});
    for (kernels::Message& message : batch.messages) {
      message.from_device = true;
      for (kernels::Chunk& chunk : message.chunks) {
        if (chunk.length != liar_) continue;
        if (!first_) first_ = chunk;
        chunk.sha256 = first_->sha256;
        chunk.poly1305 = first_->poly1305;
      }
    }
    done(kernels::Status::kOk);
  }
  void Distrust(std::string_view) override { ++distrusted; }
  int distrusted = 0;

 private:
  const std::unique_ptr<kernels::Engine> cpu_;
  const size_t liar_;
  std::optional<kernels::Chunk> first_;
};

// Says of every chunk but the first that it is the same as the first.
class EqualisingEngine : public kernels::Engine {
 public:
  explicit EqualisingEngine(const kernels::EngineOptions& options)
      : cpu_(kernels::MakePortableEngine(options)) {}
  std::string_view name() const override { return "equalising"; }
  void Submit(kernels::Batch& batch, std::function<void(kernels::Status)> done) override {
    cpu_->Submit(batch, [](kernels::Status) {});
    for (kernels::Message& message : batch.messages) {
      message.from_device = true;
      for (kernels::Chunk& chunk : message.chunks) chunk.first_same = 0;
    }
    done(kernels::Status::kOk);
  }

 private:
  const std::unique_ptr<kernels::Engine> cpu_;
};

TEST(IngestTest, EqualChunksAreSeenToBeEqual) {
  IngestRig rig({});
  rig.UseEngine(std::make_unique<EqualisingEngine>(rig.vault().engine_options()));
  MemorySource source;
  for (int i = 0; i < 20; ++i) source.AddFile(std::to_string(i), NoiseBytes(i, 4000));
  EXPECT_EQ(MustRun(rig, source).errors, 0u);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(rig.Read(std::to_string(i)) == NoiseBytes(i, 4000));
}

TEST(IngestTest, DuplicatesThatADeviceClaimsAreStored) {
  IngestRig rig({});
  rig.UseEngine(std::make_unique<DeviceLikeEngine>(rig.vault().engine_options()));
  for (int run = 0; run < 2; ++run) {
    MemorySource source;
    for (int i = 0; i < 60; ++i) {
      source.AddFile(std::to_string(run) + "/" + std::to_string(i), NoiseBytes(i % 20, 50'000));
    }
    const IngestSummary s = MustRun(rig, source);
    EXPECT_EQ(s.duplicates, run == 0 ? 40u : 60u);
    EXPECT_EQ(s.errors, 0u);
    EXPECT_EQ(s.stored_bytes > 0, run == 0);
  }
  EXPECT_TRUE(rig.Read("1/59") == NoiseBytes(19, 50'000));
  EXPECT_EQ(static_cast<DeviceLikeEngine&>(rig.engine()).distrusted, 0);
}

// In the same slab, in another one of the same ingest, and against what is stored already.
TEST(IngestTest, ADuplicateThatIsNoneIsNotDropped) {
  IngestRig rig({});
  rig.UseEngine(std::make_unique<DeviceLikeEngine>(rig.vault().engine_options(), 4000));
  for (int run = 0; run < 2; ++run) {
    MemorySource source;
    const std::string at = std::to_string(run) + "/";
    source.AddFile(at + "a", NoiseBytes(1, 4000));
    source.AddFile(at + "b", NoiseBytes(2, 4000));
    source.AddFile(at + "other", NoiseBytes(3, 5000));
    for (int i = 0; i < 40; ++i) source.AddFile(at + std::to_string(i), NoiseBytes(9 + i, 200'000));
    source.AddFile(at + "c", NoiseBytes(4, 4000));
    const IngestSummary s = MustRun(rig, source, {.slab_bytes = 2 << 20, .slabs_bytes = 4 << 20});
    EXPECT_EQ(s.errors, 2u);
    for (const char* name : {"b", "c"}) {
      EXPECT_THAT(rig.seen().errors[at + name].ToString(), HasSubstr("wrong digest"));
    }
    EXPECT_TRUE(rig.Read(at + "a") == NoiseBytes(1, 4000));
    EXPECT_TRUE(rig.Read(at + "other") == NoiseBytes(3, 5000));
  }
  EXPECT_EQ(static_cast<DeviceLikeEngine&>(rig.engine()).distrusted, 4);
}

TEST(IngestTest, CommitsAreGrouped) {
  IngestRig rig({});
  MemorySource source;
  for (int i = 0; i < 100; ++i) source.AddFile("f" + std::to_string(i), std::to_string(i));
  MustRun(rig, source, {.commit_objects = 10});
  EXPECT_GE(rig.coordinator().requests[rpc::kCommit], 10u);
  EXPECT_LE(rig.coordinator().requests[rpc::kCommit], 12u);
}

TEST(IngestTest, AnEmptySourceMakesTheCollection) {
  IngestRig rig({});
  MemorySource source;
  MustRun(rig, source, {.collection = "empty"});
  StatusOr<std::vector<proto::CollectionEntry>> collections = rig.vault().ListCollections();
  ASSERT_TRUE(collections.ok());
  ASSERT_EQ(collections->size(), 1u);
  EXPECT_EQ((*collections)[0].name(), "empty");
}

TEST(IngestTest, SealingKeysAreRenewedHourlyAndComeWithEachCommit) {
  IngestRig rig({});
  MemorySource source;
  source.AddFile("a", "1");
  // An hour passes while it is read.
  source.AddFile("b", "2").after_read = [&](MemorySource::Item&, uint64_t) {
    rig.clock().AdvanceNanos(3'700'000'000'000);
  };
  std::string big = NoiseBytes(5, 3'000'000);
  source.AddFile("c", big);
  std::set<std::string> keys;
  rig.coordinator().hook = [&](RpcMessage& request, ReplyFn&) {
    if (request.method != rpc::kCommit) return false;
    const auto commit = ParseHead<proto::CommitRequest>(request);
    EXPECT_EQ(commit->sealing_keys_size(), 1);
    for (const auto& key : commit->sealing_keys()) keys.insert(key.id());
    return false;
  };
  MustRun(rig, source, {.commit_objects = 1});
  EXPECT_GE(keys.size(), 1u);
  EXPECT_LE(keys.size(), 2u);
  EXPECT_EQ(rig.Read("a"), "1");
  EXPECT_EQ(rig.Read("b"), "2");
  EXPECT_TRUE(rig.Read("c") == big);
}

// Fails every put of a chunk; commit records still fit.
Interceptor::Hook FailChunkPuts(const Status& status, int from = 0) {
  auto count = std::make_shared<int>(0);
  return [=](RpcMessage& request, ReplyFn& reply) {
    if (request.method != rpc::kNodePut) return false;
    const auto head = *ParseHead<proto::NodePutRequest>(request);
    if (head.entries(0).kind() != uint32_t(RecordKind::kChunk) || (*count)++ < from) return false;
    reply(status);
    return true;
  };
}

TEST(IngestTest, AFullDiskStopsTheIngestAndKeepsWhatWasAcknowledged) {
  IngestRig rig({});
  MemorySource first;
  first.AddFile("kept", "kept");
  MustRun(rig, first);
  rig.node(0).hook = FailChunkPuts(absl::ResourceExhaustedError("no space left on device"), 3);
  MemorySource source;
  constexpr int kFiles = 300;
  for (int i = 0; i < kFiles; ++i)
    source.AddFile("f" + std::to_string(i), NoiseBytes(i, 1'000'000));
  source.AddFile("known", "kept");
  StatusOr<IngestSummary> s = rig.Run(source);
  ASSERT_FALSE(s.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(s.status())) << s.status();
  EXPECT_GT(rig.seen().objects.size(), 0u);
  EXPECT_LT(rig.seen().objects.size(), size_t{kFiles});
  EXPECT_THAT(rig.seen().errors, IsEmpty());  // The one error is the vault's.
  EXPECT_LT(rig.progress().bytes_read, uint64_t{kFiles} * 1'000'000);  // It stopped reading.
  for (const auto& [name, state] : rig.seen().objects) {
    if (name == "known") continue;
    EXPECT_TRUE(rig.Read(name) == NoiseBytes(std::stoi(name.substr(1)), 1'000'000)) << name;
  }
  for (int i = 0; i < kFiles; ++i) {
    const std::string name = "f" + std::to_string(i);
    if (rig.seen().objects.contains(name)) continue;
    EXPECT_TRUE(absl::IsNotFound(rig.vault().Lookup("c", name).status())) << name;
  }
  EXPECT_EQ(rig.Read("kept"), "kept");
}

TEST(IngestTest, OneRefusedPutFailsOnlyWhatNeedsIt) {
  IngestRig rig({});
  bool failed = false;
  rig.node(0).hook = [&](RpcMessage& request, ReplyFn& reply) {
    if (request.method != rpc::kNodePut || failed) return false;
    failed = true;
    reply(absl::InternalError("refused"));
    return true;
  };
  auto fill = [](MemorySource& source) {
    for (int i = 0; i < 20; ++i) {
      source.AddFile("f" + std::to_string(i), NoiseBytes(i, 1'000'000));
      source.AddFile("same" + std::to_string(i), NoiseBytes(i, 1'000'000));
    }
  };
  MemorySource source;
  fill(source);
  StatusOr<IngestSummary> s = rig.Run(source);
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_GE(s->errors, 2u);
  EXPECT_GT(s->files, 0u);
  EXPECT_EQ(s->files + s->errors, 40u);
  for (const auto& [name, status] : rig.seen().errors) {
    EXPECT_TRUE(absl::IsInternal(status)) << status;
    EXPECT_EQ(rig.seen().errors.count("f" + name.substr(name.find_first_of("0123456789"))), 1u);
  }
  // The next ingest heals it.
  MemorySource again;
  fill(again);
  EXPECT_EQ(MustRun(rig, again).errors, 0u);
  EXPECT_TRUE(rig.Read("same0") == NoiseBytes(0, 1'000'000));
}

TEST(IngestTest, AFailingCommitIsTheVaultsFailure) {
  IngestRig rig({});
  rig.coordinator().hook = [&](RpcMessage& request, ReplyFn& reply) {
    if (request.method != rpc::kCommit) return false;
    reply(absl::AbortedError("session is not open"));
    return true;
  };
  MemorySource source;
  for (int i = 0; i < 10; ++i) source.AddFile("f" + std::to_string(i), "x");
  StatusOr<IngestSummary> s = rig.Run(source);
  EXPECT_TRUE(absl::IsAborted(s.status())) << s.status();
  EXPECT_THAT(rig.seen().objects, IsEmpty());
  EXPECT_THAT(rig.seen().errors, IsEmpty());
}

TEST(IngestTest, ANodeThatIsAwayFailsTwoReplicasButNotThree) {
  {
    IngestRig rig({.nodes = 2, .replicas = 2});
    rig.transport().Detach(NodeAddress(1));
    MemorySource source;
    source.AddFile("f", "x");
    StatusOr<IngestSummary> s = rig.Run(source);
    EXPECT_TRUE(rig.seen().objects.empty());
  }
  IngestRig rig({.nodes = 3, .replicas = 3});
  rig.node(2).hook = [](RpcMessage& request, ReplyFn& reply) {
    if (request.method != rpc::kNodePut && request.method != rpc::kNodePin) return false;
    reply(absl::UnavailableError("disk is gone"));
    return true;
  };
  MemorySource source;
  const std::string content = NoiseBytes(3, 400'000);
  source.AddFile("f", content);
  const IngestSummary s = MustRun(rig, source);
  EXPECT_EQ(s.files, 1u);
  EXPECT_TRUE(rig.Read("f") == content);
}

// A chunk's bytes on a node, as a get gives them.
std::string FrameOn(IngestRig& rig, uint32_t node, const RecordId& id) {
  proto::NodeGetRequest request;
  request.set_ids(ToString(id.bytes()));
  StatusOr<RpcMessage> reply = rig.Ask(node, MakeMessage(rpc::kNodeGet, request));
  if (!reply.ok() || reply->frames.empty()) return "";
  return ToString(reply->frames[0].view);
}

void Plant(IngestRig& rig, uint32_t node, const RecordId& id, Buffer frame) {
  proto::NodePutRequest request;
  request.set_session_epoch(1);
  request.set_domain(ToString(rig.key().domain.bytes()));
  request.set_writer(ToString(rig.key().writer().bytes()));
  proto::PutEntry& entry = *request.add_entries();
  entry.set_id(ToString(id.bytes()));
  entry.set_kind(uint32_t(RecordKind::kChunk));
  entry.set_checksum(ToString(ChecksumOf(frame).bytes()));
  entry.set_replace(true);
  RpcMessage message = MakeMessage(rpc::kNodePut, request);
  message.frames.push_back(SharedBytes::Own(std::move(frame)));
  StatusOr<RpcMessage> reply = rig.Ask(node, std::move(message));
  ASSERT_TRUE(reply.ok()) << reply.status();
  ASSERT_EQ(ParseHead<proto::NodePutReply>(*reply)->answers(0).status(), proto::PRESENT);
}

class DisputeTest : public ::testing::Test {
 protected:
  DisputeTest() : rig_({.nodes = 2, .replicas = 2}), content_(TextBytes(1, 20'000)) {
    Ingest("first");
    StatusOr<Vault::OpenedObject> object = rig_.Opened("first");
    EXPECT_TRUE(object.ok());
    id_ = object->info.manifest.chunks[0].id;
    h_ = object->sealed.chunks[0].h;
    original_ = FrameOn(rig_, 0, id_);
  }
  IngestSummary Ingest(const std::string& name) {
    MemorySource source;
    source.AddFile(name, content_);
    return MustRun(rig_, source);
  }
  // Another encoding of the same content, as another release might seal it.
  Buffer OtherEncoding() { return testing::Sealed(h_, id_, Codec::kRaw, AsBytes(content_)); }
  void ExpectBoth(const std::string& frame) {
    EXPECT_TRUE(FrameOn(rig_, 0, id_) == frame);
    EXPECT_TRUE(FrameOn(rig_, 1, id_) == frame);
  }

  IngestRig rig_;
  const std::string content_;
  RecordId id_;
  Hash256 h_{};
  std::string original_;
};

TEST_F(DisputeTest, OfTwoThatOpenTheLowestChecksumStays) {
  Plant(rig_, 1, id_, OtherEncoding());
  ASSERT_NE(FrameOn(rig_, 0, id_), FrameOn(rig_, 1, id_));
  EXPECT_EQ(Ingest("second").duplicates, 1u);
  const std::string other = ToString(OtherEncoding());
  ExpectBoth(ChecksumOf(AsBytes(original_)) < ChecksumOf(AsBytes(other)) ? original_ : other);
  EXPECT_TRUE(rig_.Read("second") == content_);
  EXPECT_TRUE(rig_.Read("first") == content_);
}

TEST_F(DisputeTest, WhatDoesNotOpenIsReplaced) {
  Buffer garbage(original_.begin(), original_.end());
  garbage[100] ^= 1;
  Plant(rig_, 1, id_, garbage);
  Ingest("second");
  ExpectBoth(original_);
}

TEST_F(DisputeTest, WhenNoneOpensWhatWasSealedNowCounts) {
  for (uint32_t node : {0u, 1u}) {
    Buffer garbage(original_.begin(), original_.end());
    garbage[100 + node] ^= 1;
    Plant(rig_, node, id_, garbage);
  }
  EXPECT_EQ(Ingest("second").errors, 0u);
  ExpectBoth(original_);
  EXPECT_TRUE(rig_.Read("second") == content_);
}

TEST_F(DisputeTest, AMissingReplicaBesideAnotherEncodingGetsThatOne) {
  // Node 0 holds another encoding; node 1 lost its copy.
  Plant(rig_, 0, id_, OtherEncoding());
  proto::NodeQuarantineRequest request;
  request.set_id(ToString(id_.bytes()));
  request.set_checksum(ToString(ChecksumOf(AsBytes(original_)).bytes()));
  ASSERT_TRUE(rig_.Ask(1, MakeMessage(rpc::kNodeQuarantine, request)).ok());
  Ingest("second");
  ExpectBoth(ToString(OtherEncoding()));
  EXPECT_TRUE(rig_.Read("second") == content_);
}

TEST(IngestTest, AMissingReplicaIsMadeAgain) {
  IngestRig rig({.nodes = 2, .replicas = 2});
  const std::string content = NoiseBytes(8, 30'000);
  MemorySource source;
  source.AddFile("f", content);
  MustRun(rig, source);
  const ChunkRef chunk = rig.Opened("f")->info.manifest.chunks[0];
  proto::NodeQuarantineRequest request;
  request.set_id(ToString(chunk.id.bytes()));
  request.set_checksum(rig.Stat(chunk.id)[0].checksum());
  ASSERT_TRUE(rig.Ask(1, MakeMessage(rpc::kNodeQuarantine, request)).ok());
  MemorySource again;
  again.AddFile("f", content);
  const IngestSummary s = MustRun(rig, again);
  EXPECT_EQ(s.unchanged, 1u);
  EXPECT_EQ(s.duplicates, 1u);
  for (const proto::RecordAnswer& a : rig.Stat(chunk.id)) EXPECT_EQ(a.status(), proto::PRESENT);
}

}  // namespace
}  // namespace holdfast::testing
