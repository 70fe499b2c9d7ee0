// Kv over RocksDB 7.8. Info log off, paranoid checks, no mmap; memory bounded by the options.
//
// Damage never shows as a shorter listing: every live file's bytes are covered by a checksum that
// Open (WAL, MANIFEST, CURRENT; whole SST files while all of them together are below
// kVerifyAtOpenBytes) or VerifyAll and reads check; files that RocksDB writes but never reads
// (OPTIONS, IDENTITY) are not kept. The logs are checked before RocksDB sees them (log_check.h).
// Batches are counted, so that a lost table between older and newer rows is noticed, and the number
// that is durable is kept beside the database (batch_mark.h), so that a lost end is.
//
// What a crash left unfinished at the end of a log is told from damage by what is left of it
// (log_check.cc). Damage that keeps a database from opening leaves its files as they are.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "common/kv/kv.h"

namespace holdfast {

// SST files of at most this much together are verified whole at open: some tens of milliseconds.
inline constexpr uint64_t kVerifyAtOpenBytes = 64u << 20;

struct RocksKvOptions {
  bool wal = true;  // false: a cache that may revert to an earlier flush.
  size_t write_buffer_bytes = 32u << 20;
  size_t block_cache_bytes = 32u << 20;
  bool bloom = false;  // Bloom filters for point misses.
  // When set, files are encrypted at rest under this key (encrypted_env.h), and every row carries
  // an 8-byte MAC under a key derived from it, bound to its key; a wrong MAC is kDataLoss naming
  // the row's key in hex.
  std::optional<std::array<uint8_t, 32>> encryption_key;
};

// Opens, or with `create` makes, a database in `dir`, whose parent is there. kNotFound: nothing
// there (and !create); kDataLoss: there, but damaged, or not under this key; kFailedPrecondition:
// another process has it open; kResourceExhausted: no space to open it in. Destroying the Kv closes
// it, with everything written durable. Options may change from one opening to the next, except
// encryption_key.
StatusOr<std::unique_ptr<Kv>> OpenRocksKv(const std::string& dir, bool create,
                                          const RocksKvOptions& options);
// Removes a closed database with its directory and all files in it; ok when there is none.
Status DestroyRocksKv(const std::string& dir);

}  // namespace holdfast
