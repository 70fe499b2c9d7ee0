// The cluster as its coordinator knows it: the map and the principals, kept in the catalogue and in
// commit records like everything else, and told to the nodes.
//
// Nodes know nothing of either when they start: they let in the coordinator alone, and it tells
// them. It asks every second what they have; what is not what it has, it sends. Runs on the Loop.
#pragma once

#include <vector>

#include "common/cluster/access.h"
#include "common/cluster/cluster_map.h"
#include "coordinator/catalogue.h"
#include "coordinator/coordinator.h"
#include "coordinator/guard.h"
#include "coordinator/node_client.h"

namespace holdfast {

class ClusterState {
 public:
  // `map` is what everybody here looks at; it changes in Install.
  ClusterState(ClusterMap& map, const CoordinatorEnv& env, Catalogue& catalogue, NodeClient& nodes,
               const Guard& guard)
      : map_(map), env_(env), catalogue_(catalogue), nodes_(nodes), guard_(guard) {}

  // The rows of a new cluster: no nodes yet, and whoever made it.
  static KvBatch Founding(const ClusterMap& map, const Principal& founder);
  // Reads the rows, if there are any: an embedded vault has none, and its map comes from elsewhere.
  // Off the Loop.
  Status Load();
  // The map as it is told to nodes and clients.
  const std::string& EncodedMap();
  // Whether there are rows.
  bool active() const { return active_; }

  // What a request would change. Nothing when all is so already.
  struct Change {
    ClusterMap map;
    std::vector<Principal> principals;  // All of them.
    KvBatch rows;
    uint32_t node = 0;  // Of an AddNode.
  };
  // `nothing_stored`: no group holds anything yet (replan.h).
  StatusOr<Change> PlanAddNode(const proto::AddNodeRequest& request, bool nothing_stored) const;
  // What an operator asks for.
  StatusOr<Change> PlanSetNodeState(const proto::SetNodeStateRequest& request,
                                    bool nothing_stored) const;
  // Nodes that have gone for long, or have come back: in ↔ out.
  Change PlanAway(const std::vector<uint32_t>& gone, const std::vector<uint32_t>& back,
                  bool nothing_stored) const;
  // These groups have all they need at their targets.
  Change PlanSwitch(const std::vector<uint32_t>& groups) const;
  StatusOr<Change> PlanSetPrincipal(const proto::SetPrincipalRequest& request) const;
  // Makes it so here; the rows are written already. The nodes are told at once.
  void Install(Change change);
  // The version of the map that last changed which nodes have to hold the group's records. What was
  // acknowledged under an older one has to be secured (secure.h) before it is committed.
  uint64_t changed(uint32_t pg) const { return changed_[pg]; }
  // Every row there is, so that the first commit record holds all that came before it.
  void AppendAllRows(KvBatch& rows) const;
  proto::ListPrincipalsReply ListPrincipals() const;

  // Begins to tell the nodes.
  void Start();

 private:
  struct Told {
    uint64_t map_version = 0, access_version = 0;
    bool asking = false;
  };

  static void Finish(Change& change);
  void NoteChanges(const ClusterMap& before);
  void Publish();
  void TellAll();
  void Tell(uint32_t node);
  void Answered(uint32_t node, const NodeReply& reply);

  ClusterMap& map_;
  const CoordinatorEnv& env_;
  Catalogue& catalogue_;
  NodeClient& nodes_;
  const Guard& guard_;
  std::string encoded_;           // The map of …
  uint64_t encoded_version_ = 0;  // … this version; 0: none.
  bool active_ = false;
  std::vector<Principal> principals_;  // As in the catalogue.
  std::vector<Principal> published_;   // With the servers themselves.
  uint64_t access_version_ = 0;
  std::vector<Told> told_;
  std::vector<uint64_t> changed_ = std::vector<uint64_t>(kPlacementGroups);
};

}  // namespace holdfast
