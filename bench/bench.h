// What the benches that hold a vault share.
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "common/base/status.h"

namespace holdfast {

// Ends the bench with one line where something failed.
inline void Must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s: %s\n", program_invocation_short_name,
               std::string(status.message()).c_str());
  std::exit(1);
}
template <class T>
T Must(StatusOr<T> result) {
  Must(result.status());
  return *std::move(result);
}

// Of many objects, in byte order, as a walk gives names.
inline std::string NameOf(uint64_t n) {
  char name[64];
  std::snprintf(name, sizeof name, "exhibit-%04d/pictures/%03d/IMG_%08d.jpg", int(n / 100'000),
                int(n / 500 % 200), int(n));
  return name;
}

}  // namespace holdfast
