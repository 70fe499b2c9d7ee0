// Writes a tree of files under one directory, as restore needs it.
//
// Names are raw bytes of any length, taken component by component with openat; no component is
// ever followed through a symbolic link, so nothing is written outside the directory. "", "." and
// ".." are refused as components. Nothing that is there is overwritten: a file of the same size and
// modification time, a link to the same target, is taken for restored before, anything else is an
// error.
//
// A regular file gets its name only with all its content: until then it has none (O_TMPFILE), or,
// where the file system cannot do that, one like ".holdfast-restore-<random>".
// Nothing is synced: what restore writes is a copy, and the system says on the next sync or
// unmount, not here, when a disk fails later. Errors of the writes themselves are returned:
// kAlreadyExists, kResourceExhausted (no space, quota), kInvalidArgument (the name is refused),
// kFailedPrecondition (a component is no directory), kPermissionDenied, kUnavailable (the rest).
//
// Thread-safe; a Sink belongs to one thread at a time.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/status.h"
#include "common/format/manifest.h"

namespace holdfast {

class TreeWriter {
 public:
  // A regular file being written. Destroyed before Commit, it leaves nothing.
  class Sink {
   public:
    virtual ~Sink() = default;
    virtual Status Append(Bytes bytes) = 0;
    // Sets the attributes and gives the file its name.
    virtual Status Commit() = 0;
  };

  // Makes `directory` and what leads to it where missing.
  static StatusOr<std::unique_ptr<TreeWriter>> Open(const std::string& directory);
  ~TreeWriter();

  // To be called of each name restored without some of its extended attributes, on the thread that
  // restores it; `what` lists them, each with why. Set before anything is restored.
  using SkippedFn = std::function<void(const std::string& name, const std::string& what)>;
  void OnXattrsSkipped(SkippedFn skipped) { skipped_ = std::move(skipped); }

  // Makes the directory, and those above it; ok when it is there.
  Status MakeDirectory(const std::string& name);
  // To be called when nothing more is made below it.
  Status SetDirectoryAttributes(const std::string& name, const Attributes& attributes);
  Status WriteFile(const std::string& name, Bytes content, const Attributes& attributes);
  // For content of `size` bytes. `attributes` outlives the sink.
  StatusOr<std::unique_ptr<Sink>> CreateFile(const std::string& name, uint64_t size,
                                             const Attributes& attributes);
  Status MakeSymlink(const std::string& name, const std::string& target,
                     const Attributes& attributes);
  // `first` is a name made by this writer.
  Status MakeHardLink(const std::string& name, const std::string& first);
  // Extended attributes left out because the file system has none, has no room for them, or
  // because the system keeps them from this user (security.*, trusted.*): an attribute never costs
  // the content it came with.
  uint64_t xattrs_skipped() const { return xattrs_skipped_; }
  // Files and links that were there before; their content was not compared.
  uint64_t already_there() const { return already_there_; }

 private:
  class Directories;
  class NewFile;
  class FileSink;
  class NoSink;
  struct Place;
  explicit TreeWriter(int root);
  StatusOr<Place> Find(const std::string& name);
  Status SetAttributes(int fd, const std::string& name, const Attributes& attributes);
  Status SetXattrs(const std::string& name, const Attributes& attributes,
                   const std::function<int(const XAttr&)>& set_one);
  Status SetSymlinkXattrs(const Place& place, const std::string& name,
                          const Attributes& attributes);
  bool IsThere(const Place& place, uint64_t size, const Attributes& attributes);
  bool IsLinkThere(const Place& place, const std::string& target);

  const bool is_root_;
  std::unique_ptr<Directories> directories_;
  SkippedFn skipped_;
  std::atomic<uint64_t> xattrs_skipped_{0}, already_there_{0};
};

}  // namespace holdfast
