#include "common/cluster/access.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/text.h"
#include "common/rpc/methods.h"

namespace holdfast {
namespace {

constexpr uint32_t kIngest = static_cast<uint32_t>(Role::kIngest);
constexpr uint32_t kReader = static_cast<uint32_t>(Role::kReader);
constexpr uint32_t kCustodian = static_cast<uint32_t>(Role::kCustodian);
constexpr uint32_t kDisposer = static_cast<uint32_t>(Role::kDisposer);
constexpr uint32_t kOperator = static_cast<uint32_t>(Role::kOperator);
constexpr uint32_t kNode = static_cast<uint32_t>(Role::kNode);
constexpr uint32_t kCoordinator = static_cast<uint32_t>(Role::kCoordinator);
constexpr uint32_t kServers = kNode | kCoordinator;
constexpr uint32_t kAnybody = ~uint32_t{0};

struct RoleName {
  Role role;
  const char* name;
  bool for_people;
};
constexpr RoleName kRoleNames[] = {
    {Role::kIngest, "ingest", true},       {Role::kReader, "reader", true},
    {Role::kCustodian, "custodian", true}, {Role::kDisposer, "disposer", true},
    {Role::kAuditor, "auditor", true},     {Role::kOperator, "operator", true},
    {Role::kNode, "node", false},          {Role::kCoordinator, "coordinator", false},
};

}  // namespace

StatusOr<uint32_t> ParseRoles(const std::string& text) {
  uint32_t roles = 0;
  const std::vector<std::string> parts = absl::StrSplit(text, ',');
  for (const std::string& part : parts) {
    uint32_t found = 0;
    for (const RoleName& role : kRoleNames) {
      if (role.for_people && part == role.name) found = static_cast<uint32_t>(role.role);
    }
    if (found == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", Printable(part), "\" is no role: give some of ",
                       "ingest,reader,custodian,disposer,auditor,operator"));
    }
    roles |= found;
  }
  return roles;
}

std::string RolesText(uint32_t roles) {
  std::string text;
  for (const RoleName& role : kRoleNames) {
    if ((roles & static_cast<uint32_t>(role.role)) == 0) continue;
    absl::StrAppend(&text, text.empty() ? "" : ",", role.name);
  }
  return text.empty() ? "no role" : text;
}

bool IsServer(uint32_t roles) { return (roles & kServers) != 0; }

uint32_t RolesFor(uint16_t method) {
  switch (method) {
    case rpc::kNodePin:
    case rpc::kNodePut:
      return kIngest | kServers;
    case rpc::kNodeQuarantine:  // On the word of who can open the record.
      return kReader | kServers;
    case rpc::kNodeGet:
      return kIngest | kReader | kServers;  // Sealed bytes; an ingest settles disputes with them.
    case rpc::kNodeStatus:
    case rpc::kNodeStat:
    case rpc::kNodeCheckSegment:
      return kReader | kOperator | kServers;
    case rpc::kNodeProbe:
      return kIngest | kReader | kOperator;
    case rpc::kNodeListCommits:
    case rpc::kNodeConfigure:
    case rpc::kNodeDigests:
    case rpc::kNodeListGroup:
    case rpc::kNodePull:
    case rpc::kNodeGcBegin:
    case rpc::kNodeListRecords:
    case rpc::kNodeTrash:
    case rpc::kNodeCompact:
      return kCoordinator;
    case rpc::kOpenSession:
    case rpc::kCommit:
    case rpc::kPutPart:
    case rpc::kCloseSession:
    case rpc::kFindSame:
    case rpc::kFindContent:
      return kIngest;
    case rpc::kLookup:
    case rpc::kList:
    case rpc::kListCollections:
      return kIngest | kReader;
    case rpc::kGetPart:
    case rpc::kGetSignature:
    case rpc::kGetSealingKey:
      return kReader;
    case rpc::kGetMap:
    case rpc::kVaultStatus:
      return kAnybody;
    case rpc::kCheckCatalogue:
      return kReader | kOperator;
    case rpc::kAddNode:
    case rpc::kSetNodeState:
    case rpc::kBackupPage:
    case rpc::kGcStart:
    case rpc::kGcStatus:
    case rpc::kGcStop:
      return kOperator;
    case rpc::kRemove:
      return kDisposer | kCustodian;
    case rpc::kSetPrincipal:
    case rpc::kListPrincipals:
      return kCustodian;
    default:
      return 0;
  }
}

void AccessTable::Replace(uint64_t version, std::vector<Principal> principals) {
  std::lock_guard lock(mutex_);
  version_ = version;
  principals_.clear();
  for (Principal& principal : principals) principals_[principal.key] = std::move(principal);
}

uint64_t AccessTable::version() const {
  std::lock_guard lock(mutex_);
  return version_;
}

std::vector<Principal> AccessTable::all() const {
  std::lock_guard lock(mutex_);
  std::vector<Principal> all;
  for (const auto& [key, principal] : principals_) all.push_back(principal);
  return all;
}

bool AccessTable::Admits(const CurvePublicKey& key) const {
  std::lock_guard lock(mutex_);
  auto it = principals_.find(key);
  return it != principals_.end() && !it->second.revoked;
}

StatusOr<uint32_t> AccessTable::Check(const CurvePublicKey& key, uint16_t method) const {
  std::lock_guard lock(mutex_);
  auto it = principals_.find(key);
  if (it == principals_.end()) return absl::PermissionDeniedError("this key is not known here");
  if (it->second.revoked) return absl::PermissionDeniedError("this key was revoked");
  const uint32_t wanted = RolesFor(method);
  if ((it->second.roles & wanted) != 0) return it->second.roles;
  return absl::PermissionDeniedError(absl::StrCat("this key is for ", RolesText(it->second.roles),
                                                  ", not for this (method ", method, ")"));
}

}  // namespace holdfast
