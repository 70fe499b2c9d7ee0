// RocksDB's files as far as Holdfast reads them itself, and rows with their MACs.
#include <sys/mman.h>
#include <unistd.h>

#include "common/crypto/hmac.h"
#include "common/kv/batch_mark.h"
#include "common/kv/encrypted_env.h"
#include "common/kv/log_check.h"
#include "common/kv/row_mac.h"
#include "rocksdb/env.h"
#include "tests/fuzz/parser_tools.h"

namespace holdfast::fuzz {
namespace {

constexpr size_t kLogBlock = 32'768;
constexpr size_t kLogHeader = 7;
constexpr uint8_t kFixCrcs = 1;

const std::array<uint8_t, 32> kFileKey = CountingArray<32>(0x20);

uint32_t Masked(Bytes typed) {
  const uint32_t crc = Crc32c(typed);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

// Puts right the checksum of each piece of a log, as far as their lengths lead.
void FixLog(MutableBytes log) {
  size_t at = 0;
  while (at + kLogHeader <= log.size()) {
    const size_t left = kLogBlock - at % kLogBlock;
    const size_t length = log[at + 4] | log[at + 5] << 8;
    if (left < kLogHeader) {
      at += left;
      continue;
    }
    if (at + kLogHeader + length > log.size()) return;
    const uint32_t crc = Masked(log.subspan(at + kLogHeader - 1, length + 1));
    for (int i = 0; i < 4; ++i) log[at + i] = static_cast<uint8_t>(crc >> (8 * i));
    at += kLogHeader + length;
  }
}

void Put(rocksdb::Env& env, const std::string& path, Bytes bytes) {
  Must(rocksdb::WriteStringToFile(&env, ToString(bytes), path).ok(), "write");
}

// A byte of options, the MANIFEST after its 16-bit length, then a WAL.
void LogParser(Bytes input) {
  Reader reader(input);
  const uint8_t how = reader.U8();
  Buffer manifest = ToBuffer(UpTo(reader, reader.U16()));
  Buffer wal = ToBuffer(reader.rest());
  if (how & kFixCrcs) {
    FixLog(manifest);
    FixLog(wal);
  }
  const std::unique_ptr<rocksdb::Env> env(rocksdb::NewMemEnv(rocksdb::Env::Default()));
  Put(*env, "/db/CURRENT", how & 2 ? Bytes(wal) : AsBytes("MANIFEST-000001\n"));
  Put(*env, "/db/MANIFEST-000001", manifest);
  Put(*env, "/db/000002.log", wal);
  const bool whole = CheckRocksLogs(*env, "/db", false).ok();
  const bool torn = CheckRocksLogs(*env, "/db", true).ok();
  Must(torn || !whole, "a whole log is also one that may be torn");
}

void AppendPiece(Buffer& log, uint8_t type, std::string_view content) {
  Buffer typed = {type};
  Append(typed, AsBytes(content));
  Writer writer(log);
  writer.U32(Masked(typed));
  writer.U16(static_cast<uint16_t>(content.size()));
  writer.Raw(typed);
}

std::vector<Buffer> LogSeeds() {
  Buffer log;
  AppendPiece(log, 1, "a whole record");
  AppendPiece(log, 2, "the first piece");
  AppendPiece(log, 3, "a middle one");
  AppendPiece(log, 4, "the last");
  Buffer seed = {kFixCrcs};
  Writer(seed).U16(static_cast<uint16_t>(log.size()));
  Append(seed, log);
  Append(seed, log);
  Buffer torn = seed;
  torn.resize(torn.size() - 3);
  Buffer named = {kFixCrcs | 2, 0, 0};
  Append(named, AsBytes("MANIFEST-000001\n"));
  return {seed, torn, named};
}

void BatchMarkParser(Bytes input) {
  const std::unique_ptr<rocksdb::Env> env(rocksdb::NewMemEnv(rocksdb::Env::Default()));
  const auto load = [&](Bytes bytes) {
    Put(*env, std::string("/db/") + kBatchMarkFile, bytes);
    return BatchMark(*env, "/db").Load();
  };
  (void)load(input);
  Buffer fixed = ToBuffer(input);
  if (fixed.size() < 4) return;
  FixCrc(fixed);
  const auto mark = load(fixed);
  Must(mark.ok() == (fixed.size() == 12), "a mark has one length");
  if (mark.ok()) Must(mark->value() == Reader(fixed).U64(), "a mark comes back");
}

// A file of any bytes, which is opened by name.
class MemoryFile {
 public:
  MemoryFile() : fd_(memfd_create("fuzz", MFD_CLOEXEC)) { Must(fd_ >= 0, "memfd"); }
  ~MemoryFile() { close(fd_); }
  std::string Holding(Bytes bytes) {
    const auto size = static_cast<ssize_t>(bytes.size());
    Must(ftruncate(fd_, 0) == 0 && pwrite(fd_, bytes.data(), bytes.size(), 0) == size, "write");
    return "/proc/self/fd/" + std::to_string(fd_);
  }

 private:
  const int fd_;
};

// A byte of options, then a file.
void EncryptedFileParser(Bytes input) {
  static const std::unique_ptr<rocksdb::Env> env = NewEncryptedRocksEnv(kFileKey);
  static MemoryFile file;
  if (input.empty()) return;
  Buffer bytes = ToBuffer(input.subspan(1));
  const bool fix = (input[0] & kFixCrcs) != 0 && bytes.size() >= kEncryptedFilePrefixSize;
  if (fix) {
    const Hash256 check =
        HmacSha256(kFileKey, {AsBytes("holdfast/1 file prefix"), Bytes(bytes).first(32)});
    std::copy_n(check.begin(), kEncryptedFilePrefixSize - 32, bytes.begin() + 32);
  }
  const std::string path = file.Holding(bytes);
  std::string contents;
  const rocksdb::Status status = rocksdb::ReadFileToString(env.get(), path, &contents);
  Must(!fix || status.ok(), "a good prefix opens");
  if (status.ok() && fix) {
    Must(contents.size() == bytes.size() - kEncryptedFilePrefixSize, "contents have their length");
  }
}

// A key after its 16-bit length, then what is stored under it.
void RowMacParser(Bytes input) {
  const RowMac mac(kFileKey);
  Reader reader(input);
  const Bytes key = UpTo(reader, reader.U16());
  std::string_view stored = AsView(reader.rest());
  (void)mac.Open(AsView(key), stored);
  std::string sealed;
  mac.Seal(AsView(key), AsView(reader.rest()), sealed);
  stored = sealed;
  Must(mac.Open(AsView(key), stored) && stored == AsView(reader.rest()), "a row comes back");
}

}  // namespace

std::vector<Parser> KvParsers() {
  return {
      {"rocks-log", LogParser, LogSeeds},
      {"batch-mark", BatchMarkParser, [] { return std::vector<Buffer>{Buffer(12, 1)}; }},
      {"encrypted-file", EncryptedFileParser,
       [] {
         return std::vector<Buffer>{Buffer(60, 1), Buffer(60, 0), Buffer(20, 1)};
       }},
      {"row-mac", RowMacParser,
       [] {
         return std::vector<Buffer>{{3, 0, 'k', 'e', 'y', 1, 2}};
       }},
  };
}

}  // namespace holdfast::fuzz
