// What a power cut may do to SimFs, and what it must not.
#include "common/io/sim_fs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace holdfast {
namespace {

using absl::StatusCode;
using ::testing::ElementsAre;

constexpr uint64_t kSeeds = 300;

std::unique_ptr<File> MustOpen(Fs& fs, const std::string& path, bool create = true) {
  auto file = fs.Open(path, {.write = true, .create = create});
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? *std::move(file) : nullptr;
}

std::string Contents(Fs& fs, const std::string& path) {
  auto bytes = ReadFile(fs, path);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return bytes.ok() ? ToString(*bytes) : "";
}

// A file "/f" with synced name and contents, and then `change`d and not synced; what each seed
// leaves of it.
std::set<std::string> Survivors(std::string_view synced, const std::function<void(File&)>& change) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SimFs fs(seed);
    auto file = MustOpen(fs, "/f");
    EXPECT_TRUE(file->WriteAt(0, AsBytes(synced)).ok());
    EXPECT_TRUE(file->DataSync().ok());
    EXPECT_TRUE(fs.SyncDir("/").ok());
    change(*file);
    fs.PowerCut();
    fs.Reboot();
    seen.insert(Contents(fs, "/f"));
  }
  return seen;
}

TEST(SimFsPower, EverythingFailsWithoutPower) {
  SimFs fs(1);
  auto file = MustOpen(fs, "/f");
  fs.PowerCut();
  EXPECT_FALSE(fs.powered());
  Buffer b(1);
  for (const Status& s :
       {file->WriteAt(0, AsBytes("x")), file->ReadAt(0, b).status(), file->DataSync(),
        file->Truncate(0), file->Allocate(0, 1), file->Size().status(), fs.Open("/f", {}).status(),
        fs.CreateDir("/d"), fs.SyncDir("/"), fs.Rename("/f", "/g"), fs.Remove("/f"),
        fs.List("/").status(), fs.Exists("/f").status(), fs.Lock("/l").status(),
        fs.Space("/").status()}) {
    EXPECT_EQ(s.code(), StatusCode::kUnavailable);
  }
  fs.Reboot();
  EXPECT_TRUE(fs.powered());
  EXPECT_EQ(file->Size().status().code(), StatusCode::kUnavailable) << "no handle survives";
  EXPECT_TRUE(fs.List("/").ok());
}

TEST(SimFsPower, ALockDiesWithThePower) {
  SimFs fs(1);
  auto held = fs.Lock("/lock");
  ASSERT_TRUE(held.ok());
  ASSERT_TRUE(fs.SyncDir("/").ok());
  fs.PowerCut();
  fs.Reboot();
  auto again = fs.Lock("/lock");
  EXPECT_TRUE(again.ok());
  held->reset();
  EXPECT_FALSE(fs.Lock("/lock").ok()) << "the dead handle released the lock of another";
}

TEST(SimFsPower, SyncedBytesSurvive) {
  EXPECT_THAT(Survivors("synced",
                        [](File& f) {
                          ASSERT_TRUE(f.WriteAt(3, AsBytes("!!!!!!")).ok());
                          ASSERT_TRUE(f.Truncate(8).ok());
                          ASSERT_TRUE(f.DataSync().ok());
                        }),
              ElementsAre("syn!!!!!"));
}

TEST(SimFsPower, AnUnsyncedSectorIsKeptOrDropped) {
  EXPECT_EQ(Survivors("old", [](File& f) { ASSERT_TRUE(f.WriteAt(0, AsBytes("new")).ok()); }),
            (std::set<std::string>{"old", "new"}));
}

TEST(SimFsPower, UnsyncedSizesComeAndGo) {
  EXPECT_EQ(Survivors("old", [](File& f) { ASSERT_TRUE(f.Truncate(1).ok()); }),
            (std::set<std::string>{"old", "o"}));
  EXPECT_EQ(Survivors("old", [](File& f) { ASSERT_TRUE(f.Allocate(0, 5).ok()); }),
            (std::set<std::string>{"old", std::string("old\0\0", 5)}));
  // Appended bytes may come as their length alone.
  EXPECT_EQ(Survivors("old", [](File& f) { ASSERT_TRUE(f.WriteAt(3, AsBytes("er")).ok()); }),
            (std::set<std::string>{"old", "older", std::string("old\0\0", 5)}));
}

TEST(SimFsPower, WritesAreKeptAndDroppedIndependently) {
  std::string zeros(3 * 512, '0');
  auto seen = Survivors(zeros, [](File& f) {
    for (uint64_t i = 0; i < 3; ++i) {
      ASSERT_TRUE(f.WriteAt(i * 512, AsBytes(std::string(512, 'n'))).ok());
    }
  });
  EXPECT_EQ(seen.size(), 8u) << "any subset";
  // Two on one place: the later may be lost and the earlier kept.
  EXPECT_EQ(Survivors("0",
                      [](File& f) {
                        ASSERT_TRUE(f.WriteAt(0, AsBytes("1")).ok());
                        ASSERT_TRUE(f.WriteAt(0, AsBytes("2")).ok());
                      }),
            (std::set<std::string>{"0", "1", "2"}));
}

TEST(SimFsPower, TearsLieOnSectors) {
  // From 100 bytes into a sector to 100 bytes into the fifth: five pieces.
  std::string old(6 * 512, '0');
  auto seen = Survivors(
      old, [](File& f) { ASSERT_TRUE(f.WriteAt(100, AsBytes(std::string(4 * 512, 'n'))).ok()); });
  bool torn = false, hole = false;
  for (const std::string& s : seen) {
    ASSERT_EQ(s.size(), old.size());
    for (size_t i = 1; i < s.size(); ++i) {
      bool border = i % 512 == 0 || i == 100 || i == 100 + 4 * 512;
      ASSERT_TRUE(s[i] == s[i - 1] || border) << "torn at " << i;
    }
    size_t news = static_cast<size_t>(std::count(s.begin(), s.end(), 'n'));
    torn |= news > 0 && news < 4 * 512;
    hole |= s.find("n0") != std::string::npos && s.find("n0") < s.rfind("0n");
  }
  EXPECT_TRUE(torn);
  EXPECT_TRUE(hole) << "a disk writes its sectors in any order";
}

TEST(SimFsPower, WhatARebootShowedIsDurable) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SimFs fs(seed);
    auto file = MustOpen(fs, "/f");
    ASSERT_TRUE(fs.SyncDir("/").ok());
    ASSERT_TRUE(file->WriteAt(0, AsBytes(std::string(5000, 'n'))).ok());
    fs.PowerCut();
    fs.Reboot();
    std::string after = Contents(fs, "/f");
    fs.PowerCut();
    fs.Reboot();
    EXPECT_EQ(Contents(fs, "/f"), after) << "seed " << seed;
  }
}

// The names that seeds leave in "/" after `change`.
std::set<std::vector<std::string>> NamesLeft(const std::function<void(SimFs&)>& change) {
  std::set<std::vector<std::string>> seen;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SimFs fs(seed);
    EXPECT_TRUE(WriteFileAtomically(fs, "/a", AsBytes("A")).ok());
    change(fs);
    fs.PowerCut();
    fs.Reboot();
    seen.insert(*fs.List("/"));
  }
  return seen;
}

using Names = std::set<std::vector<std::string>>;

TEST(SimFsNames, UnsyncedNamesComeAndGo) {
  EXPECT_EQ(NamesLeft([](SimFs& fs) {
              auto b = MustOpen(fs, "/b");
              ASSERT_TRUE(b->WriteAt(0, AsBytes("x")).ok());
              ASSERT_TRUE(b->DataSync().ok());
            }),
            (Names{{"a"}, {"a", "b"}}))
      << "syncing a file does not sync its name";
  EXPECT_EQ(NamesLeft([](SimFs& fs) { ASSERT_TRUE(fs.Remove("/a").ok()); }), (Names{{"a"}, {}}));
  EXPECT_EQ(NamesLeft([](SimFs& fs) { ASSERT_TRUE(fs.CreateDir("/d").ok()); }),
            (Names{{"a"}, {"a", "d"}}));
}

TEST(SimFsNames, ARenameHappensOrNot) {
  EXPECT_EQ(NamesLeft([](SimFs& fs) { ASSERT_TRUE(fs.Rename("/a", "/b").ok()); }),
            (Names{{"a"}, {"b"}}));
}

TEST(SimFsNames, NamesAreIndependent) {
  EXPECT_EQ(NamesLeft([](SimFs& fs) {
              MustOpen(fs, "/b");
              MustOpen(fs, "/c");
            }),
            (Names{{"a"}, {"a", "b"}, {"a", "c"}, {"a", "b", "c"}}));
}

TEST(SimFsNames, AnOperationNeedsTheEarlierOnesOnItsNames) {
  // "/a" and then "/b" is made, so "/b" is never alone where "/a" went to.
  EXPECT_EQ(NamesLeft([](SimFs& fs) {
              ASSERT_TRUE(fs.Rename("/a", "/b").ok());
              ASSERT_TRUE(fs.Rename("/b", "/c").ok());
            }),
            (Names{{"a"}, {"b"}, {"c"}}));
}

TEST(SimFsNames, SyncDirMakesNamesDurable) {
  EXPECT_EQ(NamesLeft([](SimFs& fs) {
              MustOpen(fs, "/b");
              ASSERT_TRUE(fs.Rename("/a", "/c").ok());
              ASSERT_TRUE(fs.SyncDir("/").ok());
            }),
            (Names{{"b", "c"}}));
}

TEST(SimFsNames, SyncDirIsForOneDirectory) {
  Names seen;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SimFs fs(seed);
    ASSERT_TRUE(fs.CreateDir("/d").ok());
    ASSERT_TRUE(fs.SyncDir("/").ok());
    MustOpen(fs, "/d/f");
    ASSERT_TRUE(fs.SyncDir("/").ok());
    fs.PowerCut();
    fs.Reboot();
    seen.insert(*fs.List("/d"));
  }
  EXPECT_EQ(seen, (Names{{}, {"f"}}));
}

TEST(SimFsNames, ADirectoryThatVanishesTakesWhatIsInIt) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SimFs fs(seed);
    ASSERT_TRUE(fs.CreateDir("/d").ok());
    MustOpen(fs, "/d/f");
    ASSERT_TRUE(fs.SyncDir("/d").ok());
    fs.PowerCut();
    fs.Reboot();
    EXPECT_EQ(*fs.Exists("/d"), *fs.Exists("/d/f")) << "seed " << seed;
  }
}

TEST(SimFsNames, AnAtomicWriteIsOldOrNewWhereverThePowerFails) {
  std::set<std::string> seen;
  uint64_t last = 0;
  for (uint64_t cut = 0; cut < 100; ++cut) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SimFs fs(seed);
      ASSERT_TRUE(WriteFileAtomically(fs, "/f", AsBytes("old")).ok());
      uint64_t start = fs.operations();
      fs.CutPowerAt(start + cut);
      std::string text(2000, 'n');
      bool ok = WriteFileAtomically(fs, "/f", AsBytes(text)).ok();
      EXPECT_EQ(ok, fs.powered());
      if (ok) last = cut;
      fs.PowerCut();
      fs.Reboot();
      std::string left = Contents(fs, "/f");
      EXPECT_TRUE(left == "old" || left == text) << "cut " << cut << " seed " << seed;
      EXPECT_TRUE(!ok || left == text) << "cut " << cut << " seed " << seed;
      seen.insert(left);
    }
    if (last > 0) break;
  }
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_EQ(last, 6u) << "open, truncate, write, sync, rename, sync the directory";
}

TEST(SimFsCut, HitsTheOperationItNames) {
  for (uint64_t cut = 0; cut < 5; ++cut) {
    SimFs fs(cut);
    fs.CutPowerAt(cut);
    // Five operations; reading is none.
    std::vector<StatusCode> codes;
    auto file = fs.Open("/f", {.write = true, .create = true});
    codes.push_back(file.status().code());
    Buffer b(1);
    if (file.ok()) {
      codes.push_back((*file)->WriteAt(0, AsBytes("x")).code());
      (void)(*file)->ReadAt(0, b);
      codes.push_back((*file)->DataSync().code());
      codes.push_back(fs.SyncDir("/").code());
      codes.push_back(fs.Remove("/f").code());
    }
    for (size_t i = 0; i < codes.size(); ++i) {
      EXPECT_EQ(codes[i], i < cut ? StatusCode::kOk : StatusCode::kUnavailable) << cut << " " << i;
    }
    EXPECT_EQ(fs.operations(), cut + 1);
  }
}

TEST(SimFsCut, ASyncThatIsCutHasSyncedNothingForSure) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SimFs fs(seed);
    auto file = MustOpen(fs, "/f");
    ASSERT_TRUE(file->WriteAt(0, AsBytes("old")).ok());
    ASSERT_TRUE(file->DataSync().ok());
    ASSERT_TRUE(fs.SyncDir("/").ok());
    ASSERT_TRUE(file->WriteAt(0, AsBytes("new")).ok());
    fs.CutPowerAt(fs.operations());
    EXPECT_EQ(file->DataSync().code(), StatusCode::kUnavailable);
    fs.Reboot();
    seen.insert(Contents(fs, "/f"));
  }
  EXPECT_EQ(seen, (std::set<std::string>{"old", "new"}));
}

TEST(SimFsFaults, AFullDisk) {
  SimFs fs(1);
  fs.SetCapacity(1000);
  auto file = MustOpen(fs, "/f");
  ASSERT_TRUE(file->WriteAt(0, AsBytes(std::string(600, 'x'))).ok());
  EXPECT_EQ(fs.Space("/")->free_bytes, 400u);
  EXPECT_EQ(file->Allocate(0, 1001).code(), StatusCode::kResourceExhausted);
  auto other = MustOpen(fs, "/g");
  EXPECT_EQ(other->WriteAt(0, AsBytes(std::string(500, 'x'))).code(),
            StatusCode::kResourceExhausted);
  EXPECT_EQ(*other->Size(), 400u) << "the part that fits";
  EXPECT_TRUE(file->WriteAt(0, AsBytes(std::string(600, 'y'))).ok()) << "no more space is needed";
  ASSERT_TRUE(fs.Remove("/g").ok());
  EXPECT_TRUE(file->Allocate(0, 1000).ok());
  ASSERT_TRUE(file->Truncate(10).ok());
  EXPECT_EQ(fs.Space("/")->free_bytes, 990u);
  ASSERT_TRUE(file->DataSync().ok());
  ASSERT_TRUE(fs.SyncDir("/").ok());
  fs.PowerCut();
  fs.Reboot();
  EXPECT_EQ(fs.Space("/")->free_bytes, 990u);
}

TEST(SimFsFaults, UnreadableRanges) {
  SimFs fs(1);
  auto file = MustOpen(fs, "/f");
  ASSERT_TRUE(file->WriteAt(0, AsBytes("0123456789")).ok());
  fs.FailReads("/f", 4, 2);
  Buffer b(4);
  EXPECT_TRUE(file->ReadAt(0, b).ok());
  EXPECT_EQ(file->ReadAt(1, b).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(file->ReadAt(5, b).status().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(file->ReadAt(6, b).ok());
}

TEST(SimFsFaults, AFailedSyncDropsWhatItWasToSync) {
  SimFs fs(1);
  auto file = MustOpen(fs, "/f");
  ASSERT_TRUE(file->WriteAt(0, AsBytes("old")).ok());
  ASSERT_TRUE(file->DataSync().ok());
  ASSERT_TRUE(file->WriteAt(0, AsBytes("newer")).ok());
  fs.FailNextDataSync("/f");
  EXPECT_EQ(file->DataSync().code(), StatusCode::kUnavailable);
  EXPECT_EQ(Contents(fs, "/f"), "old");
  EXPECT_TRUE(file->DataSync().ok()) << "once";
  EXPECT_EQ(Contents(fs, "/f"), "old") << "a retry that succeeds has saved nothing";
}

TEST(SimFsFaults, ALyingSync) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SimFs fs(seed);
    auto file = MustOpen(fs, "/f");
    ASSERT_TRUE(file->WriteAt(0, AsBytes("old")).ok());
    ASSERT_TRUE(file->DataSync().ok());
    ASSERT_TRUE(fs.SyncDir("/").ok());
    fs.LieOnDataSync(true);
    ASSERT_TRUE(file->WriteAt(0, AsBytes("new")).ok());
    EXPECT_TRUE(file->DataSync().ok());
    fs.PowerCut();
    fs.Reboot();
    seen.insert(Contents(fs, "/f"));
  }
  EXPECT_EQ(seen, (std::set<std::string>{"old", "new"}));
}

TEST(SimFsFaults, FlippedBitsStay) {
  SimFs fs(1);
  auto file = MustOpen(fs, "/f");
  ASSERT_TRUE(file->WriteAt(0, AsBytes("abc")).ok());
  ASSERT_TRUE(file->DataSync().ok());
  ASSERT_TRUE(fs.SyncDir("/").ok());
  fs.FlipBit("/f", 9);
  EXPECT_EQ(Contents(fs, "/f"), "a`c");
  fs.PowerCut();
  fs.Reboot();
  EXPECT_EQ(Contents(fs, "/f"), "a`c");
}

// The same seed and program leave the same image: a failure can be replayed.
TEST(SimFsPower, TheSeedDecides) {
  auto run = [](uint64_t seed) {
    SimFs fs(seed);
    for (int i = 0; i < 10; ++i) {
      auto file = MustOpen(fs, "/f" + std::to_string(i));
      EXPECT_TRUE(file->WriteAt(0, AsBytes(std::string(3000, 'n'))).ok());
    }
    fs.PowerCut();
    fs.Reboot();
    std::string image;
    std::vector<std::string> names = *fs.List("/");
    for (const std::string& name : names) image += name + Contents(fs, "/" + name);
    return image;
  };
  std::set<std::string> images;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(run(seed), run(seed)) << "seed " << seed;
    images.insert(run(seed));
  }
  EXPECT_EQ(images.size(), 20u);
}

// Random operations on one file against a model that keeps a whole image after each: without a
// tear in play (one sector) what is left is what some subset of the unsynced writes gives.
TEST(SimFsPower, UndoGivesBackExactlyTheSyncedImage) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    SimFs fs(seed);
    SimRng rng(seed + 1000);
    auto file = MustOpen(fs, "/f");
    std::string synced;
    for (int step = 0; step < 30; ++step) {
      uint64_t at = rng.Below(40'000);
      if (rng.Below(3) > 0) {
        std::string bytes(1 + rng.Below(30'000), static_cast<char>('a' + rng.Below(26)));
        ASSERT_TRUE(file->WriteAt(at, AsBytes(bytes)).ok());
      } else {
        ASSERT_TRUE((rng.Below(2) ? file->Truncate(at) : file->Allocate(0, at + 1)).ok());
      }
      if (rng.Below(6) == 0) {
        ASSERT_TRUE(file->DataSync().ok());
        synced = Contents(fs, "/f");
      }
    }
    // A sync that fails undoes everything since the last good one.
    fs.FailNextDataSync("/f");
    ASSERT_FALSE(file->DataSync().ok());
    ASSERT_EQ(Contents(fs, "/f"), synced);
  }
}

}  // namespace
}  // namespace holdfast
