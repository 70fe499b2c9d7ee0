// One simulated life of a cluster, by scenario and seed: ingests, removals, garbage collection,
// nodes and coordinators that come and go, disks and catalogues that are lost or put back, bits
// that rot, clocks that jump; and what must be true all the while.
//
// The checker keeps its own log of what was acknowledged, and a model of what must be there:
//   - what was acknowledged as stored, and not removed, reads back exact; so does all that is
//     listed. Where the only copy rots, that object fails, with an error; no other does
//   - what is listed is on W nodes of its sets, and not in their trash
//   - what was acknowledged as removed is not listed; undone, it is there again
//   - when all is quiet: no damage is found, redundancy is whole, and after a collection without
//     window and grace the nodes hold what is needed, and nothing else
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "tests/sim/scenario.h"
#include "tests/sim/sim_ingest.h"

namespace holdfast::sim {

class Story {
 public:
  Story(const Scenario& scenario, uint64_t seed);

  // Empty, or what was violated, with the last actions.
  std::string Play();

  struct Counts {
    uint64_t acked = 0, removed = 0, undone = 0, collections = 0, trashed = 0, freed = 0,
             interrupted = 0, restores = 0, flips = 0, put_back = 0, clones = 0;
    void Add(const Counts& other);
  };
  const Counts& counts() const { return counts_; }
  // What happened, an action a line.
  const std::vector<std::string>& log() const { return log_; }
  // Of all requests so far, with the time of each: two plays of a seed have the same.
  uint64_t trace() const { return trace_; }
  uint64_t requests() const { return requests_; }

 private:
  static constexpr int64_t kDay = 86400 * kSecond;
  enum class Expected : uint8_t { kAbsent, kPresent, kEither };
  struct Object {
    std::string content;
    Expected expected = Expected::kAbsent;
    bool in_trash = false;   // Removed, acknowledged, within any window.
    bool ingesting = false;  // An ingest that is under way has it …
    bool contested = false;  // … and it was removed, or brought back, meanwhile.
    uint64_t changes = 0;    // Anything that was asked of it.
  };

  void Do(const std::string& action);
  void Trace(const std::string& address, const RpcMessage& request);
  void Beside();
  void Soon();
  void Send(const std::string& address, int64_t nanos, RpcMessage request,
            std::function<void(const StatusOr<RpcMessage>&)> done);
  void RemoveAtClone();
  void Ingest();
  StatusOr<IngestSummary> IngestSome(std::optional<uint64_t> with = std::nullopt);
  void Remove();
  void RemoveOne(uint64_t n, bool now);
  void BringBack();
  void Undo();
  void StartCollection(bool thorough);
  void AwaitCollection();
  void NoteCollection();
  void CollectByClone();
  void StopNode();
  void StartNode();
  void RestartNode(bool lose_index);
  void ReplaceDisk();
  void RestartCoordinator();
  void LoseCatalogue(bool clone);
  void RollBackCatalogue();
  void FlipBit();
  void FailSync();
  void FillDisks();
  void CutPower();
  void AddNode();
  void SetNodeState(proto::SetNodeStateRequest::Action action);
  void Settle();
  void BecomeWhole();
  void Check();
  void CheckQuiet();
  void CheckStores();
  void CheckRepairs();
  void CheckCollects();
  void CheckHeld(const std::vector<ObjectInfo>& listed);
  StatusOr<std::vector<RecordId>> RecordsOf(const ObjectInfo& info);
  Status CheckObject(const ObjectInfo& info, const std::string& expected);
  bool Rotten(const ObjectInfo& info);
  void Violated(const std::string& what);
  void Must(const Status& status, const std::string& what);
  bool bad() const { return !violation_.empty(); }
  std::string Name(uint64_t n) const { return "dir/file-" + std::to_string(n); }

  const Scenario& scenario_;
  SimRng choice_;
  std::unique_ptr<SimVault> sim_;
  uint32_t nodes_ = 0, spare_ = 0;
  int64_t lease_nanos_ = 0;
  std::vector<Object> objects_;
  std::optional<uint32_t> away_;
  bool calm_ = false;        // Between the rounds.
  bool busy_ = false;        // Beside() is under way.
  bool collecting_ = false;  // A run was begun and its end not seen.
  std::vector<Buffer> backups_;
  std::optional<MemKvDisk> image_;  // Of the catalogue's disk, when it had …
  uint64_t image_commits_ = 0;      // … so many commits.
  bool restored_ = false;  // The catalogue, and what it needs may be in the trash until a sweep.
  std::optional<uint32_t> rotting_;  // With more than one copy, the only node whose bits flip.
  std::set<RecordId> flipped_;
  std::vector<std::string> log_;
  std::string violation_;
  Counts counts_;
  uint64_t trace_ = 0, requests_ = 0;
};

}  // namespace holdfast::sim
