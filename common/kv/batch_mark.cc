#include "common/kv/batch_mark.h"

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"
#include "common/crypto/check.h"
#include "common/io/fs.h"
#include "common/kv/rocks_status.h"

namespace holdfast {

StatusOr<std::optional<uint64_t>> BatchMark::Load() {
  std::lock_guard lock(mutex_);
  const std::string path = dir_ + "/" + kBatchMarkFile;
  if (env_.FileExists(path).IsNotFound()) return std::nullopt;
  std::string contents;
  RETURN_IF_ERROR(FromRocksOpen(rocksdb::ReadFileToString(&env_, path, &contents), dir_));
  Reader reader(AsBytes(contents));
  uint64_t batches = reader.U64();
  uint32_t crc = reader.U32();
  if (!reader.done() || crc != Crc32c(AsBytes(contents).first(8))) {
    return absl::DataLossError(absl::StrCat(dir_, ": damaged: the file ", kBatchMarkFile));
  }
  saved_ = batches;
  return saved_;
}

Status BatchMark::Raise(uint64_t batches) {
  std::lock_guard lock(mutex_);
  if (saved_ && *saved_ >= batches) return absl::OkStatus();
  Buffer bytes;
  Writer writer(bytes);
  writer.U64(batches);
  writer.U32(Crc32c(bytes));
  const std::string path = dir_ + "/" + kBatchMarkFile, fresh = path + ".new";
  RETURN_IF_ERROR(FromRocks(
      rocksdb::WriteStringToFile(&env_, ToString(bytes), fresh, /*should_sync=*/true), dir_));
  RETURN_IF_ERROR(FromRocks(env_.RenameFile(fresh, path), dir_));
  RETURN_IF_ERROR(PosixFs().SyncDir(dir_));
  saved_ = batches;
  return absl::OkStatus();
}

}  // namespace holdfast
