// Cuts and all digests of the files of a directory, with nothing stored: what hashing alone costs,
// for comparison with other hashing tools on the same files.
#pragma once

#include <string>

#include "kernels/bench/report.h"

namespace holdfast::kernels {

// Prints files, bytes and wall seconds. False when the directory cannot be read.
bool RunTreeBench(Report& report, const std::string& directory, int threads);

}  // namespace holdfast::kernels
