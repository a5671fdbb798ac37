#!/bin/bash
# build.sh [TARGET...]: installs the packages and builds the release preset, into build/release.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/install-packages.sh"
cd "$here/../.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
targets=()
for target in "$@"; do targets+=(--target "$target"); done
echo "Building in build/release"
if ! { cmake --preset release && cmake --build --preset release -j "$(nproc)" "${targets[@]}"; } > "$log" 2>&1; then
  tail -60 "$log" >&2
  exit 1
fi
