// What must hold whatever happens, by the names of docs/gc.md, where it can be looked at.
//
// HOLDFAST_INVARIANT(name, condition) is no code in what anybody runs: what it costs is reads of
// the index. In builds that look for mistakes (sanitizers, HOLDFAST_MUTANTS) the process ends by
// that name when it does not hold. With a bug planted it does not: that one is to be found by what
// comes of it.
#pragma once

#ifdef HOLDFAST_INVARIANTS

#include <cstdio>
#include <cstdlib>

namespace holdfast {
inline void CheckInvariant(bool holds, const char* name, const char* file, int line) {
  static const bool planted = std::getenv("HOLDFAST_MUTANT") != nullptr;
  if (holds || planted) return;
  std::fprintf(stderr, "invariant %s of docs/gc.md does not hold: %s:%d\n", name, file, line);
  std::abort();
}
}  // namespace holdfast
#define HOLDFAST_INVARIANT(name, condition) \
  ::holdfast::CheckInvariant((condition), #name, __FILE__, __LINE__)

#else

#define HOLDFAST_INVARIANT(name, condition) ((void)0)

#endif
