// Damaged segments, once all that they held is there again: rewriting leaves nothing to report, and
// nothing is lost by it. HOLDFAST_SIM_SEEDS sets how many seeds the random test runs (default 200),
// HOLDFAST_SIM_SEED=N replays one.
#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/node/node_rig.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kRecords = 60;

// Chunks, parts and commit records in five segments, with touches.
class NodeRewriteTest : public ::testing::Test {
 protected:
  void Fill(uint64_t seed = 7) {
    rig_ = std::make_unique<SimRig>(seed);
    rig_->options().segment_bytes = 256u << 10;
    rig_->options().batch_bytes = 32u << 10;
    ASSERT_TRUE(rig_->Open().ok());
    for (uint64_t n = 0; n < kRecords; ++n) {
      rig_->PutPresent(ItemOf(n));
      if (n % 7 == 0) rig_->PinOne(IdOf(n / 2), 2 + n);
    }
    ASSERT_EQ(Names().size(), 5u);
    ASSERT_TRUE(rig_->Close().ok());
  }

  static PutItem ItemOf(uint64_t n) {
    const RecordKind kinds[] = {RecordKind::kChunk, RecordKind::kManifestPart,
                                RecordKind::kCommitRecord};
    return {IdOf(n), PayloadOf(n, 20'000), kinds[n % 3], n % 3 == 2 ? n : 0};
  }

  std::vector<std::string> Names() {
    return rig_->sim_fs.List(rig_->options().dir + "/segments").value();
  }
  void FlipIn(uint64_t segment, uint64_t byte) {
    rig_->sim_fs.FlipBit(rig_->SegmentPath(segment), byte * 8);
  }
  void Open(bool without_index = false) {
    if (without_index) rig_->WipeIndex();
    const Status opened = rig_->Open();
    ASSERT_TRUE(opened.ok()) << opened;
  }

  // What copies from another node would do.
  void BringBack() {
    for (uint64_t n = 0; n < kRecords; ++n) rig_->PutPresent(ItemOf(n), 100);
  }

  // All steps; why segments stayed.
  std::vector<std::string> Rewrite(bool damaged_only = true, bool last_commit_there = true) {
    const proto::NodeStatusReply status = rig_->NodeStatus();
    proto::NodeCompactRequest request;
    request.mutable_run()->set_generation(status.generation());
    request.mutable_run()->set_run(status.gc_run());
    request.mutable_run()->set_horizon(status.gc_horizon());
    request.set_damaged_only(damaged_only);
    request.set_last_commit_there(last_commit_there);
    std::vector<std::string> stayed;
    for (uint32_t step = 0, steps = 0; step <= steps; ++step) {
      request.set_step(step);
      const auto reply = rig_->Call(MakeMessage(rpc::kNodeCompact, request));
      EXPECT_TRUE(reply.ok()) << reply.status();
      if (!reply.ok()) break;
      const auto head = ParseHead<proto::NodeCompactReply>(*reply);
      if (step == 0) steps = head->steps();
      if (!head->skipped().empty()) stayed.push_back(head->skipped());
    }
    return stayed;
  }

  std::vector<Finding> Damage() {
    std::vector<Finding> damage = rig_->CheckAll();
    const proto::NodeStatusReply status = rig_->NodeStatus();
    damage.insert(damage.end(), status.findings().begin(), status.findings().end());
    std::erase_if(damage, [](const Finding& finding) { return finding.class_() == Finding::NOTE; });
    return damage;
  }

  // Now, opened again, and with the index built anew.
  void ExpectSound() {
    for (int round = 0; round < 3; ++round) {
      SCOPED_TRACE(testing::Message() << "round " << round);
      EXPECT_TRUE(Damage().empty()) << Show(Damage());
      for (uint64_t n = 0; n < kRecords; ++n) {
        const auto got = rig_->GetOne(IdOf(n));
        EXPECT_EQ(got.status, proto::PRESENT) << n;
        EXPECT_EQ(got.payload, ItemOf(n).payload) << n;
      }
      ASSERT_TRUE(rig_->Close().ok());
      Open(/*without_index=*/round == 1);
    }
  }

  std::unique_ptr<SimRig> rig_;
};

TEST_F(NodeRewriteTest, HeadersThatAreDamaged) {
  for (uint64_t first = 1; first <= 5; ++first) {
    for (uint64_t last : {first, std::min<uint64_t>(first + 1, 5)}) {
      SCOPED_TRACE(testing::Message() << "segments " << first << " to " << last);
      Fill();
      for (uint64_t number = first; number <= last; ++number) FlipIn(number, 40);
      Open();
      EXPECT_EQ(Damage().size(), 2 * (last - first + 1)) << Show(Damage());
      EXPECT_THAT(Rewrite(), testing::IsEmpty());
      ExpectSound();
    }
  }
}

// Garbage collection does that too, without being asked.
TEST_F(NodeRewriteTest, AHeaderIsMadeGoodByGarbageCollection) {
  Fill();
  FlipIn(2, 40);
  Open();
  EXPECT_THAT(Rewrite(/*damaged_only=*/false), testing::IsEmpty());
  ExpectSound();
}

TEST_F(NodeRewriteTest, SegmentsThatAreMissing) {
  for (uint64_t first = 1; first <= 5; ++first) {
    for (uint64_t last : {first, std::min<uint64_t>(first + 1, 5)}) {
      for (const bool without_index : {false, true}) {
        SCOPED_TRACE(testing::Message() << "segments " << first << " to " << last);
        Fill();
        for (uint64_t number = first; number <= last; ++number) {
          ASSERT_TRUE(rig_->fs().Remove(rig_->SegmentPath(number)).ok());
        }
        Open(without_index);
        // Not by garbage collection, which does not know what was in it; nor before that is back.
        Rewrite(/*damaged_only=*/false);
        EXPECT_FALSE(Damage().empty());
        // The index goes with the newest segment, and knows no more what was there.
        if (!without_index && last < 5) {
          EXPECT_THAT(Rewrite(), testing::Each(HasSubstr("nothing has replaced them")));
          EXPECT_FALSE(Damage().empty());
        }
        BringBack();
        EXPECT_THAT(Rewrite(), testing::IsEmpty());
        ExpectSound();
      }
    }
  }
}

// A chain of neighbours all of which tell nothing.
TEST_F(NodeRewriteTest, AMissingSegmentBesideDamagedHeaders) {
  Fill();
  FlipIn(2, 40);
  ASSERT_TRUE(rig_->fs().Remove(rig_->SegmentPath(3)).ok());
  FlipIn(4, 40);
  Open();
  BringBack();
  EXPECT_THAT(Rewrite(), testing::IsEmpty());
  ExpectSound();
}

// The log's damage is all that tells of a commit that was lost at its end.
TEST_F(NodeRewriteTest, WhereTheLastCommitsMayBeGoneTheSegmentStays) {
  const auto damage = {
      std::function<void()>([&] { FlipIn(5, 4096 + 64); }),  // The header of a record.
      std::function<void()>([&] { ASSERT_TRUE(rig_->fs().Remove(rig_->SegmentPath(5)).ok()); }),
      std::function<void()>([&] {
        OpenOptions write;
        write.write = true;
        ASSERT_TRUE(rig_->fs().Open(rig_->SegmentPath(5), write).value()->Truncate(9000).ok());
      })};
  for (const auto& one : damage) {
    Fill();
    one();
    Open(/*without_index=*/true);
    BringBack();
    rig_->CheckAll();
    for (const bool damaged_only : {true, false}) {
      EXPECT_THAT(Rewrite(damaged_only, /*last_commit_there=*/false),
                  testing::Each(HasSubstr("last commits")));
      EXPECT_FALSE(Damage().empty());
    }
    EXPECT_THAT(Rewrite(), testing::IsEmpty());
    ExpectSound();
  }
}

// Moved away and put back, or another one, while the node runs.
TEST_F(NodeRewriteTest, AFileThatIsThereAgainIsNotOverwritten) {
  Fill();
  const std::string path = rig_->SegmentPath(2);
  const Buffer away = ReadFile(rig_->fs(), path).value();
  ASSERT_TRUE(rig_->fs().Remove(path).ok());
  Open();
  BringBack();
  ASSERT_TRUE(WriteFileAtomically(rig_->fs(), path, away).ok());
  EXPECT_THAT(Rewrite(), testing::ElementsAre(HasSubstr("it is there again")));
  EXPECT_EQ(ReadFile(rig_->fs(), path).value(), away);

  const Buffer other = ReadFile(rig_->fs(), rig_->SegmentPath(1)).value();
  ASSERT_TRUE(WriteFileAtomically(rig_->fs(), rig_->SegmentPath(3), other).ok());
  rig_->CheckAll();
  BringBack();
  EXPECT_THAT(Rewrite(), testing::Contains(HasSubstr("it is another segment")));
  EXPECT_EQ(ReadFile(rig_->fs(), rig_->SegmentPath(3)).value(), other);
}

// Else a disk that is nearly full would fill with copies of what cannot be given back.
TEST_F(NodeRewriteTest, NothingMovesOutOfASegmentThatHasToStay) {
  Fill();
  FlipIn(2, 200'000);  // A payload far behind.
  Open();
  EXPECT_FALSE(Damage().empty());
  const uint64_t before = rig_->NodeStatus().log_bytes();
  EXPECT_THAT(Rewrite(), testing::ElementsAre(HasSubstr("nothing has replaced")));
  EXPECT_LT(rig_->NodeStatus().log_bytes(), before + 50'000);
}

// One entry more in the newest segment does not make up for one that its log has lost.
TEST_F(NodeRewriteTest, WhatIsAppendedWhileALogIsCheckedHidesNothing) {
  Fill();
  FlipIn(5, 4096 + 64);
  Open();
  proto::NodeCheckSegmentRequest request;
  request.set_all_payloads(true);
  std::vector<Finding> findings;
  uint64_t n = 1000;
  do {
    rig_->PutPresent({IdOf(n), PayloadOf(n, 1000)});
    ++n;
    const auto reply = rig_->Check(request);
    findings.insert(findings.end(), reply.findings().begin(), reply.findings().end());
    request.set_segment_number(reply.next_segment_number());
  } while (request.segment_number() != 0);
  EXPECT_EQ(std::count_if(findings.begin(), findings.end(),
                          [](const Finding& finding) { return !finding.id().empty(); }),
            1)
      << Show(findings);
}

TEST_F(NodeRewriteTest, WhatIsSoundIsNotTouched) {
  Fill();
  Open();
  EXPECT_TRUE(Damage().empty());
  const auto before = Names();
  EXPECT_THAT(Rewrite(), testing::IsEmpty());
  EXPECT_EQ(Names(), before);
}

// Whatever is damaged, and however.
TEST_F(NodeRewriteTest, Seeds) {
  const char* one = std::getenv("HOLDFAST_SIM_SEED");
  const char* many = std::getenv("HOLDFAST_SIM_SEEDS");
  const uint64_t first = one != nullptr ? std::stoull(one) : 0;
  const uint64_t seeds = one != nullptr ? 1 : many != nullptr ? std::stoull(many) : 200;
  for (uint64_t seed = first; seed < first + seeds && !HasFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "HOLDFAST_SIM_SEED=" << seed);
    Fill(seed);
    SimRng rng(seed);
    for (uint64_t i = 1 + rng.Below(4); i > 0; --i) {
      const std::string path = rig_->SegmentPath(1 + rng.Below(5));
      OpenOptions write;
      write.write = true;
      auto file = rig_->fs().Open(path, write);
      if (!file.ok()) continue;  // Removed already.
      const uint64_t size = (*file)->Size().value();
      const uint64_t kind = rng.Below(10);
      if (kind == 0) {
        ASSERT_TRUE(rig_->fs().Remove(path).ok());
      } else if (kind == 1) {
        ASSERT_TRUE((*file)->Truncate(rng.Below(size + 1)).ok());
      } else if (kind < 4) {
        rig_->sim_fs.FlipBit(path, rng.Below(4096) * 8);  // Its header.
      } else if (size > 0) {
        Buffer garbage(1 + rng.Below(kind < 7 ? 8 : 60'000));
        if (kind % 2 == 0) rng.Fill(garbage);
        garbage.resize(std::min<uint64_t>(garbage.size(), size));
        ASSERT_TRUE((*file)->WriteAt(rng.Below(size - garbage.size() + 1), garbage).ok());
      }
    }
    Open(rng.Below(3) == 0);
    rig_->CheckAll();
    BringBack();
    EXPECT_THAT(Rewrite(), testing::IsEmpty());
    ExpectSound();
  }
}

}  // namespace
}  // namespace holdfast
