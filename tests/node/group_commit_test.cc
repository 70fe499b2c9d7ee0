// Batches on their way to the log, with executors that do nothing by themselves.
#include "node/group_commit.h"

#include <gtest/gtest.h>

#include "node/segment_table.h"
#include "tests/node/node_rig.h"

namespace holdfast {
namespace {

// Tasks wait until they are called for, one by one.
class Hand : public Loop {
 public:
  void Post(Task task) override { tasks_.push_back(std::move(task)); }
  void PostAfter(int64_t, Task task) override { timers_.push_back(std::move(task)); }
  bool RunOne() {
    if (tasks_.empty()) return false;
    const Task task = std::move(tasks_.front());
    tasks_.pop_front();
    task();
    return true;
  }
  size_t waiting() const { return tasks_.size(); }
  void RunTimers() {
    for (Task& task : std::exchange(timers_, {})) task();
  }

 private:
  std::deque<Task> tasks_;
  std::vector<Task> timers_;
};

class GroupCommitTest : public testing::Test {
 protected:
  GroupCommitTest() : rng_(5), fs_(5), env_{fs_, clock_, rng_, loop_, io_, {}, {}} {
    options_.dir = "/disk";
    options_.batch_bytes = 64 << 10;
    EXPECT_TRUE(Node::Format(options_, fs_, rng_).ok());
    commits_ = std::make_shared<GroupCommit>(options_, env_, LogStart{},
                                             [this](const Batch& batch, const Log::Written&) {
                                               indexed_.push_back(batch.records()[0].header.id);
                                               return absl::OkStatus();
                                             });
  }
  ~GroupCommitTest() override { commits_->Stop(); }

  // A record that fills a batch, or far from it.
  void Put(uint64_t n, size_t size) {
    const Buffer payload = PayloadOf(n, size);
    RecordHeader header;
    header.id = IdOf(n);
    header.kind = RecordKind::kChunk;
    header.length = static_cast<uint32_t>(payload.size());
    header.checksum = ChecksumOf(payload);
    auto op = std::make_shared<Operation>(
        [this, n](const Status& status) { done_.emplace_back(n, status.code()); });
    commits_->AddRecord(header, payload, op);
    op->Release();
  }
  void RunAll() {
    while (io_.RunOne() || loop_.RunOne()) {
    }
  }

  using Done = std::vector<std::pair<uint64_t, absl::StatusCode>>;
  static constexpr size_t kFull = 65 << 10;
  SimRng rng_;
  SimFs fs_;
  SimClock clock_;
  Hand loop_, io_;
  NodeEnv env_;
  NodeOptions options_;
  std::vector<RecordId> indexed_;
  Done done_;
  std::shared_ptr<GroupCommit> commits_;
};

TEST_F(GroupCommitTest, TheLogGoesOnWithAFullBatchWithoutTheLoop) {
  Put(1, kFull);
  Put(2, kFull);
  EXPECT_EQ(io_.waiting(), 1u) << "one after the other";
  EXPECT_TRUE(io_.RunOne());
  EXPECT_EQ(io_.waiting(), 1u) << "the next one does not wait for the loop";
  EXPECT_TRUE(io_.RunOne());
  EXPECT_EQ(io_.waiting(), 0u);
  EXPECT_TRUE(done_.empty()) << "nobody is told before it is indexed";
  EXPECT_EQ(commits_->FindRecord(IdOf(2)).has_value(), true);
  RunAll();
  EXPECT_EQ(done_, (Done{{1, absl::StatusCode::kOk}, {2, absl::StatusCode::kOk}}));
  EXPECT_EQ(indexed_, (std::vector{IdOf(1), IdOf(2)}));
}

TEST_F(GroupCommitTest, ABatchThatIsNotFullWaitsAndTakesWhatComes) {
  Put(1, kFull);
  Put(2, 100);
  loop_.RunTimers();  // It is due, but the log has something to do.
  Put(3, 100);
  EXPECT_TRUE(io_.RunOne());
  EXPECT_EQ(io_.waiting(), 0u);
  Put(4, 100);
  RunAll();
  EXPECT_EQ(indexed_, (std::vector{IdOf(1), IdOf(2)}));
  EXPECT_EQ(done_.size(), 4u);
}

TEST_F(GroupCommitTest, NoMoreThanTwoAreWithTheLog) {
  for (uint64_t n = 1; n <= 4; ++n) Put(n, kFull);
  for (int written = 0; written < 2; ++written) EXPECT_TRUE(io_.RunOne());
  EXPECT_EQ(io_.waiting(), 0u) << "the third waits until the loop knows of the first";
  RunAll();
  EXPECT_EQ(indexed_, (std::vector{IdOf(1), IdOf(2), IdOf(3), IdOf(4)}));
}

TEST_F(GroupCommitTest, BytesCountUntilTheLoopKnowsThatTheyAreWritten) {
  auto op = std::make_shared<Operation>([](const Status&) {});
  // A record of them is made when the batch is written.
  for (uint64_t n = 100; n < 300; ++n) commits_->AddTouch(IdOf(n), 1, op);
  Put(1, kFull);
  const uint64_t bytes = commits_->queued_bytes();
  EXPECT_GT(bytes, uint64_t{kFull});
  EXPECT_TRUE(io_.RunOne());
  EXPECT_EQ(commits_->queued_bytes(), bytes);
  RunAll();
  EXPECT_EQ(commits_->queued_bytes(), 0u);
  op->Release();
}

TEST_F(GroupCommitTest, ABatchBehindOneThatFailsIsWritten) {
  Put(1, kFull);
  RunAll();
  fs_.FailNextDataSync(SegmentPath(options_.dir, 1));
  Put(2, kFull);
  Put(3, kFull);
  RunAll();
  EXPECT_EQ(done_, (Done{{1, absl::StatusCode::kOk},
                         {2, absl::StatusCode::kUnavailable},
                         {3, absl::StatusCode::kOk}}));
  EXPECT_EQ(indexed_, (std::vector{IdOf(1), IdOf(3)}));
}

TEST_F(GroupCommitTest, NothingIsWrittenOnceItIsStopped) {
  Put(1, kFull);
  Put(2, kFull);
  EXPECT_TRUE(io_.RunOne());
  const uint64_t operations = fs_.operations();
  commits_->Stop();
  RunAll();
  EXPECT_EQ(fs_.operations(), operations);
  EXPECT_TRUE(done_.empty());
}

TEST_F(GroupCommitTest, ACloseWritesWhatWaits) {
  for (uint64_t n = 1; n <= 3; ++n) Put(n, n == 3 ? 100 : kFull);
  Status closed = absl::UnknownError("not yet");
  commits_->Close([&](const Status& status) { closed = status; });
  RunAll();
  EXPECT_TRUE(closed.ok()) << closed;
  EXPECT_EQ(done_.size(), 3u);
}

}  // namespace
}  // namespace holdfast
