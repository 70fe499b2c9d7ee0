#include "coordinator/cluster_state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/cluster/replan.h"
#include "common/cluster/routes.h"

namespace holdfast {
namespace {

constexpr int64_t kTellNanos = kSecond;
constexpr int64_t kTellTimeoutNanos = 5 * kSecond;
constexpr size_t kMaxName = 200;
constexpr uint32_t kServerRoles =
    static_cast<uint32_t>(Role::kNode) | static_cast<uint32_t>(Role::kCoordinator);

PrincipalRow RowOf(const Principal& p) { return {p.roles, p.revoked, p.added_nanos, p.name}; }

Principal PrincipalOf(const CurvePublicKey& key, PrincipalRow row) {
  return {key, row.roles, row.revoked, row.added_nanos, std::move(row.name)};
}

void ToProto(const Principal& principal, proto::PrincipalEntry& out) {
  out.set_key(ToString(principal.key.bytes()));
  out.set_roles(principal.roles);
  out.set_revoked(principal.revoked);
  out.set_name(principal.name);
  out.set_added_nanos(principal.added_nanos);
}

Status CheckNode(const proto::AddNodeRequest& request) {
  const bool keys =
      request.id().size() == NodeId::kSize && request.public_key().size() == CurvePublicKey::kSize;
  if (!keys || NodeId::FromBytes(AsBytes(request.id())).is_zero()) {
    return absl::InvalidArgumentError("a node needs an id of 16 bytes and a key of 32");
  }
  if (request.endpoint().empty() || request.endpoint().size() > kMaxName) {
    return absl::InvalidArgumentError("a node needs an endpoint: tcp://HOST:PORT");
  }
  if (!(request.weight() > 0 && request.weight() <= 1e6)) {
    return absl::InvalidArgumentError("a node's weight is above 0 and at most 1000000");
  }
  const std::string& domain = request.failure_domain();
  if (domain.size() > kMaxName || std::count(domain.begin(), domain.end(), '/') != 3) {
    return absl::InvalidArgumentError("a node's place is site/rack/host/disk");
  }
  return absl::OkStatus();
}

}  // namespace

KvBatch ClusterState::Founding(const ClusterMap& map, const Principal& founder) {
  return {{MapKey(), EncodeClusterMap(map)}, {PrincipalKey(founder.key), Encode(RowOf(founder))}};
}

Status ClusterState::Load() {
  ASSIGN_OR_RETURN(std::optional<std::string> row, catalogue_.kv().Get(MapKey()));
  if (!row) return absl::OkStatus();
  StatusOr<ClusterMap> map = DecodeClusterMap(*row);
  if (!map.ok()) return absl::DataLossError(Message(map.status()) + ": " + kRebuildHint);
  map_ = *std::move(map);
  std::fill(changed_.begin(), changed_.end(), map_.version);
  principals_.clear();
  Status error;
  const std::string begin(1, static_cast<char>(RowKind::kPrincipal));
  const std::string end(1, static_cast<char>(RowKind::kPrincipal) + 1);
  RETURN_IF_ERROR(
      catalogue_.kv().Scan(begin, end, [&](std::string_view key, std::string_view value) {
        StatusOr<PrincipalRow> principal = DecodePrincipalRow(value);
        if (!principal.ok()) {
          error = absl::DataLossError(Message(principal.status()) + ": " + kRebuildHint);
          return false;
        }
        principals_.push_back(PrincipalOf(ParsePrincipalKey(key), *std::move(principal)));
        return true;
      }));
  RETURN_IF_ERROR(error);
  active_ = true;
  access_version_ = env_.rng.NextU64() | 1;
  Publish();
  return absl::OkStatus();
}

// What is in force from here on: routes, the table of who may do what, and what nodes are told.
void ClusterState::Publish() {
  RouteNodes(env_.transport, map_);
  published_ = principals_;
  for (const MapNode& node : map_.nodes) {
    Principal principal;
    principal.key = node.public_key;
    principal.roles = static_cast<uint32_t>(Role::kNode);
    principal.revoked = node.state == NodeState::kRemoved;
    principal.name = NodeAddress(node.number);
    published_.push_back(principal);
  }
  if (env_.access != nullptr) env_.access->Replace(access_version_, published_);
  told_.resize(map_.nodes.size());
}

StatusOr<ClusterState::Change> ClusterState::PlanAddNode(const proto::AddNodeRequest& request,
                                                         bool nothing_stored) const {
  RETURN_IF_ERROR(CheckNode(request));
  MapNode node;
  node.id = NodeId::FromBytes(AsBytes(request.id()));
  node.public_key = CurvePublicKey::FromBytes(AsBytes(request.public_key()));
  node.endpoint = request.endpoint();
  node.weight = request.weight();
  node.failure_domain = request.failure_domain();
  Change change{map_, principals_, {}, 0};
  auto known = std::find_if(change.map.nodes.begin(), change.map.nodes.end(),
                            [&](const MapNode& n) { return n.id == node.id; });
  for (const MapNode& other : map_.nodes) {
    if (other.id != node.id && other.state != NodeState::kRemoved &&
        (other.endpoint == node.endpoint || other.public_key == node.public_key)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Printable(node.endpoint), " is ", NodeAddress(other.number), " already"));
    }
  }
  if (known == change.map.nodes.end()) {
    node.number = static_cast<uint32_t>(change.map.nodes.size());
    change.map.nodes.push_back(node);
    change.node = node.number;
  } else {
    if (!AllowsSite(map_, node.failure_domain) && AllowsSite(map_, known->failure_domain)) {
      return absl::InvalidArgumentError(absl::StrCat(
          NodeAddress(known->number), " may hold copies: it stays at a site where they may be"));
    }
    change.node = node.number = known->number;
    node.state = known->state;
    *known = node;
  }
  Replan(change.map, nothing_stored);
  if (EncodeClusterMap(change.map) != EncodeClusterMap(map_)) Finish(change);
  return change;
}

const std::string& ClusterState::EncodedMap() {
  if (encoded_version_ != map_.version) {
    encoded_ = EncodeClusterMap(map_);
    encoded_version_ = map_.version;
  }
  return encoded_;
}

void ClusterState::Finish(Change& change) {
  ++change.map.version;
  change.rows = {{MapKey(), EncodeClusterMap(change.map)}};
}

StatusOr<ClusterState::Change> ClusterState::PlanSetNodeState(
    const proto::SetNodeStateRequest& request, bool nothing_stored) const {
  using Request = proto::SetNodeStateRequest;
  const uint32_t number = request.node();
  if (number >= map_.nodes.size() || map_.nodes[number].state == NodeState::kRemoved) {
    return absl::NotFoundError(absl::StrCat("there is no node ", number));
  }
  Change change{map_, principals_, {}, number};
  NodeState& state = change.map.nodes[number].state;
  const NodeState before = state;
  switch (request.action()) {
    case Request::DRAIN:
      if (state == NodeState::kIn) state = NodeState::kDraining;
      break;
    case Request::UNDRAIN:
      if (state == NodeState::kDraining) state = NodeState::kIn;
      break;
    case Request::REMOVE:
      if (NodesInUse(map_)[number]) {
        return absl::FailedPreconditionError(absl::StrCat(
            "node ", number, " holds records: drain it first; or if its disk is gone, --lost"));
      }
      state = NodeState::kRemoved;
      break;
    case Request::REMOVE_LOST:
      state = NodeState::kRemoved;
      break;
    default:
      return absl::InvalidArgumentError("there is no such change of a node");
  }
  const auto eligible =
      std::count_if(change.map.nodes.begin(), change.map.nodes.end(),
                    [&](const MapNode& node) { return IsEligible(change.map, node); });
  if (request.action() == Request::DRAIN && eligible < map_.replicas) {
    return absl::FailedPreconditionError(
        absl::StrCat("without node ", number, " only ", eligible, " nodes take records, and ",
                     map_.replicas, " copies are wanted: join another one first"));
  }
  if (state == before) return change;
  Replan(change.map, nothing_stored);
  Finish(change);
  return change;
}

ClusterState::Change ClusterState::PlanAway(const std::vector<uint32_t>& gone,
                                            const std::vector<uint32_t>& back,
                                            bool nothing_stored) const {
  Change change{map_, principals_, {}, 0};
  for (uint32_t node : gone) change.map.nodes[node].state = NodeState::kOut;
  for (uint32_t node : back) change.map.nodes[node].state = NodeState::kIn;
  Replan(change.map, nothing_stored);
  Finish(change);
  return change;
}

ClusterState::Change ClusterState::PlanSwitch(const std::vector<uint32_t>& groups) const {
  Change change{map_, principals_, {}, 0};
  for (uint32_t pg : groups) FinishMigration(change.map, pg);
  Finish(change);
  return change;
}

StatusOr<ClusterState::Change> ClusterState::PlanSetPrincipal(
    const proto::SetPrincipalRequest& request) const {
  const proto::PrincipalEntry& entry = request.principal();
  Principal principal;
  principal.key = CurvePublicKey::FromBytes(AsBytes(entry.key()));
  principal.roles = entry.roles();
  principal.revoked = entry.revoked();
  principal.name = entry.name();
  if (principal.key.is_zero() || principal.name.size() > kMaxName) {
    return absl::InvalidArgumentError("a principal needs a CURVE key of 32 bytes");
  }
  if ((principal.roles & kServerRoles) != 0) {
    return absl::InvalidArgumentError("nodes and coordinators are no principals to be made");
  }
  Change change{map_, principals_, {}, 0};
  auto known = std::find_if(change.principals.begin(), change.principals.end(),
                            [&](const Principal& p) { return p.key == principal.key; });
  principal.added_nanos =
      known == change.principals.end() ? env_.clock.WallNanos() : known->added_nanos;
  if (known == change.principals.end()) {
    change.principals.push_back(principal);
  } else {
    *known = principal;
  }
  change.rows = {{PrincipalKey(principal.key), Encode(RowOf(principal))}};
  return change;
}

void ClusterState::AppendAllRows(KvBatch& rows) const {
  if (!active_) return;
  rows.push_back({MapKey(), EncodeClusterMap(map_)});
  for (const Principal& p : principals_) rows.push_back({PrincipalKey(p.key), Encode(RowOf(p))});
}

void ClusterState::Install(Change change) {
  const ClusterMap before = std::exchange(map_, std::move(change.map));
  NoteChanges(before);
  principals_ = std::move(change.principals);
  ++access_version_;
  Publish();
  for (uint32_t node = 0; node < told_.size(); ++node) Tell(node);
}

// A switch to the target changes nothing for who kept to both sets.
void ClusterState::NoteChanges(const ClusterMap& before) {
  for (uint32_t pg = 0; pg < map_.placement.size(); ++pg) {
    if (pg >= before.placement.size()) {
      changed_[pg] = map_.version;
      continue;
    }
    const bool migrating = Migrating(before, pg);
    const bool switched =
        migrating && !Migrating(map_, pg) && map_.placement[pg] == before.target[pg];
    const bool same = map_.placement[pg] == before.placement[pg] &&
                      migrating == Migrating(map_, pg) &&
                      (!migrating || map_.target[pg] == before.target[pg]);
    if (!same && !switched) changed_[pg] = map_.version;
  }
}

proto::ListPrincipalsReply ClusterState::ListPrincipals() const {
  proto::ListPrincipalsReply reply;
  for (const Principal& principal : principals_) ToProto(principal, *reply.add_principals());
  return reply;
}

void ClusterState::Start() {
  if (active_) TellAll();
}

void ClusterState::TellAll() {
  for (uint32_t node = 0; node < told_.size(); ++node) Tell(node);
  env_.loop.PostAfter(kTellNanos, guard_.Wrap([this] { TellAll(); }));
}

void ClusterState::Tell(uint32_t node) {
  Told& told = told_[node];
  if (told.asking || map_.nodes[node].state == NodeState::kRemoved) return;
  told.asking = true;
  proto::NodeConfigureRequest request;
  request.set_map_version(map_.version);
  request.set_access_version(access_version_);
  if (told.map_version != map_.version) request.set_map(EncodedMap());
  if (told.access_version != access_version_) {
    request.set_has_principals(true);
    for (const Principal& p : published_) ToProto(p, *request.add_principals());
  }
  nodes_.Call({node, MakeMessage(rpc::kNodeConfigure, request)}, kTellTimeoutNanos,
              [this, node](const NodeReply& reply) { Answered(node, reply); });
}

void ClusterState::Answered(uint32_t node, const NodeReply& reply) {
  if (node >= told_.size()) return;  // It was added, and that could not be written.
  Told& told = told_[node];
  told.asking = false;
  StatusOr<proto::NodeConfigureReply> head =
      reply.ok() ? ParseHead<proto::NodeConfigureReply>(*reply) : reply.status();
  // One that is away has forgotten what it was told when it comes back.
  told.map_version = head.ok() ? head->map_version() : 0;
  told.access_version = head.ok() ? head->access_version() : 0;
  const bool current = told.map_version == map_.version && told.access_version == access_version_;
  if (head.ok() && !current) Tell(node);
}

}  // namespace holdfast
