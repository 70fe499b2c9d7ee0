// Who may do what in a cluster: principals are CURVE public keys with roles. DESIGN 12.
//
// The coordinator keeps them in its catalogue and tells the nodes; every message of every
// connection is checked against the table as it is then, so that a revoked key does nothing more.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"

namespace holdfast {

enum class Role : uint32_t {
  kIngest = 1,     // Stores and lists names; reads nothing back.
  kReader = 2,     // Lists and reads.
  kCustodian = 4,  // Makes and revokes principals, removes. (Holds come with them.)
  kDisposer = 8,   // Removes what is stored, and brings it back.
  kAuditor = 16,   // (The ledger.)
  kOperator = 32,  // The cluster: nodes, status, checks; no content.
  kNode = 64,      // A storage node: reads records of others, for repair.
  kCoordinator = 128,
};

// "ingest,reader" ↔ roles, or-ed. kInvalidArgument names what is no role a person can be given.
StatusOr<uint32_t> ParseRoles(const std::string& text);
std::string RolesText(uint32_t roles);

struct Principal {
  CurvePublicKey key;
  uint32_t roles = 0;
  bool revoked = false;
  int64_t added_nanos = 0;
  std::string name;
};

// Thread-safe.
class AccessTable {
 public:
  // `version` is another one for each table; 0 before the first that has all principals.
  void Replace(uint64_t version, std::vector<Principal> principals);
  uint64_t version() const;
  std::vector<Principal> all() const;

  // Whether `key` may connect at all.
  bool Admits(const CurvePublicKey& key) const;
  // The key's roles, or kPermissionDenied saying what they are. Methods nobody may call from
  // outside are refused to everybody.
  StatusOr<uint32_t> Check(const CurvePublicKey& key, uint16_t method) const;

 private:
  mutable std::mutex mutex_;
  uint64_t version_ = 0;
  std::map<CurvePublicKey, Principal> principals_;
};

// Whether they are of a server of the cluster, whose word about a record counts.
bool IsServer(uint32_t roles);

// Roles of which one is needed to call `method`, or-ed; 0: none suffices.
uint32_t RolesFor(uint16_t method);

}  // namespace holdfast
