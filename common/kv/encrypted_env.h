// RocksDB files encrypted at rest: a file is 32 random bytes, in clear, and then its contents under
// AES-256-CTR (NIST SP 800-38A) with the file key HMAC-SHA-256(key, those bytes); the counter is
// the offset in the file, in blocks. RocksDB never writes one place of a file twice, and a file
// made again has a new key, so no keystream serves two contents.
//
// CTR hides and does not authenticate: damage is found by RocksDB's checksums, tampering by the
// row MACs (row_mac.h).
#pragma once

#include <array>
#include <memory>

#include "rocksdb/env.h"

namespace holdfast {

inline constexpr size_t kEncryptedFilePrefixSize = 32;

// An Env over the default one. Must outlive the databases that use it.
std::unique_ptr<rocksdb::Env> NewEncryptedRocksEnv(const std::array<uint8_t, 32>& key);

}  // namespace holdfast
