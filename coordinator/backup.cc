#include "coordinator/backup.h"

#include "absl/strings/str_cat.h"
#include "common/format/backup.h"
#include "common/rpc/methods.h"

namespace holdfast {
namespace {

constexpr size_t kPageBytes = 4u << 20;

// What a catalogue finds out anew: its own facts, sessions, what is on its way to the nodes.
bool IsKept(std::string_view key) {
  switch (static_cast<RowKind>(key[0])) {
    case RowKind::kMeta:
    case RowKind::kSession:
    case RowKind::kOutbox:
      return false;
    default:
      return true;
  }
}

AeadNonce NewNonce(Rng& rng) {
  AeadNonce nonce;
  rng.Fill(nonce);
  return nonce;
}

}  // namespace

StatusOr<RpcMessage> MakeBackupPage(const CoordinatorOptions& options, Rng& rng,
                                    Catalogue& catalogue, const Head& head,
                                    const proto::BackupPageRequest& request) {
  BackupCursor cursor;
  if (!request.cursor().empty()) {
    ASSIGN_OR_RETURN(
        cursor, OpenBackupCursor(options.keys.backup, options.vault, AsBytes(request.cursor())));
  }
  BackupPage page;
  page.number = cursor.number;
  if (page.number == 0) page.head = EncodeHead(head);
  page.last = true;
  size_t bytes = 0;
  std::string after = cursor.after;
  RETURN_IF_ERROR(
      catalogue.kv().Scan(cursor.after, "", [&](std::string_view key, std::string_view value) {
        if (key.empty() || key == cursor.after) return true;
        if (bytes >= kPageBytes) {
          page.last = false;
          return false;
        }
        after = key;
        if (IsKept(key)) {
          bytes += key.size() + value.size();
          page.rows.emplace_back(key, value);
        }
        return true;
      }));
  proto::BackupPageReply reply;
  reply.set_vault(ToString(options.vault.bytes()));
  reply.set_rows(page.rows.size());
  if (!page.last) {
    reply.set_cursor(ToString(SealBackupCursor(options.keys.backup, options.vault, page.number + 1,
                                               after, NewNonce(rng))));
  }
  RpcMessage message = MakeMessage(rpc::kBackupPage, reply);
  message.frames.push_back(
      SharedBytes::Own(SealBackupPage(options.keys.backup, options.vault, page, NewNonce(rng))));
  return message;
}

StatusOr<Head> LoadBackup(const CoordinatorOptions& options, Catalogue& catalogue, Bytes file) {
  ASSIGN_OR_RETURN(BackupReader reader,
                   BackupReader::Open(file, options.keys.backup, options.vault));
  StatusOr<Head> head = absl::DataLossError("the backup of the catalogue has no beginning");
  for (;;) {
    ASSIGN_OR_RETURN(std::optional<BackupPage> page, reader.Next());
    if (!page) return head;
    if (page->number == 0) head = DecodeHead(page->head);
    RETURN_IF_ERROR(head.status());
    KvBatch rows;
    for (auto& [key, value] : page->rows) rows.push_back({std::move(key), std::move(value)});
    if (!rows.empty()) RETURN_IF_ERROR(catalogue.kv().Write(rows, /*sync=*/true));
  }
}

}  // namespace holdfast
