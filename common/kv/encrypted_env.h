// RocksDB files encrypted at rest. A file is
//
//   32 random bytes ‖ 8 check bytes ‖ contents under AES-256-CTR (NIST SP 800-38A)
//
// file key    = HMAC-SHA-256(key, random bytes); the counter is the offset in the file, in blocks
// check bytes = the first 8 of HMAC-SHA-256(key, "holdfast/1 file prefix" ‖ random bytes)
//
// The check is there because a damaged prefix turns all that follows into noise, and noise at the
// start of a log can look like a record that a crash left unfinished. RocksDB never writes one
// place of a file twice, and a file made again has a new key, so no keystream serves two contents.
//
// CTR hides and does not authenticate: damage is found by RocksDB's checksums, tampering by the
// row MACs (row_mac.h).
#pragma once

#include <array>
#include <memory>

#include "rocksdb/env.h"

namespace holdfast {

inline constexpr size_t kEncryptedFilePrefixSize = 40;

// An Env over the default one. Must outlive the databases that use it.
std::unique_ptr<rocksdb::Env> NewEncryptedRocksEnv(const std::array<uint8_t, 32>& key);

}  // namespace holdfast
