#include "coordinator/catalogue.h"

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"
#include "common/base/text.h"

namespace holdfast {
namespace {

constexpr uint8_t kMetaVersion = 1;
// FindNewest passes this many rows it did not ask for before it seeks anew.
constexpr int kMaxSkippedRows = 24;

Status DamagedRow(std::string_view what) {
  return absl::DataLossError(
      absl::StrCat("the catalogue's row of ", std::string(what), " is damaged: ", kRebuildHint));
}

// kFailedPrecondition (an unknown version) keeps its own words; all else is damage.
Status RowError(const Status& status, std::string_view what) {
  if (status.code() == absl::StatusCode::kFailedPrecondition) return Annotate(status, what);
  return DamagedRow(what);
}

// Reads and decodes one row that may be missing.
template <class Row>
StatusOr<std::optional<Row>> Find(Kv& kv, const std::string& key,
                                  StatusOr<Row> (*decode)(std::string_view),
                                  std::string_view what) {
  ASSIGN_OR_RETURN(std::optional<std::string> value, kv.Get(key));
  if (!value) return std::optional<Row>();
  StatusOr<Row> row = decode(*value);
  if (!row.ok()) return RowError(row.status(), what);
  return std::optional<Row>(*std::move(row));
}

}  // namespace

StatusOr<Head> DecodeHead(std::string_view bytes) {
  Reader r(AsBytes(bytes));
  if (r.U8() != kMetaVersion) return DamagedRow("its head");
  Head h;
  h.generation = r.U64();
  h.number = r.U64();
  h.record_generation = r.U64();
  Bytes hash = r.Raw(h.hash.size());
  h.epoch = r.U64();
  if (!r.done()) return DamagedRow("its head");
  std::copy(hash.begin(), hash.end(), h.hash.begin());
  return h;
}

std::string EncodeHead(const Head& head) {
  Buffer b;
  Writer w(b);
  w.U8(kMetaVersion);
  w.U64(head.generation);
  w.U64(head.number);
  w.U64(head.record_generation);
  w.Raw(head.hash);
  w.U64(head.epoch);
  return ToString(b);
}

std::string EncodeCounters(const Counters& counters) {
  Buffer b;
  Writer w(b);
  w.U8(kMetaVersion);
  w.U64(counters.collections);
  w.U64(counters.objects);
  w.U64(counters.versions);
  w.U64(counters.next_collection);
  w.I64(counters.last_commit_nanos);
  return ToString(b);
}

StatusOr<Counters> DecodeCounters(std::string_view bytes) {
  Reader r(AsBytes(bytes));
  if (r.U8() != kMetaVersion) return DamagedRow("its counters");
  Counters c;
  c.collections = r.U64();
  c.objects = r.U64();
  c.versions = r.U64();
  c.next_collection = r.U64();
  c.last_commit_nanos = r.I64();
  if (!r.done()) return DamagedRow("its counters");
  return c;
}

std::string CatalogueKeyCheck(const CatalogueKeys& keys, const VaultId& vault) {
  return ToString(HmacSha256(keys.rows, {AsBytes("holdfast/1 catalogue"), vault.bytes()}));
}

std::string PrintableObject(std::string_view collection, std::string_view name) {
  return absl::StrCat(Printable(collection), "/", Printable(name));
}

Status DamagedObject(std::string_view collection, std::string_view name, const Status& why) {
  return absl::DataLossError(absl::StrCat("the catalogue's row of ",
                                          PrintableObject(collection, name), " is damaged (",
                                          Message(why), "): ", kRebuildHint));
}

StatusOr<std::optional<Head>> Catalogue::FindHead() {
  return Find<Head>(kv_, MetaKey(kHeadRow), &DecodeHead, "its head");
}

StatusOr<Counters> Catalogue::GetCounters() {
  ASSIGN_OR_RETURN(std::optional<Counters> counters,
                   Find<Counters>(kv_, MetaKey(kCountersRow), &DecodeCounters, "its counters"));
  if (!counters) return DamagedRow("its counters");
  return *counters;
}

StatusOr<std::optional<CollectionRow>> Catalogue::FindCollection(std::string_view name) {
  return Find<CollectionRow>(kv_, CollectionKey(name), &DecodeCollectionRow,
                             absl::StrCat("collection ", Printable(name)));
}

StatusOr<CollectionRow> Catalogue::GetCollection(std::string_view name) {
  ASSIGN_OR_RETURN(std::optional<CollectionRow> row, FindCollection(name));
  if (!row) return absl::NotFoundError(absl::StrCat("no collection \"", Printable(name), "\""));
  return *row;
}

StatusOr<std::optional<SessionRow>> Catalogue::FindSession(const SessionId& id) {
  return Find<SessionRow>(kv_, SessionKey(id), &DecodeSessionRow,
                          absl::StrCat("session ", id.hex()));
}

StatusOr<std::optional<SealingKeyRow>> Catalogue::FindSealingKey(const SealingKeyId& id) {
  return Find<SealingKeyRow>(kv_, SealingKeyKey(id), &DecodeSealingKeyRow,
                             absl::StrCat("sealing key ", id.hex()));
}

StatusOr<std::optional<SignatureRow>> Catalogue::FindSignature(uint64_t commit_number) {
  return Find<SignatureRow>(kv_, SignatureKey(commit_number), &DecodeSignatureRow,
                            absl::StrCat("the signature of commit ", commit_number));
}

namespace {

// Of one row of a name whose newer rows, if any, are all removed.
StatusOr<NewestVersion> DecodeNewest(std::string_view key, std::string_view value) {
  StatusOr<ParsedObjectKey> parsed = ParseObjectKey(key);
  if (!parsed.ok()) return DamagedRow("an object");
  StatusOr<ObjectRow> row = DecodeObjectRow(value);
  if (row.ok() && row->removed_nanos != 0) return NewestVersion{parsed->version_number};
  StatusOr<ClearManifest> manifest =
      row.ok() ? DecodeClearManifest(row->manifest) : StatusOr<ClearManifest>(row.status());
  if (!manifest.ok()) {
    return RowError(manifest.status(), absl::StrCat("object ", Printable(parsed->name)));
  }
  NewestVersion newest{parsed->version_number, true, manifest->type, manifest->tag_sha256,
                       manifest->version,      {}};
  if (manifest->parts.empty()) newest.chunks = ChunksHash(manifest->chunks);
  return newest;
}

}  // namespace

StatusOr<std::vector<std::optional<NewestVersion>>> Catalogue::FindNewest(
    uint64_t collection, const std::vector<std::string_view>& names) {
  std::vector<std::optional<NewestVersion>> found(names.size());
  std::vector<ListRange> ranges(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    ranges[i] = {ObjectNameBegin(collection, names[i]), ObjectNameEnd(collection, names[i])};
  }
  size_t next = 0;  // The first name not yet decided.
  Status error;
  while (next < names.size()) {
    int skipped = 0;
    bool stopped = false;
    RETURN_IF_ERROR(kv_.Scan(ranges[next].begin, ranges.back().end,
                             [&](std::string_view key, std::string_view value) {
                               while (next < names.size() && key >= ranges[next].end) ++next;
                               if (next == names.size()) return false;
                               if (key < ranges[next].begin)
                                 return !(stopped = ++skipped > kMaxSkippedRows);
                               StatusOr<NewestVersion> newest = DecodeNewest(key, value);
                               if (!newest.ok()) {
                                 error = newest.status();
                                 return false;
                               }
                               if (found[next])
                                 newest->version_number = found[next]->version_number;
                               found[next] = *newest;
                               if (newest->there) ++next;
                               return true;
                             }));
    RETURN_IF_ERROR(error);
    if (!stopped) break;  // No row is left for the names still undecided.
  }
  return found;
}

Status Catalogue::VisitObjects(const ListRange& range, bool newest_only,
                               const ObjectVisitor& visit) {
  Status error;
  std::optional<ParsedObjectKey> damaged;
  std::string last_name;  // Names are never empty.
  RETURN_IF_ERROR(
      kv_.Scan(range.begin, range.end, [&](std::string_view key, std::string_view value) {
        StatusOr<ParsedObjectKey> parsed = ParseObjectKey(key);
        if (!parsed.ok()) {
          error = DamagedRow("an object");
          return false;
        }
        if (newest_only && parsed->name == last_name) return true;
        StatusOr<ObjectRow> row = DecodeObjectRow(value);
        if (!row.ok()) {
          error = row.status();
          damaged = *std::move(parsed);
          return false;
        }
        if (row->removed_nanos != 0) return true;
        last_name = parsed->name;
        return visit(*parsed, value, *row);
      }));
  if (!damaged) return error;
  return RowError(
      error,
      absl::StrCat("object ", PrintableObject(CollectionName(damaged->collection), damaged->name)));
}

StatusOr<std::optional<std::string>> Catalogue::FindCollectionName(uint64_t number) {
  std::optional<std::string> name;
  const std::string begin = CollectionKey("");
  const std::string end(1, static_cast<char>(RowKind::kCollection) + 1);
  RETURN_IF_ERROR(kv_.Scan(begin, end, [&](std::string_view key, std::string_view value) {
    StatusOr<CollectionRow> row = DecodeCollectionRow(value);
    if (!row.ok() || row->number != number) return true;
    name = std::string(key.substr(begin.size()));
    return false;
  }));
  return name;
}

std::string Catalogue::CollectionName(uint64_t number) {
  StatusOr<std::optional<std::string>> name = FindCollectionName(number);
  return name.ok() && *name ? **name : absl::StrCat("#", number);
}

std::vector<ListRange> ListRanges(uint64_t collection, std::string_view prefix, bool by_component) {
  if (by_component) {
    while (prefix.ends_with('/')) prefix.remove_suffix(1);
  }
  if (!by_component || prefix.empty()) {
    return {{ObjectPrefixBegin(collection, prefix), ObjectPrefixEnd(collection, prefix)}};
  }
  const std::string below = std::string(prefix) + "/";
  return {{ObjectNameBegin(collection, prefix), ObjectNameEnd(collection, prefix)},
          {ObjectPrefixBegin(collection, below), ObjectPrefixEnd(collection, below)}};
}

}  // namespace holdfast
