// Where a rebuilt catalogue goes, and what becomes of the old one.
#pragma once

#include <string>

#include "common/io/fs.h"
#include "common/kv/rocks_kv.h"
#include "coordinator/coordinator.h"

namespace holdfast::cli {

// `path`, or with a number behind it when that is taken.
StatusOr<std::string> FreeName(Fs& fs, const std::string& path);

// Puts the catalogue at `fresh` in the place of the one at `path`, durably. Where the old one is
// kept now; empty when there was none.
StatusOr<std::string> ReplaceCatalogue(Fs& fs, const std::string& path, const std::string& fresh);

// Adds to the report of a rebuild the commits that the old catalogue knew of and no node does:
// where the last ones were lost on all nodes, nothing else may tell. One that cannot be read tells
// nothing.
void AddCommitsOfOld(const std::string& path, const RocksKvOptions& options, RebuildReport& report);

}  // namespace holdfast::cli
