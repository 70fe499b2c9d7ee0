#!/usr/bin/env bash
# Plants one bug after another (common/base/mutant.h) and plays stories until one of them shows it.
#   scripts/mutants.sh            all of them, up to 2,000 seeds each
#   scripts/mutants.sh NAME…      these
# Prints the seed that found each, and what it saw. Exits 1 when one is not found.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds="${HOLDFAST_MUTANT_SEEDS:-2000}"
scenario=tests/sim/scenarios/mixed.sim
# Of these nothing can be found: models/README.md says why.
harmless=(restore_without_epoch)

names=("$@")
if ((${#names[@]} == 0)); then
  mapfile -t names < <(grep -rhoE --include='*.cc' 'HOLDFAST_MUTANT\((\w+)\)' common node coordinator |
    sed -E 's/.*\((\w+)\)/\1/' | sort -u)
fi

cmake --preset mutants >/dev/null
cmake --build build/mutants --target sim_tests >/dev/null
missed=0
for name in "${names[@]}"; do
  start=$SECONDS
  if out="$(HOLDFAST_MUTANT="$name" build/mutants/tests/sim --scenario "$scenario" --seeds "1-$seeds" 2>&1)"; then
    found="NOT FOUND in $seeds seeds"
    [[ " ${harmless[*]} " == *" $name "* ]] && found="harmless: nothing found in $seeds seeds" || missed=1
  else
    found="$(grep -m1 -E '^seed |Assertion' <<<"$out" | cut -c1-150)"
  fi
  printf '%-30s %4d s  %s\n' "$name" $((SECONDS - start)) "$found"
done
exit "$missed"
