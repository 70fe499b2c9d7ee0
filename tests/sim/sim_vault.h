// A whole vault in one thread: the real coordinator, nodes and client over simulated disks,
// network, time and randomness. Everything follows from the seed, so that a failure replays
// exactly.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/vault.h"
#include "common/base/loop.h"
#include "common/io/sim_fs.h"
#include "common/kv/mem_kv.h"
#include "coordinator/coordinator.h"
#include "node/node.h"
#include "tests/sim/power_supply.h"

namespace holdfast::sim {

struct SimOptions {
  uint32_t nodes = 1;
  uint32_t replicas = 1;
  uint64_t segment_bytes = 1u << 20;
  uint64_t batch_bytes = 128u << 10;
  uint32_t chunk_size = 64u << 10;
  double duplicate = 0;
  // The map is the catalogue's, and repair runs. `spare` nodes are made but not in the map yet.
  bool cluster = false;
  uint32_t spare = 0;
  // Of the requests to nodes, how many come up to `late_nanos` later: long after who sent them has
  // forgotten. To half of them nothing else happens; the others come at once, too.
  double late = 0;
  int64_t late_nanos = 120LL * 1'000'000'000;
  // Of the requests to nodes, how many get no answer: half of them were not heard at all, of the
  // others the answer is lost.
  double lost = 0;
  // One of the nodes takes up to so long before it hears a request.
  int64_t slow_nanos = 0;
  // Sees every request as it is sent.
  std::function<void(const std::string& address, const RpcMessage& request)> on_request;
  // Sees every reply before who asked does, and may change it.
  std::function<void(uint16_t method, StatusOr<RpcMessage>& reply)> on_reply;
  uint64_t index_flush_bytes = 1u << 30;
  int64_t session_lease_nanos = 15LL * 60 * 1'000'000'000;
  int64_t out_after_nanos = 60LL * 1'000'000'000;
  uint64_t copy_bytes_per_second = 100u << 20;
};

class SimVault {
 public:
  SimVault(uint64_t seed, const SimOptions& options);
  ~SimVault();

  // Starts every service. After a power cut, call Reboot first.
  Status Open();
  Status Close();
  // Of a cluster. A node that is stopped dies as a process does; its disk stays.
  void StopNode(uint32_t node);
  Status StartNode(uint32_t node);
  bool runs(uint32_t node) const { return nodes_[node] != nullptr; }
  void StopCoordinator();
  Status StartCoordinator();
  // Everything on the node's disk is lost; it starts as a new, empty node of the same number.
  Status ReplaceDisk(uint32_t node);
  Status AddNode(uint32_t node);
  Status SetNodeState(uint32_t node, proto::SetNodeStateRequest::Action action);
  proto::VaultStatusReply VaultStatus();
  ClusterMap Map();
  void RunFor(int64_t nanos);
  // While calm, no more messages come late or get lost, and no node is slow.
  void SetCalm(bool calm) { calm_ = calm; }
  // False when it does not come true within `nanos` of simulated time.
  bool RunUntil(const std::function<bool()>& condition, int64_t nanos);
  // What a power cut does: memory is gone, disks keep what they keep.
  void CrashAndReboot();
  // Forgets the catalogue and makes it anew from the nodes' commit records.
  Status RebuildCatalogue();
  // Of a cluster, while its nodes run: the coordinator's disk is lost, and its catalogue made anew,
  // from `backup` too if there is one.
  Status LoseCatalogue(const Buffer& backup);
  // The same, but the coordinator that has the old one is not gone: it goes on with its nodes,
  // while clients are with the new one. There is at most one such.
  Status CloneCatalogue(const Buffer& backup);
  void StopClone();
  // Where the old one is asked.
  static constexpr char kCloneAddress[] = "coordinator/clone";
  bool clone_runs() const { return clone_ != nullptr; }
  StatusOr<Buffer> Backup();
  // An image of the catalogue's disk as it is; and the disk put back to it. What was there before
  // can be put back in turn. The coordinator is stopped.
  void TakeImage(MemKvDisk& image) { image.CopyFrom(*catalogue_disk_); }
  void PutBack(const MemKvDisk& image) { catalogue_disk_->CopyFrom(image); }
  // A bit of a stored chunk or manifest part flips on the node's disk, while the node is stopped.
  // The record's id; none when the node holds nothing.
  StatusOr<std::optional<RecordId>> FlipBit(uint32_t node);
  // The next sync of the node's log fails, and what it was to make durable is lost.
  Status FailNextSync(uint32_t node);
  // The disks together take so much more, and then are full; `std::nullopt`: there is room again.
  Status LimitSpace(std::optional<uint64_t> more);
  // Who holds what, good and not in the trash, of the nodes that run.
  StatusOr<std::map<RecordId, std::vector<uint32_t>>> Held();
  // The node's index is lost; it starts again.
  Status LoseIndex(uint32_t node);
  StatusOr<proto::GcStartReply> GcStart(const proto::GcStartRequest& request, bool clone = false);
  StatusOr<proto::GcStatusReply> GcStatus(bool clone = false);
  SimClock& clock() { return clock_; }
  // Runs once, in `nanos`.
  void After(int64_t nanos, Task task) { loop_.NewChannel().PostAfter(nanos, std::move(task)); }
  bool coordinator_runs() const { return coordinator_ != nullptr; }

  Vault& vault() { return *vault_; }
  Transport& transport() { return *transport_; }
  SimFs& fs() { return fs_; }
  SimRng& rng() { return rng_; }
  PowerSupply& power() { return power_; }
  MemKvDisk& index_disk(size_t node) { return *index_disks_[node]; }
  MemKvDisk& catalogue_disk() { return *catalogue_disk_; }
  // Damage that fsck and the nodes' own log check report, one line each.
  StatusOr<std::vector<std::string>> Damage();

 private:
  StatusOr<std::vector<std::string>> SegmentPaths(uint32_t node);  // In order.
  Status Format();
  Status OpenNodes();
  Status OpenCoordinator();
  Status MakeCatalogueAnew(const CoordinatorOptions& options, const Buffer& backup);
  NodeOptions node_options(size_t i) const;
  CoordinatorOptions coordinator_options() const;

  SimOptions options_;
  bool calm_ = false;
  SimRng rng_;
  SimClock clock_;
  SimFs fs_;
  PowerSupply power_;
  SimLoop loop_;
  KeyFile key_;
  ClusterMap map_;
  std::vector<std::unique_ptr<MemKvDisk>> index_disks_;
  std::unique_ptr<MemKvDisk> catalogue_disk_ = std::make_unique<MemKvDisk>();
  std::unique_ptr<Transport> transport_;
  std::vector<std::unique_ptr<Node>> nodes_;  // Null while stopped.
  AccessTable access_;
  std::unique_ptr<Kv> catalogue_;
  std::unique_ptr<Coordinator> coordinator_;
  uint32_t catalogues_ = 1;  // So far: each coordinator has marks of its own.
  std::unique_ptr<MemKvDisk> clone_disk_;
  std::unique_ptr<Kv> clone_catalogue_;
  std::unique_ptr<Coordinator> clone_;
  std::unique_ptr<Vault> vault_;
};

// Makes OpenSSL's generator follow `seed` (keys and signatures then repeat too).
void SeedOpenSsl(uint64_t seed);

}  // namespace holdfast::sim
