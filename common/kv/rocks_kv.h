// Kv over RocksDB 7.8. Info log off, paranoid checks, no mmap; memory bounded by the options.
//
// Damage never shows as a shorter listing: every live file's bytes are covered by a checksum that
// Open (WAL, MANIFEST, CURRENT; whole SST files while all of them together are below
// kVerifyAtOpenBytes) or VerifyAll and reads check; files that RocksDB writes but never reads
// (OPTIONS, IDENTITY) are not kept.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "common/kv/kv.h"

namespace holdfast {

struct RocksKvOptions {
  bool wal = true;                 // false: a cache that may revert to an earlier flush.
  size_t write_buffer_bytes = 32u << 20;
  size_t block_cache_bytes = 32u << 20;
  bool bloom = false;              // Bloom filters for point misses.
  // When set, files are encrypted at rest under this key: 32 random prefix bytes per file, file
  // key = HMAC-SHA-256(key, prefix), AES-256-CTR; and every row carries an 8-byte MAC under a key
  // derived from it, bound to its key; a wrong MAC is kDataLoss naming the row's key in hex.
  std::optional<std::array<uint8_t, 32>> encryption_key;
};

// Opens, or with `create` makes, a database in `dir`. kNotFound: nothing there (and !create);
// kDataLoss: there, but damaged; kFailedPrecondition: another process has it open.
StatusOr<std::unique_ptr<Kv>> OpenRocksKv(const std::string& dir, bool create,
                                          const RocksKvOptions& options);
// Removes a database and its directory's files; ok when there is none.
Status DestroyRocksKv(const std::string& dir);

}  // namespace holdfast
