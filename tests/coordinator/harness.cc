#include "tests/coordinator/harness.h"

#include "absl/strings/str_cat.h"
#include "common/format/backup.h"

namespace holdfast {

TestVault::TestVault(Options options)
    : cluster_(options.cluster),
      rng_(options.seed),
      loop_(clock_, rng_),
      node_loop_(loop_.NewChannel()),
      transport_(NewSimTransport(loop_, rng_, options.network)),
      fs_(options.seed),
      signer_(GenerateKeyPair()) {
  options_.gc_dir = "gc";
  options_.vault = rng_.NewId<VaultId>();
  options_.domain = rng_.NewId<DomainId>();
  std::array<uint8_t, 32> key;
  rng_.Fill(key);
  options_.keys = DeriveCatalogueKeys(key);
  options_.map.replicas = options.replicas;
  sealing_key_ = rng_.NewId<SealingKeyId>();
  for (uint32_t i = 0; i < options.nodes; ++i) {
    options_.map.nodes.push_back({i, rng_.NewId<NodeId>(), 1, absl::StrCat("disk", i)});
    nodes_.emplace_back();
    transport_->Attach(NodeAddress(i), nodes_.back(), node_loop_);
  }
  ComputePlacement(options_.map);
}

TestVault::~TestVault() { Close(); }

std::unique_ptr<Kv> TestVault::OpenKv() { return OpenMemKv(disk_, /*wal=*/true); }

CoordinatorEnv TestVault::Env() {
  coordinator_loop_ = &loop_.NewChannel();
  return {clock_, rng_, *coordinator_loop_, *transport_, *kv_, cluster_ ? &access_ : nullptr, &fs_};
}

Status TestVault::Open() {
  kv_ = std::make_unique<HookedKv>(OpenKv());
  if (!formatted_) {
    if (cluster_) {
      CoordinatorOptions options = options_;
      options.map.nodes.clear();
      ComputePlacement(options.map);
      RETURN_IF_ERROR(Coordinator::FormatCluster(options, {.key = {{1}}, .roles = 7}, *kv_));
    } else {
      RETURN_IF_ERROR(Coordinator::Format(options_, *kv_, clock_));
    }
    formatted_ = true;
  }
  ASSIGN_OR_RETURN(coordinator_, Coordinator::Open(options_, Env()));
  transport_->Attach(kCoordinatorAddress, *coordinator_, *coordinator_loop_);
  return absl::OkStatus();
}

void TestVault::Crash() {
  transport_->Detach(kCoordinatorAddress);
  loop_.Clear();
  coordinator_.reset();
  kv_.reset();
  disk_.Crash(rng_);
}

void TestVault::Close() {
  transport_->Detach(kCoordinatorAddress);
  coordinator_.reset();
  kv_.reset();
}

StatusOr<Buffer> TestVault::Backup(const std::function<void()>& between) {
  Buffer file = EncodeBackupHeader(options_.vault);
  proto::BackupPageRequest request;
  do {
    ASSIGN_OR_RETURN(RpcMessage message, Send(MakeMessage(rpc::kBackupPage, request)));
    ASSIGN_OR_RETURN(auto reply, ParseHead<proto::BackupPageReply>(message));
    const Buffer frame = EncodeBackupFrame(message.frames.at(0).view);
    file.insert(file.end(), frame.begin(), frame.end());
    request.set_cursor(reply.cursor());
    between();
  } while (!request.cursor().empty());
  return file;
}

StatusOr<RebuildReport> TestVault::Rebuild(Bytes backup) {
  Close();
  disk_.Wipe();
  kv_ = std::make_unique<HookedKv>(OpenKv());
  auto report = RebuildCatalogue(options_, Env(), /*accept_loss=*/false, backup);
  kv_.reset();
  return report;
}

StatusOr<RpcMessage> TestVault::Send(RpcMessage message) {
  // Longer than a commit waits for nodes.
  return CallAndWait(*transport_, kCoordinatorAddress, std::move(message), kChangeNanos);
}

TestVault::Slot TestVault::SendLater(RpcMessage message) {
  auto slot = std::make_shared<std::optional<StatusOr<RpcMessage>>>();
  transport_->Call(kCoordinatorAddress, std::move(message), 120'000'000'000,
                   [slot](StatusOr<RpcMessage> reply) { *slot = std::move(reply); });
  return slot;
}

void TestVault::RunFor(int64_t nanos) {
  // A timer of the test's own makes sure that time moves on.
  bool over = false;
  loop_.NewChannel().PostAfter(nanos, [&] { over = true; });
  loop_.RunUntil([&] { return over; });
}

SessionId TestVault::MustOpenSession() {
  proto::OpenSessionRequest request;
  SessionId id = rng_.NewId<SessionId>();
  request.set_domain(ToString(options_.domain.bytes()));
  request.set_session(ToString(id.bytes()));
  for (int i = 0; i < 20; ++i) {
    auto reply = Rpc<proto::OpenSessionReply>(rpc::kOpenSession, request);
    if (reply.ok()) return id;
  }
  ADD_FAILURE() << "no session";
  return id;
}

Status TestVault::CloseSession(const SessionId& session, bool abort) {
  proto::CloseSessionRequest request;
  request.set_session(ToString(session.bytes()));
  request.set_abort(abort);
  return Rpc<proto::CloseSessionReply>(rpc::kCloseSession, request).status();
}

ClearManifest TestVault::MakeManifest(const TestObject& object) {
  ClearManifest m;
  m.name = object.name;
  m.type = object.type;
  m.version = rng_.NewId<VersionId>();
  m.time_nanos = clock_.WallNanos();
  m.tag_sha256 = ObjectTag{Sha256(AsBytes(object.content))};
  m.sealing_key = sealing_key_;
  m.wrapped_key = Buffer(60, 7);
  m.sealed = Buffer(100, 9);
  m.chunk_count = object.chunks;
  for (uint64_t i = 0; i < object.chunks && object.chunks <= kChunksPerPart; ++i) {
    Buffer payload(32, static_cast<uint8_t>(i));
    RecordId id{Sha256({AsBytes(object.content), AsBytes(absl::StrCat(i))})};
    m.chunks.push_back({id, static_cast<uint32_t>(payload.size())});
    for (uint32_t node : ActingSet(options_.map, id)) {
      nodes_[node].records[id] = {1, 0, 1, payload, false};
    }
  }
  return m;
}

proto::CommitRequest TestVault::MakeCommitOf(const SessionId& session,
                                             const std::string& collection,
                                             const std::vector<ClearManifest>& manifests) {
  proto::CommitRequest request;
  Buffer id(16);
  rng_.Fill(id);
  request.set_session(ToString(session.bytes()));
  request.set_request(ToString(id));
  request.set_domain(ToString(options_.domain.bytes()));
  request.set_collection(collection);
  request.set_map_version(options_.map.version);
  for (const ClearManifest& m : manifests) request.add_manifests(ToString(EncodeClearManifest(m)));
  proto::NewSealingKey& key = *request.add_sealing_keys();
  key.set_id(ToString(sealing_key_.bytes()));
  key.set_box("a sealing key in its box");
  Sign(request);
  return request;
}

proto::CommitRequest TestVault::MakeCommit(const SessionId& session, const std::string& collection,
                                           const std::vector<TestObject>& objects) {
  std::vector<ClearManifest> manifests;
  for (const TestObject& object : objects) manifests.push_back(MakeManifest(object));
  return MakeCommitOf(session, collection, manifests);
}

void TestVault::Sign(proto::CommitRequest& request) {
  request.set_signer_public_key(ToString(signer_.public_key));
  request.set_certificate("certificate");
  if (request.manifests_size() == 0) return;
  std::vector<Hash256> leaves;
  for (const std::string& m : request.manifests()) {
    leaves.push_back(ManifestLeaf(options_.domain, request.collection(), AsBytes(m)));
  }
  Buffer message = SignatureMessage(options_.domain, MerkleRoot(leaves));
  request.set_signature(ToString(*holdfast::Sign(signer_, message)));
}

StatusOr<proto::CommitReply> TestVault::Store(const std::string& collection,
                                              const std::vector<TestObject>& objects) {
  SessionId session = MustOpenSession();
  auto reply = Commit(MakeCommit(session, collection, objects));
  EXPECT_TRUE(CloseSession(session).ok());
  return reply;
}

std::vector<std::string> TestVault::Names(proto::ListRequest request) {
  std::vector<std::string> names;
  for (bool more = true; more;) {
    auto page = Insist<proto::ListReply>(rpc::kList, request);
    EXPECT_TRUE(page.ok()) << page.status();
    if (!page.ok()) break;
    for (const auto& object : page->objects()) names.push_back(object.name());
    more = page->more();
    if (page->objects_size() == 0) break;
    request.set_after(names.back());
  }
  return names;
}

std::string TestVault::EverythingVisible() {
  std::string all;
  auto collections =
      Insist<proto::ListCollectionsReply>(rpc::kListCollections, proto::ListCollectionsRequest());
  EXPECT_TRUE(collections.ok());
  std::set<uint64_t> commits;
  for (const auto& collection : collections->collections()) {
    collection.AppendToString(&all);
    proto::ListRequest request;
    request.set_collection(collection.name());
    request.set_with_rows(true);
    request.set_all_versions(true);
    request.set_limit(7);
    for (bool more = true; more;) {
      auto page = Insist<proto::ListReply>(rpc::kList, request);
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok()) break;
      for (const auto& object : page->objects()) {
        object.AppendToString(&all);
        commits.insert(DecodeObjectRow(object.row())->commit_number);
        request.set_after(object.name());
      }
      more = page->more();
    }
  }
  for (uint64_t commit : commits) {
    proto::GetSignatureRequest request;
    request.set_commit_number(commit);
    auto row = Insist<proto::GetSignatureReply>(rpc::kGetSignature, request);
    EXPECT_TRUE(row.ok()) << row.status();
    if (row.ok()) all += row->row();
  }
  proto::GetSealingKeyRequest request;
  request.set_id(ToString(sealing_key_.bytes()));
  auto key = Insist<proto::GetSealingKeyReply>(rpc::kGetSealingKey, request);
  if (key.ok()) all += key->box();
  return all;
}

proto::VaultStatusReply TestVault::VaultStatus() {
  auto reply = Insist<proto::VaultStatusReply>(rpc::kVaultStatus, proto::VaultStatusRequest());
  EXPECT_TRUE(reply.ok()) << reply.status();
  return reply.ok() ? *reply : proto::VaultStatusReply();
}

std::vector<proto::Finding> TestVault::Fsck() {
  std::vector<proto::Finding> findings;
  proto::CheckCatalogueRequest request;
  do {
    auto reply = Insist<proto::CheckCatalogueReply>(rpc::kCheckCatalogue, request);
    EXPECT_TRUE(reply.ok()) << reply.status();
    if (!reply.ok()) break;
    for (const auto& finding : reply->findings()) findings.push_back(finding);
    request.set_cursor(reply->cursor());
  } while (!request.cursor().empty());
  return findings;
}

std::string Texts(const std::vector<proto::Finding>& findings) {
  std::string text;
  for (const auto& finding : findings) text += finding.text() + "\n";
  return text;
}

}  // namespace holdfast
