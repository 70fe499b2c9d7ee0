// One thread of an ingest: fills slabs with bytes of many files, has them cut and digested, and
// hands chunks and objects on.
//
// A worker has one slab, which it fills, has digested, and sends off, and then fills again: while
// it waits for the nodes, another worker has the processor. A long file stays with its worker as a
// stream, of which every slab takes the next slice; it begins behind the last cut, so that what
// lies between that and the end of the slice before is read once more.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "client/ingest_chunks.h"
#include "client/ingest_commit.h"
#include "client/ingest_feed.h"
#include "client/ingest_known.h"
#include "client/ingest_manifest.h"
#include "client/sealer.h"

namespace holdfast {

// How slabs are shared out; a pure function of options and chunk sizes.
struct SlabPlan {
  SlabPlan(size_t wanted_slab_bytes, uint32_t max_chunk);
  size_t slab_bytes;
  size_t first_bytes;  // Filled the first time, then twice as much: so that nodes soon have work.
  size_t long_bytes;   // Longer files are read as streams …
  size_t slice_bytes;  // … in slices of at least this: a lane's share of the slab.
};

class IngestWorker {
 public:
  struct Parts {
    IngestContext& ctx;
    Source& source;
    SourceFeed& feed;
    ChunkStore& store;
    ManifestMaker& maker;
    Committer& committer;
    KnownContents& known;
  };
  IngestWorker(const Parts& parts, const SlabPlan& plan, size_t workers, MutableBytes slab);
  ~IngestWorker();

  // Until the source is at its end or the vault has failed. Everything begun is handed on.
  void Run();

 private:
  // A file being read.
  struct Stream {
    IngestObject* object = nullptr;
    std::unique_ptr<SourceFile> file;
    uint64_t offset = 0;  // Cut so far.
    bool ended = false;
    kernels::DigestState state;
    // The vault has content of this name: while the chunks may turn out to be the same, the object
    // is not digested.
    bool asked = false;
    std::optional<KnownContent> known;
    Hash256 first_sha256{};  // Of its first chunk.
    // Read a second time, for its digests, as it is not what was known: how many chunks are so far
    // the same as the first time.
    bool again = false;
    size_t matched = 0;
  };
  struct Slab {
    MutableBytes memory;  // The first part of it.
    size_t used = 0;
    kernels::Batch batch;
    std::vector<std::unique_ptr<Stream>> short_files;  // Whole in this slab.
    std::vector<Stream*> streams;                      // Whose bytes batch.messages[i] is.
    std::vector<size_t> known;                         // Of messages that end a known object.
    ChunkStore::Round round;

    size_t room() const { return memory.size() - used; }
  };

  bool Stopping();
  bool NothingLeft();
  // False when there is nothing in it.
  bool Fill();
  void TakeStreams();
  void FillSlices();
  void FillShort();
  // Opens the next short file; while files are not in memory, a slab of them, which the disk then
  // reads meanwhile.
  void LookAhead(bool wait);
  // Reads the first of ahead_. False when it has to wait until the slab is filled the next time.
  bool AddShortFile();
  void StoreWithoutContent(SourceEntry entry);
  // A stream of the entry, whose file was opened; null, and the error is reported, when it was not.
  std::unique_ptr<Stream> Begin(SourceEntry entry, StatusOr<std::unique_ptr<SourceFile>> file);
  // Whether a file cannot be opened only as too many are, some of them by this worker: when those
  // are read, there will be room.
  bool CanWait(const Status& opened) const;
  // Once more from its beginning, however the file is now.
  Status OpenAgain(Stream& stream);
  // Undoes Begin, for an entry that goes back to the feed.
  SourceEntry Unbegin(std::unique_ptr<Stream> stream);
  // Reads the stream's next bytes, at most `slice`, into a message of the slab.
  Status ReadSlice(Stream& stream, size_t slice);

  void AskWhatIsKnown();
  void Process();
  kernels::Status Digest(kernels::Batch& batch);
  void CutObject(const kernels::Message& message, Stream& stream);
  ChunkIdentity IdentityOf(const kernels::Chunk& chunk) const;
  // The same for a stream's second pass; an error when it is not what it was.
  Status MatchObject(const kernels::Message& message, Stream& stream);
  void FinishObjects();
  bool IsKnown(const Stream& stream) const;
  // Decides objects of known content, once it is clear which of their chunks the nodes had.
  void Conclude();
  // Digests an object that is not what was known, from its bytes in the slab or from its file.
  void DigestAgain(const std::vector<size_t>& messages);
  Status Rewind(Stream& stream);
  void Release(IngestObject* object, const Status& status);
  // Drops streams that are read to their end or have failed.
  void DropEndedStreams();
  void AbandonStreams(const Status& status);

  IngestContext& ctx_;
  Source& source_;
  SourceFeed& feed_;
  ChunkStore& store_;
  ManifestMaker& maker_;
  Committer& committer_;
  KnownContents& known_;
  const SlabPlan plan_;
  const size_t workers_;
  const size_t max_ahead_;  // Of ahead_.
  const MutableBytes memory_;
  Sealer sealer_;
  StageClock clock_;
  Slab slab_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::deque<std::unique_ptr<Stream>> ahead_;  // Short files that are open, in their order.
  bool cold_ = false;    // Files of this slab or of the one before were not in memory.
  bool waited_ = false;  // Of this one.
  std::vector<ChunkStore::Cut> cuts_;
};

}  // namespace holdfast
