#include "cli/serve.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "cli/context.h"
#include "cli/kv_options.h"
#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/cluster/access.h"
#include "common/cluster/routes.h"
#include "common/io/open_files.h"
#include "common/kv/rocks_kv.h"
#include "common/rpc/methods.h"
#include "common/rpc/zmq/zmq_transport.h"
#include "coordinator/coordinator.h"
#include "node/node.h"

namespace holdfast::cli {
namespace {

// Lines about peers that misbehave: so many a second, however many there are.
class Warnings {
 public:
  void operator()(const std::string& text) {
    constexpr int kPerSecond = 5;
    std::lock_guard lock(mutex_);
    const int64_t second = SystemClock().MonotonicNanos() / kSecond;
    if (second != second_) {
      if (dropped_ > 0) std::fprintf(stderr, "holdfast: … and %d more like it\n", dropped_);
      second_ = second;
      said_ = dropped_ = 0;
    }
    if (++said_ > kPerSecond) {
      ++dropped_;
      return;
    }
    std::fprintf(stderr, "holdfast: %s\n", Printable(text).c_str());
  }

 private:
  std::mutex mutex_;
  int64_t second_ = 0;
  int said_ = 0, dropped_ = 0;
};

// Signals that end the daemon, taken by the main thread alone. Made before any other thread.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  void Wait() {
    int signal = 0;
    sigwait(&set_, &signal);
  }
  // From any thread, as if such a signal had come.
  void Stop() { kill(getpid(), SIGTERM); }

 private:
  sigset_t set_;
};

StatusOr<KeyFile> ReadServerKey(const std::string& path, bool coordinator) {
  ASSIGN_OR_RETURN(KeyFile key, ReadKeyFile(PosixFs(), path, std::nullopt));
  if (!key.cluster) return absl::PermissionDeniedError(path + " is no key file of a cluster");
  if (coordinator && key.catalogue_key == std::array<uint8_t, 32>{}) {
    return absl::PermissionDeniedError(path + " is not the coordinator's key file");
  }
  return key;
}

// A coordinator's "no" is final (common/rpc/zmq/peer.h): it says none before it has read who they
// are.
ZmqOptions ServerOptions(const KeyFile& key, const std::string& listen, const AccessTable& access,
                         bool coordinator) {
  ZmqOptions options;
  options.keys = {key.cluster->public_key, key.cluster->secret_key};
  options.listen = listen;
  options.admit = [&access, coordinator](const CurvePublicKey& who) {
    const bool final = !coordinator || access.version() != 0;
    if (access.Admits(who)) return Admission::kYes;
    return final ? Admission::kNo : Admission::kNotYet;
  };
  options.authorise = [&access](const CurvePublicKey& who, const std::string&, uint16_t method) {
    return access.Check(who, method);
  };
  options.warn = [warnings = std::make_shared<Warnings>()](const std::string& text) {
    (*warnings)(text);
  };
  return options;
}

void SayListening(const char* what, const ZmqTransport& transport) {
  std::printf("%s listening on %s\n", what, transport.endpoint().c_str());
  std::fflush(stdout);
}

// A node, and what the coordinator tells it.
class NodeService : public Service {
 public:
  // The map that it is told is kept at `map_path`, for a coordinator that has lost its own.
  NodeService(Node& node, uint32_t number, AccessTable& access, Transport& transport,
              std::string map_path, const CurvePublicKey& coordinator)
      : node_(node),
        number_(number),
        access_(access),
        transport_(transport),
        map_path_(std::move(map_path)),
        coordinator_(coordinator) {
    SetPrincipals(0, {});
  }

  void Handle(RpcMessage request, ReplyFn reply) override {
    if (request.method != rpc::kNodeConfigure) {
      return node_.Handle(std::move(request), std::move(reply));
    }
    StatusOr<proto::NodeConfigureRequest> head = ParseHead<proto::NodeConfigureRequest>(request);
    const Status taken = head.ok() ? Take(*head) : head.status();
    if (!taken.ok()) return reply(taken);
    proto::NodeConfigureReply answer;
    answer.set_map_version(map_version_);
    answer.set_access_version(access_.version());
    reply(MakeMessage(rpc::kNodeConfigure, answer));
  }

 private:
  // Who may do what is taken whatever the map is like.
  Status Take(const proto::NodeConfigureRequest& request) {
    if (request.has_principals()) {
      std::vector<Principal> principals;
      for (const proto::PrincipalEntry& entry : request.principals()) {
        principals.push_back({CurvePublicKey::FromBytes(AsBytes(entry.key())), entry.roles(),
                              entry.revoked(), entry.added_nanos(), entry.name()});
      }
      SetPrincipals(request.access_version(), std::move(principals));
    }
    if (request.map().empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const ClusterMap map, DecodeClusterMap(request.map()));
    RouteNodes(transport_, map);
    map_version_ = map.version;
    std::vector<bool> held(kPlacementGroups);
    for (uint32_t pg = 0; pg < map.placement.size(); ++pg) {
      held[pg] = std::ranges::count(WriteSet(map, pg), number_) != 0;
    }
    node_.SetGroups(std::move(held));
    // A copy that cannot be written, on a full disk, is no reason not to serve.
    WriteFileAtomically(PosixFs(), map_path_, AsBytes(request.map())).IgnoreError();
    return absl::OkStatus();
  }

  // The coordinator itself is known from the key file, and by nothing that it says.
  void SetPrincipals(uint64_t version, std::vector<Principal> principals) {
    std::erase_if(principals, [&](const Principal& p) { return p.key == coordinator_; });
    Principal coordinator;
    coordinator.key = coordinator_;
    coordinator.roles = static_cast<uint32_t>(Role::kCoordinator);
    principals.push_back(coordinator);
    access_.Replace(version, std::move(principals));
  }

  Node& node_;
  const uint32_t number_;
  AccessTable& access_;
  Transport& transport_;
  const std::string map_path_;
  const CurvePublicKey coordinator_;
  uint64_t map_version_ = 0;
};

Status CloseNode(Node& node, Loop& loop) {
  auto monitor = NewThreadMonitor();
  std::optional<Status> closed;
  loop.Post([&] {
    node.Close([&](const Status& status) {
      MonitorLock lock(*monitor);
      closed = status;
    });
  });
  MonitorLock lock(*monitor);
  monitor->Await([&] { return closed.has_value(); });
  return *closed;
}

Status RunCoordinator(const std::string& config_path) {
  StopSignals stop;
  RaiseOpenFileLimit();
  ASSIGN_OR_RETURN(const CoordinatorConfig config, ReadCoordinatorConfig(config_path));
  ASSIGN_OR_RETURN(const KeyFile key, ReadServerKey(config.key_file, true));
  StatusOr<std::unique_ptr<Kv>> opened =
      OpenRocksKv(config.dir + "/catalogue", false, CatalogueKvOptions(key));
  if (absl::IsDataLoss(opened.status())) {
    return absl::DataLossError(Message(opened.status()) + ": run `holdfast coordinator rebuild`");
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Kv> catalogue, std::move(opened));
  AccessTable access;
  ASSIGN_OR_RETURN(const std::unique_ptr<ZmqTransport> transport,
                   ZmqTransport::Open(ServerOptions(key, config.listen, access, true)));
  std::unique_ptr<Loop> loop = NewThreadLoop("hf-coordinator");
  CoordinatorOptions options;
  options.vault = key.vault;
  options.domain = key.domain;
  options.keys = DeriveCatalogueKeys(key.catalogue_key);
  options.out_after_nanos = config.out_after_seconds * kSecond;
  options.gc_dir = config.dir + "/gc";
  Status refused;
  CoordinatorEnv env{SystemClock(), SecureRng(), *loop,     *transport,
                     *catalogue,    &access,     &PosixFs()};
  // Whoever waits for an answer still gets it.
  env.on_refused = [&](const Status& why) {
    refused = why;
    loop->PostAfter(kSecond, [&stop] { stop.Stop(); });
  };
  ASSIGN_OR_RETURN(std::unique_ptr<Coordinator> coordinator, Coordinator::Open(options, env));
  transport->Attach(kCoordinatorAddress, *coordinator, *loop);
  SayListening("coordinator", *transport);
  stop.Wait();
  transport->Detach(kCoordinatorAddress);
  loop.reset();  // Joins: nothing runs in the coordinator from here on.
  coordinator.reset();
  return refused.ok() ? catalogue->Flush() : refused;
}

Status RunNode(const std::string& config_path) {
  StopSignals stop;
  RaiseOpenFileLimit();
  ASSIGN_OR_RETURN(const NodeConfig config, ReadNodeConfig(config_path));
  ASSIGN_OR_RETURN(const KeyFile key, ReadServerKey(config.key_file, false));
  const std::unique_ptr<Executor> io = NewThreadPool(4, "hf-io");
  std::unique_ptr<Loop> loop = NewThreadLoop("hf-node");
  NodeOptions options;
  options.dir = config.dir;
  options.vault = key.vault;
  options.node = config.id;
  options.node_number = config.number;
  AccessTable access;
  ASSIGN_OR_RETURN(std::unique_ptr<ZmqTransport> transport,
                   ZmqTransport::Open(ServerOptions(key, config.listen, access, false)));
  const std::string index = config.dir + "/index";
  const NodeEnv env{PosixFs(),
                    SystemClock(),
                    SecureRng(),
                    *loop,
                    *io,
                    [index](bool create) { return OpenRocksKv(index, create, IndexKvOptions()); },
                    [index] { return DestroyRocksKv(index); },
                    transport.get()};
  ASSIGN_OR_RETURN(std::unique_ptr<Node> node, Node::Open(options, env));
  for (const proto::Finding& finding : node->findings()) {
    std::fprintf(stderr, "holdfast: %s\n", Printable(finding.text()).c_str());
  }
  NodeService service(*node, config.number, access, *transport, config.dir + "/cluster-map",
                      key.cluster->coordinator);
  const std::string address = NodeAddress(config.number);
  transport->Attach(address, service, *loop);
  SayListening(address.c_str(), *transport);
  stop.Wait();
  transport->Detach(address);
  Status closed = CloseNode(*node, *loop);
  // What is still on its way to one of them finds it gone in this order.
  node.reset();
  transport.reset();
  loop.reset();
  return closed;
}

int ExitCodeAfter(const Status& status) { return status.ok() ? kExitOk : Fail(status); }

}  // namespace

int ServeCoordinator(const std::string& config_path) {
  return ExitCodeAfter(RunCoordinator(config_path));
}

int ServeNode(const std::string& config_path) { return ExitCodeAfter(RunNode(config_path)); }

}  // namespace holdfast::cli
