#!/bin/bash
# test.sh [CTEST OPTION...]: installs the packages, builds everything, runs all tests.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/build.sh" || exit 1
cd "$here/../.." || exit 1

# Tests run commands as other users too. As root, a container's /dev/fuse can be made usable for them.
if [ "$(id -u)" = 0 ]; then
  [ -e /dev/fuse ] || mknod /dev/fuse c 10 229 2> /dev/null
  chmod 0666 /dev/fuse 2> /dev/null
fi
if ! [ -r /dev/fuse ] || ! [ -w /dev/fuse ]; then
  echo "test.sh: /dev/fuse cannot be opened: tests that mount will fail (load the fuse module, or run the container with --device /dev/fuse)" >&2
fi

# Most tests wait for the disk or for a timer more than they compute.
jobs=$(($(nproc) * 2))
log=$(mktemp)
trap 'rm -f "$log"' EXIT
start=$SECONDS
# Some tests wait for a terminal or a moment; on a busy machine they may come too late once, not twice.
ctest --preset release -j"$jobs" --repeat until-pass:2 "$@" | tee "$log"
status=${PIPESTATUS[0]}
grep -E '^ *[0-9]+/[0-9]+ Test .*\*\*\*(Failed|Timeout)' "$log" | sed 's/^/== failed at least once: /'
echo "== $(grep -E 'tests? passed|No tests were found' "$log" | tail -1) ($((SECONDS - start)) s)"
exit "$status"
