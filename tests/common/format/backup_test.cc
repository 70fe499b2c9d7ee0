#include "common/format/backup.h"

#include <gtest/gtest.h>

#include "common/base/coding.h"
#include "tests/common/format/golden.h"

namespace holdfast {
namespace {

using testing::Golden;

AeadKey Key(uint8_t byte) {
  AeadKey key;
  key.fill(byte);
  return key;
}

VaultId Vault(uint8_t byte) {
  VaultId vault;
  vault.value.fill(byte);
  return vault;
}

BackupPage Page(uint64_t number, bool last) {
  BackupPage page;
  page.number = number;
  page.last = last;
  if (number == 0) page.head = "the head";
  page.rows = {{"a" + std::to_string(number), "1"}, {std::string("b\0", 2), ""}};
  return page;
}

Buffer File(int pages, bool ended = true) {
  Buffer file = EncodeBackupHeader(Vault(7));
  for (int i = 0; i < pages; ++i) {
    AeadNonce nonce;
    nonce.fill(static_cast<uint8_t>(i + 1));
    const bool last = ended && i + 1 == pages;
    const Buffer frame = EncodeBackupFrame(
        SealBackupPage(Key(1), Vault(7), Page(static_cast<uint64_t>(i), last), nonce));
    file.insert(file.end(), frame.begin(), frame.end());
  }
  return file;
}

Status ReadAll(Bytes file, std::vector<BackupPage>* pages = nullptr) {
  ASSIGN_OR_RETURN(BackupReader reader, BackupReader::Open(file, Key(1), Vault(7)));
  for (;;) {
    ASSIGN_OR_RETURN(std::optional<BackupPage> page, reader.Next());
    if (!page) return absl::OkStatus();
    if (pages != nullptr) pages->push_back(*std::move(page));
  }
}

TEST(Backup, ComesBack) {
  std::vector<BackupPage> pages;
  const Buffer file = File(3);
  ASSERT_TRUE(ReadAll(file, &pages).ok());
  ASSERT_EQ(pages.size(), 3u);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(pages[i].rows, Page(i, false).rows);
    EXPECT_EQ(pages[i].head, Page(i, false).head);
    EXPECT_EQ(pages[i].last, i == 2);
  }
  Golden("backup", File(1));
}

TEST(Backup, EveryFlippedByteAndEveryCutIsTold) {
  const Buffer file = File(2);
  for (size_t i = 0; i < file.size(); ++i) {
    Buffer bad = file;
    bad[i] ^= 1;
    EXPECT_FALSE(ReadAll(bad).ok()) << i;
    EXPECT_FALSE(ReadAll(Bytes(file).first(i)).ok()) << i;
  }
  EXPECT_FALSE(ReadAll(File(2, /*ended=*/false)).ok());
  Buffer longer = file;
  longer.push_back(0);
  EXPECT_FALSE(ReadAll(longer).ok());
}

TEST(Backup, PagesKeepTheirOrderAndTheirVault) {
  const AeadNonce nonce{};
  const Buffer page = SealBackupPage(Key(1), Vault(7), Page(1, false), nonce);
  EXPECT_TRUE(OpenBackupPage(Key(1), Vault(7), 1, page).ok());
  EXPECT_TRUE(absl::IsDataLoss(OpenBackupPage(Key(1), Vault(7), 2, page).status()));
  EXPECT_TRUE(absl::IsDataLoss(OpenBackupPage(Key(1), Vault(8), 1, page).status()));
  EXPECT_TRUE(absl::IsDataLoss(OpenBackupPage(Key(2), Vault(7), 1, page).status()));
  EXPECT_TRUE(absl::IsPermissionDenied(BackupReader::Open(File(1), Key(1), Vault(8)).status()));
}

TEST(Backup, APageHasOneForm) {
  Buffer context;
  Writer writer(context);
  writer.Blob("page");
  writer.Id(Vault(7));
  writer.U64(1);
  Buffer body(1 + 4 + 4);
  const auto open = [&] {
    return OpenBackupPage(Key(1), Vault(7), 1, AeadSealWithNonce(Key(1), {}, context, body))
        .status();
  };
  EXPECT_TRUE(open().ok());
  body[0] = 1;
  EXPECT_TRUE(open().ok());
  body[0] = 2;  // Neither the last one nor not.
  EXPECT_TRUE(absl::IsDataLoss(open()));
}

TEST(Backup, ACursorIsNobodysToMake) {
  const Buffer cursor = SealBackupCursor(Key(1), Vault(7), 5, "o name", AeadNonce{});
  const auto opened = OpenBackupCursor(Key(1), Vault(7), cursor);
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(opened->number, 5u);
  EXPECT_EQ(opened->after, "o name");
  for (size_t i = 0; i < cursor.size(); ++i) {
    Buffer bad = cursor;
    bad[i] ^= 1;
    EXPECT_TRUE(absl::IsInvalidArgument(OpenBackupCursor(Key(1), Vault(7), bad).status()));
  }
}

}  // namespace
}  // namespace holdfast
