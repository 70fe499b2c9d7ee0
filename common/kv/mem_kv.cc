// The contents are one map that readers share and a writer clones while a Scan still reads it;
// batches that are not durable yet keep what they overwrote, so that Crash can take them back.
#include "common/kv/mem_kv.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace holdfast {

struct MemKvDisk::Impl {
  using Map = std::map<std::string, std::string, std::less<>>;
  using Undo = std::vector<std::pair<std::string, std::optional<std::string>>>;

  // The map, safe to change: a Scan that runs keeps the one it began with.
  Map& Mutable() {
    if (map.use_count() > 1) map = std::make_shared<Map>(*map);
    return *map;
  }

  void Apply(const KvBatch& batch) {
    Map& rows = Mutable();
    Undo undo;
    for (const KvMutation& m : batch) {
      auto it = rows.find(m.key);
      undo.emplace_back(
          m.key, it == rows.end() ? std::nullopt : std::make_optional(std::move(it->second)));
      if (m.value) {
        rows.insert_or_assign(m.key, *m.value);
      } else if (it != rows.end()) {
        rows.erase(it);
      }
    }
    unsynced.push_back(std::move(undo));
  }

  void TakeBackLast() {
    Map& rows = Mutable();
    for (auto u = unsynced.back().rbegin(); u != unsynced.back().rend(); ++u) {
      if (u->second) {
        rows.insert_or_assign(u->first, std::move(*u->second));
      } else {
        rows.erase(u->first);
      }
    }
    unsynced.pop_back();
  }

  std::mutex mutex;
  std::shared_ptr<Map> map = std::make_shared<Map>();
  std::vector<Undo> unsynced;  // Of each batch that is not durable, in the order written.
  bool open = false;
  uint64_t crashes = 0;  // A Kv opened before the last one is dead.
};

MemKvDisk::MemKvDisk() : impl(std::make_unique<Impl>()) {}
MemKvDisk::~MemKvDisk() = default;

void MemKvDisk::Crash(Rng& rng) {
  std::lock_guard lock(impl->mutex);
  // Without WAL a full memtable may have been flushed after any batch; so both modes lose some
  // suffix. Half the time all of it, which is the likely case of a short run.
  uint64_t batches = impl->unsynced.size();
  uint64_t kept = rng.Below(2) == 0 ? 0 : rng.Below(batches + 1);
  while (impl->unsynced.size() > kept) impl->TakeBackLast();
  impl->unsynced.clear();
  impl->open = false;
  impl->crashes++;
}

void MemKvDisk::Wipe() {
  std::lock_guard lock(impl->mutex);
  impl->map = std::make_shared<Impl::Map>();
  impl->unsynced.clear();
  impl->open = false;
  impl->crashes++;
}

void MemKvDisk::CopyFrom(const MemKvDisk& other) {
  std::scoped_lock lock(impl->mutex, other.impl->mutex);
  impl->map = std::make_shared<Impl::Map>(*other.impl->map);
  impl->unsynced.clear();
  impl->open = false;
  impl->crashes++;
}

namespace {

class MemKv : public Kv {
 public:
  MemKv(MemKvDisk::Impl& disk, bool wal) : disk_(disk), wal_(wal) {
    std::lock_guard lock(disk_.mutex);
    if (disk_.open) {
      std::fprintf(stderr, "MemKv: opened twice\n");
      std::abort();
    }
    disk_.open = true;
    life_ = disk_.crashes;
  }

  // Makes nothing durable: a simulated kill destroys the object too.
  ~MemKv() override {
    std::lock_guard lock(disk_.mutex);
    if (life_ == disk_.crashes) disk_.open = false;
  }

  StatusOr<std::optional<std::string>> Get(std::string_view key) override {
    std::lock_guard lock(disk_.mutex);
    RETURN_IF_ERROR(Alive());
    return Find(key);
  }

  StatusOr<std::vector<std::optional<std::string>>> MultiGet(
      const std::vector<std::string>& keys) override {
    std::lock_guard lock(disk_.mutex);
    RETURN_IF_ERROR(Alive());
    std::vector<std::optional<std::string>> values;
    values.reserve(keys.size());
    for (const std::string& key : keys) values.push_back(Find(key));
    return values;
  }

  Status Write(const KvBatch& batch, bool sync) override {
    std::lock_guard lock(disk_.mutex);
    RETURN_IF_ERROR(Alive());
    if (sync && !wal_) return absl::InternalError("a Kv without WAL cannot sync a batch");
    for (const KvMutation& m : batch) {
      if (m.key.starts_with(kKvReservedPrefix)) {
        return absl::InvalidArgumentError("the key is in the reserved range");
      }
    }
    disk_.Apply(batch);
    if (sync) disk_.unsynced.clear();
    return absl::OkStatus();
  }

  Status Flush() override {
    std::lock_guard lock(disk_.mutex);
    RETURN_IF_ERROR(Alive());
    disk_.unsynced.clear();
    return absl::OkStatus();
  }

  Status Scan(std::string_view start, std::string_view end,
              const std::function<bool(std::string_view, std::string_view)>& visit) override {
    return TakeSnapshot()->Scan(start, end, visit);
  }

  std::unique_ptr<KvSnapshot> TakeSnapshot() override {
    std::lock_guard lock(disk_.mutex);
    return std::make_unique<Snapshot>(disk_.map, Alive());
  }

  Status VerifyAll() override {
    std::lock_guard lock(disk_.mutex);
    return Alive();
  }

 private:
  class Snapshot : public KvSnapshot {
   public:
    Snapshot(std::shared_ptr<const MemKvDisk::Impl::Map> rows, Status alive)
        : rows_(std::move(rows)), alive_(std::move(alive)) {}
    Status Scan(std::string_view start, std::string_view end,
                const std::function<bool(std::string_view, std::string_view)>& visit) override {
      RETURN_IF_ERROR(alive_);
      for (auto it = rows_->lower_bound(start); it != rows_->end(); ++it) {
        if (!end.empty() && it->first >= end) break;
        if (!visit(it->first, it->second)) break;
      }
      return absl::OkStatus();
    }

   private:
    const std::shared_ptr<const MemKvDisk::Impl::Map> rows_;
    const Status alive_;
  };

  Status Alive() const {
    if (life_ == disk_.crashes) return absl::OkStatus();
    return absl::UnavailableError("the database is gone since a crash");
  }

  std::optional<std::string> Find(std::string_view key) const {
    auto it = disk_.map->find(key);
    return it == disk_.map->end() ? std::nullopt : std::make_optional(it->second);
  }

  MemKvDisk::Impl& disk_;
  const bool wal_;
  uint64_t life_;
};

}  // namespace

std::unique_ptr<Kv> OpenMemKv(MemKvDisk& disk, bool wal) {
  return std::make_unique<MemKv>(*disk.impl, wal);
}

}  // namespace holdfast
