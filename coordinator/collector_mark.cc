// Mark: the ids of all that the versions of one snapshot need.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/mutant.h"
#include "common/base/text.h"
#include "coordinator/collector.h"
#include "coordinator/parts.h"

namespace holdfast {
namespace {

// What one slice of mark takes on, so that others are served between two.
constexpr size_t kRowsPerSlice = 500;
constexpr size_t kBytesPerSlice = 2u << 20;
constexpr size_t kPartsPerSlice = 32;

}  // namespace

// Whoever opens a session from here on has an epoch at or above H, and touches what it uses.
void Collector::Mark() {
  StatusOr<std::unique_ptr<MarkSet>> marks = MarkSet::Make(*env_.fs, options_.gc_dir);
  if (!marks.ok()) return Fail(marks.status());
  marks_ = *std::move(marks);
  snapshot_ = catalogue_.kv().TakeSnapshot();
  if (!request_.dry_run()) {
    if (Status s = NoteSnapshot(); !s.ok()) return Fail(s);
  }
  Enter(Phase::MARK, log_.counters().versions);  // Nobody counts removed ones.
  cursor_ = std::string(1, static_cast<char>(RowKind::kObject));
  MarkSome();
}

void Collector::MarkSome() {
  const std::string end(1, static_cast<char>(RowKind::kObject) + 1);
  size_t rows = 0, bytes = 0;
  bool more = false;
  Status error;
  Status read = snapshot_->Scan(cursor_, end, [&](std::string_view key, std::string_view value) {
    if (rows == kRowsPerSlice || bytes >= kBytesPerSlice || parts_.size() >= kPartsPerSlice) {
      cursor_ = std::string(key);
      more = true;
      return false;
    }
    ++rows;
    bytes += value.size();
    error = MarkObject(key, value);
    return error.ok();
  });
  if (read.ok()) read = error;
  if (!read.ok()) return Fail(read);
  if (!more) cursor_.clear();
  FetchParts();
}

Status Collector::MarkObject(std::string_view key, std::string_view value) {
  const auto damaged = [&](const Status& why) {
    const StatusOr<ParsedObjectKey> parsed = ParseObjectKey(key);
    return absl::DataLossError(absl::StrCat(
        "nothing is collected while the catalogue's row of ",
        parsed.ok() ? PrintableObject(catalogue_.CollectionName(parsed->collection), parsed->name)
                    : "an object",
        " is damaged (", Message(why), "): ", kRebuildHint));
  };
  StatusOr<ObjectRow> row = DecodeObjectRow(value);
  if (!row.ok()) return damaged(row.status());
  if (request_.dry_run() && row->removed_nanos != 0 &&
      row->removed_nanos < env_.clock.WallNanos() - request_.undo_window_nanos()) {
    report_.set_purged_versions(report_.purged_versions() + 1);
    return absl::OkStatus();
  }
  if (HOLDFAST_MUTANT(removed_not_marked) && row->removed_nanos != 0) return absl::OkStatus();
  StatusOr<ClearManifest> manifest = DecodeClearManifest(row->manifest);
  if (!manifest.ok()) return damaged(manifest.status());
  return MarkManifest(*row, *manifest);
}

Status Collector::MarkManifest(const ObjectRow& row, const ClearManifest& manifest) {
  report_.set_versions(report_.versions() + 1);
  if (row.removed_nanos == 0) report_.set_done(report_.done() + 1);
  for (const ChunkRef& chunk : manifest.chunks) RETURN_IF_ERROR(marks_->Add(chunk.id));
  for (const PartRef& part : manifest.parts) {
    RETURN_IF_ERROR(marks_->Add(part.id));
    parts_.push_back(part);
    part_names_.push_back(manifest.name);
  }
  return absl::OkStatus();
}

void Collector::FetchParts() {
  if (parts_.empty()) {
    if (!cursor_.empty()) return Later([](Collector& c) { c.MarkSome(); });
    return Survey();
  }
  // A file of many parts brings more than a slice's worth: they are fetched in the same slices.
  const size_t count = std::min(parts_.size(), kPartsPerSlice);
  waiting_ = count;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = parts_.size() - 1 - i;
    GetPart(
        nodes_, options_.keys, parts_[at].id,
        absl::StrCat("nothing is collected while a manifest part of ", Printable(part_names_[at]),
                     " cannot be read (`holdfast rm --now` gives the object up)"),
        parts_[at].digest, kAskNanos, [this, serial = serial_](const StatusOr<PartRecord>& part) {
          if (serial != serial_ || !running_) return;
          StatusOr<std::vector<ChunkRef>> chunks =
              part.ok() ? DecodePartClear(part->clear) : part.status();
          if (!chunks.ok()) return Fail(chunks.status());
          for (const ChunkRef& chunk : *chunks) {
            if (Status s = marks_->Add(chunk.id); !s.ok()) return Fail(s);
          }
          if (--waiting_ == 0) Later([](Collector& c) { c.FetchParts(); });
        });
  }
  parts_.resize(parts_.size() - count);
  part_names_.resize(parts_.size());
}

void Collector::Survey() {
  snapshot_.reset();
  free_run_ = 0;
  if (request_.dry_run()) {
    KvBatch past;  // Stays for a run that changes something.
    const StatusOr<uint64_t> free_run = FreeRun(&past);
    if (!free_run.ok()) return Fail(free_run.status());
    free_run_ = *free_run;
  }
  Enter(Phase::SURVEY, MarkSet::kBuckets);
  Later([](Collector& c) { c.NextBuckets(); });
}

}  // namespace holdfast
