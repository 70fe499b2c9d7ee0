// What more than one verb makes of its arguments.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>

#include "common/base/text.h"
#include "common/io/fs.h"

namespace holdfast::cli {

// kInvalidArgument unless it is a power of two that the cut rule takes.
inline StatusOr<uint32_t> ParseChunkSize(const std::string& text) {
  uint64_t size = 0;
  if (!ParseBytes(text, &size) || size < (64u << 10) || size > (4u << 20) ||
      (size & (size - 1)) != 0) {
    return absl::InvalidArgumentError("--chunk-size " + Printable(text) +
                                      ": give a power of two from 64KiB to 4MiB");
  }
  return static_cast<uint32_t>(size);
}

// Without "." and "..", and no slash at its end.
inline StatusOr<std::string> AbsolutePath(const std::string& path) {
  std::error_code lost;  // The working directory may be gone.
  std::string absolute = std::filesystem::absolute(path, lost).lexically_normal().string();
  if (lost) return absl::InvalidArgumentError(Printable(path) + ": " + lost.message());
  if (absolute.size() > 1 && absolute.ends_with('/')) absolute.pop_back();
  return absolute;
}

inline Status CheckEmptyOrAbsent(Fs& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const bool exists, fs.Exists(path));
  if (!exists) return absl::OkStatus();
  ASSIGN_OR_RETURN(auto names, fs.List(path));
  std::erase(names, "lost+found");
  if (names.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(Printable(path) + " is not empty: give an empty directory");
}

}  // namespace holdfast::cli
