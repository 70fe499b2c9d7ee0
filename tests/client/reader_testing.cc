#include "tests/client/reader_testing.h"

#include <zstd.h>

#include <algorithm>
#include <cassert>

#include "client/object_keys.h"
#include "common/rpc/methods.h"
#include "tests/common/crypto/sealed.h"

namespace holdfast::testing {
namespace {

template <class Head>
Head MustParse(const RpcMessage& request) {
  StatusOr<Head> head = ParseHead<Head>(request);
  assert(head.ok());
  return *std::move(head);
}

std::vector<RecordId> IdsOf(const std::string& bytes) {
  std::vector<RecordId> ids;
  for (size_t at = 0; at < bytes.size(); at += RecordId::kSize) {
    ids.push_back(RecordId::FromBytes(AsBytes(bytes).subspan(at, RecordId::kSize)));
  }
  return ids;
}

bool Matches(const std::string& name, const proto::ListRequest& request) {
  if (!name.starts_with(request.prefix())) return false;
  return !request.by_component() || request.prefix().empty() ||
         name.size() == request.prefix().size() || name[request.prefix().size()] == '/';
}

Buffer ToBuffer(Bytes bytes) { return Buffer(bytes.begin(), bytes.end()); }

}  // namespace

std::string RandomBytes(uint64_t seed, size_t size) {
  SimRng rng(seed);
  std::string bytes(size, '\0');
  rng.Fill({reinterpret_cast<uint8_t*>(bytes.data()), size});
  return bytes;
}

void FakeNode::Handle(RpcMessage request, ReplyFn reply) {
  std::lock_guard lock(mutex);
  if (request.method == rpc::kNodeQuarantine) {
    const auto head = MustParse<proto::NodeQuarantineRequest>(request);
    const RecordId id = RecordId::FromBytes(AsBytes(head.id()));
    const auto found = records.find(id);
    if (found != records.end() &&
        ChecksumOf(found->second) == Checksum::FromBytes(AsBytes(head.checksum()))) {
      quarantined.insert(id);
    }
    return reply(MakeMessage(request.method, proto::NodeQuarantineReply()));
  }
  if (request.method == rpc::kNodeCheckSegment) {
    const auto head = MustParse<proto::NodeCheckSegmentRequest>(request);
    return reply(MakeMessage(request.method, Check(head)));
  }
  proto::NodeGetReply head;
  std::vector<SharedBytes> frames;
  ++get_requests;
  for (const RecordId& id : IdsOf(MustParse<proto::NodeGetRequest>(request).ids())) {
    ++gets;
    proto::RecordAnswer& answer = *head.add_answers();
    const auto found = records.find(id);
    if (found == records.end() || quarantined.contains(id)) {
      answer.set_status(proto::MISSING);
      frames.emplace_back();
    } else if (corrupt.contains(id)) {
      answer.set_status(proto::CORRUPT);
      frames.emplace_back();
    } else {
      answer.set_status(proto::PRESENT);
      answer.set_checksum(ToString(ChecksumOf(found->second).bytes()));
      frames.push_back(SharedBytes::Own(found->second));
    }
  }
  RpcMessage message = MakeMessage(request.method, head);
  message.frames = std::move(frames);
  reply(std::move(message));
}

proto::NodeCheckSegmentReply FakeNode::Check(const proto::NodeCheckSegmentRequest& request) {
  proto::NodeCheckSegmentReply reply;
  auto at = segments.lower_bound(request.segment_number());
  if (at == segments.end()) return reply;
  if (!request.only() || at->first == request.segment_number()) {
    checked.push_back(at->first);
    for (const proto::Finding& finding : at->second) *reply.add_findings() = finding;
    ++at;
  }
  if (at != segments.end()) reply.set_next_segment_number(at->first);
  return reply;
}

void FakeCoordinator::Handle(RpcMessage request, ReplyFn reply) {
  std::lock_guard lock(mutex);
  reply(Answer(request));
}

StatusOr<RpcMessage> FakeCoordinator::Answer(const RpcMessage& request) {
  switch (request.method) {
    case rpc::kGetMap: {
      proto::GetMapReply head;
      head.set_map(EncodeClusterMap(map));
      return MakeMessage(request.method, head);
    }
    case rpc::kListCollections: {
      proto::ListCollectionsReply head;
      for (const auto& [name, objects] : collections) head.add_collections()->set_name(name);
      return MakeMessage(request.method, head);
    }
    case rpc::kList:
      return List(request);
    case rpc::kLookup: {
      const auto head = MustParse<proto::LookupRequest>(request);
      const auto& objects = collections[head.collection()];
      const auto found = objects.find(head.name());
      if (found == objects.end()) return absl::NotFoundError("no such object");
      proto::LookupReply answer;
      answer.mutable_object()->set_row(Encode(found->second.front()));
      return MakeMessage(request.method, answer);
    }
    case rpc::kGetSignature: {
      const auto head = MustParse<proto::GetSignatureRequest>(request);
      if (!signatures.contains(head.commit_number())) return absl::NotFoundError("none");
      proto::GetSignatureReply answer;
      answer.set_row(Encode(signatures[head.commit_number()]));
      return MakeMessage(request.method, answer);
    }
    case rpc::kGetSealingKey: {
      const auto head = MustParse<proto::GetSealingKeyRequest>(request);
      if (!sealing_keys.contains(head.id())) return absl::NotFoundError("none");
      proto::GetSealingKeyReply answer;
      answer.set_box(sealing_keys[head.id()]);
      return MakeMessage(request.method, answer);
    }
    case rpc::kGetPart: {
      const auto head = MustParse<proto::GetPartRequest>(request);
      const auto found = parts.find({head.version(), head.index()});
      if (found == parts.end()) return absl::NotFoundError("none");
      RpcMessage answer = MakeMessage(request.method, proto::GetPartReply());
      answer.frames = {SharedBytes::Own(found->second.clear),
                       SharedBytes::Own(found->second.sealed), SharedBytes::Own(Buffer(32))};
      return answer;
    }
    default:
      return absl::InvalidArgumentError("not faked");
  }
}

StatusOr<RpcMessage> FakeCoordinator::List(const RpcMessage& request) {
  RETURN_IF_ERROR(list_error);
  const auto head = MustParse<proto::ListRequest>(request);
  const auto found = collections.find(head.collection());
  if (found == collections.end()) return absl::NotFoundError("no such collection");
  proto::ListReply answer;
  const uint32_t limit = std::min<uint32_t>(head.limit(), 3);  // Pages small enough to matter.
  uint32_t names = 0;
  for (auto it = found->second.upper_bound(head.after()); it != found->second.end(); ++it) {
    if (!Matches(it->first, head)) continue;
    if (names++ == limit) {
      answer.set_more(true);
      break;
    }
    for (size_t i = 0; i < (head.all_versions() ? it->second.size() : 1); ++i) {
      proto::ObjectEntry& entry = *answer.add_objects();
      entry.set_name(it->first);
      entry.set_version_number(it->second[i].version_number);
      if (head.with_rows()) entry.set_row(Encode(it->second[i]));
    }
  }
  return MakeMessage(request.method, answer);
}

TestVault::TestVault(const TestVaultOptions& options)
    : options_(options),
      key_(*GenerateKeyFile(SecureRng(), SecureRng().NewId<VaultId>())),
      transport_(NewInProcessTransport()) {
  coordinator_.map.replicas = options.replicas;
  for (uint32_t i = 0; i < options.nodes; ++i) {
    coordinator_.map.nodes.push_back({.number = i,
                                      .id = SecureRng().NewId<NodeId>(),
                                      .failure_domain = "disk" + std::to_string(i)});
    nodes_.push_back(std::make_unique<FakeNode>());
    loops_.push_back(NewThreadLoop("node"));
    transport_->Attach(NodeAddress(i), *nodes_.back(), *loops_.back());
  }
  ComputePlacement(coordinator_.map);
  loops_.push_back(NewThreadLoop("coordinator"));
  transport_->Attach(kCoordinatorAddress, coordinator_, *loops_.back());
  vault_ = VaultWith(key_);
  engine_ = kernels::MakePortableEngine(vault_->engine_options());
}

TestVault::~TestVault() {
  transport_->Detach(kCoordinatorAddress);
  for (uint32_t i = 0; i < nodes_.size(); ++i) transport_->Detach(NodeAddress(i));
  loops_.clear();
}

std::unique_ptr<Vault> TestVault::VaultWith(KeyFile key) {
  const VaultParams params{.domain = key_.domain, .chunk_size = options_.chunk_size};
  return std::make_unique<Vault>(*transport_, std::move(key), params, SystemClock(), SecureRng());
}

void TestVault::Put(const RecordId& id, Buffer stored) {
  for (uint32_t node : Holders(id)) nodes_[node]->records.try_emplace(id, stored);
}

void TestVault::StoreParts(ClearManifest& clear, const AeadKey& object_key,
                           const std::vector<SealedChunkInfo>& infos) {
  const auto count = static_cast<uint32_t>((infos.size() + kChunksPerPart - 1) / kChunksPerPart);
  const AeadKey part_key = DeriveCatalogueKeys(key_.catalogue_key).parts;
  for (uint32_t i = 0; i < count; ++i) {
    const size_t begin = i * kChunksPerPart, n = std::min(kChunksPerPart, infos.size() - begin);
    PartRecord part{EncodePartClear(std::span(clear.chunks).subspan(begin, n)),
                    SealPart(object_key, key_.domain, clear.version, i, count,
                             std::span(infos).subspan(begin, n))};
    const RecordId id = PartId(clear.version, i);
    Put(id, EncodePartRecord(part_key, id, part.clear, part.sealed, AeadNonce{}));
    clear.parts.push_back({id, Sha256({part.clear, part.sealed})});
    coordinator_.parts[{ToString(clear.version.bytes()), i}] = std::move(part);
  }
  clear.chunks.clear();
}

TestVault::SessionKey TestVault::NewSessionKey() {
  SessionKey session{.id = SecureRng().NewId<SealingKeyId>()};
  SecureRng().Fill(session.key);
  coordinator_.sealing_keys[ToString(session.id.bytes())] =
      ToString(*SealSealingKey(key_.domain_public_key, key_.domain, session.id, session.key));
  return session;
}

ClearManifest TestVault::Store(const TestObject& object, const SessionKey& session) {
  const DomainKeys& keys = vault_->domain_keys();
  kernels::DigestState state;
  state.Reset();
  kernels::Batch batch;
  batch.messages.push_back({.data = AsBytes(object.content), .last = true, .state = &state});
  engine_->Submit(batch, [](kernels::Status s) { assert(s == kernels::Status::kOk); });
  const kernels::Message& cut = batch.messages[0];

  ClearManifest clear{.name = object.name, .type = object.type};
  clear.version = SecureRng().NewId<VersionId>();
  clear.time_nanos = 1;
  clear.chunk_count = cut.chunks.size();
  clear.tag_sha256 = keys.Tag(DigestAlgorithm::kSha256, cut.result.sha256);
  SealedManifest sealed{.size = object.content.size(),
                        .sha256 = cut.result.sha256,
                        .attributes = object.attributes,
                        .link = object.link};
  if (object.legacy_digests) {
    sealed.sha1 = cut.result.sha1;
    sealed.md5 = cut.result.md5;
  }
  std::vector<SealedChunkInfo> infos;
  size_t at = 0;
  for (const kernels::Chunk& chunk : cut.chunks) {
    Buffer payload = ToBuffer(AsBytes(object.content).subspan(at, chunk.length));
    at += chunk.length;
    if (object.codec == Codec::kZstd) {
      Buffer packed(ZSTD_compressBound(payload.size()));
      packed.resize(ZSTD_compress(packed.data(), packed.size(), payload.data(), payload.size(), 1));
      payload = std::move(packed);
    }
    const Hash256 h = keys.ChunkSecret(chunk.sha256, chunk.length, chunk.poly1305);
    const RecordId id = ChunkIdOf(h);
    Buffer stored = Sealed(h, id, object.codec, payload);
    clear.chunks.push_back({id, static_cast<uint32_t>(stored.size())});
    infos.push_back({h, chunk.length});
    Put(id, std::move(stored));
  }
  AeadKey object_key;
  AeadNonce nonce;
  SecureRng().Fill(object_key);
  SecureRng().Fill(nonce);
  if (infos.size() > kChunksPerPart) {
    StoreParts(clear, object_key, infos);
  } else {
    sealed.chunks = infos;
  }
  clear.sealing_key = session.id;
  clear.wrapped_key = WrapObjectKey(session.key, nonce, key_.domain, clear.version, object_key);
  clear.sealed = SealManifest(object_key, key_.domain, clear.version, sealed, nonce);
  return clear;
}

void TestVault::Commit(const std::string& collection, const std::vector<TestObject>& objects,
                       const KeyFile* signer) {
  if (signer == nullptr) signer = &key_;
  SignatureRow signature;
  signature.signer_public_key = ToBuffer(signer->signing_key.public_key);
  signature.certificate = signer->certificate;
  ++commits_;
  const SessionKey session = NewSessionKey();
  for (const TestObject& object : objects) {
    ObjectRow row;
    row.manifest = EncodeClearManifest(Store(object, session));
    row.commit_number = commits_;
    row.leaf_index = static_cast<uint32_t>(signature.leaves.size());
    std::vector<ObjectRow>& versions = coordinator_.collections[collection][object.name];
    row.version_number = versions.size() + 1;
    signature.leaves.push_back(ManifestLeaf(key_.domain, collection, row.manifest));
    versions.insert(versions.begin(), std::move(row));
  }
  signature.signature =
      *Sign(signer->signing_key, SignatureMessage(key_.domain, MerkleRoot(signature.leaves)));
  coordinator_.signatures[commits_] = std::move(signature);
}

std::vector<RecordId> TestVault::RecordsOf(const std::string& collection, const std::string& name,
                                           bool parts) {
  const ClearManifest manifest = *DecodeClearManifest(Row(collection, name).manifest);
  std::vector<RecordId> ids;
  for (const ChunkRef& chunk : manifest.chunks) {
    if (!parts) ids.push_back(chunk.id);
  }
  for (const PartRef& part : manifest.parts) {
    if (parts) ids.push_back(part.id);
  }
  return ids;
}

void TestVault::Tamper(size_t node, const RecordId& id) {
  std::lock_guard lock(nodes_[node]->mutex);
  Buffer& stored = nodes_[node]->records.at(id);
  stored[stored.size() / 2] ^= 1;
}

}  // namespace holdfast::testing
