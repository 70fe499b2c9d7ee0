// A coordinator over MemKv, fake nodes and the simulated network, and what clients do with it.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/crypto/keypair.h"
#include "common/io/sim_fs.h"
#include "common/kv/mem_kv.h"
#include "coordinator/coordinator.h"
#include "tests/coordinator/fake_node.h"

namespace holdfast {

// A Kv that fails, or that asks before each write.
class HookedKv : public Kv {
 public:
  explicit HookedKv(std::unique_ptr<Kv> kv) : kv_(std::move(kv)) {}
  std::function<Status(const KvBatch&, bool sync)> before_write;
  Status verify_error;

  StatusOr<std::optional<std::string>> Get(std::string_view key) override { return kv_->Get(key); }
  StatusOr<std::vector<std::optional<std::string>>> MultiGet(
      const std::vector<std::string>& keys) override {
    return kv_->MultiGet(keys);
  }
  Status Write(const KvBatch& batch, bool sync) override {
    if (before_write) RETURN_IF_ERROR(before_write(batch, sync));
    return kv_->Write(batch, sync);
  }
  Status Flush() override { return kv_->Flush(); }
  Status Scan(std::string_view start, std::string_view end,
              const std::function<bool(std::string_view, std::string_view)>& visit) override {
    return kv_->Scan(start, end, visit);
  }
  std::unique_ptr<KvSnapshot> TakeSnapshot() override { return kv_->TakeSnapshot(); }
  Status VerifyAll() override { return verify_error.ok() ? kv_->VerifyAll() : verify_error; }

 private:
  std::unique_ptr<Kv> kv_;
};

struct TestObject {
  std::string name;
  std::string content;
  ObjectType type = ObjectType::kFile;
  uint64_t chunks = 1;
};

class TestVault {
 public:
  struct Options {
    uint64_t seed = 1;
    uint32_t nodes = 1, replicas = 1;
    SimNetworkOptions network;
    bool cluster = false;  // The map is the catalogue's: nodes are there, and have to be added.
  };
  explicit TestVault(Options options);
  ~TestVault();

  // Formats on the first call.
  Status Open();
  void MustOpen() { ASSERT_TRUE(Open().ok()); }
  // The process dies; unsynced rows may go. The nodes live on.
  void Crash();
  void Close();
  StatusOr<RebuildReport> Rebuild(Bytes backup = {});
  // As `backup-catalogue` writes it; `between` runs after each page.
  StatusOr<Buffer> Backup(const std::function<void()>& between = [] {});
  void Wipe() { disk_.Wipe(); }

  bool is_open() const { return coordinator_ != nullptr; }
  FakeNode& node(size_t i) { return nodes_[i]; }
  size_t node_count() const { return nodes_.size(); }
  HookedKv& kv() { return *kv_; }
  Rng& rng() { return rng_; }
  SimLoop& loop() { return loop_; }
  SimClock& clock() { return clock_; }
  const CoordinatorOptions& options() const { return options_; }
  CoordinatorOptions& mutable_options() { return options_; }
  Transport& transport() { return *transport_; }
  const AccessTable& access() const { return access_; }

  template <class Reply, class Request>
  StatusOr<Reply> Rpc(uint16_t method, const Request& request) {
    ASSIGN_OR_RETURN(RpcMessage reply, Send(MakeMessage(method, request)));
    return ParseHead<Reply>(reply);
  }
  StatusOr<RpcMessage> Send(RpcMessage message);
  // Again while it is kUnavailable: on a network that loses messages.
  template <class Reply, class Request>
  StatusOr<Reply> Insist(uint16_t method, const Request& request) {
    StatusOr<Reply> reply = Rpc<Reply>(method, request);
    for (int i = 0; i < 20 && reply.status().code() == absl::StatusCode::kUnavailable; ++i) {
      reply = Rpc<Reply>(method, request);
    }
    return reply;
  }
  // Does not wait; the answer lands in the returned slot.
  using Slot = std::shared_ptr<std::optional<StatusOr<RpcMessage>>>;
  Slot SendLater(RpcMessage message);
  void RunFor(int64_t nanos);

  SessionId MustOpenSession();
  Status CloseSession(const SessionId& session, bool abort = false);

  // An unsigned manifest; its chunks are put on the nodes.
  ClearManifest MakeManifest(const TestObject& object);
  proto::CommitRequest MakeCommit(const SessionId& session, const std::string& collection,
                                  const std::vector<TestObject>& objects);
  proto::CommitRequest MakeCommitOf(const SessionId& session, const std::string& collection,
                                    const std::vector<ClearManifest>& manifests);
  // Signs what is in the request.
  void Sign(proto::CommitRequest& request);
  StatusOr<proto::CommitReply> Commit(const proto::CommitRequest& request) {
    return Rpc<proto::CommitReply>(rpc::kCommit, request);
  }
  // Opens a session, commits, closes.
  StatusOr<proto::CommitReply> Store(const std::string& collection,
                                     const std::vector<TestObject>& objects);

  std::vector<std::string> Names(proto::ListRequest request);
  // Every row that clients can see, in order: collections, all versions with their rows,
  // signatures, sealing keys.
  std::string EverythingVisible();
  proto::VaultStatusReply VaultStatus();
  std::vector<proto::Finding> Fsck();
  const SealingKeyId& sealing_key() const { return sealing_key_; }

 private:
  std::unique_ptr<Kv> OpenKv();
  CoordinatorEnv Env();

  const bool cluster_;
  AccessTable access_;
  SimClock clock_;
  SimRng rng_;
  SimLoop loop_;
  Loop& node_loop_;
  Loop* coordinator_loop_ = nullptr;
  std::unique_ptr<Transport> transport_;
  std::deque<FakeNode> nodes_;
  CoordinatorOptions options_;
  MemKvDisk disk_;
  SimFs fs_;
  std::unique_ptr<HookedKv> kv_;
  std::unique_ptr<Coordinator> coordinator_;
  bool formatted_ = false;
  KeyPair signer_;
  SealingKeyId sealing_key_;
};

// Texts of findings, one per line.
std::string Texts(const std::vector<proto::Finding>& findings);

inline proto::ListRequest ListOf(const std::string& collection) {
  proto::ListRequest request;
  request.set_collection(collection);
  return request;
}

}  // namespace holdfast
