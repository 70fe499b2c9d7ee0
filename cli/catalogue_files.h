// Where a rebuilt catalogue goes, and what becomes of the old one.
#pragma once

#include <string>

#include "common/io/fs.h"

namespace holdfast::cli {

// `path`, or with a number behind it when that is taken.
StatusOr<std::string> FreeName(Fs& fs, const std::string& path);

// Puts the catalogue at `fresh` in the place of the one at `path`, durably. Where the old one is
// kept now; empty when there was none.
StatusOr<std::string> ReplaceCatalogue(Fs& fs, const std::string& path, const std::string& fresh);

}  // namespace holdfast::cli
