// What every node does, in simulation and on a real disk.
#include <gtest/gtest.h>

#include "tests/node/node_rig.h"

namespace holdfast {
namespace {

class NodeBasicTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) {
      rig_ = std::make_unique<DiskRig>();
    } else {
      rig_ = std::make_unique<SimRig>(1);
    }
    ASSERT_TRUE(rig_->Open().ok());
  }
  void Reopen() {
    ASSERT_TRUE(rig_->Close().ok());
    const Status opened = rig_->Open();
    ASSERT_TRUE(opened.ok()) << opened;
    EXPECT_EQ(Show(rig_->node().findings()), "");
  }

  std::unique_ptr<NodeRig> rig_;
};

TEST_P(NodeBasicTest, PutsAndGetsBackAcrossReopen) {
  std::vector<RecordId> ids;
  std::vector<PutItem> items;
  for (uint64_t n = 0; n < 40; ++n) {
    items.push_back({IdOf(n), PayloadOf(n, n * 997 % 20000)});
    ids.push_back(IdOf(n));
  }
  auto put = rig_->Put(items, 7);
  ASSERT_EQ(put.answers_size(), 40);
  EXPECT_EQ(put.incarnation().size(), 16u);
  for (int round = 0; round < 3; ++round) {
    auto got = rig_->Get(ids);
    auto pin = rig_->Pin(ids, 7);
    for (size_t n = 0; n < 40; ++n) {
      EXPECT_EQ(got[n].status, proto::PRESENT);
      EXPECT_EQ(got[n].payload, items[n].payload);
      EXPECT_EQ(pin.answers(n).status(), proto::PRESENT);
      EXPECT_EQ(pin.answers(n).stored_length(), items[n].payload.size());
      EXPECT_EQ(pin.answers(n).touch_epoch(), 7u);
    }
    EXPECT_EQ(Show(rig_->CheckAll()), "");
    Reopen();
  }
}

TEST_P(NodeBasicTest, UnknownIdsAreMissing) {
  EXPECT_EQ(rig_->PinOne(IdOf(1)), proto::MISSING);
  EXPECT_EQ(rig_->GetOne(IdOf(1)).status, proto::MISSING);
  EXPECT_EQ(rig_->Stat({IdOf(1)}).answers(0).status(), proto::MISSING);
}

TEST_P(NodeBasicTest, IndexIsRebuiltEqual) {
  for (uint64_t n = 0; n < 30; ++n) {
    rig_->PutPresent({IdOf(n), PayloadOf(n, 9000),
                      n % 3 == 0 ? RecordKind::kCommitRecord : RecordKind::kChunk, n + 1},
                     n);
    if (n % 4 == 0) rig_->PinOne(IdOf(n / 2), 100 + n);
  }
  rig_->PutPresent({IdOf(4), PayloadOf(99, 100), RecordKind::kChunk, 0, true}, 5);
  std::vector<RecordId> ids;
  for (uint64_t n = 0; n < 30; ++n) ids.push_back(IdOf(n));
  const std::string before = rig_->Stat(ids).SerializeAsString();
  ASSERT_TRUE(rig_->Close().ok());
  rig_->WipeIndex();
  ASSERT_TRUE(rig_->Open().ok());
  EXPECT_EQ(rig_->Stat(ids).SerializeAsString(), before);
  EXPECT_EQ(rig_->GetOne(IdOf(4)).payload, PayloadOf(99, 100));
  EXPECT_EQ(rig_->NodeStatus().highest_commit(), 28u);
  EXPECT_EQ(Show(rig_->CheckAll()), "");
  Reopen();
}

TEST_P(NodeBasicTest, ListsCommitsInOrder) {
  for (uint64_t n : {3, 1, 2, 5}) {
    rig_->PutPresent({IdOf(n), PayloadOf(n, 500), RecordKind::kCommitRecord, n});
  }
  proto::NodeListCommitsRequest head;
  head.set_from(2);
  head.set_limit(2);
  auto reply = rig_->Call(MakeMessage(rpc::kNodeListCommits, head));
  ASSERT_TRUE(reply.ok());
  auto list = ParseHead<proto::NodeListCommitsReply>(*reply);
  ASSERT_EQ(list->numbers_size(), 2);
  EXPECT_EQ(list->numbers(0), 2u);
  EXPECT_EQ(list->numbers(1), 3u);
  ASSERT_EQ(reply->frames.size(), 2u);
  EXPECT_EQ(ToString(reply->frames[1].view), ToString(PayloadOf(3, 500)));
  EXPECT_EQ(rig_->NodeStatus().highest_commit(), 5u);
}

TEST_P(NodeBasicTest, OnlyTheSegmentThatIsAskedForIsChecked) {
  rig_->PutPresent({IdOf(1), PayloadOf(1, 500)});
  proto::NodeCheckSegmentRequest head;
  head.set_only(true);  // There is no segment 0.
  const auto none = rig_->Check(head);
  EXPECT_EQ(none.records(), 0u);
  EXPECT_EQ(none.next_segment_number(), 1u);
  head.set_segment_number(1);
  EXPECT_GT(rig_->Check(head).records(), 0u);
  head.set_segment_number(1000);
  EXPECT_EQ(rig_->Check(head).records(), 0u);
  EXPECT_EQ(rig_->Check(head).next_segment_number(), 0u);
  head.set_only(false);
  head.set_segment_number(0);
  EXPECT_GT(rig_->Check(head).records(), 0u);
}

TEST_P(NodeBasicTest, BatchLargerThanTheLimitIsSplit) {
  std::vector<PutItem> items;
  for (uint64_t n = 0; n < 60; ++n) items.push_back({IdOf(n), PayloadOf(n, 30000)});
  items.push_back({IdOf(1000), PayloadOf(1000, 3u << 20)});  // Larger than a batch by itself.
  auto put = rig_->Put(items);
  ASSERT_EQ(put.answers_size(), 61);
  for (const auto& answer : put.answers()) EXPECT_EQ(answer.status(), proto::PRESENT);
  EXPECT_EQ(rig_->GetOne(IdOf(1000)).payload, PayloadOf(1000, 3u << 20));
  EXPECT_EQ(Show(rig_->CheckAll()), "");
  Reopen();
  EXPECT_EQ(rig_->GetOne(IdOf(59)).payload, PayloadOf(59, 30000));
}

TEST_P(NodeBasicTest, StatusCounts) {
  auto status = rig_->NodeStatus();
  EXPECT_EQ(status.segments(), 0u);
  EXPECT_EQ(status.highest_commit(), 0u);
  rig_->PutPresent({IdOf(1), PayloadOf(1, 10000)});
  status = rig_->NodeStatus();
  EXPECT_EQ(status.segments(), 1u);
  EXPECT_EQ(status.log_bytes(), 4096u + 12288u);
  EXPECT_EQ(status.node_id(), ToString(rig_->options().node.bytes()));
  EXPECT_FALSE(status.read_only());
}

TEST_P(NodeBasicTest, SecondPutOfAnIdKeepsTheFirst) {
  rig_->PutPresent({IdOf(1), PayloadOf(1, 100)}, 3);
  auto put = rig_->Put({{IdOf(1), PayloadOf(2, 222)}}, 5);
  EXPECT_EQ(put.answers(0).status(), proto::PRESENT);
  EXPECT_EQ(put.answers(0).stored_length(), 100u);
  EXPECT_EQ(put.answers(0).checksum(), ToString(ChecksumOf(PayloadOf(1, 100)).bytes()));
  EXPECT_EQ(rig_->GetOne(IdOf(1)).payload, PayloadOf(1, 100));
  EXPECT_EQ(rig_->GetOne(IdOf(1)).touch_epoch, 5u);
}

TEST_P(NodeBasicTest, RefusesBadPuts) {
  RpcMessage message = PutMessage({{IdOf(1), PayloadOf(1, 100)}, {IdOf(2), PayloadOf(2, 100)}});
  message.frames[0] = SharedBytes::Own(PayloadOf(9, 100));
  auto reply = rig_->Call(message);
  ASSERT_TRUE(reply.ok());
  auto put = ParseHead<proto::NodePutReply>(*reply);
  EXPECT_EQ(put->answers(0).status(), proto::REFUSED);
  EXPECT_EQ(put->answers(1).status(), proto::PRESENT);
  EXPECT_EQ(rig_->PinOne(IdOf(1)), proto::MISSING);
  message.frames.pop_back();
  EXPECT_TRUE(absl::IsInvalidArgument(rig_->Call(message).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(rig_->Call({99, "", {}}).status()));
}

INSTANTIATE_TEST_SUITE_P(Rigs, NodeBasicTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Disk" : "Sim"; });

}  // namespace
}  // namespace holdfast
