// A node in memory: keeps records, answers as node/ does, and fails when told to.
#pragma once

#include <map>
#include <set>

#include "common/base/coding.h"
#include "common/cluster/cluster_map.h"
#include "common/crypto/domain_keys.h"
#include "common/format/segment_format.h"
#include "common/proto/holdfast.pb.h"
#include "common/rpc/methods.h"
#include "common/rpc/transport.h"

namespace holdfast {

class FakeNode : public Service {
 public:
  struct Record {
    uint32_t kind = 0;
    uint64_t number = 0;
    uint64_t touch = 0;
    Buffer payload;
    bool corrupt = false;
    uint64_t horizon = 0, run = 0;  // Of garbage collection.
    bool trashed() const { return touch < horizon; }
  };
  // What outlives a crash of the coordinator; tests damage it at will.
  std::map<RecordId, Record> records;

  // Faults.
  Status put_error;                 // Not ok: every put fails with it.
  bool silent = false;              // No request is answered.
  bool silent_gets = false;         // No get is answered.
  bool silent_commits = false;      // Puts of commit records are neither stored nor answered.
  bool swallow_commits = false;     // … are answered PRESENT without being stored.
  uint32_t unheard_begins = 0;      // So many kNodeGcBegin are not answered.
  uint32_t segments_that_stay = 0;  // Compaction names so many.
  bool slow_compaction = false;     // The reply waits in `compaction`, for the test to give.
  ReplyFn compaction;
  bool slow_trash = false;  // Who answers is `trash`, when the test calls it.
  std::function<void()> trash;
  uint64_t puts = 0, commit_puts = 0;

  // What the coordinator told it last, of each.
  uint64_t map_version = 0, access_version = 0;
  std::string map;
  std::vector<proto::PrincipalEntry> principals;

  void Handle(RpcMessage request, ReplyFn reply) override {
    if (silent) return;
    switch (request.method) {
      case rpc::kNodePut:
        return Put(request, reply);
      case rpc::kNodeGet:
        if (silent_gets) return;
        return Get(request, reply);
      case rpc::kNodePin:
        return Pin(request, reply);
      case rpc::kNodeStat:
        return Stat(request, reply);
      case rpc::kNodeStatus:
        return ReplyStatus(reply);
      case rpc::kNodeListCommits:
        return ListCommits(request, reply);
      case rpc::kNodeConfigure:
        return Configure(request, reply);
      case rpc::kNodeGcBegin:
        if (unheard_begins > 0 && unheard_begins-- > 0) return;
        return reply(MakeMessage(rpc::kNodeGcBegin, proto::NodeGcBeginReply()));
      case rpc::kNodeListRecords:
        return ListRecords(request, reply);
      case rpc::kNodeTrash:
        return Trash(request, reply);
      case rpc::kNodeCompact:
        return Compact(request, reply);
      default:
        reply(absl::InvalidArgumentError("the fake node has no such method"));
    }
  }

  // Commit records by number, as kNodeListCommits gives them.
  std::multimap<uint64_t, RecordId> commits() const {
    std::multimap<uint64_t, RecordId> found;
    for (const auto& [id, record] : records) {
      if (record.kind == static_cast<uint32_t>(RecordKind::kCommitRecord)) {
        found.emplace(record.number, id);
      }
    }
    return found;
  }
  // True when the record of commit `number` was there.
  bool DropCommit(uint64_t number) {
    auto found = commits();
    auto range = found.equal_range(number);
    for (auto it = range.first; it != range.second; ++it) records.erase(it->second);
    return range.first != range.second;
  }

 private:
  void Configure(const RpcMessage& message, const ReplyFn& reply) {
    const auto request = ParseHead<proto::NodeConfigureRequest>(message).value();
    if (!request.map().empty()) {
      map = request.map();
      map_version = request.map_version();
    }
    if (request.has_principals()) {
      principals.assign(request.principals().begin(), request.principals().end());
      access_version = request.access_version();
    }
    proto::NodeConfigureReply answer;
    answer.set_map_version(map_version);
    answer.set_access_version(access_version);
    reply(MakeMessage(rpc::kNodeConfigure, answer));
  }

  static std::vector<RecordId> Ids(const std::string& bytes) {
    std::vector<RecordId> ids;
    for (size_t i = 0; i + RecordId::kSize <= bytes.size(); i += RecordId::kSize) {
      ids.push_back(RecordId::FromBytes(AsBytes(bytes).subspan(i, RecordId::kSize)));
    }
    return ids;
  }

  void Describe(const RecordId& id, proto::RecordAnswer& answer) {
    auto it = records.find(id);
    if (it == records.end()) {
      answer.set_status(proto::MISSING);
      return;
    }
    const Record& record = it->second;
    answer.set_status(record.corrupt ? proto::CORRUPT : proto::PRESENT);
    answer.set_stored_length(static_cast<uint32_t>(record.payload.size()));
    answer.set_checksum(ToString(ChecksumOf(record.payload).bytes()));
    answer.set_touch_epoch(record.touch);
  }

  void Put(const RpcMessage& request, const ReplyFn& reply) {
    auto head = *ParseHead<proto::NodePutRequest>(request);
    proto::NodePutReply answer;
    ++puts;
    if (!put_error.ok()) return reply(put_error);
    for (int i = 0; i < head.entries_size(); ++i) {
      const proto::PutEntry& entry = head.entries(i);
      const bool commit = entry.kind() == static_cast<uint32_t>(RecordKind::kCommitRecord);
      commit_puts += commit;
      if (commit && silent_commits) return;
      const Bytes payload = request.frames[i].view;
      proto::RecordAnswer& a = *answer.add_answers();
      if (ToString(ChecksumOf(payload).bytes()) != entry.checksum()) {
        a.set_status(proto::REFUSED);
        continue;
      }
      if (commit && swallow_commits) {
        a.set_status(proto::PRESENT);
        a.set_checksum(entry.checksum());
        continue;
      }
      const RecordId id = RecordId::FromBytes(AsBytes(entry.id()));
      Record& record = records[id];
      if (record.payload.empty() || record.corrupt) {
        record = {entry.kind(), entry.number(), 0, Buffer(payload.begin(), payload.end()), false};
      }
      record.touch = std::max<uint64_t>(record.touch, head.session_epoch());
      Describe(id, a);
    }
    reply(MakeMessage(rpc::kNodePut, answer));
  }

  void Get(const RpcMessage& request, const ReplyFn& reply) {
    auto head = *ParseHead<proto::NodeGetRequest>(request);
    proto::NodeGetReply answer;
    RpcMessage message;
    for (const RecordId& id : Ids(head.ids())) {
      proto::RecordAnswer& a = *answer.add_answers();
      Describe(id, a);
      Buffer payload;
      if (a.status() == proto::PRESENT) payload = records[id].payload;
      message.frames.push_back(SharedBytes::Own(std::move(payload)));
    }
    message.method = rpc::kNodeGet;
    answer.SerializeToString(&message.head);
    reply(std::move(message));
  }

  void Pin(const RpcMessage& request, const ReplyFn& reply) {
    auto head = *ParseHead<proto::NodePinRequest>(request);
    proto::NodePinReply answer;
    for (const RecordId& id : Ids(head.ids())) {
      auto it = records.find(id);
      if (it != records.end()) it->second.touch = std::max(it->second.touch, head.session_epoch());
      Describe(id, *answer.add_answers());
    }
    reply(MakeMessage(request.method, answer));
  }

  void Stat(const RpcMessage& request, const ReplyFn& reply) {
    auto head = *ParseHead<proto::NodeStatRequest>(request);
    proto::NodeStatReply answer;
    for (const RecordId& id : Ids(head.ids())) Describe(id, *answer.add_answers());
    reply(MakeMessage(request.method, answer));
  }

  void ReplyStatus(const ReplyFn& reply) {
    proto::NodeStatusReply status;
    auto found = commits();
    if (!found.empty()) status.set_highest_commit(found.rbegin()->first);
    reply(MakeMessage(rpc::kNodeStatus, status));
  }

  // All at once, as small as it is.
  void ListRecords(const RpcMessage& request, const ReplyFn& reply) {
    auto head = *ParseHead<proto::NodeListRecordsRequest>(request);
    proto::NodeListRecordsReply answer;
    Buffer touches, lengths;
    for (const auto& [id, record] : records) {
      const uint32_t group = PlacementGroupOf(id);
      if (record.kind == static_cast<uint32_t>(RecordKind::kCommitRecord)) continue;
      if (group < head.group() || group >= head.group() + head.groups()) continue;
      const bool due = record.run > head.floor_run() && record.run <= head.free_run();
      answer.mutable_ids()->append(AsView(id.bytes()));
      Writer(touches).U64(record.touch);
      Writer(lengths).U32(static_cast<uint32_t>(record.payload.size()));
      answer.mutable_states()->push_back(static_cast<char>(
          record.trashed() ? rpc::kRecordTrashed | (due ? rpc::kRecordDue : 0) : 0));
    }
    answer.set_touches(ToString(touches));
    answer.set_lengths(ToString(lengths));
    reply(MakeMessage(request.method, answer));
  }

  void Trash(const RpcMessage& request, const ReplyFn& reply) {
    auto head = *ParseHead<proto::NodeTrashRequest>(request);
    proto::NodeTrashReply answer;
    if (slow_trash) {
      trash = [reply, method = request.method] {
        reply(MakeMessage(method, proto::NodeTrashReply()));
      };
      return;
    }
    for (const RecordId& id : Ids(head.ids())) {
      Record& record = records.at(id);
      if (record.trashed() || record.touch >= head.run().horizon()) continue;
      record.horizon = head.run().horizon();
      record.run = head.run().run();
      answer.set_trashed(answer.trashed() + 1);
    }
    reply(MakeMessage(request.method, answer));
  }

  void Compact(const RpcMessage& request, const ReplyFn& reply) {
    auto head = *ParseHead<proto::NodeCompactRequest>(request);
    proto::NodeCompactReply answer;
    if (slow_compaction) {
      compaction = reply;
      return;
    }
    if (head.step() == 0) {
      answer.set_steps(1 + segments_that_stay);
    } else if (head.step() == 1) {
      answer.set_freed_records(std::erase_if(records, [&](const auto& entry) {
        return entry.second.trashed() && entry.second.run <= head.free_run();
      }));
    } else {
      answer.set_skipped("a segment stays");
    }
    reply(MakeMessage(request.method, answer));
  }

  void ListCommits(const RpcMessage& request, const ReplyFn& reply) {
    auto head = *ParseHead<proto::NodeListCommitsRequest>(request);
    proto::NodeListCommitsReply answer;
    RpcMessage message;
    auto found = commits();
    for (auto it = found.lower_bound(head.from());
         it != found.end() && answer.numbers_size() < static_cast<int>(head.limit()); ++it) {
      answer.add_numbers(it->first);
      const Record& record = records[it->second];
      message.frames.push_back(SharedBytes::Own(record.corrupt ? Buffer() : record.payload));
    }
    message.method = rpc::kNodeListCommits;
    answer.SerializeToString(&message.head);
    reply(std::move(message));
  }
};

}  // namespace holdfast
