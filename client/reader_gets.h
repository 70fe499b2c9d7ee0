// Fetches stored records from nodes: many per request, several requests under way.
#pragma once

#include <memory>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/rpc/transport.h"

namespace holdfast {

// A node that has not answered for so long is passed over where another holds the same. Many
// threads' batches on a slow network take seconds when nothing is wrong.
constexpr int64_t kHedgeNanos = 20 * kSecond;

// What one node answered about one record.
struct GetAnswer {
  uint32_t node = 0;
  RecordId id;
  // Ok when `stored` has the bytes. kDataLoss: missing, corrupt or unreadable there. kUnavailable:
  // the node could not be asked.
  Status status;
  SharedBytes stored;
  Checksum checksum;
  uint64_t place = 0;  // Which record of this id it is, on that node.
};

// One round of questions: Add all, Group, then either SendUpTo and Take, to hold few answers at a
// time, or Send and Wait for all. One thread.
class NodeGets {
 public:
  explicit NodeGets(Transport& transport);
  ~NodeGets();
  NodeGets(const NodeGets&) = delete;
  NodeGets& operator=(const NodeGets&) = delete;

  // The place of the answer. `stored_length` is a guess that only sizes requests.
  size_t Add(uint32_t node, const RecordId& id, uint32_t stored_length);
  // Makes requests, by node, in the order added. Who has not answered a request that long after it
  // was sent is unavailable.
  void Group(int64_t timeout_nanos = kRequestNanos);
  // Sends requests in order until `most` are sent and not taken, or all are sent.
  void SendUpTo(size_t most);
  // Waits for answer `i`, and so for all of its request.
  void Take(size_t i);
  bool taken(size_t i) const;
  size_t under_way() const { return sent_ - taken_; }
  bool all_sent() const;
  // Group and send all; take all.
  void Send(int64_t timeout_nanos = kRequestNanos);
  void Wait();
  GetAnswer& operator[](size_t i) { return answers_[i]; }
  size_t size() const { return answers_.size(); }
  uint64_t bytes_received() const { return bytes_received_; }

 private:
  struct Request;
  struct Shared;
  void SendNext();
  void TakeRequest(Request& request);
  void TakeReply(const Request& request, StatusOr<RpcMessage> reply);

  Transport& transport_;
  std::vector<GetAnswer> answers_;
  std::vector<uint32_t> lengths_;   // Parallel to answers_.
  std::vector<size_t> request_of_;  // Parallel to answers_.
  std::vector<Request> requests_;
  size_t sent_ = 0, taken_ = 0;
  int64_t timeout_nanos_ = 0;
  std::shared_ptr<Shared> shared_;
  uint64_t bytes_received_ = 0;
};

// One record from one node, waited for.
GetAnswer GetFromNode(Transport& transport, uint32_t node, const RecordId& id,
                      int64_t timeout_nanos);

}  // namespace holdfast
