#!/usr/bin/env bash
# Configures and builds one CMake preset (default: release) into build/<preset>.
# A core each, but never more compilers than memory has room for.
set -euo pipefail
cd "$(dirname "$0")/.."
preset="${1:-release}"
shift || true

kib_per_job=$((1536 * 1024))
jobs="$(nproc)"
available_kib="$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)"
if ((available_kib / kib_per_job < jobs)); then jobs=$((available_kib / kib_per_job)); fi
if ((jobs < 1)); then jobs=1; fi

cmake --preset "$preset"
cmake --build --preset "$preset" -j "$jobs" "$@"
