// A number beside the database that says how many batches it must have at least. RocksDB's own
// files cannot say so: a MANIFEST that lost its end describes an earlier database, whole in itself,
// and RocksDB would open that one and delete the tables it has forgotten.
//
// The file BATCHES is le64 number ‖ CRC-32C of those 8 bytes (le32), replaced atomically.
// Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "common/base/status.h"
#include "rocksdb/env.h"

namespace holdfast {

inline constexpr char kBatchMarkFile[] = "BATCHES";

class BatchMark {
 public:
  BatchMark(rocksdb::Env& env, std::string dir) : env_(env), dir_(std::move(dir)) {}
  // Nothing when there is no file; kDataLoss when it is damaged.
  StatusOr<std::optional<uint64_t>> Load();
  // To be called only with batches that are durable. The file says `batches` or more on return.
  Status Raise(uint64_t batches);

 private:
  rocksdb::Env& env_;
  const std::string dir_;
  std::mutex mutex_;
  std::optional<uint64_t> saved_;  // What the file says.
};

}  // namespace holdfast
