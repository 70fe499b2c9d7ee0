// Method numbers of the services. Numbers are protocol: they are never reused.
#pragma once

#include <cstdint>

namespace holdfast::rpc {

enum Method : uint16_t {
  // Node (common/proto/holdfast.proto says what each carries).
  kNodePin = 1,
  kNodePut = 2,
  kNodeGet = 3,
  kNodeQuarantine = 4,
  kNodeStatus = 5,
  kNodeCheckSegment = 6,
  kNodeListCommits = 7,
  kNodeStat = 8,
  kNodeConfigure = 9,
  kNodeDigests = 10,
  kNodeListGroup = 11,
  kNodePull = 12,
  kNodeGcBegin = 13,
  kNodeListRecords = 14,
  kNodeTrash = 15,
  kNodeCompact = 16,
  kNodeProbe = 17,

  // Coordinator.
  kOpenSession = 64,
  kCommit = 65,
  kPutPart = 66,
  kCloseSession = 67,
  kGetMap = 68,
  kLookup = 69,
  kList = 70,
  kListCollections = 71,
  kGetPart = 72,
  kGetSignature = 73,
  kGetSealingKey = 74,
  kVaultStatus = 75,
  kCheckCatalogue = 76,
  kFindSame = 77,
  kAddNode = 78,
  kSetPrincipal = 79,
  kListPrincipals = 80,
  kSetNodeState = 81,
  kBackupPage = 82,
  kRemove = 83,
  kGcStart = 84,
  kGcStatus = 85,
  kGcStop = 86,
  kFindContent = 87,
};

// Whether requests or replies carry records: they travel apart from the rest.
constexpr bool IsBulk(uint16_t method) {
  return method == kNodePut || method == kNodeGet || method == kNodeListCommits ||
         method == kPutPart || method == kGetPart || method == kNodeListGroup ||
         method == kBackupPage || method == kNodeListRecords || method == kNodeProbe;
}

// Of NodeListRecordsReply.
enum RecordState : uint8_t {
  kRecordTrashed = 1,
  kRecordSurplus = 2,  // Beside kRecordTrashed.
  kRecordBad = 4,      // Quarantined, or the log has lost it.
  kRecordDue = 8,      // Beside kRecordTrashed: has been there for the grace.
};

}  // namespace holdfast::rpc
