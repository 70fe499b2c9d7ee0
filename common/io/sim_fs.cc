// How SimFs keeps two images at the price of one: an inode holds the image that programs see, and
// an undo log of what was done since the last good DataSync. Syncing is then dropping the log, and
// only Reboot pays, by undoing everything and doing again what the disk is drawn to have kept.
//
// Names work the same way: directories hold what programs see, and a log of unsynced operations,
// each with the entries it found. An operation survives only if the earlier ones on the same names
// do, as in a journal; those on other names come and go independently. A rename is one operation.
#include "common/io/sim_fs.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

constexpr uint64_t kSector = 512;  // What a disk writes whole or not at all.
constexpr uint64_t kNoCut = std::numeric_limits<uint64_t>::max();

// Bytes of a file, in pages that exist only once written to; what was never written is zero.
class Image {
 public:
  uint64_t size() const { return size_; }
  // No byte at or after this was ever written.
  uint64_t written_end() const { return written_end_; }

  void Read(uint64_t offset, MutableBytes out) const {
    ForPages(offset, out.size(), [&](uint64_t page, size_t in_page, size_t done, size_t n) {
      const uint8_t* from = page < pages_.size() ? pages_[page].get() : nullptr;
      if (from != nullptr) {
        std::memcpy(out.data() + done, from + in_page, n);
      } else {
        std::memset(out.data() + done, 0, n);
      }
    });
  }

  // Extends the size where needed.
  void Write(uint64_t offset, Bytes data) {
    if (data.empty()) return;
    uint64_t end = offset + data.size();
    if (pages_.size() <= (end - 1) / kPageSize) pages_.resize((end - 1) / kPageSize + 1);
    ForPages(offset, data.size(), [&](uint64_t page, size_t in_page, size_t done, size_t n) {
      if (!pages_[page]) {
        // Zeroing is needed only where this write leaves part of the page alone.
        pages_[page].reset(new uint8_t[kPageSize]);
        if (n < kPageSize) std::memset(pages_[page].get(), 0, kPageSize);
      }
      std::memcpy(pages_[page].get() + in_page, data.data() + done, n);
    });
    size_ = std::max(size_, end);
    written_end_ = std::max(written_end_, end);
  }

  void Resize(uint64_t size) {
    if (size < written_end_) {
      // What a later extension uncovers is zero.
      pages_.resize((size + kPageSize - 1) / kPageSize);
      size_t kept = size % kPageSize;
      if (kept != 0 && pages_.back()) {
        std::memset(pages_.back().get() + kept, 0, kPageSize - kept);
      }
      written_end_ = size;
    }
    size_ = size;
  }

 private:
  static constexpr size_t kPageSize = 16384;

  template <class Visit>
  static void ForPages(uint64_t offset, size_t size, Visit visit) {
    for (size_t done = 0; done < size;) {
      size_t in_page = (offset + done) % kPageSize;
      size_t n = std::min(kPageSize - in_page, size - done);
      visit((offset + done) / kPageSize, in_page, done, n);
      done += n;
    }
  }

  std::vector<std::unique_ptr<uint8_t[]>> pages_;
  uint64_t size_ = 0;
  uint64_t written_end_ = 0;
};

// One unsynced operation on a file's contents, and how to take it back.
struct FileOp {
  enum class Kind : uint8_t { kWrite, kTruncate, kAllocate } kind;
  uint64_t offset;  // kWrite: where. Else the new size.
  uint64_t length;  // kWrite: how much.
  uint64_t old_size;
  Buffer old_bytes;  // kWrite: what was at offset; kTruncate: what was beyond the new size.
  Buffer new_bytes;  // Only while rebooting: what it wrote.
};

struct BadRange {
  uint64_t offset, length;
};

struct Inode {
  uint64_t number;
  bool directory;
  // A file's.
  Image image;
  std::vector<FileOp> unsynced;
  std::vector<BadRange> bad;
  bool linked = true;
  bool fail_next_sync = false;
  bool refused = false;
  // A directory's.
  std::map<std::string, std::shared_ptr<Inode>> entries;
};
using InodePtr = std::shared_ptr<Inode>;

// One name that an unsynced operation changed.
struct NameChange {
  InodePtr dir;
  std::string name;
  InodePtr before, after;  // Null: no such entry.
};

struct DirOp {
  std::vector<NameChange> changes;  // One, or two for a rename.
};

Status At(const std::string& path, absl::StatusCode code, const char* what) {
  return Status(code, absl::StrCat(path, ": ", what));
}

}  // namespace

struct SimFs::Impl {
  class Handle;
  class LockHandle;

  explicit Impl(uint64_t seed) : rng(seed) {
    root->number = next_inode++;
    root->directory = true;
  }

  // Counts an operation, and says whether the power fails in it.
  bool CutsNow() { return operations++ >= cut_at; }

  Status PowerOff() {
    power = false;
    cut_at = kNoCut;
    return NoPower();
  }
  static Status NoPower() { return absl::UnavailableError("the power is off"); }

  static std::vector<std::string> Split(const std::string& path) {
    std::vector<std::string> parts;
    for (size_t i = 0; i < path.size();) {
      size_t slash = std::min(path.find('/', i), path.size());
      std::string part = path.substr(i, slash - i);
      if (!part.empty() && part != ".") parts.push_back(std::move(part));
      i = slash + 1;
    }
    return parts;
  }

  InodePtr Find(const std::string& path) const {
    InodePtr at = root;
    for (const std::string& part : Split(path)) {
      auto it = at->entries.find(part);
      if (it == at->entries.end()) return nullptr;
      at = it->second;
    }
    return at;
  }

  StatusOr<InodePtr> FindDir(const std::string& path) const {
    InodePtr inode = Find(path);
    if (inode && inode->directory) return inode;
    return At(path, absl::StatusCode::kNotFound, "no such directory");
  }

  // For faults on demand: a test that names no file has a bug.
  InodePtr Require(const std::string& path) const {
    InodePtr inode = Find(path);
    if (!inode || inode->directory) {
      std::fprintf(stderr, "SimFs: no file %s to harm\n", path.c_str());
      std::abort();
    }
    return inode;
  }

  struct Place {
    InodePtr dir;
    std::string name;
    InodePtr inode;  // Null when nothing is there.
  };

  StatusOr<Place> Locate(const std::string& path) const {
    std::vector<std::string> parts = Split(path);
    if (parts.empty()) return At(path, absl::StatusCode::kAlreadyExists, "is the root");
    InodePtr at = root;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      auto it = at->entries.find(parts[i]);
      if (it == at->entries.end()) return At(path, absl::StatusCode::kNotFound, "no such path");
      at = it->second;
    }
    if (!at->directory) return At(path, absl::StatusCode::kNotFound, "no such path");
    auto it = at->entries.find(parts.back());
    return Place{at, parts.back(), it == at->entries.end() ? nullptr : it->second};
  }

  static void SetEntry(Inode& dir, const std::string& name, const InodePtr& inode) {
    if (inode) {
      dir.entries[name] = inode;
    } else {
      dir.entries.erase(name);
    }
  }

  void ChangeNames(std::vector<NameChange> changes) {
    for (const NameChange& c : changes) SetEntry(*c.dir, c.name, c.after);
    dir_ops.push_back({std::move(changes)});
  }

  // The file at `path`, made if it is not there and `create` says so.
  StatusOr<InodePtr> OpenInode(const std::string& path, bool create, bool exclusive) {
    ASSIGN_OR_RETURN(Place place, Locate(path));
    if (place.inode && place.inode->directory) {
      return At(path, absl::StatusCode::kFailedPrecondition, "is a directory");
    }
    if (place.inode && create && exclusive) {
      return At(path, absl::StatusCode::kAlreadyExists, "exists");
    }
    if (place.inode) return place.inode;
    if (!create) return At(path, absl::StatusCode::kNotFound, "no such file");
    bool cut = CutsNow();
    InodePtr made = NewInode(false);
    ChangeNames({{place.dir, place.name, nullptr, made}});
    if (cut) return PowerOff();
    return made;
  }

  static bool Inside(const std::string& path, const std::string& dir) {
    std::vector<std::string> outer = Split(dir), inner = Split(path);
    return inner.size() >= outer.size() && std::equal(outer.begin(), outer.end(), inner.begin());
  }

  // A file whose last name is gone gives its space back.
  void Unlink(Inode& inode) {
    if (!inode.directory && inode.linked) used -= inode.image.size();
    inode.linked = false;
  }

  InodePtr NewInode(bool directory) {
    auto inode = std::make_shared<Inode>();
    inode->number = next_inode++;
    inode->directory = directory;
    return inode;
  }

  void Log(const InodePtr& inode, FileOp op) {
    if (inode->unsynced.empty()) dirty[inode->number] = inode;
    inode->unsynced.push_back(std::move(op));
  }

  void Forget(Inode& inode) {
    inode.unsynced.clear();
    dirty.erase(inode.number);
  }

  // The bytes of [offset, offset + length) that an undo has to bring back: none of those that were
  // never written, since undoing the size makes them zero again.
  static Buffer OldBytes(const Image& image, uint64_t offset, uint64_t length) {
    uint64_t end = std::min(offset + length, image.written_end());
    Buffer old(end > offset ? end - offset : 0);
    image.Read(offset, old);
    return old;
  }

  uint64_t Free() const { return capacity > used ? capacity - used : 0; }

  // Counts a file's size; what an unlinked one holds is not counted.
  void CountGrowth(const Inode& inode, uint64_t new_size) {
    if (inode.linked && new_size > inode.image.size()) used += new_size - inode.image.size();
  }

  void Write(const InodePtr& inode, uint64_t offset, Bytes data) {
    Image& image = inode->image;
    CountGrowth(*inode, offset + data.size());
    Log(inode, {.kind = FileOp::Kind::kWrite,
                .offset = offset,
                .length = data.size(),
                .old_size = image.size(),
                .old_bytes = OldBytes(image, offset, data.size()),
                .new_bytes = {}});
    image.Write(offset, data);
  }

  void Resize(const InodePtr& inode, FileOp::Kind kind, uint64_t size) {
    Image& image = inode->image;
    uint64_t lost = image.size() > size ? image.size() - size : 0;
    Log(inode, {.kind = kind,
                .offset = size,
                .length = 0,
                .old_size = image.size(),
                .old_bytes = OldBytes(image, size, lost),
                .new_bytes = {}});
    if (inode->linked) used = used - image.size() + size;
    image.Resize(size);
  }

  static void Undo(Image& image, FileOp& op) {
    bool write = op.kind == FileOp::Kind::kWrite;
    if (write) {
      op.new_bytes.resize(op.length);
      image.Read(op.offset, op.new_bytes);
      // What lies beyond the old bytes was zero before.
      op.old_bytes.resize(op.length);
    }
    image.Write(op.offset, op.old_bytes);
    image.Resize(op.old_size);
  }

  void UndoAll(Inode& inode) {
    for (auto op = inode.unsynced.rbegin(); op != inode.unsynced.rend(); ++op) {
      Undo(inode.image, *op);
    }
  }

  // What the disk kept of one unsynced operation.
  void RedoSome(Image& image, const FileOp& op) {
    uint64_t fate = rng.Below(3);
    if (fate == 0) return;
    switch (op.kind) {
      case FileOp::Kind::kTruncate:
        image.Resize(op.offset);
        break;
      case FileOp::Kind::kAllocate:
        image.Resize(std::max(image.size(), op.offset));
        break;
      case FileOp::Kind::kWrite:
        if (fate == 1) {
          image.Write(op.offset, op.new_bytes);
        } else {
          Tear(image, op);
        }
        break;
    }
  }

  // Some sectors of a write: the first few, or any; the size may be there without the bytes.
  void Tear(Image& image, const FileOp& op) {
    uint64_t first = op.offset / kSector, last = (op.offset + op.length + kSector - 1) / kSector;
    bool prefix = rng.Below(2) == 0;
    uint64_t kept = rng.Below(last - first + 1);
    for (uint64_t s = first; s < last; ++s) {
      if (prefix ? s - first >= kept : rng.Below(2) == 0) continue;
      uint64_t begin = std::max(s * kSector, op.offset);
      uint64_t end = std::min((s + 1) * kSector, op.offset + op.length);
      image.Write(begin, Bytes(op.new_bytes).subspan(begin - op.offset, end - begin));
    }
    if (rng.Below(2) == 0) image.Resize(std::max(image.size(), op.offset + op.length));
  }

  using Name = std::pair<uint64_t, std::string>;  // Directory and entry.
  static Name NameOf(const NameChange& c) { return {c.dir->number, c.name}; }

  // Makes the operations on `dir` durable, and those that they rest on.
  void CommitNames(const Inode& dir) {
    std::set<Name> committed;
    std::vector<DirOp> left;
    for (auto op = dir_ops.rbegin(); op != dir_ops.rend(); ++op) {
      bool durable = std::any_of(op->changes.begin(), op->changes.end(), [&](auto& c) {
        return c.dir.get() == &dir || committed.count(NameOf(c)) > 0;
      });
      if (durable) {
        for (const NameChange& c : op->changes) committed.insert(NameOf(c));
      } else {
        left.push_back(std::move(*op));
      }
    }
    std::reverse(left.begin(), left.end());
    dir_ops = std::move(left);
  }

  void RebootNames() {
    for (auto op = dir_ops.rbegin(); op != dir_ops.rend(); ++op) {
      for (const NameChange& c : op->changes) SetEntry(*c.dir, c.name, c.before);
    }
    std::set<Name> lost;
    for (const DirOp& op : dir_ops) {
      bool kept = rng.Below(2) == 0;
      for (const NameChange& c : op.changes) kept = kept && lost.count(NameOf(c)) == 0;
      for (const NameChange& c : op.changes) {
        if (kept) {
          SetEntry(*c.dir, c.name, c.after);
        } else {
          lost.insert(NameOf(c));
        }
      }
    }
    dir_ops.clear();
  }

  void RebootFiles() {
    for (auto& [number, inode] : dirty) {
      UndoAll(*inode);
      for (const FileOp& op : inode->unsynced) RedoSome(inode->image, op);
      inode->unsynced.clear();
    }
    dirty.clear();
  }

  // Marks what can be reached, and counts its space.
  void Relink(const InodePtr& inode) {
    inode->linked = true;
    used += inode->image.size();
    for (auto& [name, child] : inode->entries) Relink(child);
  }

  std::mutex mutex;
  SimRng rng;
  bool power = true;
  bool lying = false;
  uint64_t boots = 0;  // A handle of an earlier boot is dead.
  uint64_t operations = 0;
  uint64_t cut_at = kNoCut;
  uint64_t capacity = uint64_t{1} << 40;
  uint64_t used = 0;
  uint64_t next_inode = 0;
  InodePtr root = std::make_shared<Inode>();
  std::map<uint64_t, InodePtr> dirty;  // Files with unsynced contents, in a fixed order.
  std::vector<DirOp> dir_ops;          // Unsynced names, in the order done.
  std::set<const Inode*> locked;
};

class SimFs::Impl::Handle : public File {
 public:
  Handle(std::shared_ptr<Impl> fs, InodePtr inode, std::string path, OpenOptions options)
      : fs_(std::move(fs)),
        inode_(std::move(inode)),
        path_(std::move(path)),
        options_(options),
        boot_(fs_->boots) {}

  StatusOr<size_t> ReadAt(uint64_t offset, MutableBytes out) override {
    std::lock_guard lock(fs_->mutex);
    RETURN_IF_ERROR(Alive());
    RETURN_IF_ERROR(CheckAligned(offset, out));
    const Image& image = inode_->image;
    uint64_t n = offset < image.size() ? std::min<uint64_t>(out.size(), image.size() - offset) : 0;
    for (const BadRange& bad : inode_->bad) {
      if (offset < bad.offset + bad.length && bad.offset < offset + n) {
        return At(path_, absl::StatusCode::kUnavailable, "input/output error (simulated)");
      }
    }
    image.Read(offset, out.first(n));
    return n;
  }

  Status WriteAt(uint64_t offset, Bytes data) override {
    std::lock_guard lock(fs_->mutex);
    RETURN_IF_ERROR(Writable());
    RETURN_IF_ERROR(CheckAligned(offset, data));
    bool cut = fs_->CutsNow();
    // A full disk takes the part that fits, as the system does.
    uint64_t limit = inode_->image.size() + (inode_->linked ? fs_->Free() : kNoCut / 2);
    uint64_t n = offset < limit ? std::min<uint64_t>(data.size(), limit - offset) : 0;
    if (n > 0) fs_->Write(inode_, offset, data.first(n));
    if (cut) return fs_->PowerOff();
    return n == data.size() ? absl::OkStatus() : Full();
  }

  Status DataSync() override {
    std::lock_guard lock(fs_->mutex);
    RETURN_IF_ERROR(Alive());
    if (fs_->CutsNow()) return fs_->PowerOff();
    if (inode_->fail_next_sync) {
      inode_->fail_next_sync = false;
      uint64_t size = inode_->image.size();
      fs_->UndoAll(*inode_);
      fs_->Forget(*inode_);
      if (inode_->linked) fs_->used = fs_->used - size + inode_->image.size();
      return At(path_, absl::StatusCode::kUnavailable, "sync failed (simulated)");
    }
    if (!fs_->lying) fs_->Forget(*inode_);
    return absl::OkStatus();
  }

  Status Truncate(uint64_t size) override { return Resize(FileOp::Kind::kTruncate, size); }

  Status Allocate(uint64_t offset, uint64_t length) override {
    return length == 0 ? absl::OkStatus() : Resize(FileOp::Kind::kAllocate, offset + length);
  }

  StatusOr<uint64_t> Size() override {
    std::lock_guard lock(fs_->mutex);
    RETURN_IF_ERROR(Alive());
    return inode_->image.size();
  }

 private:
  Status Alive() const { return fs_->power && boot_ == fs_->boots ? absl::OkStatus() : NoPower(); }

  Status Writable() const {
    RETURN_IF_ERROR(Alive());
    if (options_.write) return absl::OkStatus();
    return At(path_, absl::StatusCode::kInternal, "opened for reading only");
  }

  Status CheckAligned(uint64_t offset, Bytes data) const {
    uint64_t bits = offset | reinterpret_cast<uintptr_t>(data.data()) | data.size();
    if (!options_.direct || bits % kDirectAlign == 0) return absl::OkStatus();
    return At(path_, absl::StatusCode::kInternal, "misaligned direct I/O");
  }

  Status Full() const {
    return At(path_, absl::StatusCode::kResourceExhausted, "no space left (simulated)");
  }

  Status Resize(FileOp::Kind kind, uint64_t size) {
    std::lock_guard lock(fs_->mutex);
    RETURN_IF_ERROR(Writable());
    bool cut = fs_->CutsNow();
    uint64_t old_size = inode_->image.size();
    if (kind == FileOp::Kind::kAllocate) size = std::max(size, old_size);
    bool fits = !inode_->linked || size <= old_size || size - old_size <= fs_->Free();
    if (fits) fs_->Resize(inode_, kind, size);
    if (cut) return fs_->PowerOff();
    return fits ? absl::OkStatus() : Full();
  }

  const std::shared_ptr<Impl> fs_;
  const InodePtr inode_;
  const std::string path_;
  const OpenOptions options_;
  const uint64_t boot_;
};

class SimFs::Impl::LockHandle : public FileLock {
 public:
  LockHandle(std::shared_ptr<Impl> fs, InodePtr inode)
      : fs_(std::move(fs)), inode_(std::move(inode)), boot_(fs_->boots) {}

  ~LockHandle() override {
    std::lock_guard lock(fs_->mutex);
    // A lock of an earlier boot is gone already; it may be held anew.
    if (boot_ == fs_->boots) fs_->locked.erase(inode_.get());
  }

 private:
  const std::shared_ptr<Impl> fs_;
  const InodePtr inode_;
  const uint64_t boot_;
};

SimFs::SimFs(uint64_t seed) : impl_(std::make_shared<Impl>(seed)) {}

SimFs::~SimFs() = default;

StatusOr<std::unique_ptr<File>> SimFs::Open(const std::string& path, OpenOptions options) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->power) return Impl::NoPower();
  ASSIGN_OR_RETURN(InodePtr inode, impl_->OpenInode(path, options.create, options.exclusive));
  if (inode->refused) return At(path, absl::StatusCode::kPermissionDenied, "may not be opened");
  return std::make_unique<Impl::Handle>(impl_, std::move(inode), path, options);
}

Status SimFs::CreateDir(const std::string& path) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->power) return Impl::NoPower();
  if (InodePtr there = impl_->Find(path); there && there->directory) return absl::OkStatus();
  ASSIGN_OR_RETURN(Impl::Place place, impl_->Locate(path));
  if (place.inode) return At(path, absl::StatusCode::kAlreadyExists, "is a file");
  bool cut = impl_->CutsNow();
  impl_->ChangeNames({{place.dir, place.name, nullptr, impl_->NewInode(true)}});
  return cut ? impl_->PowerOff() : absl::OkStatus();
}

Status SimFs::SyncDir(const std::string& path) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->power) return Impl::NoPower();
  ASSIGN_OR_RETURN(InodePtr dir, impl_->FindDir(path));
  if (impl_->CutsNow()) return impl_->PowerOff();
  impl_->CommitNames(*dir);
  return absl::OkStatus();
}

Status SimFs::Rename(const std::string& from, const std::string& to) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->power) return Impl::NoPower();
  ASSIGN_OR_RETURN(Impl::Place source, impl_->Locate(from));
  ASSIGN_OR_RETURN(Impl::Place target, impl_->Locate(to));
  if (!source.inode) return At(from, absl::StatusCode::kNotFound, "no such path");
  if (source.inode == target.inode) return absl::OkStatus();
  if (source.inode->directory && Impl::Inside(to, from)) {
    return At(from, absl::StatusCode::kUnavailable, "cannot be moved into itself");
  }
  if (target.inode && (target.inode->directory || source.inode->directory)) {
    return At(to, absl::StatusCode::kFailedPrecondition, "a directory is in the way");
  }
  bool cut = impl_->CutsNow();
  if (target.inode) impl_->Unlink(*target.inode);
  impl_->ChangeNames({{source.dir, source.name, source.inode, nullptr},
                      {target.dir, target.name, target.inode, source.inode}});
  return cut ? impl_->PowerOff() : absl::OkStatus();
}

Status SimFs::Remove(const std::string& path) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->power) return Impl::NoPower();
  ASSIGN_OR_RETURN(Impl::Place place, impl_->Locate(path));
  if (!place.inode) return At(path, absl::StatusCode::kNotFound, "no such path");
  if (!place.inode->entries.empty()) {
    return At(path, absl::StatusCode::kFailedPrecondition, "the directory is not empty");
  }
  bool cut = impl_->CutsNow();
  impl_->Unlink(*place.inode);
  impl_->ChangeNames({{place.dir, place.name, place.inode, nullptr}});
  return cut ? impl_->PowerOff() : absl::OkStatus();
}

StatusOr<std::vector<std::string>> SimFs::List(const std::string& path) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->power) return Impl::NoPower();
  ASSIGN_OR_RETURN(InodePtr dir, impl_->FindDir(path));
  std::vector<std::string> names;
  for (const auto& [name, inode] : dir->entries) names.push_back(name);
  return names;
}

StatusOr<bool> SimFs::Exists(const std::string& path) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->power) return Impl::NoPower();
  return impl_->Find(path) != nullptr;
}

StatusOr<std::unique_ptr<FileLock>> SimFs::Lock(const std::string& path) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->power) return Impl::NoPower();
  ASSIGN_OR_RETURN(InodePtr inode, impl_->OpenInode(path, true, false));
  if (!impl_->locked.insert(inode.get()).second) {
    return At(path, absl::StatusCode::kFailedPrecondition, "locked by another process");
  }
  return std::make_unique<Impl::LockHandle>(impl_, std::move(inode));
}

StatusOr<SpaceInfo> SimFs::Space(const std::string& path) {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->power) return Impl::NoPower();
  if (!impl_->Find(path)) return At(path, absl::StatusCode::kNotFound, "no such path");
  return SpaceInfo{.total_bytes = impl_->capacity, .free_bytes = impl_->Free()};
}

uint64_t SimFs::operations() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->operations;
}

void SimFs::CutPowerAt(uint64_t operation) {
  std::lock_guard lock(impl_->mutex);
  impl_->cut_at = operation;
}

void SimFs::PowerCut() {
  std::lock_guard lock(impl_->mutex);
  (void)impl_->PowerOff();
}

bool SimFs::powered() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->power;
}

void SimFs::Reboot() {
  std::lock_guard lock(impl_->mutex);
  impl_->RebootNames();
  impl_->RebootFiles();
  impl_->locked.clear();
  impl_->used = 0;
  impl_->Relink(impl_->root);
  impl_->boots++;
  impl_->cut_at = kNoCut;
  impl_->power = true;
}

void SimFs::SetCapacity(uint64_t bytes) {
  std::lock_guard lock(impl_->mutex);
  impl_->capacity = bytes;
}

void SimFs::FailReads(const std::string& path, uint64_t offset, uint64_t length) {
  std::lock_guard lock(impl_->mutex);
  impl_->Require(path)->bad.push_back({offset, length});
}

void SimFs::RefuseOpens(const std::string& path, bool refused) {
  std::lock_guard lock(impl_->mutex);
  impl_->Require(path)->refused = refused;
}

void SimFs::FailNextDataSync(const std::string& path) {
  std::lock_guard lock(impl_->mutex);
  impl_->Require(path)->fail_next_sync = true;
}

void SimFs::LieOnDataSync(bool lie) {
  std::lock_guard lock(impl_->mutex);
  impl_->lying = lie;
}

void SimFs::FlipBit(const std::string& path, uint64_t bit) {
  std::lock_guard lock(impl_->mutex);
  Image& image = impl_->Require(path)->image;
  if (bit / 8 >= image.size()) return;
  uint8_t byte;
  image.Read(bit / 8, {&byte, 1});
  byte ^= static_cast<uint8_t>(1u << (bit % 8));
  image.Write(bit / 8, {&byte, 1});
}

}  // namespace holdfast
