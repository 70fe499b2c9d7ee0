#include "common/io/fs.h"

namespace holdfast {
namespace {

std::string ParentOf(const std::string& path) {
  size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status WriteAndSync(Fs& fs, const std::string& path, Bytes data) {
  ASSIGN_OR_RETURN(auto file, fs.Open(path, {.write = true, .create = true}));
  // A crash may have left a longer one.
  RETURN_IF_ERROR(file->Truncate(0));
  RETURN_IF_ERROR(file->WriteAt(0, data));
  return file->DataSync();
}

}  // namespace

StatusOr<Buffer> ReadFile(Fs& fs, const std::string& path) {
  ASSIGN_OR_RETURN(auto file, fs.Open(path, {}));
  ASSIGN_OR_RETURN(uint64_t size, file->Size());
  Buffer contents(size);
  ASSIGN_OR_RETURN(size_t read, file->ReadAt(0, contents));
  contents.resize(read);
  return contents;
}

Status WriteFileAtomically(Fs& fs, const std::string& path, Bytes data) {
  std::string fresh = path + ".new";
  Status status = WriteAndSync(fs, fresh, data);
  if (status.ok()) status = fs.Rename(fresh, path);
  if (!status.ok()) {
    // Half a file helps nobody, least of all on a full disk; the first error is the one to tell.
    (void)fs.Remove(fresh);
    return status;
  }
  return fs.SyncDir(ParentOf(path));
}

}  // namespace holdfast
