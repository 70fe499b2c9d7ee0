#include "client/vault.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "client/lru_cache.h"
#include "client/object_keys.h"
#include "common/base/text.h"
#include "common/cluster/routes.h"
#include "common/format/segment_format.h"
#include "common/rpc/methods.h"

namespace holdfast {
namespace {

// Requests are repeated this often when no reply comes: each has one effect.
constexpr int kAttempts = 3;
constexpr int64_t kUnavailableNanos = 60 * kSecond;  // Until such a node is tried first again.
constexpr size_t kSignaturesKept = 512;              // Of up to 64 KiB each.
constexpr size_t kSealingKeysKept = 4096;

ObjectInfo DecodeEntry(proto::ObjectEntry& entry) {
  ObjectInfo info;
  info.collection = std::move(*entry.mutable_collection());
  info.name = std::move(*entry.mutable_name());
  info.row.version_number = entry.version_number();
  if (entry.row().empty()) return info;
  // A row that does not decode leaves an empty manifest, which OpenObject refuses by name, so that
  // one bad row does not end a listing.
  StatusOr<ObjectRow> row = DecodeObjectRow(entry.row());
  if (!row.ok()) return info;
  info.row = *std::move(row);
  StatusOr<ClearManifest> manifest = DecodeClearManifest(info.row.manifest);
  if (manifest.ok()) info.manifest = *std::move(manifest);
  return info;
}

uint64_t PartsFor(uint64_t chunks) {
  return chunks <= kChunksPerPart ? 0 : (chunks + kChunksPerPart - 1) / kChunksPerPart;
}

// Sum of the lengths; nothing when one of them cannot be.
std::optional<uint64_t> TotalLength(std::span<const SealedChunkInfo> chunks) {
  uint64_t total = 0;
  for (const SealedChunkInfo& chunk : chunks) {
    if (chunk.length == 0 || chunk.length > kMaxPayload) return std::nullopt;
    total += chunk.length;
  }
  return total;
}

// What the signed clear part and the sealed part say of each other.
Status CheckConsistent(const ClearManifest& manifest, const SealedManifest& sealed) {
  const bool content = manifest.type == ObjectType::kFile || manifest.type == ObjectType::kHardLink;
  const bool counts =
      content ? (manifest.chunk_count == 0) == (sealed.size == 0) : manifest.chunk_count == 0;
  if (!counts || manifest.parts.size() != PartsFor(manifest.chunk_count)) {
    return absl::DataLossError("its manifest contradicts itself (chunk count)");
  }
  const uint64_t listed = manifest.parts.empty() ? manifest.chunk_count : 0;
  if (manifest.chunks.size() != listed || sealed.chunks.size() != listed) {
    return absl::DataLossError("its manifest contradicts itself (chunk lists)");
  }
  if (content && manifest.parts.empty() && TotalLength(sealed.chunks) != sealed.size) {
    return absl::DataLossError("its manifest contradicts itself (size)");
  }
  return absl::OkStatus();
}

}  // namespace

// The leaves that a certified ingest key signed.
struct Vault::Signed {
  std::vector<Hash256> leaves;
};

struct Vault::Caches {
  std::mutex mutex;
  std::shared_ptr<const ClusterMap> map;
  absl::flat_hash_map<uint32_t, int64_t> unavailable;  // Node → when it did not answer.
  LruCache<uint64_t, std::shared_ptr<const Signed>> signatures{kSignaturesKept};
  LruCache<SealingKeyId, AeadKey> sealing_keys{kSealingKeysKept};
};

std::string DisplayName(const ObjectInfo& info) {
  return absl::StrCat(Printable(info.collection), "/", Printable(info.name));
}

Vault::Vault(Transport& transport, KeyFile key, VaultParams params, Clock& clock, Rng& rng)
    : transport_(transport),
      key_(std::move(key)),
      domain_keys_(key_.k_dedup),
      params_(params),
      clock_(clock),
      rng_(rng),
      caches_(std::make_unique<Caches>()) {}

Vault::~Vault() = default;

kernels::EngineOptions Vault::engine_options() const {
  return {.cut = kernels::MakeCutParams(params_.chunk_size, domain_keys_.cut_seed()),
          .poly1305_key = domain_keys_.poly1305_key()};
}

StatusOr<RpcMessage> Vault::Ask(const RpcMessage& request, int64_t timeout_nanos) {
  StatusOr<RpcMessage> reply = absl::UnavailableError("");
  for (int i = 0; i < kAttempts && absl::IsUnavailable(reply.status()); ++i) {
    reply = CallAndWait(transport_, kCoordinatorAddress, request, timeout_nanos);
  }
  return reply;
}

StatusOr<ClusterMap> Vault::Map() {
  ASSIGN_OR_RETURN(RpcMessage reply, Ask(MakeMessage(rpc::kGetMap, proto::GetMapRequest())));
  ASSIGN_OR_RETURN(auto head, ParseHead<proto::GetMapReply>(reply));
  ASSIGN_OR_RETURN(ClusterMap map, DecodePlacedMap(head.map()));
  RouteNodes(transport_, map);
  std::lock_guard lock(caches_->mutex);
  caches_->map = std::make_shared<const ClusterMap>(map);
  return map;
}

StatusOr<std::shared_ptr<const ClusterMap>> Vault::CachedMap() {
  {
    std::lock_guard lock(caches_->mutex);
    if (caches_->map != nullptr) return caches_->map;
  }
  RETURN_IF_ERROR(Map().status());
  std::lock_guard lock(caches_->mutex);
  return caches_->map;
}

void Vault::NoteUnavailable(uint32_t node) {
  std::lock_guard lock(caches_->mutex);
  caches_->unavailable[node] = clock_.MonotonicNanos();
}

bool Vault::WasUnavailable(uint32_t node) {
  std::lock_guard lock(caches_->mutex);
  auto it = caches_->unavailable.find(node);
  return it != caches_->unavailable.end() &&
         clock_.MonotonicNanos() - it->second < kUnavailableNanos;
}

std::vector<uint32_t> Vault::ReadOrder(const ClusterMap& map, const RecordId& id) {
  std::vector<uint32_t> nodes = ActingSet(map, id);
  std::stable_partition(nodes.begin(), nodes.end(),
                        [&](uint32_t node) { return !WasUnavailable(node); });
  return nodes;
}

StatusOr<std::vector<proto::CollectionEntry>> Vault::ListCollections() {
  ASSIGN_OR_RETURN(RpcMessage reply,
                   Ask(MakeMessage(rpc::kListCollections, proto::ListCollectionsRequest())));
  ASSIGN_OR_RETURN(auto head, ParseHead<proto::ListCollectionsReply>(reply));
  return std::vector<proto::CollectionEntry>(head.collections().begin(), head.collections().end());
}

StatusOr<Vault::Page> Vault::List(const std::string& collection, const ListOptions& options,
                                  const std::string& after) {
  proto::ListRequest request;
  request.set_collection(collection);
  request.set_prefix(options.prefix);
  request.set_by_component(options.by_component);
  request.set_after(after);
  request.set_limit(options.limit);
  request.set_with_rows(options.with_manifests);
  request.set_all_versions(options.all_versions);
  ASSIGN_OR_RETURN(RpcMessage reply, Ask(MakeMessage(rpc::kList, request)));
  ASSIGN_OR_RETURN(auto head, ParseHead<proto::ListReply>(reply));
  Page page;
  page.more = head.more();
  page.objects.reserve(head.objects_size());
  for (proto::ObjectEntry& entry : *head.mutable_objects()) {
    entry.set_collection(collection);
    page.objects.push_back(DecodeEntry(entry));
  }
  // Without a name to go on from, the next page would be this one again.
  if (page.more && page.objects.empty()) {
    return absl::InternalError("the coordinator gave an empty page of a listing that goes on");
  }
  return page;
}

StatusOr<ObjectInfo> Vault::Lookup(const std::string& collection, const std::string& name) {
  proto::LookupRequest request;
  request.set_collection(collection);
  request.set_name(name);
  ASSIGN_OR_RETURN(RpcMessage reply, Ask(MakeMessage(rpc::kLookup, request)));
  ASSIGN_OR_RETURN(auto head, ParseHead<proto::LookupReply>(reply));
  // What was asked for, not what came back: OpenObject compares the signed manifest with it.
  head.mutable_object()->set_collection(collection);
  head.mutable_object()->set_name(name);
  return DecodeEntry(*head.mutable_object());
}

StatusOr<Vault::Removed> Vault::Remove(const std::string& collection, const std::string& name,
                                       const RemoveOptions& options) {
  proto::RemoveRequest request;
  request.set_collection(collection);
  request.set_name(name);
  if (!options.version.is_zero()) request.set_version(ToString(options.version.bytes()));
  request.set_recursive(options.recursive);
  request.set_undo(options.undo);
  request.set_now(options.now);
  Removed removed;
  do {
    Buffer id(16);
    rng_.Fill(id);
    request.set_request(ToString(id));
    ASSIGN_OR_RETURN(RpcMessage reply, Ask(MakeMessage(rpc::kRemove, request), kChangeNanos));
    ASSIGN_OR_RETURN(auto head, ParseHead<proto::RemoveReply>(reply));
    removed.objects += head.objects();
    removed.versions += head.versions();
    request.set_after(head.after());
  } while (!request.after().empty());
  if (options.undo && removed.versions == 0) {
    return absl::NotFoundError(
        absl::StrCat("nothing of ", Printable(collection), "/", Printable(name), " is removed"));
  }
  return removed;
}

StatusOr<Vault::TrashPage> Vault::ListRemoved(const std::string& collection,
                                              const std::string& prefix, const std::string& from) {
  proto::ListRequest request;
  request.set_removed(true);
  request.set_collection(collection);
  request.set_prefix(prefix);
  request.set_after(from);
  ASSIGN_OR_RETURN(RpcMessage reply, Ask(MakeMessage(rpc::kList, request)));
  ASSIGN_OR_RETURN(auto head, ParseHead<proto::ListReply>(reply));
  TrashPage page;
  if (head.more()) page.next = head.next();
  for (proto::ObjectEntry& entry : *head.mutable_objects()) {
    page.objects.push_back(DecodeEntry(entry));
  }
  return page;
}

StatusOr<Vault::OpenedObject> Vault::OpenObject(ObjectInfo info) {
  OpenedObject object;
  object.info = std::move(info);
  Status status = Open(object);
  if (!status.ok()) return Annotate(status, DisplayName(object.info));
  return object;
}

Status Vault::Open(OpenedObject& object) {
  if (!key_.can_read()) {
    return absl::PermissionDeniedError(
        "this key can ingest and list, but not read; use the vault's full key file");
  }
  RETURN_IF_ERROR(CheckSigned(object.info));
  const ClearManifest& manifest = object.info.manifest;
  ASSIGN_OR_RETURN(AeadKey sealing_key, SealingKey(manifest.sealing_key));
  ASSIGN_OR_RETURN(object.object_key, UnwrapObjectKey(sealing_key, params_.domain, manifest.version,
                                                      manifest.wrapped_key));
  ASSIGN_OR_RETURN(object.sealed, OpenManifest(object.object_key, params_.domain, manifest.version,
                                               manifest.sealed));
  return CheckConsistent(manifest, object.sealed);
}

Status Vault::CheckSigned(const ObjectInfo& info) {
  if (info.manifest.name.empty()) {
    return absl::DataLossError("the catalogue's row for it does not decode");
  }
  if (info.manifest.name != info.name) {
    return absl::DataLossError(absl::StrCat("the catalogue gives the manifest of another object, ",
                                            Printable(info.manifest.name), ", under this name"));
  }
  const Hash256 leaf = ManifestLeaf(params_.domain, info.collection, info.row.manifest);
  const auto covers = [&](const Signed& signature) {
    return info.row.leaf_index < signature.leaves.size() &&
           signature.leaves[info.row.leaf_index] == leaf;
  };
  const uint64_t commit = info.row.commit_number;
  ASSIGN_OR_RETURN(auto signature, SignatureOf(commit));
  if (covers(*signature)) return absl::OkStatus();
  // A commit that no node had taken is gone with its catalogue, and its number is another's now.
  ASSIGN_OR_RETURN(signature, FetchSignature(commit));
  if (covers(*signature)) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("its manifest is not what was signed in commit ", commit));
}

StatusOr<std::shared_ptr<const Vault::Signed>> Vault::SignatureOf(uint64_t commit_number) {
  {
    std::lock_guard lock(caches_->mutex);
    if (auto* found = caches_->signatures.Find(commit_number)) return *found;
  }
  return FetchSignature(commit_number);
}

StatusOr<std::shared_ptr<const Vault::Signed>> Vault::FetchSignature(uint64_t commit_number) {
  proto::GetSignatureRequest request;
  request.set_commit_number(commit_number);
  StatusOr<RpcMessage> reply = Ask(MakeMessage(rpc::kGetSignature, request));
  if (absl::IsNotFound(reply.status())) {
    return absl::DataLossError(absl::StrCat("the signature of commit ", commit_number, " is gone"));
  }
  if (!reply.ok()) return reply.status();
  ASSIGN_OR_RETURN(auto head, ParseHead<proto::GetSignatureReply>(*reply));
  ASSIGN_OR_RETURN(SignatureRow row, DecodeSignatureRow(head.row()));
  PublicKey signer{};
  const bool certified =
      row.signer_public_key.size() == signer.size() &&
      (std::copy(row.signer_public_key.begin(), row.signer_public_key.end(), signer.begin()),
       CheckCertificate(key_, signer, row.certificate));
  if (!certified || row.leaves.empty() ||
      !VerifySignature(signer, SignatureMessage(params_.domain, MerkleRoot(row.leaves)),
                       row.signature)) {
    return absl::DataLossError(absl::StrCat("the signature of commit ", commit_number,
                                            " is not by an ingest key of this vault"));
  }
  auto checked = std::make_shared<const Signed>(Signed{std::move(row.leaves)});
  std::lock_guard lock(caches_->mutex);
  caches_->signatures.Insert(commit_number, checked);
  return checked;
}

StatusOr<AeadKey> Vault::SealingKey(const SealingKeyId& id) {
  {
    std::lock_guard lock(caches_->mutex);
    if (const AeadKey* found = caches_->sealing_keys.Find(id)) return *found;
  }
  proto::GetSealingKeyRequest request;
  request.set_id(ToString(id.bytes()));
  StatusOr<RpcMessage> reply = Ask(MakeMessage(rpc::kGetSealingKey, request));
  if (absl::IsNotFound(reply.status())) {
    return absl::DataLossError(absl::StrCat("its sealing key ", id.hex(), " is gone"));
  }
  if (!reply.ok()) return reply.status();
  ASSIGN_OR_RETURN(auto head, ParseHead<proto::GetSealingKeyReply>(*reply));
  const KeyPair pair{key_.domain_public_key, *key_.domain_private_key};
  StatusOr<AeadKey> key = OpenSealingKey(pair, params_.domain, id, AsBytes(head.box()));
  if (!key.ok()) {
    return absl::DataLossError(
        absl::StrCat("its sealing key ", id.hex(), ": ", key.status().message()));
  }
  std::lock_guard lock(caches_->mutex);
  caches_->sealing_keys.Insert(id, *key);
  return key;
}

StatusOr<ManifestPart> Vault::Part(const OpenedObject& object, uint32_t index) {
  StatusOr<ManifestPart> part = FetchPart(object, index);
  if (part.ok()) return part;
  Status status =
      absl::IsNotFound(part.status()) ? absl::DataLossError("it is gone") : part.status();
  return Annotate(status, absl::StrCat("manifest part ", index));
}

StatusOr<Vault::SignedPart> Vault::GetSignedPart(const ClearManifest& manifest, uint32_t index) {
  proto::GetPartRequest request;
  request.set_version(ToString(manifest.version.bytes()));
  request.set_index(index);
  ASSIGN_OR_RETURN(RpcMessage reply, Ask(MakeMessage(rpc::kGetPart, request)));
  Hash256 record;
  if (reply.frames.size() != 3 || reply.frames[2].view.size() != record.size()) {
    return absl::InternalError("the reply lacks its payload");
  }
  if (Sha256({reply.frames[0].view, reply.frames[1].view}) != manifest.parts[index].digest) {
    return absl::DataLossError("it is not what was signed");
  }
  std::ranges::copy(reply.frames[2].view, record.begin());
  return SignedPart{std::move(reply.frames[0]), std::move(reply.frames[1]), record};
}

StatusOr<ManifestPart> Vault::FetchPart(const OpenedObject& object, uint32_t index) {
  const ClearManifest& manifest = object.info.manifest;
  ASSIGN_OR_RETURN(const SignedPart got, GetSignedPart(manifest, index));
  ManifestPart part;
  ASSIGN_OR_RETURN(part.chunks, DecodePartClear(got.clear.view));
  const auto count = static_cast<uint32_t>(manifest.parts.size());
  ASSIGN_OR_RETURN(part.sealed_chunks, OpenPart(object.object_key, params_.domain, manifest.version,
                                                index, count, got.sealed.view));
  const uint64_t expected =
      std::min<uint64_t>(kChunksPerPart, manifest.chunk_count - uint64_t{index} * kChunksPerPart);
  if (part.chunks.size() != expected || part.sealed_chunks.size() != expected ||
      !TotalLength(part.sealed_chunks)) {
    return absl::DataLossError("it contradicts the manifest");
  }
  return part;
}

StatusOr<ManifestPart> Vault::Chunks(const OpenedObject& object) {
  const ClearManifest& manifest = object.info.manifest;
  if (manifest.parts.empty()) return ManifestPart{manifest.chunks, object.sealed.chunks};
  ManifestPart all;
  all.chunks.reserve(manifest.chunk_count);
  all.sealed_chunks.reserve(manifest.chunk_count);
  for (uint32_t i = 0; i < manifest.parts.size(); ++i) {
    StatusOr<ManifestPart> fetched = Part(object, i);
    if (!fetched.ok()) return Annotate(fetched.status(), DisplayName(object.info));
    const ManifestPart& part = *fetched;
    all.chunks.insert(all.chunks.end(), part.chunks.begin(), part.chunks.end());
    all.sealed_chunks.insert(all.sealed_chunks.end(), part.sealed_chunks.begin(),
                             part.sealed_chunks.end());
  }
  if (TotalLength(all.sealed_chunks) != object.sealed.size) {
    return absl::DataLossError(
        absl::StrCat(DisplayName(object.info), ": its manifest contradicts itself (size)"));
  }
  return all;
}

}  // namespace holdfast
