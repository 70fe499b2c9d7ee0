#include "client/ingest_commit.h"

#include <algorithm>
#include <utility>

#include "common/rpc/methods.h"

namespace holdfast {
namespace {

constexpr size_t kCommitBytes = 8u << 20;  // Of manifests in one commit: it becomes one record.
constexpr uint32_t kPartsAtOnce = 4;
constexpr int64_t kRenewNanos = 60'000'000'000;
constexpr int64_t kTellWaitingNanos = 10'000'000'000;

bool IsFile(ObjectType type) { return type == ObjectType::kFile || type == ObjectType::kHardLink; }

size_t EncodedSize(const ClearManifest& clear) {
  return 256 + clear.name.size() + clear.sealed.size() + clear.chunks.size() * 36 +
         clear.parts.size() * 64;
}

template <class T>
std::span<const T> PartOf(const std::vector<T>& list, uint32_t index) {
  const size_t begin = size_t{index} * kChunksPerPart;
  return std::span(list).subspan(begin, std::min(kChunksPerPart, list.size() - begin));
}

}  // namespace

Committer::Committer(IngestContext& ctx, ChunkStore& store, ManifestMaker& maker,
                     IngestObserver& observer)
    : ctx_(ctx), store_(store), maker_(maker), observer_(observer) {
  ctx_.finished = [this](std::unique_ptr<IngestObject> object) { Add(std::move(object)); };
  ctx_.pump = [this] { Pump(); };
  if (ctx_.inline_mode()) return;
  loop_ = NewThreadLoop("ingest-commit");
  ctx_.timer = loop_.get();
  ctx_.waiting = [this](const Status& why) { NoteWaiting(why); };
  renewed_nanos_ = ctx_.vault.clock().MonotonicNanos();
  loop_->Post([this] { Tick(); });
}

Committer::~Committer() = default;

void Committer::NoteWaiting(const Status& why) {
  const int64_t now = ctx_.vault.clock().MonotonicNanos();
  if (told_waiting_nanos_ != 0 && now - told_waiting_nanos_ < kTellWaitingNanos) return;
  told_waiting_nanos_ = now;
  waiting_ = why;
  Wake();
}

void Committer::Tick() {
  Pump();
  store_.RetryStalled();
  const int64_t now = ctx_.vault.clock().MonotonicNanos();
  if (now - renewed_nanos_ >= kRenewNanos) {
    renewed_nanos_ = now;
    ctx_.RenewSession();
  }
  loop_->PostAfter(std::max<int64_t>(ctx_.options.commit_delay_nanos / 4, 1'000'000),
                   [this] { Tick(); });
}

void Committer::Wake() {
  if (ctx_.inline_mode()) {
    ctx_.pump_wanted = true;
  } else if (!std::exchange(woken_, true)) {
    loop_->Post([this] { Pump(); });
  }
}

void Committer::Add(std::unique_ptr<IngestObject> object) {
  if (!object->status.ok()) {
    Report(std::move(object->entry), object->status);
    return;
  }
  if (!object->unchanged.is_zero()) {
    const VersionId version = object->unchanged;
    unchanged_.push_back({std::move(object), version, ObjectState::kUnchanged});
    return Wake();
  }
  if (object->clear.chunk_count > kChunksPerPart && object->clear.parts.empty()) {
    PartsJob job;
    job.count = static_cast<uint32_t>(1 + (object->clear.chunk_count - 1) / kChunksPerPart);
    object->clear.parts.resize(job.count);
    job.object = std::move(object);
    parts_.push_back(std::move(job));
    return Wake();
  }
  if (ready_.empty()) oldest_nanos_ = ctx_.vault.clock().MonotonicNanos();
  ready_bytes_ += EncodedSize(object->clear);
  ready_.push_back(std::move(object));
  if (due()) Wake();
}

void Committer::Report(SourceEntry entry, const Status& status) {
  // Once the vault has failed, that is the one thing to say, not each object it concerns.
  const bool told = status.ok() || !ctx_.failed();
  events_.push_back({std::move(entry.name), status, IsFile(entry.type), told, entry.stamp.size});
  Wake();
}

void Committer::Poll() {
  MonitorLock lock(*ctx_.monitor);
  if (due()) Wake();
  ctx_.Await([] { return true; });
}

void Committer::Finish() {
  MonitorLock lock(*ctx_.monitor);
  closing_ = true;
  Wake();
  ctx_.Await(
      [&] { return ctx_.open_objects == 0 && (commits_ > 0 || ctx_.failed()) && !under_way_; });
}

bool Committer::due() const {
  if (under_way_) return false;
  // At the end, an empty commit makes a collection that nothing went into.
  if (ready_.empty()) {
    return closing_ && commits_ == 0 && ctx_.open_objects == 0 && !ctx_.failed();
  }
  return closing_ || ready_.size() >= ctx_.options.commit_objects ||
         ready_bytes_ >= kCommitBytes / 2 ||
         ctx_.vault.clock().MonotonicNanos() - oldest_nanos_ >= ctx_.options.commit_delay_nanos;
}

Committer::Objects Committer::TakeBatch() {
  Objects batch;
  size_t bytes = 0;
  while (!ready_.empty() && batch.size() < ctx_.options.commit_objects) {
    const size_t size = EncodedSize(ready_.front()->clear);
    if (!batch.empty() && bytes + size > kCommitBytes) break;
    bytes += size;
    batch.push_back(std::move(ready_.front()));
    ready_.pop_front();
  }
  ready_bytes_ -= bytes;
  return batch;
}

bool Committer::TakeQuestion() {
  if (parts_.empty() || parts_.front().stage != PartsJob::Stage::kNew) return false;
  parts_.front().stage = PartsJob::Stage::kAsked;
  return true;
}

bool Committer::TakePart(uint32_t& index) {
  if (parts_.empty() || parts_.front().stage != PartsJob::Stage::kPut) return false;
  PartsJob& job = parts_.front();
  if (job.next == job.count || job.outstanding == kPartsAtOnce || !job.status.ok()) return false;
  index = job.next++;
  ++job.outstanding;
  return true;
}

// Does one thing after another until nothing is left to do now.
void Committer::Pump() {
  for (;;) {
    ctx_.monitor->Lock();
    woken_ = false;
    std::vector<Event> events = std::exchange(events_, {});
    std::optional<StatusOr<RpcMessage>> reply = std::exchange(reply_, std::nullopt);
    const bool start = !reply && due();
    if (start) {
      under_way_ = true;
      ++commits_;
      batch_ = TakeBatch();
    }
    FinishParts();
    std::vector<Stored> unchanged = std::exchange(unchanged_, {});
    const std::optional<Status> waiting = std::exchange(waiting_, std::nullopt);
    const bool ask = TakeQuestion();
    uint32_t part = 0;
    const bool send_part = TakePart(part);
    ctx_.monitor->Unlock();
    if (waiting) observer_.OnWaiting(*waiting);
    if (!events.empty()) Tell(events);
    if (!unchanged.empty()) ReportStored(unchanged);
    if (reply) FinishCommit(*reply);
    if (start) SendCommit();
    if (ask) AskForSame();
    if (send_part) SendPart(part);
    if (events.empty() && unchanged.empty() && !reply && !start && !ask && !send_part) return;
  }
}

void Committer::Tell(const std::vector<Event>& events) {
  for (const Event& event : events) {
    if (event.status.ok()) {
      observer_.OnSkipped(event.name);
    } else if (event.told) {
      observer_.OnError(event.name, event.status);
    }
  }
  MonitorLock lock(*ctx_.monitor);
  for (const Event& event : events) {
    ++(event.status.ok() ? ctx_.summary.special : ctx_.summary.errors);
    if (event.is_file && !event.status.ok()) {
      ++ctx_.progress.files_done;
      ctx_.progress.bytes_done += event.size;
    }
  }
  ctx_.open_objects -= events.size();
}

void Committer::SendCommit() {
  RpcMessage message;
  Status made = broken_.ok() ? MakeRequest(message) : broken_;
  if (!made.ok()) return FinishCommit(made);
  ctx_.Call(kCoordinatorAddress, std::move(message), [this](StatusOr<RpcMessage> reply) {
    MonitorLock lock(*ctx_.monitor);
    reply_ = std::move(reply);
    Wake();
  });
}

void Committer::AddSealingKeys(proto::CommitRequest& request) {
  std::vector<SealingKeyId> keys;
  for (const std::unique_ptr<IngestObject>& object : batch_) {
    const SealingKeyId& id = object->clear.sealing_key;
    if (std::find(keys.begin(), keys.end(), id) == keys.end()) keys.push_back(id);
  }
  for (const SealingKeyId& id : keys) {
    proto::NewSealingKey& sealing_key = *request.add_sealing_keys();
    sealing_key.set_id(ToString(id.bytes()));
    sealing_key.set_box(ToString(maker_.BoxOf(id)));
  }
}

Status Committer::MakeRequest(RpcMessage& message) {
  const KeyFile& key = ctx_.vault.key();
  proto::CommitRequest request;
  std::vector<Hash256> leaves;
  uint64_t map_version = 0;
  {
    MonitorLock lock(*ctx_.monitor);
    map_version = ctx_.map->version;
  }
  leaves.reserve(batch_.size());
  for (const std::unique_ptr<IngestObject>& object : batch_) {
    const Buffer manifest = EncodeClearManifest(object->clear);
    leaves.push_back(ManifestLeaf(key.domain, ctx_.options.collection, manifest));
    request.add_manifests(manifest.data(), manifest.size());
    map_version = std::min(map_version, object->map_version);
    if (!object->short_version.is_zero()) {
      request.add_short_versions(ToString(object->short_version.bytes()));
    }
  }
  AddSealingKeys(request);
  request.set_session(ToString(ctx_.session.bytes()));
  std::array<uint8_t, 16> id;
  maker_.FillRandom(id);
  request.set_request(ToString(id));
  request.set_domain(ToString(key.domain.bytes()));
  request.set_collection(ctx_.options.collection);
  request.set_signer_public_key(ToString(key.signing_key.public_key));
  request.set_certificate(ToString(key.certificate));
  if (!leaves.empty()) {
    ASSIGN_OR_RETURN(const Buffer signature,
                     Sign(key.signing_key, SignatureMessage(key.domain, MerkleRoot(leaves))));
    request.set_signature(ToString(signature));
  }
  request.set_map_version(map_version);
  message = MakeMessage(rpc::kCommit, request);
  return absl::OkStatus();
}

void Committer::FinishCommit(const StatusOr<RpcMessage>& reply) {
  StatusOr<proto::CommitReply> head =
      reply.ok() ? ParseHead<proto::CommitReply>(*reply) : reply.status();
  if (head.ok() && size_t(head->results_size()) != batch_.size()) {
    head = absl::InternalError("the coordinator answered for the wrong number of objects");
  }
  if (head.ok()) {
    RenewWhenOlderThan(head->map_version());
    std::vector<Stored> stored;
    for (size_t i = 0; i < batch_.size(); ++i) {
      const proto::CommitResult& result = head->results(static_cast<int>(i));
      const bool unchanged = result.state() == proto::CommitResult::UNCHANGED;
      stored.push_back({std::move(batch_[i]), VersionId::FromBytes(AsBytes(result.version())),
                        unchanged ? ObjectState::kUnchanged : ObjectState::kStored});
    }
    ReportStored(stored);
  } else {
    ReportFailed(head.status());
  }
  MonitorLock lock(*ctx_.monitor);
  batch_.clear();
  under_way_ = false;
}

void Committer::RenewWhenOlderThan(uint64_t map_version) {
  {
    MonitorLock lock(*ctx_.monitor);
    if (ctx_.map->version >= map_version) return;
  }
  ctx_.RenewSession();
}

void Committer::ReportStored(const std::vector<Stored>& stored) {
  IngestSummary add;
  for (const auto& [object, version, state] : stored) {
    observer_.OnObject(object->clear.name, version, state);
    add.unchanged += state == ObjectState::kUnchanged;
    add.directories += object->clear.type == ObjectType::kDirectory;
    add.symlinks += object->clear.type == ObjectType::kSymlink;
    if (!IsFile(object->clear.type)) continue;
    ++add.files;
    add.bytes += object->size;
    if (state == ObjectState::kUnchanged) add.unchanged_bytes += object->size;
    add.duplicates += object->clear.chunk_count > 0 && object->new_chunks == 0;
  }
  ctx_.progress.files_done += add.files;
  ctx_.progress.bytes_done += add.bytes;
  MonitorLock lock(*ctx_.monitor);
  ctx_.open_objects -= stored.size();
  ctx_.summary.files += add.files;
  ctx_.summary.directories += add.directories;
  ctx_.summary.symlinks += add.symlinks;
  ctx_.summary.bytes += add.bytes;
  ctx_.summary.unchanged += add.unchanged;
  ctx_.summary.unchanged_bytes += add.unchanged_bytes;
  ctx_.summary.duplicates += add.duplicates;
}

void Committer::ReportFailed(const Status& status) {
  broken_ = status;
  MonitorLock lock(*ctx_.monitor);
  ctx_.open_objects -= batch_.size();
  ctx_.summary.errors += batch_.size();
  ctx_.Fail(status);
}

// A file that did not change leaves nothing behind, and one whose parts were damaged is stored
// anew.
void Committer::AskForSame() {
  PartsJob* job = nullptr;
  {
    MonitorLock lock(*ctx_.monitor);
    job = &parts_.front();
  }
  const ClearManifest& clear = job->object->clear;
  proto::FindSameRequest request;
  request.set_session(ToString(ctx_.session.bytes()));
  request.set_collection(ctx_.options.collection);
  request.set_name(clear.name);
  request.set_type(static_cast<uint32_t>(clear.type));
  request.set_tag_sha256(ToString(clear.tag_sha256.bytes()));
  request.set_writer(ToString(ctx_.vault.key().writer().bytes()));
  ctx_.Call(kCoordinatorAddress, MakeMessage(rpc::kFindSame, request),
            [this, job](const StatusOr<RpcMessage>& reply) {
              const auto head = ReplyHead<proto::FindSameReply>(reply);
              MonitorLock lock(*ctx_.monitor);
              job->stage = PartsJob::Stage::kPut;
              if (!head.ok()) {
                job->status = head.status();
              } else {
                job->same = VersionId::FromBytes(AsBytes(head->version()));
                job->object->short_version = VersionId::FromBytes(AsBytes(head->short_version()));
              }
              Wake();
            });
}

void Committer::SendPart(uint32_t index) {
  PartsJob* job = nullptr;
  {
    MonitorLock lock(*ctx_.monitor);
    job = &parts_.front();
  }
  IngestObject& object = *job->object;
  const KeyFile& key = ctx_.vault.key();
  Buffer clear = EncodePartClear(PartOf(object.clear.chunks, index));
  Buffer sealed = SealPart(object.object_key, key.domain, object.clear.version, index, job->count,
                           PartOf(object.sealed_chunks, index));
  object.clear.parts[index] = {PartId(object.clear.version, index), Sha256({clear, sealed})};
  proto::PutPartRequest request;
  request.set_session(ToString(ctx_.session.bytes()));
  request.set_version(ToString(object.clear.version.bytes()));
  request.set_index(index);
  request.set_domain(ToString(key.domain.bytes()));
  request.set_writer(ToString(key.writer().bytes()));
  RpcMessage message = MakeMessage(rpc::kPutPart, request);
  message.frames.push_back(SharedBytes::Own(std::move(clear)));
  message.frames.push_back(SharedBytes::Own(std::move(sealed)));
  ctx_.Call(kCoordinatorAddress, std::move(message),
            [this, job](const StatusOr<RpcMessage>& reply) {
              MonitorLock lock(*ctx_.monitor);
              if (!reply.ok() && job->status.ok()) job->status = reply.status();
              --job->outstanding;
              Wake();
            });
}

// Takes the first job out when it is done, and its object on to the commit. Monitor held.
void Committer::FinishParts() {
  if (parts_.empty()) return;
  PartsJob& job = parts_.front();
  if (job.stage != PartsJob::Stage::kPut || job.outstanding > 0) return;
  const bool unchanged = !job.same.is_zero();
  if (job.next < job.count && job.status.ok() && !unchanged) return;
  std::unique_ptr<IngestObject> object = std::move(job.object);
  object->status = job.status;
  object->clear.chunks = {};
  object->sealed_chunks = {};
  const VersionId same = job.same;
  parts_.pop_front();
  if (!unchanged) return Add(std::move(object));
  unchanged_.push_back({std::move(object), same, ObjectState::kUnchanged});
}

}  // namespace holdfast
