// The coordinator: names, versions, sessions and epochs, the cluster map, and the commit log.
//
// All methods run on the coordinator's Loop. It knows object names, never content. Rules (DESIGN
// 8, 9), by number, as the code cites them:
//   C1  Commit order: catalogue synced with an outbox row → commit record durable on W nodes of
//       its acting set → visible and answered. After a crash the outbox is sent again at open.
//   C2  Commit numbers have no gaps; each record carries the hash of the one before.
//   C3  A catalogue behind the nodes (a node holds a higher commit number) is refused: rebuild.
//   C4  A commit of a session that is not OPEN is refused.
//   C5  Repeating a request has one effect.
// Garbage collection has rules of its own: collector.h and docs/gc.md.
// Reads that arrive while a commit is under way are answered after it.
#pragma once

#include <memory>

#include "common/base/loop.h"
#include "common/cluster/access.h"
#include "common/cluster/cluster_map.h"
#include "common/format/catalogue_format.h"
#include "common/io/fs.h"
#include "common/kv/kv.h"
#include "common/proto/holdfast.pb.h"
#include "common/rpc/transport.h"

namespace holdfast {

struct CoordinatorOptions {
  VaultId vault;
  DomainId domain;
  CatalogueKeys keys;
  ClusterMap map;  // Of an embedded vault; a cluster has it in its catalogue.
  // How long a commit waits for nodes that are away or fail.
  int64_t max_wait_nanos = 30'000'000'000;
  // A node of a cluster that is away for this long is taken out: its records get their copies
  // elsewhere. Longer than a restart with updates takes; each hour costs a copy of all it holds.
  int64_t out_after_nanos = 600'000'000'000;
  // A session of which nothing was heard for this long is aborted. Clients say something every
  // minute (rpc::kOpenSession, again).
  int64_t session_lease_nanos = 15LL * 60 * 1'000'000'000;
  std::string gc_dir;  // For the marks of garbage collection, while it runs.
  // A run that would put more records than this into the trash, and more than a fifth of all, needs
  // consent: it is most likely a mistake.
  uint64_t gc_consent_records = 10'000;
};

struct CoordinatorEnv {
  Clock& clock;
  Rng& rng;
  Loop& loop;
  Transport& transport;  // To the nodes.
  Kv& catalogue;
  AccessTable* access = nullptr;  // Of a cluster: filled here, for whoever authorises.
  Fs* fs = nullptr;               // Where options.gc_dir is; none: nothing is collected.
  // On the Loop, when the coordinator refuses everything from here on: its catalogue could not be
  // written, or another one has taken its place. It is to be opened again, or not.
  std::function<void(const Status&)> on_refused;
};

class Coordinator : public Service {
 public:
  // An empty catalogue for a new vault.
  static Status Format(const CoordinatorOptions& options, Kv& catalogue, Clock& clock);
  // The same for a new cluster, with options.map (no nodes yet) and its first principal.
  static Status FormatCluster(const CoordinatorOptions& options, const Principal& founder,
                              Kv& catalogue);
  // Checks the catalogue against the nodes (C3), sends the outbox. Sessions left open go on in a
  // cluster, and are aborted in an embedded vault.
  // Called off the Loop, before Attach; uses transport and waits. kDataLoss: damaged or behind the
  // nodes ("… run `holdfast fsck --rebuild-catalogue`"). kPermissionDenied: another vault's, or the
  // wrong catalogue key. kUnavailable: no node of an embedded vault answers. When so many are away
  // that the catalogue could be behind without anybody saying so, it opens for reading; commits
  // wait until enough answer (coordinator/census.h).
  static StatusOr<std::unique_ptr<Coordinator>> Open(const CoordinatorOptions& options,
                                                     const CoordinatorEnv& env);
  ~Coordinator() override;

  void Handle(RpcMessage request, ReplyFn reply) override;

 private:
  class Impl;
  explicit Coordinator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct RebuildReport {
  uint64_t commits = 0;
  uint64_t last_commit = 0;               // The highest number, replayed or missing.
  uint64_t objects = 0;                   // Object versions replayed.
  std::vector<uint64_t> missing_commits;  // Numbers that no node could give.
  std::vector<uint64_t> broken_links;     // Replayed, but made after another one than went before.
};
// Fills an empty catalogue from the commit records on the nodes, in order of number, taking each
// from whichever node has a good copy. A gap is named in the report and the rest is still
// replayed. Generation becomes 1 + the highest seen, sessions are gone, E := 1 + the highest seen.
// kUnavailable when so many nodes are away that whole commits could be on them alone, unless
// `accept_loss`: then those are gone, whether a gap shows it or not. `backup`, if not empty, is a
// backup file (common/format/backup.h): only commits made since are replayed. The map of a cluster
// is the one of the records, or options.map when that is newer.
StatusOr<RebuildReport> RebuildCatalogue(const CoordinatorOptions& options,
                                         const CoordinatorEnv& env, bool accept_loss = false,
                                         Bytes backup = {});

}  // namespace holdfast
