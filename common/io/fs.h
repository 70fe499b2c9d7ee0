// The Fs seam: the files of a vault (segments, superblocks, key files). Source trees are not read
// through it (client/source.h). Production is POSIX; SimFs keeps a synced and an unsynced image.
//
// Paths are raw bytes. Errors: kNotFound, kAlreadyExists (exclusive create), kResourceExhausted
// (ENOSPC, EDQUOT), kPermissionDenied, kUnavailable (EIO, and everything after a simulated power
// cut), kFailedPrecondition (lock held elsewhere; a directory where a file is meant), kInternal
// (misaligned direct I/O, a write through a read-only handle). Every message names the path.
//
// Durability: written bytes are durable after DataSync returned ok; a created, renamed or removed
// name after SyncDir of its directory. A failed DataSync is never retried: what was written since
// the last good one must be taken as lost.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/status.h"

namespace holdfast {

// Offsets, lengths and addresses of direct I/O are multiples of this.
inline constexpr size_t kDirectAlign = 4096;

struct OpenOptions {
  bool write = false;      // Else read only.
  bool create = false;     // Make it (0600) if it is not there.
  bool exclusive = false;  // With create: fail with kAlreadyExists if it is.
  bool direct = false;     // Bypass the page cache where the file system can (falls back quietly).
};

// Thread-safe: reads and writes at offsets may run at once.
class File {
 public:
  virtual ~File() = default;  // Closes.
  // Reads up to out.size() bytes; fewer only at the end of the file.
  virtual StatusOr<size_t> ReadAt(uint64_t offset, MutableBytes out) = 0;
  // Writes all of `data`, or fails with any part of it written.
  virtual Status WriteAt(uint64_t offset, Bytes data) = 0;
  virtual Status DataSync() = 0;
  virtual Status Truncate(uint64_t size) = 0;
  // Reserves blocks and extends the size; reads there give zeros. When it fails, size and blocks
  // are as they were.
  virtual Status Allocate(uint64_t offset, uint64_t length) = 0;
  virtual StatusOr<uint64_t> Size() = 0;
};

// Held until destroyed.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

struct SpaceInfo {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
};

class Fs {
 public:
  virtual ~Fs() = default;
  virtual StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenOptions options) = 0;
  // Makes one directory (0700); ok if it is there.
  virtual Status CreateDir(const std::string& path) = 0;
  virtual Status SyncDir(const std::string& path) = 0;
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  // A file, or an empty directory (else kFailedPrecondition).
  virtual Status Remove(const std::string& path) = 0;
  // Names in a directory, sorted by bytes, without "." and "..".
  virtual StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
  virtual StatusOr<bool> Exists(const std::string& path) = 0;
  // Exclusive between processes; kFailedPrecondition when another holds it.
  virtual StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) = 0;
  virtual StatusOr<SpaceInfo> Space(const std::string& path) = 0;
};

Fs& PosixFs();

// Whole-file helpers over any Fs.
StatusOr<Buffer> ReadFile(Fs& fs, const std::string& path);
// Writes to "<path>.new", syncs, renames over `path`, syncs the directory: old or new, never half.
Status WriteFileAtomically(Fs& fs, const std::string& path, Bytes data);

}  // namespace holdfast
