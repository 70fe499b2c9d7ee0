// One suite for every Kv: RocksDB plain, encrypted and without WAL, and the in-memory twin.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "common/kv/mem_kv.h"
#include "common/kv/rocks_kv.h"
#include "tests/common/io/temp_dir.h"

namespace holdfast {
namespace {

using Rows = std::vector<std::pair<std::string, std::string>>;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

// Where a Kv under test lives; it may be opened again after it was closed.
class Home {
 public:
  virtual ~Home() = default;
  virtual StatusOr<std::unique_ptr<Kv>> Open() = 0;
  virtual bool wal() const { return true; }
};

class MemHome : public Home {
 public:
  explicit MemHome(bool wal) : wal_(wal) {}
  StatusOr<std::unique_ptr<Kv>> Open() override { return OpenMemKv(disk_, wal_); }
  bool wal() const override { return wal_; }

 private:
  const bool wal_;
  MemKvDisk disk_;
};

class RocksHome : public Home {
 public:
  explicit RocksHome(RocksKvOptions options) : options_(options) {}
  StatusOr<std::unique_ptr<Kv>> Open() override {
    return OpenRocksKv(dir_.path() + "/kv", true, options_);
  }
  bool wal() const override { return options_.wal; }

 private:
  const RocksKvOptions options_;
  TempDir dir_;
};

std::array<uint8_t, 32> Key() {
  std::array<uint8_t, 32> key;
  key.fill(0x5a);
  return key;
}

struct Twin {
  const char* name;
  std::unique_ptr<Home> (*make)();
};

const Twin kTwins[] = {
    {"Mem", [] { return std::unique_ptr<Home>(new MemHome(true)); }},
    {"MemWithoutWal", [] { return std::unique_ptr<Home>(new MemHome(false)); }},
    {"RocksPlain", [] { return std::unique_ptr<Home>(new RocksHome({.bloom = true})); }},
    {"RocksEncrypted",
     [] { return std::unique_ptr<Home>(new RocksHome({.encryption_key = Key()})); }},
    {"RocksWithoutWal",
     [] { return std::unique_ptr<Home>(new RocksHome({.wal = false, .bloom = true})); }},
};

class KvConformance : public ::testing::TestWithParam<Twin> {
 protected:
  void SetUp() override { Reopen(); }

  void Reopen() {
    kv_.reset();
    auto opened = home_->Open();
    ASSERT_TRUE(opened.ok()) << opened.status();
    kv_ = *std::move(opened);
  }

  void Write(const KvBatch& batch) {
    Status s = kv_->Write(batch, home_->wal());
    ASSERT_TRUE(s.ok()) << s;
  }

  std::optional<std::string> Get(std::string_view key) {
    auto value = kv_->Get(key);
    EXPECT_TRUE(value.ok()) << value.status();
    return value.ok() ? *value : std::nullopt;
  }

  Rows Scan(std::string_view start, std::string_view end, size_t limit = SIZE_MAX) {
    Rows rows;
    Status s = kv_->Scan(start, end, [&](std::string_view k, std::string_view v) {
      rows.emplace_back(k, v);
      return rows.size() < limit;
    });
    EXPECT_TRUE(s.ok()) << s;
    return rows;
  }

  std::unique_ptr<Home> home_ = GetParam().make();
  std::unique_ptr<Kv> kv_;
};

INSTANTIATE_TEST_SUITE_P(Twins, KvConformance, ::testing::ValuesIn(kTwins),
                         [](const auto& info) { return info.param.name; });

TEST_P(KvConformance, WhatIsWrittenIsRead) {
  EXPECT_EQ(Get("a"), std::nullopt);
  Write({{"a", "1"}, {"b", "2"}, {"empty", ""}});
  EXPECT_EQ(Get("a"), "1");
  EXPECT_EQ(Get("empty"), "");
  Write({{"a", "3"}, {"b", std::nullopt}, {"never there", std::nullopt}});
  EXPECT_EQ(Get("a"), "3");
  EXPECT_EQ(Get("b"), std::nullopt);
}

TEST_P(KvConformance, TheLastMutationOfAKeyInABatchWins) {
  Write({{"a", "1"}, {"a", std::nullopt}, {"b", std::nullopt}, {"b", "1"}, {"b", "2"}});
  EXPECT_EQ(Get("a"), std::nullopt);
  EXPECT_EQ(Get("b"), "2");
}

TEST_P(KvConformance, KeysAndValuesAreAnyBytes) {
  std::string key("\0\xff\n\0k", 5), value("\0\0\xff", 3);
  Write({{key, value}, {"", "the empty key"}});
  EXPECT_EQ(Get(key), value);
  EXPECT_EQ(Get(""), "the empty key");
  EXPECT_EQ(Get(std::string("\0", 1)), std::nullopt);
}

TEST_P(KvConformance, ALargeRow) {
  std::string large(5'000'000, '\0');
  SimRng rng(1);
  rng.Fill({reinterpret_cast<uint8_t*>(large.data()), large.size()});
  Write({{"large", large}, {"small", "s"}});
  EXPECT_EQ(Get("large"), large);
  Reopen();
  EXPECT_EQ(Get("large"), large);
  EXPECT_EQ(Get("small"), "s");
  EXPECT_TRUE(kv_->VerifyAll().ok());
}

TEST_P(KvConformance, MultiGetKeepsTheOrderOfItsKeys) {
  Write({{"a", "1"}, {"b", "2"}, {"c", "3"}});
  auto values = kv_->MultiGet({"c", "no", "a", "a", ""});
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_THAT(*values, ElementsAre("3", std::nullopt, "1", "1", std::nullopt));
  values = kv_->MultiGet({});
  ASSERT_TRUE(values.ok());
  EXPECT_THAT(*values, IsEmpty());
}

TEST_P(KvConformance, ScanGoesInOrderOfBytes) {
  Write({{"b", "2"}, {"\xff", "5"}, {"a", "1"}, {"b\x01", "3"}, {"c", "4"}, {"\x7f", "6"}});
  EXPECT_THAT(Scan("", ""), ElementsAre(Pair("a", "1"), Pair("b", "2"), Pair("b\x01", "3"),
                                        Pair("c", "4"), Pair("\x7f", "6"), Pair("\xff", "5")));
  EXPECT_THAT(Scan("b", "c"), ElementsAre(Pair("b", "2"), Pair("b\x01", "3")));
  EXPECT_THAT(Scan("aa", "b"), IsEmpty());
  EXPECT_THAT(Scan("c", "a"), IsEmpty());
  EXPECT_THAT(Scan("d", "", 1), ElementsAre(Pair("\x7f", "6")));
  std::string very_last(20, '\xff');
  EXPECT_THAT(Scan("\xff", very_last), ElementsAre(Pair("\xff", "5")));
}

TEST_P(KvConformance, ScanSeesASnapshot) {
  Write({{"a", "1"}, {"b", "2"}, {"c", "3"}});
  Rows rows;
  Status s = kv_->Scan("", "", [&](std::string_view k, std::string_view v) {
    rows.emplace_back(k, v);
    if (rows.size() == 1) Write({{"b", std::nullopt}, {"c", "changed"}, {"d", "new"}});
    return true;
  });
  ASSERT_TRUE(s.ok()) << s;
  EXPECT_THAT(rows, ElementsAre(Pair("a", "1"), Pair("b", "2"), Pair("c", "3")));
  EXPECT_THAT(Scan("", ""), ElementsAre(Pair("a", "1"), Pair("c", "changed"), Pair("d", "new")));
}

TEST_P(KvConformance, ASnapshotStaysAsItWas) {
  Write({{"a", "1"}, {"b", "2"}, {"c", "3"}});
  const std::unique_ptr<KvSnapshot> snapshot = kv_->TakeSnapshot();
  Write({{"a", std::nullopt}, {"b", "changed"}, {"d", "new"}});
  ASSERT_TRUE(kv_->Flush().ok());
  // In several scans, as it is read beside other work.
  Rows rows;
  for (const auto& [begin, end] : {std::pair("", "b"), std::pair("b", "")}) {
    const Status s = snapshot->Scan(begin, end, [&](std::string_view k, std::string_view v) {
      rows.emplace_back(k, v);
      return true;
    });
    ASSERT_TRUE(s.ok()) << s;
  }
  EXPECT_THAT(rows, ElementsAre(Pair("a", "1"), Pair("b", "2"), Pair("c", "3")));
}

TEST_P(KvConformance, ReopeningKeepsEverything) {
  for (int i = 0; i < 3; ++i) {
    Write({{"k" + std::to_string(i), std::to_string(i)}});
    ASSERT_TRUE(kv_->Flush().ok());
    Write({{"later" + std::to_string(i), "v"}});
    Reopen();
    EXPECT_EQ(Scan("", "").size(), 2u * (i + 1));
  }
  EXPECT_TRUE(kv_->VerifyAll().ok());
}

TEST_P(KvConformance, ReservedKeysAreRefused) {
  std::string reserved = std::string(kKvReservedPrefix) + "x";
  Status s = kv_->Write({{"a", "1"}, {reserved, "1"}}, false);
  EXPECT_EQ(s.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Get("a"), std::nullopt) << "a batch is atomic";
  EXPECT_EQ(Get(reserved), std::nullopt);
  EXPECT_EQ(Get(std::string(kKvReservedPrefix) + "batches"), std::nullopt);
  EXPECT_THAT(Scan("", ""), IsEmpty());
}

TEST_P(KvConformance, SyncNeedsAWal) {
  Status s = kv_->Write({{"a", "1"}}, true);
  EXPECT_EQ(s.code(), home_->wal() ? absl::StatusCode::kOk : absl::StatusCode::kInternal);
}

TEST_P(KvConformance, AgreesWithAMapOverManyRandomBatches) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    SimRng rng(seed);
    std::map<std::string, std::string> expected;
    for (auto& [k, v] : Scan("", "")) Write({{k, std::nullopt}});
    for (int step = 0; step < 300; ++step) {
      KvBatch batch;
      for (uint64_t n = rng.Below(8); n > 0; --n) {
        std::string key = "key" + std::to_string(rng.Below(60));
        if (rng.Below(3) == 0) {
          batch.push_back({key, std::nullopt});
          expected.erase(key);
        } else {
          std::string value(rng.Below(50), static_cast<char>('a' + rng.Below(26)));
          batch.push_back({key, value});
          expected[key] = value;
        }
      }
      ASSERT_TRUE(kv_->Write(batch, false).ok());
      if (rng.Below(50) == 0) {
        ASSERT_TRUE(kv_->Flush().ok());
      }
      if (rng.Below(100) == 0) Reopen();
      std::string probe = "key" + std::to_string(rng.Below(60));
      auto it = expected.find(probe);
      ASSERT_EQ(Get(probe), it == expected.end() ? std::nullopt : std::make_optional(it->second));
    }
    EXPECT_EQ(Scan("", ""), Rows(expected.begin(), expected.end()));
    EXPECT_TRUE(kv_->VerifyAll().ok());
  }
}

}  // namespace
}  // namespace holdfast
