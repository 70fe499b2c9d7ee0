// backup-catalogue: the catalogue's rows, sealed by the coordinator, in a file.
#include "common/format/backup.h"

#include <cstdio>

#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "common/base/text.h"
#include "common/io/fs.h"
#include "common/rpc/methods.h"

namespace holdfast::cli {
namespace {

struct Written {
  uint64_t rows = 0, bytes = 0;
};

Status Append(File& file, Bytes bytes, Written& written) {
  RETURN_IF_ERROR(file.WriteAt(written.bytes, bytes));
  written.bytes += bytes.size();
  return absl::OkStatus();
}

StatusOr<Written> WritePages(Transport& transport, File& file) {
  Written written;
  proto::BackupPageRequest request;
  do {
    ASSIGN_OR_RETURN(const RpcMessage message,
                     CallAndWait(transport, kCoordinatorAddress,
                                 MakeMessage(rpc::kBackupPage, request), kCheckNanos));
    ASSIGN_OR_RETURN(const auto reply, ParseHead<proto::BackupPageReply>(message));
    if (message.frames.size() != 1) return absl::UnavailableError("a page without its bytes");
    if (written.bytes == 0) {
      const VaultId vault = VaultId::FromBytes(AsBytes(reply.vault()));
      RETURN_IF_ERROR(Append(file, EncodeBackupHeader(vault), written));
    }
    RETURN_IF_ERROR(Append(file, EncodeBackupFrame(message.frames[0].view), written));
    written.rows += reply.rows();
    request.set_cursor(reply.cursor());
  } while (!request.cursor().empty());
  return written;
}

// Under another name until it is whole.
StatusOr<Written> WriteBackup(Transport& transport, const std::string& path) {
  Fs& fs = PosixFs();
  ASSIGN_OR_RETURN(const bool taken, fs.Exists(path));
  if (taken) {
    return absl::InvalidArgumentError(Printable(path) + " is there already: give a new path");
  }
  const std::string partial = path + ".partial";
  if (Status removed = fs.Remove(partial); !removed.ok() && !absl::IsNotFound(removed)) {
    return removed;
  }
  ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                   fs.Open(partial, {.write = true, .create = true, .exclusive = true}));
  StatusOr<Written> written = WritePages(transport, *file);
  if (written.ok()) {
    if (Status synced = file->DataSync(); !synced.ok()) written = synced;
  }
  file.reset();
  if (!written.ok()) {
    fs.Remove(partial).IgnoreError();
    return written;
  }
  RETURN_IF_ERROR(fs.Rename(partial, path));
  const size_t slash = path.rfind('/');
  RETURN_IF_ERROR(fs.SyncDir(slash == std::string::npos ? "." : path.substr(0, slash + 1)));
  return written;
}

}  // namespace

int RunBackupCatalogue(const Globals& globals, const std::string& to) {
  int exit_code = 0;
  auto vault = OpenVault(globals, &exit_code);
  if (!vault) return exit_code;
  const StatusOr<Written> written = WriteBackup(vault->vault().transport(), to);
  if (!written.ok()) return Fail(written.status());
  if (globals.json) {
    PrintJson(Json{{"type", "backup"}, {"rows", written->rows}, {"bytes", written->bytes}});
  } else {
    std::printf("%s of the catalogue, %s, sealed under the catalogue key.\n",
                Counted(written->rows, "row", "rows").c_str(), FormatBytes(written->bytes).c_str());
  }
  return kExitOk;
}

}  // namespace holdfast::cli
