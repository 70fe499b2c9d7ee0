// A node under test and what it stands on: SimRig in simulation (SimFs, MemKv, SimLoop: one seed,
// one run), DiskRig on real files with RocksDB and threads. Requests go through Call, one at a
// time, or several at once through Send.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/crypto/domain_keys.h"
#include "common/format/segment_format.h"
#include "common/io/sim_fs.h"
#include "common/kv/mem_kv.h"
#include "common/rpc/methods.h"
#include "node/node.h"

namespace holdfast {

using proto::Finding;

// Deterministic content: record n has the same id and bytes in every run.
RecordId IdOf(uint64_t n);
Buffer PayloadOf(uint64_t n, size_t size);

struct PutItem {
  RecordId id;
  Buffer payload;
  RecordKind kind = RecordKind::kChunk;
  uint64_t number = 0;
  bool replace = false;
};

RpcMessage PutMessage(const std::vector<PutItem>& items, uint64_t epoch = 1);
RpcMessage PinMessage(const std::vector<RecordId>& ids, uint64_t epoch = 1);
RpcMessage IdsMessage(uint16_t method, const std::vector<RecordId>& ids);

class NodeRig {
 public:
  virtual ~NodeRig() = default;
  virtual Status Open() = 0;
  // A clean shutdown; the node is gone afterwards.
  virtual Status Close() = 0;
  virtual StatusOr<RpcMessage> Call(RpcMessage request) = 0;
  virtual Fs& fs() = 0;
  virtual void WipeIndex() = 0;

  Node& node() { return *node_; }
  NodeOptions& options() { return options_; }
  std::string SegmentPath(uint64_t number) const;

  // Replies; a failed call is a test failure.
  proto::NodePutReply Put(const std::vector<PutItem>& items, uint64_t epoch = 1);
  proto::NodePinReply Pin(const std::vector<RecordId>& ids, uint64_t epoch = 1);
  struct Got {
    proto::RecordStatus status;
    Buffer payload;
    uint64_t touch_epoch;
  };
  std::vector<Got> Get(const std::vector<RecordId>& ids);
  proto::NodeStatReply Stat(const std::vector<RecordId>& ids);
  proto::NodeStatusReply NodeStatus();
  // All segments' findings.
  proto::NodeCheckSegmentReply Check(const proto::NodeCheckSegmentRequest& head);
  std::vector<Finding> CheckAll(bool all_payloads = true, bool renew = false);
  // Put, expecting PRESENT.
  void PutPresent(const PutItem& item, uint64_t epoch = 1);
  proto::RecordStatus PinOne(const RecordId& id, uint64_t epoch = 1);
  Got GetOne(const RecordId& id) { return Get({id})[0]; }

 protected:
  NodeOptions options_;
  std::unique_ptr<Node> node_;
};

class SimRig : public NodeRig {
 public:
  explicit SimRig(uint64_t seed);
  ~SimRig() override;

  Status Open() override;
  Status Close() override;
  StatusOr<RpcMessage> Call(RpcMessage request) override;
  Fs& fs() override { return sim_fs; }
  void WipeIndex() override;

  struct Pending {
    bool done = false;
    StatusOr<RpcMessage> reply = absl::UnknownError("no reply");
  };
  std::shared_ptr<Pending> Send(RpcMessage request);
  void Run(const std::function<bool()>& condition) { sim.RunUntil(condition); }
  void RunFor(int64_t nanos);
  // The process dies; what it wrote stays with the system.
  void Kill();
  // The power fails; files and index are then as a disk might have kept them.
  void PowerCut();

  SimRng rng;
  SimFs sim_fs;
  SimClock clock;
  SimLoop sim;
  Loop& loop;
  std::unique_ptr<Transport> others;  // No other node is there.
  MemKvDisk kv;
  bool index_exists = false;
};

class DiskRig : public NodeRig {
 public:
  DiskRig();
  ~DiskRig() override;
  Status Open() override;
  Status Close() override;
  StatusOr<RpcMessage> Call(RpcMessage request) override;
  Fs& fs() override { return PosixFs(); }
  void WipeIndex() override;

 private:
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Executor> io_;
  std::string root_;
};

std::string Show(const std::vector<Finding>& findings);
int Count(const std::vector<Finding>& findings, Finding::Class finding_class);

}  // namespace holdfast
