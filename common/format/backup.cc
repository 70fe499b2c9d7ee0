#include "common/format/backup.h"

#include "common/base/coding.h"
#include "common/crypto/check.h"

namespace holdfast {
namespace {

constexpr std::string_view kMagic = "HFBackup";
constexpr uint8_t kBackupVersion = 1;

constexpr size_t kHeaderSize = 8 + 1 + 1 + VaultId::kSize;
constexpr char kPageContext[] = "page", kCursorContext[] = "cursor";

// What a sealed piece is bound to.
Buffer Context(std::string_view what, const VaultId& vault, uint64_t number) {
  Buffer context;
  Writer writer(context);
  writer.Blob(what);
  writer.Id(vault);
  writer.U64(number);
  return context;
}

Status DamagedBackup(const std::string& why) {
  return absl::DataLossError("the backup of the catalogue " + why);
}

}  // namespace

Buffer SealBackupPage(const AeadKey& backup_key, const VaultId& vault, const BackupPage& page,
                      const AeadNonce& nonce) {
  Buffer body;
  Writer writer(body);
  writer.U8(page.last ? 1 : 0);
  writer.Blob(page.head);
  writer.U32(static_cast<uint32_t>(page.rows.size()));
  for (const auto& [key, value] : page.rows) {
    writer.Blob(key);
    writer.Blob(value);
  }
  return AeadSealWithNonce(backup_key, nonce, Context(kPageContext, vault, page.number), body);
}

StatusOr<BackupPage> OpenBackupPage(const AeadKey& backup_key, const VaultId& vault,
                                    uint64_t number, Bytes sealed) {
  ASSIGN_OR_RETURN(const Buffer body,
                   AeadOpenWithNonce(backup_key, Context(kPageContext, vault, number), sealed,
                                     "page " + std::to_string(number) + " of the backup"));
  Reader reader(body);
  BackupPage page;
  page.number = number;
  const uint8_t last = reader.U8();
  page.last = last == 1;
  page.head = reader.String();
  const uint32_t count = reader.U32();
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    std::string key = reader.String();
    page.rows.emplace_back(std::move(key), reader.String());
  }
  if (!reader.done() || last > 1) return DamagedBackup("is malformed");
  return page;
}

Buffer SealBackupCursor(const AeadKey& backup_key, const VaultId& vault, uint64_t number,
                        std::string_view after, const AeadNonce& nonce) {
  Buffer cursor;
  Writer writer(cursor);
  writer.U64(number);
  const Buffer box =
      AeadSealWithNonce(backup_key, nonce, Context(kCursorContext, vault, number), AsBytes(after));
  cursor.insert(cursor.end(), box.begin(), box.end());
  return cursor;
}

StatusOr<BackupCursor> OpenBackupCursor(const AeadKey& backup_key, const VaultId& vault,
                                        Bytes sealed) {
  Reader reader(sealed);
  BackupCursor cursor;
  cursor.number = reader.U64();
  if (!reader.ok()) return absl::InvalidArgumentError("a backup goes on from nowhere");
  StatusOr<Buffer> after = AeadOpenWithNonce(
      backup_key, Context(kCursorContext, vault, cursor.number), reader.rest(), "the cursor");
  if (!after.ok()) return absl::InvalidArgumentError("a backup goes on from nowhere");
  cursor.after = ToString(*after);
  return cursor;
}

Buffer EncodeBackupHeader(const VaultId& vault) {
  Buffer header(kMagic.begin(), kMagic.end());
  Writer writer(header);
  writer.U8(kBackupVersion);
  writer.U8(kSuite1);
  writer.Id(vault);
  return header;
}

Buffer EncodeBackupFrame(Bytes sealed_page) {
  Buffer frame;
  Writer(frame).Blob(sealed_page);
  return frame;
}

StatusOr<BackupReader> BackupReader::Open(Bytes file, const AeadKey& backup_key,
                                          const VaultId& vault) {
  if (file.size() < kHeaderSize || AsView(file.first(kMagic.size())) != kMagic) {
    return absl::InvalidArgumentError("this is no backup of a catalogue");
  }
  Reader reader(file.subspan(kMagic.size()));
  const uint8_t version = reader.U8();
  const uint8_t suite = reader.U8();
  if (version != kBackupVersion || suite != kSuite1) {
    return absl::FailedPreconditionError("the backup has version " + std::to_string(version) +
                                         ", suite " + std::to_string(suite) +
                                         "; this program reads version 1, suite 1");
  }
  if (reader.Id<VaultId>() != vault) {
    return absl::PermissionDeniedError("the backup is of another vault");
  }
  return BackupReader(reader.rest(), backup_key, vault);
}

StatusOr<std::optional<BackupPage>> BackupReader::Next() {
  if (ended_) {
    if (!rest_.empty()) return DamagedBackup("goes on after its end");
    return std::optional<BackupPage>();
  }
  Reader reader(rest_);
  const Bytes sealed = reader.Blob();
  if (!reader.ok()) return DamagedBackup("is cut short");
  rest_ = reader.rest();
  ASSIGN_OR_RETURN(BackupPage page, OpenBackupPage(key_, vault_, number_, sealed));
  ++number_;
  ended_ = page.last;
  return std::optional<BackupPage>(std::move(page));
}

}  // namespace holdfast
