#!/usr/bin/env bash
# All there is to check before a commit: set-up, release build, unit tests, layers, end-to-end
# tests of the binary. Under 15 minutes on 2 cores.
#   scripts/test.sh            what every change must pass
#   scripts/test.sh --full     also the long ones: 20 GB, a million files, 200 kills, power cuts, 1,000 seeds
#                              of the simulation, stories, planted bugs, the model of garbage collection,
#                              the unit tests under asan and tsan, real clusters under tsan, fuzzers a
#                              minute each, lint
# The last line counts: "N passed, N failed". Exits 0 when nothing failed.
set -uo pipefail
cd "$(dirname "$0")/.."

full=0
case "${1:-}" in
  "") ;;
  --full) full=1 ;;
  *) echo "usage: scripts/test.sh [--full]" >&2; exit 2 ;;
esac

times=()
passed=0
failed=0
log="$(mktemp "${TMPDIR:-/tmp}/holdfast-test.XXXXXX")"
trap 'rm -f "$log"' EXIT

# part NAME COMMAND…: runs it, says how long it took. What ctest counts is counted; a part
# without ctest counts as one.
part() {
  local name="$1" start=$SECONDS code count_failed count_all
  shift
  printf '\n== %s\n' "$name"
  "$@" 2>&1 | tee "$log"
  code=${PIPESTATUS[0]}
  if read -r count_failed count_all < <(
      sed -nE 's/^[0-9]+% tests passed, ([0-9]+) tests? failed out of ([0-9]+)$/\1 \2/p' "$log" |
        tail -1) && ((count_all > 0)); then
    failed=$((failed + count_failed))
    passed=$((passed + count_all - count_failed))
    if ((code != 0 && count_failed == 0)); then failed=$((failed + 1)); fi
  elif ((code == 0)); then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
  times+=("$(printf '%5d s  %s%s' $((SECONDS - start)) "$name" "$( ((code == 0)) || echo '  FAILED')")")
  return "$code"
}

finish() {
  printf '\n== time\n'
  printf '%s\n' "${times[@]}"
  printf '%5d s  in all\n' "$SECONDS"
  echo "$passed passed, $failed failed"
  ((failed == 0))
  exit
}

jobs="$(nproc)"
unit() { ctest --preset "$1" -LE '^e2e$' --no-tests=error -j "$jobs"; }
# One more than cores: daemons that start, and disks that sync, leave a core to others.
e2e() { ctest --preset release -L '^e2e$' --no-tests=error -j "$((jobs + 1))" --timeout "$1"; }
simulation() { HOLDFAST_SIM_SEEDS=1000 build/release/tests/sim_tests; }
# Stories of every scenario, side by side.
stories() {
  local file pids=() pid code=0
  for file in tests/sim/scenarios/*.sim; do
    build/release/tests/sim --scenario "$file" --seeds 1-"$([[ $file == */mixed.sim ]] && echo 2000 || echo 500)" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || code=1; done
  return "$code"
}
model() { scripts/model.sh && scripts/model.sh --mutations; }
e2e_full() { HOLDFAST_E2E_FULL=1 e2e 7200; }
asan_unit() { ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1}" UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}" unit asan; }
# GCC 12's tsan does not know the address layout of newer kernels with full randomisation.
tsan() {
  local options="${TSAN_OPTIONS:-halt_on_error=1 second_deadlock_stack=1}"
  [[ ! -f tests/tsan.supp ]] || options+=" suppressions=$PWD/tests/tsan.supp"
  TSAN_OPTIONS="$options" setarch "$(uname -m)" -R ctest --preset tsan --no-tests=error "$@"
}
tsan_unit() { tsan -L '^unit$'; }
# Daemons and clients of a cluster, each a process.
tsan_cluster() { tsan -R '^e2e\.(cluster|gc)$' --timeout 3600; }

# As on a machine with a compiler and nothing else.
kernels_alone() {
  cmake -S kernels -B build/kernels-alone -DHOLDFAST_CUDA=OFF -DCMAKE_DISABLE_FIND_PACKAGE_OpenSSL=ON \
    -DCMAKE_DISABLE_FIND_PACKAGE_GTest=ON && cmake --build build/kernels-alone -j "$jobs" &&
    ctest --test-dir build/kernels-alone --output-on-failure
}

part "set-up" scripts/setup.sh || finish
# All architectures take a minute of nvcc; one shows that the device code compiles.
if ((full == 0)); then export HOLDFAST_CUDA_ARCHITECTURES="${HOLDFAST_CUDA_ARCHITECTURES:-90}"; fi
part "build release" scripts/build.sh release || finish
part "unit tests" unit release
if ((full == 0)); then
  part "end-to-end tests" e2e 1500
  finish
fi

part "build of benchmarks" cmake --build build/release --target bench
part "kernels alone: no CUDA, no OpenSSL, no GoogleTest" kernels_alone
part "end-to-end tests, full" e2e_full
part "simulation, 1,000 seeds" simulation
part "stories: 2,000 seeds of the mixed scenario, 500 of each other" stories
part "planted bugs" scripts/mutants.sh
part "model of garbage collection" model
part "build asan" scripts/build.sh asan && part "unit tests under asan" asan_unit
if part "build tsan" scripts/build.sh tsan; then
  part "unit tests under tsan" tsan_unit
  part "clusters under tsan" tsan_cluster
fi
part "fuzzers, a minute each" scripts/fuzz.sh
part "lint" scripts/lint.sh
finish
