// How the coordinator and nodes open their RocksDB, in a process of their own or embedded.
#pragma once

#include "common/crypto/key_file.h"
#include "common/format/catalogue_format.h"
#include "common/kv/rocks_kv.h"

namespace holdfast::cli {

inline RocksKvOptions CatalogueKvOptions(const KeyFile& key) {
  RocksKvOptions options;
  options.wal = true;
  options.encryption_key = DeriveCatalogueKeys(key.catalogue_key).rows;
  return options;
}

inline RocksKvOptions IndexKvOptions() {
  RocksKvOptions options;
  options.wal = false;
  options.bloom = true;
  return options;
}

}  // namespace holdfast::cli
