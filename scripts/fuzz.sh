#!/usr/bin/env bash
# Looks for bytes that Holdfast cannot bear (libFuzzer, with asan and ubsan):
#   scripts/fuzz.sh [--seconds N] [--keep] [NAME...]
# NAME: requests (messages to a coordinator and its nodes), replies (answers that are lies), or one
# of the parsers of tests/fuzz/parsers.h; none: all of them. Each runs for N seconds (60), as many at a
# time as there are cores. A line each says how often it ran and what it reached; fails when an input
# was found, which then lies under build/fuzz/found.
#   --keep     leaves in tests/fuzz/corpus.b64 the smallest set of requests that reaches all that was
set -euo pipefail
cd "$(dirname "$0")/.."
usage() { sed -n '3s/^# *//p' "$0" >&2; exit 2; }
seconds=60
keep=0
names=()
while (($# > 0)); do
  case "$1" in
    --seconds) [[ "${2:-}" =~ ^[0-9]+$ ]] || usage; seconds="$2"; shift ;;
    --keep) keep=1 ;;
    -*) usage ;;
    *) names+=("$1") ;;
  esac
  shift
done
corpus=tests/fuzz/corpus.b64
bin=build/fuzz/tests
work=build/fuzz/work
found=build/fuzz/found

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target requests_fuzz replies_fuzz formats_fuzz
mapfile -t parsers < <("$bin/formats_fuzz" --list)
((${#names[@]} > 0)) || names=(requests replies "${parsers[@]}")
for name in "${names[@]}"; do
  [[ " requests replies ${parsers[*]} " == *" $name "* ]] || { echo "fuzz: no such thing: $name" >&2; exit 2; }
done
rm -rf "$work"
mkdir -p "$found"

# What was found worth keeping of requests, one in base64 a line, as files.
unpack() {
  local number=0 line
  while read -r line; do
    number=$((number + 1))
    base64 -d <<<"$line" >"$1/kept-$number"
  done <"$corpus"
}

# fuzz_one NAME: leaves what libFuzzer said in build/fuzz/work/NAME.log.
fuzz_one() {
  local name="$1" all="$work/$1" binary="$bin/formats_fuzz" options=(-timeout=5 -max_len=65536)
  mkdir -p "$all"
  case "$name" in
    requests) binary="$bin/requests_fuzz" options=(-timeout=60 -max_len=4096); unpack "$all" ;;
    replies) binary="$bin/replies_fuzz" options=(-timeout=60 -max_len=16384) ;;
    *) export HOLDFAST_PARSER="$name" ;;
  esac
  # What the process keeps alive at its end, a vault, is no leak.
  [[ "$binary" == */formats_fuzz ]] || export ASAN_OPTIONS=detect_leaks=0
  "$binary" --first "$all"
  "$binary" "${options[@]}" -max_total_time="$seconds" -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$found/$name-" "$all" >"$work/$name.log" 2>&1
}

say() {
  local name="$1" log="$work/$1.log" runs edges features
  runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
  read -r edges features < <(sed -nE 's/.* cov: ([0-9]+) ft: ([0-9]+) .*/\1 \2/p' "$log" | tail -1) || true
  printf '%-16s %10s runs, %6s edges, %7s features%s\n' "$name" "${runs:-?}" "${edges:-?}" "${features:-?}" "$2"
}

failed=0
declare -A running=()
# Waits for one of those that run.
reap() {
  local pid code=0
  wait -n -p pid "${!running[@]}" || code=$?
  if ((code == 0)); then
    say "${running[$pid]}" ""
  else
    failed=1
    say "${running[$pid]}" "  FAILED"
    tail -50 "$work/${running[$pid]}.log" >&2
  fi
  unset "running[$pid]"
}
mkdir -p "$work"
for name in "${names[@]}"; do
  ((${#running[@]} < $(nproc))) || reap
  fuzz_one "$name" &
  running[$!]="$name"
done
while ((${#running[@]} > 0)); do reap; done

if ((keep == 1)) && [[ -d "$work/requests" ]]; then
  mkdir -p "$work/smallest"
  ASAN_OPTIONS=detect_leaks=0 "$bin/requests_fuzz" -merge=1 -timeout=60 -rss_limit_mb=2048 "$work/smallest" \
    "$work/requests"
  for input in "$work"/smallest/*; do base64 -w0 "$input"; echo; done | LC_ALL=C sort >"$corpus"
  echo "$(wc -l <"$corpus") inputs in $corpus"
fi
exit "$failed"
