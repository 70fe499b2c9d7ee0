// The open sessions: what one ingest has been answered so far.
//
// The row in the catalogue says whether a session is open (C4), and how its last commit was
// answered. Whatever else is here lives in memory only and can be found out again: after a restart
// of a cluster's coordinator its clients go on where they were. A session of which nothing was
// heard for its lease is aborted. An embedded vault has no client that outlives it: there,
// a session that was left open is aborted at the next start.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "common/base/clock.h"
#include "common/crypto/hmac.h"
#include "coordinator/catalogue.h"

namespace holdfast {

struct Session {
  SessionRow row;  // As in the catalogue.
  int64_t seen_nanos = 0;
  // C5: answers of the last requests, so that a repeated one is answered alike.
  struct Answered {
    std::string request;
    std::string reply_head;
  };
  std::deque<Answered> answered;
  // Manifest parts that are on W nodes and that no commit has named yet, with their digests.
  absl::flat_hash_map<RecordId, Hash256> parts;
};

class Sessions {
 public:
  Sessions(Catalogue& catalogue, Clock& clock) : catalogue_(catalogue), clock_(clock) {}

  // Every OPEN row: its session goes on (`keep`), or becomes ABORTED.
  Status Start(bool keep);
  // Opens `id` at `epoch`; a repeated request finds it. kAborted when it was closed already.
  StatusOr<uint64_t> Open(const SessionId& id, uint64_t epoch);
  Status Close(const SessionId& id, bool abort);
  // C4. kAborted unless it is OPEN. The pointer is valid until the session closes.
  StatusOr<Session*> Get(const SessionId& id);
  // Aborts those that nothing was heard of.
  Status AbortSilent(int64_t lease_nanos);
  size_t open_count() const { return open_.size(); }
  // The lowest epoch of those that are open; `otherwise` when none is.
  uint64_t LowestEpoch(uint64_t otherwise) const;

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
