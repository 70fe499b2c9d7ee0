#include "client/tree_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/lru_cache.h"
#include "common/base/text.h"

namespace holdfast {
namespace {

constexpr size_t kOpenDirectories = 128;
constexpr size_t kSparseBlock = 4096;
constexpr int kTemporaryTries = 100;
constexpr size_t kBlock = 4096;
constexpr size_t kDirectBytes = 64u << 10;  // Less does not pay a wait for the disk.

absl::StatusCode CodeOf(int error) {
  switch (error) {
    case EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case ENOSPC:
    case EDQUOT:
      return absl::StatusCode::kResourceExhausted;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case ENOTDIR:
    case ELOOP:
    case EISDIR:
    case ENOENT:
      return absl::StatusCode::kFailedPrecondition;
    case ENAMETOOLONG:
    case EINVAL:
      return absl::StatusCode::kInvalidArgument;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

std::string TextOf(int error) {
  char text[128];
  return strerror_r(error, text, sizeof text);
}

// Of errno.
Status ErrnoStatus(std::string_view what) {
  const int error = errno;
  return Status(CodeOf(error), absl::StrCat(std::string(what), ": ", TextOf(error)));
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_;
};
using SharedFd = std::shared_ptr<const Fd>;

Status WriteAll(int fd, Bytes bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("writing it");
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

bool SetDirect(int fd, bool on) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

// Whole blocks, past the page cache where the file system has it so.
Status WriteBlocks(int fd, Bytes bytes, uint64_t offset) {
  if (!SetDirect(fd, true)) return WriteAll(fd, bytes, offset);
  const ssize_t n = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
  const bool failed = n < 0 && errno != EINTR && errno != EINVAL && errno != EOPNOTSUPP;
  if (failed) return ErrnoStatus("writing it");
  if (!SetDirect(fd, false)) return ErrnoStatus("writing it");
  const size_t done = n < 0 ? 0 : static_cast<size_t>(n);
  return WriteAll(fd, bytes.subspan(done), offset + done);
}

// The page cache would have to copy everything into pages, of which those not used lately cost more
// than the disk does; but it takes what is no whole block, and whatever lies in memory otherwise
// than it will in the file.
Status WriteContent(int fd, Bytes bytes, uint64_t offset) {
  const size_t head = (kBlock - offset % kBlock) % kBlock;
  const bool direct = bytes.size() >= head + kDirectBytes &&
                      (reinterpret_cast<uintptr_t>(bytes.data()) + head) % kBlock == 0;
  if (!direct) return WriteAll(fd, bytes, offset);
  const size_t middle = (bytes.size() - head) / kBlock * kBlock;
  RETURN_IF_ERROR(WriteAll(fd, bytes.first(head), offset));
  RETURN_IF_ERROR(WriteBlocks(fd, bytes.subspan(head, middle), offset + head));
  return WriteAll(fd, bytes.subspan(head + middle), offset + head + middle);
}

bool AllZero(Bytes block) {
  return block.empty() ||
         (block[0] == 0 && memcmp(block.data(), block.data() + 1, block.size() - 1) == 0);
}

// Writes what lies at `offset`, but for aligned blocks of zeros; the caller sets the size.
Status WriteSparse(int fd, Bytes bytes, uint64_t offset) {
  size_t begin = 0;  // Of the run of blocks to be written that ends at `at`.
  size_t at = 0;
  while (at < bytes.size()) {
    const size_t to_boundary = kSparseBlock - (offset + at) % kSparseBlock;
    const size_t n = std::min(to_boundary, bytes.size() - at);
    if (AllZero(bytes.subspan(at, n))) {
      RETURN_IF_ERROR(WriteAll(fd, bytes.subspan(begin, at - begin), offset + begin));
      begin = at + n;
    }
    at += n;
  }
  return WriteAll(fd, bytes.subspan(begin), offset + begin);
}

timespec Mtime(const Attributes& attributes) {
  return {.tv_sec = attributes.mtime_seconds, .tv_nsec = attributes.mtime_nanos};
}

Status InTheWay() {
  return absl::AlreadyExistsError(
      "is there already, and is something else (size or time differ): remove it, or restore "
      "elsewhere");
}

// Whether the error says that the file system or the system does not take this attribute, and
// nothing about the file. No space: for the attribute; what the content needs was written before.
bool IsRefusal(int error, const std::string& name) {
  switch (error) {
    case ENOTSUP:
    case ENOSPC:
    case EDQUOT:
    case E2BIG:
    case ERANGE:
    case EINVAL:
      return true;
    case EPERM:
    case EACCES:
      // Not even root may set them without CAP_SYS_ADMIN, or against the security module.
      return name.starts_with("security.") || name.starts_with("trusted.");
    default:
      return false;
  }
}

}  // namespace

// Open directories by name, some of them kept. Thread-safe.
class TreeWriter::Directories {
 public:
  explicit Directories(int root) : root_(std::make_shared<const Fd>(root)) {}

  // "" is the root. Missing directories are made.
  StatusOr<SharedFd> Get(const std::string& name) {
    // The nearest directory that is open: most often this one or the one above.
    size_t known = name.size();
    SharedFd fd;
    {
      std::lock_guard lock(mutex_);
      for (; known != 0; known = Parent(name, known)) {
        if (SharedFd* found = open_.Find(name.substr(0, known))) {
          fd = *found;
          break;
        }
      }
    }
    if (known == 0) fd = root_;
    if (known == name.size()) return fd;
    while (known < name.size()) {
      const size_t begin = known == 0 ? 0 : known + 1;
      known = std::min(name.find('/', begin), name.size());
      ASSIGN_OR_RETURN(fd, Enter(*fd, name.substr(begin, known - begin)));
    }
    std::lock_guard lock(mutex_);
    open_.Insert(name, fd);
    return fd;
  }

 private:
  static size_t Parent(const std::string& name, size_t length) {
    const size_t slash = name.rfind('/', length - 1);
    return slash == std::string::npos ? 0 : slash;
  }

  static StatusOr<SharedFd> Enter(const Fd& parent, const std::string& component) {
    constexpr int kFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(parent.get(), component.c_str(), kFlags);
    if (fd < 0 && errno == ENOENT) {
      if (mkdirat(parent.get(), component.c_str(), 0777) != 0 && errno != EEXIST) {
        return ErrnoStatus(absl::StrCat("making directory ", Printable(component)));
      }
      fd = openat(parent.get(), component.c_str(), kFlags);
    }
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) {
      return absl::FailedPreconditionError(absl::StrCat(
          Printable(component), " is in the way: no directory (links are not followed)"));
    }
    if (fd < 0) return ErrnoStatus(absl::StrCat("entering ", Printable(component)));
    return std::make_shared<const Fd>(fd);
  }

  const SharedFd root_;
  std::mutex mutex_;
  LruCache<std::string, SharedFd> open_{kOpenDirectories};
};

// Where a name goes: an open directory and the last component.
struct TreeWriter::Place {
  SharedFd directory;
  std::string base;
  int fd() const { return directory->get(); }
};

StatusOr<std::unique_ptr<TreeWriter>> TreeWriter::Open(const std::string& directory) {
  for (size_t slash = directory.find('/', 1); !directory.empty();
       slash = directory.find('/', slash + 1)) {
    const std::string above = directory.substr(0, slash);
    if (mkdir(above.c_str(), 0777) != 0 && errno != EEXIST) {
      return ErrnoStatus(absl::StrCat("making directory ", Printable(above)));
    }
    if (slash == std::string::npos) break;
  }
  const int fd = open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(Printable(directory));
  return std::unique_ptr<TreeWriter>(new TreeWriter(fd));
}

TreeWriter::TreeWriter(int root)
    : is_root_(geteuid() == 0), directories_(std::make_unique<Directories>(root)) {}
TreeWriter::~TreeWriter() = default;

StatusOr<TreeWriter::Place> TreeWriter::Find(const std::string& name) {
  if (name.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("a name with a NUL byte is refused");
  }
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view component = std::string_view(name).substr(begin, end - begin);
    if (component.empty() || component == "." || component == "..") {
      return absl::InvalidArgumentError(
          absl::StrCat("a name with the component \"", std::string(component), "\" is refused"));
    }
    begin = end + 1;
  }
  const size_t slash = name.rfind('/');
  const bool top = slash == std::string::npos;
  ASSIGN_OR_RETURN(SharedFd directory, directories_->Get(top ? "" : name.substr(0, slash)));
  return Place{std::move(directory), top ? name : name.substr(slash + 1)};
}

Status TreeWriter::MakeDirectory(const std::string& name) {
  RETURN_IF_ERROR(Find(name).status());
  return directories_->Get(name).status();
}

Status TreeWriter::SetDirectoryAttributes(const std::string& name, const Attributes& attributes) {
  ASSIGN_OR_RETURN(const Place place, Find(name));
  const Fd fd(
      openat(place.fd(), place.base.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.ok()) return ErrnoStatus("opening it");
  return SetAttributes(fd.get(), name, attributes);
}

// The mode after the owner, which clears set-id bits; the time last.
Status TreeWriter::SetAttributes(int fd, const std::string& name, const Attributes& attributes) {
  if (is_root_ && fchown(fd, attributes.uid, attributes.gid) != 0) {
    return ErrnoStatus("setting its owner");
  }
  RETURN_IF_ERROR(SetXattrs(name, attributes, [&](const XAttr& xattr) {
    return fsetxattr(fd, xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0);
  }));
  // Set-id bits are for the owner they came with.
  const uint32_t bits = is_root_ || attributes.uid == geteuid() ? 07777 : 01777;
  if (fchmod(fd, attributes.mode & bits) != 0) return ErrnoStatus("setting its mode");
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, Mtime(attributes)};
  if (futimens(fd, times) != 0) return ErrnoStatus("setting its time");
  return absl::OkStatus();
}

Status TreeWriter::SetXattrs(const std::string& name, const Attributes& attributes,
                             const std::function<int(const XAttr&)>& set_one) {
  std::vector<std::string> skipped;
  for (const XAttr& xattr : attributes.xattrs) {
    if (set_one(xattr) == 0) continue;
    if (!IsRefusal(errno, xattr.name)) {
      return ErrnoStatus(absl::StrCat("setting its attribute ", Printable(xattr.name)));
    }
    const std::string why = TextOf(errno);
    skipped.push_back(absl::StrCat(Printable(xattr.name), " (", why, ")"));
  }
  if (skipped.empty()) return absl::OkStatus();
  xattrs_skipped_ += skipped.size();
  if (skipped_) skipped_(name, absl::StrJoin(skipped, ", "));
  return absl::OkStatus();
}

// A link cannot be opened; its directory is named through /proc.
Status TreeWriter::SetSymlinkXattrs(const Place& place, const std::string& name,
                                    const Attributes& attributes) {
  if (attributes.xattrs.empty()) return absl::OkStatus();
  const std::string path = absl::StrCat("/proc/self/fd/", place.fd(), "/", place.base);
  return SetXattrs(name, attributes, [&](const XAttr& xattr) {
    return lsetxattr(path.c_str(), xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0);
  });
}

bool TreeWriter::IsThere(const Place& place, uint64_t size, const Attributes& attributes) {
  struct stat there;
  if (fstatat(place.fd(), place.base.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) return false;
  const timespec wanted = Mtime(attributes);
  const bool same = S_ISREG(there.st_mode) && static_cast<uint64_t>(there.st_size) == size &&
                    there.st_mtim.tv_sec == wanted.tv_sec &&
                    there.st_mtim.tv_nsec == wanted.tv_nsec;
  already_there_ += same;
  return same;
}

bool TreeWriter::IsLinkThere(const Place& place, const std::string& target) {
  std::string there(target.size() + 1, '\0');
  const ssize_t n = readlinkat(place.fd(), place.base.c_str(), there.data(), there.size());
  const bool same = n >= 0 && std::string_view(there.data(), static_cast<size_t>(n)) == target;
  already_there_ += same;
  return same;
}

// A file that gets its name when it is whole. Until then it has none, or, where the file system
// cannot do that, one that is not used otherwise.
class TreeWriter::NewFile {
 public:
  NewFile(TreeWriter& writer, Place place) : writer_(writer), place_(std::move(place)) {}
  ~NewFile() {
    if (!temporary_.empty()) unlinkat(place_.fd(), temporary_.c_str(), 0);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  Status Open() {
    fd_.emplace(openat(place_.fd(), ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
    if (fd_->ok()) return absl::OkStatus();
    for (int i = 0; i < kTemporaryTries; ++i) {
      uint64_t random = 0;
      if (getrandom(&random, sizeof random, 0) != sizeof random) break;
      temporary_ = absl::StrCat(".holdfast-restore-", absl::Hex(random, absl::kZeroPad16));
      fd_.emplace(openat(place_.fd(), temporary_.c_str(),
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
      if (fd_->ok()) return absl::OkStatus();
      if (errno != EEXIST) break;
    }
    temporary_.clear();
    return ErrnoStatus("creating it");
  }

  Status Write(Bytes bytes, bool sparse) {
    RETURN_IF_ERROR(sparse ? WriteSparse(fd_->get(), bytes, size_)
                           : WriteContent(fd_->get(), bytes, size_));
    size_ += bytes.size();
    return absl::OkStatus();
  }

  Status Finish(const std::string& name, const Attributes& attributes) {
    if (attributes.sparse && ftruncate(fd_->get(), static_cast<off_t>(size_)) != 0) {
      return ErrnoStatus("setting its size");
    }
    RETURN_IF_ERROR(writer_.SetAttributes(fd_->get(), name, attributes));
    const char* to = place_.base.c_str();
    const std::string open_file = absl::StrCat("/proc/self/fd/", fd_->get());
    const int named = temporary_.empty()
                          ? linkat(AT_FDCWD, open_file.c_str(), place_.fd(), to, AT_SYMLINK_FOLLOW)
                          : linkat(place_.fd(), temporary_.c_str(), place_.fd(), to, 0);
    if (named == 0) return absl::OkStatus();
    if (errno == EEXIST) return InTheWay();
    // A file system without hard links.
    if (temporary_.empty() || (errno != EPERM && errno != EOPNOTSUPP) ||
        renameat2(place_.fd(), temporary_.c_str(), place_.fd(), to, RENAME_NOREPLACE) != 0) {
      return ErrnoStatus("naming it");
    }
    temporary_.clear();
    return absl::OkStatus();
  }

 private:
  TreeWriter& writer_;
  const Place place_;
  std::string temporary_;
  std::optional<Fd> fd_;
  uint64_t size_ = 0;
};

Status TreeWriter::WriteFile(const std::string& name, Bytes content, const Attributes& attributes) {
  ASSIGN_OR_RETURN(std::unique_ptr<Sink> sink, CreateFile(name, content.size(), attributes));
  RETURN_IF_ERROR(sink->Append(content));
  return sink->Commit();
}

// For a file that is there.
class TreeWriter::NoSink : public Sink {
 public:
  Status Append(Bytes) override { return absl::OkStatus(); }
  Status Commit() override { return absl::OkStatus(); }
};

class TreeWriter::FileSink : public Sink {
 public:
  FileSink(TreeWriter& writer, std::string name, Place place, const Attributes& attributes)
      : name_(std::move(name)), file_(writer, std::move(place)), attributes_(attributes) {}
  Status Open() { return file_.Open(); }
  Status Append(Bytes bytes) override { return file_.Write(bytes, attributes_.sparse); }
  Status Commit() override { return file_.Finish(name_, attributes_); }

 private:
  const std::string name_;
  NewFile file_;
  const Attributes& attributes_;
};

StatusOr<std::unique_ptr<TreeWriter::Sink>> TreeWriter::CreateFile(const std::string& name,
                                                                   uint64_t size,
                                                                   const Attributes& attributes) {
  ASSIGN_OR_RETURN(Place place, Find(name));
  struct stat there;
  if (fstatat(place.fd(), place.base.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0) {
    if (IsThere(place, size, attributes)) return std::make_unique<NoSink>();
    return InTheWay();
  }
  auto sink = std::make_unique<FileSink>(*this, name, std::move(place), attributes);
  RETURN_IF_ERROR(sink->Open());
  return sink;
}

Status TreeWriter::MakeSymlink(const std::string& name, const std::string& target,
                               const Attributes& attributes) {
  ASSIGN_OR_RETURN(const Place place, Find(name));
  const char* base = place.base.c_str();
  if (symlinkat(target.c_str(), place.fd(), base) != 0) {
    if (errno != EEXIST) return ErrnoStatus("making the link");
    return IsLinkThere(place, target) ? absl::OkStatus() : InTheWay();
  }
  Status status = SetSymlinkXattrs(place, name, attributes);
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, Mtime(attributes)};
  if (status.ok() && is_root_ &&
      fchownat(place.fd(), base, attributes.uid, attributes.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    status = ErrnoStatus("setting its owner");
  } else if (status.ok() && utimensat(place.fd(), base, times, AT_SYMLINK_NOFOLLOW) != 0) {
    status = ErrnoStatus("setting its time");
  }
  if (!status.ok()) unlinkat(place.fd(), base, 0);
  return status;
}

Status TreeWriter::MakeHardLink(const std::string& name, const std::string& first) {
  ASSIGN_OR_RETURN(const Place from, Find(first));
  ASSIGN_OR_RETURN(const Place to, Find(name));
  if (linkat(from.fd(), from.base.c_str(), to.fd(), to.base.c_str(), 0) == 0) {
    return absl::OkStatus();
  }
  if (errno != EEXIST) return ErrnoStatus("making the hard link");
  struct stat one, other;
  if (fstatat(from.fd(), from.base.c_str(), &one, AT_SYMLINK_NOFOLLOW) != 0 ||
      fstatat(to.fd(), to.base.c_str(), &other, AT_SYMLINK_NOFOLLOW) != 0 ||
      one.st_dev != other.st_dev || one.st_ino != other.st_ino) {
    return InTheWay();
  }
  ++already_there_;
  return absl::OkStatus();
}

}  // namespace holdfast
