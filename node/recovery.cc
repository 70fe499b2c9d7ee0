#include "node/recovery.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "node/replay.h"
#include "node/superblock.h"
#include "node/window.h"

namespace holdfast {
namespace {

using proto::Finding;

// Left by a node that found its index damaged while running.
std::string MarkerPath(const std::string& dir) { return dir + "/index.damaged"; }

Status CheckIdentity(const NodeOptions& options, const Superblock& superblock) {
  if (superblock.vault != options.vault) {
    return absl::PermissionDeniedError(options.dir + " belongs to another vault");
  }
  if (superblock.node != options.node || superblock.node_number != options.node_number) {
    return absl::PermissionDeniedError(
        absl::StrCat(options.dir, " is node ", superblock.node_number, " of this vault, not node ",
                     options.node_number));
  }
  return absl::OkStatus();
}

// Whether the log still has what the index says it had: a disk that lost synced writes would
// otherwise be believed.
Status CheckCheckpoint(const NodeOptions& options, const NodeEnv& env, const SegmentTable& table,
                       const Checkpoint& checkpoint) {
  auto it = table.find(checkpoint.segment);
  if (it == table.end() || !it->second.readable() || it->second.id != checkpoint.id) {
    return absl::DataLossError(
        absl::StrCat("segment ", checkpoint.segment, ", which it names last, is not there"));
  }
  const SegmentInfo& info = it->second;
  const uint64_t limit = info.end == 0 ? info.file_bytes : std::min(info.end, info.file_bytes);
  if (checkpoint.end > limit) {
    return absl::DataLossError("it knows more than the log has");
  }
  if (checkpoint.last_batch == 0) return absl::OkStatus();
  StatusOr<std::unique_ptr<File>> file = OpenSegment(env.fs, options.dir, info.number);
  if (!file.ok()) return absl::OkStatus();
  Window window(**file, limit, kBlockSize);
  const uint64_t end = checkpoint.last_batch + kBatchHeaderSize;
  const bool zero = window.AllZero(checkpoint.last_batch, end);
  if (zero && !window.Unreadable(checkpoint.last_batch, end)) {
    return absl::DataLossError("it knows more than the log has");
  }
  return absl::OkStatus();
}

class IndexOpener {
 public:
  IndexOpener(const NodeOptions& options, const NodeEnv& env, const SegmentTable& table)
      : options_(options), env_(env), table_(table) {}

  // Opens the index, anew where it is not fit; `reason` then says why.
  StatusOr<std::unique_ptr<Index>> Run(std::string* reason) {
    ASSIGN_OR_RETURN(bool marked, env_.fs.Exists(MarkerPath(options_.dir)));
    Status unfit = absl::DataLossError("it was found damaged while in use");
    if (!marked) {
      StatusOr<std::unique_ptr<Index>> index = OpenExisting();
      if (index.ok()) return index;
      // Another process has it open: not ours to wipe.
      if (absl::IsFailedPrecondition(index.status())) return index;
      unfit = index.status();
    }
    *reason = absl::IsNotFound(unfit) ? "there was none" : Message(unfit);
    if (!absl::IsNotFound(unfit)) RETURN_IF_ERROR(env_.wipe_index());
    ASSIGN_OR_RETURN(std::unique_ptr<Kv> kv, env_.open_index(true));
    ASSIGN_OR_RETURN(std::unique_ptr<Index> index, Index::Open(std::move(kv)));
    if (index->checkpoint().segment != 0) {
      return absl::InternalError("a new index is not empty");
    }
    if (marked) RETURN_IF_ERROR(env_.fs.Remove(MarkerPath(options_.dir)));
    return index;
  }

 private:
  StatusOr<std::unique_ptr<Index>> OpenExisting() {
    ASSIGN_OR_RETURN(std::unique_ptr<Kv> kv, env_.open_index(false));
    ASSIGN_OR_RETURN(std::unique_ptr<Index> index, Index::Open(std::move(kv)));
    if (index->checkpoint().segment != 0) {
      RETURN_IF_ERROR(CheckCheckpoint(options_, env_, table_, index->checkpoint()));
    }
    return index;
  }

  const NodeOptions& options_;
  const NodeEnv& env_;
  const SegmentTable& table_;
};

LogStart MakeLogStart(const NodeOptions& options, const LoadedSuperblock& loaded,
                      const SegmentTable& table, uint64_t next_number, const ReplayResult& replay) {
  const Superblock& superblock = loaded.superblock;
  LogStart start;
  start.superblock = superblock;
  start.superblock_dirty = loaded.one_slot_damaged;
  start.next_number = next_number;
  start.zeros_behind = replay.zeros_behind;
  for (const Dropped& dropped : replay.unnoted) start.dropped.push_back(dropped.range);
  // The segment that comes next names the one that is lost, not the one before that: else its
  // number would count as passed over, and the loss be forgotten.
  if (replay.last < superblock.synced_segment_number) {
    start.number = superblock.synced_segment_number;
    start.id = superblock.synced_segment;
    start.end = superblock.synced_end;
    start.last_lsn = start.synced_lsn = superblock.synced_lsn;
    start.zeros_behind = false;
    return start;
  }
  if (replay.last == 0) return start;
  const SegmentInfo& last = table.at(replay.last);
  start.number = last.number;
  start.id = last.id;
  start.end = last.end;
  start.last_lsn = replay.last_lsn;
  start.synced_lsn = last.synced_lsn;
  start.resume = replay.clean && start.dropped.empty() && last.state == SegmentInfo::State::kGood &&
                 superblock.synced_segment == last.id && superblock.synced_end == last.end &&
                 last.file_bytes == last.end && last.end < options.segment_bytes;
  return start;
}

}  // namespace

StatusOr<Recovered> Recover(const NodeOptions& options, const NodeEnv& env) {
  ASSIGN_OR_RETURN(LoadedSuperblock superblock, LoadSuperblock(env.fs, options.dir));
  RETURN_IF_ERROR(CheckIdentity(options, superblock.superblock));
  Recovered recovered;
  const FindingMaker make(options.dir, options.node_number);
  if (superblock.one_slot_damaged) {
    recovered.findings.push_back(make.OfDisk(
        Finding::NOTE, "one of the superblock's two slots was damaged; the other one counts"));
  }
  ASSIGN_OR_RETURN(LoadedSegments segments,
                   LoadSegments(env.fs, options.dir, superblock.superblock));
  recovered.segments = std::move(segments.table);
  std::move(segments.findings.begin(), segments.findings.end(),
            std::back_inserter(recovered.findings));

  std::string reason;
  ASSIGN_OR_RETURN(recovered.index, IndexOpener(options, env, recovered.segments).Run(&reason));
  if (!reason.empty() && LastReadable(recovered.segments) != nullptr) {
    recovered.findings.push_back(
        make.OfDisk(Finding::NOTE, "the index was built anew from the log: " + reason));
  }
  ASSIGN_OR_RETURN(ReplayResult replay, Replay(options, env, superblock.superblock,
                                               recovered.segments, *recovered.index));
  std::move(replay.findings.begin(), replay.findings.end(), std::back_inserter(recovered.findings));
  for (const Finding& finding : recovered.findings) {
    auto it = recovered.segments.find(finding.segment_number());
    if (it == recovered.segments.end() || finding.class_() == Finding::NOTE) continue;
    it->second.damaged = true;
  }
  recovered.quarantine = std::move(replay.quarantine);
  recovered.log =
      MakeLogStart(options, superblock, recovered.segments, segments.next_number, replay);
  ASSIGN_OR_RETURN(auto verified, recovered.index->Verified());
  for (auto& [number, info] : recovered.segments) {
    auto it = verified.find(number);
    if (it != verified.end()) info.verified_nanos = std::max(info.verified_nanos, it->second);
  }
  return recovered;
}

Status MarkIndexDamaged(Fs& fs, const std::string& dir) {
  return WriteFileAtomically(fs, MarkerPath(dir), AsBytes("rebuild\n"));
}

}  // namespace holdfast
