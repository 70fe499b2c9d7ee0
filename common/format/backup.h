// A backup of the catalogue: its rows in sealed pages. docs/formats/backup.md.
//
// Who makes the file needs no key: the coordinator seals each page under the catalogue key, and the
// place where the next one goes on, since that names an object.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/format/catalogue_format.h"

namespace holdfast {

struct BackupPage {
  uint64_t number = 0;  // From 0.
  bool last = false;
  std::string head;  // Encoded, of the catalogue when page 0 was made; in page 0 alone.
  std::vector<std::pair<std::string, std::string>> rows;
};
Buffer SealBackupPage(const AeadKey& backup_key, const VaultId& vault, const BackupPage& page,
                      const AeadNonce& nonce);
// kDataLoss: it is not page `number` of a backup of this vault under this key.
StatusOr<BackupPage> OpenBackupPage(const AeadKey& backup_key, const VaultId& vault,
                                    uint64_t number, Bytes sealed);

// Where page `number` begins: after this row.
Buffer SealBackupCursor(const AeadKey& backup_key, const VaultId& vault, uint64_t number,
                        std::string_view after, const AeadNonce& nonce);
struct BackupCursor {
  uint64_t number = 0;
  std::string after;
};
StatusOr<BackupCursor> OpenBackupCursor(const AeadKey& backup_key, const VaultId& vault,
                                        Bytes sealed);

// The file: a header that names the vault, then pages, each with its length before it.
Buffer EncodeBackupHeader(const VaultId& vault);
Buffer EncodeBackupFrame(Bytes sealed_page);

// Reads a backup file page by page.
class BackupReader {
 public:
  // `file` outlives it. kDataLoss: no backup, or of another vault.
  static StatusOr<BackupReader> Open(Bytes file, const AeadKey& backup_key, const VaultId& vault);
  // Nothing after the last page. kDataLoss: the file is damaged or cut short.
  StatusOr<std::optional<BackupPage>> Next();

 private:
  BackupReader(Bytes rest, const AeadKey& key, const VaultId& vault)
      : rest_(rest), key_(key), vault_(vault) {}
  Bytes rest_;
  AeadKey key_;
  VaultId vault_;
  uint64_t number_ = 0;
  bool ended_ = false;
};

}  // namespace holdfast
