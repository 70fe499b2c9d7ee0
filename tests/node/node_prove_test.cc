// Principals do not trust each other's records: what one stored, another proves before it counts
// for it; nothing that was stored is lost to what is put in its place.
#include <gtest/gtest.h>

#include "common/cluster/access.h"
#include "tests/node/node_rig.h"

namespace holdfast {
namespace {

class NodeProveTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(rig_.Open().ok()); }

  static RpcMessage From(char who, RpcMessage message) {
    message.caller.key = CurvePublicKey::FromBytes(AsBytes(std::string(32, who)));
    message.caller.roles = static_cast<uint32_t>(Role::kIngest);
    return message;
  }

  proto::RecordAnswer Put(char who, Buffer payload, bool replace = false) {
    auto reply = rig_.Call(
        From(who, PutMessage({{.id = kId, .payload = std::move(payload), .replace = replace}})));
    EXPECT_TRUE(reply.ok()) << reply.status();
    return ParseHead<proto::NodePutReply>(*reply)->answers(0);
  }
  proto::RecordStatus Pin(char who, uint64_t epoch = 1) {
    auto reply = rig_.Call(From(who, PinMessage({kId}, epoch)));
    EXPECT_TRUE(reply.ok()) << reply.status();
    return ParseHead<proto::NodePinReply>(*reply)->answers(0).status();
  }
  // True when something else is in its place then.
  bool Quarantine(const Buffer& payload) {
    proto::NodeQuarantineRequest head;
    head.set_id(ToString(kId.bytes()));
    head.set_checksum(ToString(ChecksumOf(payload).bytes()));
    auto reply = rig_.Call(MakeMessage(rpc::kNodeQuarantine, head));
    EXPECT_TRUE(reply.ok()) << reply.status();
    return ParseHead<proto::NodeQuarantineReply>(*reply)->another();
  }
  void Restart(bool wipe_index) {
    ASSERT_TRUE(rig_.Close().ok());
    if (wipe_index) rig_.WipeIndex();
    ASSERT_TRUE(rig_.Open().ok());
  }
  void ExpectSound() {
    for (const Finding& finding : rig_.CheckAll()) {
      EXPECT_EQ(finding.class_(), Finding::NOTE) << finding.text();
    }
  }

  const RecordId kId = IdOf(1);
  const Buffer kGood = PayloadOf(1, 5000), kGarbage = PayloadOf(2, 5000);
  SimRig rig_{11};
};

TEST_F(NodeProveTest, WhoStoredItPinsItOthersProveItOnce) {
  EXPECT_EQ(Put('a', kGood).status(), proto::PRESENT);
  EXPECT_EQ(Pin('a'), proto::PRESENT);
  EXPECT_EQ(Pin('b', 7), proto::PROVE);
  EXPECT_EQ(rig_.GetOne(kId).touch_epoch, 1u);  // Nothing is promised yet.
  const proto::RecordAnswer answer = Put('b', kGood);
  EXPECT_EQ(answer.status(), proto::PRESENT);
  EXPECT_FALSE(answer.differs());
  EXPECT_EQ(Pin('b', 7), proto::PRESENT);
  EXPECT_EQ(rig_.GetOne(kId).touch_epoch, 7u);
  EXPECT_EQ(Pin('c'), proto::PROVE);            // What b showed counts for b.
  EXPECT_EQ(rig_.PinOne(kId), proto::PRESENT);  // The coordinator, or a caller in this process.
  Restart(/*wipe_index=*/false);
  EXPECT_EQ(Pin('b'), proto::PRESENT);
  Restart(/*wipe_index=*/true);
  EXPECT_EQ(Pin('a'), proto::PRESENT);
  EXPECT_EQ(Pin('b'), proto::PROVE);
}

TEST_F(NodeProveTest, AnotherLengthOrByteDiffers) {
  Put('a', kGarbage);
  Buffer longer = kGood;
  longer.push_back(1);
  for (const Buffer& other : {kGood, longer}) {
    const proto::RecordAnswer answer = Put('b', other);
    EXPECT_EQ(answer.status(), proto::PRESENT);
    EXPECT_TRUE(answer.differs());
    EXPECT_EQ(answer.checksum(), ToString(ChecksumOf(kGarbage).bytes()));
  }
  EXPECT_EQ(Pin('b'), proto::PROVE);
  EXPECT_EQ(rig_.GetOne(kId).payload, kGarbage);  // The first write counts until it is replaced.
}

TEST_F(NodeProveTest, ADamagedRecordIsNoProof) {
  Put('a', kGood);
  rig_.sim_fs.FlipBit(rig_.SegmentPath(1), (4096 + 64 + 144 + 999) * 8);
  const proto::RecordAnswer answer = Put('b', kGood);
  EXPECT_EQ(answer.status(), proto::PRESENT);
  EXPECT_FALSE(answer.differs());
  EXPECT_EQ(rig_.GetOne(kId).payload, kGood);
  EXPECT_EQ(Pin('b'), proto::PRESENT);  // It is b's own now.
  EXPECT_EQ(Pin('a'), proto::PROVE);
}

// Both put before anything is durable.
TEST_F(NodeProveTest, WhatIsOnItsWayIsProvedToo) {
  for (const bool same : {true, false}) {
    SimRig rig(12);
    ASSERT_TRUE(rig.Open().ok());
    auto first = rig.Send(From('a', PutMessage({{kId, same ? kGood : kGarbage}})));
    auto pin = rig.Send(From('b', PinMessage({kId})));
    auto second = rig.Send(From('b', PutMessage({{kId, kGood}})));
    rig.Run([&] { return first->done && second->done && pin->done; });
    ASSERT_TRUE(second->reply.ok()) << second->reply.status();
    EXPECT_EQ(ParseHead<proto::NodePinReply>(*pin->reply)->answers(0).status(), proto::PROVE);
    EXPECT_EQ(ParseHead<proto::NodePutReply>(*second->reply)->answers(0).differs(), !same);
  }
}

TEST_F(NodeProveTest, WhatWasReplacedComesBackWhenItsReplacementDoesNotOpen) {
  for (const bool wipe_index : {false, true}) {
    SCOPED_TRACE(wipe_index);
    Put('a', kGood);
    const uint64_t touch = rig_.GetOne(kId).touch_epoch;
    for (int round = 0; round < 3; ++round) {
      Put('b', kGarbage, /*replace=*/true);
      EXPECT_EQ(rig_.GetOne(kId).payload, kGarbage);
      Restart(wipe_index);
      Quarantine(PayloadOf(3, 10));
      EXPECT_EQ(rig_.GetOne(kId).payload, kGarbage);  // That is not what is there.
      EXPECT_TRUE(Quarantine(kGarbage));
      EXPECT_EQ(rig_.GetOne(kId).payload, kGood);
      EXPECT_TRUE(Quarantine(kGarbage));  // Another reader, later.
      EXPECT_EQ(rig_.GetOne(kId).payload, kGood);
      Restart(wipe_index);
      EXPECT_EQ(rig_.GetOne(kId).payload, kGood);
      EXPECT_EQ(Pin('a'), proto::PRESENT);
      EXPECT_GE(rig_.GetOne(kId).touch_epoch, touch);
      ExpectSound();
    }
  }
}

// However many one writer puts in the way, what others stored is the first to come back; also when
// it is the newest, having come back before.
TEST_F(NodeProveTest, AFloodOfReplacementsIsOneStepDeep) {
  Put('a', kGood);
  for (int round = 0; round < 2; ++round) {
    std::vector<std::shared_ptr<SimRig::Pending>> puts;
    for (uint64_t n = 10; n < 110; ++n) {
      puts.push_back(rig_.Send(
          From('b', PutMessage({{.id = kId, .payload = PayloadOf(n, 50), .replace = true}}))));
    }
    for (const auto& put : puts) rig_.Run([&] { return put->done; });
    ASSERT_TRUE(Quarantine(rig_.GetOne(kId).payload));
    EXPECT_EQ(rig_.GetOne(kId).payload, kGood);
    ExpectSound();
  }
}

TEST_F(NodeProveTest, OfTwoWhoFloodTogetherNothingIsLost) {
  Put('a', kGood);
  for (uint64_t n = 10; n < 20; ++n) Put(n % 2 == 0 ? 'b' : 'c', PayloadOf(n, 50), true);
  size_t tries = 0;
  while (rig_.GetOne(kId).payload != kGood) {
    ASSERT_LT(++tries, 12u);
    ASSERT_TRUE(Quarantine(rig_.GetOne(kId).payload));
  }
}

TEST_F(NodeProveTest, AProofIsOfOneRecord) {
  Put('a', kGood);
  Put('b', kGood);
  EXPECT_EQ(Pin('b'), proto::PRESENT);
  Put('c', kGarbage, /*replace=*/true);
  EXPECT_EQ(Pin('b'), proto::PROVE);
  EXPECT_EQ(Pin('c'), proto::PRESENT);
  ASSERT_TRUE(Quarantine(kGarbage));
  EXPECT_EQ(Pin('b'), proto::PROVE);  // The same bytes, but another record: it is cheap to ask.
  EXPECT_FALSE(Put('b', kGood).differs());
  EXPECT_EQ(Pin('b'), proto::PRESENT);
}

// A repeated request must not hit what came back, were it of the same checksum.
TEST_F(NodeProveTest, AQuarantineNamesItsRecord) {
  Put('a', kGood);
  auto reply = rig_.Call(IdsMessage(rpc::kNodeGet, {kId}));
  const uint64_t place = ParseHead<proto::NodeGetReply>(*reply)->answers(0).place();
  EXPECT_NE(place, 0u);
  proto::NodeQuarantineRequest head;
  head.set_id(ToString(kId.bytes()));
  head.set_checksum(ToString(ChecksumOf(kGood).bytes()));
  head.set_place(place + 1);
  ASSERT_TRUE(rig_.Call(MakeMessage(rpc::kNodeQuarantine, head)).ok());
  EXPECT_EQ(Pin('a'), proto::PRESENT);
  head.set_place(place);
  ASSERT_TRUE(rig_.Call(MakeMessage(rpc::kNodeQuarantine, head)).ok());
  EXPECT_EQ(Pin('a'), proto::MISSING);
}

TEST_F(NodeProveTest, AChunkNeitherReplacesNorKeepsOutAnythingElse) {
  const std::vector<PutItem> commit = {{kId, kGood, RecordKind::kCommitRecord, 1}};
  Put('a', kGarbage);  // Under the id that the next commit will have.
  auto reply = rig_.Call(PutMessage(commit));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(ParseHead<proto::NodePutReply>(*reply)->answers(0).checksum(),
            ToString(ChecksumOf(kGood).bytes()));
  for (const bool replace : {false, true}) {
    EXPECT_EQ(Put('a', kGarbage, replace).status(), proto::REFUSED);
  }
  EXPECT_EQ(rig_.GetOne(kId).payload, kGood);
  EXPECT_EQ(rig_.NodeStatus().highest_commit(), 1u);
  Restart(/*wipe_index=*/true);
  EXPECT_EQ(rig_.GetOne(kId).payload, kGood);
  EXPECT_FALSE(Quarantine(kGood));  // No chunk comes back in its place.
  EXPECT_EQ(rig_.NodeStatus().highest_commit(), 1u);
}

TEST_F(NodeProveTest, WhatTheMapPlacesElsewhereIsNotTaken) {
  rig_.node().SetGroups(std::vector<bool>(4096, false));
  const auto refused = rig_.Call(From('a', PutMessage({{kId, kGood}})));
  EXPECT_TRUE(absl::IsUnavailable(refused.status())) << refused.status();
  EXPECT_TRUE(absl::IsUnavailable(rig_.Call(From('a', PinMessage({kId}))).status()));
  rig_.PutPresent({kId, kGood});  // Of a server: a copy that moves.
}

TEST_F(NodeProveTest, WithNothingSetAsideAQuarantinedRecordStaysSo) {
  Put('a', kGarbage);
  EXPECT_FALSE(Quarantine(kGarbage));
  EXPECT_EQ(Pin('a'), proto::MISSING);
  Put('b', kGood);
  EXPECT_EQ(rig_.GetOne(kId).payload, kGood);
  EXPECT_FALSE(Quarantine(kGood));  // A reader's word counts; what did not open does not come back.
  EXPECT_EQ(Pin('b'), proto::MISSING);
}

TEST_F(NodeProveTest, OnlyServersStoreWhatIsNoChunk) {
  for (const RecordKind kind : {RecordKind::kCommitRecord, RecordKind::kManifestPart}) {
    const std::vector<PutItem> items = {{kId, kGood, kind, 1}};
    EXPECT_TRUE(absl::IsPermissionDenied(rig_.Call(From('a', PutMessage(items))).status()));
    EXPECT_EQ(rig_.PinOne(kId), proto::MISSING);
  }
  RpcMessage message = PutMessage({{kId, kGood, RecordKind::kCommitRecord, 1}});
  message.caller.roles = static_cast<uint32_t>(Role::kCoordinator);
  EXPECT_TRUE(rig_.Call(message).ok());
  EXPECT_EQ(rig_.PinOne(kId), proto::PRESENT);
}

}  // namespace
}  // namespace holdfast
