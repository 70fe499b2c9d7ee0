#include "coordinator/group_repair.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "common/base/coding.h"

namespace holdfast {
namespace {

constexpr uint32_t kListedAtOnce = 16384;
constexpr size_t kCopiedAtOnce = 1024;       // Records at most …
constexpr uint64_t kCopiedBytes = 8u << 20;  // … and about so many bytes.
constexpr int64_t kListGroupNanos = 30LL * 1'000'000'000;

// The work of one RepairGroup; its callbacks keep it.
class GroupRepair : public std::enable_shared_from_this<GroupRepair> {
 public:
  GroupRepair(NodeClient& nodes, CopyQueue& copies, uint32_t group, std::vector<uint32_t> members,
              std::function<void(const GroupRepairResult&)> done)
      : nodes_(nodes),
        copies_(copies),
        group_(group),
        members_(std::move(members)),
        done_(std::move(done)) {}

  void List() {
    if (listed_ == members_.size()) return Copy();
    proto::NodeListGroupRequest request;
    request.set_group(group_);
    request.set_from(next_);
    request.set_limit(kListedAtOnce);
    request.set_map_version(nodes_.map().version);
    nodes_.Call({members_[listed_], MakeMessage(rpc::kNodeListGroup, request)}, kListGroupNanos,
                [self = shared_from_this()](const NodeReply& reply) { self->TakeList(reply); });
  }

 private:
  struct Record {
    Checksum checksum;
    uint32_t length = 0;
    uint64_t touch = 0;                       // The highest …
    uint8_t best = 0;                         // … and who has it, of members_.
    bool uneven = false;                      // Others have less.
    absl::InlinedVector<uint8_t, 6> holders;  // Places in members_.
    bool disputed = false;
  };
  struct Request {
    std::string ids;
    Buffer touches;
    uint64_t bytes = 0;
  };

  void TakeList(const NodeReply& reply) {
    StatusOr<proto::NodeListGroupReply> head =
        reply.ok() ? ParseHead<proto::NodeListGroupReply>(*reply) : reply.status();
    const Status page = head.ok() ? CheckIdPage(next_, head->ids(), head->next()) : head.status();
    if (!page.ok()) head = page;
    const size_t count = head.ok() ? head->ids().size() / RecordId::kSize : 0;
    if (head.ok() && (head->checksums().size() != count * Checksum::kSize ||
                      head->lengths().size() != count * 4 || head->touches().size() != count * 8)) {
      head = absl::UnavailableError("malformed list of a group");
    }
    if (!head.ok()) {
      result_.status = FromNode(members_[listed_], head.status());
      return done_(result_);
    }
    Reader lengths(AsBytes(head->lengths())), touches(AsBytes(head->touches()));
    for (size_t i = 0; i < count; ++i) {
      const auto part = [i](const std::string& all, size_t size) {
        return AsBytes(all).subspan(i * size, size);
      };
      Record& record = records_[RecordId::FromBytes(part(head->ids(), RecordId::kSize))];
      const Checksum checksum = Checksum::FromBytes(part(head->checksums(), Checksum::kSize));
      record.disputed |= !record.holders.empty() && record.checksum != checksum;
      record.checksum = checksum;
      record.length = lengths.U32();
      const uint64_t touch = touches.U64();
      record.uneven |= !record.holders.empty() && touch != record.touch;
      if (record.holders.empty() || touch > record.touch) {
        record.touch = touch;
        record.best = static_cast<uint8_t>(listed_);
      }
      record.holders.push_back(static_cast<uint8_t>(listed_));
    }
    next_ = head->next();
    listed_ += next_.empty();
    List();
  }

  void Copy() {
    outstanding_ = 1;
    std::map<std::pair<uint32_t, uint32_t>, Request> ways;  // (to, from)
    for (const auto& [id, record] : records_) {
      result_.disputed += record.disputed;
      // Which of several is the right one, a reader with keys says.
      if (record.disputed || record.holders.size() == members_.size()) continue;
      uint8_t from = record.holders[id.value[31] % record.holders.size()];
      // A copy carries the touch that its source has.
      if (record.uneven) from = record.best;
      for (size_t to = 0; to < members_.size(); ++to) {
        if (std::count(record.holders.begin(), record.holders.end(), to) != 0) continue;
        Request& request = ways[{members_[to], members_[from]}];
        request.ids.append(AsView(id.bytes()));
        Writer(request.touches).U64(record.touch);
        request.bytes += record.length;
        const bool full = request.ids.size() >= kCopiedAtOnce * RecordId::kSize;
        if (full || request.bytes >= kCopiedBytes) Send(members_[to], members_[from], request);
      }
    }
    records_.clear();
    for (auto& [way, request] : ways) {
      if (!request.ids.empty()) Send(way.first, way.second, request);
    }
    Finish();
  }

  void Send(uint32_t to, uint32_t from, Request& request) {
    ++outstanding_;
    const Request sent = std::exchange(request, {});
    copies_.Add({to, from, sent.ids, ToString(sent.touches),
                 [self = shared_from_this()](const StatusOr<proto::NodePullReply>& reply) {
                   self->TakeCopy(reply);
                 }});
  }

  void TakeCopy(const StatusOr<proto::NodePullReply>& reply) {
    if (!reply.ok()) {
      result_.status = reply.status();
      return Finish();
    }
    result_.copied_bytes += reply->copied_bytes();
    for (const proto::RecordAnswer& answer : reply->answers()) {
      if (answer.status() == proto::PRESENT) {
        ++result_.copied_records;
      } else if (answer.status() == proto::TRASHED) {
        ++result_.trashed;
      } else {
        result_.status = absl::UnavailableError(
            absl::StrCat("a record could not be copied: it is ", Describe(answer.status())));
      }
    }
    Finish();
  }

  void Finish() {
    if (--outstanding_ == 0) done_(result_);
  }

  NodeClient& nodes_;
  CopyQueue& copies_;
  const uint32_t group_;
  const std::vector<uint32_t> members_;
  const std::function<void(const GroupRepairResult&)> done_;
  size_t listed_ = 0;  // Members of which all is listed.
  std::string next_;   // Where the list of the next one goes on.
  // In order, as copies are asked for in it: one seed is one story.
  absl::btree_map<RecordId, Record> records_;
  size_t outstanding_ = 0;
  GroupRepairResult result_;
};

}  // namespace

void RepairGroup(NodeClient& nodes, CopyQueue& copies, uint32_t group,
                 std::vector<uint32_t> members,
                 std::function<void(const GroupRepairResult&)> done) {
  std::make_shared<GroupRepair>(nodes, copies, group, std::move(members), std::move(done))->List();
}

}  // namespace holdfast
