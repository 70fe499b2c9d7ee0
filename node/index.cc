#include "node/index.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/coding.h"
#include "common/base/invariant.h"

namespace holdfast {
namespace {

constexpr char kCheckpointKey[] = "state/checkpoint";
constexpr char kTopCommitKey[] = "state/top commit";
constexpr char kGcKey[] = "state/gc";
constexpr size_t kTag = 1;  // The letter that a key begins with.
constexpr size_t kEntryKeySize = kTag + RecordId::kSize;
constexpr size_t kCommitKeySize = kTag + 8 + RecordId::kSize;
constexpr size_t kDroppedKeySize = kTag + 4 + 8;
constexpr size_t kDroppedValueSize = 8 + 8 + 1;
constexpr size_t kVerifiedKeySize = kTag + 4;
constexpr size_t kAsideKeySize = kTag + RecordId::kSize + 4 + 8;
constexpr size_t kProofKeySize = kTag + RecordId::kSize + WriterId::kSize;
constexpr uint8_t kCheckpointVersion = 2;
constexpr uint8_t kFlagQuarantined = 1;
constexpr uint8_t kFlagSurplus = 2;
constexpr uint8_t kFlagHorizon = 4;  // Horizon and run follow.
constexpr uint8_t kAllFlags = 7;

std::string QuarantinedKey(const RecordId& id) {
  return std::string("q").append(AsView(id.bytes()));
}
std::string KeyOf(const RecordId& id) { return std::string("r").append(AsView(id.bytes())); }

// Big-endian, so that byte order is the order of numbers.
template <class T>
void AppendBigEndian(std::string& out, T value) {
  for (int shift = 8 * (sizeof(T) - 1); shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(value >> shift));
  }
}

uint64_t ReadBigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (char c : bytes) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

std::string CommitKey(uint64_t number, Bytes id) {
  std::string key = "c";
  AppendBigEndian(key, number);
  return key.append(AsView(id));
}

std::string DroppedKey(uint64_t segment, uint64_t begin) {
  std::string key = "d";
  AppendBigEndian(key, static_cast<uint32_t>(segment));
  AppendBigEndian(key, begin);
  return key;
}

std::string AsideKey(const RecordId& id, Location at) {
  std::string key = std::string("a").append(AsView(id.bytes()));
  AppendBigEndian(key, static_cast<uint32_t>(at.segment));
  AppendBigEndian(key, at.offset);
  return key;
}

std::string ProofKey(const RecordId& id, const WriterId& writer) {
  return std::string("p").append(AsView(id.bytes())).append(AsView(writer.bytes()));
}

std::string VerifiedKey(uint64_t segment) {
  std::string key = "v";
  AppendBigEndian(key, static_cast<uint32_t>(segment));
  return key;
}

std::string StaleKey(uint64_t segment) {
  std::string key = "f";
  AppendBigEndian(key, static_cast<uint32_t>(segment));
  return key;
}

std::string Encode(const IndexEntry& entry) {
  Buffer out;
  Writer w(out);
  w.U32(static_cast<uint32_t>(entry.at.segment));
  w.U64(entry.at.offset);
  w.U32(static_cast<uint32_t>(entry.lsn));
  w.U64(entry.touch_epoch);
  w.U32(entry.length);
  w.U8(static_cast<uint8_t>(entry.kind));
  w.U8((entry.quarantined ? kFlagQuarantined : 0) | (entry.surplus ? kFlagSurplus : 0) |
       (entry.horizon > 0 ? kFlagHorizon : 0));
  w.Id(entry.checksum);
  w.Id(entry.writer);
  if (entry.kind == RecordKind::kCommitRecord) w.U64(entry.number);
  if (entry.horizon > 0) {
    w.U64(entry.horizon);
    w.U64(entry.run);
  }
  return ToString(out);
}

StatusOr<IndexEntry> DecodeEntry(const RecordId& id, std::string_view bytes) {
  Reader r(AsBytes(bytes));
  IndexEntry entry;
  entry.at.segment = r.U32();
  entry.at.offset = r.U64();
  entry.lsn = r.U32();
  entry.touch_epoch = r.U64();
  entry.length = r.U32();
  entry.kind = static_cast<RecordKind>(r.U8());
  const uint8_t flags = r.U8();
  entry.quarantined = (flags & kFlagQuarantined) != 0;
  entry.surplus = (flags & kFlagSurplus) != 0;
  entry.checksum = r.Id<Checksum>();
  entry.writer = r.Id<WriterId>();
  if (entry.kind == RecordKind::kCommitRecord) entry.number = r.U64();
  if ((flags & kFlagHorizon) != 0) {
    entry.horizon = r.U64();
    entry.run = r.U64();
  }
  if (!r.done() || flags > kAllFlags || entry.length > kMaxPayload) {
    return absl::DataLossError(absl::StrCat("index entry of ", id.hex(), " is malformed"));
  }
  return entry;
}

std::string Encode(const Checkpoint& checkpoint) {
  Buffer out;
  Writer w(out);
  w.U8(kCheckpointVersion);
  w.U64(checkpoint.segment);
  w.Id(checkpoint.id);
  w.U64(checkpoint.last_batch);
  w.U64(checkpoint.end);
  w.U64(checkpoint.lsn);
  return ToString(out);
}

StatusOr<Checkpoint> DecodeCheckpoint(std::string_view bytes) {
  Reader r(AsBytes(bytes));
  Checkpoint checkpoint;
  const uint8_t version = r.U8();
  checkpoint.segment = r.U64();
  checkpoint.id = r.Id<SegmentId>();
  checkpoint.last_batch = r.U64();
  checkpoint.end = r.U64();
  checkpoint.lsn = r.U64();
  if (!r.done() || version != kCheckpointVersion) {
    return absl::DataLossError("the index's checkpoint is malformed");
  }
  return checkpoint;
}

std::string Encode(const GcState& gc) {
  Buffer out;
  Writer w(out);
  w.U64(gc.generation);
  w.U64(gc.run);
  w.U64(gc.horizon);
  w.U64(gc.max_touch);
  return ToString(out);
}

StatusOr<GcState> DecodeGcState(std::string_view bytes) {
  Reader r(AsBytes(bytes));
  GcState gc;
  gc.generation = r.U64();
  gc.run = r.U64();
  gc.horizon = r.U64();
  gc.max_touch = r.U64();
  if (!r.done()) return absl::DataLossError("what the index knows of collections is malformed");
  return gc;
}

GcState HighestOf(const GcState& a, const GcState& b) {
  return {std::max(a.generation, b.generation), std::max(a.run, b.run),
          std::max(a.horizon, b.horizon), std::max(a.max_touch, b.max_touch)};
}

std::string EncodeU64(uint64_t value) {
  std::string out;
  AppendBigEndian(out, value);
  return out;
}

}  // namespace

RecordId SuccessorOf(RecordId id) {
  for (size_t i = RecordId::kSize; i > 0; --i) {
    if (++id.value[i - 1] != 0) break;
  }
  return id;
}

Status IndexDelta::Load(const std::vector<RecordId>& ids) {
  std::vector<RecordId> unknown;
  for (const RecordId& id : ids) {
    if (!entries_.contains(id)) unknown.push_back(id);
  }
  if (unknown.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(auto found, index_.Find(unknown));
  for (size_t i = 0; i < unknown.size(); ++i) entries_[unknown[i]] = {found[i], found[i]};
  return absl::OkStatus();
}

StatusOr<std::optional<IndexEntry>*> IndexDelta::Find(const RecordId& id) {
  RETURN_IF_ERROR(Load({id}));
  return &entries_[id].after;
}

Status IndexDelta::AddRecord(const RecordHeader& header, Location at, bool quarantined) {
  ASSIGN_OR_RETURN(std::optional<IndexEntry> * slot, Find(header.id));
  IndexEntry entry;
  entry.at = at;
  entry.lsn = header.lsn;
  entry.touch_epoch = header.touch_epoch;
  gc_.max_touch = std::max(gc_.max_touch, header.touch_epoch);
  if (*slot && (*slot)->at < at) SetStale((*slot)->at.segment);
  if (*slot) {
    entry.touch_epoch = std::max(entry.touch_epoch, (*slot)->touch_epoch);
    entry.horizon = (*slot)->horizon;
    entry.run = (*slot)->run;
    entry.surplus = (*slot)->surplus;
  }
  entry.length = header.length;
  entry.kind = header.kind;
  entry.quarantined = quarantined;
  if (quarantined) rows_[QuarantinedKey(header.id)] = "";
  entry.checksum = header.checksum;
  entry.writer = header.writer;
  if (header.kind == RecordKind::kChunk) {
    if (*slot && (*slot)->kind == RecordKind::kChunk && !(*slot)->quarantined && (*slot)->at < at &&
        (*slot)->writer != header.writer) {
      rows_[AsideKey(header.id, (*slot)->at)] = Encode(**slot);
    }
    if (header.number != 0) {
      const RecordPlace from = RestoredFrom(header.number);
      rows_[AsideKey(header.id, {from.segment, from.offset})] = "";
    }
  }
  if (header.kind == RecordKind::kCommitRecord) {
    entry.number = header.number;
    rows_[CommitKey(header.number, header.id.bytes())] = "";
    top_commit_ = std::max(top_commit_, header.number);
  }
  *slot = entry;
  return absl::OkStatus();
}

Status IndexDelta::AddTrash(const TrashMark& mark, std::span<const RecordId> ids) {
  gc_ = HighestOf(gc_, {mark.generation, mark.run, mark.horizon, 0});
  RETURN_IF_ERROR(Load({ids.begin(), ids.end()}));
  for (const RecordId& id : ids) {
    std::optional<IndexEntry>& entry = entries_[id].after;
    if (!entry || entry->horizon >= mark.horizon) continue;
    entry->horizon = mark.horizon;
    entry->run = mark.run;
    entry->surplus = mark.surplus;
  }
  return absl::OkStatus();
}

Status IndexDelta::Erase(const RecordId& id) {
  ASSIGN_OR_RETURN(std::optional<IndexEntry> * slot, Find(id));
  slot->reset();
  rows_[QuarantinedKey(id)] = std::nullopt;
  return absl::OkStatus();
}

void IndexDelta::SetStale(uint64_t segment) { stale_[segment] = true; }

void IndexDelta::EraseSegmentRows(uint64_t segment, std::span<const Dropped> dropped) {
  stale_[segment] = false;
  rows_[VerifiedKey(segment)] = std::nullopt;
  for (const Dropped& one : dropped) rows_[DroppedKey(segment, one.range.begin)] = std::nullopt;
}

void IndexDelta::EraseSetAside(const RecordId& id, Location at) {
  rows_[AsideKey(id, at)] = std::nullopt;
}

Status IndexDelta::AddTouch(uint64_t epoch, std::span<const RecordId> ids) {
  gc_.max_touch = std::max(gc_.max_touch, epoch);
  RETURN_IF_ERROR(Load({ids.begin(), ids.end()}));
  for (const RecordId& id : ids) {
    std::optional<IndexEntry>& entry = entries_[id].after;
    if (entry) entry->touch_epoch = std::max(entry->touch_epoch, epoch);
  }
  return absl::OkStatus();
}

Status IndexDelta::AddQuarantine(const QuarantineEntry& quarantine) {
  ASSIGN_OR_RETURN(std::optional<IndexEntry> * slot, Find(quarantine.id));
  const Location at{quarantine.segment_number, quarantine.offset};
  if (!*slot || (*slot)->at != at) return absl::OkStatus();
  (*slot)->quarantined = true;
  rows_[QuarantinedKey(quarantine.id)] = "";
  return absl::OkStatus();
}

void IndexDelta::AddProof(const RecordId& id, const WriterId& writer, Location at) {
  std::string value;
  AppendBigEndian(value, at.segment);
  AppendBigEndian(value, at.offset);
  rows_[ProofKey(id, writer)] = std::move(value);
}

void IndexDelta::AddDropped(const Dropped& dropped) {
  std::string value = EncodeU64(dropped.range.end);
  AppendBigEndian(value, dropped.lsn);
  value.push_back(dropped.noted ? 1 : 0);
  rows_[DroppedKey(dropped.range.segment_number, dropped.range.begin)] = value;
}

void IndexDelta::SetCheckpoint(const Checkpoint& checkpoint) {
  rows_[kCheckpointKey] = Encode(checkpoint);
}

void IndexDelta::SetVerified(uint64_t segment, int64_t wall_nanos) {
  rows_[VerifiedKey(segment)] = EncodeU64(static_cast<uint64_t>(wall_nanos));
}

StatusOr<std::unique_ptr<Index>> Index::Open(std::shared_ptr<Kv> kv) {
  std::unique_ptr<Index> index(new Index(std::move(kv)));
  ASSIGN_OR_RETURN(auto rows, index->Get({kCheckpointKey, kTopCommitKey, kGcKey}));
  if (rows[0]) {
    ASSIGN_OR_RETURN(index->checkpoint_, DecodeCheckpoint(*rows[0]));
  }
  if (rows[1]) index->top_commit_ = ReadBigEndian(*rows[1]);
  if (rows[2]) {
    ASSIGN_OR_RETURN(index->gc_, DecodeGcState(*rows[2]));
  }
  ASSIGN_OR_RETURN(auto stale, index->Range("f", "g", kVerifiedKeySize, SIZE_MAX));
  for (const auto& [key, value] : stale) {
    index->stale_.insert(ReadBigEndian(std::string_view(key).substr(kTag)));
  }
  return index;
}

StatusOr<std::vector<std::optional<std::string>>> Index::Get(const std::vector<std::string>& keys) {
  ASSIGN_OR_RETURN(auto values, kv_->MultiGet(keys));
  for (size_t i = 0; i < keys.size() && !backlog_.empty(); ++i) {
    auto it = backlog_.find(keys[i]);
    if (it != backlog_.end()) values[i] = it->second;
  }
  return values;
}

StatusOr<std::vector<std::optional<IndexEntry>>> Index::Find(const std::vector<RecordId>& ids) {
  std::vector<std::string> keys;
  keys.reserve(ids.size());
  for (const RecordId& id : ids) keys.push_back(KeyOf(id));
  ASSIGN_OR_RETURN(auto values, Get(keys));
  std::vector<std::optional<IndexEntry>> entries(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!values[i]) continue;
    ASSIGN_OR_RETURN(entries[i], DecodeEntry(ids[i], *values[i]));
  }
  return entries;
}

StatusOr<std::vector<std::pair<RecordId, IndexEntry>>> Index::List(const RecordId& from,
                                                                   const RecordId& to,
                                                                   size_t limit) {
  const std::string end = to.is_zero() ? std::string("s") : KeyOf(to);
  ASSIGN_OR_RETURN(auto rows, Range(KeyOf(from), end, kEntryKeySize, limit));
  std::vector<std::pair<RecordId, IndexEntry>> entries;
  for (const auto& [key, value] : rows) {
    if (entries.size() == limit) break;
    const RecordId id = RecordId::FromBytes(AsBytes(key).subspan(kTag));
    ASSIGN_OR_RETURN(IndexEntry entry, DecodeEntry(id, value));
    entries.emplace_back(id, entry);
  }
  return entries;
}

StatusOr<bool> Index::HasCommit(uint64_t number, const RecordId& id) {
  ASSIGN_OR_RETURN(auto rows, Get({CommitKey(number, id.bytes())}));
  return rows[0].has_value();
}

StatusOr<std::map<std::string, std::string>> Index::Range(const std::string& start,
                                                          const std::string& end, size_t key_size,
                                                          size_t limit) {
  std::map<std::string, std::string> rows;
  RETURN_IF_ERROR(kv_->Scan(start, end, [&](std::string_view key, std::string_view value) {
    if (key.size() != key_size) return true;
    const auto waiting = backlog_.find(std::string(key));
    const bool erased = waiting != backlog_.end() && !waiting->second;
    if (!erased) rows.emplace(key, value);
    return rows.size() < limit;
  }));
  // Those of the Kv may have been cut short there.
  const bool full = !rows.empty() && rows.size() >= limit;
  const std::string last = full ? rows.rbegin()->first : end;
  for (auto it = backlog_.lower_bound(start); it != backlog_.lower_bound(end); ++it) {
    if (it->first.size() != key_size || !it->second || it->first > last) continue;
    rows[it->first] = *it->second;
  }
  return rows;
}

StatusOr<std::vector<std::pair<uint64_t, RecordId>>> Index::Commits(uint64_t from, size_t limit) {
  ASSIGN_OR_RETURN(auto rows, Range(CommitKey(from, {}), "d", kCommitKeySize, limit));
  std::vector<std::pair<uint64_t, RecordId>> commits;
  for (const auto& [key, value] : rows) {
    if (commits.size() == limit) break;
    commits.emplace_back(ReadBigEndian(std::string_view(key).substr(kTag, 8)),
                         RecordId::FromBytes(AsBytes(key).subspan(kTag + 8)));
  }
  return commits;
}

StatusOr<std::vector<Dropped>> Index::DroppedRanges(uint64_t segment) {
  const std::string start = segment == 0 ? std::string("d") : DroppedKey(segment, 0);
  const std::string end = segment == 0 ? std::string("e") : DroppedKey(segment + 1, 0);
  ASSIGN_OR_RETURN(auto rows, Range(start, end, kDroppedKeySize, SIZE_MAX));
  std::vector<Dropped> all;
  for (const auto& [row_key, row_value] : rows) {
    const std::string_view key = row_key, value = row_value;
    if (value.size() != kDroppedValueSize) continue;
    Dropped dropped;
    dropped.range.segment_number = ReadBigEndian(key.substr(kTag, 4));
    dropped.range.begin = ReadBigEndian(key.substr(kTag + 4));
    dropped.range.end = ReadBigEndian(value.substr(0, 8));
    dropped.lsn = ReadBigEndian(value.substr(8, 8));
    dropped.noted = value[16] != 0;
    all.push_back(dropped);
  }
  return all;
}

StatusOr<uint64_t> Index::CountQuarantined() {
  ASSIGN_OR_RETURN(auto rows, Range("q", "r", kEntryKeySize, SIZE_MAX));
  std::vector<RecordId> ids;
  for (const auto& [key, value] : rows) {
    ids.push_back(RecordId::FromBytes(AsBytes(key).subspan(kTag)));
  }
  ASSIGN_OR_RETURN(auto entries, Find(ids));
  return std::count_if(entries.begin(), entries.end(),
                       [](const auto& entry) { return entry && entry->quarantined; });
}

StatusOr<std::vector<IndexEntry>> Index::SetAside(const RecordId& id) {
  ASSIGN_OR_RETURN(auto rows, Range(AsideKey(id, {}), AsideKey(id, {UINT32_MAX, UINT64_MAX}),
                                    kAsideKeySize, SIZE_MAX));
  std::vector<IndexEntry> entries;
  for (const auto& [key, value] : rows) {
    if (value.empty()) continue;
    ASSIGN_OR_RETURN(entries.emplace_back(), DecodeEntry(id, value));
  }
  return entries;
}

StatusOr<std::vector<std::optional<Location>>> Index::Proofs(const std::vector<RecordId>& ids,
                                                             const WriterId& writer) {
  std::vector<std::string> keys;
  keys.reserve(ids.size());
  for (const RecordId& id : ids) keys.push_back(ProofKey(id, writer));
  ASSIGN_OR_RETURN(auto values, Get(keys));
  std::vector<std::optional<Location>> proofs(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!values[i] || values[i]->size() != 16) continue;
    const std::string_view value = *values[i];
    proofs[i] = Location{ReadBigEndian(value.substr(0, 8)), ReadBigEndian(value.substr(8))};
  }
  return proofs;
}

StatusOr<std::map<uint64_t, int64_t>> Index::Verified() {
  ASSIGN_OR_RETURN(auto rows, Range("v", "w", kVerifiedKeySize, SIZE_MAX));
  std::map<uint64_t, int64_t> dates;
  for (const auto& [key, value] : rows) {
    if (value.size() != 8) continue;
    dates[ReadBigEndian(std::string_view(key).substr(kTag))] =
        static_cast<int64_t>(ReadBigEndian(value));
  }
  return dates;
}

StatusOr<bool> Index::HasProofs() {
  ASSIGN_OR_RETURN(auto rows, Range("p", "q", kProofKeySize, 1));
  return !rows.empty();
}

StatusOr<std::vector<WriterId>> Index::Provers(const RecordId& id, Location at) {
  WriterId last;
  last.value.fill(0xff);
  ASSIGN_OR_RETURN(auto rows,
                   Range(ProofKey(id, {}), ProofKey(id, last) + '\0', kProofKeySize, SIZE_MAX));
  std::vector<WriterId> writers;
  for (const auto& [key, value] : rows) {
    const std::string_view place = value;
    if (value.size() != 16 || ReadBigEndian(place.substr(0, 8)) != at.segment ||
        ReadBigEndian(place.substr(8)) != at.offset) {
      continue;
    }
    writers.push_back(WriterId::FromBytes(AsBytes(key).subspan(kEntryKeySize)));
  }
  return writers;
}

Status Index::Apply(IndexDelta&& delta) {
  if (const GcState gc = HighestOf(gc_, delta.gc_); gc != gc_) {
    gc_ = gc;
    delta.rows_[kGcKey] = Encode(gc);
  }
  if (delta.top_commit_ > top_commit_) {
    top_commit_ = delta.top_commit_;
    delta.rows_[kTopCommitKey] = EncodeU64(top_commit_);
  }
  for (const auto& [segment, is_stale] : delta.stale_) {
    if (is_stale ? !stale_.insert(segment).second : stale_.erase(segment) == 0) continue;
    delta.rows_[StaleKey(segment)] = is_stale ? std::optional<std::string>("") : std::nullopt;
  }
  auto checkpoint = delta.rows_.find(kCheckpointKey);
  if (checkpoint != delta.rows_.end()) {
    checkpoint_ = DecodeCheckpoint(*checkpoint->second).value();
  }
  for (auto& [id, change] : delta.entries_) {
    HOLDFAST_INVARIANT(G2, !change.before || !change.after ||
                               (change.after->touch_epoch >= change.before->touch_epoch &&
                                change.after->horizon >= change.before->horizon));
    if (change.after) {
      delta.rows_[KeyOf(id)] = Encode(*change.after);
    } else if (change.before) {
      delta.rows_[KeyOf(id)] = std::nullopt;
    }
  }
  IndexRows& rows = backlog_.empty() ? delta.rows_ : backlog_;
  if (&rows == &backlog_) {
    for (auto& [key, value] : delta.rows_) backlog_[key] = std::move(value);
  }
  KvBatch batch;
  batch.reserve(rows.size());
  for (const auto& [key, value] : rows) batch.push_back({key, value});
  Status status = kv_->Write(batch, false);
  if (status.ok()) {
    backlog_.clear();
  } else if (&rows != &backlog_) {
    backlog_ = std::move(delta.rows_);
  }
  return status;
}

Status Index::Flush() {
  if (!backlog_.empty()) RETURN_IF_ERROR(Apply(IndexDelta(*this)));
  return kv_->Flush();
}

Status Index::ScanSetAside(Kv& kv,
                           const std::function<bool(const RecordId&, const IndexEntry&)>& visit) {
  Status status;
  RETURN_IF_ERROR(kv.Scan("a", "b", [&](std::string_view key, std::string_view value) {
    if (key.size() != kAsideKeySize || value.empty()) return true;
    const RecordId id = RecordId::FromBytes(AsBytes(key).subspan(kTag, RecordId::kSize));
    StatusOr<IndexEntry> entry = DecodeEntry(id, value);
    if (!entry.ok()) status = entry.status();
    return entry.ok() && visit(id, *entry);
  }));
  return status;
}

Status Index::Scan(Kv& kv, const std::function<bool(const RecordId&, const IndexEntry&)>& visit) {
  Status status;
  RETURN_IF_ERROR(kv.Scan("r", "s", [&](std::string_view key, std::string_view value) {
    if (key.size() != kEntryKeySize) return true;
    const RecordId id = RecordId::FromBytes(AsBytes(key).subspan(kTag));
    StatusOr<IndexEntry> entry = DecodeEntry(id, value);
    if (!entry.ok()) status = entry.status();
    return entry.ok() && visit(id, *entry);
  }));
  return status;
}

}  // namespace holdfast
