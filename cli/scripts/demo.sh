#!/bin/bash
# demo.sh: builds pcache, then a real program (Lua, from Debian's source package) three times: bare,
# under `pcache run` with an empty cache, and again from a clean tree. Leaves nothing behind but
# build/release.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/build.sh" pcache pcached
pcache=$(cd "$here/../../build/release" && pwd)/pcache

work=$(mktemp -d /tmp/pcache-demo-XXXXXX)
export PCACHE_DIR=$work/cache
cleanup() {
  cd /
  "$pcache" umount --all > /dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
chmod 755 "$work" # apt fetches as its own user

# Lua's source, through an apt configuration of our own where the system's has no deb-src entries.
fetch_lua() {
  local apt=(apt-get -q)
  mkdir -p "$work/fetch" && cd "$work/fetch"
  if ! "${apt[@]}" source --print-uris lua5.4 > /dev/null 2>&1; then
    mkdir -p "$work/apt/lists/partial" "$work/apt/parts"
    for file in /etc/apt/sources.list.d/*.sources; do
      [ -e "$file" ] && sed 's/^Types:.*/Types: deb-src/' "$file" > "$work/apt/parts/${file##*/}"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
      [ -e "$file" ] && sed -n 's/^deb /deb-src /p' "$file" > "$work/apt/parts/${file##*/}"
    done
    apt+=(-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/apt/parts"
      -o Dir::State::lists="$work/apt/lists" -o Dir::Cache::srcpkgcache= -o Dir::Cache::pkgcache=)
    timeout 120 "${apt[@]}" update > /dev/null 2>&1 || return 1
  fi
  timeout 120 "${apt[@]}" source --download-only lua5.4 > /dev/null 2>&1 || return 1
  mkdir -p "$work/project"
  tar xf lua5.4_*.orig.tar.* -C "$work/project" --strip-components=1 || return 1
  cd "$work/project"
  printf '*.o\n*.a\nsrc/lua\nsrc/luac\n' > .gitignore
}

# In place of Lua where there is no network: 40 small C files.
generate_project() {
  rm -rf "$work/project"
  mkdir -p "$work/project/src" && cd "$work/project/src"
  local i
  for ((i = 1; i <= 40; i++)); do
    printf '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include "all.h"\nint f%d(int x) { char b[64]; snprintf(b, sizeof b, "%%d-%%d", %d, x); return (int)strlen(b) + x; }\n' $i $i > f$i.c
  done
  for ((i = 1; i <= 40; i++)); do echo "int f$i(int x);"; done > all.h
  {
    printf '#include <stdio.h>\n#include "all.h"\nint main(void) {\n  int s = 0;\n'
    for ((i = 1; i <= 40; i++)); do echo "  s += f$i(s & 7);"; done
    printf '  printf("%%d\\n", s);\n  return 0;\n}\n'
  } > main.c
  printf 'OBJ := $(patsubst %%.c,%%.o,$(wildcard *.c))\nlinux: prog\nprog: $(OBJ)\n\t$(CC) -o $@ $(OBJ)\n%%.o: %%.c all.h\n\t$(CC) -O2 -Wall -c -o $@ $<\n' > Makefile
  cd ..
  printf '*.o\nsrc/prog\n' > .gitignore
}

name="Lua"
if ! fetch_lua; then
  name="40 generated C files (Lua's source could not be fetched)"
  generate_project
fi
cd "$work/project"
git init -q .
git add -fA .
git -c user.name=demo -c user.email=demo@localhost commit -qm snapshot

now() { echo "${EPOCHREALTIME/[.,]/}"; }
build() { # PREFIX...: from a clean tree; leaves the time in $seconds
  git clean -xfdq
  local start status=0
  start=$(now)
  "$@" make -C src -j"$(nproc)" linux > "$work/make.log" 2> "$work/err.log" < /dev/null || status=$?
  seconds=$(awk -v us=$(($(now) - start)) 'BEGIN { printf "%.2f", us / 1e6 }')
  if [ $status -ne 0 ]; then
    cat "$work/make.log" "$work/err.log" | tail -n 30 >&2
    exit 1
  fi
}
summary() { sed -n 's/^pcache: //p' "$work/err.log" | tail -1; }
programs() { sha256sum src/lua src/luac src/prog 2> /dev/null || true; }

echo "Building $name"
build # so that the bare build does not pay for a cold disk
build
bare=$seconds
expected=$(programs)
build "$pcache" run --
cold=$seconds
cold_summary=$(summary)
build "$pcache" run --
warm=$seconds
warm_summary=$(summary)
same="the programs are the same, byte for byte"
[ "$(programs)" = "$expected" ] || same="THE PROGRAMS DIFFER"

printf '\n%-28s %6s s\n' "without pcache" "$bare"
printf '%-28s %6s s   %s\n' "with pcache, empty cache" "$cold" "$cold_summary"
printf '%-28s %6s s   %s\n' "again, from a clean tree" "$warm" "$warm_summary"
printf '\n%s\n' "$same"
[ "$same" != "THE PROGRAMS DIFFER" ]
