#!/usr/bin/env bash
# Plays stories three times each: nothing of a process, as where its memory lies, gets into one.
#   replay_test.sh SIM
set -euo pipefail

for story in "mixed 3" "moves 4" "moves 6" "generations 2"; do
  read -r scenario seed <<<"$story"
  play() { "$1" --scenario "$scenario" --seed "$seed" | sed 's/seeds in [0-9]* s/seeds/'; }
  first="$(play "$1")"
  grep -q '[0-9] requests, trace ' <<<"$first"
  for _ in 2 3; do
    diff <(echo "$first") <(play "$1") || { echo "$scenario $seed is another story now" >&2; exit 1; }
  done
done
