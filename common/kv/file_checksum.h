// Checksums of RocksDB's whole files: CRC-32C as RocksDB's own generator makes it, under the same
// name, so that each reads the other's. Debian's RocksDB computes it by table, which took a tenth
// of all CPU time of a catalogue that grows; ISA-L uses the instructions.
#pragma once

#include <memory>

#include "rocksdb/file_checksum.h"

namespace holdfast {

std::shared_ptr<rocksdb::FileChecksumGenFactory> FastFileChecksums();

}  // namespace holdfast
