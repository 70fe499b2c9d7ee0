#include "common/kv/rocks_kv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "common/base/rng.h"
#include "common/io/fs.h"
#include "tests/common/io/temp_dir.h"

namespace holdfast {
namespace {

namespace stdfs = std::filesystem;
using absl::StatusCode;
using Rows = std::map<std::string, std::string>;

constexpr uint64_t kSeed = 20240607;  // Of every random choice below; printed with failures.
constexpr auto kHardLinks = stdfs::copy_options::recursive | stdfs::copy_options::create_hard_links;

std::array<uint8_t, 32> Key(uint8_t fill = 0x5a) {
  std::array<uint8_t, 32> key;
  key.fill(fill);
  return key;
}

RocksKvOptions Encrypted() {
  return {.write_buffer_bytes = 64 << 10, .block_cache_bytes = 1 << 20, .encryption_key = Key()};
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void WriteAll(const std::string& path, const std::string& bytes) {
  stdfs::remove(path);  // It may be a link to the file of another copy.
  std::ofstream(path, std::ios::binary) << bytes;
}

std::vector<std::string> Names(const std::string& dir) { return *PosixFs().List(dir); }

StatusOr<Rows> ScanAll(Kv& kv) {
  Rows rows;
  RETURN_IF_ERROR(kv.Scan("", "", [&](std::string_view k, std::string_view v) {
    rows.emplace(k, v);
    return true;
  }));
  return rows;
}

StatusCode OpenCode(const std::string& dir, const RocksKvOptions& options = Encrypted()) {
  return OpenRocksKv(dir, false, options).status().code();
}

std::unique_ptr<Kv> MustOpen(const std::string& dir, const RocksKvOptions& options = Encrypted()) {
  auto kv = OpenRocksKv(dir, true, options);
  EXPECT_TRUE(kv.ok()) << kv.status();
  return kv.ok() ? *std::move(kv) : nullptr;
}

TEST(RocksKvOpen, NothingThere) {
  TempDir temp;
  std::string dir = temp.path() + "/kv";
  EXPECT_EQ(OpenCode(dir), StatusCode::kNotFound);
  stdfs::create_directory(dir);
  EXPECT_EQ(OpenCode(dir), StatusCode::kNotFound);
  EXPECT_TRUE(Names(dir).empty()) << "looking leaves nothing behind";
  EXPECT_TRUE(DestroyRocksKv(temp.path() + "/other").ok());
}

TEST(RocksKvOpen, ACreationThatDidNotFinishIsBegunAgain) {
  TempDir temp;
  WriteAll(temp.path() + "/MANIFEST-000001", "half");
  EXPECT_EQ(OpenCode(temp.path()), StatusCode::kNotFound);
  EXPECT_TRUE(MustOpen(temp.path())->Write({{"a", "1"}}, true).ok());
  EXPECT_EQ(**MustOpen(temp.path())->Get("a"), "1");
}

TEST(RocksKvOpen, ALostCurrentIsDamage) {
  TempDir temp;
  ASSERT_TRUE(MustOpen(temp.path())->Write({{"a", "1"}}, true).ok());
  stdfs::remove(temp.path() + "/CURRENT");
  auto opened = OpenRocksKv(temp.path(), true, Encrypted());
  EXPECT_EQ(opened.status().code(), StatusCode::kDataLoss);
  EXPECT_THAT(Message(opened.status()), testing::HasSubstr(temp.path()));
}

TEST(RocksKvOpen, AnotherHolderIsNoDamage) {
  TempDir temp;
  auto first = MustOpen(temp.path());
  EXPECT_EQ(OpenCode(temp.path()), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(first->Write({{"a", "1"}}, true).ok()) << "the first is not disturbed";
  first.reset();
  EXPECT_EQ(OpenCode(temp.path()), StatusCode::kOk);
}

TEST(RocksKvOpen, TheWrongKeyIsDamageAndHarmsNothing) {
  TempDir temp;
  ASSERT_TRUE(MustOpen(temp.path())->Write({{"a", "1"}}, true).ok());
  RocksKvOptions wrong = Encrypted();
  wrong.encryption_key = Key(1);
  EXPECT_EQ(OpenCode(temp.path(), wrong), StatusCode::kDataLoss);
  EXPECT_EQ(OpenCode(temp.path(), {}), StatusCode::kDataLoss);
  EXPECT_EQ(**MustOpen(temp.path())->Get("a"), "1");
}

TEST(RocksKvOpen, EveryMissingFileIsDamage) {
  TempDir temp(TempDir::MemoryBacked());
  std::string dir = temp.path() + "/kv";
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(MustOpen(dir)->Write({{"k" + std::to_string(i), "v"}}, true).ok());
  }
  int tried = 0;
  for (const std::string& name : Names(dir)) {
    if (name == "LOCK" || name.ends_with(".log")) continue;  // The log is empty after a close.
    std::string copy = temp.path() + "/block";  // A name must not pass for an error text.
    stdfs::copy(dir, copy, kHardLinks);
    stdfs::remove(copy + "/" + name);
    EXPECT_EQ(OpenCode(copy), StatusCode::kDataLoss) << name;
    stdfs::remove_all(copy);
    ++tried;
  }
  EXPECT_GE(tried, 5) << "BATCHES, CURRENT, MANIFEST and at least two tables";
}

TEST(RocksKvFiles, NothingUncheckedIsKept) {
  TempDir temp;
  for (int i = 0; i < 2; ++i) {
    auto kv = MustOpen(temp.path());
    ASSERT_TRUE(kv->Write({{"a", std::string(200'000, 'x')}}, true).ok());
    for (const std::string& name : Names(temp.path())) {
      EXPECT_TRUE(name == "CURRENT" || name == "LOCK" || name == "BATCHES" ||
                  name.starts_with("MANIFEST-") || name.ends_with(".log") || name.ends_with(".sst"))
          << name;
    }
    EXPECT_EQ(ReadAll(temp.path() + "/LOCK"), "");
  }
  ASSERT_TRUE(DestroyRocksKv(temp.path()).ok());
  EXPECT_FALSE(stdfs::exists(temp.path()));
}

TEST(RocksKvFiles, NoPlaintextInAnyFile) {
  TempDir temp;
  const std::string key = "known-plaintext-key-", value = "known-plaintext-value-";
  auto write = [&](const RocksKvOptions& options, const std::string& dir) {
    for (int session = 0; session < 3; ++session) {
      auto kv = MustOpen(dir, options);
      for (int i = 0; i < 2000; i += 100) {
        KvBatch batch;
        for (int j = i; j < i + 100; ++j) {
          batch.push_back({key + std::to_string(j), value + std::to_string(j)});
        }
        ASSERT_TRUE(kv->Write(batch, true).ok());
      }
    }
  };
  auto files_with = [&](const std::string& dir, const std::string& text) {
    int n = 0;
    for (const std::string& name : Names(dir)) {
      n += ReadAll(dir + "/" + name).find(text) != std::string::npos;
    }
    return n;
  };
  write(Encrypted(), temp.path() + "/secret");
  RocksKvOptions plain = Encrypted();
  plain.encryption_key.reset();
  write(plain, temp.path() + "/plain");
  for (const std::string& text : {key, value, std::string("rocksdb"), std::string("holdfast")}) {
    EXPECT_EQ(files_with(temp.path() + "/secret", text), 0) << text;
    EXPECT_GT(files_with(temp.path() + "/plain", text), 0) << text << ": the search finds nothing";
  }
}

// A database of numbered batches, and what flipping its bytes does.
class Damage : public testing::Test {
 protected:
  // One outcome of opening and reading everything. -1: reported as kDataLoss; else the number of
  // batches that are there, exactly as written.
  static constexpr int kReported = -1, kWrong = -2;

  KvBatch BatchOf(int i, size_t value_size) {
    std::string n = std::to_string(i);
    return {{"row" + n, n + std::string(value_size, static_cast<char>('a' + i % 26))},
            {"last", n},
            {"only" + std::to_string(i - 1), std::nullopt},
            {"only" + n, ""}};
  }

  void WriteBatches(Kv& kv, int count, size_t value_size) {
    for (int i = 0; i < count; ++i) {
      KvBatch batch = BatchOf(static_cast<int>(states_.size()), value_size);
      ASSERT_TRUE(kv.Write(batch, true).ok());
      Rows rows = states_.back();
      for (const KvMutation& m : batch) {
        rows.erase(m.key);
        if (m.value) rows.emplace(m.key, *m.value);
      }
      states_.push_back(std::move(rows));
    }
  }

  // Waits until background work has come to rest.
  void Settle() {
    auto sizes = [&] {
      std::map<std::string, uintmax_t> sizes;
      std::error_code gone;
      for (auto& e : stdfs::directory_iterator(dir_)) sizes[e.path()] = e.file_size(gone);
      return sizes;
    };
    for (auto last = sizes();;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(150));
      auto now = sizes();
      if (now == last) break;
      last = std::move(now);
    }
  }

  // The files as a kill would leave them.
  void CopyOpen() {
    Settle();
    stdfs::copy(dir_, image_);
  }

  // Puts `bytes` in place of one file of the image, and reads everything.
  int Outcome(const std::string& name, const std::string& bytes) {
    std::string copy = temp_.path() + "/copy";
    stdfs::remove_all(copy);
    stdfs::copy(image_, copy, kHardLinks);
    WriteAll(copy + "/" + name, bytes);
    auto kv = OpenRocksKv(copy, false, Encrypted());
    last_ = kv.status();
    if (!kv.ok()) {
      EXPECT_EQ(Names(copy), Names(image_)) << "what is damaged must stay as it is";
      return kv.status().code() == StatusCode::kDataLoss ? kReported : kWrong;
    }
    auto rows = ScanAll(**kv);
    Status verified = (*kv)->VerifyAll();
    if (!verified.ok() && verified.code() != StatusCode::kDataLoss) return kWrong;
    if (!rows.ok()) return rows.status().code() == StatusCode::kDataLoss ? kReported : kWrong;
    for (size_t n = states_.size(); n-- > 0;) {
      // What is read without an error must be right, whatever VerifyAll finds elsewhere.
      if (*rows == states_[n]) return verified.ok() ? static_cast<int>(n) : kReported;
    }
    return kWrong;
  }

  using Outcomes = std::map<int, int>;  // And how often each came.

  void Try(const std::string& name, const std::string& bytes, const std::string& what,
           Outcomes& outcomes) {
    int outcome = Outcome(name, bytes);
    outcomes[outcome]++;
    EXPECT_NE(outcome, kWrong) << name << " " << what << " seed " << kSeed << ": " << last_;
  }

  // Changes every byte of a log, or of other and big files `many` at random: once at random, and
  // once in bit 2, which makes the type of a log record that of a recycled log.
  Outcomes Flip(const std::string& name, size_t many = 100) {
    std::string bytes = ReadAll(image_ + "/" + name);
    Outcomes outcomes;
    bool all = bytes.size() <= 1000 || (bytes.size() <= 4000 && name.ends_with(".log"));
    all = all && !name.ends_with(".sst");
    for (size_t i = 0; i < (all ? bytes.size() : many); ++i) {
      size_t at = all ? i : rng_.Below(bytes.size());
      for (uint64_t mask : {uint64_t{4}, 1 + rng_.Below(255)}) {
        std::string damaged = bytes;
        damaged[at] = static_cast<char>(damaged[at] ^ mask);
        Try(name, damaged, "byte " + std::to_string(at) + " xor " + std::to_string(mask), outcomes);
      }
    }
    Print(name + " flipped", outcomes);
    return outcomes;
  }

  // Cuts a file off, at `times` random places.
  Outcomes Cut(const std::string& name, int times) {
    std::string bytes = ReadAll(image_ + "/" + name);
    Outcomes outcomes;
    while (times-- > 0) {
      size_t n = rng_.Below(bytes.size());
      Try(name, bytes.substr(0, n), "cut to " + std::to_string(n), outcomes);
    }
    Print(name + " cut", outcomes);
    return outcomes;
  }

  std::vector<std::string> Files(const std::string& part) {
    std::vector<std::string> found;
    for (const std::string& name : Names(image_)) {
      if (name.find(part) != std::string::npos) found.push_back(name);
    }
    return found;
  }

  std::string Only(const std::string& part) {
    std::vector<std::string> found = Files(part);
    EXPECT_EQ(found.size(), 1u) << part;
    return found.back();
  }

  void Print(const std::string& what, const Outcomes& outcomes) {
    for (auto [n, times] : outcomes) {
      std::cout << "  " << what << ": " << times << " × ";
      if (n == kReported) {
        std::cout << "kDataLoss\n";
      } else {
        std::cout << n << " batches of " << all() << "\n";
      }
    }
  }

  // Every outcome is a report, or so many batches as `allowed` says.
  void ExpectOnly(const Outcomes& outcomes, const std::set<int>& allowed) {
    for (auto [n, times] : outcomes) {
      EXPECT_TRUE(n == kReported || allowed.count(n) > 0)
          << times << " times " << n << " batches of " << all();
    }
  }

  int all() const { return static_cast<int>(states_.size()) - 1; }

  TempDir temp_{TempDir::MemoryBacked()};
  std::string dir_ = temp_.path() + "/kv", image_ = temp_.path() + "/image";
  std::vector<Rows> states_{Rows{}};  // After so many batches.
  SimRng rng_{kSeed};
  Status last_;  // Of the last attempt to open.
};

// No flipped byte passes unnoticed, nor for what a crash left unfinished.
TEST_F(Damage, FlippedBytesAfterAKill) {
  {
    auto kv = MustOpen(dir_);
    WriteBatches(*kv, 10, 30);
    kv.reset();
    kv = MustOpen(dir_);
    WriteBatches(*kv, 10, 30);
    CopyOpen();
  }
  EXPECT_EQ(Outcome("CURRENT", ReadAll(image_ + "/CURRENT")), all()) << last_;
  ExpectOnly(Flip(Only(".log")), {});
  ExpectOnly(Flip(Only("MANIFEST")), {});
  ExpectOnly(Flip("CURRENT"), {});
  ExpectOnly(Flip("BATCHES"), {});
  for (const std::string& name : Files(".sst")) ExpectOnly(Flip(name), {});
}

TEST_F(Damage, FlippedBytesInTheMidstOfBulkWriting) {
  {
    auto kv = MustOpen(dir_);
    WriteBatches(*kv, 45, 9000);
    CopyOpen();
  }
  EXPECT_EQ(Outcome("CURRENT", ReadAll(image_ + "/CURRENT")), all()) << last_;
  ExpectOnly(Flip(Only("MANIFEST")), {});
  ExpectOnly(Flip(Files(".log").back()), {});
  for (const std::string& name : Files(".sst")) ExpectOnly(Flip(name, 25), {});
}

TEST_F(Damage, FlippedBytesAfterACleanClose) {
  {
    auto kv = MustOpen(dir_);
    WriteBatches(*kv, 10, 30);
    kv.reset();
    kv = MustOpen(dir_);
    WriteBatches(*kv, 10, 3000);
  }
  stdfs::copy(dir_, image_);
  ExpectOnly(Flip(Only("MANIFEST")), {all()});
  ExpectOnly(Flip("CURRENT"), {});
  ExpectOnly(Flip("BATCHES"), {});
  EXPECT_EQ(stdfs::file_size(image_ + "/" + Only(".log")), 40u) << "the log is empty";
  ExpectOnly(Flip(Only(".log")), {});
  for (const std::string& name : Files(".sst")) ExpectOnly(Flip(name), {});
}

// A WAL whose last batches are cut off is what a crash leaves, and no damage: those before the cut
// are there. What was marked durable is missed, and so is all that a shorter MANIFEST forgets;
// RocksDB itself would go on without it, and delete the tables.
TEST_F(Damage, FilesCutOff) {
  {
    WriteBatches(*MustOpen(dir_), 45, 9000);
    auto kv = MustOpen(dir_);
    WriteBatches(*kv, 3, 200);
    CopyOpen();
  }
  std::string wal = Files(".log").back(), bytes = ReadAll(image_ + "/" + wal);
  Outcomes outcomes;
  for (size_t cut = 1; cut <= 750; cut += 5) {
    Try(wal, bytes.substr(0, bytes.size() - cut), std::to_string(cut) + " cut off", outcomes);
  }
  Print(wal + " cut", outcomes);
  EXPECT_EQ(outcomes[kReported], 0);
  for (int left : {45, 46, 47}) EXPECT_GT(outcomes[left], 0) << left;
  ExpectOnly(Cut(wal, 50), {45, 46, 47});
  ExpectOnly(Cut(Only("MANIFEST"), 100), {all()});
}

TEST_F(Damage, ManifestCutAfterACleanClose) {
  WriteBatches(*MustOpen(dir_), 5, 30);
  stdfs::copy(dir_, image_);
  ExpectOnly(Cut(Only("MANIFEST"), 150), {0, all()});
}

// A log that was cut off in one crash must not look like damage once there is a newer one.
TEST_F(Damage, CrashAfterCrash) {
  for (int round = 0; round < 5; ++round) {
    auto kv = MustOpen(dir_);
    ASSERT_NE(kv, nullptr) << round;
    auto rows = ScanAll(*kv);
    ASSERT_TRUE(rows.ok());
    EXPECT_EQ(*rows, states_.back());
    EXPECT_TRUE(kv->VerifyAll().ok());
    if (round % 2 == 0) WriteBatches(*kv, 1, 30);
    CopyOpen();
    kv.reset();
    stdfs::remove_all(dir_);
    stdfs::rename(image_, dir_);
    // The next record was being written: its header has come, and nothing more.
    std::string log = dir_ + "/" + [&] {
      std::string last;
      for (const std::string& name : Names(dir_)) {
        if (name.ends_with(".log")) last = name;
      }
      return last;
    }();
    std::string bytes = ReadAll(log);
    if (round % 2 == 0) WriteAll(log, bytes + "\x01\x02\x03");
  }
}

}  // namespace
}  // namespace holdfast
