// As many open files as the system lets us have without asking.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <system_error>

namespace holdfast {

inline void RaiseOpenFileLimit() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

// How many this process may have open now.
inline size_t OpenFileLimit() {
  rlimit limit;
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
}

// How many more.
inline size_t FreeOpenFiles() {
  std::error_code error;
  size_t open = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; it != end;
       it.increment(error)) {
    ++open;
  }
  return OpenFileLimit() - std::min(open, OpenFileLimit());
}

}  // namespace holdfast
