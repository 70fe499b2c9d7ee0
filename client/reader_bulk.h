// Reads many objects whole, side by side, and checks everything that identifies their content.
// Restore and verify are built on it.
//
// Slices of several objects are fetched, opened and digested together, so that the engine's lanes
// are full and many small objects cost few round trips; the next batch is fetched while one is
// worked on. Long objects take turns, a slice at a time. Memory: per thread, the content of a
// batch (32 MiB or little more) and the five answers of 4 MiB that are under way or being opened.
#pragma once

#include <memory>

#include "client/stage_clock.h"
#include "client/vault.h"

namespace holdfast {

// A replica that did not hold what it should.
struct ReplicaFault {
  uint32_t node = 0;
  RecordId id;
  Status status;  // kDataLoss, or why it could not be checked.
};

// One object to read. Its methods run on threads of the reader, one at a time for one job.
class ReadJob {
 public:
  virtual ~ReadJob() = default;
  // Opens the object; it stays where it is until the job is gone. Null: nothing is to be read (the
  // job has seen to the reason).
  virtual const Vault::OpenedObject* Open() = 0;
  virtual void OnFault(const ReplicaFault& fault) { (void)fault; }
  // Content in order, every byte of it checked against its chunk's identity. The last call comes
  // after the object's digests were compared; so an object that comes in one call is proved whole.
  virtual Status OnContent(Bytes bytes) = 0;
  // Last. Ok: all content was given and is right. kDataLoss: some of it is lost.
  virtual void OnDone(const Status& status) = 0;
};

struct BulkOptions {
  // Read and compare every replica, and go on after the first loss of an object, so that every
  // damaged replica is found.
  bool all_replicas = false;
  // Which of the recorded object digests to recompute (kernels::DigestSet).
  uint32_t digests = kernels::kAllDigests;
  int threads = 0;  // 0: as many as cores. -1: none, all in the caller (simulation).
  // To so many jobs a thread gives content at a time: for jobs that wait for a disk.
  size_t writers = 1;
  JobTimes* times = nullptr;
};

// The fastest engine of this machine's processor.
std::unique_ptr<kernels::Engine> DefaultEngine(Vault& vault);

class BulkReader {
 public:
  // All outlive it.
  BulkReader(Vault& vault, kernels::Engine& engine, const BulkOptions& options);
  ~BulkReader();  // Calls Finish.

  // Takes a job; waits while many are queued.
  void Push(std::unique_ptr<ReadJob> job);
  // Returns when every job is done. No Push after it.
  void Finish();
  // Stored bytes fetched so far, all replicas.
  uint64_t stored_bytes() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast
