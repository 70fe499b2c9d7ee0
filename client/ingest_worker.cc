#include "client/ingest_worker.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "common/io/open_files.h"

namespace holdfast {
namespace {

constexpr size_t kMaxMessages =
    512;  // In a slab: enough to fill the lanes; more only touches more memory.
constexpr size_t kMaxAhead = 1024;  // Files that all workers together have open before their turn.
constexpr size_t kMaxAheadShare = 4;  // At most one of so many descriptors is for those.
constexpr size_t kMessageAlign = 64;
constexpr size_t kMaxStreams = 16;  // As many as the engine has lanes.

size_t AlignUp(size_t n) { return (n + kMessageAlign - 1) / kMessageAlign * kMessageAlign; }

bool IsFile(const SourceEntry& entry) {
  return entry.type == ObjectType::kFile || entry.type == ObjectType::kHardLink;
}

Status Changed() { return absl::AbortedError("changed while it was read"); }

// Whether chunks go to other processes, and every node gets a good part of all.
bool FewNodesElsewhere(IngestContext& ctx) {
  if (!ctx.nodes_elsewhere()) return false;
  MonitorLock lock(*ctx.monitor);
  return ctx.map->nodes.size() <= 2 * size_t{ctx.map->replicas};
}

}  // namespace

SlabPlan::SlabPlan(size_t wanted_slab_bytes, uint32_t max_chunk)
    : slab_bytes(std::max<size_t>(wanted_slab_bytes, 4 * size_t{max_chunk})),
      first_bytes(std::min(slab_bytes, 4 * size_t{max_chunk})),
      long_bytes(std::max<size_t>(2 * size_t{max_chunk}, slab_bytes / kMaxStreams)),
      slice_bytes(std::max<size_t>(max_chunk, slab_bytes / kMaxStreams)) {}

IngestWorker::IngestWorker(const Parts& parts, const SlabPlan& plan, size_t workers,
                           MutableBytes slab)
    : ctx_(parts.ctx),
      source_(parts.source),
      feed_(parts.feed),
      store_(parts.store),
      maker_(parts.maker),
      committer_(parts.committer),
      known_(parts.known),
      plan_(plan),
      workers_(workers),
      max_ahead_(std::clamp<size_t>(std::min(kMaxAhead, OpenFileLimit() / kMaxAheadShare) / workers,
                                    1, kMaxMessages)),
      memory_(slab),
      sealer_(parts.ctx.vault.domain_keys(), FewNodesElsewhere(parts.ctx)),
      clock_(parts.ctx.options.times) {
  slab_.memory = memory_.first(plan.first_bytes);
}

IngestWorker::~IngestWorker() = default;

void IngestWorker::Run() {
  for (;;) {
    clock_.Enter("read");
    const bool filled = Fill();
    if (filled) {
      Process();
      clock_.Enter("seal and put");
      store_.Complete(slab_.round, sealer_);
      Conclude();
    }
    store_.ResolveDisputes(sealer_);
    if (ctx_.inline_mode()) committer_.Poll();
    if (!filled && NothingLeft()) break;
    slab_.memory = memory_.first(std::min(memory_.size(), 2 * slab_.memory.size()));
  }
  clock_.Enter(nullptr);  // On this thread, whose time it takes.
}

bool IngestWorker::Stopping() {
  MonitorLock lock(*ctx_.monitor);
  return ctx_.failed();
}

bool IngestWorker::NothingLeft() {
  return streams_.empty() && ahead_.empty() && (Stopping() || feed_.finished());
}

bool IngestWorker::Fill() {
  slab_.used = 0;
  slab_.batch.messages.clear();
  slab_.streams.clear();
  slab_.short_files.clear();
  slab_.known.clear();
  slab_.round.owned.clear();
  slab_.round.claims.clear();
  if (Stopping()) {
    AbandonStreams(absl::AbortedError("not stored: the vault failed before"));
    return false;
  }
  cold_ = std::exchange(waited_, false);
  TakeStreams();
  FillSlices();
  FillShort();
  if (cold_ || waited_) LookAhead(/*wait=*/false);
  return !slab_.streams.empty();
}

// A fair share of the long files, so that they do not all end up with one worker.
void IngestWorker::TakeStreams() {
  const size_t max_streams = slab_.memory.size() / plan_.slice_bytes;
  while (streams_.size() < max_streams && streams_.size() * workers_ <= ctx_.open_streams) {
    std::optional<SourceEntry> entry = feed_.TakeLong();
    if (!entry) return;
    StatusOr<std::unique_ptr<SourceFile>> file = source_.Open(*entry);
    if (CanWait(file.status())) return feed_.PutLong(*std::move(entry));
    std::unique_ptr<Stream> stream = Begin(*std::move(entry), std::move(file));
    if (stream == nullptr) continue;
    ++ctx_.open_streams;
    streams_.push_back(std::move(stream));
  }
}

// The digests of a file are one chain: while there are short files to mix in, no slice is longer
// than what each lane gets of the slab.
void IngestWorker::FillSlices() {
  const size_t n = streams_.size();
  if (n == 0) return;
  size_t slice = slab_.memory.size() / n;
  if (!ahead_.empty() || feed_.short_waiting()) slice = std::min(slice, plan_.slice_bytes);
  slice = slice / kMessageAlign * kMessageAlign;
  for (const std::unique_ptr<Stream>& stream : streams_) {
    const Status read = ReadSlice(*stream, slice);
    if ((cold_ || waited_) && stream->file != nullptr) {
      waited_ |= stream->file->WillRead(stream->offset + slice, slice);
    }
    if (read.ok()) continue;
    stream->ended = true;
    Release(stream->object, read);
  }
  if (slab_.streams.size() < n) DropEndedStreams();
}

void IngestWorker::FillShort() {
  const bool wait = slab_.streams.empty();
  while (slab_.streams.size() < kMaxMessages) {
    if (ahead_.empty()) LookAhead(wait && slab_.streams.empty());
    if (ahead_.empty()) break;
    if (!AddShortFile()) return;
  }
  if (!wait || !slab_.streams.empty()) return;
  MonitorLock lock(*ctx_.monitor);
  ctx_.Await([&] { return ctx_.open_objects < ctx_.max_open_objects() || ctx_.failed(); });
}

void IngestWorker::LookAhead(bool wait) {
  const bool cold = cold_ || waited_;
  const size_t files = cold ? max_ahead_ : 1;
  uint64_t bytes = 0;
  for (const auto& stream : ahead_) bytes += stream->object->entry.stamp.size;
  while (ahead_.size() < files && bytes < slab_.memory.size() &&
         ctx_.open_objects < ctx_.max_open_objects()) {
    std::optional<SourceEntry> entry = feed_.TakeShort(wait && ahead_.empty());
    if (!entry) return;
    if (entry->special || !entry->error.ok() || !IsFile(*entry)) {
      StoreWithoutContent(*std::move(entry));
      continue;
    }
    StatusOr<std::unique_ptr<SourceFile>> file = source_.OpenAsListed(*entry);
    if (CanWait(file.status())) return feed_.PutShort(*std::move(entry));
    std::unique_ptr<Stream> stream = Begin(*std::move(entry), std::move(file));
    if (stream == nullptr) continue;
    const uint64_t size = stream->object->entry.stamp.size;
    if (cold) waited_ |= stream->file->WillRead(0, size);
    bytes += size;
    ahead_.push_back(std::move(stream));
  }
}

bool IngestWorker::AddShortFile() {
  const std::unique_ptr<Stream>& stream = ahead_.front();
  Status read;
  for (bool again = false; read.ok(); again = true) {
    // It may have grown since the walk.
    const uint64_t size = stream->object->entry.stamp.size;
    if (size > plan_.long_bytes) {
      feed_.PutLong(Unbegin(std::move(ahead_.front())));
      ahead_.pop_front();
      return true;
    }
    if (size >= slab_.room()) return false;
    read = ReadSlice(*stream, slab_.room());
    if (read.ok() || again) break;
    read = OpenAgain(*stream);  // It may have changed before it was opened.
  }
  stream->object->entry.parent.reset();
  if (read.ok()) {
    slab_.short_files.push_back(std::move(ahead_.front()));
  } else {
    Release(stream->object, read);
  }
  ahead_.pop_front();
  return true;
}

bool IngestWorker::CanWait(const Status& opened) const {
  return absl::IsResourceExhausted(opened) && !(streams_.empty() && ahead_.empty());
}

Status IngestWorker::OpenAgain(Stream& stream) {
  stream.file.reset();
  ASSIGN_OR_RETURN(stream.file, source_.Open(stream.object->entry));
  stream.offset = 0;
  return absl::OkStatus();
}

void IngestWorker::StoreWithoutContent(SourceEntry entry) {
  ++ctx_.open_objects;
  if (entry.special || !entry.error.ok()) {
    MonitorLock lock(*ctx_.monitor);
    const Status status = entry.error;
    return committer_.Report(std::move(entry), status);
  }
  auto* object = new IngestObject;
  object->entry = std::move(entry);
  kernels::DigestState state{};
  state.Reset();
  if (object->entry.type == ObjectType::kSymlink) {
    object->size = object->entry.link.size();
    kernels::Update(state, ctx_.options.digests, AsBytes(object->entry.link));
  }
  Release(object, maker_.Make(*object, kernels::Finish(state, ctx_.options.digests)));
}

std::unique_ptr<IngestWorker::Stream> IngestWorker::Begin(
    SourceEntry entry, StatusOr<std::unique_ptr<SourceFile>> file) {
  ++ctx_.open_objects;
  auto stream = std::make_unique<Stream>();
  stream->object = new IngestObject;
  stream->object->entry = std::move(entry);
  if (!file.ok()) {
    Release(stream->object, file.status());
    return nullptr;
  }
  stream->file = *std::move(file);
  stream->state = {};
  stream->state.Reset();
  return stream;
}

SourceEntry IngestWorker::Unbegin(std::unique_ptr<Stream> stream) {
  SourceEntry entry = std::move(stream->object->entry);
  delete stream->object;
  MonitorLock lock(*ctx_.monitor);
  --ctx_.open_objects;
  return entry;
}

Status IngestWorker::ReadSlice(Stream& stream, size_t slice) {
  uint8_t* begin = slab_.memory.data() + slab_.used;
  assert(slice <= slab_.room());
  // One byte more than is left shows whether the file has grown.
  const uint64_t left = stream.object->entry.stamp.size - stream.offset;
  const size_t ask = std::min<uint64_t>(slice, left + 1);
  ASSIGN_OR_RETURN(const size_t n, stream.file->ReadAt(stream.offset, {begin, ask}));
  waited_ |= stream.file->waited();
  if (n > left || n < std::min<uint64_t>(ask, left)) return Changed();
  const bool last = n == left;
  if (last) {
    ASSIGN_OR_RETURN(const FileStamp stamp, stream.file->Stamp());
    if (stamp != stream.object->entry.stamp) return Changed();
    stream.file.reset();
  }
  kernels::Message& message = slab_.batch.messages.emplace_back();
  message.data = {begin, n};
  message.last = last;
  message.digests = ctx_.options.digests;
  message.state = &stream.state;
  slab_.streams.push_back(&stream);
  slab_.used = std::min(AlignUp(slab_.used + n), slab_.memory.size());
  return absl::OkStatus();
}

void IngestWorker::AskWhatIsKnown() {
  std::vector<Stream*> streams;
  std::vector<const SourceEntry*> entries;
  for (Stream* stream : slab_.streams) {
    if (std::exchange(stream->asked, true)) continue;
    streams.push_back(stream);
    entries.push_back(&stream->object->entry);
  }
  std::vector<std::optional<KnownContent>> known = known_.Find(entries);
  for (size_t i = 0; i < streams.size(); ++i) streams[i]->known = known[i];
  for (size_t i = 0; i < slab_.streams.size(); ++i) {
    if (slab_.streams[i]->known) slab_.batch.messages[i].digests = 0;
  }
}

void IngestWorker::Process() {
  clock_.Enter("ask what is known");
  AskWhatIsKnown();
  clock_.Enter("cut and digest");
  if (Digest(slab_.batch) != kernels::Status::kOk) {
    for (Stream* stream : slab_.streams) {
      stream->ended = true;
      Release(stream->object, absl::InternalError("the engine failed"));
    }
    return DropEndedStreams();
  }
  clock_.Enter("identify and pin");
  cuts_.clear();
  for (size_t i = 0; i < slab_.streams.size(); ++i) {
    Stream& stream = *slab_.streams[i];
    const kernels::Message& message = slab_.batch.messages[i];
    stream.offset += message.consumed;
    ctx_.progress.bytes_read += message.consumed;
    if (!stream.again) {
      CutObject(message, stream);
    } else if (const Status same = MatchObject(message, stream); !same.ok()) {
      stream.ended = true;
      Release(stream.object, same);
    }
  }
  store_.Begin(cuts_, slab_.round);
  FinishObjects();
}

kernels::Status IngestWorker::Digest(kernels::Batch& batch) {
  std::optional<kernels::Status> result;
  ctx_.engine.Submit(batch, [&, keep = ctx_.monitor](kernels::Status status) {
    MonitorLock lock(*keep);
    result = status;
  });
  MonitorLock lock(*ctx_.monitor);
  ctx_.Await([&] { return result.has_value(); });
  return *result;
}

ChunkIdentity IngestWorker::IdentityOf(const kernels::Chunk& chunk) const {
  // Equal chunks of one batch have one identity. That they are equal is seen here: a device that
  // only says so is not believed, and what both are sealed under is the same Poly1305.
  if (chunk.first_same < cuts_.size()) {
    const ChunkStore::Cut& first = cuts_[chunk.first_same];
    const bool same = first.identity.length == chunk.length &&
                      first.identity.poly1305 == chunk.poly1305 && first.sha256 == chunk.sha256;
    if (same) return first.identity;
  }
  ChunkIdentity identity;
  identity.h = ctx_.vault.domain_keys().ChunkSecret(chunk.sha256, chunk.length, chunk.poly1305);
  identity.id = ChunkIdOf(identity.h);
  identity.poly1305 = chunk.poly1305;
  identity.length = chunk.length;
  return identity;
}

void IngestWorker::CutObject(const kernels::Message& message, Stream& stream) {
  IngestObject& object = *stream.object;
  size_t at = 0;
  for (const kernels::Chunk& chunk : message.chunks) {
    const ChunkIdentity identity = IdentityOf(chunk);
    if (object.sealed_chunks.empty()) stream.first_sha256 = chunk.sha256;
    object.sealed_chunks.push_back({identity.h, chunk.length});
    cuts_.push_back({&object, identity, message.data.subspan(at, chunk.length), chunk.sha256,
                     message.from_device});
    at += chunk.length;
  }
  object.size += at;
}

Status IngestWorker::MatchObject(const kernels::Message& message, Stream& stream) {
  const std::vector<SealedChunkInfo>& before = stream.object->sealed_chunks;
  for (const kernels::Chunk& chunk : message.chunks) {
    if (stream.matched == before.size()) return Changed();
    if (IdentityOf(chunk).h != before[stream.matched++].h) return Changed();
  }
  if (message.last && stream.matched != before.size()) return Changed();
  return absl::OkStatus();
}

// Makes the manifests of what is read to its end, while the nodes answer for its chunks.
void IngestWorker::FinishObjects() {
  clock_.Enter("manifests");
  std::vector<std::pair<IngestObject*, Status>> finished;
  for (size_t i = 0; i < slab_.streams.size(); ++i) {
    const kernels::Message& message = slab_.batch.messages[i];
    Stream& stream = *slab_.streams[i];
    if (!message.last || stream.ended) continue;
    if (stream.known) {
      slab_.known.push_back(i);
      continue;
    }
    stream.ended = true;
    stream.object->entry.parent.reset();
    finished.emplace_back(stream.object, maker_.Make(*stream.object, message.result));
  }
  {
    MonitorLock lock(*ctx_.monitor);
    for (auto& [object, status] : finished) {
      if (object->status.ok()) object->status = status;
      ctx_.Drop(object);
    }
  }
  DropEndedStreams();
}

// The digest of an object of one chunk is there, and must be what is recorded too.
bool IngestWorker::IsKnown(const Stream& stream) const {
  const std::vector<ChunkRef>& chunks = stream.object->clear.chunks;
  if (ChunksHash(chunks) != stream.known->chunks) return false;
  return chunks.size() != 1 ||
         ctx_.vault.domain_keys().Tag(DigestAlgorithm::kSha256, stream.first_sha256) ==
             stream.known->tag_sha256;
}

// Content that is the same, and of which nothing had to be put, is unchanged. If something was put,
// or a chunk was found by a map that is not the newest, the coordinator is asked by a commit, as it
// knows whether that is on the right nodes.
void IngestWorker::Conclude() {
  if (slab_.known.empty()) return;
  const std::optional<uint64_t> map_version = known_.MapVersion();
  std::vector<size_t> again;
  for (size_t i : slab_.known) {
    Stream& stream = *slab_.streams[i];
    IngestObject& object = *stream.object;
    const bool same = IsKnown(stream);
    known_.Tell(same);
    MonitorLock lock(*ctx_.monitor);
    const bool sure = same && !object.put && map_version && object.map_version >= *map_version;
    if (object.status.ok() && !sure) {
      again.push_back(i);
      continue;
    }
    stream.ended = true;
    object.entry.parent.reset();
    object.clear.name = object.entry.name;
    object.clear.type = object.entry.type;
    object.clear.chunk_count = object.sealed_chunks.size();
    object.unchanged = stream.known->version;
    ctx_.Drop(&object);
  }
  if (!again.empty()) DigestAgain(again);
  DropEndedStreams();
}

void IngestWorker::DigestAgain(const std::vector<size_t>& messages) {
  kernels::Batch batch;
  std::vector<Stream*> streams;
  for (size_t i : messages) {
    Stream& stream = *slab_.streams[i];
    stream.known.reset();
    stream.state.Reset();
    const kernels::Message& message = slab_.batch.messages[i];
    if (message.data.size() == stream.offset) {
      streams.push_back(&stream);
      batch.messages.push_back({.data = message.data,
                                .last = true,
                                .digests = ctx_.options.digests,
                                .state = &stream.state});
    } else if (const Status rewound = Rewind(stream); !rewound.ok()) {
      stream.ended = true;
      Release(stream.object, rewound);
    }
  }
  const bool digested = Digest(batch) == kernels::Status::kOk;
  for (size_t i = 0; i < streams.size(); ++i) {
    streams[i]->ended = true;
    Release(streams[i]->object, digested
                                    ? maker_.Make(*streams[i]->object, batch.messages[i].result)
                                    : absl::InternalError("the engine failed"));
  }
}

Status IngestWorker::Rewind(Stream& stream) {
  const FileStamp before = stream.object->entry.stamp;
  RETURN_IF_ERROR(OpenAgain(stream));
  if (stream.object->entry.stamp != before) return Changed();
  stream.again = true;
  return absl::OkStatus();
}

void IngestWorker::Release(IngestObject* object, const Status& status) {
  MonitorLock lock(*ctx_.monitor);
  if (object->status.ok()) object->status = status;
  ctx_.Drop(object);
}

void IngestWorker::DropEndedStreams() {
  ctx_.open_streams -= std::erase_if(streams_, [](const auto& stream) { return stream->ended; });
}

void IngestWorker::AbandonStreams(const Status& status) {
  for (const std::unique_ptr<Stream>& stream : streams_) {
    stream->ended = true;
    Release(stream->object, status);
  }
  DropEndedStreams();
  for (const std::unique_ptr<Stream>& stream : ahead_) Release(stream->object, status);
  ahead_.clear();
}

}  // namespace holdfast
