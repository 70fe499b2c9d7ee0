// cluster, key new-principal and key revoke: making a cluster and saying who may use it.
#include <sys/statvfs.h>

#include <cstdio>
#include <set>

#include "absl/strings/str_cat.h"
#include "cli/arguments.h"
#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/kv_options.h"
#include "cli/output.h"
#include "cli/remote.h"
#include "cli/serve.h"
#include "common/base/text.h"
#include "common/cluster/access.h"
#include "common/rpc/methods.h"
#include "common/rpc/zmq/zmq_transport.h"
#include "coordinator/coordinator.h"
#include "node/node.h"

namespace holdfast::cli {
namespace {

constexpr size_t kMaxSite = 64;
constexpr uint32_t kFounderRoles =
    static_cast<uint32_t>(Role::kIngest) | static_cast<uint32_t>(Role::kReader) |
    static_cast<uint32_t>(Role::kCustodian) | static_cast<uint32_t>(Role::kOperator);

// A key file for a server: who it is, and for the coordinator the catalogue key.
KeyFile ServerKey(const KeyFile& of, const CurveKeyPair& keys, const CurvePublicKey& coordinator) {
  KeyFile key = MakeClusterOnly(of);
  key.cluster = {keys.public_key, keys.secret_key, coordinator};
  return key;
}

StatusOr<std::string> MakeCoordinator(const Globals& globals, const ClusterInitArgs& args,
                                      uint32_t chunk_size) {
  RETURN_IF_ERROR(DataEndpoint(args.listen).status());
  ASSIGN_OR_RETURN(const std::string dir, AbsolutePath(args.dir));
  RETURN_IF_ERROR(CheckEmptyOrAbsent(PosixFs(), dir));
  ASSIGN_OR_RETURN(const bool key_exists, PosixFs().Exists(globals.key));
  if (key_exists) {
    return absl::InvalidArgumentError(Printable(globals.key) +
                                      " is there already: give a new path for the key");
  }
  ASSIGN_OR_RETURN(KeyFile founder, GenerateKeyFile(SecureRng(), SecureRng().NewId<VaultId>()));
  const CurveKeyPair coordinator = NewCurveKeyPair(), own = NewCurveKeyPair();
  KeyFile server = ServerKey(founder, coordinator, coordinator.public_key);
  server.catalogue_key = founder.catalogue_key;
  founder.catalogue_key = {};
  founder.cluster = {own.public_key, own.secret_key, coordinator.public_key};

  CoordinatorOptions options;
  options.vault = founder.vault;
  options.domain = founder.domain;
  options.keys = DeriveCatalogueKeys(server.catalogue_key);
  options.map.replicas = args.replicas;
  options.map.chunk_size = chunk_size;
  const std::set<std::string> sites(args.sites.begin(), args.sites.end());
  options.map.sites.assign(sites.begin(), sites.end());
  ComputePlacement(options.map);
  Principal principal;
  principal.key = own.public_key;
  principal.roles = kFounderRoles;
  principal.added_nanos = SystemClock().WallNanos();
  principal.name = "founder";

  Fs& fs = PosixFs();
  RETURN_IF_ERROR(fs.CreateDir(dir));
  RETURN_IF_ERROR(fs.SyncDir(dir + "/.."));
  RETURN_IF_ERROR(WriteKeyFile(fs, dir + "/coordinator.key", server, std::nullopt, SecureRng()));
  {
    ASSIGN_OR_RETURN(auto catalogue,
                     OpenRocksKv(dir + "/catalogue", true, CatalogueKvOptions(server)));
    RETURN_IF_ERROR(Coordinator::FormatCluster(options, principal, *catalogue));
  }
  RETURN_IF_ERROR(WriteKeyFile(fs, globals.key, founder, std::nullopt, SecureRng()));
  const std::string config = dir + "/coordinator.toml";
  RETURN_IF_ERROR(WriteConfig(config, CoordinatorConfig{dir, args.listen, "coordinator.key"}));
  return config;
}

double DefaultWeight(const std::string& dir) {
  struct statvfs s;
  constexpr double kTebi = 1024.0 * 1024 * 1024 * 1024;
  if (::statvfs(dir.c_str(), &s) != 0) return 1;
  return std::max(0.001, static_cast<double>(s.f_blocks) * s.f_frsize / kTebi);
}

// The node's number comes from the coordinator, so that one hears of the node before its directory
// is made. What fails after that leaves a node in the map that nobody serves.
StatusOr<std::string> MakeNode(const Globals& globals, const ClusterJoinArgs& args) {
  RETURN_IF_ERROR(DataEndpoint(args.listen).status());
  ASSIGN_OR_RETURN(const KeyFile key, LoadKey(globals));
  std::unique_ptr<ZmqTransport> transport;
  RETURN_IF_ERROR(ConnectToCoordinator(globals, key, transport).status());
  ASSIGN_OR_RETURN(const std::string dir, AbsolutePath(args.dir));
  RETURN_IF_ERROR(CheckEmptyOrAbsent(PosixFs(), dir));
  Fs& fs = PosixFs();
  RETURN_IF_ERROR(fs.CreateDir(dir));

  const CurveKeyPair keys = NewCurveKeyPair();
  NodeConfig config;
  config.dir = dir + "/node";
  config.listen = args.listen;
  config.key_file = "node.key";
  config.id = SecureRng().NewId<NodeId>();
  proto::AddNodeRequest request;
  request.set_id(ToString(config.id.bytes()));
  request.set_public_key(ToString(keys.public_key.bytes()));
  request.set_endpoint(args.endpoint.empty() ? args.listen : args.endpoint);
  request.set_weight(args.weight > 0 ? args.weight : DefaultWeight(dir));
  request.set_failure_domain(args.place + "/" + config.id.hex().substr(0, 8));
  ASSIGN_OR_RETURN(const auto reply,
                   Ask<proto::AddNodeReply>(*transport, kCoordinatorAddress, rpc::kAddNode, request,
                                            kChangeNanos));
  config.number = reply.number();
  if (!reply.note().empty()) std::fprintf(stderr, "%s\n", Printable(reply.note()).c_str());

  NodeOptions options;
  options.dir = config.dir;
  options.vault = key.vault;
  options.node = config.id;
  options.node_number = config.number;
  RETURN_IF_ERROR(Node::Format(options, fs, SecureRng()));
  RETURN_IF_ERROR(WriteKeyFile(fs, dir + "/node.key",
                               ServerKey(key, keys, key.cluster->coordinator), std::nullopt,
                               SecureRng()));
  const std::string path = dir + "/node.toml";
  RETURN_IF_ERROR(WriteConfig(path, config));
  std::fprintf(stderr, "%s of the cluster at %s is made in %s.\n",
               NodeAddress(config.number).c_str(), Printable(globals.vault).c_str(),
               Printable(dir).c_str());
  return path;
}

// Content keys as far as the roles want them.
StatusOr<KeyFile> KeyForRoles(const KeyFile& own, uint32_t roles) {
  const bool ingests = (roles & static_cast<uint32_t>(Role::kIngest)) != 0;
  if ((roles & static_cast<uint32_t>(Role::kReader)) != 0) return MakeReader(own, ingests);
  if (ingests) return MakeIngestOnly(own);
  return MakeClusterOnly(own);
}

Status MakePrincipal(const Globals& globals, const NewPrincipalArgs& args) {
  ASSIGN_OR_RETURN(const uint32_t roles, ParseRoles(args.roles));
  ASSIGN_OR_RETURN(const KeyFile own, LoadKey(globals));
  std::unique_ptr<ZmqTransport> transport;
  RETURN_IF_ERROR(ConnectToCoordinator(globals, own, transport).status());
  ASSIGN_OR_RETURN(KeyFile key, KeyForRoles(own, roles));
  const CurveKeyPair keys = NewCurveKeyPair();
  key.cluster = {keys.public_key, keys.secret_key, own.cluster->coordinator};
  // The file first: a principal whose file could not be written is of no use to anybody.
  RETURN_IF_ERROR(WriteKeyFile(PosixFs(), args.out, key, std::nullopt, SecureRng()));
  proto::SetPrincipalRequest request;
  request.mutable_principal()->set_key(ToString(keys.public_key.bytes()));
  request.mutable_principal()->set_roles(roles);
  request.mutable_principal()->set_name(args.name);
  Status status = Ask<proto::SetPrincipalReply>(*transport, kCoordinatorAddress, rpc::kSetPrincipal,
                                                request, kChangeNanos)
                      .status();
  // Where no answer came, the principal may be there: then the file is needed.
  if (!status.ok() && !absl::IsUnavailable(status)) PosixFs().Remove(args.out).IgnoreError();
  return status;
}

StatusOr<proto::ListPrincipalsReply> Principals(const Globals& globals,
                                                std::unique_ptr<ZmqTransport>& transport) {
  ASSIGN_OR_RETURN(const KeyFile own, LoadKey(globals));
  RETURN_IF_ERROR(ConnectToCoordinator(globals, own, transport).status());
  return Ask<proto::ListPrincipalsReply>(*transport, kCoordinatorAddress, rpc::kListPrincipals,
                                         proto::ListPrincipalsRequest());
}

Status Revoke(const Globals& globals, const std::string& who) {
  std::unique_ptr<ZmqTransport> transport;
  ASSIGN_OR_RETURN(proto::ListPrincipalsReply all, Principals(globals, transport));
  proto::SetPrincipalRequest request;
  int found = 0;
  for (const proto::PrincipalEntry& entry : all.principals()) {
    if (entry.name() != who && ToHex(AsBytes(entry.key())) != who) continue;
    ++found;
    *request.mutable_principal() = entry;
  }
  if (found == 0) return absl::NotFoundError("there is no principal \"" + Printable(who) + "\"");
  if (found > 1) {
    return absl::InvalidArgumentError("several principals are called \"" + Printable(who) +
                                      "\": give the key, as `key list` shows it");
  }
  request.mutable_principal()->set_revoked(true);
  return Ask<proto::SetPrincipalReply>(*transport, kCoordinatorAddress, rpc::kSetPrincipal, request,
                                       kChangeNanos)
      .status();
}

}  // namespace

int RunClusterInit(const Globals& globals, const ClusterInitArgs& args) {
  if (globals.key.empty()) {
    return Fail("where shall your key go? give --key FILE or set HOLDFAST_KEY", kExitUsage);
  }
  const StatusOr<uint32_t> chunk_size = ParseChunkSize(args.chunk_size);
  if (!chunk_size.ok()) return Fail(chunk_size.status());
  if (args.replicas < 1 || args.replicas > 8) {
    return Fail("--replicas: give 1 to 8", kExitUsage);
  }
  for (const std::string& site : args.sites) {
    if (site.empty() || site.size() > kMaxSite || site.find('/') != std::string::npos) {
      return Fail(
          "--sites: \"" + Printable(site) + "\" is no site: give the SITE of SITE/RACK/HOST",
          kExitUsage);
    }
  }
  const StatusOr<std::string> config = MakeCoordinator(globals, args, *chunk_size);
  if (!config.ok()) return Fail(config.status());
  std::fprintf(stderr,
               "Coordinator made. Next:\n"
               "  holdfast coordinator serve --config %s\n"
               "  holdfast cluster join DIR --listen tcp://HOST:PORT --vault %s --key %s\n"
               "%s opens the vault: without it the data is lost. Keep a copy of it, and of\n"
               "coordinator.key, somewhere else.\n",
               Printable(*config).c_str(), Printable(args.listen).c_str(),
               Printable(globals.key).c_str(), Printable(globals.key).c_str());
  return kExitOk;
}

int RunClusterJoin(const Globals& globals, const ClusterJoinArgs& args) {
  if (std::count(args.place.begin(), args.place.end(), '/') != 2) {
    return Fail("--place " + Printable(args.place) + ": give SITE/RACK/HOST", kExitUsage);
  }
  const StatusOr<std::string> config = MakeNode(globals, args);
  if (!config.ok()) return Fail(config.status());
  std::fprintf(stderr, "Next:\n  holdfast node serve --config %s\n", Printable(*config).c_str());
  return kExitOk;
}

int RunNewPrincipal(const Globals& globals, const NewPrincipalArgs& args) {
  const Status status = MakePrincipal(globals, args);
  if (!status.ok()) return Fail(status);
  std::fprintf(stderr, "%s is for %s. It is not wrapped: whoever reads it can use it.\n",
               Printable(args.out).c_str(), args.roles.c_str());
  return kExitOk;
}

int RunRevoke(const Globals& globals, const std::string& who) {
  const Status status = Revoke(globals, who);
  return status.ok() ? kExitOk : Fail(status);
}

int RunListPrincipals(const Globals& globals) {
  std::unique_ptr<ZmqTransport> transport;
  const StatusOr<proto::ListPrincipalsReply> all = Principals(globals, transport);
  if (!all.ok()) return Fail(all.status());
  for (const proto::PrincipalEntry& entry : all->principals()) {
    const std::string key = ToHex(AsBytes(entry.key()));
    if (globals.json) {
      PrintJson(Json{{"type", "principal"},
                     {"key", key},
                     {"name", Printable(entry.name())},
                     {"roles", RolesText(entry.roles())},
                     {"revoked", entry.revoked()}});
    } else {
      std::printf("%s  %s  %s%s\n", key.c_str(), Printable(entry.name()).c_str(),
                  RolesText(entry.roles()).c_str(), entry.revoked() ? "  REVOKED" : "");
    }
  }
  return kExitOk;
}

}  // namespace holdfast::cli
