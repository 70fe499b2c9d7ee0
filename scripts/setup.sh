#!/usr/bin/env bash
# Installs the Debian 12 packages of scripts/packages.txt. Quick when they are all there.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "setup: $*" >&2; exit 1; }

mapfile -t packages < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' scripts/packages.txt)

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    [[ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] ||
      echo "$package"
  done
}

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
  fail "needs Debian 12 (no apt-get here); on other systems install what scripts/packages.txt lists"
mapfile -t missing < <(missing_packages)
if ((${#missing[@]} == 0)); then
  echo "setup: all ${#packages[@]} packages are installed"
  exit 0
fi

# shellcheck source=/dev/null
release="$(. /etc/os-release && echo "${ID:-unknown} ${VERSION_ID:-}")"
[[ "$release" == "debian 12" ]] ||
  fail "needs Debian 12, this is $release; install by hand: ${missing[*]}"

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || fail "run it as root, or install sudo; missing: ${missing[*]}"
  as_root=(sudo)
fi
install_missing() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${missing[@]}"
}

echo "setup: installing ${#missing[@]} packages: ${missing[*]}"
# The package lists are fetched only when there are none, or when they are too old to install from.
known="$(apt-cache policy "${missing[@]}" 2>/dev/null | grep -c '^  Candidate: [^(]' || true)"
if ((known < ${#missing[@]})) || ! install_missing; then
  "${as_root[@]}" apt-get update -q || fail "apt-get update failed (see above)"
  install_missing || fail "apt-get install failed (see above)"
fi
mapfile -t missing < <(missing_packages)
((${#missing[@]} == 0)) || fail "still missing after apt-get install: ${missing[*]}"
