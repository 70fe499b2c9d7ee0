#!/usr/bin/env bash
# A cluster on loopback, with throw-away keys, until Ctrl-C:
#   scripts/dev-cluster.sh N [DIR]      N storage nodes; DIR: where it lies (default: a new one)
# With DIR of an earlier run it starts that one again. Ports from ${HOLDFAST_PORT:-7400} on.
set -euo pipefail
repo="$(cd "$(dirname "$0")/.." && pwd)"
holdfast="${HOLDFAST_BINARY:-$repo/build/release/holdfast}"
port="${HOLDFAST_PORT:-7400}"

fail() { echo "dev-cluster: $*" >&2; exit 1; }
[[ "${1:-}" =~ ^[1-9][0-9]?$ && $# -le 2 ]] || fail "usage: scripts/dev-cluster.sh N [DIR], N from 1 to 99"
[[ -x "$holdfast" ]] || fail "$holdfast is not there: run scripts/build.sh release"
nodes="$1"
dir="${2:-$(mktemp -d "${TMPDIR:-/tmp}/holdfast-cluster.XXXXXX")}"
vault="tcp://127.0.0.1:$port"
key="$dir/key"
daemons=()

stop() {
  trap - EXIT
  ((${#daemons[@]} == 0)) || kill "${daemons[@]}" 2>/dev/null || true
  wait
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Starts a daemon and waits until it listens.
serve() {
  local log="$dir/$2.log"
  : >"$log"
  "$holdfast" "$1" serve --config "$3" >"$log" 2>&1 &
  daemons+=($!)
  for _ in $(seq 200); do
    if grep -q "listening on" "$log"; then return; fi
    kill -0 "${daemons[-1]}" 2>/dev/null || { cat "$log" >&2; fail "the $2 did not start"; }
    sleep 0.05
  done
  fail "the $2 does not listen; see $log"
}

# Nodes that are there already come first: a coordinator asks them before it answers anybody.
for ((i = 0; i < nodes; ++i)); do
  [[ ! -e "$dir/node-$i/node.toml" ]] || serve node "node-$i" "$dir/node-$i/node.toml"
done
if [[ ! -e "$dir/coordinator/coordinator.toml" ]]; then
  mkdir -p "$dir"
  "$holdfast" cluster init "$dir/coordinator" --listen "$vault" --key "$key" \
    --replicas "$((nodes < 3 ? nodes : 3))" 2>/dev/null
fi
serve coordinator coordinator "$dir/coordinator/coordinator.toml"
for ((i = 0; i < nodes; ++i)); do
  if [[ ! -e "$dir/node-$i/node.toml" ]]; then
    "$holdfast" cluster join "$dir/node-$i" --listen "tcp://127.0.0.1:$((port + 10 + 2 * i))" \
      --weight 1 --place "site/rack/host-$i" --vault "$vault" --key "$key" 2>/dev/null
    serve node "node-$i" "$dir/node-$i/node.toml"
  fi
done
echo "A coordinator and $nodes nodes run in $dir. Ctrl-C ends them. In another shell:"
echo "  export HOLDFAST_VAULT=$vault HOLDFAST_KEY=$key"
echo "  holdfast status"
wait -n "${daemons[@]}" || true
fail "a daemon ended; the logs are in $dir"
