// Walks POSIX trees with openat and fstatat only, so that paths may be of any length.
//
// Open descriptors: one per level of the walk, one per directory of which entries handed out are
// still alive, and one per open file.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "client/source.h"
#include "common/base/text.h"
#include "common/io/open_files.h"

namespace holdfast {
namespace {

constexpr uint64_t kReadAheadBytes = 1u << 20;  // Files this long are worth telling the kernel.
// Of one request to read ahead, which the kernel cuts to what a disk takes at once.
constexpr uint64_t kWillReadBytes = 256u << 10;

Status ErrnoStatus(const char* what) { return absl::ErrnoToStatus(errno, what); }

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// A directory that entries are opened in; what SourceEntry::parent points to.
struct Directory {
  Fd fd;
};

int64_t Nanos(const timespec& t) { return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

FileStamp StampOf(const struct stat& st) {
  return {static_cast<uint64_t>(st.st_size), Nanos(st.st_mtim), Nanos(st.st_ctim), st.st_ino};
}

bool IsSparse(const struct stat& st) {
  return S_ISREG(st.st_mode) && uint64_t(st.st_blocks) * 512 < uint64_t(st.st_size);
}

// All but the extended attributes.
void SetAttributes(const struct stat& st, Attributes& out) {
  out.mode = st.st_mode & 07777;
  out.uid = st.st_uid;
  out.gid = st.st_gid;
  out.mtime_seconds = st.st_mtim.tv_sec;
  out.mtime_nanos = static_cast<uint32_t>(st.st_mtim.tv_nsec);
  out.sparse = IsSparse(st);
}

// Extended attributes of an open file, or of what a path names when `fd` is negative (never
// through a symbolic link). None where the file system has none.
class XAttrReader {
 public:
  XAttrReader(int fd, const char* path) : fd_(fd), path_(path) {}

  StatusOr<std::vector<XAttr>> Read() const {
    std::vector<XAttr> out;
    std::string names;
    if (!Fetch(names, [&](char* p, size_t n) {
          return fd_ >= 0 ? ::flistxattr(fd_, p, n) : ::llistxattr(path_, p, n);
        })) {
      if (Quiet()) return out;
      return ErrnoStatus("list extended attributes");
    }
    for (size_t at = 0; at < names.size();) {
      const char* name = names.c_str() + at;
      at += std::string_view(name).size() + 1;
      XAttr attribute{name, {}};
      if (Fetch(attribute.value, [&](char* p, size_t n) {
            return fd_ >= 0 ? ::fgetxattr(fd_, name, p, n) : ::lgetxattr(path_, name, p, n);
          })) {
        out.push_back(std::move(attribute));
      } else if (!Quiet()) {
        return ErrnoStatus("read extended attribute");
      }
    }
    std::sort(out.begin(), out.end(),
              [](const XAttr& a, const XAttr& b) { return a.name < b.name; });
    return out;
  }

 private:
  // Calls get(buffer, size) with a buffer that is large enough.
  template <class Get>
  static bool Fetch(std::string& out, const Get& get) {
    char small[1024];
    ssize_t n = get(small, sizeof(small));
    if (n >= 0) {
      out.assign(small, n);
      return true;
    }
    while (errno == ERANGE) {
      if ((n = get(nullptr, 0)) < 0) return false;
      out.resize(n);
      if ((n = get(out.data(), out.size())) >= 0) {
        out.resize(n);
        return true;
      }
    }
    return false;
  }

  static bool Quiet() {
    return errno == ENOTSUP || errno == ENODATA || errno == EPERM || errno == EACCES ||
           errno == ENOSYS || errno == ENOENT;
  }

  int fd_;
  const char* path_;
};

class PosixFile final : public SourceFile {
 public:
  PosixFile(Fd fd, uint64_t size, bool sparse) : fd_(std::move(fd)), size_(size), sparse_(sparse) {}

  StatusOr<size_t> ReadAt(uint64_t offset, MutableBytes out) override {
    size_t done = 0;
    while (done < out.size()) {
      StatusOr<size_t> n = sparse_ ? ReadOrSkip(offset + done, out.subspan(done))
                                   : ReadSome(offset + done, out.subspan(done));
      if (!n.ok()) return n;
      if (*n == 0) break;
      done += *n;
      // A short read of a regular file is its end; asking again would only say so.
      if (!sparse_ && offset + done >= size_ && done < out.size()) break;
    }
    return done;
  }

  StatusOr<FileStamp> Stamp() override {
    struct stat st;
    if (::fstat(fd_.get(), &st) != 0) return ErrnoStatus("stat");
    return StampOf(st);
  }

  bool waited() const override { return waited_; }

  bool WillRead(uint64_t offset, uint64_t length) override {
    if (sparse_ || offset >= size_) return false;
    const uint64_t end = offset + std::min(length, size_ - offset);
    for (uint64_t at = offset; at < end; at += kWillReadBytes) {
      ::posix_fadvise(fd_.get(), at, std::min(kWillReadBytes, end - at), POSIX_FADV_WILLNEED);
    }
    uint8_t first;
    return ReadNow(offset, {&first, 1}) <= 0;
  }

 private:
  // What is in memory. An error when nothing is, or the file system cannot tell; Linux 5.9 and 5.10
  // then give 0.
  ssize_t ReadNow(uint64_t offset, MutableBytes out) const {
    const iovec to{out.data(), out.size()};
    return ::preadv2(fd_.get(), &to, 1, offset, RWF_NOWAIT);
  }

  StatusOr<size_t> ReadSome(uint64_t offset, MutableBytes out) {
    if (!waited_) {
      const ssize_t n = ReadNow(offset, out);
      waited_ = n < 0 || (size_t(n) < out.size() && offset + n < size_);
      if (n > 0) return static_cast<size_t>(n);
    }
    for (;;) {
      const ssize_t n = ::pread(fd_.get(), out.data(), out.size(), offset);
      if (n >= 0) return static_cast<size_t>(n);
      if (errno != EINTR) return ErrnoStatus("read");
    }
  }

  // Zeros for a hole, without reading it; else data up to the next hole.
  StatusOr<size_t> ReadOrSkip(uint64_t offset, MutableBytes out) {
    if (offset >= size_) return ReadSome(offset, out);
    if (offset < data_begin_ || offset >= data_end_) {
      const off_t data = ::lseek(fd_.get(), offset, SEEK_DATA);
      if (data < 0 && errno != ENXIO) {  // The file system cannot tell.
        sparse_ = false;
        return ReadSome(offset, out);
      }
      data_begin_ = data < 0 ? size_ : data;
      const off_t hole = data < 0 ? -1 : ::lseek(fd_.get(), data, SEEK_HOLE);
      data_end_ = hole < 0 ? size_ : hole;
    }
    if (offset >= data_begin_) {
      return ReadSome(offset, out.first(std::min<uint64_t>(out.size(), data_end_ - offset)));
    }
    const size_t n = std::min<uint64_t>(out.size(), std::min(data_begin_, size_) - offset);
    std::fill_n(out.begin(), n, 0);
    return n;
  }

  Fd fd_;
  uint64_t size_;
  bool sparse_;
  bool waited_ = false;
  uint64_t data_begin_ = 0, data_end_ = 0;  // The last extent of data found.
};

// Names of a directory, packed: a directory may hold millions.
class NameList {
 public:
  // What could be read is kept also when it ends in an error.
  Status Read(int fd) {
    DIR* dir = ::fdopendir(fd);  // Takes fd over.
    if (dir == nullptr) {
      ::close(fd);
      return ErrnoStatus("open directory");
    }
    Status status;
    for (;;) {
      errno = 0;
      const dirent* e = ::readdir(dir);
      if (e == nullptr) {
        if (errno != 0) status = ErrnoStatus("read directory");
        break;
      }
      const std::string_view name = e->d_name;
      if (name == "." || name == "..") continue;
      begins_.push_back(bytes_.size());
      bytes_.append(name.data(), name.size() + 1);  // With its NUL.
    }
    ::closedir(dir);
    std::sort(begins_.begin(), begins_.end(), [this](uint64_t a, uint64_t b) {
      return std::string_view(&bytes_[a]) < std::string_view(&bytes_[b]);
    });
    return status;
  }
  bool done() const { return next_ == begins_.size(); }
  const char* Next() { return &bytes_[begins_[next_++]]; }

 private:
  std::string bytes_;
  std::vector<uint64_t> begins_;
  size_t next_ = 0;
};

// A path given by the user, taken apart.
struct Root {
  std::shared_ptr<Directory> directory;  // Where it lies …
  std::string name;                      // … under which name there (may be a path) …
  std::string stored_name;               // … and in the collection; empty: only what it holds.
  bool follow = false;
  Status error;  // Why it cannot be looked at.
};

class PosixSource final : public Source {
 public:
  explicit PosixSource(std::vector<Root> roots) : roots_(std::move(roots)) {}

  std::optional<SourceEntry> Next() override {
    while (!levels_.empty() || next_root_ < roots_.size()) {
      if (!levels_.empty() && levels_.back().names.done()) {
        levels_.pop_back();
        continue;
      }
      std::optional<SourceEntry> entry = levels_.empty() ? VisitRoot() : VisitNext();
      if (entry) return entry;
    }
    return std::nullopt;
  }

  StatusOr<std::unique_ptr<SourceFile>> Open(SourceEntry& entry) override {
    Fd fd(OpenFile(entry));
    if (!fd.ok()) return ErrnoStatus("open");
    struct stat st;
    if (::fstat(fd.get(), &st) != 0) return ErrnoStatus("stat");
    if (!S_ISREG(st.st_mode)) return absl::AbortedError("is no longer a regular file");
    entry.stamp = StampOf(st);
    SetAttributes(st, entry.attributes);
    return Opened(std::move(fd), entry);
  }

  StatusOr<std::unique_ptr<SourceFile>> OpenAsListed(SourceEntry& entry) override {
    Fd fd(OpenFile(entry));
    if (!fd.ok()) return ErrnoStatus("open");
    return Opened(std::move(fd), entry);
  }

 private:
  struct Level {
    std::shared_ptr<Directory> directory;
    NameList names;
    size_t path_length = 0;  // Of this directory's name in path_.
  };
  struct Link {
    std::string first_name;
    uint64_t left = 0;  // Names not seen yet.
  };

  static StatusOr<std::unique_ptr<SourceFile>> Opened(Fd fd, SourceEntry& entry) {
    ASSIGN_OR_RETURN(entry.attributes.xattrs, XAttrReader(fd.get(), nullptr).Read());
    const uint64_t size = entry.stamp.size;
    if (size >= kReadAheadBytes) ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
    return std::make_unique<PosixFile>(std::move(fd), size, entry.attributes.sparse);
  }

  // Access times of evidence are left alone where the kernel lets us.
  int OpenFile(const SourceEntry& entry) {
    const auto& directory = *static_cast<const Directory*>(entry.parent.get());
    // The basename of an entry is the last component of its name.
    const char* name = entry.name.c_str() + entry.name.rfind('/') + 1;
    constexpr int kFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    if (no_atime_.load(std::memory_order_relaxed)) {
      const int fd = ::openat(directory.fd.get(), name, kFlags | O_NOATIME);
      if (fd >= 0 || errno != EPERM) return fd;
      no_atime_ = false;
    }
    return ::openat(directory.fd.get(), name, kFlags);
  }

  std::optional<SourceEntry> VisitRoot() {
    const Root& root = roots_[next_root_++];
    path_ = root.stored_name;
    if (!root.error.ok()) {
      SourceEntry entry;
      entry.name = path_;
      entry.error = root.error;
      return entry;
    }
    return Visit(root.directory, root.name.c_str(), root.follow);
  }

  std::optional<SourceEntry> VisitNext() {
    Level& top = levels_.back();
    const char* name = top.names.Next();
    path_.resize(top.path_length);
    if (!path_.empty()) path_ += '/';
    path_ += name;
    return Visit(top.directory, name, /*follow=*/false);
  }

  // The entry path_ names; nothing for a root that only gives what it holds.
  std::optional<SourceEntry> Visit(const std::shared_ptr<Directory>& directory, const char* name,
                                   bool follow) {
    SourceEntry entry;
    entry.name = path_;
    struct stat st;
    if (::fstatat(directory->fd.get(), name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0) {
      entry.error = ErrnoStatus("stat");
      return entry;
    }
    entry.stamp = StampOf(st);
    SetAttributes(st, entry.attributes);
    if (S_ISDIR(st.st_mode)) {
      Descend(directory, name, follow, entry);
      if (entry.name.empty()) {
        if (entry.error.ok()) return std::nullopt;
        entry.name = ".";
      }
    } else if (S_ISLNK(st.st_mode)) {
      ReadLink(*directory, name, st, entry);
    } else if (S_ISREG(st.st_mode)) {
      if (st.st_nlink > 1) SetHardLink(st, entry);
      entry.parent = directory;
    } else {
      entry.special = true;
    }
    return entry;
  }

  // Opens the directory, for the entries after this one. Of one that can be read only in part, the
  // entry says so, and what was read is walked.
  void Descend(const std::shared_ptr<Directory>& parent, const char* name, bool follow,
               SourceEntry& entry) {
    entry.type = ObjectType::kDirectory;
    Fd fd(::openat(parent->fd.get(), name,
                   O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW)));
    const int listing = fd.ok() ? ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0) : -1;
    if (listing < 0) {
      entry.error = ErrnoStatus("open directory");
      return;
    }
    Level level;
    const Status listed = level.names.Read(listing);
    StatusOr<std::vector<XAttr>> xattrs = XAttrReader(fd.get(), nullptr).Read();
    entry.error = listed.ok() ? xattrs.status() : listed;
    if (xattrs.ok()) entry.attributes.xattrs = *std::move(xattrs);
    level.directory = std::make_shared<Directory>(Directory{std::move(fd)});
    level.path_length = path_.size();
    levels_.push_back(std::move(level));
  }

  static void ReadLink(const Directory& directory, const char* name, const struct stat& st,
                       SourceEntry& entry) {
    entry.type = ObjectType::kSymlink;
    entry.link.resize(st.st_size > 0 ? st.st_size + 1 : 4096);
    for (;;) {
      const ssize_t n =
          ::readlinkat(directory.fd.get(), name, entry.link.data(), entry.link.size());
      if (n < 0) {
        entry.error = ErrnoStatus("read link");
        return;
      }
      if (size_t(n) < entry.link.size()) {
        entry.link.resize(n);
        break;
      }
      entry.link.resize(entry.link.size() * 2);
    }
    const std::string path = "/proc/self/fd/" + std::to_string(directory.fd.get()) + "/" + name;
    StatusOr<std::vector<XAttr>> xattrs = XAttrReader(-1, path.c_str()).Read();
    if (xattrs.ok()) entry.attributes.xattrs = *std::move(xattrs);
  }

  void SetHardLink(const struct stat& st, SourceEntry& entry) {
    const std::pair<uint64_t, uint64_t> inode(st.st_dev, st.st_ino);
    auto [it, first] = links_.try_emplace(inode);
    if (first) {
      it->second = {entry.name, uint64_t(st.st_nlink) - 1};
      return;
    }
    entry.type = ObjectType::kHardLink;
    entry.link = it->second.first_name;
    if (--it->second.left == 0) links_.erase(it);
  }

  std::vector<Root> roots_;
  size_t next_root_ = 0;
  std::vector<Level> levels_;
  std::string path_;
  absl::flat_hash_map<std::pair<uint64_t, uint64_t>, Link> links_;
  std::atomic<bool> no_atime_{true};
};

StatusOr<Root> MakeRoot(const std::string& path) {
  if (path.empty()) return absl::InvalidArgumentError("a path to ingest is empty");
  Root root;
  std::string_view rest = path;
  while (rest.size() > 1 && rest.back() == '/') rest.remove_suffix(1);
  root.follow = rest.size() != path.size() || rest == "/";
  const size_t slash = rest.rfind('/');
  const std::string_view last = slash == rest.npos ? rest : rest.substr(slash + 1);
  const bool only_contents = last.empty() || last == "." || last == "..";
  if (only_contents) root.follow = true;
  std::string parent = ".";
  if (only_contents) {
    root.name = path;
  } else {
    root.stored_name = std::string(last);
    // The trailing slash stays with the name, so that a link is followed only to a directory.
    root.name = root.follow ? std::string(last) + "/" : std::string(last);
    if (slash != rest.npos) parent = slash == 0 ? "/" : std::string(rest.substr(0, slash));
  }
  Fd fd(::open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct stat st;
  if (!fd.ok() ||
      ::fstatat(fd.get(), root.name.c_str(), &st, root.follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0) {
    root.error = ErrnoStatus("stat");
    root.stored_name = path;
  }
  root.directory = std::make_shared<Directory>(Directory{std::move(fd)});
  return root;
}

// Two trees under one name. What roots without a name hold is not looked into: of those one is
// enough.
bool Clash(const Root& a, const Root& b) {
  return a.stored_name == b.stored_name || a.stored_name.empty() || b.stored_name.empty();
}

}  // namespace

StatusOr<std::unique_ptr<Source>> OpenPosixSource(const std::vector<std::string>& paths) {
  RaiseOpenFileLimit();
  std::vector<Root> roots;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(Root root, MakeRoot(path));
    roots.push_back(std::move(root));
  }
  for (size_t i = 0; i < roots.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (!Clash(roots[i], roots[k])) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          Printable(paths[k]), " and ", Printable(paths[i]),
          " may give their files the same names: ingest them one by one, into collections or "
          "under directories of their own"));
    }
  }
  return std::make_unique<PosixSource>(std::move(roots));
}

}  // namespace holdfast
