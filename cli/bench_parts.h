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

// Kernels, sealing and whole engines; about ten seconds.
Json MeasureCpu(double scale);

// Sealing and opening of chunks of a size, on one core; bytes per second, and chunks.
struct SealingRates {
  double seal = 0, open = 0, checksum = 0, identities = 0;
};
SealingRates MeasureSealing(size_t chunk_bytes, double seconds);

// Of the disk, its writes alone: "log_bytes_per_second" and "write_bytes_per_second"; six seconds.
StatusOr<Json> MeasureWrites(const std::string& dir, double scale);

// The segments of the vault in `dir`, read past the page cache, for so many seconds at most; bytes
// per second.
double MeasureSegmentReads(const std::string& dir, double seconds);

// The disk of an existing directory, through files of its own that are removed again; 15 seconds.
StatusOr<Json> MeasureDisk(const std::string& dir, double scale);

// A catalogue's RocksDB on that disk; five seconds.
StatusOr<Json> MeasureCatalogue(const std::string& dir, double scale);

// The way to each node and back; three seconds a node.
StatusOr<Json> MeasureNetwork(Transport& transport,
                              const std::vector<OpenedVault::NodeState>& nodes, double scale);

}  // namespace holdfast::cli
