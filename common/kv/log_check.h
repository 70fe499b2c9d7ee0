// Checks RocksDB's logs (CURRENT, MANIFEST, WAL) more strictly than RocksDB does, before it opens
// them. RocksDB takes a record that runs past the end of the file, or whose type says that it
// belongs to a recycled log, for the end of the log: one flipped bit in a header then silently
// drops every record after it. Here the log ends early only where the bytes can be what a crash
// leaves of its last record; everything else is kDataLoss. Zeros that a power cut has left behind the
// last record that was synced are cut off.
//
// Log format: https://github.com/facebook/rocksdb/wiki/Write-Ahead-Log-File-Format
#pragma once

#include <string>

#include "common/base/status.h"
#include "rocksdb/env.h"

namespace holdfast {

// The logs of the database in `dir`, which is not written to meanwhile. `torn_tail`: the last
// record of the MANIFEST and of the last WAL that has records may be incomplete, as after a crash.
Status CheckRocksLogs(rocksdb::Env& env, const std::string& dir, bool torn_tail);

}  // namespace holdfast
