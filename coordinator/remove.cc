#include "coordinator/remove.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"
#include "common/base/text.h"

namespace holdfast {
namespace {

// What one commit takes on at most.
constexpr size_t kMaxVersions = 1000;
constexpr size_t kMaxBytes = 16u << 20;
// And what it looks at, so that others get their turn.
constexpr size_t kMaxRows = 20'000;

constexpr uint8_t kCursorVersion = 1;
constexpr uint8_t kRemovalsVersion = 1;
constexpr size_t kRemovalsKept = 16;

class Remover {
 public:
  Remover(const Counters& counters, Catalogue& catalogue, int64_t now_nanos,
          const proto::RemoveRequest& request)
      : catalogue_(catalogue), now_nanos_(now_nanos), request_(request) {
    plan_.commit.counters = counters;
  }

  StatusOr<RemovePlan> Run() {
    RETURN_IF_ERROR(CheckRequest());
    RETURN_IF_ERROR(FindTargets());
    if (!found_ && request_.after().empty() && plan_.reply.after().empty()) return NotFound();
    if (directory_) RETURN_IF_ERROR(CheckEmptyDirectory());
    if (!targets_.empty()) RETURN_IF_ERROR(BuildMutations());
    return std::move(plan_);
  }

 private:
  struct Version {
    uint64_t number = 0;
    int64_t removed_nanos = 0;
    size_t bytes = 0;      // Of its row.
    bool matches = false;  // It is one that was asked for.
  };
  struct Target {
    std::string key;
    int64_t removed_nanos = 0;
  };

  Status CheckRequest();
  Status FindTargets();
  bool Visit(std::string_view key, std::string_view value);
  Status Take(ParsedObjectKey key, std::string_view value);
  std::vector<const Version*> Chosen() const;
  void EndName();
  bool IsFull() const {
    return targets_.size() >= kMaxVersions || bytes_ >= kMaxBytes || rows_ >= kMaxRows;
  }
  void GoOnAt(const std::string& name) {
    stopped_ = true;
    plan_.reply.set_after(EncodeRemoveCursor({cursor_.time_nanos, name}));
  }
  Status NotFound() const;
  Status CheckEmptyDirectory();
  Status BuildMutations();
  Status Rewrite(const Target& target, const std::optional<std::string>& value);

  Catalogue& catalogue_;
  const int64_t now_nanos_;
  const proto::RemoveRequest& request_;
  CollectionRow collection_;
  RemoveCursor cursor_;
  Status error_;
  bool found_ = false;      // Something of what was asked for is there.
  bool directory_ = false;  // The one name's newest version is a directory.
  // The name whose rows are being read, newest first.
  std::string name_;
  std::vector<Version> versions_;
  std::vector<Target> targets_;
  size_t bytes_ = 0, rows_ = 0;
  bool stopped_ = false;
  RemovePlan plan_;
};

Status Remover::CheckRequest() {
  if (request_.request().size() != 16) {
    return absl::InvalidArgumentError("a removal needs a request id of 16 bytes");
  }
  if (request_.name().empty() && !request_.recursive()) {
    return absl::InvalidArgumentError("a whole collection is removed recursively only");
  }
  if (!request_.version().empty() &&
      (request_.version().size() != VersionId::kSize || request_.recursive())) {
    return absl::InvalidArgumentError("a version has an id of 16 bytes, and one name");
  }
  if (request_.undo() && request_.now()) {
    return absl::InvalidArgumentError("what goes for good does not come back");
  }
  const int64_t latest = std::max(now_nanos_, plan_.commit.counters.last_commit_nanos + 1);
  cursor_.time_nanos = latest;
  if (!request_.after().empty()) {
    ASSIGN_OR_RETURN(cursor_, DecodeRemoveCursor(request_.after()));
    // It comes from outside, and becomes the time of a commit.
    cursor_.time_nanos = std::min(cursor_.time_nanos, latest);
  }
  ASSIGN_OR_RETURN(collection_, catalogue_.GetCollection(request_.collection()));
  return absl::OkStatus();
}

Status Remover::FindTargets() {
  std::vector<ListRange> ranges = {{ObjectNameBegin(collection_.number, request_.name()),
                                    ObjectNameEnd(collection_.number, request_.name())}};
  if (request_.recursive()) ranges = ListRanges(collection_.number, request_.name(), true);
  std::string begin;
  if (!cursor_.name.empty()) begin = ObjectNameBegin(collection_.number, cursor_.name);
  for (ListRange& range : ranges) {
    range.begin = std::max(range.begin, begin);
    if (stopped_ || range.begin >= range.end) continue;
    RETURN_IF_ERROR(catalogue_.kv().Scan(
        range.begin, range.end,
        [&](std::string_view key, std::string_view value) { return Visit(key, value); }));
    RETURN_IF_ERROR(error_);
    if (!stopped_) EndName();
  }
  return absl::OkStatus();
}

bool Remover::Visit(std::string_view key, std::string_view value) {
  StatusOr<ParsedObjectKey> parsed = ParseObjectKey(key);
  if (!parsed.ok()) {
    error_ = parsed.status();
    return false;
  }
  if (parsed->name != name_) {
    EndName();
    if (!stopped_ && IsFull()) GoOnAt(parsed->name);
    if (stopped_) return false;
    name_ = parsed->name;
  }
  ++rows_;
  const std::string name = parsed->name;
  error_ = Take(*std::move(parsed), value);
  if (!error_.ok()) error_ = DamagedObject(request_.collection(), name, error_);
  return error_.ok();
}

Status Remover::Take(ParsedObjectKey key, std::string_view value) {
  ASSIGN_OR_RETURN(const ObjectRow row, DecodeObjectRow(value));
  Version version{key.version_number, row.removed_nanos, value.size(), true};
  if (!request_.recursive()) {
    ASSIGN_OR_RETURN(const ClearManifest manifest, DecodeClearManifest(row.manifest));
    const bool newest = std::ranges::none_of(
        versions_, [](const Version& other) { return other.removed_nanos == 0; });
    if (newest && row.removed_nanos == 0) directory_ = manifest.type == ObjectType::kDirectory;
    version.matches =
        request_.version().empty() || request_.version() == ToString(manifest.version.bytes());
  }
  found_ |= version.matches && (!request_.undo() || version.removed_nanos != 0);
  versions_.push_back(version);
  return absl::OkStatus();
}

// Which of the name's versions are to change.
std::vector<const Remover::Version*> Remover::Chosen() const {
  int64_t last_nanos = 0;
  for (const Version& v : versions_) {
    if (v.matches) last_nanos = std::max(last_nanos, v.removed_nanos);
  }
  std::vector<const Version*> chosen;
  for (const Version& v : versions_) {
    const bool change = request_.now()    ? true
                        : request_.undo() ? v.removed_nanos != 0 && v.removed_nanos == last_nanos
                                          : v.removed_nanos == 0;
    if (v.matches && change) chosen.push_back(&v);
  }
  return chosen;
}

// All rows of the name are read. What does not fit is left, and the name is taken up again: what
// became of it so far is then seen in its rows.
void Remover::EndName() {
  const std::vector<const Version*> chosen = Chosen();
  uint64_t before = 0, gone = 0, back = 0;
  for (const Version& v : versions_) before += v.removed_nanos == 0;
  for (const Version* v : chosen) {
    if (targets_.size() >= kMaxVersions || bytes_ >= kMaxBytes) {
      GoOnAt(name_);
      break;
    }
    bytes_ += request_.now() ? 0 : v->bytes;
    targets_.push_back({ObjectKey(collection_.number, name_, v->number), v->removed_nanos});
    gone += v->removed_nanos == 0;
    back += request_.undo();
    plan_.reply.set_versions(plan_.reply.versions() + 1);
  }
  if (!chosen.empty() && !stopped_) plan_.reply.set_objects(plan_.reply.objects() + 1);
  Counters& counters = plan_.commit.counters;
  const uint64_t after = before - gone + back;
  counters.versions += after - before;
  counters.objects += after > 0;
  counters.objects -= before > 0;
  versions_.clear();
  name_.clear();
}

Status Remover::NotFound() const {
  const std::string what = request_.name().empty()
                               ? Printable(request_.collection())
                               : PrintableObject(request_.collection(), request_.name());
  std::string version;
  if (!request_.version().empty()) {
    version = absl::StrCat("version ", ToHex(AsBytes(request_.version())), " of ");
  }
  return absl::NotFoundError(request_.undo()
                                 ? absl::StrCat("nothing of ", version, what, " is removed")
                                 : absl::StrCat("no ", version, "object \"", what, "\""));
}

// What is in a directory would be left without it.
Status Remover::CheckEmptyDirectory() {
  if (request_.undo() || !request_.version().empty() || targets_.empty()) return absl::OkStatus();
  const std::string below = request_.name() + "/";
  bool empty = true;
  RETURN_IF_ERROR(catalogue_.VisitObjects(
      {ObjectPrefixBegin(collection_.number, below), ObjectPrefixEnd(collection_.number, below)},
      true, [&](const ParsedObjectKey&, std::string_view, const ObjectRow&) {
        empty = false;
        return false;
      }));
  if (empty) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(PrintableObject(request_.collection(), request_.name()),
                   " is a directory, and not empty: remove it recursively"));
}

Status Remover::BuildMutations() {
  KvBatch& out = plan_.commit.mutations;
  out.push_back({CollectionKey(request_.collection()), Encode(collection_)});
  if (request_.now()) {
    for (const Target& target : targets_) {
      out.push_back({target.key, std::nullopt});
      if (target.removed_nanos == 0) continue;
      out.push_back({RemovedKey(target.removed_nanos, target.key), std::nullopt});
    }
  } else {
    std::vector<std::string> keys;
    for (const Target& target : targets_) keys.push_back(target.key);
    ASSIGN_OR_RETURN(const auto values, catalogue_.kv().MultiGet(keys));
    for (size_t i = 0; i < targets_.size(); ++i) {
      RETURN_IF_ERROR(Rewrite(targets_[i], values[i]));
    }
  }
  Counters& counters = plan_.commit.counters;
  counters.last_commit_nanos = std::max(now_nanos_, cursor_.time_nanos);
  out.push_back({MetaKey(kCountersRow), EncodeCounters(counters)});
  return absl::OkStatus();
}

Status Remover::Rewrite(const Target& target, const std::optional<std::string>& value) {
  if (!value) return absl::InternalError("a row went while it was being removed");
  ASSIGN_OR_RETURN(ObjectRow row, DecodeObjectRow(*value));
  row.removed_nanos = request_.undo() ? 0 : cursor_.time_nanos;
  KvBatch& out = plan_.commit.mutations;
  out.push_back({target.key, Encode(row)});
  if (request_.undo()) {
    out.push_back({RemovedKey(target.removed_nanos, target.key), std::nullopt});
  } else {
    out.push_back({RemovedKey(row.removed_nanos, target.key), EncodeRemovedRow()});
  }
  return absl::OkStatus();
}

StatusOr<std::vector<Removal>> Removals(Catalogue& catalogue) {
  ASSIGN_OR_RETURN(const std::optional<std::string> row, catalogue.kv().Get(MetaKey(kRemovalsRow)));
  if (!row) return std::vector<Removal>();
  return DecodeRemovals(*row);
}

}  // namespace

std::string EncodeRemoveCursor(const RemoveCursor& cursor) {
  Buffer b;
  Writer w(b);
  w.U8(kCursorVersion);
  w.I64(cursor.time_nanos);
  w.Blob(cursor.name);
  return ToString(b);
}

StatusOr<RemoveCursor> DecodeRemoveCursor(std::string_view bytes) {
  Reader r(AsBytes(bytes));
  const bool known = r.U8() == kCursorVersion;
  RemoveCursor cursor;
  cursor.time_nanos = r.I64();
  cursor.name = r.String();
  if (!known || !r.done() || cursor.time_nanos <= 0 || cursor.name.empty()) {
    return absl::InvalidArgumentError("not a cursor of a removal");
  }
  return cursor;
}

std::string EncodeRemovals(const std::vector<Removal>& removals) {
  Buffer b;
  Writer w(b);
  w.U8(kRemovalsVersion);
  w.U32(static_cast<uint32_t>(removals.size()));
  for (const Removal& removal : removals) {
    w.Blob(removal.request);
    w.Blob(removal.answer);
  }
  return ToString(b);
}

StatusOr<std::vector<Removal>> DecodeRemovals(std::string_view row) {
  std::vector<Removal> removals;
  Reader r(AsBytes(row));
  const bool known = r.U8() == kRemovalsVersion;
  for (uint32_t i = r.U32(); i > 0 && r.ok(); --i) {
    Removal& removal = removals.emplace_back();
    removal.request = r.String();
    removal.answer = r.String();
  }
  if (known && r.done()) return removals;
  return absl::DataLossError(
      absl::StrCat("the catalogue's row of its removals is damaged: ", kRebuildHint));
}

StatusOr<RemovePlan> PlanRemove(const Counters& counters, Catalogue& catalogue, int64_t now_nanos,
                                const proto::RemoveRequest& request) {
  return Remover(counters, catalogue, now_nanos, request).Run();
}

StatusOr<CommitPlan> PlanPurge(const Counters& counters, Catalogue& catalogue,
                               int64_t removed_before_nanos, size_t limit, std::string* cursor) {
  CommitPlan plan;
  plan.counters = counters;
  // What was purged before that lies in the way of a scan until the catalogue is compacted.
  const std::string begin = std::max(RemovedKey(0, ""), std::exchange(*cursor, ""));
  if (removed_before_nanos <= 0) return plan;
  std::vector<ParsedRemovedKey> due;
  std::vector<std::string> keys;  // Of their object rows.
  Status error;
  RETURN_IF_ERROR(catalogue.kv().Scan(begin, RemovedKey(removed_before_nanos, ""),
                                      [&](std::string_view key, std::string_view) {
                                        if (due.size() >= limit) {
                                          *cursor = std::string(key);
                                          return false;
                                        }
                                        StatusOr<ParsedRemovedKey> parsed = ParseRemovedKey(key);
                                        if (!parsed.ok()) {
                                          error = parsed.status();
                                          return false;
                                        }
                                        keys.push_back(parsed->object_key);
                                        due.push_back(*std::move(parsed));
                                        return true;
                                      }));
  RETURN_IF_ERROR(error);
  if (due.empty()) return plan;
  ASSIGN_OR_RETURN(const auto rows, catalogue.kv().MultiGet(keys));
  for (size_t i = 0; i < due.size(); ++i) {
    plan.mutations.push_back({RemovedKey(due[i].removed_nanos, keys[i]), std::nullopt});
    if (!rows[i]) continue;
    const StatusOr<ObjectRow> row = DecodeObjectRow(*rows[i]);
    if (!row.ok()) {
      const ParsedObjectKey object = *ParseObjectKey(keys[i]);
      return DamagedObject(catalogue.CollectionName(object.collection), object.name, row.status());
    }
    // Where commits were lost, something newer may be in its place.
    if (row->removed_nanos == due[i].removed_nanos) {
      plan.mutations.push_back({keys[i], std::nullopt});
    }
  }
  plan.mutations.push_back({MetaKey(kCountersRow), EncodeCounters(plan.counters)});
  return plan;
}

StatusOr<std::optional<std::string>> FindRemoval(Catalogue& catalogue, std::string_view request) {
  ASSIGN_OR_RETURN(std::vector<Removal> removals, Removals(catalogue));
  for (Removal& removal : removals) {
    if (removal.request == request) return std::optional(std::move(removal.answer));
  }
  return std::nullopt;
}

StatusOr<KvMutation> RememberRemoval(Catalogue& catalogue, std::string_view request,
                                     std::string_view answer) {
  ASSIGN_OR_RETURN(std::vector<Removal> removals, Removals(catalogue));
  removals.push_back({std::string(request), std::string(answer)});
  if (removals.size() > kRemovalsKept) removals.erase(removals.begin());
  return KvMutation{MetaKey(kRemovalsRow), EncodeRemovals(removals)};
}

}  // namespace holdfast
