// What RocksDB's errors mean here (kv.h, rocks_kv.h). Messages are one line and begin with `dir`.
#pragma once

#include <string>

#include "common/base/status.h"
#include "rocksdb/status.h"

namespace holdfast {

// Of an open database.
Status FromRocks(const rocksdb::Status& s, const std::string& dir);
// Of an attempt to open an existing directory: what the system refuses us is told apart, and every
// other reason is damage (kDataLoss).
Status FromRocksOpen(const rocksdb::Status& s, const std::string& dir);

}  // namespace holdfast
