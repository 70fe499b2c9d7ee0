#!/usr/bin/env bash
# Checks the model of garbage collection (models/gc.pml) with spin, every state of it:
#   scripts/model.sh               the bounds of models/README.md: five minutes, 2 GiB, one core
#   scripts/model.sh --quick       small bounds: seconds; one of the unit tests
#   scripts/model.sh --mutations   without one rule each: fails unless pan finds a violation, or none where
#                                  the rule is there for something else; and that what should happen does
set -euo pipefail
cd "$(dirname "$0")/.."
model="$PWD/models/gc.pml"
work="$(mktemp -d "${TMPDIR:-/tmp}/holdfast-model.XXXXXX")"
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() { echo "model: $*" >&2; exit 1; }
command -v spin >/dev/null || fail "no spin here; run scripts/setup.sh"

optimise=-O2  # Compiling takes longer than a small search.
# search "RUNS RESTORES REPLACED SESSIONS UNDO" [RULE-LEFT-OUT]: leaves what pan said in pan.out.
search() {
  read -ra bounds <<<"$1"
  flags=(-DRUNS="${bounds[0]}" -DRESTORES="${bounds[1]}" -DREPLACED="${bounds[2]}"
    -DSESSIONS="${bounds[3]}" -DUNDO="${bounds[4]}" ${2:+"-D$2"})
  rm -f gc.pml.trail
  cp "$model" gc.pml
  spin "${flags[@]}" -a gc.pml >spin.out 2>&1 || { cat spin.out; fail "spin refuses gc.pml"; }
  gcc "$optimise" -w -DSAFETY -DNOREDUCE -DMEMLIM=4096 -o pan pan.c || fail "pan.c does not compile"
  # A state where nothing is left to do is no error (-E).
  ./pan -E -m100000 >pan.out 2>&1 || { cat pan.out; fail "pan stopped"; }
  # What was cut short has shown nothing.
  if grep -qE 'max search depth too small|out of memory|aborting|truncated' pan.out ||
    ! grep -q 'errors: ' pan.out; then
    cat pan.out
    fail "the search was cut short ($*)"
  fi
}
number() { sed -nE "$1" pan.out | head -1; }

# sound BOUNDS: no violation within them.
sound() {
  search "$1"
  if ! grep -q 'errors: 0$' pan.out; then
    cat pan.out
    spin "${flags[@]}" -p -t gc.pml | tail -100
    fail "the protocol is violated (bounds $1)"
  fi
  printf 'runs %s, restores %s, replaced %s, sessions %s, undo %s: no violation; %s states, %s s, %s MiB\n' "${bounds[@]}" \
    "$(number 's/^ *([0-9.e+]+) states, stored.*/\1/p')" \
    "$(number 's/.*elapsed time ([0-9.]+) seconds.*/\1/p')" \
    "$(number 's/^ *([0-9.]+)\ttotal actual memory usage.*/\1/p')"
}
# found RULE BOUNDS: leaving RULE out, or asking whether it is SEEN, is an assertion that fails.
found() {
  search "$2" "$1"
  grep -q 'assertion violated' pan.out || fail "$1: nothing was found (bounds $2)"
  printf '%-30s found; %s states, %s s\n' "$1" "$(number 's/^ *([0-9.e+]+) states, stored.*/\1/p')" \
    "$(number 's/.*elapsed time ([0-9.]+) seconds.*/\1/p')"
}

# harmless RULE BOUNDS: without it nothing is violated either.
harmless() {
  search "$2" "$1"
  grep -q 'errors: 0$' pan.out || fail "$1: was taken for harmless (bounds $2)"
  printf '%-30s harmless; %s states, %s s\n' "$1" "$(number 's/^ *([0-9.e+]+) states, stored.*/\1/p')" \
    "$(number 's/.*elapsed time ([0-9.]+) seconds.*/\1/p')"
}

case "${1:-}" in
  --quick)
    optimise=-O0
    sound "1 0 0 2 1"
    sound "1 1 0 1 0"
    sound "1 0 1 1 0"
    ;;
  "")
    sound "2 0 0 2 1"
    sound "2 1 1 1 0"
    sound "1 1 1 2 0"
    sound "2 2 0 1 0"
    sound "3 1 0 1 0"
    ;;
  --mutations)
    optimise=-O0
    found ACK_BEFORE_SYNC "1 0 0 2 0"
    found TOUCH_NOT_DURABLE "1 0 0 2 0"
    found PRESENT_FOR_TRASHED "1 0 0 2 0"
    found REPLY_WITHOUT_RECHECK "1 0 0 2 0"
    found COMMIT_WITHOUT_SESSION_CHECK "1 0 0 2 0"
    found HORIZON_AFTER_MARK "1 0 0 2 0"
    found HORIZON_WITHOUT_OPEN "1 0 0 2 0"
    found SNAPSHOT_PIECEMEAL "1 0 0 2 1"
    found FREE_BEFORE_GRACE "1 0 0 2 0"
    found FREE_WITHOUT_TOUCH_LOCK "1 0 0 2 0"
    found MOVE_WITHOUT_TOUCH "1 0 0 2 0"
    found COPY_WITHOUT_TOUCH "1 0 1 2 0"
    found JOINED_WITHOUT_HORIZON "1 0 1 2 0"
    found FREE_WITHOUT_RESCUE "1 1 0 1 0"
    found RESTORE_WITHOUT_GENERATION "1 1 0 1 0"
    found SWEEP_BEFORE_SYNC "2 1 0 1 0"
    found OLD_GENERATION_ACCEPTED "2 1 0 1 0"
    found PIN_WITHOUT_GENERATION "2 1 0 1 0"
    found GRACE_OVER_RESTORE "2 1 0 1 0"
    found RUN_WITHOUT_ALL_ASKED "2 2 0 1 0"
    found SEEN_FREED "1 0 0 2 0"
    found SEEN_TAKEN_OUT "1 0 0 2 0"
    found SEEN_RESCUED "2 1 0 1 0"
    harmless SWEEP_WITHOUT_TOUCH_LOCK "1 0 0 2 0"
    harmless RESTORE_WITHOUT_EPOCH "2 1 0 1 0"
    harmless BEGIN_WITHOUT_EPOCH "2 1 0 1 0"
    ;;
  *) echo "usage: scripts/model.sh [--quick | --mutations]" >&2; exit 2 ;;
esac
