#include "coordinator/commit_plan.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/base/mutant.h"
#include "common/base/text.h"
#include "common/crypto/keypair.h"

namespace holdfast {
namespace {

// A stored name ends up in a key of the catalogue and in paths.
constexpr size_t kMaxCollectionName = 1024;

class Planner {
 public:
  Planner(const CommitContext& context, Catalogue& catalogue, const Session& session,
          const proto::CommitRequest& request)
      : context_(context), catalogue_(catalogue), session_(session), request_(request) {}

  StatusOr<CommitPlan> Run() {
    RETURN_IF_ERROR(CheckHead());
    RETURN_IF_ERROR(DecodeManifests());
    RETURN_IF_ERROR(CheckSignature());
    RETURN_IF_ERROR(CheckExtras());
    RETURN_IF_ERROR(FindCollection());
    RETURN_IF_ERROR(FindNewest());
    plan_.counters = context_.counters;
    RETURN_IF_ERROR(DecideObjects());
    if (!plan_.unknown_parts.empty()) return std::move(plan_);
    if (object_rows_.empty() && !new_collection_) return std::move(plan_);
    RETURN_IF_ERROR(BuildMutations());
    return std::move(plan_);
  }

 private:
  struct Item {
    Bytes encoded;
    ClearManifest manifest;
    size_t name = 0;  // Index into newest_.
  };

  Status CheckHead();
  Status DecodeManifests();
  Status CheckSignature();
  Status CheckExtras();
  Status FindCollection();
  Status FindNewest();
  Status DecideObjects();
  Status BuildMutations();
  Status CheckNewObject(const Item& item);
  Status Invalid(const Item& item, std::string_view why) const {
    return absl::InvalidArgumentError(absl::StrCat(
        PrintableObject(request_.collection(), item.manifest.name), ": ", std::string(why)));
  }

  const CommitContext& context_;
  Catalogue& catalogue_;
  const Session& session_;
  const proto::CommitRequest& request_;

  std::vector<Item> items_;
  std::vector<Hash256> leaves_;
  CollectionRow collection_;
  bool new_collection_ = false;
  std::vector<std::optional<NewestVersion>> newest_;  // One per distinct name, kept up to date.
  absl::flat_hash_set<VersionId> new_versions_;
  // What the request brings beside the manifests.
  absl::flat_hash_map<SealingKeyId, Bytes> offered_keys_;
  absl::flat_hash_set<VersionId> short_versions_;
  // Sealing keys of the new objects, in the order met.
  std::vector<std::pair<SealingKeyId, SealingKeyRow>> keys_;
  absl::flat_hash_set<SealingKeyId> keys_seen_;
  KvBatch object_rows_;
  CommitPlan plan_;
};

Status Planner::CheckHead() {
  if (DomainId::FromBytes(AsBytes(request_.domain())) != context_.domain) {
    return absl::PermissionDeniedError("this vault does not hold that domain");
  }
  if (request_.request().size() != 16) {
    return absl::InvalidArgumentError("a commit needs a request id of 16 bytes");
  }
  const std::string& name = request_.collection();
  if (name.empty() || name.size() > kMaxCollectionName || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", Printable(name), "\" cannot name a collection: it must have 1 to ",
                     kMaxCollectionName, " bytes, and no slash or NUL"));
  }
  return absl::OkStatus();
}

Status Planner::DecodeManifests() {
  size_t bytes = 0;
  items_.resize(request_.manifests_size());
  leaves_.reserve(items_.size());
  for (size_t i = 0; i < items_.size(); ++i) {
    Item& item = items_[i];
    item.encoded = AsBytes(request_.manifests(static_cast<int>(i)));
    bytes += item.encoded.size();
    StatusOr<ClearManifest> manifest = DecodeClearManifest(item.encoded);
    if (!manifest.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("object ", i, " of the commit: ", Message(manifest.status())));
    }
    item.manifest = *std::move(manifest);
    if (item.manifest.version.is_zero()) return Invalid(item, "it has no version id");
    for (uint32_t p = 0; p < item.manifest.parts.size(); ++p) {
      if (item.manifest.parts[p].id != PartId(item.manifest.version, p)) {
        return Invalid(item, absl::StrCat("part ", p, " is not named after its version"));
      }
    }
    leaves_.push_back(ManifestLeaf(context_.domain, request_.collection(), item.encoded));
  }
  if (bytes > kMaxCommitBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a commit holds at most ", kMaxCommitBytes, " bytes of manifests: split it"));
  }
  return absl::OkStatus();
}

// The leaves cover every manifest, also those that turn out unchanged: that is what was signed.
Status Planner::CheckSignature() {
  if (items_.empty()) return absl::OkStatus();
  PublicKey signer;
  if (request_.signer_public_key().size() != signer.size()) {
    return absl::PermissionDeniedError("the commit carries no signing key");
  }
  std::copy(request_.signer_public_key().begin(), request_.signer_public_key().end(),
            signer.begin());
  const Buffer message = SignatureMessage(context_.domain, MerkleRoot(leaves_));
  if (!VerifySignature(signer, message, AsBytes(request_.signature()))) {
    return absl::PermissionDeniedError("the commit's signature is not its signer's");
  }
  return absl::OkStatus();
}

Status Planner::CheckExtras() {
  for (const proto::NewSealingKey& key : request_.sealing_keys()) {
    SealingKeyId id = SealingKeyId::FromBytes(AsBytes(key.id()));
    if (id.is_zero() || key.box().empty()) {
      return absl::InvalidArgumentError("a sealing key needs an id of 16 bytes and a box");
    }
    offered_keys_.try_emplace(id, AsBytes(key.box()));
  }
  for (const std::string& version : request_.short_versions()) {
    short_versions_.insert(VersionId::FromBytes(AsBytes(version)));
  }
  return absl::OkStatus();
}

Status Planner::FindCollection() {
  ASSIGN_OR_RETURN(std::optional<CollectionRow> row,
                   catalogue_.FindCollection(request_.collection()));
  new_collection_ = !row;
  collection_ = row.value_or(
      CollectionRow{context_.counters.next_collection, context_.domain, context_.now_nanos});
  if (collection_.domain != context_.domain) {
    return absl::PermissionDeniedError(absl::StrCat("collection ", Printable(request_.collection()),
                                                    " belongs to another domain"));
  }
  return absl::OkStatus();
}

Status Planner::FindNewest() {
  std::vector<size_t> order(items_.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return items_[a].manifest.name < items_[b].manifest.name; });
  std::vector<std::string_view> names;
  for (size_t i : order) {
    std::string_view name = items_[i].manifest.name;
    if (names.empty() || names.back() != name) names.push_back(name);
    items_[i].name = names.size() - 1;
  }
  if (new_collection_) {
    newest_.resize(names.size());
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(newest_, catalogue_.FindNewest(collection_.number, names));
  return absl::OkStatus();
}

Status Planner::CheckNewObject(const Item& item) {
  if (!new_versions_.insert(item.manifest.version).second) {
    return Invalid(item, "another object of the commit has its version id");
  }
  for (size_t p = 0; p < item.manifest.parts.size(); ++p) {
    auto part = session_.parts.find(item.manifest.parts[p].id);
    if (part == session_.parts.end()) {
      plan_.unknown_parts.push_back(item.manifest.parts[p]);
    } else if (part->second != item.manifest.parts[p].digest) {
      return Invalid(item, absl::StrCat("its manifest part ", p, " is not the one that was put"));
    }
  }
  const SealingKeyId& id = item.manifest.sealing_key;
  if (!keys_seen_.insert(id).second) return absl::OkStatus();
  // What is stored counts, so that replaying commits gives one box whatever their order.
  ASSIGN_OR_RETURN(std::optional<SealingKeyRow> row, catalogue_.FindSealingKey(id));
  if (!row) {
    auto offered = offered_keys_.find(id);
    if (offered == offered_keys_.end()) {
      return Invalid(item, "the sealing key it names was not sent");
    }
    row = SealingKeyRow{context_.domain, Buffer(offered->second.begin(), offered->second.end())};
  }
  keys_.emplace_back(id, *std::move(row));
  return absl::OkStatus();
}

Status Planner::DecideObjects() {
  for (size_t i = 0; i < items_.size(); ++i) {
    const Item& item = items_[i];
    const ClearManifest& m = item.manifest;
    std::optional<NewestVersion>& newest = newest_[item.name];
    proto::CommitResult& result = *plan_.reply.add_results();
    if (newest && newest->there && newest->type == m.type && newest->tag_sha256 == m.tag_sha256 &&
        !short_versions_.contains(newest->version)) {
      result.set_state(proto::CommitResult::UNCHANGED);
      result.set_version(ToString(newest->version.bytes()));
      continue;
    }
    RETURN_IF_ERROR(CheckNewObject(item));
    if (!newest || !newest->there) ++plan_.counters.objects;
    ++plan_.counters.versions;
    const uint64_t number = newest ? newest->version_number + 1 : 1;
    newest = NewestVersion{number, true, m.type, m.tag_sha256, m.version, {}};
    ObjectRow row;
    row.commit_number = context_.head.number + 1;
    row.leaf_index = static_cast<uint32_t>(i);
    row.version_number = number;
    row.commit_nanos = context_.now_nanos;
    row.manifest.assign(item.encoded.begin(), item.encoded.end());
    object_rows_.push_back(
        {ObjectKey(collection_.number, m.name, row.version_number), Encode(row)});
    result.set_state(proto::CommitResult::STORED);
    result.set_version(ToString(m.version.bytes()));
  }
  return absl::OkStatus();
}

Status Planner::BuildMutations() {
  if (new_collection_) {
    ++plan_.counters.collections;
    ++plan_.counters.next_collection;
  }
  plan_.counters.last_commit_nanos = context_.now_nanos;
  KvBatch& out = plan_.mutations;
  out.reserve(object_rows_.size() + keys_.size() + 3);
  out.push_back({CollectionKey(request_.collection()), Encode(collection_)});
  KvBatch& keys = HOLDFAST_MUTANT(sealing_key_not_in_record) ? plan_.catalogue_only : out;
  for (const auto& [id, row] : keys_) keys.push_back({SealingKeyKey(id), Encode(row)});
  for (KvMutation& row : object_rows_) out.push_back(std::move(row));
  if (!object_rows_.empty()) {
    Bytes certificate = AsBytes(request_.certificate());
    Bytes signer = AsBytes(request_.signer_public_key());
    Bytes signature = AsBytes(request_.signature());
    SignatureRow row;
    row.signer_public_key.assign(signer.begin(), signer.end());
    row.certificate.assign(certificate.begin(), certificate.end());
    row.signature.assign(signature.begin(), signature.end());
    row.leaves = std::move(leaves_);
    out.push_back({SignatureKey(context_.head.number + 1), Encode(row)});
  }
  out.push_back({MetaKey(kCountersRow), EncodeCounters(plan_.counters)});
  return absl::OkStatus();
}

}  // namespace

StatusOr<CommitPlan> PlanCommit(const CommitContext& context, Catalogue& catalogue,
                                const Session& session, const proto::CommitRequest& request) {
  return Planner(context, catalogue, session, request).Run();
}

}  // namespace holdfast
