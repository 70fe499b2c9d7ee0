// What an ingest reads: a tree of entries in a fixed order. Production is a POSIX directory tree
// read with openat (paths of any length, names as raw bytes); tests use trees in memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/format/manifest.h"

namespace holdfast {

// What a stat gives that tells whether a file changed while it was read.
struct FileStamp {
  uint64_t size = 0;
  int64_t mtime_nanos = 0;
  int64_t ctime_nanos = 0;
  uint64_t inode = 0;
  bool operator==(const FileStamp&) const = default;
};

// An open regular file. One thread at a time.
class SourceFile {
 public:
  virtual ~SourceFile() = default;
  // Fewer bytes than asked only at the end of the file.
  virtual StatusOr<size_t> ReadAt(uint64_t offset, MutableBytes out) = 0;
  virtual StatusOr<FileStamp> Stamp() = 0;
  // Whether bytes that were read were not in memory, at least once, or the file system cannot tell.
  virtual bool waited() const { return false; }
  // Has the disk read bytes that will be asked for soon, and does not wait for them. False when the
  // first of them is in memory already, or there is none, or nobody was asked: of a sparse file.
  virtual bool WillRead(uint64_t offset, uint64_t length) {
    (void)offset, (void)length;
    return false;
  }
};

struct SourceEntry {
  std::string name;  // Name in the collection.
  ObjectType type = ObjectType::kFile;
  bool special = false;   // Device, socket or fifo: listed and counted only.
  FileStamp stamp;        // At listing time.
  Attributes attributes;  // Without xattrs; Open fills those.
  std::string link;       // Symbolic link target; first name for a hard link.
  Status error;  // The entry could not be read (EACCES on a directory, …): named, skipped.
  std::shared_ptr<void> parent;  // Keeps the directory open (POSIX).
};

class Source {
 public:
  virtual ~Source() = default;
  // The next entry in walk order (directories before what they hold, names in byte order), or
  // nothing at the end. One thread at a time.
  virtual std::optional<SourceEntry> Next() = 0;
  // Opens a file entry and reads its xattrs into entry.attributes. Thread-safe.
  virtual StatusOr<std::unique_ptr<SourceFile>> Open(SourceEntry& entry) = 0;
  // The same, with stamp and attributes left as they were listed, which saves asking for them: when
  // the file's Stamp() is another one after it was read, they were not right, or are no more.
  virtual StatusOr<std::unique_ptr<SourceFile>> OpenAsListed(SourceEntry& entry) {
    return Open(entry);
  }
};

// Names as `cp -r` gives them: each path's last component leads, "DIR/." does not. Symbolic links
// are never followed, a path given on the command line excepted when it ends in "/" or "/.".
// A path that is not there is an entry with an error. kInvalidArgument: an empty path, or two that
// would give their files the same names.
StatusOr<std::unique_ptr<Source>> OpenPosixSource(const std::vector<std::string>& paths);

}  // namespace holdfast
