// What the tests of whole vaults do with one: ingest a random tree, log what was acknowledged, and
// read it all back.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "client/ingest.h"
#include "tests/sim/sim_vault.h"

namespace holdfast::sim {

using Tree = std::map<std::string, std::string>;  // Name → content.

std::string RandomContent(SimRng& rng, size_t size);

// A few dozen files: empty, small, of several chunks, duplicates and edited copies.
Tree MakeTree(SimRng& rng);

class AckLog : public IngestObserver {
 public:
  void OnObject(const std::string& name, const VersionId& version, ObjectState state) override;
  void OnError(const std::string& name, const Status& status) override;
  std::map<std::string, VersionId> acked;
  std::map<std::string, std::string> errors;
  std::function<void()> on_object;
};

StatusOr<IngestSummary> RunIngest(SimVault& sim, const Tree& tree, AckLog& log);

// Everything acknowledged is there and exact; everything listed is exact.
void CheckVault(SimVault& sim, const Tree& tree, const AckLog& log);

uint64_t FromEnvironment(const char* name, uint64_t otherwise);

}  // namespace holdfast::sim
