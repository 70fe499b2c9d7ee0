// A vault in memory for tests of what reads: nodes and a coordinator that answer from maps, which a
// test may damage or make lie, and a writer that seals and signs as an ingest does.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "client/vault.h"
#include "common/base/loop.h"

namespace holdfast::testing {

std::string RandomBytes(uint64_t seed, size_t size);

// Records of one node.
class FakeNode : public Service {
 public:
  void Handle(RpcMessage request, ReplyFn reply) override;
  proto::NodeCheckSegmentReply Check(const proto::NodeCheckSegmentRequest& request);

  std::mutex mutex;
  std::map<RecordId, Buffer> records;
  std::set<RecordId> corrupt;      // Answered as failing their checksum.
  std::set<RecordId> quarantined;  // As readers asked.
  // What a check finds, by segment.
  std::map<uint64_t, std::vector<proto::Finding>> segments{{1, {}}};
  std::vector<uint64_t> checked;  // Segments, in the order of the checks.
  uint64_t gets = 0;              // Records asked for …
  uint64_t get_requests = 0;      // … in so many requests.
};

// Rows as the catalogue has them. The signed bytes are in the rows; change them at will.
class FakeCoordinator : public Service {
 public:
  void Handle(RpcMessage request, ReplyFn reply) override;

  std::mutex mutex;
  ClusterMap map;
  Status list_error;  // What a listing ends with.
  // Collection → name → versions, newest first.
  std::map<std::string, std::map<std::string, std::vector<ObjectRow>>> collections;
  std::map<uint64_t, SignatureRow> signatures;
  std::map<std::string, std::string> sealing_keys;               // Id → box.
  std::map<std::pair<std::string, uint32_t>, PartRecord> parts;  // (Version, index) → part.

 private:
  StatusOr<RpcMessage> Answer(const RpcMessage& request);
  StatusOr<RpcMessage> List(const RpcMessage& request);
};

// An object to be stored.
struct TestObject {
  std::string name;
  std::string content;
  ObjectType type = ObjectType::kFile;
  Attributes attributes{.mode = 0644, .mtime_seconds = 1, .mtime_nanos = 2};
  std::string link;
  bool legacy_digests = true;
  Codec codec = Codec::kRaw;
};

struct TestVaultOptions {
  uint32_t nodes = 1;
  uint32_t replicas = 1;
  uint32_t chunk_size = 64 * 1024;
};

class TestVault {
 public:
  explicit TestVault(const TestVaultOptions& options = {});
  ~TestVault();

  Vault& vault() { return *vault_; }
  // Another client of the same vault.
  std::unique_ptr<Vault> VaultWith(KeyFile key);
  const KeyFile& key() const { return key_; }
  FakeNode& node(size_t i) { return *nodes_[i]; }
  size_t nodes() const { return nodes_.size(); }
  FakeCoordinator& coordinator() { return coordinator_; }
  Transport& transport() { return *transport_; }

  // Stores and commits the objects in one signed batch, signed by `signer` (the vault's own key
  // when null).
  void Commit(const std::string& collection, const std::vector<TestObject>& objects,
              const KeyFile* signer = nullptr);
  ObjectRow& Row(const std::string& collection, const std::string& name) {
    return coordinator_.collections[collection][name].front();
  }
  // Ids of the object's chunks or, with `parts`, of its manifest parts.
  std::vector<RecordId> RecordsOf(const std::string& collection, const std::string& name,
                                  bool parts = false);
  // Flips a bit of the record on one node, as if the node's own checksum did not notice; or has the
  // node notice.
  void Tamper(size_t node, const RecordId& id);
  void Rot(size_t node, const RecordId& id) { nodes_[node]->corrupt.insert(id); }
  // The nodes that hold it, best first.
  const std::vector<uint32_t>& Holders(const RecordId& id) {
    return ActingSet(coordinator_.map, id);
  }

 private:
  struct SessionKey {
    SealingKeyId id;
    AeadKey key{};
  };
  SessionKey NewSessionKey();
  ClearManifest Store(const TestObject& object, const SessionKey& session);
  void StoreParts(ClearManifest& clear, const AeadKey& object_key,
                  const std::vector<SealedChunkInfo>& infos);
  void Put(const RecordId& id, Buffer stored);

  const TestVaultOptions options_;
  KeyFile key_;
  std::unique_ptr<Transport> transport_;
  std::vector<std::unique_ptr<Loop>> loops_;
  std::vector<std::unique_ptr<FakeNode>> nodes_;
  FakeCoordinator coordinator_;
  std::unique_ptr<Vault> vault_;
  std::unique_ptr<kernels::Engine> engine_;
  uint64_t commits_ = 0;
};

}  // namespace holdfast::testing
