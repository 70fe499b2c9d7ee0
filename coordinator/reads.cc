#include "coordinator/reads.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "common/base/text.h"

namespace holdfast {
namespace {

constexpr uint32_t kDefaultLimit = 1000;
constexpr uint32_t kMaxLimit = 10000;
constexpr size_t kMaxPageBytes = 16u << 20;
constexpr int kMaxNames = 4096;
// Rows of the trash that a page looks at.
constexpr size_t kMaxTrashRows = 20'000;

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

// Names of all collections, or of that one, by number.
StatusOr<std::map<uint64_t, std::string>> CollectionNames(Catalogue& catalogue,
                                                          const std::string& only) {
  std::map<uint64_t, std::string> names;
  if (!only.empty()) {
    ASSIGN_OR_RETURN(const CollectionRow row, catalogue.GetCollection(only));
    names[row.number] = only;
    return names;
  }
  ASSIGN_OR_RETURN(const auto reply, ListCollections(catalogue, {}));
  for (const proto::CollectionEntry& entry : reply.collections()) {
    ASSIGN_OR_RETURN(const CollectionRow row, catalogue.GetCollection(entry.name()));
    names[row.number] = entry.name();
  }
  return names;
}

bool IsUnder(std::string_view name, std::string_view prefix, bool by_component) {
  if (by_component) {
    while (prefix.ends_with('/')) prefix.remove_suffix(1);
  }
  if (!name.starts_with(prefix)) return false;
  return !by_component || prefix.empty() || name.size() == prefix.size() ||
         name[prefix.size()] == '/';
}

StatusOr<proto::ListReply> ListRemoved(Catalogue& catalogue, const proto::ListRequest& request) {
  ASSIGN_OR_RETURN(const auto collections, CollectionNames(catalogue, request.collection()));
  const size_t limit = std::min(request.limit() == 0 ? kDefaultLimit : request.limit(), kMaxLimit);
  proto::ListReply reply;
  std::vector<std::string> keys;
  std::vector<ParsedObjectKey> found;
  size_t rows = 0;
  Status error;
  const std::string end(1, static_cast<char>(RowKind::kRemoved) + 1);
  RETURN_IF_ERROR(
      catalogue.kv().Scan(std::max(RemovedKey(0, ""), request.after()), end,
                          [&](std::string_view key, std::string_view) {
                            if (found.size() >= limit || rows++ >= kMaxTrashRows) {
                              reply.set_more(true);
                              reply.set_next(std::string(key));
                              return false;
                            }
                            StatusOr<ParsedRemovedKey> removed = ParseRemovedKey(key);
                            if (!removed.ok()) {
                              error = removed.status();
                              return false;
                            }
                            ParsedObjectKey object = *ParseObjectKey(removed->object_key);
                            if (!collections.contains(object.collection) ||
                                !IsUnder(object.name, request.prefix(), request.by_component())) {
                              return true;
                            }
                            keys.push_back(std::move(removed->object_key));
                            found.push_back(std::move(object));
                            return true;
                          }));
  RETURN_IF_ERROR(error);
  ASSIGN_OR_RETURN(const auto values, catalogue.kv().MultiGet(keys));
  for (size_t i = 0; i < found.size(); ++i) {
    const std::string& collection = collections.at(found[i].collection);
    if (!values[i]) continue;  // fsck tells.
    StatusOr<ObjectRow> row = DecodeObjectRow(*values[i]);
    if (!row.ok()) return DamagedObject(collection, found[i].name, row.status());
    if (row->removed_nanos == 0) continue;
    proto::ObjectEntry& entry = *reply.add_objects();
    entry.set_collection(collection);
    entry.set_name(found[i].name);
    entry.set_version_number(found[i].version_number);
    entry.set_row(*values[i]);
  }
  return reply;
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

StatusOr<proto::FindContentReply> FindContent(Catalogue& catalogue,
                                              const proto::FindContentRequest& request) {
  ASSIGN_OR_RETURN(const std::optional<CollectionRow> collection,
                   catalogue.FindCollection(request.collection()));
  if (request.names_size() > kMaxNames) {
    return absl::InvalidArgumentError("a request asks for too many names");
  }
  proto::FindContentReply reply;
  for (int i = 0; i < request.names_size(); ++i) reply.add_contents();
  if (!collection) return reply;
  std::vector<std::string_view> names(request.names().begin(), request.names().end());
  std::ranges::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  ASSIGN_OR_RETURN(const auto newest, catalogue.FindNewest(collection->number, names));
  for (int i = 0; i < request.names_size(); ++i) {
    const auto at = std::ranges::lower_bound(names, std::string_view(request.names(i)));
    const std::optional<NewestVersion>& found = newest[at - names.begin()];
    if (!found || !found->there || !found->chunks) continue;
    proto::KnownContent& content = *reply.mutable_contents(i);
    content.set_version(ToString(found->version.bytes()));
    content.set_type(static_cast<uint32_t>(found->type));
    content.set_chunks(ToString(*found->chunks));
    content.set_tag_sha256(ToString(found->tag_sha256.bytes()));
  }
  return reply;
}

StatusOr<proto::ListReply> List(Catalogue& catalogue, const proto::ListRequest& request) {
  if (request.removed()) return ListRemoved(catalogue, request);
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
