// The rows phase of fsck.h: every row of the catalogue, and what its objects are made of.
#include <algorithm>
#include <map>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/base/text.h"
#include "common/crypto/keypair.h"
#include "coordinator/fsck_step.h"
#include "coordinator/parts.h"

namespace holdfast {
namespace {

// What one step takes on at most.
constexpr size_t kMaxRows = 2000;
constexpr size_t kMaxBytes = 16u << 20;
constexpr size_t kMaxIds = 100'000;
constexpr size_t kMaxParts = 64;
constexpr size_t kIdsPerCall = 8192;
constexpr int64_t kTimeoutNanos = 60'000'000'000;

class RowsStep : public FsckStep {
 public:
  using FsckStep::FsckStep;

  void Run() override {
    ScanRows();
    CheckTrash();
    CheckSignatures();
    FetchParts();
  }

 private:
  struct Object {
    uint64_t collection = 0;
    std::string name;
    uint64_t commit_number = 0;
    uint32_t leaf_index = 0;
    Buffer manifest;
  };
  struct Reference {
    RecordId id;
    size_t object = 0;
    bool part = false;
    auto operator<=>(const Reference&) const = default;
  };
  struct Part {
    PartRef ref;
    size_t object = 0;
    uint32_t index = 0;
    uint64_t chunks = 0;  // It must list this many.
  };
  struct Asked {
    uint32_t node;
    std::vector<size_t> ids;  // Into ids_.
  };

  void ScanRows();
  bool CheckRow(std::string_view key, std::string_view value);
  bool CheckObject(std::string_view key, std::string_view value);
  bool TakeChunks(const ClearManifest& manifest);
  void CheckTrash();
  void CheckSignatures();
  void CheckCounters();
  void FetchParts();
  void CheckPart(const Part& part, const StatusOr<PartRecord>& record);
  void AskNodes();
  void CheckAnswers(const Asked& asked, const NodeReply& reply);
  void Report(const RecordId& id, proto::RecordStatus status, uint32_t node);
  std::string NameOf(const Object& object);
  std::string NameOf(std::string_view key);

  size_t rows_ = 0, bytes_ = 0;
  bool stopped_ = false;  // The page is full: cursor_ says where to go on.
  std::vector<Object> objects_;
  std::vector<Reference> references_;
  std::vector<Part> parts_;
  std::vector<std::string> removed_;        // Keys that the trash must have for its versions …
  std::vector<ParsedRemovedKey> in_trash_;  // … and those that it has.
  std::vector<RecordId> ids_;               // Of references_, sorted, each once.
  std::map<uint64_t, std::optional<std::string>> collections_;
};

std::string RowsEnd() { return std::string(1, static_cast<char>(0x7f)); }

std::string RowsStep::NameOf(const Object& object) {
  auto it = collections_.find(object.collection);
  if (it == collections_.end() || !it->second) {
    return PrintableObject(absl::StrCat("#", object.collection), object.name);
  }
  return PrintableObject(*it->second, object.name);
}

std::string RowsStep::NameOf(std::string_view key) {
  StatusOr<ParsedObjectKey> parsed = ParseObjectKey(key);
  if (!parsed.ok()) return absl::StrCat("row ", ToHex(AsBytes(key)));
  return PrintableObject(env_.catalogue.CollectionName(parsed->collection), parsed->name);
}

void RowsStep::ScanRows() {
  // Damaged rows are named after the scan, which must not start another.
  std::vector<std::string> damaged;
  Status read = env_.catalogue.kv().Scan(
      cursor_.key, RowsEnd(), [&](std::string_view key, std::string_view value) {
        if (rows_ >= kMaxRows || bytes_ >= kMaxBytes || references_.size() >= kMaxIds ||
            parts_.size() >= kMaxParts) {
          cursor_.key = std::string(key);
          stopped_ = true;
          return false;
        }
        bytes_ += value.size();
        if (cursor_.part == 0) ++rows_;
        if (!CheckRow(key, value)) damaged.emplace_back(key);
        if (cursor_.part != 0) {  // More parts of this object are to be read.
          cursor_.key = std::string(key);
          stopped_ = true;
          return false;
        }
        return true;
      });
  for (const std::string& key : damaged) {
    Add(proto::Finding::CORRUPT,
        absl::StrCat(NameOf(key), ": the catalogue's row is damaged: ", kRebuildHint));
  }
  if (!read.ok()) {
    Add(proto::Finding::CORRUPT,
        absl::StrCat("the catalogue's rows from ", ToHex(AsBytes(cursor_.key)),
                     " on could not all be read: ", Message(read)));
    cursor_.rows_unreadable = true;
  }
  reply_.set_rows(rows_);
  for (Object& object : objects_) {
    auto [it, fresh] = collections_.try_emplace(object.collection);
    if (!fresh) continue;
    StatusOr<std::optional<std::string>> name =
        env_.catalogue.FindCollectionName(object.collection);
    if (name.ok()) it->second = *std::move(name);
    if (!it->second) {
      Add(proto::Finding::CORRUPT, absl::StrCat("collection number ", object.collection,
                                                " has objects, but the catalogue has no row of "
                                                "it: ",
                                                kRebuildHint));
    }
  }
  if (!stopped_) CheckCounters();
}

bool RowsStep::CheckRow(std::string_view key, std::string_view value) {
  switch (static_cast<RowKind>(key[0])) {
    case RowKind::kCollection:
      ++cursor_.collections;
      return DecodeCollectionRow(value).ok();
    case RowKind::kObject:
      return CheckObject(key, value);
    case RowKind::kRemoved: {
      StatusOr<ParsedRemovedKey> parsed = ParseRemovedKey(key);
      if (!parsed.ok() || !CheckRemovedRow(value).ok()) return false;
      in_trash_.push_back(*std::move(parsed));
      return true;
    }
    case RowKind::kSession:
      return DecodeSessionRow(value).ok();
    case RowKind::kSealingKey:
      return DecodeSealingKeyRow(value).ok();
    case RowKind::kSignature: {
      StatusOr<SignatureRow> row = DecodeSignatureRow(value);
      if (!row.ok() || key.size() != SignatureKey(0).size()) return false;
      PublicKey signer;
      if (row->signer_public_key.size() != signer.size() || row->leaves.empty()) return false;
      std::copy(row->signer_public_key.begin(), row->signer_public_key.end(), signer.begin());
      return VerifySignature(signer, SignatureMessage(env_.options.domain, MerkleRoot(row->leaves)),
                             row->signature);
    }
    default:
      return true;  // Meta rows are checked by the first step, the outbox by Open.
  }
}

bool RowsStep::CheckObject(std::string_view key, std::string_view value) {
  StatusOr<ObjectRow> row = DecodeObjectRow(value);
  const bool removed = row.ok() && row->removed_nanos != 0;
  if (cursor_.part == 0 && removed) removed_.push_back(RemovedKey(row->removed_nanos, key));
  if (cursor_.part == 0 && !removed) {
    ++cursor_.versions;
    std::string_view name_key = key.substr(0, key.size() - std::min<size_t>(8, key.size()));
    if (cursor_.last_key_name != name_key) ++cursor_.objects;
    cursor_.last_key_name = std::string(name_key);
  }
  StatusOr<ParsedObjectKey> parsed = ParseObjectKey(key);
  StatusOr<ClearManifest> manifest =
      row.ok() ? DecodeClearManifest(row->manifest) : StatusOr<ClearManifest>(row.status());
  if (!parsed.ok() || !manifest.ok() || manifest->name != parsed->name ||
      row->version_number != parsed->version_number) {
    cursor_.part = 0;
    return false;
  }
  objects_.push_back({parsed->collection, parsed->name, row->commit_number, row->leaf_index,
                      std::move(row->manifest)});
  return TakeChunks(*manifest);
}

// Sets cursor_.part when the object has more parts than this step takes.
bool RowsStep::TakeChunks(const ClearManifest& manifest) {
  const size_t object = objects_.size() - 1;
  for (const ChunkRef& chunk : manifest.chunks) references_.push_back({chunk.id, object, false});
  uint32_t next = cursor_.part;
  cursor_.part = 0;
  for (; next < manifest.parts.size(); ++next) {
    if (parts_.size() >= kMaxParts) {
      cursor_.part = next;
      return true;
    }
    const uint64_t before = uint64_t{next} * kChunksPerPart;
    references_.push_back({manifest.parts[next].id, object, true});
    parts_.push_back({manifest.parts[next], object, next,
                      std::min<uint64_t>(kChunksPerPart, manifest.chunk_count - before)});
  }
  return true;
}

// Every version in the trash has its row there, or it would never be purged.
void RowsStep::CheckTrash() {
  std::vector<std::string> objects;
  for (const ParsedRemovedKey& key : in_trash_) objects.push_back(key.object_key);
  const auto listed = env_.catalogue.kv().MultiGet(removed_);
  const auto rows = env_.catalogue.kv().MultiGet(objects);
  if (!listed.ok() || !rows.ok()) {
    Add(proto::Finding::CORRUPT,
        absl::StrCat("the catalogue's trash could not be read: ",
                     Message(listed.ok() ? rows.status() : listed.status())));
    return;
  }
  for (size_t i = 0; i < removed_.size(); ++i) {
    if ((*listed)[i]) continue;
    Add(proto::Finding::CORRUPT,
        absl::StrCat(NameOf(ParseRemovedKey(removed_[i])->object_key),
                     ": it is removed, but not listed in the trash: ", kRebuildHint));
  }
  for (size_t i = 0; i < in_trash_.size(); ++i) {
    StatusOr<ObjectRow> row = absl::NotFoundError("");
    if ((*rows)[i]) row = DecodeObjectRow(*(*rows)[i]);
    if (row.ok() && row->removed_nanos == in_trash_[i].removed_nanos) continue;
    // So it is where commits were lost; the next purge clears it away.
    Add(proto::Finding::NOTE,
        absl::StrCat(NameOf(objects[i]), ": listed in the trash, but not removed"));
  }
}

// Each object's manifest is a leaf of the batch that was signed with its commit.
void RowsStep::CheckSignatures() {
  std::vector<const Object*> order;
  for (const Object& object : objects_) order.push_back(&object);
  std::stable_sort(order.begin(), order.end(), [](const Object* a, const Object* b) {
    return a->commit_number < b->commit_number;
  });
  uint64_t number = 0;
  StatusOr<std::optional<SignatureRow>> row = std::optional<SignatureRow>();
  for (const Object* object : order) {
    if (object->commit_number != number) {
      number = object->commit_number;
      row = env_.catalogue.FindSignature(number);
    }
    auto collection = collections_.find(object->collection);
    if (collection == collections_.end() || !collection->second) continue;  // Reported already.
    std::string why;
    if (!row.ok()) {
      why = Message(row.status());
    } else if (!*row) {
      why = absl::StrCat("the signature of commit ", number, " is missing");
    } else if (object->leaf_index >= (*row)->leaves.size() ||
               ManifestLeaf(env_.options.domain, *collection->second, object->manifest) !=
                   (*row)->leaves[object->leaf_index]) {
      why = absl::StrCat("its manifest is not the one that was signed with commit ", number);
    }
    if (!why.empty()) {
      Add(proto::Finding::CORRUPT, absl::StrCat(NameOf(*object), ": ", why));
    }
  }
}

void RowsStep::CheckCounters() {
  const bool comparable = !cursor_.rows_unreadable && cursor_.started_at_commit == env_.head.number;
  if (comparable &&
      (cursor_.collections != env_.counters.collections ||
       cursor_.objects != env_.counters.objects || cursor_.versions != env_.counters.versions)) {
    Add(proto::Finding::CORRUPT,
        absl::StrCat("the catalogue counts ", env_.counters.collections, " collections, ",
                     env_.counters.objects, " objects and ", env_.counters.versions,
                     " versions; its rows are ", cursor_.collections, ", ", cursor_.objects,
                     " and ", cursor_.versions, ": ", kRebuildHint));
  }
  cursor_.phase = FsckCursor::kCommits;
}

void RowsStep::FetchParts() {
  if (parts_.empty()) return AskNodes();
  auto self = shared_from_this();
  auto waiting = std::make_shared<size_t>(parts_.size());
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    GetPart(env_.nodes, env_.options.keys, part.ref.id, absl::StrCat("manifest part ", part.index),
            part.ref.digest, kTimeoutNanos, [this, self, waiting, i](StatusOr<PartRecord> record) {
              CheckPart(parts_[i], record);
              if (--*waiting == 0) AskNodes();
            });
  }
}

void RowsStep::CheckPart(const Part& part, const StatusOr<PartRecord>& record) {
  StatusOr<std::vector<ChunkRef>> chunks = record.ok()
                                               ? DecodePartClear(record->clear)
                                               : StatusOr<std::vector<ChunkRef>>(record.status());
  if (chunks.ok() && chunks->size() != part.chunks) {
    chunks = absl::DataLossError(absl::StrCat("manifest part ", part.index, " lists ",
                                              chunks->size(), " chunks instead of ", part.chunks));
  }
  if (!chunks.ok()) {
    const bool lost = chunks.status().code() != absl::StatusCode::kUnavailable;
    Add(lost ? proto::Finding::CORRUPT : proto::Finding::UNREADABLE,
        absl::StrCat(NameOf(objects_[part.object]), ": ", Message(chunks.status())))
        .set_id(ToString(part.ref.id.bytes()));
    return;
  }
  for (const ChunkRef& chunk : *chunks) references_.push_back({chunk.id, part.object, false});
}

void RowsStep::AskNodes() {
  std::sort(references_.begin(), references_.end());
  references_.erase(std::unique(references_.begin(), references_.end()), references_.end());
  for (const Reference& reference : references_) {
    if (ids_.empty() || ids_.back() != reference.id) ids_.push_back(reference.id);
  }
  std::vector<Asked> asked;
  std::map<uint32_t, size_t> open;  // Per node the call that still has room.
  for (size_t i = 0; i < ids_.size(); ++i) {
    for (uint32_t node : ActingSet(env_.options.map, ids_[i])) {
      if (IsAway(node)) continue;
      auto [it, fresh] = open.try_emplace(node, asked.size());
      if (!fresh && asked[it->second].ids.size() >= kIdsPerCall) {
        it->second = asked.size();
        fresh = true;
      }
      if (fresh) asked.push_back({node, {}});
      asked[it->second].ids.push_back(i);
    }
  }
  std::vector<NodeCall> calls;
  for (const Asked& a : asked) {
    proto::NodeStatRequest request;
    for (size_t i : a.ids) request.mutable_ids()->append(AsView(ids_[i].bytes()));
    calls.push_back({a.node, MakeMessage(rpc::kNodeStat, request)});
  }
  auto self = shared_from_this();
  env_.nodes.Gather(
      std::move(calls), kTimeoutNanos,
      [this, self, asked = std::move(asked)](NodeReplies replies) {
        for (size_t i = 0; i < asked.size(); ++i) CheckAnswers(asked[i], replies[i]);
        Finish();
      },
      kFsckAttempts);
}

void RowsStep::CheckAnswers(const Asked& asked, const NodeReply& reply) {
  StatusOr<proto::NodeStatReply> head = reply.ok() ? ParseHead<proto::NodeStatReply>(*reply)
                                                   : StatusOr<proto::NodeStatReply>(reply.status());
  if (head.ok() && static_cast<size_t>(head->answers_size()) != asked.ids.size()) {
    head = absl::UnavailableError("malformed answer");
  }
  if (!head.ok()) return NodeAway(asked.node, head.status());
  for (int i = 0; i < head->answers_size(); ++i) {
    const proto::RecordStatus status = head->answers(i).status();
    if (status != proto::PRESENT) Report(ids_[asked.ids[i]], status, asked.node);
  }
}

// One finding for every object that needs the record.
void RowsStep::Report(const RecordId& id, proto::RecordStatus status, uint32_t node) {
  auto it = std::lower_bound(references_.begin(), references_.end(), Reference{id, 0, false});
  for (; it != references_.end() && it->id == id; ++it) {
    AddAtNode(
        FindingClass(status),
        absl::StrCat(NameOf(objects_[it->object]), ": ", it->part ? "manifest part " : "chunk ",
                     id.hex().substr(0, 16), " is ", Describe(status), " on node ", node),
        node, id, it->part ? RecordKind::kManifestPart : RecordKind::kChunk);
  }
}

}  // namespace

std::shared_ptr<FsckStep> NewRowsStep(const FsckEnv& env, FsckCursor cursor, FsckDone done) {
  return std::make_shared<RowsStep>(env, std::move(cursor), std::move(done));
}

}  // namespace holdfast
