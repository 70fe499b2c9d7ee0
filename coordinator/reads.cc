#include "coordinator/reads.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/text.h"

namespace holdfast {
namespace {

constexpr uint32_t kDefaultLimit = 1000;
constexpr uint32_t kMaxLimit = 10000;
constexpr size_t kMaxPageBytes = 16u << 20;

Status DamagedObject(const std::string& collection, const std::string& name, const Status& why) {
  return absl::DataLossError(absl::StrCat("the catalogue's row of ",
                                          PrintableObject(collection, name), " is damaged (",
                                          Message(why), "): ", kRebuildHint));
}

// The manifest must decode and be of the name it is filed under.
StatusOr<ClearManifest> CheckedManifest(const std::string& collection, const ParsedObjectKey& key,
                                        const ObjectRow& row) {
  StatusOr<ClearManifest> manifest = DecodeClearManifest(row.manifest);
  if (!manifest.ok()) return DamagedObject(collection, key.name, manifest.status());
  if (manifest->name != key.name || row.version_number != key.version_number) {
    return DamagedObject(collection, key.name,
                         absl::DataLossError("it is filed under another name or version"));
  }
  return manifest;
}

}  // namespace

StatusOr<proto::LookupReply> Lookup(Catalogue& catalogue, const proto::LookupRequest& request) {
  ASSIGN_OR_RETURN(CollectionRow collection, catalogue.GetCollection(request.collection()));
  const ListRange range = {ObjectNameBegin(collection.number, request.name()),
                           ObjectNameEnd(collection.number, request.name())};
  proto::LookupReply reply;
  bool found = false;
  Status error;
  RETURN_IF_ERROR(catalogue.VisitObjects(
      range, false,
      [&](const ParsedObjectKey& key, std::string_view encoded, const ObjectRow& row) {
        StatusOr<ClearManifest> manifest = CheckedManifest(request.collection(), key, row);
        if (!manifest.ok()) {
          error = manifest.status();
          return false;
        }
        if (!request.version().empty() &&
            request.version() != ToString(manifest->version.bytes())) {
          return true;
        }
        found = true;
        proto::ObjectEntry& entry = *reply.mutable_object();
        entry.set_collection(request.collection());
        entry.set_name(key.name);
        entry.set_row(std::string(encoded));
        entry.set_version_number(key.version_number);
        return false;
      }));
  RETURN_IF_ERROR(error);
  if (found) return reply;
  std::string version;
  if (!request.version().empty()) {
    version = absl::StrCat("version ", ToHex(AsBytes(request.version())), " of ");
  }
  return absl::NotFoundError(absl::StrCat(
      "no ", version, "object \"", PrintableObject(request.collection(), request.name()), "\""));
}

StatusOr<proto::ListReply> List(Catalogue& catalogue, const proto::ListRequest& request) {
  ASSIGN_OR_RETURN(CollectionRow collection, catalogue.GetCollection(request.collection()));
  const size_t limit = std::min(request.limit() == 0 ? kDefaultLimit : request.limit(), kMaxLimit);
  std::string after;
  if (!request.after().empty()) after = ObjectNameEnd(collection.number, request.after());
  proto::ListReply reply;
  size_t bytes = 0;
  Status error;
  auto visit = [&](const ParsedObjectKey& key, std::string_view encoded, const ObjectRow& row) {
    const size_t entries = reply.objects_size();
    const bool same_name = entries > 0 && reply.objects(entries - 1).name() == key.name;
    if (!same_name && (entries >= limit || bytes >= kMaxPageBytes)) {
      reply.set_more(true);
      return false;
    }
    proto::ObjectEntry& entry = *reply.add_objects();
    entry.set_collection(request.collection());
    entry.set_name(key.name);
    entry.set_version_number(key.version_number);
    bytes += key.name.size() + request.collection().size();
    if (!request.with_rows()) return true;
    if (StatusOr<ClearManifest> m = CheckedManifest(request.collection(), key, row); !m.ok()) {
      error = m.status();
      return false;
    }
    entry.set_row(std::string(encoded));
    bytes += encoded.size();
    return true;
  };
  for (ListRange& range : ListRanges(collection.number, request.prefix(), request.by_component())) {
    range.begin = std::max(range.begin, after);
    if (range.begin >= range.end) continue;
    RETURN_IF_ERROR(catalogue.VisitObjects(range, !request.all_versions(), visit));
    RETURN_IF_ERROR(error);
    if (reply.more()) break;
  }
  return reply;
}

StatusOr<proto::ListCollectionsReply> ListCollections(Catalogue& catalogue,
                                                      const proto::ListCollectionsRequest&) {
  proto::ListCollectionsReply reply;
  const std::string begin = CollectionKey("");
  const std::string end(1, static_cast<char>(RowKind::kCollection) + 1);
  Status error;
  RETURN_IF_ERROR(
      catalogue.kv().Scan(begin, end, [&](std::string_view key, std::string_view value) {
        std::string name(key.substr(begin.size()));
        StatusOr<CollectionRow> row = DecodeCollectionRow(value);
        if (!row.ok()) {
          error = Annotate(row.status(), absl::StrCat("collection ", Printable(name)));
          return false;
        }
        proto::CollectionEntry& entry = *reply.add_collections();
        entry.set_name(std::move(name));
        entry.set_created_nanos(row->created_nanos);
        return true;
      }));
  RETURN_IF_ERROR(error);
  return reply;
}

StatusOr<proto::GetSignatureReply> GetSignature(Catalogue& catalogue,
                                                const proto::GetSignatureRequest& request) {
  ASSIGN_OR_RETURN(std::optional<SignatureRow> row,
                   catalogue.FindSignature(request.commit_number()));
  if (!row) {
    return absl::NotFoundError(absl::StrCat("no signature of commit ", request.commit_number()));
  }
  proto::GetSignatureReply reply;
  reply.set_row(Encode(*row));
  return reply;
}

StatusOr<proto::GetSealingKeyReply> GetSealingKey(Catalogue& catalogue,
                                                  const proto::GetSealingKeyRequest& request) {
  if (request.id().size() != SealingKeyId::kSize) {
    return absl::InvalidArgumentError("a sealing key's id has 16 bytes");
  }
  const SealingKeyId id = SealingKeyId::FromBytes(AsBytes(request.id()));
  ASSIGN_OR_RETURN(std::optional<SealingKeyRow> row, catalogue.FindSealingKey(id));
  if (!row) return absl::NotFoundError(absl::StrCat("no sealing key ", id.hex()));
  proto::GetSealingKeyReply reply;
  reply.set_box(ToString(row->box));
  return reply;
}

}  // namespace holdfast
