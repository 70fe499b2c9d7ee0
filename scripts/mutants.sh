#!/usr/bin/env bash
# Plants one bug after another (common/base/mutant.h) and plays stories until one of them shows it.
#   scripts/mutants.sh            all of them, up to 2,000 seeds each
#   scripts/mutants.sh NAME…      these
# Prints the seed that found each, and what it saw. Exits 1 when one is not found.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds="${HOLDFAST_MUTANT_SEEDS:-2000}"
# Every one, with the scenario that has what the bug takes.
declare -A scenario=(
  [ack_before_sync]=mixed [commit_without_session]=mixed [compaction_drops_touch]=mixed
  [free_before_index_flush]=mixed [idle_batch_torn]=mixed [let_go_without_touch_lock]=mixed
  [present_for_trashed]=mixed [record_before_catalogue_sync]=mixed [removed_not_marked]=mixed
  [sealing_key_not_in_record]=mixed [sweep_without_touch_lock]=mixed [touch_not_durable]=mixed
  [acks_of_outgoing_counted]=moves [copy_without_touch]=moves [horizon_after_mark]=moves
  [pins_to_acting_only]=moves [stale_map_accepted]=moves
  [fence_after_replay]=generations [old_generation_accepted]=generations
  [old_generation_commits]=generations [restore_without_epoch]=generations
  [restore_without_generation]=generations [rolled_back_accepted]=generations
  [truncate_at_corruption]=rot
)
# Of these nothing can be found: models/README.md says why.
harmless=(sweep_without_touch_lock)

mapfile -t all < <(printf '%s\n' "${!scenario[@]}" | sort)
planted="$(grep -rhoE --include='*.cc' 'HOLDFAST_MUTANT\((\w+)\)' common node coordinator client |
  sed -E 's/.*\((\w+)\)/\1/' | sort -u)"
if [[ "$planted" != "$(printf '%s\n' "${all[@]}")" ]]; then
  echo "mutants: what is planted is not what is listed here:" >&2
  diff <(printf '%s\n' "${all[@]}") <(echo "$planted") >&2 || true
  exit 1
fi
names=("$@")
((${#names[@]} > 0)) || names=("${all[@]}")
for name in "${names[@]}"; do
  [[ -n "${scenario[$name]:-}" ]] || { echo "mutants: no such bug: $name" >&2; exit 2; }
done

cmake --preset mutants >/dev/null
cmake --build build/mutants --target sim_tests >/dev/null

# plant NAME: one line about it; fails when it is not found.
plant() {
  local name="$1" file="${scenario[$1]}" last="$seeds" start=$SECONDS out found code=0
  [[ " ${harmless[*]} " != *" $name "* ]] || last=$((seeds < 200 ? seeds : 200))
  if out="$(HOLDFAST_MUTANT="$name" build/mutants/tests/sim \
      --scenario "tests/sim/scenarios/$file.sim" --seeds "1-$last" 2>&1)"; then
    found="NOT FOUND in $last seeds"
    code=1
    if [[ " ${harmless[*]} " == *" $name "* ]]; then
      found="harmless: nothing found in $last seeds"
      code=0
    fi
  else
    found="$(grep -m1 -E '^seed |Assertion|terminate' <<<"$out" | cut -c1-150)"
    if [[ " ${harmless[*]} " == *" $name "* ]]; then
      found="WAS TAKEN FOR HARMLESS: $found"
      code=1
    fi
  fi
  printf '%-28s %-11s %4d s  %s\n' "$name" "$file" $((SECONDS - start)) "$found"
  return "$code"
}

# With none planted nothing is found. (Manifest parts are common in this build.)
if (($# == 0)); then
  build/mutants/tests/sim_tests --gtest_brief=1
  for file in tests/sim/scenarios/*.sim; do build/mutants/tests/sim --scenario "$file" --seeds 1-100; done
fi

# As many at once as there are cores.
missed=0
running=0
for name in "${names[@]}"; do
  if ((running++ >= $(nproc))); then wait -n || missed=1; fi
  plant "$name" &
done
while ((running-- > 0)); do wait -n || { (($? == 127)) || missed=1; }; done
exit "$missed"
