// Get, quarantine and the listing of commit records.
//
// A record whose bytes fail their checksum is quarantined durably before the answer, where the
// disk takes it: from then on a pin says missing, so the next ingest of that content heals it. A
// quarantined record is still read when asked for: exact bytes are exact bytes.
//
// A reader, who alone can tell, quarantines what does not open. Had it replaced something, that is
// written again and takes its place: so nobody who may only store can make away with what others
// stored, by putting something else under its id.
#include "node/node_impl.h"

namespace holdfast {
namespace {

constexpr uint32_t kMaxCommitsPerReply = 4096;
constexpr uint64_t kMaxSetAsideBytes = 24u << 20;

proto::RecordStatus StatusOf(RecordRead::Result result) {
  switch (result) {
    case RecordRead::Result::kGood:
      return proto::PRESENT;
    case RecordRead::Result::kBad:
      return proto::CORRUPT;
    case RecordRead::Result::kUnreadable:
    case RecordRead::Result::kRefused:
      break;
  }
  return proto::UNREADABLE;
}

bool IsAnyRefused(const std::vector<RecordRead>& reads) {
  return std::ranges::any_of(
      reads, [](const RecordRead& read) { return read.result == RecordRead::Result::kRefused; });
}

uint64_t PlaceOf(const IndexEntry& entry) {
  return RestoredNumber({entry.at.segment, entry.at.offset});
}

// Whether that is the record that a reader could not open.
bool Names(const proto::NodeQuarantineRequest& request, const IndexEntry& entry) {
  return AsView(entry.checksum.bytes()) == request.checksum() &&
         (request.place() == 0 || request.place() == PlaceOf(entry));
}

// A record whose header is damaged cannot be copied, though its bytes may be good.
void SetOrigin(const RecordRead& read, proto::RecordAnswer& answer) {
  if (answer.status() != proto::PRESENT) return;
  if (!read.header || read.entry.quarantined) return answer.set_status(proto::CORRUPT);
  answer.set_kind(static_cast<uint32_t>(read.entry.kind));
  answer.set_number(read.entry.number);
  answer.set_domain(ToString(read.header->domain.bytes()));
  answer.set_writer(ToString(read.header->writer.bytes()));
}

void AddReplaced(RecordRead read, proto::NodeGetReply& out, std::vector<SharedBytes>& frames) {
  if (read.result != RecordRead::Result::kGood || !read.header) return;
  proto::RecordAnswer& answer = *out.add_answers();
  answer.set_status(proto::PRESENT);
  answer.set_replaced_id(ToString(read.id.bytes()));
  answer.set_stored_length(read.entry.length);
  answer.set_checksum(ToString(read.entry.checksum.bytes()));
  answer.set_touch_epoch(read.entry.touch_epoch);
  SetOrigin(read, answer);
  frames.push_back(std::move(read.payload));
}

}  // namespace

void Node::Impl::HandleGet(const RpcMessage& request, ReplyFn reply) {
  auto head = ParseHead<proto::NodeGetRequest>(request);
  if (!head.ok()) return reply(head.status());
  auto ids = ParseIds(head->ids());
  if (!ids.ok()) return reply(ids.status());
  auto entries = index_->Find(*ids);
  if (!entries.ok()) return reply(IndexError(entries.status()));
  std::vector<RecordRead> reads;
  std::vector<size_t> read_of(ids->size(), SIZE_MAX);
  for (size_t i = 0; i < ids->size(); ++i) {
    const std::optional<IndexEntry>& entry = (*entries)[i];
    if (!entry || !Reachable(*entry)) continue;
    read_of[i] = reads.size();
    reads.push_back({(*ids)[i], *entry});
  }
  const bool origin = head->with_origin();
  if (!origin) client_nanos_ = env_.clock.MonotonicNanos();
  const size_t asked = reads.size();
  if (origin) {
    const Status added = AddSetAside(*ids, reads);
    if (!added.ok()) return reply(IndexError(added));
  }
  ReadAndQuarantine(std::move(reads),
                    [read_of, asked, origin, reply, dir = options_.dir](auto done) {
                      if (IsAnyRefused(done)) {
                        return reply(absl::UnavailableError(
                            dir +
                            ": a segment cannot be opened; its permissions, or the limit of "
                            "open files, keep it closed"));
                      }
                      proto::NodeGetReply out;
                      std::vector<SharedBytes> frames(read_of.size());
                      for (size_t i = 0; i < read_of.size(); ++i) {
                        proto::RecordAnswer& answer = *out.add_answers();
                        answer.set_status(proto::MISSING);
                        if (read_of[i] == SIZE_MAX) continue;
                        RecordRead& read = done[read_of[i]];
                        answer.set_status(StatusOf(read.result));
                        answer.set_stored_length(read.entry.length);
                        answer.set_checksum(ToString(read.entry.checksum.bytes()));
                        answer.set_touch_epoch(read.entry.touch_epoch);
                        answer.set_place(PlaceOf(read.entry));
                        frames[i] = std::move(read.payload);
                        if (origin) SetOrigin(read, answer);
                      }
                      for (size_t i = asked; i < done.size(); ++i)
                        AddReplaced(std::move(done[i]), out, frames);
                      RpcMessage message = MakeMessage(rpc::kNodeGet, out);
                      message.frames = std::move(frames);
                      reply(std::move(message));
                    });
}

// As much as a reply has room for beside what was asked.
Status Node::Impl::AddSetAside(const std::vector<RecordId>& ids, std::vector<RecordRead>& reads) {
  uint64_t bytes = 0;
  for (const RecordId& id : ids) {
    ASSIGN_OR_RETURN(const auto aside, index_->SetAside(id));
    for (const IndexEntry& old : aside) {
      if (!Reachable(old) || bytes + old.length > kMaxSetAsideBytes) continue;
      bytes += old.length;
      reads.push_back({id, old});
    }
  }
  return absl::OkStatus();
}

void Node::Impl::ReadAndQuarantine(std::vector<RecordRead> reads,
                                   std::function<void(std::vector<RecordRead>)> then) {
  if (reads.empty()) return then({});
  auto shared = std::make_shared<std::vector<RecordRead>>(std::move(reads));
  RunOnIo([this, shared] { ReadRecords(env_.fs, options_.dir, *shared, true); },
          [this, shared, then = std::move(then)] {
            if (FollowMoved(*shared)) return ReadAndQuarantine(std::move(*shared), then);
            // A disk that cannot note it must not hide the answer.
            auto op = std::make_shared<Operation>(
                [shared, then](const Status&) { then(std::move(*shared)); });
            for (const RecordRead& read : *shared) {
              if (read.result == RecordRead::Result::kBad && !read.entry.quarantined) {
                QuarantineBad(read.id, read.entry.at, op);
              }
            }
            op->Release();
          });
}

// Whether some could not be read because compaction has moved them: then they are to be read where
// they are now.
bool Node::Impl::FollowMoved(std::vector<RecordRead>& reads) {
  bool moved = false;
  for (RecordRead& read : reads) {
    const bool gone = !segments_[read.entry.at.segment].readable();
    if (read.result == RecordRead::Result::kGood || !gone) continue;
    auto entry = index_->Find({read.id});
    if (!entry.ok() || !(*entry)[0] || (*entry)[0]->at == read.entry.at) continue;
    read = {read.id, *(*entry)[0]};
    moved = true;
  }
  return moved;
}

void Node::Impl::QuarantineBad(const RecordId& id, Location at, const OperationPtr& op) {
  if (!closed_ && broken_.ok()) commits_->AddQuarantine(id, at, op);
}

void Node::Impl::HandleQuarantine(const RpcMessage& request, ReplyFn reply) {
  auto head = ParseHead<proto::NodeQuarantineRequest>(request);
  if (!head.ok()) return reply(head.status());
  if (head->id().size() != RecordId::kSize || head->checksum().size() != Checksum::kSize) {
    return reply(absl::InvalidArgumentError("a quarantine names no record"));
  }
  if (!broken_.ok()) return reply(broken_);
  const RecordId id = RecordId::FromBytes(AsBytes(head->id()));
  if (commits_->FindRecord(id)) {
    // Compaction may be moving it: looked at when that is done.
    auto moved = std::make_shared<Operation>(
        [self = shared_from_this(), request, reply](const Status& status) mutable {
          if (!status.ok()) return reply(status);
          self->HandleQuarantine(request, std::move(reply));
        });
    commits_->WaitForRecord(id, moved);
    return moved->Release();
  }
  auto entries = index_->Find({id});
  if (!entries.ok()) return reply(IndexError(entries.status()));
  auto op = std::make_shared<Operation>(
      [self = shared_from_this(), reply, request = *head](const Status& status) {
        if (!status.ok()) return reply(status);
        self->BringBack(request, reply);
      });
  const std::optional<IndexEntry>& entry = entries->front();
  if (entry && !entry->quarantined && Names(*head, *entry)) {
    QuarantineBad(id, entry->at, op);
  }
  op->Release();
}

void Node::Impl::BringBack(const proto::NodeQuarantineRequest& request, const ReplyFn& reply) {
  const RecordId id = RecordId::FromBytes(AsBytes(request.id()));
  auto entries = index_->Find({id});
  if (!entries.ok()) return reply(IndexError(entries.status()));
  auto aside = index_->SetAside(id);
  if (!aside.ok()) return reply(IndexError(aside.status()));
  const std::optional<IndexEntry>& entry = entries->front();
  proto::NodeQuarantineReply out;
  auto reads = std::make_shared<std::vector<RecordRead>>();
  if (entry && !entry->quarantined) {
    out.set_another(!Names(request, *entry));  // Another reader was here.
  } else if (entry && entry->kind == RecordKind::kChunk) {
    // The newest first; but before all what is not of who wrote what did not open.
    std::reverse(aside->begin(), aside->end());
    std::stable_partition(aside->begin(), aside->end(),
                          [&](const IndexEntry& old) { return old.writer != entry->writer; });
    for (const IndexEntry& old : *aside) {
      if (old.at != entry->at && Reachable(old)) reads->push_back({id, old});
    }
  }
  if (reads->empty()) return reply(MakeMessage(rpc::kNodeQuarantine, out));
  RunOnIo(
      [this, reads] {
        for (RecordRead& read : *reads) {
          std::vector<RecordRead> one{std::move(read)};
          ReadRecords(env_.fs, options_.dir, one, true);
          read = std::move(one[0]);
          if (read.result == RecordRead::Result::kGood && read.header) break;
        }
      },
      [this, reads, reply] {
        for (const RecordRead& read : *reads) {
          if (read.result == RecordRead::Result::kGood && read.header)
            return BringBack(read, reply);
        }
        reply(MakeMessage(rpc::kNodeQuarantine, proto::NodeQuarantineReply()));
      });
}

void Node::Impl::BringBack(const RecordRead& read, const ReplyFn& reply) {
  auto entries = index_->Find({read.id});
  if (!entries.ok()) return reply(IndexError(entries.status()));
  auto op = std::make_shared<Operation>([reply](const Status& status) {
    if (!status.ok()) return reply(status);
    proto::NodeQuarantineReply out;
    out.set_another(true);
    reply(MakeMessage(rpc::kNodeQuarantine, out));
  });
  if (commits_->FindRecord(read.id)) {
    commits_->WaitForRecord(read.id, op);  // Something else took the place meanwhile.
  } else if (const std::optional<IndexEntry>& entry = entries->front();
             entry && entry->quarantined && !closed_) {
    RecordHeader header = *read.header;
    header.number = RestoredNumber({read.entry.at.segment, read.entry.at.offset});
    header.touch_epoch = std::max(KnownTouch(read.id, entry), read.entry.touch_epoch);
    commits_->AddRecord(header, read.payload.view, op);
  }
  op->Release();
}

void Node::Impl::HandleListCommits(const RpcMessage& request, ReplyFn reply) {
  auto head = ParseHead<proto::NodeListCommitsRequest>(request);
  if (!head.ok()) return reply(head.status());
  auto commits = index_->Commits(head->from(), std::min(head->limit(), kMaxCommitsPerReply));
  if (!commits.ok()) return reply(IndexError(commits.status()));
  std::vector<RecordId> ids;
  for (const auto& [number, id] : *commits) ids.push_back(id);
  auto entries = index_->Find(ids);
  if (!entries.ok()) return reply(IndexError(entries.status()));
  std::vector<RecordRead> reads;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::optional<IndexEntry>& entry = (*entries)[i];
    if (entry && Reachable(*entry)) reads.push_back({ids[i], *entry});
  }
  ReadAndQuarantine(std::move(reads),
                    [commits = *std::move(commits), reply](std::vector<RecordRead> done) {
                      absl::flat_hash_map<RecordId, SharedBytes> payloads;
                      for (RecordRead& read : done) payloads[read.id] = std::move(read.payload);
                      proto::NodeListCommitsReply out;
                      std::vector<SharedBytes> frames;
                      for (const auto& [number, id] : commits) {
                        out.add_numbers(number);
                        frames.push_back(payloads[id]);
                      }
                      RpcMessage message = MakeMessage(rpc::kNodeListCommits, out);
                      message.frames = std::move(frames);
                      reply(std::move(message));
                    });
}

}  // namespace holdfast
