#!/usr/bin/env bash
# clang-format and clang-tidy over the tree; exits 0 when there is nothing to say.
#   scripts/lint.sh [FILE...]      (default: every *.h and *.cc that git tracks)
# clang-tidy takes each file alone, without precompiled headers: build/lint is configured for that, and
# what is generated is built there.
set -euo pipefail
cd "$(dirname "$0")/.."

if (($# > 0)); then
  files=("$@")
else
  mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.h' '*.cc')
fi
sources=()
for file in "${files[@]}"; do
  [[ "$file" != *.cc ]] || sources+=("$file")
done

failed=0
echo "lint: clang-format over ${#files[@]} files"
clang-format --dry-run --Werror "${files[@]}" || failed=1

build=build/lint
cmake --preset dev -B "$build" -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON >/dev/null
cmake --build "$build" --target holdfast_proto >/dev/null  # The generated headers.

echo "lint: clang-tidy over ${#sources[@]} files"
# Files that this configuration does not compile (fuzzers, other compilers' backends) are left out.
mapfile -t compiled < <(python3 - "$build/compile_commands.json" "${sources[@]}" <<'PYTHON'
import json
import os
import sys

with open(sys.argv[1], encoding="utf-8") as commands:
    known = {os.path.realpath(os.path.join(c["directory"], c["file"])) for c in json.load(commands)}
for source in sys.argv[2:]:
    if os.path.realpath(source) in known:
        print(source)
    else:
        print(f"lint: not compiled here, so not tidied: {source}", file=sys.stderr)
PYTHON
)
# --quiet still counts suppressed warnings on stderr; only real findings are worth a line.
if ((${#compiled[@]} > 0)); then
  printf '%s\0' "${compiled[@]}" |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy --quiet --warnings-as-errors='*' -p "$build" \
      2> >(grep -Ev '^[0-9]+ warnings? (generated|and [0-9]+ errors? generated)\.?$' >&2) || failed=1
fi

if ((failed != 0)); then
  echo "lint: FAILED" >&2
  exit 1
fi
echo "lint: clean"
