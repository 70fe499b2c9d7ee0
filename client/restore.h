// Restore: writes objects back as files, in parallel, and sets what the source had.
//
// Content is checked before it is written: every chunk's identity against the signed manifest, and
// the object's SHA-256 (verify compares SHA-1 and MD5 as well). Directories are made first, their
// attributes set last. Whole blocks of long content go past the page cache. Nothing is synced: a
// restored tree is a copy, durable when the system has written it out. Memory: bounded
// (reader_bulk.h), and a few hundred bytes for each directory and hard link.
#pragma once

#include <atomic>

#include "client/stage_clock.h"
#include "client/vault.h"

namespace holdfast {

struct RestoreOptions {
  std::string collection;
  std::string prefix;  // By path component, slashes at its end ignored; empty: all.
  std::string to;      // Directory; made if it is not there.
  int threads = 0;     // 0: as many as cores. -1: none, all in the caller (simulation).
  kernels::Engine* engine = nullptr;  // Null: the processor's fastest.
  JobTimes* times = nullptr;          // Of the threads that read objects and write files.
};

// Called on restore's threads, one call at a time.
class RestoreObserver {
 public:
  virtual ~RestoreObserver() = default;
  virtual void OnObject(const std::string& name) { (void)name; }
  // The object could not be restored whole; nothing partial is left under its name.
  virtual void OnError(const std::string& name, const Status& status) { (void)name, (void)status; }
  // The object is restored without some of its extended attributes: `what` lists each with why.
  virtual void OnXattrsSkipped(const std::string& name, const std::string& what) {
    (void)name, (void)what;
  }
};

struct RestoreProgress {
  std::atomic<uint64_t> objects_total{0};
  std::atomic<uint64_t> files_done{0}, bytes_done{0};
};

struct RestoreSummary {
  uint64_t files = 0, directories = 0, symlinks = 0, hard_links = 0;
  uint64_t bytes = 0;
  uint64_t errors = 0;
  uint64_t integrity_errors = 0;  // Those of errors that are kDataLoss.
  uint64_t xattrs_skipped = 0;    // Extended attributes that the destination refused.
  uint64_t already_there = 0;     // Of the files and links: not written, not compared.
  int64_t nanos = 0;
};

// Paths are made component by component with openat: names of any length, never through a
// symbolic link; a name with a ".." or empty component is refused, named. Nothing that is there
// is overwritten (tree_writer.h): a restore that was cut short can be run again. Names keep their
// full path below `to`, whatever the prefix. A hard link becomes one when its first name is in
// scope and restored, else a file of its own. kNotFound: no such collection, or nothing in it under
// the prefix.
StatusOr<RestoreSummary> Restore(Vault& vault, const RestoreOptions& options,
                                 RestoreObserver& observer, RestoreProgress* progress = nullptr);

}  // namespace holdfast
