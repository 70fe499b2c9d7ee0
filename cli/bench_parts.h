// What `holdfast bench` measures. Each part gives the object of the machine's profile that
// docs/formats/machine-profile.md describes; rates are bytes or counts per second, times seconds.
// `scale`: of the time that each takes; 1 for figures to be kept.
#pragma once

#include <string>
#include <vector>

#include "cli/opened_vault.h"
#include "cli/output.h"

namespace holdfast::cli {

// Who this machine is.
Json DescribeMachine();

// Kernels, sealing and whole engines; about 20 seconds.
Json MeasureCpu(double scale);

// The disk of an existing directory, through files of its own that are removed again; 15 seconds.
StatusOr<Json> MeasureDisk(const std::string& dir, double scale);

// A catalogue's RocksDB on that disk; five seconds.
StatusOr<Json> MeasureCatalogue(const std::string& dir, double scale);

// The way to each node and back; three seconds a node.
StatusOr<Json> MeasureNetwork(Transport& transport,
                              const std::vector<OpenedVault::NodeState>& nodes, double scale);

}  // namespace holdfast::cli
