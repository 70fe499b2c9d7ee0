// A client's view of a vault: the keys it holds, and typed calls to coordinator and nodes.
// Thread-safe. Reads are checked here (C of "never trust what comes back"): signatures, AEAD tags,
// ids and digests are verified by whoever reads, never by the storage.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/cluster/cluster_map.h"
#include "common/crypto/key_file.h"
#include "common/format/catalogue_format.h"
#include "common/format/manifest.h"
#include "common/proto/holdfast.pb.h"
#include "common/rpc/transport.h"
#include "kernels/engine.h"

namespace holdfast {

struct VaultParams {
  DomainId domain;
  uint32_t chunk_size = 512 * 1024;
};

// An object's row as the coordinator gave it, decoded.
struct ObjectInfo {
  std::string collection;
  std::string name;
  ObjectRow row;
  ClearManifest manifest;
};

// "COLLECTION/NAME" for messages, on one line whatever bytes the name has.
std::string DisplayName(const ObjectInfo& info);

class Vault {
 public:
  Vault(Transport& transport, KeyFile key, VaultParams params, Clock& clock, Rng& rng);
  ~Vault();

  Transport& transport() { return transport_; }
  const KeyFile& key() const { return key_; }
  const DomainKeys& domain_keys() const { return domain_keys_; }
  const VaultParams& params() const { return params_; }
  kernels::EngineOptions engine_options() const;
  // The map as the coordinator has it now.
  StatusOr<ClusterMap> Map();
  // The map last fetched, if any; for reads, which try again with a fresh one when it misleads.
  StatusOr<std::shared_ptr<const ClusterMap>> CachedMap();
  // Nodes that have not answered lately: reads ask others first.
  void NoteUnavailable(uint32_t node);
  bool WasUnavailable(uint32_t node);
  // The record's nodes, those that have not answered lately at the end.
  std::vector<uint32_t> ReadOrder(const ClusterMap& map, const RecordId& id);
  Clock& clock() { return clock_; }
  Rng& rng() { return rng_; }

  StatusOr<std::vector<proto::CollectionEntry>> ListCollections();
  // One page of names in byte order. `with_manifests` decodes rows too.
  struct Page {
    std::vector<ObjectInfo> objects;
    bool more = false;
  };
  struct ListOptions {
    std::string prefix;
    bool by_component = false;
    bool with_manifests = true;
    bool all_versions = false;
    uint32_t limit = 1000;
  };
  StatusOr<Page> List(const std::string& collection, const ListOptions& options,
                      const std::string& after);
  StatusOr<ObjectInfo> Lookup(const std::string& collection, const std::string& name);

  // Puts all versions of a name in the trash of the catalogue, or what the options say instead.
  struct RemoveOptions {
    VersionId version;       // Not zero: that one only.
    bool recursive = false;  // What lies below the name too; with no name, all of the collection.
    bool undo = false;       // Brings back what of each name was removed last.
    bool now = false;        // For good.
  };
  struct Removed {
    uint64_t objects = 0, versions = 0;  // That went, or came back.
  };
  // kNotFound: nothing there has that name, or is removed (undo). When it fails otherwise, some may
  // be done; the rest is when it is called again.
  StatusOr<Removed> Remove(const std::string& collection, const std::string& name,
                           const RemoveOptions& options);
  // What is in the trash: versions under `prefix` (by byte; of all collections when none is named),
  // in the order in which they were removed. May give none though there is more.
  struct TrashPage {
    std::vector<ObjectInfo> objects;
    std::string next;  // Where to go on; empty: that was all.
  };
  StatusOr<TrashPage> ListRemoved(const std::string& collection, const std::string& prefix,
                                  const std::string& from);

  // What a reader learns of one version. kPermissionDenied without the domain's private key;
  // kDataLoss when signature, wrapped key or sealed part does not check.
  struct OpenedObject {
    ObjectInfo info;
    SealedManifest sealed;
    AeadKey object_key;
  };
  StatusOr<OpenedObject> OpenObject(ObjectInfo info);
  // The same in place, given object.info; messages leave out which object it is.
  Status Open(OpenedObject& object);
  // All chunks of an opened object, parts fetched: parallel lists of public and sealed facts.
  StatusOr<ManifestPart> Chunks(const OpenedObject& object);
  // One part of an object whose manifest has parts, checked against the signed manifest. Messages
  // leave out which object it is.
  StatusOr<ManifestPart> Part(const OpenedObject& object, uint32_t index);
  // A part as the coordinator read it, its two lists found to be what the manifest names; and the
  // SHA-256 of its record, of which every replica is a copy.
  struct SignedPart {
    SharedBytes clear, sealed;
    Hash256 record{};
  };
  StatusOr<SignedPart> GetSignedPart(const ClearManifest& manifest, uint32_t index);

 private:
  struct Caches;
  struct Signed;
  StatusOr<RpcMessage> Ask(const RpcMessage& request, int64_t timeout_nanos = kRequestNanos);
  Status CheckSigned(const ObjectInfo& info);
  StatusOr<std::shared_ptr<const Signed>> SignatureOf(uint64_t commit_number);
  StatusOr<std::shared_ptr<const Signed>> FetchSignature(uint64_t commit_number);
  StatusOr<AeadKey> SealingKey(const SealingKeyId& id);
  StatusOr<ManifestPart> FetchPart(const OpenedObject& object, uint32_t index);

  Transport& transport_;
  KeyFile key_;
  DomainKeys domain_keys_;
  VaultParams params_;
  Clock& clock_;
  Rng& rng_;
  std::unique_ptr<Caches> caches_;
};

}  // namespace holdfast
