#pragma once

#include <memory>

#include "tests/sim/sim_vault.h"

namespace holdfast::sim {

// Some requests to nodes come late, or late once more: at-least-once delivery allows it. Some are
// not heard, some answers get lost, and one node may be slow.
// While `calm` none of that happens.
std::unique_ptr<Transport> NewUnsureTransport(std::unique_ptr<Transport> inner, SimLoop& loop,
                                              SimRng& rng, const SimOptions& options,
                                              const bool& calm);

}  // namespace holdfast::sim
