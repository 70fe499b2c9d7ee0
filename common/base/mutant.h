// Planted bugs, for the tests that have to find them (scripts/mutants.sh).
//
// HOLDFAST_MUTANT(name) is false, and no code, in everything that anybody runs. In a build with
// HOLDFAST_MUTANTS it is true for the one that the environment variable HOLDFAST_MUTANT names. Each
// stands where a rule is kept, and leaves it out.
#pragma once

#ifdef HOLDFAST_MUTANTS

#include <cstdlib>
#include <string_view>

namespace holdfast {
inline bool IsMutant(std::string_view name) {
  static const char* const chosen = std::getenv("HOLDFAST_MUTANT");
  return chosen != nullptr && name == chosen;
}
}  // namespace holdfast
#define HOLDFAST_MUTANT(name) ::holdfast::IsMutant(#name)

#else

#define HOLDFAST_MUTANT(name) false

#endif
