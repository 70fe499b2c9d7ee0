// The simulated twin of PosixFs: files in memory, each with a synced and an unsynced image.
//
// A power cut (at a chosen operation, or by PowerCut()) makes every later call fail with
// kUnavailable. Reboot() then gives the image a real disk may show: for every file each unsynced
// write, truncation and allocation is kept or dropped, a write also torn at 512 bytes, drawn from
// the seed; unsynced names (create, rename, remove) are kept or dropped per directory entry, a
// rename as a whole, and an operation only with the earlier ones on the same names. DataSync makes
// bytes durable and not the file's name: without SyncDir the file may vanish. Faults on demand:
// EIO, ENOSPC, bit flips, a failing or lying DataSync.
//
// Paths are absolute; "/" is always there, other directories must be made. Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "common/base/rng.h"
#include "common/io/fs.h"

namespace holdfast {

class SimFs : public Fs {
 public:
  explicit SimFs(uint64_t seed);
  ~SimFs() override;

  StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenOptions options) override;
  Status CreateDir(const std::string& path) override;
  Status SyncDir(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Remove(const std::string& path) override;
  StatusOr<std::vector<std::string>> List(const std::string& path) override;
  StatusOr<bool> Exists(const std::string& path) override;
  StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override;
  StatusOr<SpaceInfo> Space(const std::string& path) override;

  // Operations that change or sync state so far, also over reboots; the unit in which cuts are
  // placed. An Open or Lock that makes a file is one, reading is none.
  uint64_t operations() const;
  // The power fails in the middle of operation number `operation`, counted from 0, so that
  // CutPowerAt(operations()) is the next one: what it changes is unsynced, a sync has done nothing.
  void CutPowerAt(uint64_t operation);
  void PowerCut();
  bool powered() const;
  // After a cut: what is left is the new synced image; power is back; no handle survives.
  void Reboot();

  // Of all files' sizes together; beyond it writes give kResourceExhausted, after the part that
  // fits. 1 TiB at first.
  void SetCapacity(uint64_t bytes);
  // The file must be there, here and below; the process ends otherwise, as a test has a bug then.
  void FailReads(const std::string& path, uint64_t offset, uint64_t length);  // EIO there.
  void RefuseOpens(const std::string& path, bool refused);                    // kPermissionDenied.
  void FailNextDataSync(const std::string& path);  // Once, and the unsynced writes are dropped.
  void LieOnDataSync(bool lie);                    // Says ok, syncs nothing.
  void FlipBit(const std::string& path,
               uint64_t bit);  // At once on the disk; beyond the end: none.

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace holdfast
