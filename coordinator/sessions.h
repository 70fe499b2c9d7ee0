// The open sessions: what one ingest has offered and been answered so far.
//
// The row in the catalogue says whether a session is open (C4); what else is here lives in memory
// only. A restart of the coordinator aborts every open session, so nothing of it is missed: a
// client starts over, and what it had committed comes back UNCHANGED.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/base/clock.h"
#include "common/crypto/hmac.h"
#include "coordinator/catalogue.h"

namespace holdfast {

struct Session {
  uint64_t epoch = 0;
  // C5: answers of the last requests, so that a repeated one is answered alike.
  struct Answered {
    std::string request;
    std::string reply_head;
  };
  std::deque<Answered> answered;
  // Sealing keys sent along but not stored yet, since nothing new needed them.
  absl::flat_hash_map<SealingKeyId, Buffer> offered_keys;
  // Manifest parts that are on W nodes and that no commit has named yet, with their digests.
  absl::flat_hash_map<RecordId, Hash256> parts;
  // Versions whose manifest parts are not whole on W nodes: not what new content may be said to be
  // the same as.
  absl::flat_hash_set<VersionId> short_versions;
};

class Sessions {
 public:
  Sessions(Catalogue& catalogue, Clock& clock) : catalogue_(catalogue), clock_(clock) {}

  // Every OPEN row becomes ABORTED: whose it was is gone with the process that held it.
  Status AbortLeftOpen();
  // Opens `id` at `epoch`; a repeated request finds it. kAborted when it was closed already.
  StatusOr<uint64_t> Open(const SessionId& id, uint64_t epoch);
  Status Close(const SessionId& id, bool abort);
  // C4. kAborted unless it is OPEN. The pointer is valid until the session closes.
  StatusOr<Session*> Get(const SessionId& id);
  size_t open_count() const { return open_.size(); }

 private:
  Status NotOpen(const SessionId& id);

  Catalogue& catalogue_;
  Clock& clock_;
  absl::flat_hash_map<SessionId, std::unique_ptr<Session>> open_;
};

// Keeps `reply_head` for repetitions of `request`.
void Remember(Session& session, const std::string& request, std::string reply_head);
// The answer given to `request` before, or nothing.
const std::string* Recall(const Session& session, const std::string& request);

}  // namespace holdfast
