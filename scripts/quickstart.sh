#!/usr/bin/env bash
# From a fresh Debian 12 to a vault that gave every byte back:
#   scripts/quickstart.sh [DIR]      (DIR: what to ingest; /usr/share when left out)
# Sets up, builds, makes a vault in a new directory under ${TMPDIR:-/tmp}, ingests DIR, verifies,
# restores, and compares with diff -r. Leaves the vault there to look at; reads DIR, never writes it.
set -euo pipefail
repo="$(cd "$(dirname "$0")/.." && pwd)"
source_dir="${1:-/usr/share}"

fail() { echo "quickstart: $*" >&2; exit 1; }
step() { printf '\n== %s\n' "$*"; }

(($# <= 1)) || fail "usage: scripts/quickstart.sh [DIR]"
[[ -d "$source_dir" ]] || fail "$source_dir is not a directory"
source_dir="$(cd "$source_dir" && pwd)"

step "1/6 set up and build"
"$repo/scripts/setup.sh"
"$repo/scripts/build.sh" release
holdfast="$repo/build/release/holdfast"

# Room for the vault and for the restored tree, with a tenth to spare.
source_kib="$(du -sk -- "$source_dir" | cut -f1)"
apparent_kib="$(du -sk --apparent-size -- "$source_dir" | cut -f1)"
if ((apparent_kib > source_kib)); then source_kib=$apparent_kib; fi
free_kib="$(df -Pk -- "${TMPDIR:-/tmp}" | awk 'NR == 2 {print $4}')"
need_kib=$((source_kib * 22 / 10 + 512 * 1024))
((free_kib >= need_kib)) ||
  fail "${TMPDIR:-/tmp} has $((free_kib / 1024)) MiB free, but $source_dir needs about $((need_kib / 1024)) MiB; give a smaller DIR or set TMPDIR"

work="$(mktemp -d "${TMPDIR:-/tmp}/holdfast-quickstart.XXXXXX")"
vault="$work/vault"
key="$work/key"
collection=quickstart
on_exit() {
  local code=$?
  ((code == 0)) || echo "quickstart: FAILED (exit $code); what there is lies in $work" >&2
}
trap on_exit EXIT

step "2/6 make a vault: $vault"
"$holdfast" init "$vault" --key "$key"
export HOLDFAST_VAULT="$vault" HOLDFAST_KEY="$key"

step "3/6 ingest $source_dir"
"$holdfast" ingest "$source_dir/." --to "$collection" --json >"$work/ingest.jsonl"

step "4/6 verify: read every stored byte back, decrypt, compare all digests"
"$holdfast" verify --json >"$work/verify.jsonl"

step "5/6 restore to $work/restored"
"$holdfast" restore "$collection" --to "$work/restored"

step "6/6 compare with diff -r"
# Sockets, fifos and devices are listed by holdfast, not stored; diff has nothing to compare there.
if ! diff -r --no-dereference "$source_dir" "$work/restored" >"$work/diff.txt"; then
  special="$(find "$source_dir" -xdev \( -type p -o -type s -o -type b -o -type c \) -print -quit)"
  head -20 "$work/diff.txt" >&2
  if [[ -n "$special" ]]; then
    echo "quickstart: there are special files in $source_dir, such as $special; see $work/diff.txt" >&2
  fi
  fail "the restored tree differs from $source_dir"
fi

python3 - "$work/ingest.jsonl" "$(du -sk -- "$vault" | cut -f1)" <<'PYTHON'
import json
import sys

summary = None
with open(sys.argv[1], encoding="utf-8") as lines:
    for line in lines:
        entry = json.loads(line)
        if entry["type"] == "summary":
            summary = entry


def size(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            break
        count /= 1024
    else:
        unit = "TiB"
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.2f} {unit}"


seconds = max(summary["seconds"], 1e-9)
print(f"""
files       {summary["files"]:,}
bytes       {size(summary["bytes"])}
duplicates  {summary["duplicates"]:,} files were stored already
stored      {size(summary["stored_bytes"])} of sealed chunks; the vault takes {size(int(sys.argv[2]) * 1024)}
time        {seconds:.2f} s to ingest
rate        {size(summary["bytes"] / seconds)}/s, {summary["files"] / seconds:,.0f} files/s
every byte came back: diff -r found no difference""")
PYTHON

cat <<EOT

Look around:
  export HOLDFAST_VAULT=$vault HOLDFAST_KEY=$key
  $holdfast status
  $holdfast ls -l $collection
  $holdfast --help
Remove it all: rm -r $work
EOT
