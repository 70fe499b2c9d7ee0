// The index over the log: a cache in a Kv without WAL, so after a crash it is as it was after some
// earlier batch. Every batch of the log is one batch here, which also moves the checkpoint: replay
// from the recovered checkpoint to the end of the log makes it exact again.
//
// Rows:  "r" id                → entry
//        "c" be64 number, id   → (empty)   commit records by number
//        "d" be32 seg, be64 at → Dropped   ranges a recovery dropped
//        "f" be32 seg          → (empty)   a segment with records that are not needed there: others
//                                replaced them, or they are being let go of
//        "q" id                → (empty)   entries that were quarantined, perhaps replaced since
//        "v" be32 seg          → wall time of the segment's last full check
//        "a" id, be32 seg, be64 at → entry of a chunk that another writer's record replaced, which
//                                may be a lie (node_get.cc); (empty): it is back
//        "p" id, writer        → be64 seg, be64 at: the record that this writer has put the bytes
//        of
//                                too
//        "state/…"             → checkpoint, highest commit number, what garbage collection told
//
// While the Kv refuses writes (a full disk), rows wait in memory and reads see them; that is safe
// because the log has them too. Used on the node's Loop only, except where said.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "absl/container/flat_hash_map.h"
#include "common/format/segment_format.h"
#include "common/kv/kv.h"

namespace holdfast {

struct Location {
  uint64_t segment = 0;  // Number.
  uint64_t offset = 0;   // Of the record header in the file.
  auto operator<=>(const Location&) const = default;
};

struct IndexEntry {
  Location at;
  uint64_t lsn = 0;
  uint64_t touch_epoch = 0;
  uint64_t horizon = 0;  // Of the run of garbage collection that last found it unneeded …
  uint64_t run = 0;      // … and its number.
  uint64_t number = 0;   // Of a commit record.
  uint32_t length = 0;
  RecordKind kind = RecordKind::kChunk;
  bool quarantined = false;
  bool surplus = false;  // That run found it needed elsewhere only.
  Checksum checksum;
  WriterId writer;

  bool trashed() const { return touch_epoch < horizon; }
  // In the trash for longer than any backup is kept that may name it.
  bool expired(uint64_t floor_run, uint64_t free_run) const {
    return trashed() && run > floor_run && run <= free_run;
  }
  uint64_t end() const { return at.offset + RecordExtent(length); }
  bool operator==(const IndexEntry&) const = default;
};

struct Checkpoint {
  uint64_t segment = 0;  // Number; 0: nothing is indexed yet.
  SegmentId id;
  uint64_t last_batch = 0;  // Where the last indexed batch begins; 0: none in this segment.
  uint64_t end = 0;         // Where the next one would.
  uint64_t lsn = 0;         // Of the last record indexed.
};

// What garbage collection has told this node, the highest of each; and the highest touch.
struct GcState {
  uint64_t generation = 0;
  uint64_t run = 0;
  uint64_t horizon = 0;
  uint64_t max_touch = 0;
  bool operator==(const GcState&) const = default;
};

// The id after `id`; zero after the last.
RecordId SuccessorOf(RecordId id);

// A range that a recovery dropped.
struct Dropped {
  DroppedRange range;
  uint64_t lsn = 0;    // Of the first record lost in it; 0: not known.
  bool noted = false;  // A recovery note in the log names it.
};

class Index;
using IndexRows = std::map<std::string, std::optional<std::string>>;  // Nothing: the row goes.

// Changes that go into one Kv batch. Reads through to the index.
class IndexDelta {
 public:
  explicit IndexDelta(Index& index) : index_(index) {}

  // Reads in one go what the calls below would read one by one.
  Status Load(const std::vector<RecordId>& ids);
  // The record takes over its id: a second record of one id is only ever written to replace the
  // first. Touch only grows (N6). A chunk of another writer that was not quarantined is set aside.
  Status AddRecord(const RecordHeader& header, Location at, bool quarantined = false);
  // Ids that are not indexed are passed over.
  Status AddTouch(uint64_t epoch, std::span<const RecordId> ids);
  // Only a mark whose horizon is above the entry's counts. The touch is not looked at here: the
  // order in which touches and marks come makes no difference.
  Status AddTrash(const TrashMark& mark, std::span<const RecordId> ids);
  // The entry goes; nothing in the log says so (docs/gc.md).
  Status Erase(const RecordId& id);
  // It holds records that the index does not point to.
  void SetStale(uint64_t segment);
  // Of a segment that is freed.
  void EraseSegmentRows(uint64_t segment, std::span<const Dropped> dropped);
  void EraseSetAside(const RecordId& id, Location at);
  // Marks the entry only while it still points to that very record.
  Status AddQuarantine(const QuarantineEntry& entry);
  // The writer has put the same bytes as the record there. Lost with the index.
  void AddProof(const RecordId& id, const WriterId& writer, Location at);
  void AddDropped(const Dropped& dropped);
  void SetCheckpoint(const Checkpoint& checkpoint);
  void SetVerified(uint64_t segment, int64_t wall_nanos);

  size_t size() const { return entries_.size() + rows_.size(); }
  // Calls visit(id, before, after) for every entry that was looked at.
  template <class Visit>
  void VisitEntries(const Visit& visit) const {
    for (const auto& [id, change] : entries_) visit(id, change.before, change.after);
  }

 private:
  friend class Index;
  struct Change {
    std::optional<IndexEntry> before, after;
  };
  StatusOr<std::optional<IndexEntry>*> Find(const RecordId& id);

  Index& index_;
  absl::flat_hash_map<RecordId, Change> entries_;
  IndexRows rows_;
  uint64_t top_commit_ = 0;
  GcState gc_;
  std::map<uint64_t, bool> stale_;  // Segments that become so, or are no more.
};

class Index {
 public:
  // Reads the small rows. kDataLoss when one of them is malformed.
  static StatusOr<std::unique_ptr<Index>> Open(std::shared_ptr<Kv> kv);

  StatusOr<std::vector<std::optional<IndexEntry>>> Find(const std::vector<RecordId>& ids);
  // Entries with ids in [from, to) in order, at most `limit`; `to` zero: to the last.
  StatusOr<std::vector<std::pair<RecordId, IndexEntry>>> List(const RecordId& from,
                                                              const RecordId& to, size_t limit);
  // Whether a commit record of this number and id is listed.
  StatusOr<bool> HasCommit(uint64_t number, const RecordId& id);
  // Ids of commit records with number >= from, in order, at most `limit`.
  StatusOr<std::vector<std::pair<uint64_t, RecordId>>> Commits(uint64_t from, size_t limit);
  // Entries that are quarantined now.
  StatusOr<uint64_t> CountQuarantined();
  // What was set aside of this id and is not back, oldest first.
  StatusOr<std::vector<IndexEntry>> SetAside(const RecordId& id);
  // Per id the record that the writer has proved, if any.
  StatusOr<std::vector<std::optional<Location>>> Proofs(const std::vector<RecordId>& ids,
                                                        const WriterId& writer);
  // Of one segment, or of all (0).
  StatusOr<std::vector<Dropped>> DroppedRanges(uint64_t segment);
  StatusOr<std::map<uint64_t, int64_t>> Verified();
  // Whether any writer has proved any record.
  StatusOr<bool> HasProofs();
  // Writers that have proved the record there.
  StatusOr<std::vector<WriterId>> Provers(const RecordId& id, Location at);

  // An error is the Kv's; the changes count all the same, and go in before the next ones.
  Status Apply(IndexDelta&& delta);
  Status Flush();

  const Checkpoint& checkpoint() const { return checkpoint_; }
  uint64_t top_commit() const { return top_commit_; }
  const GcState& gc() const { return gc_; }
  bool IsStale(uint64_t segment) const { return stale_.contains(segment); }
  // Whether another segment is.
  bool IsStaleBeside(uint64_t segment) const {
    return stale_.size() > (IsStale(segment) ? 1u : 0u);
  }
  // Rows that the Kv has refused so far.
  size_t backlog() const { return backlog_.size(); }
  // For Flush, Scan and VerifyAll on `io`: the Kv allows these beside the Loop's own calls.
  const std::shared_ptr<Kv>& kv() const { return kv_; }

  // Visits every entry from any thread; stops at false. kDataLoss names a malformed row.
  static Status Scan(Kv& kv, const std::function<bool(const RecordId&, const IndexEntry&)>& visit);
  // The same for what was set aside and is not back.
  static Status ScanSetAside(Kv& kv,
                             const std::function<bool(const RecordId&, const IndexEntry&)>& visit);

 private:
  explicit Index(std::shared_ptr<Kv> kv) : kv_(std::move(kv)) {}
  StatusOr<std::vector<std::optional<std::string>>> Get(const std::vector<std::string>& keys);
  StatusOr<std::map<std::string, std::string>> Range(const std::string& start,
                                                     const std::string& end, size_t key_size,
                                                     size_t limit);

  const std::shared_ptr<Kv> kv_;
  Checkpoint checkpoint_;
  uint64_t top_commit_ = 0;
  GcState gc_;
  std::set<uint64_t> stale_;
  IndexRows backlog_;
};

}  // namespace holdfast
