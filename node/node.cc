#include "node/node.h"

#include "absl/strings/str_cat.h"
#include "node/log.h"
#include "node/node_impl.h"
#include "node/superblock.h"

namespace holdfast {
namespace {

constexpr size_t kMaxIdsPerRequest = 1'000'000;
constexpr uint32_t kMaxProbe = 16u << 20;
constexpr int64_t kDayNanos = 86400LL * 1'000'000'000;

}  // namespace

Status Node::Format(const NodeOptions& options, Fs& fs, Rng& rng) {
  RETURN_IF_ERROR(fs.CreateDir(options.dir));
  RETURN_IF_ERROR(fs.CreateDir(options.dir + "/segments"));
  Superblock superblock;
  superblock.vault = options.vault;
  superblock.node = options.node;
  superblock.node_number = options.node_number;
  superblock.incarnation = rng.NewId<DiskIncarnation>();
  superblock.generation = 1;
  // Last: without it there is no node. It also syncs the directory.
  RETURN_IF_ERROR(CreateSuperblock(fs, options.dir, superblock));
  // The new directory's own name.
  const size_t slash = options.dir.rfind('/');
  if (slash == std::string::npos) return fs.SyncDir(".");
  return fs.SyncDir(slash == 0 ? "/" : options.dir.substr(0, slash));
}

StatusOr<std::unique_ptr<Node>> Node::Open(const NodeOptions& options, const NodeEnv& env) {
  assert(options.batch_bytes <= kMaxPayload && options.segment_bytes % kBlockSize == 0);
  ASSIGN_OR_RETURN(Recovered recovered, Recover(options, env));
  auto impl = std::make_shared<Impl>(options, env, std::move(recovered));
  impl->Start();
  return std::unique_ptr<Node>(new Node(std::move(impl)));
}

Node::Node(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Node::~Node() { impl_->Stop(); }

void Node::SetGroups(std::vector<bool> held) { impl_->SetGroups(std::move(held)); }
void Node::Handle(RpcMessage request, ReplyFn reply) {
  impl_->Handle(std::move(request), std::move(reply));
}

void Node::Close(std::function<void(Status)> done) { impl_->Close(std::move(done)); }

const std::vector<proto::Finding>& Node::findings() const { return impl_->findings(); }

Node::Impl::Impl(const NodeOptions& options, const NodeEnv& env, Recovered recovered)
    : options_(options),
      env_(env),
      make_(options.dir, options.node_number),
      incarnation_(recovered.log.superblock.incarnation),
      generation_(recovered.log.superblock.generation),
      segments_(std::move(recovered.segments)),
      index_(std::move(recovered.index)),
      log_start_(std::move(recovered.log)),
      recovered_quarantine_(std::move(recovered.quarantine)),
      findings_(std::move(recovered.findings)),
      digests_(env.rng, [this](const IndexEntry& entry) {
        return !entry.quarantined && !entry.trashed() && Reachable(entry);
      }) {}

void Node::Impl::Start() {
  auto on_written = [this](const Batch& batch, const Log::Written& written) {
    return OnWritten(batch, written);
  };
  commits_ = std::make_shared<GroupCommit>(options_, env_, std::move(log_start_), on_written);
  if (options_.keeps_digests) CountDigests();
  if (recovered_quarantine_.empty()) return;
  env_.loop.Post([self = shared_from_this()] {
    if (self->stopped_ || self->closed_) return;
    auto op = std::make_shared<Operation>([](const Status&) {});
    for (const QuarantineEntry& entry : std::exchange(self->recovered_quarantine_, {})) {
      self->commits_->AddQuarantine(entry.id, {entry.segment_number, entry.offset}, op);
    }
    op->Release();
  });
}

void Node::Impl::Stop() {
  stopped_ = closed_ = true;
  commits_->Stop();
  index_.reset();  // Its Kv can be opened again.
}

void Node::Impl::Handle(RpcMessage request, ReplyFn reply) {
  if (closed_) return reply(absl::UnavailableError(options_.dir + ": the node is closed"));
  switch (request.method) {
    case rpc::kNodePin:
      return HandlePin(request, std::move(reply));
    case rpc::kNodePut:
      return HandlePut(std::move(request), std::move(reply));
    case rpc::kNodeGet:
      return HandleGet(request, std::move(reply));
    case rpc::kNodeQuarantine:
      return HandleQuarantine(request, std::move(reply));
    case rpc::kNodeStatus:
      return HandleStatus(reply);
    case rpc::kNodeCheckSegment:
      return HandleCheckSegment(request, std::move(reply));
    case rpc::kNodeListCommits:
      return HandleListCommits(request, std::move(reply));
    case rpc::kNodeStat:
      return HandleStat(request, reply);
    case rpc::kNodeDigests:
      return HandleDigests(request, reply);
    case rpc::kNodeListGroup:
      return HandleListGroup(request, reply);
    case rpc::kNodePull:
      return HandlePull(request, std::move(reply));
    case rpc::kNodeGcBegin:
      return HandleGcBegin(request, reply);
    case rpc::kNodeListRecords:
      return HandleListRecords(request, reply);
    case rpc::kNodeTrash:
      return HandleTrash(request, reply);
    case rpc::kNodeCompact:
      return HandleCompact(request, reply);
    case rpc::kNodeProbe:
      return HandleProbe(request, reply);
    default:
      return reply(
          absl::InvalidArgumentError(absl::StrCat("a node knows no method ", request.method)));
  }
}

void Node::Impl::Close(std::function<void(Status)> done) {
  if (closed_) return done(absl::OkStatus());
  closed_ = true;
  commits_->Close([self = shared_from_this(), done = std::move(done)](Status status) {
    // The index is a cache: what it misses is replayed.
    if (self->broken_.ok()) (void)self->index_->Flush();
    done(status);
  });
}

// Runs on the Loop when a batch is durable: N2, the index follows the log.
Status Node::Impl::OnWritten(const Batch& batch, const Log::Written& written) {
  SegmentInfo& info = segments_[written.segment];
  if (info.number == 0) {
    info.number = written.segment;
    info.id = written.id;
    info.created_nanos = info.verified_nanos = written.created_nanos;
    info.end_known = true;
  }
  info.end = written.end;
  info.file_bytes = std::max(info.file_bytes, written.end);
  info.synced_lsn = written.last_lsn;
  if (!broken_.ok()) return broken_;
  Status status = IndexBatch(batch, written);
  if (!status.ok()) {
    broken_ = IndexError(status);
    return broken_;
  }
  FlushIndexSometimes(written.end - written.offset);
  return absl::OkStatus();
}

Status Node::Impl::IndexBatch(const Batch& batch, const Log::Written& written) {
  IndexDelta delta(*index_);
  std::vector<RecordId> ids;
  for (const Batch::Record& record : batch.records()) {
    if (IsIndexed(record.header.kind)) ids.push_back(record.header.id);
  }
  for (const auto& [epoch, touched] : batch.touches()) {
    ids.insert(ids.end(), touched.begin(), touched.end());
  }
  for (const auto& [mark, trashed] : batch.trash()) {
    ids.insert(ids.end(), trashed.begin(), trashed.end());
  }
  RETURN_IF_ERROR(delta.Load(ids));
  for (const Batch::Record& record : batch.records()) {
    if (!IsIndexed(record.header.kind)) continue;
    RETURN_IF_ERROR(
        delta.AddRecord(record.header, {written.segment, written.offset + record.offset}));
  }
  for (const auto& [epoch, touched] : batch.touches()) {
    RETURN_IF_ERROR(delta.AddTouch(epoch, touched));
  }
  for (const auto& [mark, trashed] : batch.trash()) {
    RETURN_IF_ERROR(delta.AddTrash(mark, trashed));
  }
  for (const QuarantineEntry& entry : batch.quarantines()) {
    RETURN_IF_ERROR(delta.AddQuarantine(entry));
  }
  for (const DroppedRange& range : batch.dropped()) delta.AddDropped({range, 0, true});
  delta.SetCheckpoint({written.segment, written.id, written.offset, written.end, written.last_lsn});
  if (options_.keeps_digests) digests_.Take(delta);
  // Rows that the Kv refuses wait in memory: the log has them, and reads see them.
  (void)index_->Apply(std::move(delta));
  return absl::OkStatus();
}

void Node::Impl::FlushIndexSometimes(uint64_t written_bytes) {
  unflushed_bytes_ += written_bytes;
  if (flushing_ || unflushed_bytes_ < options_.index_flush_bytes) return;
  flushing_ = true;
  unflushed_bytes_ = 0;
  RunOnIo([kv = index_->kv()] { (void)kv->Flush(); },
          [self = shared_from_this()] { self->flushing_ = false; });
}

Status Node::Impl::IndexError(const Status& status) {
  if (absl::IsDataLoss(status) && !marked_damaged_) {
    marked_damaged_ = true;
    env_.io.Post(
        [self = shared_from_this()] { (void)MarkIndexDamaged(self->env_.fs, self->options_.dir); });
  }
  return absl::UnavailableError(
      absl::StrCat(options_.dir, ": the node's index failed; start it again to build it anew (",
                   status.message(), ")"));
}

void Node::Impl::RunOnIo(std::function<void()> work, std::function<void()> then) {
  env_.io.Post([self = shared_from_this(), work = std::move(work), then = std::move(then)] {
    work();
    self->env_.loop.Post([self, then] {
      if (!self->stopped_) then();
    });
  });
}

StatusOr<std::vector<RecordId>> Node::Impl::ParseIds(const std::string& bytes) const {
  if (bytes.size() % RecordId::kSize != 0 || bytes.size() / RecordId::kSize > kMaxIdsPerRequest) {
    return absl::InvalidArgumentError("a list of ids has an impossible length");
  }
  std::vector<RecordId> ids(bytes.size() / RecordId::kSize);
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = RecordId::FromBytes(AsBytes(bytes).subspan(i * RecordId::kSize, RecordId::kSize));
  }
  return ids;
}

bool Node::Impl::Reachable(const IndexEntry& entry) const {
  auto it = segments_.find(entry.at.segment);
  return it != segments_.end() && it->second.readable() &&
         entry.end() <= std::min(it->second.end, it->second.file_bytes);
}

bool Node::Impl::Present(const RecordId& id, const std::optional<IndexEntry>& entry) const {
  return entry && !entry->quarantined && !commits_->HasQuarantine(id, entry->at) &&
         Reachable(*entry);
}

bool Node::Impl::OlderThan(const SegmentInfo& info, int64_t nanos) const {
  const int64_t age = env_.clock.WallNanos() - info.verified_nanos;
  // A date well in the future says nothing.
  return age > nanos || age < -kDayNanos;
}

bool Node::Impl::Stale(const IndexEntry& entry) const {
  return OlderThan(segments_.at(entry.at.segment), options_.verify_within_nanos);
}

uint64_t Node::Impl::Lsn() const {
  return index_->checkpoint().segment << 32 | index_->checkpoint().lsn;
}

void Node::Impl::HandleStat(const RpcMessage& request, const ReplyFn& reply) {
  auto head = ParseHead<proto::NodeStatRequest>(request);
  if (!head.ok()) return reply(head.status());
  auto ids = ParseIds(head->ids());
  if (!ids.ok()) return reply(ids.status());
  HearMap(request, head->map_version());
  auto entries = index_->Find(*ids);
  if (!entries.ok()) return reply(IndexError(entries.status()));
  proto::NodeStatReply out;
  for (size_t i = 0; i < ids->size(); ++i) {
    proto::RecordAnswer& answer = *out.add_answers();
    const std::optional<IndexEntry>& entry = (*entries)[i];
    const bool trashed = entry && entry->trashed();
    const bool present = Present((*ids)[i], entry);
    answer.set_status(!present ? proto::MISSING : trashed ? proto::TRASHED : proto::PRESENT);
    if (!entry) continue;
    answer.set_stored_length(entry->length);
    answer.set_checksum(ToString(entry->checksum.bytes()));
    answer.set_touch_epoch(entry->touch_epoch);
  }
  reply(MakeMessage(rpc::kNodeStat, out));
}

// Whose frames came as far as this is all that is asked.
void Node::Impl::HandleProbe(const RpcMessage& request, const ReplyFn& reply) {
  const auto head = ParseHead<proto::NodeProbeRequest>(request);
  if (!head.ok()) return reply(head.status());
  if (head->reply_bytes() > kMaxProbe) {
    return reply(absl::InvalidArgumentError("a probe is answered with 16 MiB at most"));
  }
  RpcMessage out = MakeMessage(rpc::kNodeProbe, proto::NodeProbeReply());
  if (head->reply_bytes() > 0) out.frames.push_back(SharedBytes::Own(Buffer(head->reply_bytes())));
  reply(std::move(out));
}

void Node::Impl::HandleStatus(const ReplyFn& reply) {
  proto::NodeStatusReply out;
  out.set_node(options_.node_number);
  out.set_node_id(ToString(options_.node.bytes()));
  out.set_incarnation(ToString(incarnation_.bytes()));
  StatusOr<SpaceInfo> space = env_.fs.Space(options_.dir);
  if (!space.ok()) return reply(space.status());
  out.set_total_bytes(space->total_bytes);
  out.set_free_bytes(space->free_bytes);
  out.set_read_only(AboveLimit(*space, options_.read_only_fraction));
  uint64_t segments = 0, log_bytes = 0;
  for (const auto& [number, info] : segments_) {
    if (!info.readable()) continue;
    ++segments;
    log_bytes += info.end;
  }
  out.set_segments(segments);
  out.set_log_bytes(log_bytes);
  out.set_highest_commit(index_->top_commit());
  StatusOr<uint64_t> quarantined = index_->CountQuarantined();
  if (!quarantined.ok()) return reply(IndexError(quarantined.status()));
  out.set_quarantined(*quarantined);
  out.set_generation(std::max(generation_, index_->gc().generation));
  out.set_max_touch(index_->gc().max_touch);
  out.set_gc_run(index_->gc().run);
  out.set_gc_horizon(index_->gc().horizon);
  for (const proto::Finding& finding : findings_) *out.add_findings() = finding;
  reply(MakeMessage(rpc::kNodeStatus, out));
}

}  // namespace holdfast
