// A whole vault for tests of ingest: the real coordinator and nodes, either simulated (one thread,
// everything from a seed) or with threads and real files. What nodes are asked can be intercepted.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "client/ingest.h"
#include "client/vault.h"
#include "common/base/loop.h"
#include "common/io/sim_fs.h"
#include "common/kv/mem_kv.h"
#include "coordinator/coordinator.h"
#include "node/node.h"
#include "tests/client/memory_source.h"

namespace holdfast::testing {

struct RigOptions {
  uint64_t seed = 1;
  bool threaded = false;  // Else simulated.
  uint32_t nodes = 1, replicas = 1;
  uint32_t chunk_size = 64 * 1024;
  SimNetworkOptions network;
};

// Stands before a service. The hook may answer itself (and then returns true).
class Interceptor : public Service {
 public:
  using Hook = std::function<bool(RpcMessage& request, ReplyFn& reply)>;
  void Handle(RpcMessage request, ReplyFn reply) override {
    ++requests[request.method];
    if (hook && hook(request, reply)) return;
    target->Handle(std::move(request), std::move(reply));
  }
  Service* target = nullptr;
  Hook hook;
  std::map<uint16_t, uint64_t> requests;
};

// What an observer was told.
class Recorder : public IngestObserver {
 public:
  void OnObject(const std::string& name, const VersionId& version, ObjectState state) override;
  void OnError(const std::string& name, const Status& status) override;
  void OnSkipped(const std::string& name) override;

  std::vector<std::string> order;
  std::map<std::string, ObjectState> objects;
  std::map<std::string, Status> errors;
  std::vector<std::string> skipped;

 private:
  std::atomic<bool> inside_{false};  // Calls come one at a time.
};

class IngestRig {
 public:
  explicit IngestRig(const RigOptions& options);
  ~IngestRig();

  Vault& vault() { return *vault_; }
  const KeyFile& key() const { return key_; }
  const ClusterMap& map() const { return map_; }
  Interceptor& node(size_t i) { return *fronts_[i]; }
  Interceptor& coordinator() { return coordinator_front_; }
  Transport& transport() { return *transport_; }
  SimFs& sim_fs() { return *sim_fs_; }
  SimClock& clock() { return clock_; }
  kernels::Engine& engine() { return *engine_; }
  void UseEngine(std::unique_ptr<kernels::Engine> engine) { engine_ = std::move(engine); }
  const std::string& dir() const { return dir_; }

  // Inline in the simulation; with `threads` otherwise.
  StatusOr<IngestSummary> Run(Source& source, IngestOptions options = {}, int threads = 2);
  // With what Run last recorded.
  Recorder& seen() { return recorder_; }
  IngestProgress& progress() { return *progress_; }

  // The object's content through the reader; the error in words when there is one.
  std::string Read(const std::string& name, const std::string& collection = "c");
  StatusOr<Vault::OpenedObject> Opened(const std::string& name,
                                       const std::string& collection = "c");
  // What every node of the acting set answers to a stat of this record.
  std::vector<proto::RecordAnswer> Stat(const RecordId& id);
  StatusOr<RpcMessage> Ask(uint32_t node, RpcMessage request);
  // Every file of the simulated nodes, by path.
  std::map<std::string, std::string> Files();

 private:
  void OpenNode(uint32_t i);
  Loop& NewLoop(const char* name);
  NodeOptions node_options(uint32_t i) const;

  const RigOptions options_;
  SimRng sim_rng_;
  SimClock clock_;
  SimLoop sim_loop_;
  std::string dir_;
  std::unique_ptr<SimFs> sim_fs_;
  KeyFile key_;
  ClusterMap map_;
  MemKvDisk catalogue_disk_;
  std::vector<std::unique_ptr<MemKvDisk>> index_disks_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Kv> catalogue_;
  std::vector<std::unique_ptr<Interceptor>> fronts_;
  Interceptor coordinator_front_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::unique_ptr<Coordinator> coordinator_;
  std::vector<Loop*> node_loops_;
  std::unique_ptr<Executor> io_;
  std::vector<std::unique_ptr<Loop>> loops_;
  std::unique_ptr<Vault> vault_;
  std::unique_ptr<kernels::Engine> engine_;
  Recorder recorder_;
  std::unique_ptr<IngestProgress> progress_;
};

std::string NoiseBytes(uint64_t seed, size_t size);
// Compresses well, and is different for each seed.
std::string TextBytes(uint64_t seed, size_t size);

}  // namespace holdfast::testing
