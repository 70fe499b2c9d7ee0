#include "common/kv/log_check.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/bytes.h"
#include "common/crypto/check.h"
#include "common/io/fs.h"
#include "common/kv/rocks_status.h"

namespace holdfast {
namespace {

constexpr size_t kBlockSize = 32768;  // No record's piece crosses a multiple of this.
constexpr size_t kHeaderSize = 7;     // Masked CRC-32C (4), length (2), type (1).
// A piece is a whole record, or the first, a middle or the last of several.
constexpr uint8_t kFull = 1, kLast = 4;

struct Header {
  uint32_t crc;
  size_t length;
  uint8_t type;
};

Header HeaderAt(Bytes log, size_t at) {
  const uint8_t* b = log.data() + at;
  return {static_cast<uint32_t>(b[0] | b[1] << 8 | b[2] << 16) | static_cast<uint32_t>(b[3]) << 24,
          static_cast<size_t>(b[4] | b[5] << 8), b[6]};
}

size_t BlockEnd(size_t at) { return at - at % kBlockSize + kBlockSize; }

bool HasCrc(Bytes typed, uint32_t masked) {
  const uint32_t crc = Crc32c(typed);
  // RocksDB masks a CRC, since CRCs of data that hold their own CRC are weak.
  return ((crc >> 15 | crc << 17) + 0xa282ead8u) == masked;
}

// Whether a whole, intact piece lies at `at`.
bool IntactAt(Bytes log, size_t at) {
  if (at + kHeaderSize > std::min(BlockEnd(at), log.size())) return false;
  Header h = HeaderAt(log, at);
  if (h.type < kFull || h.type > kLast) return false;
  if (at + kHeaderSize + h.length > std::min(BlockEnd(at), log.size())) return false;
  return HasCrc(log.subspan(at + kHeaderSize - 1, h.length + 1), h.crc);
}

enum class Ending { kClean, kTorn, kDamaged };

struct Walk {
  Ending ending;
  size_t at;  // Where the log ends or is damaged; 0: it has no record.
};

// The last piece is incomplete: torn by a crash, unless an intact piece follows its header, or all
// that is left has its checksum. Then not the file was cut, but the length is wrong.
Walk Incomplete(Bytes log, size_t at) {
  if (HasCrc(log.subspan(at + kHeaderSize - 1), HeaderAt(log, at).crc)) {
    return {Ending::kDamaged, at};
  }
  for (size_t i = at + 1; i + kHeaderSize <= log.size(); ++i) {
    if (IntactAt(log, i)) return {Ending::kDamaged, at};
  }
  return {Ending::kTorn, at};
}

Walk WalkLog(Bytes log) {
  bool inside = false;  // Of a record whose last piece has not come.
  size_t at = 0;
  while (at < log.size()) {
    size_t left = BlockEnd(at) - at;
    if (left < kHeaderSize) {
      // Too little room for a header is filled with zeros.
      Bytes filler = log.subspan(at, std::min(left, log.size() - at));
      if (std::any_of(filler.begin(), filler.end(), [](uint8_t b) { return b != 0; })) {
        return {Ending::kDamaged, at};
      }
      at += filler.size();
      continue;
    }
    if (log.size() - at < kHeaderSize) return {Ending::kTorn, at};
    Header h = HeaderAt(log, at);
    size_t end = at + kHeaderSize + h.length;
    // A crash shortens a file, but makes up no length or type that is never written.
    if (end > BlockEnd(at) || h.type > kLast) return {Ending::kDamaged, at};
    if (end > log.size()) return Incomplete(log, at);
    if (!IntactAt(log, at)) return {Ending::kDamaged, at};
    bool starts = h.type <= 2;
    if (starts == inside) return {Ending::kDamaged, at};
    inside = h.type == 2 || h.type == 3;
    at = end;
  }
  return {inside ? Ending::kTorn : Ending::kClean, at};
}

StatusOr<std::string> ReadLog(rocksdb::Env& env, const std::string& dir, const std::string& name) {
  std::string contents;
  RETURN_IF_ERROR(FromRocksOpen(rocksdb::ReadFileToString(&env, dir + "/" + name, &contents), dir));
  return contents;
}

// The log is no good from `at` on. ext4 may keep the new size of a file, but not what was appended:
// a power cut then leaves zeros to the end. Where that is so, the file is cut off at `at`, as after
// any crash; RocksDB would not open it. What it held there was never synced.
StatusOr<bool> CutZeros(const std::string& path, Bytes log, size_t at) {
  constexpr size_t kZeros = 16;  // So many are no chance in what is encrypted.
  std::string raw;
  RETURN_IF_ERROR(
      FromRocksOpen(rocksdb::ReadFileToString(rocksdb::Env::Default(), path, &raw), path));
  const size_t written = raw.find_last_not_of('\0') + 1;
  if (raw.size() < log.size() || raw.size() - written < kZeros) return false;
  for (size_t i = at + 1; i + kHeaderSize <= log.size(); ++i) {
    if (IntactAt(log, i)) return false;
  }
  OpenOptions open;
  open.write = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<File> file, PosixFs().Open(path, open));
  RETURN_IF_ERROR(file->Truncate(raw.size() - log.size() + at));
  RETURN_IF_ERROR(file->DataSync());
  return true;
}

StatusOr<Walk> CheckLog(rocksdb::Env& env, const std::string& dir, const std::string& name,
                        bool torn_tail) {
  ASSIGN_OR_RETURN(std::string contents, ReadLog(env, dir, name));
  Walk walk = WalkLog(AsBytes(contents));
  if (walk.ending == Ending::kDamaged && torn_tail) {
    ASSIGN_OR_RETURN(const bool cut, CutZeros(dir + "/" + name, AsBytes(contents), walk.at));
    if (cut) walk.ending = Ending::kTorn;
  }
  if (walk.ending == Ending::kClean || (walk.ending == Ending::kTorn && torn_tail)) return walk;
  return absl::DataLossError(
      absl::StrCat(dir, ": damaged: the file ", name, " at offset ", walk.at));
}

// The name that CURRENT holds.
StatusOr<std::string> ManifestName(rocksdb::Env& env, const std::string& dir) {
  ASSIGN_OR_RETURN(std::string name, ReadLog(env, dir, "CURRENT"));
  constexpr std::string_view kPrefix = "MANIFEST-";
  bool good = name.starts_with(kPrefix) && name.ends_with('\n') && name.size() > kPrefix.size() + 1;
  if (good) name.pop_back();
  for (size_t i = kPrefix.size(); good && i < name.size(); ++i) {
    good = name[i] >= '0' && name[i] <= '9';
  }
  if (!good) return absl::DataLossError(absl::StrCat(dir, ": damaged: the file CURRENT"));
  return name;
}

// The numbers of the WAL files, ascending.
StatusOr<std::vector<std::pair<uint64_t, std::string>>> Wals(rocksdb::Env& env,
                                                             const std::string& dir) {
  std::vector<std::string> names;
  RETURN_IF_ERROR(FromRocksOpen(env.GetChildren(dir, &names), dir));
  std::vector<std::pair<uint64_t, std::string>> wals;
  for (const std::string& name : names) {
    if (name.ends_with(".log")) wals.emplace_back(std::strtoull(name.c_str(), nullptr, 10), name);
  }
  std::sort(wals.begin(), wals.end());
  return wals;
}

}  // namespace

Status CheckRocksLogs(rocksdb::Env& env, const std::string& dir, bool torn_tail) {
  ASSIGN_OR_RETURN(std::string manifest, ManifestName(env, dir));
  RETURN_IF_ERROR(CheckLog(env, dir, manifest, torn_tail).status());
  ASSIGN_OR_RETURN(auto wals, Wals(env, dir));
  // From the newest: a crash can have cut off only the one that was written to last. Newer ones
  // that are empty come from opening the database again, and from crashing before it was used.
  for (auto wal = wals.rbegin(); wal != wals.rend(); ++wal) {
    ASSIGN_OR_RETURN(Walk walk, CheckLog(env, dir, wal->second, torn_tail));
    torn_tail = torn_tail && walk.at == 0;
  }
  return absl::OkStatus();
}

}  // namespace holdfast
