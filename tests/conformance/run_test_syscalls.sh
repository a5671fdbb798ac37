#!/bin/bash
# run_test_syscalls.sh BIN [DIR]: fetches libfuse's own test_syscalls.c (the Debian source package fuse3)
# and runs it in a pcache mount, with and without passthrough and without kernel caches. Not part of
# ctest: it needs apt, a deb-src entry and the network. BIN is the directory of fuse_host.
set -euo pipefail
bin=$(realpath "${1:?usage: run_test_syscalls.sh BIN [DIR]}")
work=$(mktemp -d "${2:-/tmp}/pcache-test-syscalls.XXXXXX")
host=
clean_up() {
  if [ -n "$host" ]; then kill "$host" 2>/dev/null || true; wait "$host" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap clean_up EXIT
cd "$work"
if ! apt-get -q source --download-only fuse3 > apt.log 2>&1; then
  echo "SKIPPED: apt-get source fuse3 failed (is there a deb-src entry?): $(tail -1 apt.log)"
  exit 77
fi
mkdir fuse3 dir
tar xf fuse3_*.orig.tar.?z -C fuse3 --strip-components=1
printf '#define HAVE_COPY_FILE_RANGE 1\n#define HAVE_STRUCT_STAT_ST_ATIM 1\n' > fuse3/test/fuse_config.h
cc -O1 -w -o test_syscalls -Ifuse3/test -Ifuse3/include fuse3/test/test_syscalls.c
mkfifo commands
failed=0
for options in '--cache 3600' '--cache 0' '--cache 3600 --no-passthrough'; do
  exec 3<> commands
  # shellcheck disable=SC2086
  "$bin/fuse_host" "$work/dir" $options < commands > host.log 3>&- &
  host=$!
  for _ in $(seq 200); do grep -q . host.log && break; sleep 0.05; done
  timeout 120 ./test_syscalls "$work/dir" > result.log 2>&1 || failed=1
  echo "$options: $(grep -c 'OK$' result.log) ok, $(grep -c FAILED result.log || true) failed"
  grep FAILED result.log || true
  kill "$host"; wait "$host" || failed=1
  host=
  exec 3>&-
done
exit $failed
