#!/usr/bin/env bash
# On a machine with a CUDA GPU: builds kernels/ alone, holds the device to the CPU, looks for memory
# errors and races where compute-sanitizer is, and measures everything. One call, under ten minutes;
# needs cmake, a C++20 compiler and nvcc, nothing else.
#   scripts/gpu-check.sh [DIR]      (default: build/gpu; the results are DIR/gpu-check.txt and .json)
# Without a GPU it builds, checks the host's twin of a device, and says that nothing was measured.
set -uo pipefail
cd "$(dirname "$0")/.."
out="${1:-build/gpu}"
mkdir -p "$out"
build="$out/build"
log="$out/gpu-check.txt"
: >"$log"
failed=0

say() { printf '%s\n' "$*" | tee -a "$log"; }
# step SECONDS NAME COMMAND…
step() {
  local limit="$1" name="$2" start=$SECONDS code
  shift 2
  say "== $name"
  timeout -k 10 "$limit" "$@" 2>&1 | tee -a "$log"
  code=${PIPESTATUS[0]}
  case $code in
    0) say "-- ok, $((SECONDS - start)) s" ;;
    77) say "-- SKIPPED, $((SECONDS - start)) s" ;;
    *) say "-- FAILED ($code), $((SECONDS - start)) s"; failed=1 ;;
  esac
  return "$code"
}

say "$(date -u +%F) $(uname -srm)"
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,pcie.link.gen.max \
  --format=csv 2>&1 | tee -a "$log"
architecture="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)"
[[ "$architecture" =~ ^[0-9]+$ ]] || architecture=90
export HOLDFAST_CUDA_ARCHITECTURES="$architecture"
step 240 "configure" cmake -S kernels -B "$build" -DCMAKE_BUILD_TYPE=Release || exit 1
step 300 "build" cmake --build "$build" -j "$(nproc)" || exit 1

if [[ -x "$build/kernels_tests" ]]; then step 200 "unit tests" "$build/kernels_tests" --gtest_brief=1; fi
step 120 "the host's twin of a device" "$build/kernels_check" --device twin --batches 20
step 120 "the device against the CPU" "$build/kernels_check" --device cuda --batches 400
if (($? == 77)); then
  say "no GPU here: nothing was measured"
  exit "$failed"
fi
step 200 "measure" "$build/kernels_bench" --cuda --seconds 0.1 --json "$out/gpu-check.json"
if sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)"; then
  for tool in memcheck initcheck synccheck racecheck; do
    step 100 "compute-sanitizer $tool" "$sanitizer" --tool "$tool" --error-exitcode 9 \
      "$build/kernels_check" --device cuda --batches 2
  done
else
  say "compute-sanitizer is not here: not run"
fi
say "$((SECONDS)) s in all; $( ((failed == 0)) && echo "all passed" || echo "SOMETHING FAILED" )"
exit "$failed"
