// What one commit request changes: checks it in full, then says which rows to write and what to
// answer. Writes nothing itself.
//
// The mutations of a commit stand alone: they repeat the rows of its collection and of the sealing
// keys its objects name, also when these exist already, so that losing one commit record in a
// rebuild never takes away what a later commit's objects need.
#pragma once

#include "common/proto/holdfast.pb.h"
#include "coordinator/catalogue.h"
#include "coordinator/sessions.h"

namespace holdfast {

// Manifests of one commit together; its record must fit a node's largest payload.
inline constexpr size_t kMaxCommitBytes = 32u << 20;

struct CommitContext {
  DomainId domain;
  Head head;
  Counters counters;
  int64_t now_nanos = 0;
};

struct CommitPlan {
  proto::CommitReply reply;
  KvBatch mutations;  // Empty: nothing new. Goes into the commit record as it is.
  Counters counters;  // After it.
  // Rows that go into the catalogue with it, and not into the record.
  KvBatch catalogue_only;
  // Not empty: nothing was planned, since the session does not know these manifest parts.
  std::vector<PartRef> unknown_parts;
};

// kInvalidArgument: the request makes no sense, naming the object.
// kPermissionDenied: unknown domain, or the signature is not the signer's.
StatusOr<CommitPlan> PlanCommit(const CommitContext& context, Catalogue& catalogue,
                                const Session& session, const proto::CommitRequest& request);

}  // namespace holdfast
