#!/usr/bin/env bash
# Looks for messages that a coordinator or a node cannot bear (libFuzzer, with asan and ubsan):
#   scripts/fuzz.sh [SECONDS]      default 300
# Begins with tests/fuzz/corpus.b64 and leaves there the smallest set of inputs that reaches all that
# was reached. Fails when one was found; it lies under build/fuzz/found.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="${1:-300}"
[[ $# -le 1 && "$seconds" =~ ^[0-9]+$ ]] || { echo "usage: scripts/fuzz.sh [SECONDS]" >&2; exit 2; }
corpus=tests/fuzz/corpus.b64
binary=build/fuzz/tests/requests_fuzz
work=build/fuzz/work

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target requests_fuzz
rm -rf "$work"
mkdir -p "$work/all" "$work/smallest" build/fuzz/found
"$binary" --first "$work/all"
if [[ -e $corpus ]]; then
  number=0
  while read -r line; do
    number=$((number + 1))
    base64 -d <<<"$line" >"$work/all/kept-$number"
  done <"$corpus"
fi
# What the process keeps alive at its end, a vault, is no leak.
export ASAN_OPTIONS=detect_leaks=0
"$binary" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -max_len=4096 -print_final_stats=1 \
  -artifact_prefix=build/fuzz/found/ "$work/all"
"$binary" -merge=1 -timeout=60 -rss_limit_mb=4096 "$work/smallest" "$work/all"
for input in "$work"/smallest/*; do base64 -w0 "$input"; echo; done | LC_ALL=C sort >"$corpus"
echo "$(wc -l <"$corpus") inputs in $corpus"
