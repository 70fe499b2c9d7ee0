// The in-memory twin of RocksKv, with its crash model. MemKvDisk is what outlives a crash.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "common/base/rng.h"
#include "common/kv/kv.h"

namespace holdfast {

// The durable side of one MemKv: the synced contents and the log of unsynced batches.
class MemKvDisk {
 public:
  MemKvDisk();
  ~MemKvDisk();
  // What a power cut leaves: with WAL a prefix of the unsynced batches survives; without WAL the
  // contents revert to one of the earlier flushes' prefixes. Drawn from rng.
  void Crash(Rng& rng);
  // Drops everything, as when the directory is deleted.
  void Wipe();

  struct Impl;
  std::unique_ptr<Impl> impl;
};

// Opens a Kv over `disk`; at most one at a time. `wal` as in RocksKvOptions.
std::unique_ptr<Kv> OpenMemKv(MemKvDisk& disk, bool wal);

}  // namespace holdfast
