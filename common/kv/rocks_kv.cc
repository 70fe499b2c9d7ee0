#include "common/kv/rocks_kv.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "common/io/fs.h"
#include "common/kv/batch_mark.h"
#include "common/kv/encrypted_env.h"
#include "common/kv/file_checksum.h"
#include "common/kv/log_check.h"
#include "common/kv/rocks_status.h"
#include "common/kv/row_mac.h"
#include "rocksdb/cache.h"
#include "rocksdb/convenience.h"
#include "rocksdb/db.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/listener.h"
#include "rocksdb/merge_operator.h"
#include "rocksdb/table.h"

namespace holdfast {
namespace {

// The one row of our own. Each batch merges {its number, 1} into it: numbers by maximum, ones by
// sum. So the two halves are equal exactly when no batch is missing in the middle, which RocksDB
// itself would not notice: damage to the end of the MANIFEST can make it forget a flushed file and
// still replay the newer WAL.
constexpr std::string_view kBatchCountKey =
    "\xff\xff\xff\xff\xff\xff\xff\xff"
    "batches";

struct BatchCount {
  uint64_t last = 0;   // The highest number.
  uint64_t count = 0;  // How many there are.
};

std::string Encode(BatchCount c) {
  std::string s;
  for (uint64_t v : {c.last, c.count}) {
    for (int i = 0; i < 8; ++i) s.push_back(static_cast<char>(v >> (8 * i)));
  }
  return s;
}

bool Decode(std::string_view s, BatchCount& c) {
  if (s.size() != 16) return false;
  uint64_t v[2] = {0, 0};
  for (size_t i = 0; i < 16; ++i) {
    v[i / 8] |= static_cast<uint64_t>(static_cast<uint8_t>(s[i])) << (8 * (i % 8));
  }
  c = {v[0], v[1]};
  return true;
}

class BatchCounter : public rocksdb::AssociativeMergeOperator {
 public:
  const char* Name() const override { return "holdfast.batches"; }
  bool Merge(const rocksdb::Slice&, const rocksdb::Slice* existing, const rocksdb::Slice& value,
             std::string* merged, rocksdb::Logger*) const override {
    BatchCount a, b;
    if (existing != nullptr && !Decode(existing->ToStringView(), a)) return false;
    if (!Decode(value.ToStringView(), b)) return false;
    *merged = Encode({std::max(a.last, b.last), a.count + b.count});
    return true;
  }
};

// RocksDB's log names keys and files in clear, and fills the disk.
class NoLog : public rocksdb::Logger {
 public:
  NoLog() : rocksdb::Logger(rocksdb::InfoLogLevel::HEADER_LEVEL) {}
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

// Raises the mark when a table was written, since RocksDB then deletes the log with the same rows.
class MarkAfterFlush : public rocksdb::EventListener {
 public:
  MarkAfterFlush(BatchMark& mark, const std::atomic<uint64_t>& durable)
      : mark_(mark), durable_(durable) {}
  void OnFlushCompleted(rocksdb::DB*, const rocksdb::FlushJobInfo&) override {
    // A mark that stays low is still true.
    (void)mark_.Raise(durable_);
  }

 private:
  BatchMark& mark_;
  const std::atomic<uint64_t>& durable_;
};

rocksdb::Slice SliceOf(std::string_view s) { return {s.data(), s.size()}; }

rocksdb::BlockBasedTableOptions TableOptionsOf(const RocksKvOptions& o) {
  rocksdb::BlockBasedTableOptions table;
  // One shard, for few threads: of the default's many small ones each is too small for an index.
  table.block_cache = rocksdb::NewLRUCache(o.block_cache_bytes, 0);
  table.block_size = 8u << 10;
  // Else indexes and filters of every open file lie outside the bound.
  table.cache_index_and_filter_blocks = true;
  table.format_version = 5;
  if (o.bloom) table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  return table;
}

rocksdb::Options OptionsOf(const RocksKvOptions& o, bool create, rocksdb::Env* env) {
  rocksdb::Options r;
  r.env = env;
  r.create_if_missing = create;
  r.paranoid_checks = true;
  r.info_log = std::make_shared<NoLog>();
  r.info_log_level = rocksdb::InfoLogLevel::HEADER_LEVEL;
  r.stats_dump_period_sec = 0;
  r.stats_persist_period_sec = 0;
  // The default recovery mode opens after damage to the WAL with a silently shorter history.
  r.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  r.track_and_verify_wals_in_manifest = true;
  r.verify_sst_unique_id_in_manifest = true;
  r.file_checksum_gen_factory = FastFileChecksums();
  // So that nothing is lost with the IDENTITY file, which is not kept.
  r.write_dbid_to_manifest = true;
  r.compression = rocksdb::kNoCompression;
  r.bottommost_compression = rocksdb::kNoCompression;
  r.write_buffer_size = o.write_buffer_bytes;
  r.max_write_buffer_number = 2;
  r.max_open_files = 256;
  // So many threads are started at each opening, however few the files are.
  r.max_file_opening_threads = 2;
  r.max_background_jobs = 2;
  r.level_compaction_dynamic_level_bytes = true;
  r.bytes_per_sync = 1u << 20;
  // Reserving a whole write buffer for the log would take what is left of a nearly full disk.
  r.allow_fallocate = false;
  if (o.bloom) {
    r.memtable_whole_key_filtering = true;
    r.memtable_prefix_bloom_size_ratio = 0.02;  // Ten bits for a row of 64 bytes.
  }
  r.merge_operator = std::make_shared<BatchCounter>();
  r.table_factory.reset(rocksdb::NewBlockBasedTableFactory(TableOptionsOf(o)));
  return r;
}

class RocksKv : public Kv {
 public:
  RocksKv(std::string dir, const RocksKvOptions& options)
      : dir_(std::move(dir)), options_(options) {
    if (options_.encryption_key) {
      env_ = NewEncryptedRocksEnv(*options_.encryption_key);
      mac_ = std::make_unique<RowMac>(*options_.encryption_key);
    }
    upper_bound_ = SliceOf(kKvReservedPrefix);
    mark_ = std::make_unique<BatchMark>(env(), dir_);
  }

  ~RocksKv() override {
    if (!db_) return;
    // What is in a checksummed file needs no WAL, whose last record may be damaged unnoticed.
    if (unflushed_ && db_->Flush(rocksdb::FlushOptions()).ok()) (void)mark_->Raise(batches_);
    (void)db_->Close();
  }

  // `exists`: the directory holds a database already.
  Status Open(bool exists) {
    if (exists) RETURN_IF_ERROR(CheckUntouched());
    rocksdb::Options options = OptionsOf(options_, !exists, &env());
    if (options_.wal) options.listeners = {std::make_shared<MarkAfterFlush>(*mark_, durable_)};
    rocksdb::DB* db = nullptr;
    rocksdb::Status opened = rocksdb::DB::Open(options, dir_, &db);
    db_.reset(db);
    RETURN_IF_ERROR(FromRocksOpen(opened, dir_));
    RETURN_IF_ERROR(RemoveLeftovers());
    ASSIGN_OR_RETURN(batches_, CountBatches(*db_));
    // What was recovered is in tables by now. There is a mark before there is a first row.
    durable_ = batches_;
    return mark_->Raise(batches_);
  }

  StatusOr<std::optional<std::string>> Get(std::string_view key) override {
    rocksdb::PinnableSlice value;
    rocksdb::Status s = db_->Get(ReadOptions(), db_->DefaultColumnFamily(), SliceOf(key), &value);
    return Found(key, s, value);
  }

  StatusOr<std::vector<std::optional<std::string>>> MultiGet(
      const std::vector<std::string>& keys) override {
    std::vector<rocksdb::Slice> slices(keys.begin(), keys.end());
    std::vector<rocksdb::PinnableSlice> values(keys.size());
    std::vector<rocksdb::Status> statuses(keys.size());
    db_->MultiGet(ReadOptions(), db_->DefaultColumnFamily(), keys.size(), slices.data(),
                  values.data(), statuses.data());
    std::vector<std::optional<std::string>> found(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) {
      ASSIGN_OR_RETURN(found[i], Found(keys[i], statuses[i], values[i]));
    }
    return found;
  }

  Status Write(const KvBatch& batch, bool sync) override {
    if (sync && !options_.wal) return absl::InternalError("a Kv without WAL cannot sync a batch");
    std::lock_guard lock(write_mutex_);
    rocksdb::WriteBatch rows(SizeOf(batch));
    std::string sealed;
    for (const KvMutation& m : batch) {
      if (m.key.starts_with(kKvReservedPrefix)) {
        return absl::InvalidArgumentError("the key is in the reserved range");
      }
      rocksdb::Status s;
      if (!m.value) {
        s = rows.Delete(m.key);
      } else if (mac_) {
        mac_->Seal(m.key, *m.value, sealed);
        s = rows.Put(m.key, sealed);
      } else {
        s = rows.Put(m.key, *m.value);
      }
      RETURN_IF_ERROR(FromRocks(s, dir_));
    }
    RETURN_IF_ERROR(FromRocks(
        rows.Merge(SliceOf(kBatchCountKey), Encode({.last = batches_ + 1, .count = 1})), dir_));
    rocksdb::WriteOptions how;
    how.sync = sync;
    how.disableWAL = !options_.wal;
    last_write_ = FromRocks(db_->Write(how, &rows), dir_);
    RETURN_IF_ERROR(last_write_);
    batches_++;
    unflushed_ = true;
    if (sync) durable_ = batches_;
    return absl::OkStatus();
  }

  Status Flush() override {
    std::lock_guard lock(write_mutex_);
    // RocksDB ends the process when it is asked to sync a log that it could not write or sync.
    if (options_.wal) RETURN_IF_ERROR(last_write_);
    RETURN_IF_ERROR(
        FromRocks(options_.wal ? db_->FlushWAL(true) : db_->Flush(rocksdb::FlushOptions()), dir_));
    durable_ = batches_;
    return options_.wal ? absl::OkStatus() : mark_->Raise(batches_);
  }

  Status Scan(std::string_view start, std::string_view end,
              const std::function<bool(std::string_view, std::string_view)>& visit) override {
    return ScanWith(ReadOptions(), start, end, visit);
  }

  std::unique_ptr<KvSnapshot> TakeSnapshot() override { return std::make_unique<Snapshot>(*this); }

  Status VerifyAll() override {
    RETURN_IF_ERROR(CheckLogsAtRest());
    rocksdb::ReadOptions read = ReadOptions();
    read.fill_cache = false;
    RETURN_IF_ERROR(FromRocks(db_->VerifyFileChecksums(read), dir_));
    RETURN_IF_ERROR(FromRocks(db_->VerifyChecksum(read), dir_));
    return ScanWith(read, {}, {}, [](std::string_view, std::string_view) { return true; });
  }

 private:
  class Snapshot : public KvSnapshot {
   public:
    explicit Snapshot(RocksKv& kv) : kv_(kv), snapshot_(kv.db_->GetSnapshot()) {}
    ~Snapshot() override { kv_.db_->ReleaseSnapshot(snapshot_); }
    Status Scan(std::string_view start, std::string_view end,
                const std::function<bool(std::string_view, std::string_view)>& visit) override {
      rocksdb::ReadOptions read = ReadOptions();
      read.snapshot = snapshot_;
      read.fill_cache = false;  // It is read once, from end to end.
      return kv_.ScanWith(read, start, end, visit);
    }

   private:
    RocksKv& kv_;
    const rocksdb::Snapshot* snapshot_;
  };

  static rocksdb::ReadOptions ReadOptions() {
    rocksdb::ReadOptions read;
    read.verify_checksums = true;
    return read;
  }

  static size_t SizeOf(const KvBatch& batch) {
    size_t size = 64;
    for (const KvMutation& m : batch) {
      size += m.key.size() + (m.value ? m.value->size() : 0) + kRowMacSize + 12;
    }
    return size;
  }

  rocksdb::Env& env() { return env_ ? *env_ : *rocksdb::Env::Default(); }

  // Everything that can be checked before RocksDB opens the database for writing: it would go on
  // from what it takes for the end of the logs, and delete tables that it has forgotten.
  Status CheckUntouched() {
    rocksdb::FileLock* lock = nullptr;
    RETURN_IF_ERROR(FromRocksOpen(env().LockFile(dir_ + "/LOCK", &lock), dir_));
    Status status = CheckRocksLogs(env(), dir_, /*torn_tail=*/true);
    if (status.ok()) status = CheckReadOnly();
    RETURN_IF_ERROR(FromRocksOpen(env().UnlockFile(lock), dir_));
    return status;
  }

  Status CheckReadOnly() {
    rocksdb::DB* db = nullptr;
    rocksdb::Status opened =
        rocksdb::DB::OpenForReadOnly(OptionsOf(options_, false, &env()), dir_, &db);
    std::unique_ptr<rocksdb::DB> owner(db);
    RETURN_IF_ERROR(FromRocksOpen(opened, dir_));
    RETURN_IF_ERROR(CheckMark(*db));
    uint64_t bytes = 0;
    if (!db->GetIntProperty(rocksdb::DB::Properties::kLiveSstFilesSize, &bytes) ||
        bytes >= kVerifyAtOpenBytes) {
      return absl::OkStatus();
    }
    return FromRocks(db->VerifyFileChecksums(ReadOptions()), dir_);
  }

  // While nothing is written there is no incomplete record either.
  Status CheckLogsAtRest() {
    std::lock_guard lock(write_mutex_);
    RETURN_IF_ERROR(FromRocks(db_->PauseBackgroundWork(), dir_));
    Status logs = CheckRocksLogs(env(), dir_, /*torn_tail=*/false);
    RETURN_IF_ERROR(FromRocks(db_->ContinueBackgroundWork(), dir_));
    return logs;
  }

  // RocksDB writes OPTIONS and IDENTITY at each open and never reads them: nothing would find
  // damage there. And it keeps logs that it has recovered from and that held little; one that was
  // cut off in a crash must not lie beside a newer one with records, where it would pass for
  // damage. All that is gone for good before the first row is written.
  Status RemoveLeftovers() {
    std::unique_ptr<rocksdb::LogFile> current;
    RETURN_IF_ERROR(FromRocks(db_->GetCurrentWalFile(&current), dir_));
    uint64_t rows = 0;
    bool recovered = db_->GetIntProperty(rocksdb::DB::Properties::kNumEntriesActiveMemTable, &rows);
    recovered = recovered && rows == 0;  // All of it is in tables by now.
    Fs& fs = PosixFs();
    ASSIGN_OR_RETURN(std::vector<std::string> names, fs.List(dir_));
    for (const std::string& name : names) {
      bool old_log = recovered && name.ends_with(".log") &&
                     std::strtoull(name.c_str(), nullptr, 10) < current->LogNumber();
      bool half_made = name.ends_with(".new");
      if (old_log || half_made || name.starts_with("OPTIONS-") || name == "IDENTITY") {
        Status removed = fs.Remove(dir_ + "/" + name);
        if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
      }
    }
    return fs.SyncDir(dir_);
  }

  // The number of batches written ever.
  StatusOr<uint64_t> CountBatches(rocksdb::DB& db) const {
    std::string row;
    rocksdb::Status s = db.Get(ReadOptions(), SliceOf(kBatchCountKey), &row);
    if (s.IsNotFound()) return 0;
    RETURN_IF_ERROR(FromRocks(s, dir_));
    BatchCount c;
    if (!Decode(row, c) || c.last != c.count) return Missing(c.last, c.count);
    return c.last;
  }

  Status CheckMark(rocksdb::DB& db) {
    ASSIGN_OR_RETURN(uint64_t there, CountBatches(db));
    ASSIGN_OR_RETURN(std::optional<uint64_t> mark, mark_->Load());
    if (mark && *mark > there) return Missing(*mark, there);
    if (mark || there == 0) return absl::OkStatus();
    return absl::DataLossError(
        absl::StrCat(dir_, ": damaged: the file ", kBatchMarkFile, " is gone"));
  }

  Status Missing(uint64_t written, uint64_t there) const {
    return absl::DataLossError(absl::StrCat(dir_, ": damaged: of ", written,
                                            " batches written only ", there, " are there"));
  }

  Status WrongMac(std::string_view key) const {
    return absl::DataLossError(
        absl::StrCat(dir_, ": damaged: the row ", ToHex(AsBytes(key)), " fails its check"));
  }

  StatusOr<std::optional<std::string>> Found(std::string_view key, const rocksdb::Status& s,
                                             const rocksdb::PinnableSlice& value) const {
    if (s.IsNotFound() || key.starts_with(kKvReservedPrefix)) return std::nullopt;
    RETURN_IF_ERROR(FromRocks(s, dir_));
    std::string_view view = value.ToStringView();
    if (mac_ && !mac_->Open(key, view)) return WrongMac(key);
    return std::string(view);
  }

  Status ScanWith(rocksdb::ReadOptions read, std::string_view start, std::string_view end,
                  const std::function<bool(std::string_view, std::string_view)>& visit) {
    rocksdb::Slice bound = end.empty() ? upper_bound_ : std::min(SliceOf(end), upper_bound_, Less);
    read.iterate_upper_bound = &bound;
    std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(read));
    for (it->Seek(SliceOf(start)); it->Valid(); it->Next()) {
      std::string_view key = it->key().ToStringView(), value = it->value().ToStringView();
      if (mac_ && !mac_->Open(key, value)) return WrongMac(key);
      if (!visit(key, value)) break;
    }
    return FromRocks(it->status(), dir_);
  }

  static bool Less(const rocksdb::Slice& a, const rocksdb::Slice& b) { return a.compare(b) < 0; }

  const std::string dir_;
  const RocksKvOptions options_;
  rocksdb::Slice upper_bound_;
  std::unique_ptr<rocksdb::Env> env_;  // Null: RocksDB's own. Outlives db_.
  std::unique_ptr<RowMac> mac_;
  std::unique_ptr<BatchMark> mark_;
  std::atomic<uint64_t> durable_ = 0;  // Batches that no crash takes.
  std::unique_ptr<rocksdb::DB> db_;    // Its threads use what is above.
  std::mutex write_mutex_;
  uint64_t batches_ = 0;  // Written ever; guarded by write_mutex_.
  bool unflushed_ = false;
  Status last_write_;  // Guarded too.
};

// What lies in a directory before it is opened.
struct DirState {
  bool current = false;   // Names the MANIFEST: without it there is no database.
  bool evidence = false;  // Other files of one that was opened before.
};

StatusOr<DirState> Look(const std::string& dir) {
  DirState state;
  ASSIGN_OR_RETURN(bool exists, PosixFs().Exists(dir));
  if (!exists) return state;
  ASSIGN_OR_RETURN(std::vector<std::string> names, PosixFs().List(dir));
  for (const std::string& name : names) {
    state.current |= name == "CURRENT";
    // The first MANIFEST is there before CURRENT is: alone it is a creation that did not finish.
    state.evidence |= (name.starts_with("MANIFEST-") && name != "MANIFEST-000001") ||
                      name.ends_with(".sst") || name.ends_with(".log") || name == kBatchMarkFile;
  }
  return state;
}

}  // namespace

StatusOr<std::unique_ptr<Kv>> OpenRocksKv(const std::string& dir, bool create,
                                          const RocksKvOptions& options) {
  ASSIGN_OR_RETURN(DirState state, Look(dir));
  if (!state.current && state.evidence) {
    return absl::DataLossError(absl::StrCat(dir, ": damaged: the file CURRENT is gone"));
  }
  if (!state.current && !create) {
    return absl::NotFoundError(absl::StrCat(dir, ": no database there"));
  }
  if (!state.current) {
    RETURN_IF_ERROR(PosixFs().CreateDir(dir));
    // RocksDB syncs what is in its directory, and not the directory's own name.
    RETURN_IF_ERROR(PosixFs().SyncDir(dir + "/.."));
  }
  auto kv = std::make_unique<RocksKv>(dir, options);
  RETURN_IF_ERROR(kv->Open(state.current));
  return kv;
}

Status DestroyRocksKv(const std::string& dir) {
  ASSIGN_OR_RETURN(bool exists, PosixFs().Exists(dir));
  if (!exists) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::vector<std::string> names, PosixFs().List(dir));
  for (const std::string& name : names) RETURN_IF_ERROR(PosixFs().Remove(dir + "/" + name));
  return PosixFs().Remove(dir);
}

}  // namespace holdfast
