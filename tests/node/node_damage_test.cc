// Damage at rest: every flipped bit is reported, named by the record it hit, and nothing else
// suffers; what is missing or foreign is told apart from what is torn.
#include <gtest/gtest.h>

#include "node/segment_scan.h"
#include "node/segment_table.h"
#include "node/superblock.h"
#include "tests/node/node_rig.h"

namespace holdfast {
namespace {

constexpr uint64_t kRecords = 12;

// A closed node with records of every kind in one segment.
class NodeDamageTest : public testing::Test {
 protected:
  void SetUp() override { Fill(); }

  void Fill() {
    rig_ = std::make_unique<SimRig>(5);
    ASSERT_TRUE(rig_->Open().ok());
    for (uint64_t n = 0; n < kRecords; ++n) rig_->PutPresent(ItemOf(n));
    rig_->PinOne(IdOf(0), 9);                           // A touch record.
    rig_->PutPresent({IdOf(100), PayloadOf(100, 50)});  // Will be quarantined.
    proto::NodeQuarantineRequest quarantine;
    quarantine.set_id(ToString(IdOf(100).bytes()));
    quarantine.set_checksum(ToString(ChecksumOf(PayloadOf(100, 50)).bytes()));
    ASSERT_TRUE(rig_->Call(MakeMessage(rpc::kNodeQuarantine, quarantine)).ok());
    rig_->PutPresent({IdOf(100), PayloadOf(100, 50)});  // Healed.
    ASSERT_TRUE(rig_->Close().ok());
  }

  static PutItem ItemOf(uint64_t n) {
    const RecordKind kinds[] = {RecordKind::kChunk, RecordKind::kManifestPart,
                                RecordKind::kCommitRecord};
    return {IdOf(n), PayloadOf(n, 200 + 700 * n + n % 8), kinds[n % 3], n % 3 == 2 ? n : 0};
  }

  SegmentScan Scan(uint64_t number = 1) {
    auto file = OpenSegment(rig_->fs(), rig_->options().dir, number).value();
    ScanOptions options;
    options.end = file->Size().value();
    options.segment = FindSegmentId(*file, options.end);
    options.all_payloads = true;
    return ScanSegment(*file, options);
  }

  void Flip(uint64_t offset, uint64_t bit = 3) {
    rig_->sim_fs.FlipBit(rig_->SegmentPath(1), offset * 8 + bit);
  }

  // Opens, checks, and gives the findings of both.
  std::vector<Finding> OpenAndCheck() {
    const Status opened = rig_->Open();
    EXPECT_TRUE(opened.ok()) << opened;
    if (!opened.ok()) return {};
    std::vector<Finding> findings = rig_->node().findings();
    for (const Finding& finding : rig_->CheckAll()) findings.push_back(finding);
    return findings;
  }

  // No record but `hit` is affected, and that one is exact or an error.
  void ExpectOthersFine(std::optional<RecordId> hit, bool present = true) {
    for (uint64_t n = 0; n < kRecords; ++n) {
      const auto got = rig_->GetOne(IdOf(n));
      if (hit != IdOf(n) && present) {
        EXPECT_EQ(got.status, proto::PRESENT) << n;
      }
      if (got.status == proto::PRESENT) {
        EXPECT_EQ(got.payload, ItemOf(n).payload) << n;
      }
    }
  }

  static bool Names(const std::vector<Finding>& findings, const RecordId& id) {
    for (const Finding& f : findings) {
      if (f.class_() == Finding::CORRUPT && f.id() == ToString(id.bytes())) return true;
    }
    return false;
  }

  std::unique_ptr<SimRig> rig_;
};

// Their names would fill all memory.
TEST_F(NodeDamageTest, MoreMissingSegmentsThanAnyDiskHoldsAreRefused) {
  const auto open_with = [&](uint64_t number) {
    Superblock superblock = LoadSuperblock(rig_->fs(), rig_->options().dir)->superblock;
    superblock.synced_segment_number = number;
    EXPECT_TRUE(StoreSuperblock(rig_->fs(), rig_->options().dir, superblock).ok());
    return rig_->Open();
  };
  EXPECT_TRUE(absl::IsDataLoss(open_with(uint64_t{1} << 40)));
  EXPECT_TRUE(absl::IsDataLoss(open_with(UINT64_MAX)));
  ASSERT_TRUE(open_with(5).ok());
  EXPECT_EQ(Count(rig_->node().findings(), Finding::MISSING), 4);
  EXPECT_EQ(rig_->GetOne(IdOf(3)).status, proto::PRESENT);
}

TEST_F(NodeDamageTest, FlipInEachPartOfEachRecord) {
  const SegmentScan scan = Scan();
  ASSERT_EQ(scan.records.size(), kRecords + 4);
  for (const bool wiped : {false, true}) {
    for (const ScannedRecord& record : scan.records) {
      for (const bool header : {true, false}) {
        SCOPED_TRACE(testing::Message() << "kind " << static_cast<int>(record.header.kind)
                                        << " header " << header << " index wiped " << wiped);
        Fill();
        Flip(record.offset + (header ? 50 : kRecordHeaderSize + record.header.length / 2));
        if (wiped) rig_->WipeIndex();
        const auto findings = OpenAndCheck();
        EXPECT_GE(Count(findings, Finding::CORRUPT) + (record.header.id == IdOf(100)), 1)
            << Show(findings);
        const bool indexed = IsIndexed(record.header.kind) && record.header.id != IdOf(100);
        // Without index and header nothing tells the id; the place is reported.
        if (indexed && !(wiped && header)) {
          EXPECT_TRUE(Names(findings, record.header.id)) << Show(findings);
        }
        ExpectOthersFine(indexed ? std::optional(record.header.id) : std::nullopt);
        // The next ingest heals it.
        if (indexed) {
          EXPECT_EQ(rig_->PinOne(record.header.id), proto::MISSING);
          for (uint64_t n = 0; n < kRecords; ++n) rig_->PutPresent(ItemOf(n));
          ExpectOthersFine(std::nullopt);
          EXPECT_EQ(rig_->PinOne(record.header.id), proto::PRESENT);
        }
      }
    }
  }
}

TEST_F(NodeDamageTest, NoFlippedByteGoesUnnoticed) {
  const uint64_t size = rig_->fs().Open(rig_->SegmentPath(1), {}).value()->Size().value();
  const SegmentScan scan = Scan();
  for (uint64_t offset = 0; offset < size && !HasFailure(); offset += offset < 4096         ? 61
                                                                      : offset % 4096 < 400 ? 7
                                                                                            : 173) {
    SCOPED_TRACE(testing::Message() << "offset " << offset);
    for (const bool wiped : {false, true}) {
      Fill();
      Flip(offset, offset % 8);
      if (wiped) rig_->WipeIndex();
      const auto findings = OpenAndCheck();
      std::optional<RecordId> hit;
      for (const ScannedRecord& record : scan.records) {
        if (offset >= record.offset && offset < record.end()) hit = record.header.id;
      }
      // Of the record that was replaced, damage is only noted.
      EXPECT_GE(Count(findings, Finding::CORRUPT) + (hit == IdOf(100)), 1) << Show(findings);
      const int notes = Count(rig_->node().findings(), Finding::NOTE);
      EXPECT_GE(notes, wiped ? 1 : 0) << Show(findings);
      EXPECT_LE(notes, (wiped ? 1 : 0) + (hit == IdOf(100))) << Show(findings);
      ExpectOthersFine(hit);
    }
  }
}

TEST_F(NodeDamageTest, DamageIsQuarantinedAcrossRestartAndRebuild) {
  const SegmentScan scan = Scan();
  Flip(scan.records[3].offset + kRecordHeaderSize + 5);
  ASSERT_TRUE(rig_->Open().ok());
  EXPECT_EQ(rig_->PinOne(IdOf(3)), proto::PRESENT);  // Nobody has looked yet.
  EXPECT_EQ(rig_->GetOne(IdOf(3)).status, proto::CORRUPT);
  EXPECT_EQ(rig_->PinOne(IdOf(3)), proto::MISSING);
  EXPECT_EQ(rig_->NodeStatus().quarantined(), 1u);
  EXPECT_EQ(rig_->Stat({IdOf(3)}).answers(0).status(), proto::MISSING);
  rig_->PowerCut();
  rig_->WipeIndex();
  ASSERT_TRUE(rig_->Open().ok());
  EXPECT_EQ(rig_->PinOne(IdOf(3)), proto::MISSING);
  rig_->PutPresent(ItemOf(3));
  EXPECT_EQ(rig_->GetOne(IdOf(3)).payload, ItemOf(3).payload);
  // The old record is of no use any more: its damage is only noted, also by a recovery.
  EXPECT_EQ(Count(rig_->CheckAll(), Finding::CORRUPT), 0) << Show(rig_->CheckAll());
  EXPECT_EQ(rig_->NodeStatus().quarantined(), 0u);
  ASSERT_TRUE(rig_->Close().ok());
  rig_->WipeIndex();
  ASSERT_TRUE(rig_->Open().ok());
  EXPECT_EQ(Count(rig_->node().findings(), Finding::CORRUPT), 0) << Show(rig_->node().findings());
}

TEST_F(NodeDamageTest, LastBatchOfAClosedNodeIsCorruptionNotTorn) {
  const ScannedRecord last = Scan().records.back();
  for (const bool wiped : {false, true}) {
    for (const uint64_t offset : {last.offset + 8, last.offset + kRecordHeaderSize,
                                  last.offset - kBatchHeaderSize, last.end() + 8}) {
      Fill();
      Flip(offset);
      if (wiped) rig_->WipeIndex();
      const auto findings = OpenAndCheck();
      EXPECT_GE(Count(findings, Finding::CORRUPT), 1) << offset << "\n" << Show(findings);
    }
  }
}

TEST_F(NodeDamageTest, LastBatchOfAnIdleNodeIsCorruptionToo) {
  rig_ = std::make_unique<SimRig>(6);
  ASSERT_TRUE(rig_->Open().ok());
  rig_->PutPresent(ItemOf(1));
  rig_->RunFor(200'000'000);  // The superblock learns of it.
  rig_->PowerCut();
  rig_->WipeIndex();
  Flip(4096 + kBatchHeaderSize + kRecordHeaderSize + 1);
  ASSERT_TRUE(rig_->Open().ok());
  EXPECT_EQ(Count(rig_->node().findings(), Finding::CORRUPT), 1);
}

TEST_F(NodeDamageTest, TruncatedSegment) {
  const SegmentScan scan = Scan();
  for (const bool wiped : {false, true}) {
    Fill();
    OpenOptions write;
    write.write = true;
    const uint64_t cut = scan.batches[6].offset + 512;
    ASSERT_TRUE(rig_->fs().Open(rig_->SegmentPath(1), write).value()->Truncate(cut).ok());
    if (wiped) rig_->WipeIndex();
    const auto findings = OpenAndCheck();
    EXPECT_GE(Count(findings, Finding::CORRUPT), 1) << Show(findings);
    EXPECT_NE(Show(findings).find("0000000001.seg"), std::string::npos);
    for (uint64_t n = 0; n < 6; ++n) EXPECT_EQ(rig_->GetOne(IdOf(n)).payload, ItemOf(n).payload);
    EXPECT_EQ(rig_->PinOne(IdOf(8)), proto::MISSING);
    rig_->PutPresent(ItemOf(8));
    EXPECT_EQ(rig_->GetOne(IdOf(8)).payload, ItemOf(8).payload);
  }
}

// Garbage, zeros and misplaced blocks of any length: never wrong bytes, and never in silence.
TEST_F(NodeDamageTest, RandomDamageIsNeverSilent) {
  const uint64_t size = rig_->fs().Open(rig_->SegmentPath(1), {}).value()->Size().value();
  const ScannedRecord old = Scan().records[kRecords + 1];
  ASSERT_EQ(old.header.id, IdOf(100));
  OpenOptions write;
  write.write = true;
  for (uint64_t seed = 0; seed < 400 && !HasFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Fill();
    SimRng rng(seed);
    auto file = rig_->fs().Open(rig_->SegmentPath(1), write).value();
    Buffer before(size), after(size);
    ASSERT_TRUE(file->ReadAt(0, before).ok());
    const uint64_t unit = seed % 3 == 0 ? 4096 : 1;
    const uint64_t length = std::min(size, (1 + rng.Below(9000 / unit)) * unit);
    const uint64_t at = rng.Below((size - length) / unit + 1) * unit;
    Buffer damage(length);
    if (seed % 3 == 0) {
      const uint64_t from = rng.Below((size - length) / unit + 1) * unit;
      damage.assign(before.begin() + from, before.begin() + from + length);
    } else if (seed % 3 == 1) {
      rng.Fill(damage);
    }
    ASSERT_TRUE(file->WriteAt(at, damage).ok());
    ASSERT_TRUE(file->DataSync().ok());
    ASSERT_TRUE(file->ReadAt(0, after).ok());
    if (seed % 2 == 0) rig_->WipeIndex();
    const auto findings = OpenAndCheck();
    ExpectOthersFine(std::nullopt, false);
    if (before == after) continue;
    // Damage within the one record that was replaced is no more than a note.
    const bool in_old = at >= old.offset && at + length <= old.end();
    EXPECT_GE(Count(findings, Finding::CORRUPT) + in_old, 1) << Show(findings);
    for (uint64_t n = 0; n < kRecords; ++n) rig_->PutPresent(ItemOf(n));
    ExpectOthersFine(std::nullopt);
  }
}

// Several segments: 40 records of 30,000 bytes in segments of 256 KiB.
class NodeSegmentsTest : public NodeDamageTest {
 protected:
  static constexpr uint64_t kMany = 40;
  static PutItem Many(uint64_t n) { return {IdOf(n), PayloadOf(n, 30000)}; }

  void SetUp() override {
    rig_ = std::make_unique<SimRig>(7);
    Grow();
  }
  void Grow() {
    ASSERT_TRUE(rig_->Open().ok());
    for (uint64_t n = 0; n < kMany; ++n) rig_->PutPresent(Many(n));
    ASSERT_GE(rig_->NodeStatus().segments(), 4u);
    ASSERT_TRUE(rig_->Close().ok());
  }
  // Counts the answers; what is PRESENT is exact. Then all can be put again.
  int MissingAndHeal() {
    int missing = 0;
    for (uint64_t n = 0; n < kMany; ++n) {
      const auto got = rig_->GetOne(IdOf(n));
      if (got.status == proto::PRESENT) {
        EXPECT_EQ(got.payload, Many(n).payload);
      } else {
        EXPECT_EQ(rig_->PinOne(IdOf(n)), proto::MISSING);
        ++missing;
      }
      rig_->PutPresent(Many(n));
      EXPECT_EQ(rig_->GetOne(IdOf(n)).payload, Many(n).payload);
    }
    return missing;
  }
};

TEST_F(NodeSegmentsTest, MissingSegment) {
  for (const bool wiped : {false, true}) {
    for (uint64_t number = 1; number <= 4; ++number) {
      SCOPED_TRACE(testing::Message() << number << wiped);
      rig_ = std::make_unique<SimRig>(7);
      Grow();
      ASSERT_TRUE(rig_->fs().Remove(rig_->SegmentPath(number)).ok());
      if (wiped) rig_->WipeIndex();
      ASSERT_TRUE(rig_->Open().ok());
      EXPECT_EQ(Count(rig_->node().findings(), Finding::MISSING), 1)
          << Show(rig_->node().findings());
      EXPECT_EQ(Count(rig_->node().findings(), Finding::CORRUPT), 0)
          << Show(rig_->node().findings());
      EXPECT_NE(Show(rig_->node().findings()).find(rig_->SegmentPath(number)), std::string::npos);
      EXPECT_GE(Count(rig_->CheckAll(), Finding::MISSING), 1);
      const int missing = MissingAndHeal();
      EXPECT_GE(missing, 6);
      EXPECT_LE(missing, 9);
      ASSERT_TRUE(rig_->Close().ok());
      ASSERT_TRUE(rig_->Open().ok());
      EXPECT_EQ(MissingAndHeal(), 0);
    }
  }
}

TEST_F(NodeSegmentsTest, ForeignSegment) {
  SimRig other(8);
  other.options().node.value.fill(77);
  other.options().dir = "/other";
  ASSERT_TRUE(Node::Format(other.options(), other.sim_fs, other.rng).ok());
  ASSERT_TRUE(other.Open().ok());
  for (uint64_t n = 0; n < kMany; ++n) other.PutPresent(Many(n));
  ASSERT_TRUE(other.Close().ok());
  Buffer foreign = ReadFile(other.sim_fs, other.SegmentPath(2)).value();
  Buffer own = ReadFile(rig_->fs(), rig_->SegmentPath(3)).value();
  for (const Buffer* bytes : {&foreign, &own}) {
    rig_ = std::make_unique<SimRig>(7);
    Grow();
    ASSERT_TRUE(WriteFileAtomically(rig_->fs(), rig_->SegmentPath(2), *bytes).ok());
    ASSERT_TRUE(rig_->Open().ok());
    EXPECT_EQ(Count(rig_->node().findings(), Finding::FOREIGN), 1) << Show(rig_->node().findings());
    EXPECT_GE(Count(rig_->CheckAll(), Finding::FOREIGN), 1);
    EXPECT_GE(MissingAndHeal(), 6);
  }
}

TEST_F(NodeSegmentsTest, AStrayFileOfAnyNumberIsNamedAndNoMore) {
  const uint64_t next = rig_->fs().List("/disk/segments").value().size() + 1;
  Buffer foreign = ReadFile(rig_->fs(), rig_->SegmentPath(1)).value();
  for (const Buffer& bytes : {Buffer(), Buffer(4096), foreign}) {
    for (const uint64_t number : {next + 1, next + 46, uint64_t{20'000'000}}) {
      rig_ = std::make_unique<SimRig>(7);
      Grow();
      ASSERT_TRUE(WriteFileAtomically(rig_->fs(), rig_->SegmentPath(number), bytes).ok());
      ASSERT_TRUE(rig_->Open().ok());
      const auto& findings = rig_->node().findings();
      EXPECT_EQ(findings.size(), 1u) << Show(findings);
      EXPECT_EQ(Count(findings, Finding::FOREIGN), 1) << Show(findings);
      EXPECT_NE(Show(findings).find(rig_->SegmentPath(number)), std::string::npos);
      EXPECT_EQ(MissingAndHeal(), 0);
    }
  }
}

// The log goes on around it, also when it grows past its number, and once it is gone all is well.
TEST_F(NodeSegmentsTest, ARemovedStrayFileLeavesNothingBehind) {
  const uint64_t next = rig_->fs().List("/disk/segments").value().size() + 1;
  Buffer foreign = ReadFile(rig_->fs(), rig_->SegmentPath(1)).value();
  for (const uint64_t number : {next, next + 1}) {
    rig_ = std::make_unique<SimRig>(7);
    Grow();
    ASSERT_TRUE(WriteFileAtomically(rig_->fs(), rig_->SegmentPath(number), foreign).ok());
    ASSERT_TRUE(rig_->Open().ok());
    for (uint64_t n = 100; n < 130; ++n) rig_->PutPresent(Many(n));
    ASSERT_TRUE(rig_->Close().ok());
    EXPECT_TRUE(rig_->fs().Exists(rig_->SegmentPath(next + 2)).value());
    ASSERT_TRUE(rig_->fs().Remove(rig_->SegmentPath(number)).ok());
    for (const bool wiped : {false, true}) {
      if (wiped) rig_->WipeIndex();
      ASSERT_TRUE(rig_->Open().ok());
      EXPECT_EQ(Count(rig_->node().findings(), Finding::MISSING), 0)
          << Show(rig_->node().findings());
      EXPECT_EQ(Show(rig_->CheckAll()), "");
      ASSERT_TRUE(rig_->Close().ok());
    }
  }
}

// What was lost with the newest segment is not forgotten once the log goes on.
TEST_F(NodeSegmentsTest, TheLossOfTheLastSegmentIsRemembered) {
  const uint64_t last = rig_->fs().List("/disk/segments").value().size();
  ASSERT_TRUE(rig_->fs().Remove(rig_->SegmentPath(last)).ok());
  for (uint64_t n = 100; n < 130; ++n) {
    ASSERT_TRUE(rig_->Open().ok());
    EXPECT_EQ(Count(rig_->node().findings(), Finding::MISSING), 1) << Show(rig_->node().findings());
    rig_->PutPresent(Many(n));
    ASSERT_TRUE(rig_->Close().ok());
  }
}

TEST_F(NodeSegmentsTest, DamagedHeadersLoseNothing) {
  for (const bool wiped : {false, true}) {
    for (uint64_t number = 1; number <= 5; ++number) {
      rig_ = std::make_unique<SimRig>(7);
      Grow();
      rig_->sim_fs.FlipBit(rig_->SegmentPath(number), 300);
      if (wiped) rig_->WipeIndex();
      ASSERT_TRUE(rig_->Open().ok());
      EXPECT_EQ(Count(rig_->node().findings(), Finding::CORRUPT), 1)
          << Show(rig_->node().findings());
      EXPECT_EQ(Count(rig_->CheckAll(), Finding::CORRUPT), 1);
      EXPECT_EQ(MissingAndHeal(), 0);
    }
  }
}

TEST_F(NodeSegmentsTest, StrayFilesAreLeftAlone) {
  ASSERT_TRUE(WriteFileAtomically(rig_->fs(), "/disk/segments/notes.txt", Buffer(10)).ok());
  ASSERT_TRUE(rig_->Open().ok());
  EXPECT_EQ(Count(rig_->node().findings(), Finding::NOTE), 1);
  EXPECT_EQ(rig_->node().findings().size(), 1u);
  EXPECT_EQ(MissingAndHeal(), 0);
}

TEST_F(NodeSegmentsTest, EmptyLeftoverIsNotedAndItsNumberSkipped) {
  const uint64_t next = rig_->fs().List("/disk/segments").value().size() + 1;
  ASSERT_TRUE(WriteFileAtomically(rig_->fs(), rig_->SegmentPath(next), Buffer(4096)).ok());
  ASSERT_TRUE(rig_->Open().ok());
  EXPECT_EQ(Count(rig_->node().findings(), Finding::NOTE), 1);
  for (uint64_t n = 100; n < 120; ++n) rig_->PutPresent(Many(n));
  ASSERT_TRUE(rig_->Close().ok());
  EXPECT_TRUE(rig_->fs().Exists(rig_->SegmentPath(next + 1)).value());
  ASSERT_TRUE(rig_->Open().ok());
  EXPECT_EQ(Show(rig_->node().findings()), "");
  EXPECT_EQ(Show(rig_->CheckAll()), "");
}

TEST_F(NodeSegmentsTest, ForeignDiskIsRefused) {
  rig_->options().vault.value.fill(9);
  Status opened = rig_->Open();
  EXPECT_TRUE(absl::IsPermissionDenied(opened)) << opened;
  EXPECT_NE(opened.ToString().find("/disk belongs to another vault"), std::string::npos);
  rig_->options().vault.value.fill(1);
  rig_->options().node.value.fill(9);
  EXPECT_TRUE(absl::IsPermissionDenied(rig_->Open()));
  rig_->options().dir = "/nowhere";
  EXPECT_TRUE(absl::IsNotFound(rig_->Open()));
}

TEST_F(NodeSegmentsTest, SuperblockSlots) {
  rig_->sim_fs.FlipBit("/disk/superblock", 1000);
  ASSERT_TRUE(rig_->Open().ok());
  EXPECT_EQ(Count(rig_->node().findings(), Finding::NOTE), 1);
  EXPECT_EQ(MissingAndHeal(), 0);
  ASSERT_TRUE(rig_->Close().ok());  // Mends it.
  ASSERT_TRUE(rig_->Open().ok());
  EXPECT_EQ(Show(rig_->node().findings()), "");
  ASSERT_TRUE(rig_->Close().ok());
  rig_->sim_fs.FlipBit("/disk/superblock", 1000);
  rig_->sim_fs.FlipBit("/disk/superblock", 1000 + 4096 * 8);
  EXPECT_TRUE(absl::IsDataLoss(rig_->Open()));
  EXPECT_FALSE(Node::Format(rig_->options(), rig_->fs(), rig_->rng).ok());
}

TEST_F(NodeSegmentsTest, RevertedIndexIsBroughtUp) {
  for (int round = 0; round < 20; ++round) {
    ASSERT_TRUE(rig_->Open().ok());
    rig_->PutPresent({IdOf(1000 + round), PayloadOf(1000 + round, 20000)});
    rig_->PinOne(IdOf(round), 50 + round);
    rig_->Kill();
    rig_->kv.Crash(rig_->rng);
    ASSERT_TRUE(rig_->Open().ok());
    EXPECT_EQ(Count(rig_->node().findings(), Finding::CORRUPT), 0);
    EXPECT_EQ(rig_->GetOne(IdOf(1000 + round)).payload, PayloadOf(1000 + round, 20000));
    EXPECT_EQ(rig_->GetOne(IdOf(round)).touch_epoch, 50u + round);
    EXPECT_EQ(Show(rig_->CheckAll()), "");
    rig_->Kill();
  }
}

// A disk that says synced and is not: nothing can save the records, but none may come back wrong
// or be called present for long.
TEST_F(NodeSegmentsTest, LyingDiskNeverGivesWrongBytes) {
  int opens = 0;
  for (uint64_t seed = 0; seed < 100 && !HasFailure(); ++seed) {
    SimRig rig(seed);
    ASSERT_TRUE(rig.Open().ok());
    for (uint64_t n = 0; n < 5; ++n) rig.PutPresent(Many(n));
    rig.sim_fs.LieOnDataSync(true);
    for (uint64_t n = 5; n < 25; ++n) rig.PutPresent(Many(n));
    if (seed % 2 == 0) {
      ASSERT_TRUE(rig.Close().ok());
    }
    rig.PowerCut();
    rig.sim_fs.LieOnDataSync(false);
    if (const Status opened = rig.Open(); !opened.ok()) {
      EXPECT_TRUE(absl::IsDataLoss(opened)) << opened;  // Both superblock slots are torn.
      continue;
    }
    ++opens;
    std::vector<Finding> findings = rig.node().findings();
    for (const Finding& finding : rig.CheckAll()) findings.push_back(finding);
    int lost = 0;
    for (uint64_t n = 0; n < 25; ++n) {
      const auto got = rig.GetOne(IdOf(n));
      if (got.status == proto::PRESENT) {
        EXPECT_EQ(got.payload, Many(n).payload);
      } else {
        EXPECT_EQ(rig.PinOne(IdOf(n)), proto::MISSING);
        EXPECT_GE(n, 5u);
        ++lost;
      }
    }
    if (seed % 2 == 0 && lost > 0) {
      EXPECT_GE(Count(findings, Finding::CORRUPT), 1) << seed;
    }
  }
  EXPECT_GT(opens, 50);
}

}  // namespace
}  // namespace holdfast
