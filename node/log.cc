#include "node/log.h"

#include "absl/strings/str_cat.h"
#include "common/base/mutant.h"
#include "node/findings.h"
#include "node/superblock.h"

namespace holdfast {
namespace {

// Kept free beyond what a batch needs, for the file system's own blocks and the index.
constexpr uint64_t kSpareBytes = 1u << 20;

// What callers can react to: no space, or "the disk cannot take it now".
Status WriteError(const Status& status) {
  if (status.ok() || absl::IsResourceExhausted(status)) return status;
  return absl::UnavailableError(status.message());
}

}  // namespace

struct Log::Active {
  std::unique_ptr<File> file;
  uint64_t allocated = 0;  // Size of the file.
  int64_t created_nanos = 0;
};

bool AboveLimit(const SpaceInfo& space, double fraction) {
  const double used = static_cast<double>(space.total_bytes) - space.free_bytes;
  return used > fraction * static_cast<double>(space.total_bytes);
}

Log::Log(const NodeOptions& options, const NodeEnv& env, LogStart start)
    : options_(options), env_(env), last_(std::move(start)) {}

Log::~Log() = default;

StatusOr<Log::Written> Log::Append(Batch& batch) {
  if (!last_.dropped.empty()) batch.AddDropped(last_.dropped);
  const uint64_t bytes = batch.TotalBytes();
  if (active_ && last_.end + bytes > options_.segment_bytes && last_.end > kBlockSize) Seal();
  if (!active_) RETURN_IF_ERROR(WriteError(Begin(bytes)));
  RETURN_IF_ERROR(WriteError(Reserve(bytes)));
  const Bytes data = batch.Finish(last_.id, last_.last_lsn + 1, last_.last_lsn);
  Status status = active_->file->WriteAt(last_.end, data);
  if (status.ok() && !HOLDFAST_MUTANT(ack_before_sync)) status = active_->file->DataSync();
  if (!status.ok()) {
    Suspect(data.size());
    return WriteError(status);
  }
  Written written;
  written.segment = last_.number;
  written.id = last_.id;
  written.offset = last_.end;
  written.created_nanos = active_->created_nanos;
  moved_ = true;
  last_.end += data.size();
  last_.last_lsn += batch.records().size();
  last_.synced_lsn = last_.last_lsn;
  last_.superblock_dirty = true;
  last_.dropped.clear();
  written.end = last_.end;
  written.last_lsn = last_.last_lsn;
  return written;
}

// Makes `active_`: the segment that recovery found clean, or a new one.
Status Log::Begin(uint64_t batch_bytes) {
  auto active = std::make_unique<Active>();
  OpenOptions open;
  open.write = open.direct = true;
  if (last_.resume) {
    last_.resume = false;
    ASSIGN_OR_RETURN(active->file, env_.fs.Open(SegmentPath(options_.dir, last_.number), open));
    ASSIGN_OR_RETURN(active->allocated, active->file->Size());
    active->created_nanos = env_.clock.WallNanos();
    active_ = std::move(active);
    if (last_.end + batch_bytes <= options_.segment_bytes) return absl::OkStatus();
    Seal();
    active = std::make_unique<Active>();
  }
  ASSIGN_OR_RETURN(SpaceInfo space, env_.fs.Space(options_.dir));
  if (space.free_bytes < batch_bytes + kBlockSize + kSpareBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        options_.dir, ": no room for a new segment: ", space.free_bytes, " bytes are free"));
  }
  RETURN_IF_ERROR(PassTakenNumbers());
  SegmentHeader header;
  header.vault = options_.vault;
  header.node = options_.node;
  header.segment = env_.rng.NewId<SegmentId>();
  header.number = last_.next_number;
  header.created_nanos = active->created_nanos = env_.clock.WallNanos();
  header.previous = last_.id;
  header.previous_end = last_.end;
  header.previous_last_lsn = last_.synced_lsn;
  const std::string path = SegmentPath(options_.dir, header.number);
  open.create = open.exclusive = true;
  ASSIGN_OR_RETURN(active->file, env_.fs.Open(path, open));
  Status status = WriteHeader(*active->file, header);
  if (!status.ok()) {
    // The file never held anything. If it cannot go, its number is passed over.
    if (!env_.fs.Remove(path).ok()) last_.next_number += 1;
    return status;
  }
  active->allocated = kBlockSize;
  active_ = std::move(active);
  TrimPrevious();
  last_.next_number = header.number + 1;
  last_.number = header.number;
  last_.id = header.segment;
  last_.end = kBlockSize;
  last_.last_lsn = last_.synced_lsn = 0;
  last_.superblock_dirty = moved_ = true;
  // The segment can be used without it: it only tells where the log ends.
  (void)SyncSuperblock();
  return absl::OkStatus();
}

// A file that is not the log's may have the next number; it is named at open, and left alone.
Status Log::PassTakenNumbers() {
  for (;; ++last_.next_number) {
    ASSIGN_OR_RETURN(bool taken, env_.fs.Exists(SegmentPath(options_.dir, last_.next_number)));
    if (!taken) return absl::OkStatus();
  }
}

Status Log::WriteHeader(File& file, const SegmentHeader& header) {
  AlignedBuffer block(kBlockSize);
  const auto bytes = EncodeSegmentHeader(header);
  std::memcpy(block.data(), bytes.data(), kBlockSize);
  RETURN_IF_ERROR(file.WriteAt(0, {block.data(), kBlockSize}));
  RETURN_IF_ERROR(file.DataSync());
  return env_.fs.SyncDir(options_.dir + "/segments");
}

// The new header covers the previous segment: what was preallocated behind its end can go.
void Log::TrimPrevious() {
  if (!last_.zeros_behind) return;
  last_.zeros_behind = false;
  OpenOptions open;
  open.write = true;
  auto file = env_.fs.Open(SegmentPath(options_.dir, last_.number), open);
  if (file.ok()) (void)(*file)->Truncate(last_.end);
}

// Preallocates in steps, so that a sync need not write the file's size and blocks each time.
Status Log::Reserve(uint64_t batch_bytes) {
  const uint64_t needed = last_.end + batch_bytes;
  if (needed <= active_->allocated) return absl::OkStatus();
  const uint64_t wanted = SizeFor(needed);
  Status status = active_->file->Allocate(active_->allocated, wanted - active_->allocated);
  if (status.ok()) active_->allocated = wanted;
  if (status.ok() || wanted == needed) return status;
  status = active_->file->Allocate(active_->allocated, needed - active_->allocated);
  if (status.ok()) active_->allocated = needed;
  return status;
}

// A whole step, unless the disk is so full that it would take what others need: even an attempt
// that fails does for a moment.
uint64_t Log::SizeFor(uint64_t needed) const {
  const uint64_t size =
      std::min(active_->allocated + options_.allocate_bytes, options_.segment_bytes);
  if (size <= needed) return needed;
  StatusOr<SpaceInfo> space = env_.fs.Space(options_.dir);
  // Two of them: what is reserved counts as used, and after the last there would be no room to use
  // it.
  const uint64_t steps = 2 * (size - active_->allocated);
  if (!space.ok() || space->free_bytes < steps) return needed;
  space->free_bytes -= steps;
  return AboveLimit(*space, options_.read_only_fraction) ? needed : size;
}

void Log::EndSegment() {
  last_.resume = false;
  if (active_) Seal();
}

void Log::Seal() {
  // A failure wastes the preallocated space and no more.
  if (active_->allocated > last_.end) (void)active_->file->Truncate(last_.end);
  active_.reset();
}

// N5: what was written since the last good sync may be there or not. The segment ends where it was
// last synced; a note in the next one says so. One block stays behind the end, so that a restart
// before that note sees an unclean end and does not append (N3).
void Log::Suspect(uint64_t uncertain_bytes) {
  last_.dropped.push_back({last_.number, last_.end, last_.end + uncertain_bytes});
  if (active_->allocated > last_.end) (void)active_->file->Truncate(last_.end + kBlockSize);
  active_.reset();
}

Status Log::SyncSuperblock() {
  if (!last_.superblock_dirty) return absl::OkStatus();
  Superblock next = last_.superblock;
  // What an unclean recovery kept is not claimed: ranges it dropped may not be noted yet.
  if (moved_) {
    next.synced_segment = last_.id;
    next.synced_segment_number = last_.number;
    next.synced_lsn = last_.synced_lsn;
    next.synced_end = last_.end;
  }
  RETURN_IF_ERROR(StoreSuperblock(env_.fs, options_.dir, next));
  last_.superblock = next;
  last_.superblock_dirty = false;
  return absl::OkStatus();
}

Status Log::Close() {
  if (active_) {
    // Without the sync a power cut could bring the space back, and the next start would not append.
    if (active_->file->Truncate(last_.end).ok()) (void)active_->file->DataSync();
    active_.reset();
  }
  return SyncSuperblock();
}

}  // namespace holdfast
