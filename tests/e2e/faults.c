// Preloaded into the binary by faults.py: file system calls that fail, or are the last ones.
//
// HOLDFAST_FAULTS names a file of rules, which is read again whenever it was replaced; each line is
//   OPS GLOB FIRST COUNT ACTION [BEGIN END]
// OPS are words below, with commas; GLOB is matched with the path of an open file, or the one that
// is given. Of the calls that match, in each process, those from the FIRST on, COUNT of them (0:
// all that follow), meet ACTION:
//   a number     the call fails with that errno
//   lose         a sync fails with EIO, and what was written to the file since its last one is gone
//   kill, stop   the process gets SIGKILL or SIGSTOP before the call
//   half         half of a write is done, then SIGKILL
//   cut:DIR      the file system at DIR is shut down, with nothing that was not synced; the call
//   goes on.
//                As if its disk had a cache of its own, direct writes that no sync followed are
//                gone too
// BEGIN and END are offsets: only reads and writes that touch bytes between them match.
// HOLDFAST_FAULTS_LOG names a file that gets a line for every call: pid, word, action or -, path.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#undef fread_unlocked

enum { READ, WRITE, SYNC, RENAME, UNLINK, TRUNCATE, ALLOCATE, MKDIR, LIST, LISTEN, OPS };
static const char* const words[OPS] = {"read",     "write",    "sync",  "rename", "unlink",
                                       "truncate", "allocate", "mkdir", "list",   "listen"};
enum { PASS, FAIL, LOSE, KILL, STOP, HALF, CUT };

struct rule {
  unsigned ops;
  char glob[PATH_MAX];
  long first, count, seen;
  char action[PATH_MAX];
  long begin, end;
};
struct extent {
  dev_t dev;
  ino_t ino;
  off_t offset, length;
  int direct;  // A descriptor of it, for direct writes; else -1.
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[16];
static int rule_count;
static struct timespec read_at;
static ino_t read_ino;
static struct extent unsynced[1 << 16];  // Kept while a rule may take them away.
static int unsynced_count, keeps_unsynced;
static int log_fd = -2;

static void read_rules(void) {
  const char* path = getenv("HOLDFAST_FAULTS");
  struct stat info;
  if (path == NULL || stat(path, &info) != 0) return;
  if (info.st_ino == read_ino && info.st_mtim.tv_sec == read_at.tv_sec &&
      info.st_mtim.tv_nsec == read_at.tv_nsec) {
    return;
  }
  read_ino = info.st_ino;
  read_at = info.st_mtim;
  char text[1 << 16];
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  long n = syscall(SYS_read, fd, text, sizeof text - 1);
  close(fd);
  text[n < 0 ? 0 : n] = 0;
  rule_count = keeps_unsynced = 0;
  char* rest = text;
  for (char* line; (line = strsep(&rest, "\n")) != NULL;) {
    struct rule* rule = &rules[rule_count];
    char ops[256];
    memset(rule, 0, sizeof *rule);
    rule->end = LONG_MAX;
    if (sscanf(line, "%255s %4095s %ld %ld %4095s %ld %ld", ops, rule->glob, &rule->first,
               &rule->count, rule->action, &rule->begin, &rule->end) < 5) {
      continue;
    }
    char* more = ops;
    for (char* op; (op = strsep(&more, ",")) != NULL;) {
      for (int i = 0; i < OPS; ++i) {
        if (strcmp(op, words[i]) == 0) rule->ops |= 1u << i;
      }
    }
    if (strcmp(rule->action, "lose") == 0 || strncmp(rule->action, "cut:", 4) == 0) {
      keeps_unsynced = 1;
    }
    if (++rule_count == sizeof rules / sizeof *rules) break;
  }
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static void cut_power(const char* at) {
  static const char zeros[1 << 16] __attribute__((aligned(4096)));
  struct stat disk;
  if (stat(at, &disk) != 0) abort();
  for (int i = 0; i < unsynced_count; ++i) {
    const struct extent* e = &unsynced[i];
    if (e->direct < 0 || e->dev != disk.st_dev) continue;
    // In place, and so without a word in the journal.
    for (off_t done = 0; done < e->length;) {
      off_t n = e->length - done < (off_t)sizeof zeros ? e->length - done : (off_t)sizeof zeros;
      if (syscall(SYS_pwrite64, e->direct, zeros, n, e->offset + done) != n) break;
      done += n;
    }
  }
  int fd = (int)syscall(SYS_openat, AT_FDCWD, at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  unsigned no_log_flush = 2;
  if (ioctl(fd, 0x8004587d, &no_log_flush) != 0) abort();
  close(fd);
}

static void note(int op, const char* action, const char* path) {
  if (log_fd == -2) {
    const char* log = getenv("HOLDFAST_FAULTS_LOG");
    log_fd = log == NULL ? -1
                         : (int)syscall(SYS_openat, AT_FDCWD, log,
                                        O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  }
  if (log_fd < 0) return;
  char line[PATH_MAX + 128];
  int n = snprintf(line, sizeof line, "%d %s %.60s %.4000s\n", getpid(), words[op], action, path);
  (void)!syscall(SYS_write, log_fd, line, n);
}

// What the call meets; *error is set for FAIL.
static int meet(int op, const char* path, long begin, long length, int* error) {
  pthread_mutex_lock(&lock);
  read_rules();
  const char* action = "-";
  for (int i = 0; i < rule_count; ++i) {
    struct rule* rule = &rules[i];
    if (!(rule->ops & 1u << op) || fnmatch(rule->glob, path, 0) != 0) continue;
    if (begin >= rule->end || begin + length <= rule->begin) continue;
    ++rule->seen;
    if (rule->seen < rule->first) continue;
    if (rule->count != 0 && rule->seen >= rule->first + rule->count) continue;
    action = rule->action;
    break;
  }
  note(op, action, path);
  int met = PASS;
  if (strcmp(action, "kill") == 0) die();
  if (strcmp(action, "lose") == 0) met = LOSE;
  if (strcmp(action, "half") == 0) met = HALF;
  if (strcmp(action, "stop") == 0) met = STOP;
  if (strncmp(action, "cut:", 4) == 0) cut_power(action + 4);
  if (*action >= '0' && *action <= '9') {
    met = FAIL;
    *error = atoi(action);
  }
  pthread_mutex_unlock(&lock);
  if (met == STOP) kill(getpid(), SIGSTOP);
  return met;
}

// Regular files and directories; all else passes.
static int path_of(int fd, char* path) {
  struct stat info;
  char link[64];
  if (fstat(fd, &info) != 0 || !(S_ISREG(info.st_mode) || S_ISDIR(info.st_mode))) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, PATH_MAX - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  return 1;
}

static void wrote(int fd, off_t offset, ssize_t length) {
  struct stat info;
  if (!keeps_unsynced || length <= 0 || fstat(fd, &info) != 0) return;
  pthread_mutex_lock(&lock);
  if (unsynced_count == sizeof unsynced / sizeof *unsynced) abort();
  int direct = syscall(SYS_fcntl, fd, F_GETFL) & O_DIRECT
                   ? (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 100)
                   : -1;
  unsynced[unsynced_count++] = (struct extent){info.st_dev, info.st_ino, offset, length, direct};
  pthread_mutex_unlock(&lock);
}

// What is known of fd's file is synced, or gone.
static void settle(int fd, int lose) {
  struct stat info;
  if (!keeps_unsynced || fstat(fd, &info) != 0) return;
  pthread_mutex_lock(&lock);
  int kept = 0;
  for (int i = 0; i < unsynced_count; ++i) {
    struct extent e = unsynced[i];
    if (e.dev != info.st_dev || e.ino != info.st_ino) {
      unsynced[kept++] = e;
      continue;
    }
    if (e.direct >= 0) close(e.direct);
    // Punches a hole, keeps the size.
    if (lose && syscall(SYS_fallocate, fd, 3, e.offset, e.length) != 0) abort();
  }
  unsynced_count = kept;
  pthread_mutex_unlock(&lock);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAILS(op, path, begin, length)                        \
  int error = 0, met = meet(op, path, begin, length, &error); \
  if (met == FAIL || met == LOSE) {                           \
    errno = met == LOSE ? EIO : error;                        \
    return -1;                                                \
  }

// With `here`, from where the file is at.
static ssize_t do_read(int fd, void* out, size_t n, off_t offset, int here) {
  char path[PATH_MAX];
  if (path_of(fd, path)) {
    const off_t at = here ? lseek(fd, 0, SEEK_CUR) : offset;
    FAILS(READ, path, at, (long)n)
  }
  return here ? syscall(SYS_read, fd, out, n) : syscall(SYS_pread64, fd, out, n, offset);
}
ssize_t read(int fd, void* out, size_t n) { return do_read(fd, out, n, 0, 1); }
ssize_t pread(int fd, void* out, size_t n, off_t at) { return do_read(fd, out, n, at, 0); }
ssize_t pread64(int fd, void* out, size_t n, off64_t at) { return do_read(fd, out, n, at, 0); }

// Streams: RocksDB reads its logs so. What stdio calls itself does not come by here.
static int stream_fails(FILE* stream, size_t n) {
  char path[PATH_MAX];
  const int fd = fileno(stream);
  if (fd < 0 || !path_of(fd, path)) return 0;
  int error = 0;
  if (meet(READ, path, ftell(stream), (long)n, &error) != FAIL) return 0;
  stream->_flags |= _IO_ERR_SEEN;
  errno = error;
  return 1;
}
size_t fread(void* out, size_t size, size_t count, FILE* stream) {
  if (stream_fails(stream, size * count)) return 0;
  return REAL(fread)(out, size, count, stream);
}
size_t fread_unlocked(void* out, size_t size, size_t count, FILE* stream) {
  if (stream_fails(stream, size * count)) return 0;
  return REAL(fread_unlocked)(out, size, count, stream);
}

static ssize_t do_write(int fd, const void* data, size_t n, off_t offset, int at_end) {
  char path[PATH_MAX];
  if (!path_of(fd, path)) {
    return at_end ? syscall(SYS_write, fd, data, n) : syscall(SYS_pwrite64, fd, data, n, offset);
  }
  if (at_end) offset = lseek(fd, 0, SEEK_CUR);
  FAILS(WRITE, path, offset, (long)n)
  if (met == HALF) n = n > 8192 ? n / 8192 * 4096 : n > 4096 ? 4096 : n / 2;
  ssize_t done =
      at_end ? syscall(SYS_write, fd, data, n) : syscall(SYS_pwrite64, fd, data, n, offset);
  if (met == HALF) die();
  int kept = errno;
  wrote(fd, offset, done);
  errno = kept;
  return done;
}
ssize_t write(int fd, const void* data, size_t n) { return do_write(fd, data, n, 0, 1); }
ssize_t pwrite(int fd, const void* data, size_t n, off_t at) {
  return do_write(fd, data, n, at, 0);
}
ssize_t pwrite64(int fd, const void* data, size_t n, off64_t at) {
  return do_write(fd, data, n, at, 0);
}

static int do_sync(int fd, long number) {
  char path[PATH_MAX];
  if (!path_of(fd, path)) return (int)syscall(number, fd);
  int error = 0, met = meet(SYNC, path, 0, LONG_MAX, &error);
  if (met == FAIL || met == LOSE) {
    if (met == LOSE) settle(fd, 1);
    errno = met == LOSE ? EIO : error;
    return -1;
  }
  int result = (int)syscall(number, fd);
  int kept = errno;
  if (result == 0) settle(fd, 0);
  errno = kept;
  return result;
}
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }
int fsync(int fd) { return do_sync(fd, SYS_fsync); }

int rename(const char* from, const char* to) {
  FAILS(RENAME, to, 0, LONG_MAX)
  return (int)syscall(SYS_rename, from, to);
}
int unlink(const char* path) {
  FAILS(UNLINK, path, 0, LONG_MAX)
  return (int)syscall(SYS_unlink, path);
}
int remove(const char* path) {
  FAILS(UNLINK, path, 0, LONG_MAX)
  int result = (int)syscall(SYS_unlink, path);
  return result != 0 && errno == EISDIR ? (int)syscall(SYS_rmdir, path) : result;
}
int mkdir(const char* path, mode_t mode) {
  FAILS(MKDIR, path, 0, LONG_MAX)
  return (int)syscall(SYS_mkdir, path, mode);
}
static int do_truncate(int fd, off_t size) {
  char path[PATH_MAX];
  if (path_of(fd, path)) {
    FAILS(TRUNCATE, path, 0, LONG_MAX)
  }
  return (int)syscall(SYS_ftruncate, fd, size);
}
int ftruncate(int fd, off_t size) { return do_truncate(fd, size); }
int ftruncate64(int fd, off64_t size) { return do_truncate(fd, size); }
static int do_allocate(int fd, int mode, off_t offset, off_t length) {
  char path[PATH_MAX];
  if (path_of(fd, path)) {
    FAILS(ALLOCATE, path, 0, LONG_MAX)
  }
  return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}
int fallocate(int fd, int mode, off_t offset, off_t length) {
  return do_allocate(fd, mode, offset, length);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
  return do_allocate(fd, mode, offset, length);
}
DIR* opendir(const char* path) {
  int error = 0;
  if (meet(LIST, path, 0, LONG_MAX, &error) == FAIL) {
    errno = error;
    return NULL;
  }
  return REAL(opendir)(path);
}
int listen(int fd, int backlog) {
  int error = 0;
  if (meet(LISTEN, "socket", 0, LONG_MAX, &error) == FAIL) {
    errno = error;
    return -1;
  }
  return REAL(listen)(fd, backlog);
}
