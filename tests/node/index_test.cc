// Lists while the Kv takes no writes: what waits to be written counts, and nothing is passed over.
#include "node/index.h"

#include <gtest/gtest.h>

#include "common/kv/mem_kv.h"

namespace holdfast {
namespace {

// Takes writes until it is told not to.
class FullKv : public Kv {
 public:
  explicit FullKv(std::unique_ptr<Kv> kv) : kv_(std::move(kv)) {}
  bool full = false;

  StatusOr<std::optional<std::string>> Get(std::string_view key) override { return kv_->Get(key); }
  StatusOr<std::vector<std::optional<std::string>>> MultiGet(
      const std::vector<std::string>& keys) override {
    return kv_->MultiGet(keys);
  }
  Status Write(const KvBatch& batch, bool sync) override {
    return full ? absl::ResourceExhaustedError("full") : kv_->Write(batch, sync);
  }
  Status Flush() override { return kv_->Flush(); }
  Status Scan(std::string_view start, std::string_view end,
              const std::function<bool(std::string_view, std::string_view)>& visit) override {
    return kv_->Scan(start, end, visit);
  }
  std::unique_ptr<KvSnapshot> TakeSnapshot() override { return kv_->TakeSnapshot(); }
  Status VerifyAll() override { return kv_->VerifyAll(); }

 private:
  std::unique_ptr<Kv> kv_;
};

RecordId Id(uint8_t number) {
  RecordId id;
  id.value[31] = number;
  return id;
}

class IndexTest : public ::testing::Test {
 protected:
  void SetUp() override {
    kv_ = std::make_shared<FullKv>(OpenMemKv(disk_, true));
    auto index = Index::Open(kv_);
    ASSERT_TRUE(index.ok()) << index.status();
    index_ = *std::move(index);
  }
  void Add(uint8_t number) {
    IndexDelta delta(*index_);
    RecordHeader header;
    header.id = Id(number);
    header.kind = RecordKind::kChunk;
    ASSERT_TRUE(delta.AddRecord(header, {1, uint64_t{4096} * number}).ok());
    (void)index_->Apply(std::move(delta));
  }
  void Erase(uint8_t number) {
    IndexDelta delta(*index_);
    ASSERT_TRUE(delta.Erase(Id(number)).ok());
    (void)index_->Apply(std::move(delta));
  }
  std::vector<int> List(uint8_t from, size_t limit) {
    std::vector<int> numbers;
    const auto entries = index_->List(Id(from), RecordId(), limit);
    EXPECT_TRUE(entries.ok()) << entries.status();
    for (const auto& [id, entry] : *entries) numbers.push_back(id.value[31]);
    return numbers;
  }

  MemKvDisk disk_;
  std::shared_ptr<FullKv> kv_;
  std::unique_ptr<Index> index_;
};

TEST_F(IndexTest, PagesAreFullThoughErasuresWait) {
  for (uint8_t n = 1; n <= 20; ++n) Add(n);
  kv_->full = true;
  for (uint8_t n : {2, 3, 5}) Erase(n);
  EXPECT_EQ(List(1, 4), (std::vector<int>{1, 4, 6, 7}));
}

TEST_F(IndexTest, WhatWaitsFarBehindDoesNotTakeThePlaceOfWhatIsStored) {
  for (uint8_t n = 1; n <= 20; ++n) Add(n);
  kv_->full = true;
  Erase(2);
  Add(30);
  EXPECT_EQ(List(1, 4), (std::vector<int>{1, 3, 4, 5}));
  EXPECT_EQ(List(18, 4), (std::vector<int>{18, 19, 20, 30}));
}

}  // namespace
}  // namespace holdfast
