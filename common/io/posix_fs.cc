// The production Fs. Every system call that a signal may interrupt is repeated, except fdatasync
// and fsync: what an interrupted sync has reported and forgotten, nobody knows.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/io/fs.h"

namespace holdfast {
namespace {

absl::StatusCode CodeOf(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::StatusCode::kNotFound;
    case EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::StatusCode::kResourceExhausted;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case EISDIR:
    case ENOTEMPTY:
    case EWOULDBLOCK:
      return absl::StatusCode::kFailedPrecondition;
    case EBADF:  // Writing through a read-only handle: a bug of the caller.
      return absl::StatusCode::kInternal;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

Status ErrorAt(const std::string& path, int error) {
  char text[128];
  return Status(CodeOf(error), absl::StrCat(path, ": ", strerror_r(error, text, sizeof text)));
}

// Repeats `call` while a signal interrupts it.
template <class Call>
auto Retry(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  int get() const { return fd_; }

 private:
  int fd_;
};

bool Aligned(uint64_t offset, const void* data, size_t size) {
  return (offset | reinterpret_cast<uintptr_t>(data) | size) % kDirectAlign == 0;
}

class PosixFile : public File {
 public:
  PosixFile(Fd fd, std::string path, bool direct)
      : fd_(std::move(fd)), path_(std::move(path)), direct_(direct) {}

  StatusOr<size_t> ReadAt(uint64_t offset, MutableBytes out) override {
    if (direct_ && !Aligned(offset, out.data(), out.size())) return Misaligned();
    size_t done = 0;
    while (done < out.size()) {
      ssize_t n = Retry([&] {
        return pread(fd_.get(), out.data() + done, out.size() - done,
                     static_cast<off_t>(offset + done));
      });
      if (n < 0) return ErrorAt(path_, errno);
      done += static_cast<size_t>(n);
      // A direct read that ends off a block has met the end of the file; asking for the rest would
      // be misaligned.
      if (n == 0 || (direct_ && done % kDirectAlign != 0)) break;
    }
    return done;
  }

  Status WriteAt(uint64_t offset, Bytes data) override {
    if (direct_ && !Aligned(offset, data.data(), data.size())) return Misaligned();
    for (size_t done = 0; done < data.size();) {
      ssize_t n = Retry([&] {
        return pwrite(fd_.get(), data.data() + done, data.size() - done,
                      static_cast<off_t>(offset + done));
      });
      if (n < 0) return ErrorAt(path_, errno);
      done += static_cast<size_t>(n);
      if (n == 0 || (direct_ && done % kDirectAlign != 0 && done < data.size())) {
        // Part of it was written, and the rest cannot be asked for: a full disk does that.
        return ErrorAt(path_, ENOSPC);
      }
    }
    return absl::OkStatus();
  }

  Status DataSync() override {
    return fdatasync(fd_.get()) == 0 ? absl::OkStatus() : ErrorAt(path_, errno);
  }

  Status Truncate(uint64_t size) override {
    int r = Retry([&] { return ftruncate(fd_.get(), static_cast<off_t>(size)); });
    return r == 0 ? absl::OkStatus() : ErrorAt(path_, errno);
  }

  Status Allocate(uint64_t offset, uint64_t length) override {
    if (length == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(uint64_t size, Size());
    int r = Retry([&] {
      return fallocate(fd_.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(length));
    });
    if (r == 0) return absl::OkStatus();
    if (errno != EOPNOTSUPP) {
      Status status = ErrorAt(path_, errno);
      // On a full disk, the blocks that it did get stay with the file.
      (void)Truncate(size);
      return status;
    }
    // The file system cannot reserve; it can at least extend.
    return size < offset + length ? Truncate(offset + length) : absl::OkStatus();
  }

  StatusOr<uint64_t> Size() override {
    struct stat info;
    if (fstat(fd_.get(), &info) != 0) return ErrorAt(path_, errno);
    return static_cast<uint64_t>(info.st_size);
  }

 private:
  // Checked here and not left to the kernel, so that the bug shows on every file system.
  Status Misaligned() const {
    return absl::InternalError(absl::StrCat(path_, ": misaligned direct I/O"));
  }

  const Fd fd_;
  const std::string path_;
  const bool direct_;
};

class PosixLock : public FileLock {
 public:
  explicit PosixLock(Fd fd) : fd_(std::move(fd)) {}

 private:
  const Fd fd_;  // Closing it releases the lock.
};

// Opens `path`; -1 with errno set. Sets `direct` to false where the file system has none.
int OpenFd(const std::string& path, int flags, bool direct) {
  int fd = -1;
  if (direct) {
    fd = Retry([&] { return open(path.c_str(), flags | O_DIRECT, 0600); });
    // Some file systems make the file before they refuse O_DIRECT.
    if (fd < 0 && errno == EINVAL) flags &= ~O_EXCL;
  }
  if (fd < 0 && (!direct || errno == EINVAL)) {
    fd = Retry([&] { return open(path.c_str(), flags, 0600); });
  }
  return fd;
}

class PosixFsImpl : public Fs {
 public:
  StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenOptions options) override {
    RETURN_IF_ERROR(CheckPath(path));
    int flags = O_CLOEXEC | (options.write ? O_RDWR : O_RDONLY);
    if (options.create) flags |= O_CREAT;
    if (options.create && options.exclusive) flags |= O_EXCL;
    Fd fd(OpenFd(path, flags, options.direct));
    if (fd.get() < 0) return ErrorAt(path, errno);
    struct stat info;
    if (fstat(fd.get(), &info) != 0) return ErrorAt(path, errno);
    if (S_ISDIR(info.st_mode)) return ErrorAt(path, EISDIR);
    return std::make_unique<PosixFile>(std::move(fd), path, options.direct);
  }

  Status CreateDir(const std::string& path) override {
    RETURN_IF_ERROR(CheckPath(path));
    if (mkdir(path.c_str(), 0700) == 0) return absl::OkStatus();
    int error = errno;
    struct stat info;
    if (error == EEXIST && stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
      return absl::OkStatus();
    }
    return ErrorAt(path, error);
  }

  Status SyncDir(const std::string& path) override {
    RETURN_IF_ERROR(CheckPath(path));
    Fd fd(Retry([&] { return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (fd.get() < 0 || fsync(fd.get()) != 0) return ErrorAt(path, errno);
    return absl::OkStatus();
  }

  Status Rename(const std::string& from, const std::string& to) override {
    RETURN_IF_ERROR(CheckPath(from));
    RETURN_IF_ERROR(CheckPath(to));
    return rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus() : ErrorAt(from, errno);
  }

  Status Remove(const std::string& path) override {
    RETURN_IF_ERROR(CheckPath(path));
    return remove(path.c_str()) == 0 ? absl::OkStatus() : ErrorAt(path, errno);
  }

  StatusOr<std::vector<std::string>> List(const std::string& path) override {
    RETURN_IF_ERROR(CheckPath(path));
    std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
    if (!dir) return ErrorAt(path, errno);
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      dirent* entry = readdir(dir.get());
      if (entry == nullptr) break;
      std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(std::move(name));
    }
    if (errno != 0) return ErrorAt(path, errno);
    std::sort(names.begin(), names.end());  // std::string compares as unsigned bytes.
    return names;
  }

  StatusOr<bool> Exists(const std::string& path) override {
    RETURN_IF_ERROR(CheckPath(path));
    struct stat info;
    if (lstat(path.c_str(), &info) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return ErrorAt(path, errno);
  }

  StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override {
    RETURN_IF_ERROR(CheckPath(path));
    Fd fd(Retry([&] { return open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600); }));
    if (fd.get() < 0) return ErrorAt(path, errno);
    // Bound to this open file, unlike fcntl's locks, which any close in the process releases.
    if (Retry([&] { return flock(fd.get(), LOCK_EX | LOCK_NB); }) != 0) {
      if (errno != EWOULDBLOCK) return ErrorAt(path, errno);
      return absl::FailedPreconditionError(absl::StrCat(path, ": locked by another process"));
    }
    return std::make_unique<PosixLock>(std::move(fd));
  }

  StatusOr<SpaceInfo> Space(const std::string& path) override {
    RETURN_IF_ERROR(CheckPath(path));
    struct statvfs info;
    if (Retry([&] { return statvfs(path.c_str(), &info); }) != 0) return ErrorAt(path, errno);
    return SpaceInfo{.total_bytes = static_cast<uint64_t>(info.f_blocks) * info.f_frsize,
                     .free_bytes = static_cast<uint64_t>(info.f_bavail) * info.f_frsize};
  }

 private:
  // The kernel would stop at a zero byte and so take another file.
  static Status CheckPath(const std::string& path) {
    if (path.find('\0') == std::string::npos) return absl::OkStatus();
    return absl::InvalidArgumentError("a path holds a zero byte");
  }
};

}  // namespace

Fs& PosixFs() {
  static PosixFsImpl fs;
  return fs;
}

}  // namespace holdfast
