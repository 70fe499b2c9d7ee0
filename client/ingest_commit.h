// Groups finished objects into signed commits and reports what happened, in order.
//
// One commit is under way at a time; the next one gathers meanwhile. Lists of long objects go out
// as manifest parts first. All calls of the observer are made here, one at a time: on the
// committer's own loop, or (inline mode) in the ingesting thread while it waits.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "client/ingest_chunks.h"
#include "client/ingest_context.h"
#include "client/ingest_manifest.h"

namespace holdfast {

class Committer {
 public:
  Committer(IngestContext& ctx, ChunkStore& store, ManifestMaker& maker, IngestObserver& observer);
  ~Committer();

  // With the monitor held. An entry that is not stored: special (ok status), or an error.
  void Report(SourceEntry entry, const Status& status);
  // Inline mode: starts a commit that is due by time.
  void Poll();
  // Waits until everything open is committed or reported as failed.
  void Finish();

 private:
  using Objects = std::vector<std::unique_ptr<IngestObject>>;
  struct Event {
    std::string name;
    Status status;
    bool is_file = false;
    bool told = true;
    uint64_t size = 0;
  };
  // An object whose chunk lists go out in parts, unless the vault has the same already.
  struct PartsJob {
    std::unique_ptr<IngestObject> object;
    enum class Stage : uint8_t { kNew, kAsked, kPut } stage = Stage::kNew;
    uint32_t count = 0, next = 0, outstanding = 0;
    VersionId same;  // Not zero: the version that the object is unchanged from.
    Status status;
  };
  // An object and the version that holds its content now.
  struct Stored {
    std::unique_ptr<IngestObject> object;
    VersionId version;
    ObjectState state = ObjectState::kStored;
  };

  // With the monitor held.
  void Add(std::unique_ptr<IngestObject> object);
  void Wake();
  bool due() const;
  Objects TakeBatch();
  bool TakeQuestion();
  bool TakePart(uint32_t& index);

  void Pump();
  void Tick();
  void NoteWaiting(const Status& why);
  void RenewWhenOlderThan(uint64_t map_version);
  void Tell(const std::vector<Event>& events);
  void SendCommit();
  Status MakeRequest(RpcMessage& message);
  void AddSealingKeys(proto::CommitRequest& request);
  void FinishCommit(const StatusOr<RpcMessage>& reply);
  void ReportStored(const std::vector<Stored>& stored);
  void ReportFailed(const Status& status);
  void AskForSame();
  void SendPart(uint32_t index);
  void FinishParts();

  IngestContext& ctx_;
  ChunkStore& store_;
  ManifestMaker& maker_;
  IngestObserver& observer_;

  // Guarded by ctx_.monitor.
  std::deque<std::unique_ptr<IngestObject>> ready_;
  size_t ready_bytes_ = 0;      // Of their manifests, about.
  int64_t oldest_nanos_ = 0;    // Since when the first of them waits.
  std::deque<PartsJob> parts_;  // The first one is being sent.
  std::vector<Event> events_;
  std::optional<Status> waiting_;  // To be told.
  int64_t told_waiting_nanos_ = 0;
  std::vector<Stored> unchanged_;  // Found to be so without a commit, not reported yet.
  uint64_t commits_ = 0;           // Begun.
  bool under_way_ = false;         // A commit is.
  std::optional<StatusOr<RpcMessage>> reply_;
  bool closing_ = false;
  bool woken_ = false;

  // Of the commit under way; used by Pump alone.
  Objects batch_;
  Status broken_;  // A commit failed: no other is tried.

  int64_t renewed_nanos_ = 0;  // On the loop.

  std::unique_ptr<Loop> loop_;  // Last: its tasks use everything above.
};

}  // namespace holdfast
