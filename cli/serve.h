// The daemons of a cluster: a coordinator or a storage node behind sockets, until SIGTERM.
//
// They are crash-only: nothing that was acknowledged is in memory alone, and killing one is an
// ordinary way to stop it. What they need to know stands in a TOML file, and their keys in a key
// file that it names.
#pragma once

#include <string>

#include "common/base/ids.h"
#include "common/base/status.h"

namespace holdfast::cli {

struct CoordinatorConfig {
  std::string dir;       // Holds catalogue/.
  std::string listen;    // tcp://HOST:PORT; bulk data on the next port.
  std::string key_file;  // Cluster-only, with the catalogue key.
  // A node that is away for so long gets its records copied elsewhere.
  uint32_t out_after_seconds = 600;
};
struct NodeConfig {
  std::string dir;
  std::string listen;
  std::string key_file;  // Cluster-only.
  NodeId id;
  uint32_t number = 0;
};

// kNotFound, kInvalidArgument: no such file, or what is wrong in it. Relative paths are taken from
// where the file lies.
StatusOr<CoordinatorConfig> ReadCoordinatorConfig(const std::string& path);
StatusOr<NodeConfig> ReadNodeConfig(const std::string& path);
Status WriteConfig(const std::string& path, const CoordinatorConfig& config);
Status WriteConfig(const std::string& path, const NodeConfig& config);

// Each serves until SIGTERM or SIGINT; prints "listening on …" once it does. The exit code.
int ServeCoordinator(const std::string& config_path);
int ServeNode(const std::string& config_path);

}  // namespace holdfast::cli
