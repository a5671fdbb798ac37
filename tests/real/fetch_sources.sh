#!/bin/sh
# fetch_sources.sh DIR PACKAGE...: fetches the upstream tarballs of Debian source packages into DIR. 77 where they
# cannot be had. As root it names the machine's own mirrors as source mirrors, if they are not yet.
set -u
dir=$1
shift
mkdir -p "$dir" && cd "$dir" || exit 1
chmod 0755 .
missing=
for package in "$@"; do
  ls "$package"_*.orig.tar.?z > /dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
command -v apt-get > /dev/null || { echo "SKIPPED: there is no apt-get"; exit 77; }

added=
if ! apt-get -q source --print-uris $missing > /dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  added=/etc/apt/sources.list.d/pcache-test-sources.sources
  if [ -e /etc/apt/sources.list.d/debian.sources ]; then
    sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources > "$added"
  else
    added=${added%.sources}.list
    sed -n 's/^deb /deb-src /p' /etc/apt/sources.list > "$added"
  fi
  trap 'rm -f "$added"' EXIT
  apt-get -q update > /dev/null 2>&1
fi
failed=0
for package in $missing; do # one by one: one that is missing hides no other
  apt-get -q source --download-only "$package" > fetch.log 2>&1 || { tail -3 fetch.log; failed=1; }
done
rm -f fetch.log ./*.dsc ./*.debian.tar.* ./*.diff.gz ./*.asc
chmod a+r ./* 2> /dev/null
[ $failed = 0 ] || { echo "SKIPPED: no source packages for:$missing"; exit 77; }
