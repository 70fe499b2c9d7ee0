// The Kv seam: an ordered map of byte strings, serialisable because one service thread writes it.
// Production is RocksDB (common/kv/rocks_kv.h); MemKv is the in-memory twin with RocksDB's crash
// model: synced batches stay, an unsynced suffix is lost, and without WAL the contents revert to
// some earlier flush.
//
// A batch is atomic, and batches become durable in the order written: after a crash the contents
// are those after some prefix of the batches. Errors: kDataLoss when stored bytes fail a check,
// kResourceExhausted when the disk is full, kUnavailable otherwise.
//
// Keys that begin with kKvReservedPrefix belong to the implementation (kInvalidArgument).
// Thread-safe, though of several writers each waits for the others.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace holdfast {

inline constexpr std::string_view kKvReservedPrefix = "\xff\xff\xff\xff\xff\xff\xff\xff";

struct KvMutation {
  std::string key;
  std::optional<std::string> value;  // Empty: delete.
};
using KvBatch = std::vector<KvMutation>;

// The rows as they were at one moment, whatever is written since. The Kv outlives it.
class KvSnapshot {
 public:
  virtual ~KvSnapshot() = default;
  virtual Status Scan(std::string_view start, std::string_view end,
                      const std::function<bool(std::string_view, std::string_view)>& visit) = 0;
};

class Kv {
 public:
  virtual ~Kv() = default;
  // Nothing when the key is not there.
  virtual StatusOr<std::optional<std::string>> Get(std::string_view key) = 0;
  virtual StatusOr<std::vector<std::optional<std::string>>> MultiGet(
      const std::vector<std::string>& keys) = 0;
  // sync: durable on return. Without a WAL, `sync` is not allowed; use Flush.
  virtual Status Write(const KvBatch& batch, bool sync) = 0;
  // Everything written so far is durable on return.
  virtual Status Flush() = 0;
  // Calls visit(key, value) in key order from `start` (inclusive) to `end` (exclusive, empty: to
  // the last key) until it returns false. Sees a snapshot.
  virtual Status Scan(std::string_view start, std::string_view end,
                      const std::function<bool(std::string_view, std::string_view)>& visit) = 0;
  virtual std::unique_ptr<KvSnapshot> TakeSnapshot() = 0;
  // Reads every stored byte against its checksum.
  virtual Status VerifyAll() = 0;
};

}  // namespace holdfast
