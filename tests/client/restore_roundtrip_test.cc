// A tree of everything that is awkward in file systems, through the real services and back.
#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "client/ingest.h"
#include "client/restore.h"
#include "client/verify.h"
#include "common/io/fs.h"
#include "common/kv/mem_kv.h"
#include "coordinator/coordinator.h"
#include "node/node.h"
#include "tests/client/reader_testing.h"

namespace holdfast {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;
using testing::RandomBytes;

// One node and a coordinator on this machine's file system.
class RealVault {
 public:
  explicit RealVault(const std::string& dir)
      : key_(*GenerateKeyFile(SecureRng(), SecureRng().NewId<VaultId>())),
        io_(NewThreadPool(2, "io")) {
    MapNode node{.number = 0, .id = SecureRng().NewId<NodeId>(), .failure_domain = "disk"};
    map_.nodes.push_back(node);
    ComputePlacement(map_);
    const NodeOptions options{.dir = dir, .vault = key_.vault, .node = node.id};
    EXPECT_TRUE(Node::Format(options, PosixFs(), SecureRng()).ok());
    const NodeEnv env{PosixFs(),
                      SystemClock(),
                      SecureRng(),
                      *node_loop_,
                      *io_,
                      [this](bool) { return OpenMemKv(index_disk_, false); },
                      [] { return absl::OkStatus(); }};
    node_ = *Node::Open(options, env);
    transport_->Attach(NodeAddress(0), *node_, *node_loop_);
    const CoordinatorOptions c{key_.vault, key_.domain, DeriveCatalogueKeys(key_.catalogue_key),
                               map_};
    EXPECT_TRUE(Coordinator::Format(c, *catalogue_, SystemClock()).ok());
    coordinator_ = *Coordinator::Open(
        c, {SystemClock(), SecureRng(), *coordinator_loop_, *transport_, *catalogue_});
    transport_->Attach(kCoordinatorAddress, *coordinator_, *coordinator_loop_);
    const VaultParams params{.domain = key_.domain, .chunk_size = 64 * 1024};
    vault_ = std::make_unique<Vault>(*transport_, key_, params, SystemClock(), SecureRng());
  }
  ~RealVault() {
    transport_->Detach(kCoordinatorAddress);
    transport_->Detach(NodeAddress(0));
    io_ = nullptr;
    coordinator_loop_ = nullptr;
    node_loop_ = nullptr;
  }
  Vault& vault() { return *vault_; }

 private:
  KeyFile key_;
  ClusterMap map_;
  std::unique_ptr<Transport> transport_ = NewInProcessTransport();
  std::unique_ptr<Executor> io_;
  MemKvDisk index_disk_, catalogue_disk_;
  std::unique_ptr<Kv> catalogue_ = OpenMemKv(catalogue_disk_, true);
  std::unique_ptr<Node> node_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<Loop> node_loop_ = NewThreadLoop("node");
  std::unique_ptr<Loop> coordinator_loop_ = NewThreadLoop("coordinator");
  std::unique_ptr<Vault> vault_;
};

// All that a restore must bring back, of each name below a directory; paths of any length.
struct Facts {
  uint32_t mode = 0, uid = 0, gid = 0;
  int64_t mtime = 0, mtime_nanos = 0;
  uint64_t size = 0, links = 0;
  std::string content;  // Or the link's target.
  std::map<std::string, std::string> xattrs;
  bool sparse = false;
  bool operator==(const Facts&) const = default;
};
void PrintTo(const Facts& f, std::ostream* out) {
  *out << std::oct << f.mode << std::dec << " " << f.uid << ":" << f.gid << " " << f.mtime << "."
       << f.mtime_nanos << " size " << f.size << " links " << f.links << " xattrs "
       << f.xattrs.size() << " sparse " << f.sparse;
}

std::map<std::string, std::string> XattrsOf(int fd) {
  std::map<std::string, std::string> xattrs;
  char names[4096], value[65536];
  const ssize_t n = flistxattr(fd, names, sizeof names);
  for (const char* p = names; n > 0 && p < names + n; p += strlen(p) + 1) {
    const ssize_t length = fgetxattr(fd, p, value, sizeof value);
    xattrs[p] = std::string(value, length < 0 ? 0 : static_cast<size_t>(length));
  }
  return xattrs;
}

std::string Slurp(int fd) {
  std::string content;
  char buffer[65536];
  while (const ssize_t n = read(fd, buffer, sizeof buffer)) {
    if (n < 0) break;
    content.append(buffer, static_cast<size_t>(n));
  }
  return content;
}

void Walk(int parent, const std::string& base, const std::string& name,
          std::map<std::string, Facts>& out) {
  struct stat st;
  ASSERT_EQ(fstatat(parent, base.c_str(), &st, AT_SYMLINK_NOFOLLOW), 0) << base;
  Facts f{.mode = st.st_mode,
          .uid = st.st_uid,
          .gid = st.st_gid,
          .mtime = st.st_mtim.tv_sec,
          .mtime_nanos = st.st_mtim.tv_nsec};
  if (S_ISLNK(st.st_mode)) {
    char target[4096];
    const ssize_t n = readlinkat(parent, base.c_str(), target, sizeof target);
    f.content.assign(target, static_cast<size_t>(n));
    out[name] = f;
    return;
  }
  const int fd = openat(parent, base.c_str(), O_RDONLY | O_NOFOLLOW);
  ASSERT_GE(fd, 0) << base;
  f.xattrs = XattrsOf(fd);
  if (S_ISREG(st.st_mode)) {
    f.size = static_cast<uint64_t>(st.st_size);
    f.links = st.st_nlink;
    f.content = Slurp(fd);
    f.sparse = st.st_blocks * 512 < st.st_size;
    close(fd);
    out[name] = std::move(f);
    return;
  }
  out[name] = std::move(f);
  DIR* dir = fdopendir(fd);
  while (const dirent* entry = readdir(dir)) {
    const std::string child = entry->d_name;
    if (child != "." && child != "..") Walk(fd, child, name + "/" + child, out);
  }
  closedir(dir);
}

class RoundTripTest : public ::testing::Test {
 protected:
  RoundTripTest() {
    char path[] = "/tmp/holdfast-roundtrip-XXXXXX";
    top_ = mkdtemp(path);
    fs::create_directory(top_ + "/tree");
    fs::create_directory(top_ + "/node");
    tree_ = open((top_ + "/tree").c_str(), O_RDONLY | O_DIRECTORY);
  }
  ~RoundTripTest() override {
    close(tree_);
    // Paths beyond PATH_MAX defeat remove_all.
    EXPECT_EQ(std::system(("chmod -R u+rwx " + top_ + "; rm -rf " + top_).c_str()), 0);
  }

  void File(const std::string& name, const std::string& content, mode_t mode = 0644,
            int64_t seconds = 1'600'000'000, int64_t nanos = 123'456'789, int at = -1) {
    const int fd = openat(at < 0 ? tree_ : at, name.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
    ASSERT_GE(fd, 0) << name << " " << strerror(errno);
    ASSERT_EQ(write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    ASSERT_EQ(fchmod(fd, mode), 0);
    const timespec times[2] = {{0, UTIME_OMIT}, {seconds, nanos}};
    ASSERT_EQ(futimens(fd, times), 0);
    close(fd);
  }
  // A path of `length` bytes and a file at its end.
  void LongPath(size_t length) {
    int at = dup(tree_);
    for (size_t n = 0; n < length; n += 201) {
      const std::string component(200, static_cast<char>('a' + n % 26));
      ASSERT_EQ(mkdirat(at, component.c_str(), 0750), 0);
      const int next = openat(at, component.c_str(), O_RDONLY | O_DIRECTORY);
      close(at);
      at = next;
    }
    File("deep", "deep content", 0640, 1, 2, at);
    close(at);
  }
  void MakeAwkwardTree();
  std::map<std::string, Facts> FactsOf(const std::string& dir) {
    std::map<std::string, Facts> facts;
    Walk(AT_FDCWD, top_ + "/" + dir, "", facts);
    facts.erase("");
    return facts;
  }

  std::string top_;
  int tree_;
};

void RoundTripTest::MakeAwkwardTree() {
  File("empty", "");
  File("new\nline \x01\xff\xfe", "not UTF-8");
  File(std::string(255, 'n'), "a long name");
  File("mode 0000", "secret", 0);
  File("suid", "#!", 04755);
  File("sticky sgid", "x", 03711);
  File("before 1970", "old", 0644, -123'456'789, 1);
  File("after 2038", "new", 0644, 4'000'000'000, 999'999'999);
  File("long", RandomBytes(1, 5'000'000));
  File("chunk exactly", RandomBytes(2, 256 * 1024));
  ASSERT_EQ(mkdirat(tree_, "empty dir", 01777), 0);
  ASSERT_EQ(mkdirat(tree_, "dir", 0755), 0);
  ASSERT_EQ(mkdirat(tree_, "dir-x", 0700), 0);  // Between "dir" and "dir/…" in byte order.
  File("dir/one", RandomBytes(3, 400'000));
  File("dir-x/two", "2");
  ASSERT_EQ(linkat(tree_, "dir/one", tree_, "dir-x/one again", 0), 0);
  ASSERT_EQ(linkat(tree_, "dir/one", tree_, "a link before its first", 0), 0);
  ASSERT_EQ(symlinkat("dir/one", tree_, "symlink"), 0);
  ASSERT_EQ(symlinkat("nowhere\n\xff", tree_, "dangling"), 0);
  ASSERT_EQ(symlinkat("..", tree_, "dir/up"), 0);
  const timespec times[2] = {{0, UTIME_OMIT}, {-5, 7}};
  ASSERT_EQ(utimensat(tree_, "dangling", times, AT_SYMLINK_NOFOLLOW), 0);
  LongPath(4200);
  const int sparse = openat(tree_, "sparse", O_WRONLY | O_CREAT, 0600);
  ASSERT_EQ(pwrite(sparse, "middle", 6, 3'000'000), 6);
  ASSERT_EQ(ftruncate(sparse, 9'000'000), 0);
  fsetxattr(sparse, "user.note", "v\0alue", 6, 0);
  fsetxattr(sparse, "user.empty", "", 0, 0);
  if (geteuid() == 0) {
    ASSERT_EQ(fchown(sparse, 1234, 5678), 0);
  }
  close(sparse);
  const int dir = openat(tree_, "dir", O_RDONLY | O_DIRECTORY);
  fsetxattr(dir, "user.dir", "of a directory", 14, 0);
  ASSERT_EQ(fchmod(dir, 02550), 0);
  ASSERT_EQ(futimens(dir, times), 0);
  close(dir);
}

struct Errors : IngestObserver, RestoreObserver, VerifyObserver {
  void OnError(const std::string& name, const Status& status) override {
    list.push_back(name + ": " + Message(status));
  }
  void OnObjectError(const std::string&, const std::string& name, bool,
                     const Status& status) override {
    list.push_back(name + ": " + Message(status));
  }
  void OnFinding(const proto::Finding& finding) override { list.push_back(finding.text()); }
  std::vector<std::string> list;
};

TEST_F(RoundTripTest, BringsEverythingBack) {
  MakeAwkwardTree();
  if (HasFatalFailure()) return;
  RealVault real(top_ + "/node");
  Errors errors;
  const auto engine = kernels::MakePortableEngine(real.vault().engine_options());
  StatusOr<std::unique_ptr<Source>> source = OpenPosixSource({top_ + "/tree/."});
  ASSERT_TRUE(source.ok()) << source.status();
  StatusOr<IngestSummary> in =
      Ingest(real.vault(), *engine, **source, {.collection = "case"}, errors);
  ASSERT_TRUE(in.ok()) << in.status();
  EXPECT_THAT(errors.list, IsEmpty());

  const RestoreOptions options{.collection = "case", .to = top_ + "/out"};
  StatusOr<RestoreSummary> out = Restore(real.vault(), options, errors);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_THAT(errors.list, IsEmpty());
  EXPECT_EQ(out->files + out->hard_links, in->files);
  EXPECT_EQ(out->hard_links, 2u);
  const std::map<std::string, Facts> before = FactsOf("tree"), after = FactsOf("out");
  EXPECT_GT(before.size(), 30u);
  EXPECT_EQ(before.size(), after.size());
  for (const auto& [name, facts] : before) {
    ASSERT_TRUE(after.contains(name)) << name.substr(0, 300);
    EXPECT_EQ(facts, after.at(name)) << name.substr(0, 300);
  }
  struct stat a, b;
  ASSERT_EQ(lstat((top_ + "/out/dir/one").c_str(), &a), 0);
  ASSERT_EQ(lstat((top_ + "/out/a link before its first").c_str(), &b), 0);
  EXPECT_EQ(a.st_ino, b.st_ino);

  StatusOr<VerifySummary> verified = Verify(real.vault(), {}, errors);
  ASSERT_TRUE(verified.ok()) << verified.status();
  EXPECT_THAT(errors.list, IsEmpty());
  EXPECT_EQ(verified->damaged + verified->findings + verified->unchecked, 0u);
  EXPECT_GE(verified->bytes, in->bytes);
}

}  // namespace
}  // namespace holdfast
