// Typed reads of the catalogue's rows over Kv, and its two facts of its own: head and counters.
//
// A row that is missing is nothing; a row that does not decode is kDataLoss naming it, never
// skipped, so that damage cannot show as a shorter listing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/format/catalogue_format.h"
#include "common/format/manifest.h"
#include "common/kv/kv.h"

namespace holdfast {

// Where the commit log stands. Written in the same batch as the commit it counts.
struct Head {
  uint64_t generation = 1;         // Of the next record; grows with each rebuild.
  uint64_t number = 0;             // Of the last commit.
  uint64_t record_generation = 0;  // Generation of the last record (its id needs it).
  Hash256 hash{};                  // SHA-256 of the last record; zero: none, or lost (rebuild).
  uint64_t epoch = 1;              // E
};
struct Counters {
  uint64_t collections = 0;
  uint64_t objects = 0;   // Distinct names with a version that is not removed.
  uint64_t versions = 0;  // That are not removed.
  uint64_t next_collection = 1;
  int64_t last_commit_nanos = 0;
};
std::string EncodeHead(const Head& head);
StatusOr<Head> DecodeHead(std::string_view bytes);
std::string EncodeCounters(const Counters& counters);
StatusOr<Counters> DecodeCounters(std::string_view bytes);

// MetaKey() names.
inline constexpr char kHeadRow[] = "head";
inline constexpr char kCountersRow[] = "counters";
inline constexpr char kRemovalsRow[] = "removals";  // remove.h
inline constexpr char kKeyCheckRow[] = "key check";
// Value of the key check row: tells another vault's catalogue, and another key, at Open.
std::string CatalogueKeyCheck(const CatalogueKeys& keys, const VaultId& vault);

// "collection/name" as messages show it.
std::string PrintableObject(std::string_view collection, std::string_view name);

// The way out that an error about damage names.
inline constexpr char kRebuildHint[] =
    "run `holdfast fsck --rebuild-catalogue` (of a cluster `holdfast coordinator rebuild`)";

// Of a row that does not decode, or is not what its key says.
Status DamagedObject(std::string_view collection, std::string_view name, const Status& why);

// The newest version of a name, as far as a commit needs it.
struct NewestVersion {
  uint64_t version_number = 0;  // The highest in use, by a removed version too.
  bool there = false;           // Whether the name has one that is not removed: the newest such.
  ObjectType type = ObjectType::kFile;
  ObjectTag tag_sha256;
  VersionId version;
  std::optional<Hash256> chunks;  // ChunksHash of its chunks; none when it has parts.
};

struct ListRange {
  std::string begin;
  std::string end;
};

class Catalogue {
 public:
  explicit Catalogue(Kv& kv) : kv_(kv) {}
  Kv& kv() { return kv_; }

  StatusOr<std::optional<Head>> FindHead();
  StatusOr<Counters> GetCounters();
  StatusOr<std::optional<CollectionRow>> FindCollection(std::string_view name);
  StatusOr<CollectionRow> GetCollection(std::string_view name);  // kNotFound `no collection "X"`.
  StatusOr<std::optional<SessionRow>> FindSession(const SessionId& id);
  StatusOr<std::optional<SealingKeyRow>> FindSealingKey(const SealingKeyId& id);
  StatusOr<std::optional<SignatureRow>> FindSignature(uint64_t commit_number);

  // For each of `names` (in raw byte order, distinct), its newest version. One pass over the
  // stretch of the catalogue that they cover, so that a batch from one folder costs one seek.
  StatusOr<std::vector<std::optional<NewestVersion>>> FindNewest(
      uint64_t collection, const std::vector<std::string_view>& names);

  // Visits the rows of one collection in [range), newest version of each name first, checked;
  // removed ones are left out. Stops when `visit` returns false. kDataLoss at the first row that is
  // damaged.
  using ObjectVisitor =
      std::function<bool(const ParsedObjectKey&, std::string_view encoded, const ObjectRow&)>;
  Status VisitObjects(const ListRange& range, bool newest_only, const ObjectVisitor& visit);

  // Name of the collection with this number, found by looking through all of them.
  StatusOr<std::optional<std::string>> FindCollectionName(uint64_t number);
  // The same for messages: "#7" when it cannot be found.
  std::string CollectionName(uint64_t number);

 private:
  Kv& kv_;
};

// The stretches of key space that `prefix` asks for, in order. by_component: `prefix` itself and
// what lies below it (trailing slashes ignored); else all names that start with it.
std::vector<ListRange> ListRanges(uint64_t collection, std::string_view prefix, bool by_component);

}  // namespace holdfast
