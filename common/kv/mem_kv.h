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
  // What a power cut leaves: what was synced or flushed, and some prefix of the batches after it,
  // drawn from rng (without WAL too, since RocksDB flushes by itself when a memtable is full). A Kv
  // that is still open is dead then: its calls give kUnavailable.
  void Crash(Rng& rng);
  // Drops everything, as when the directory is deleted.
  void Wipe();
  // Takes what is on the other disk, as when an image of it is put back. Neither is open.
  void CopyFrom(const MemKvDisk& other);

  struct Impl;
  std::unique_ptr<Impl> impl;
};

// Opens a Kv over `disk`, which outlives it; at most one at a time. Closing it makes nothing
// durable, so that a simulated kill may destroy it before Crash. `wal` as in RocksKvOptions.
std::unique_ptr<Kv> OpenMemKv(MemKvDisk& disk, bool wal);

}  // namespace holdfast
