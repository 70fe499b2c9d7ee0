#include "tests/sim/sim_vault.h"

#define OPENSSL_SUPPRESS_DEPRECATED  // RAND_set_rand_method: the one way to fix ECDSA's nonces.
#include <openssl/rand.h>

#include "common/format/backup.h"
#include "common/rpc/methods.h"
#include "tests/sim/unsure_transport.h"

namespace holdfast::sim {
namespace {

constexpr int kAttempts = 8;

bool IsTransient(const Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

// As who gives a command does when it says that nobody answers.
StatusOr<RpcMessage> AskAgain(Transport& transport, const std::string& address,
                              const RpcMessage& request) {
  StatusOr<RpcMessage> reply = CallAndWait(transport, address, request);
  for (int i = 1; i < kAttempts && IsTransient(reply.status()); ++i) {
    reply = CallAndWait(transport, address, request);
  }
  return reply;
}

SimRng& OpenSslRng() {
  static SimRng rng(1);
  return rng;
}

int FillFromSeed(unsigned char* out, int n) {
  OpenSslRng().Fill({out, static_cast<size_t>(n)});
  return 1;
}

}  // namespace

void SeedOpenSsl(uint64_t seed) {
  OpenSslRng() = SimRng(seed);
  static RAND_METHOD method = [] {
    RAND_METHOD m{};
    m.bytes = FillFromSeed;
    m.pseudorand = FillFromSeed;
    m.status = [] { return 1; };
    return m;
  }();
  RAND_set_rand_method(&method);
}

SimVault::SimVault(uint64_t seed, const SimOptions& options)
    : options_(options), rng_(seed), fs_(seed), power_(fs_), loop_(clock_, rng_) {
  SeedOpenSsl(seed);
  Status status = Format();
  if (!status.ok()) {
    std::fprintf(stderr, "format: %s\n", Message(status).c_str());
    std::abort();
  }
}

SimVault::~SimVault() { loop_.Clear(); }

NodeOptions SimVault::node_options(size_t i) const {
  NodeOptions options;
  options.dir = "/node-" + std::to_string(i);
  options.vault = key_.vault;
  options.node = map_.nodes[i].id;
  options.node_number = static_cast<uint32_t>(i);
  options.segment_bytes = options_.segment_bytes;
  options.batch_bytes = options_.batch_bytes;
  options.index_flush_bytes = options_.index_flush_bytes;
  options.copy_bytes_per_second = options_.copy_bytes_per_second;
  return options;
}

CoordinatorOptions SimVault::coordinator_options() const {
  CoordinatorOptions options{key_.vault, key_.domain, DeriveCatalogueKeys(key_.catalogue_key),
                             map_};
  options.out_after_nanos = options_.out_after_nanos;
  options.gc_dir = "/gc-" + std::to_string(catalogues_);
  options.session_lease_nanos = options_.session_lease_nanos;
  if (options_.cluster) options.map.nodes.clear();
  return options;
}

Status SimVault::Format() {
  ASSIGN_OR_RETURN(key_, GenerateKeyFile(rng_, rng_.NewId<VaultId>()));
  map_.replicas = options_.replicas;
  for (uint32_t i = 0; i < options_.nodes + options_.spare; ++i) {
    MapNode node;
    node.number = i;
    node.id = rng_.NewId<NodeId>();
    node.failure_domain = options_.cluster ? "site/rack/host" + std::to_string(i) + "/disk"
                                           : "disk" + std::to_string(i);
    map_.nodes.push_back(node);
    index_disks_.push_back(std::make_unique<MemKvDisk>());
  }
  ComputePlacement(map_);
  for (uint32_t i = 0; i < map_.nodes.size(); ++i) {
    RETURN_IF_ERROR(Node::Format(node_options(i), fs_, rng_));
  }
  auto catalogue = OpenMemKv(*catalogue_disk_, true);
  if (options_.cluster) {
    Principal founder;
    founder.key.value.fill(1);
    map_.chunk_size = options_.chunk_size;
    CoordinatorOptions options = coordinator_options();
    options.map.placement.clear();
    return Coordinator::FormatCluster(options, founder, *catalogue);
  }
  return Coordinator::Format(coordinator_options(), *catalogue, clock_);
}

Status SimVault::OpenNodes() {
  SimNetworkOptions network;
  network.duplicate = options_.duplicate;
  transport_ =
      NewUnsureTransport(NewSimTransport(loop_, rng_, network), loop_, rng_, options_, calm_);
  nodes_.resize(map_.nodes.size());
  for (uint32_t i = 0; i < nodes_.size(); ++i) RETURN_IF_ERROR(StartNode(i));
  return absl::OkStatus();
}

Status SimVault::StartNode(uint32_t i) {
  Loop& channel = loop_.NewChannel();
  MemKvDisk* disk = index_disks_[i].get();
  NodeEnv env{fs_,
              clock_,
              rng_,
              channel,
              loop_.executor(),
              [this, disk](bool) -> StatusOr<std::unique_ptr<Kv>> {
                return WithPower(OpenMemKv(*disk, false), power_);
              },
              [disk] {
                disk->Wipe();
                return absl::OkStatus();
              },
              options_.cluster ? transport_.get() : nullptr};
  ASSIGN_OR_RETURN(nodes_[i], Node::Open(node_options(i), env));
  transport_->Attach(NodeAddress(i), *nodes_[i], channel);
  return absl::OkStatus();
}

void SimVault::StopNode(uint32_t i) {
  transport_->Detach(NodeAddress(i));
  nodes_[i].reset();
  index_disks_[i]->Crash(rng_);
}

Status SimVault::OpenCoordinator() {
  catalogue_ = WithPower(OpenMemKv(*catalogue_disk_, true), power_);
  Loop& channel = loop_.NewChannel();
  CoordinatorEnv env{clock_, rng_, channel, *transport_, *catalogue_};
  if (options_.cluster) env.access = &access_;
  env.fs = &fs_;
  ASSIGN_OR_RETURN(coordinator_, Coordinator::Open(coordinator_options(), env));
  transport_->Attach(kCoordinatorAddress, *coordinator_, channel);
  return absl::OkStatus();
}

void SimVault::StopCoordinator() {
  transport_->Detach(kCoordinatorAddress);
  coordinator_.reset();
  catalogue_.reset();
  catalogue_disk_->Crash(rng_);
}

Status SimVault::StartCoordinator() { return OpenCoordinator(); }

Status SimVault::Open() {
  RETURN_IF_ERROR(OpenNodes());
  RETURN_IF_ERROR(OpenCoordinator());
  VaultParams params{key_.domain, options_.chunk_size};
  vault_ = std::make_unique<Vault>(*transport_, key_, params, clock_, rng_);
  if (!options_.cluster || !Map().nodes.empty()) return absl::OkStatus();
  for (uint32_t i = 0; i < options_.nodes; ++i) RETURN_IF_ERROR(AddNode(i));
  return absl::OkStatus();
}

Status SimVault::AddNode(uint32_t i) {
  proto::AddNodeRequest request;
  request.set_id(ToString(map_.nodes[i].id.bytes()));
  request.set_public_key(std::string(32, static_cast<char>(i + 2)));
  request.set_endpoint("node-" + std::to_string(i));
  request.set_weight(1);
  request.set_failure_domain(map_.nodes[i].failure_domain);
  return CallAndWait(*transport_, kCoordinatorAddress, MakeMessage(rpc::kAddNode, request))
      .status();
}

Status SimVault::SetNodeState(uint32_t node, proto::SetNodeStateRequest::Action action) {
  proto::SetNodeStateRequest request;
  request.set_node(node);
  request.set_action(action);
  return CallAndWait(*transport_, kCoordinatorAddress, MakeMessage(rpc::kSetNodeState, request))
      .status();
}

proto::VaultStatusReply SimVault::VaultStatus() {
  const auto reply = AskAgain(*transport_, kCoordinatorAddress,
                              MakeMessage(rpc::kVaultStatus, proto::VaultStatusRequest()));
  return ParseHead<proto::VaultStatusReply>(reply.value()).value();
}

ClusterMap SimVault::Map() {
  const auto reply =
      AskAgain(*transport_, kCoordinatorAddress, MakeMessage(rpc::kGetMap, proto::GetMapRequest()));
  return DecodeClusterMap(ParseHead<proto::GetMapReply>(reply.value()).value().map()).value();
}

void SimVault::RunFor(int64_t nanos) {
  const int64_t until = clock_.MonotonicNanos() + nanos;
  bool over = false;
  loop_.NewChannel().PostAfter(nanos, [&over] { over = true; });
  loop_.RunUntil([&] { return over || clock_.MonotonicNanos() > until; });
}

bool SimVault::RunUntil(const std::function<bool()>& condition, int64_t nanos) {
  const int64_t until = clock_.MonotonicNanos() + nanos;
  while (!condition()) {
    if (clock_.MonotonicNanos() > until) return false;
    RunFor(1'000'000'000);
  }
  return true;
}

Status SimVault::Close() {
  Status result;
  for (auto& node : nodes_) {
    if (node == nullptr) continue;
    bool done = false;
    node->Close([&](Status status) {
      if (result.ok()) result = status;
      done = true;
    });
    loop_.RunUntil([&] { return done; });
  }
  if (catalogue_ && result.ok()) result = catalogue_->Flush();
  loop_.Clear();
  vault_.reset();
  coordinator_.reset();
  StopClone();
  nodes_.clear();
  catalogue_.reset();
  transport_.reset();
  return result;
}

void SimVault::CrashAndReboot() {
  if (power_.on()) fs_.PowerCut();
  StopClone();
  loop_.Clear();
  vault_.reset();
  coordinator_.reset();
  nodes_.clear();
  catalogue_.reset();
  transport_.reset();
  loop_.Clear();
  fs_.Reboot();
  catalogue_disk_->Crash(rng_);
  for (auto& disk : index_disks_) disk->Crash(rng_);
  power_.CutAfter(uint64_t{1} << 40);
}

Status SimVault::RebuildCatalogue() {
  catalogue_disk_->Wipe();
  RETURN_IF_ERROR(OpenNodes());
  {
    auto catalogue = OpenMemKv(*catalogue_disk_, true);
    CoordinatorEnv env{clock_, rng_, loop_.NewChannel(), *transport_, *catalogue};
    ASSIGN_OR_RETURN(RebuildReport report, holdfast::RebuildCatalogue(coordinator_options(), env));
    if (!report.missing_commits.empty()) return absl::DataLossError("commits are missing");
    RETURN_IF_ERROR(catalogue->Flush());
  }
  return Close();
}

Status SimVault::LoseCatalogue(const Buffer& backup) {
  // The newest map comes from a node's copy of it.
  CoordinatorOptions options = coordinator_options();
  options.map = Map();
  StopCoordinator();
  catalogue_disk_->Wipe();
  return MakeCatalogueAnew(options, backup);
}

Status SimVault::CloneCatalogue(const Buffer& backup) {
  CoordinatorOptions options = coordinator_options();
  options.map = Map();
  StopClone();
  transport_->Detach(kCoordinatorAddress);
  clone_ = std::move(coordinator_);
  clone_catalogue_ = std::move(catalogue_);
  clone_disk_ = std::exchange(catalogue_disk_, std::make_unique<MemKvDisk>());
  transport_->Attach(kCloneAddress, *clone_, loop_.NewChannel());
  return MakeCatalogueAnew(options, backup);
}

void SimVault::StopClone() {
  if (clone_ == nullptr) return;
  if (transport_ != nullptr) transport_->Detach(kCloneAddress);
  clone_.reset();
  clone_catalogue_.reset();
  clone_disk_.reset();
}

Status SimVault::MakeCatalogueAnew(const CoordinatorOptions& options, const Buffer& backup) {
  ++catalogues_;
  StatusOr<RebuildReport> report = absl::UnavailableError("not tried");
  for (int i = 0; i < kAttempts && IsTransient(report.status()); ++i) {
    catalogue_disk_->Wipe();
    auto catalogue = OpenMemKv(*catalogue_disk_, true);
    CoordinatorEnv env{clock_, rng_, loop_.NewChannel(), *transport_, *catalogue};
    report = holdfast::RebuildCatalogue(options, env, /*accept_loss=*/false, backup);
    if (report.ok()) RETURN_IF_ERROR(catalogue->Flush());
  }
  RETURN_IF_ERROR(report.status());
  if (!report->missing_commits.empty()) return absl::DataLossError("commits are missing");
  return StartCoordinator();
}

StatusOr<std::map<RecordId, std::vector<uint32_t>>> SimVault::Held() {
  std::map<RecordId, std::vector<uint32_t>> held;
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    if (nodes_[node] == nullptr) continue;
    proto::NodeListRecordsRequest request;
    request.set_groups(kPlacementGroups);
    request.set_limit(1u << 20);
    do {
      ASSIGN_OR_RETURN(
          const RpcMessage message,
          AskAgain(*transport_, NodeAddress(node), MakeMessage(rpc::kNodeListRecords, request)));
      ASSIGN_OR_RETURN(const auto reply, ParseHead<proto::NodeListRecordsReply>(message));
      for (size_t i = 0; i < reply.states().size(); ++i) {
        if ((reply.states()[i] & (rpc::kRecordTrashed | rpc::kRecordBad)) != 0) continue;
        held[RecordId::FromBytes(
                 AsBytes(reply.ids()).subspan(i * RecordId::kSize, RecordId::kSize))]
            .push_back(node);
      }
      request.set_from(reply.next());
    } while (!request.from().empty());
  }
  return held;
}

StatusOr<Buffer> SimVault::Backup() {
  Buffer backup;
  proto::BackupPageRequest request;
  do {
    ASSIGN_OR_RETURN(const RpcMessage message, AskAgain(*transport_, kCoordinatorAddress,
                                                        MakeMessage(rpc::kBackupPage, request)));
    ASSIGN_OR_RETURN(const auto reply, ParseHead<proto::BackupPageReply>(message));
    const auto append = [&](const Buffer& part) {
      backup.insert(backup.end(), part.begin(), part.end());
    };
    if (backup.empty()) append(EncodeBackupHeader(key_.vault));
    append(EncodeBackupFrame(message.frames.at(0).view));
    request.set_cursor(reply.cursor());
  } while (!request.cursor().empty());
  return backup;
}

StatusOr<proto::GcStartReply> SimVault::GcStart(const proto::GcStartRequest& request, bool clone) {
  const std::string address = clone ? kCloneAddress : kCoordinatorAddress;
  ASSIGN_OR_RETURN(const RpcMessage reply,
                   CallAndWait(*transport_, address, MakeMessage(rpc::kGcStart, request)));
  return ParseHead<proto::GcStartReply>(reply);
}

StatusOr<proto::GcStatusReply> SimVault::GcStatus(bool clone) {
  const std::string address = clone ? kCloneAddress : kCoordinatorAddress;
  ASSIGN_OR_RETURN(
      const RpcMessage reply,
      CallAndWait(*transport_, address, MakeMessage(rpc::kGcStatus, proto::GcStatusRequest())));
  return ParseHead<proto::GcStatusReply>(reply);
}

StatusOr<std::vector<std::string>> SimVault::Damage() {
  std::vector<std::string> damage;
  auto take = [&](const auto& findings) {
    for (const proto::Finding& finding : findings) {
      if (finding.class_() != proto::Finding::NOTE) damage.push_back(finding.text());
    }
  };
  proto::CheckCatalogueRequest catalogue_request;
  do {
    ASSIGN_OR_RETURN(RpcMessage reply,
                     AskAgain(*transport_, kCoordinatorAddress,
                              MakeMessage(rpc::kCheckCatalogue, catalogue_request)));
    ASSIGN_OR_RETURN(auto head, ParseHead<proto::CheckCatalogueReply>(reply));
    take(head.findings());
    catalogue_request.set_cursor(head.cursor());
  } while (!catalogue_request.cursor().empty());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    take(nodes_[i]->findings());
    proto::NodeCheckSegmentRequest request;
    request.set_all_payloads(true);
    do {
      ASSIGN_OR_RETURN(RpcMessage reply,
                       AskAgain(*transport_, NodeAddress(static_cast<uint32_t>(i)),
                                MakeMessage(rpc::kNodeCheckSegment, request)));
      ASSIGN_OR_RETURN(auto head, ParseHead<proto::NodeCheckSegmentReply>(reply));
      take(head.findings());
      request.set_segment_number(head.next_segment_number());
    } while (request.segment_number() != 0);
  }
  return damage;
}

}  // namespace holdfast::sim
