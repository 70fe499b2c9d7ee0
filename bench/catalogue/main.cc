// How many objects a second the catalogue takes, and what it is like when they are many: the real
// coordinator on RocksDB, and one real node that keeps the commit records, in one process.
//
//   holdfast-catalogue DIR --objects 10000000
//
// One session commits batches of signed one-chunk objects, one after the other, as an ingest of
// many small files does; the next batch is made meanwhile. Then pages of the list are asked for at
// random places, and everything is closed and opened again. The peak of memory is of the whole
// process: what makes and signs the batches, and the node, are in it.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <utility>

#include "bench/bench.h"
#include "cli/kv_options.h"
#include "client/ingest.h"
#include "common/crypto/domain_keys.h"
#include "common/crypto/hmac.h"
#include "common/crypto/keypair.h"
#include "common/format/catalogue_format.h"
#include "common/format/manifest.h"
#include "common/kv/rocks_kv.h"
#include "common/rpc/methods.h"
#include "coordinator/coordinator.h"
#include "node/node.h"

namespace holdfast {
namespace {

constexpr size_t kPage = 1000;
constexpr size_t kPages = 2000;
constexpr char kCollection[] = "case";

double Seconds() { return static_cast<double>(SystemClock().MonotonicNanos()) / kSecond; }

// A vault in a directory without its command line.
class VaultUnderTest {
 public:
  explicit VaultUnderTest(const std::string& dir) : dir_(dir), signer_(GenerateKeyPair()) {
    SecureRng().Fill(catalogue_key_.catalogue_key);
    options_.vault = catalogue_key_.vault = SecureRng().NewId<VaultId>();
    options_.domain = catalogue_key_.domain = SecureRng().NewId<DomainId>();
    options_.keys = DeriveCatalogueKeys(catalogue_key_.catalogue_key);
    options_.map.nodes.push_back({0, SecureRng().NewId<NodeId>(), 1, "site/rack/host/disk"});
    ComputePlacement(options_.map);
    node_options_.dir = dir + "/node";
    node_options_.vault = options_.vault;
    node_options_.node = options_.map.nodes[0].id;
    Must(Node::Format(node_options_, PosixFs(), SecureRng()));
    sealing_key_ = SecureRng().NewId<SealingKeyId>();
  }
  ~VaultUnderTest() { Close(); }

  void Open(bool create) {
    transport_ = NewInProcessTransport();
    node_loop_ = NewThreadLoop("node");
    loop_ = NewThreadLoop("coordinator");
    io_ = NewThreadPool(4, "io");
    const std::string index = node_options_.dir + "/index";
    const NodeEnv env{
        PosixFs(),
        SystemClock(),
        SecureRng(),
        *node_loop_,
        *io_,
        [index](bool fresh) { return OpenRocksKv(index, fresh, cli::IndexKvOptions()); },
        [index] { return DestroyRocksKv(index); }};
    node_ = Must(Node::Open(node_options_, env));
    transport_->Attach(NodeAddress(0), *node_, *node_loop_);
    kv_ = Must(OpenRocksKv(dir_ + "/catalogue", create, cli::CatalogueKvOptions(catalogue_key_)));
    if (create) Must(Coordinator::Format(options_, *kv_, SystemClock()));
    coordinator_ =
        Must(Coordinator::Open(options_, {SystemClock(), SecureRng(), *loop_, *transport_, *kv_}));
    transport_->Attach(kCoordinatorAddress, *coordinator_, *loop_);
  }

  void Close() {
    if (transport_ == nullptr) return;
    transport_->Detach(kCoordinatorAddress);
    transport_->Detach(NodeAddress(0));
    std::promise<Status> closed;
    node_loop_->Post(
        [&] { node_->Close([&](const Status& status) { closed.set_value(status); }); });
    Must(closed.get_future().get());
    loop_.reset();
    coordinator_.reset();
    node_.reset();
    io_.reset();
    node_loop_.reset();
    Must(kv_->Flush());
    kv_.reset();
    transport_.reset();
  }

  template <class Reply, class Request>
  Reply Ask(uint16_t method, const Request& request) {
    RpcMessage reply = Must(
        CallAndWait(*transport_, kCoordinatorAddress, MakeMessage(method, request), kChangeNanos));
    return Must(ParseHead<Reply>(reply));
  }

  SessionId NewSession() {
    const SessionId session = SecureRng().NewId<SessionId>();
    proto::OpenSessionRequest request;
    request.set_domain(ToString(options_.domain.bytes()));
    request.set_session(ToString(session.bytes()));
    Ask<proto::OpenSessionReply>(rpc::kOpenSession, request);
    return session;
  }

  proto::CommitRequest MakeCommit(const SessionId& session, uint64_t first, uint64_t count) {
    proto::CommitRequest request;
    request.set_session(ToString(session.bytes()));
    request.set_request(ToString(SecureRng().NewId<VersionId>().bytes()));
    request.set_domain(ToString(options_.domain.bytes()));
    request.set_collection(kCollection);
    request.set_map_version(options_.map.version);
    std::vector<Hash256> leaves;
    for (uint64_t n = first; n < first + count; ++n) {
      const std::string manifest = ToString(EncodeClearManifest(ManifestOf(n)));
      leaves.push_back(ManifestLeaf(options_.domain, kCollection, AsBytes(manifest)));
      request.add_manifests(manifest);
    }
    proto::NewSealingKey& key = *request.add_sealing_keys();
    key.set_id(ToString(sealing_key_.bytes()));
    key.set_box(std::string(150, 'b'));
    request.set_signer_public_key(ToString(signer_.public_key));
    request.set_certificate(std::string(71, 'c'));
    request.set_signature(
        ToString(Must(Sign(signer_, SignatureMessage(options_.domain, MerkleRoot(leaves))))));
    return request;
  }

 private:
  ClearManifest ManifestOf(uint64_t n) const {
    ClearManifest m;
    m.name = NameOf(n);
    m.type = ObjectType::kFile;
    m.version = SecureRng().NewId<VersionId>();
    m.time_nanos = SystemClock().WallNanos();
    SecureRng().Fill(m.tag_sha256.value);
    m.sealing_key = sealing_key_;
    m.wrapped_key = Buffer(60, 7);
    m.sealed = Buffer(220, 9);
    m.chunk_count = 1;
    m.chunks.push_back({SecureRng().NewId<RecordId>(), 65'536});
    return m;
  }

  const std::string dir_;
  const KeyPair signer_;
  KeyFile catalogue_key_;
  CoordinatorOptions options_;
  NodeOptions node_options_;
  SealingKeyId sealing_key_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Executor> io_;
  std::unique_ptr<Loop> node_loop_, loop_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<Kv> kv_;
  std::unique_ptr<Coordinator> coordinator_;
};

// The rate of each tenth is told too: compaction comes in waves, and grows with what is there.
void Fill(VaultUnderTest& vault, uint64_t objects, uint64_t batch, nlohmann::json& result) {
  const SessionId session = vault.NewSession();
  std::vector<double> tenths;
  double waited = 0;
  const double start = Seconds();
  double tenth = start;
  proto::CommitRequest next = vault.MakeCommit(session, 0, std::min(batch, objects));
  for (uint64_t done = 0; done < objects;) {
    const uint64_t size = std::min(batch, objects - done);
    auto commit = std::async(std::launch::async, [&vault, request = std::exchange(next, {})] {
      return vault.Ask<proto::CommitReply>(rpc::kCommit, request).results_size();
    });
    done += size;
    if (done < objects) next = vault.MakeCommit(session, done, std::min(batch, objects - done));
    const double from = Seconds();
    if (static_cast<uint64_t>(commit.get()) != size)
      Must(absl::InternalError("a commit fell short"));
    waited += Seconds() - from;
    if (done * 10 / objects > tenths.size()) {
      tenths.push_back(objects / 10.0 / (Seconds() - tenth));
      tenth = Seconds();
    }
  }
  const double seconds = Seconds() - start;
  result["commits_per_s"] = objects / seconds;
  result["tenths_per_s"] = tenths;
  result["waited_share"] = waited / seconds;  // The rest of the time the batches were the brake.
}

void List(VaultUnderTest& vault, uint64_t objects, bool with_rows, nlohmann::json& result) {
  std::vector<double> millis;
  for (size_t i = 0; i < kPages; ++i) {
    proto::ListRequest request;
    request.set_collection(kCollection);
    request.set_after(NameOf(SecureRng().Below(objects)));
    request.set_limit(kPage);
    request.set_with_rows(with_rows);
    const double from = Seconds();
    vault.Ask<proto::ListReply>(rpc::kList, request);
    millis.push_back((Seconds() - from) * 1e3);
  }
  std::sort(millis.begin(), millis.end());
  result["p50_ms"] = millis[kPages / 2];
  result["p99_ms"] = millis[kPages * 99 / 100];
}

int Run(const std::string& dir, uint64_t objects, uint64_t batch, const std::string& json_file) {
  std::filesystem::create_directories(dir);
  if (!std::filesystem::is_empty(dir)) Must(absl::InvalidArgumentError(dir + " is not empty"));
  VaultUnderTest vault(dir);
  vault.Open(/*create=*/true);
  nlohmann::json result{{"objects", objects}, {"batch", batch}};
  Fill(vault, objects, batch, result);
  List(vault, objects, false, result["list_names"]);
  List(vault, objects, true, result["list_rows"]);
  vault.Close();
  const double from = Seconds();
  vault.Open(/*create=*/false);
  vault.Ask<proto::VaultStatusReply>(rpc::kVaultStatus, proto::VaultStatusRequest());
  result["restart_s"] = Seconds() - from;
  List(vault, objects, false, result["list_names_after_restart"]);
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  result["peak_rss_mib"] = usage.ru_maxrss / 1024;
  std::printf("%s\n", result.dump(2).c_str());
  if (!json_file.empty()) std::ofstream(json_file) << result.dump(2) << "\n";
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  CLI::App app("How many objects a second the catalogue takes");
  std::string dir, json_file;
  uint64_t objects = 1'000'000, batch = holdfast::IngestOptions().commit_objects;
  app.add_option("DIR", dir, "An empty or new directory, on the disk to measure")->required();
  app.add_option("--objects", objects, "How many are committed")->capture_default_str();
  app.add_option("--batch", batch, "Objects in one commit")->capture_default_str();
  app.add_option("--json", json_file, "Writes the figures there too");
  CLI11_PARSE(app, argc, argv);
  return holdfast::Run(dir, objects, batch, json_file);
}
