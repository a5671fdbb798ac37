#!/bin/bash
# package_test.sh BUILD_DIR: the Debian package that `cpack -G DEB` makes: what is in it, that it works from
# where it is unpacked, and that nothing is left when it is removed. Exit status 77 where it cannot be made.
set -u
build=$(realpath "$1")
for program in cpack dpkg-deb dpkg-shlibdeps; do
  command -v $program > /dev/null || { echo "SKIPPED: there is no $program"; exit 77; }
done
work=$(mktemp -d /tmp/pcache-package-XXXXXX)
export HOME=$work/home PCACHE_IDLE_S=1 NO_COLOR=1 LC_ALL=C.UTF-8 PCACHE_MIN_FREE=0
unset PCACHE_DIR XDG_CACHE_HOME XDG_RUNTIME_DIR
failures=0
fail() { failures=$((failures + 1)); echo "FAILED: $*"; }
clean_up() {
  cd /
  [ -x "$work/root/usr/bin/pcache" ] && timeout 30 "$work/root/usr/bin/pcache" umount --all > /dev/null
  if mountpoint -q "$work/project"; then umount -l "$work/project"; fi
  rm -rf "$work"
}
trap clean_up EXIT
mkdir "$HOME"

(cd "$build" && timeout 200 cpack -G DEB -B "$work/made") > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
package=$(echo "$work"/made/*.deb)
[ -f "$package" ] || { echo "FAILED: no package"; exit 1; }

# --- what it says of itself ---
field() { dpkg-deb -f "$package" "$1"; }
[ "$(field Package)" = pcache ] || fail "Package: $(field Package)"
[ "$(field Architecture)" = amd64 ] || fail "Architecture: $(field Architecture)"
for needed in fuse3 libc6 libfuse3 librocksdb libseccomp2; do
  grep -q "$needed" <<< "$(field Depends)" || fail "it does not depend on $needed: $(field Depends)"
done

# --- what is in it ---
contents=$(dpkg-deb -c "$package")
for file in bin/pcache bin/pcached share/man/man1/pcache.1.gz share/man/man8/pcached.8.gz \
  share/bash-completion/completions/pcache share/zsh/vendor-completions/_pcache \
  share/fish/vendor_completions.d/pcache.fish share/doc/pcache/copyright share/doc/pcache/changelog.gz \
  share/doc/pcache/README.md share/doc/pcache/cli.md; do
  grep -q " \./usr/$file\$" <<< "$contents" || fail "it has no $file"
done
wrong=$(awk '{ if ($2 != "root/root") print }' <<< "$contents")
[ -z "$wrong" ] || fail "not root's: $wrong"
wrong=$(grep -v ' \./\(usr/.*\)\?$' <<< "$contents")
[ -z "$wrong" ] || fail "outside of /usr: $wrong"

# --- installed in a tree of its own, where root can; else unpacked ---
mkdir -p "$work"/root/var/lib/dpkg/{info,updates,triggers}
touch "$work/root/var/lib/dpkg/status"
if [ "$(id -u)" = 0 ]; then
  dpkg --root="$work/root" --force-depends,script-chrootless -i "$package" > "$work/log" 2>&1 || fail "dpkg -i: $(cat "$work/log")"
else
  dpkg-deb -x "$package" "$work/root"
fi
export PATH=$work/root/usr/bin:$PATH
[ "$(command -v pcache)" = "$work/root/usr/bin/pcache" ] || fail "another pcache: $(command -v pcache)"
[ "$(pcache --version)" = "pcache $(field Version)" ] || fail "version: $(pcache --version)"
mkdir "$work/project" && cd "$work/project" && touch .git
echo content > in
if [ -w /dev/fuse ]; then
  for said in '0 hits' '1 hit,'; do
    output=$(timeout 60 pcache run -- sh -c 'cat in > out' 2>&1) || fail "pcache run: $output"
    grep -q "$said" <<< "$output" || fail "pcache run: $output, not $said"
    [ "$(cat out)" = content ] || fail "no output"
    rm -f out
  done
  exe=$(readlink "/proc/$(head -1 "$HOME/.cache/pcache/daemon.pid")/exe")
  [ "$exe" = "$work/root/usr/bin/pcached" ] || fail "another daemon: $exe"
  timeout 60 pcache clear --all --yes > /dev/null || fail "clear --all"
  [ ! -e "$HOME/.cache/pcache" ] || fail "clear --all left $(find "$HOME/.cache/pcache")"
  pcache mount --no-seize > /dev/null || fail "mount"
  daemon=$(head -1 "$HOME/.cache/pcache/daemon.pid")
else
  daemon=
  echo '/dev/fuse cannot be opened here: it is not run'
fi
if command -v man > /dev/null; then
  said=$(man --warnings -l "$work/root/usr/share/man/man1/pcache.1.gz" 2>&1 > /dev/null)
  [ -z "$said" ] || fail "man: $said"
fi

# --- removed ---
if [ "$(id -u)" = 0 ]; then
  cd /
  # Its prerm, which would need a shell in that tree, is run in this one.
  dpkg --root="$work/root" --force-script-chrootless -P pcache > "$work/log" 2>&1 || fail "dpkg -P: $(cat "$work/log")"
  [ -z "$daemon" ] || ! readlink "/proc/$daemon/exe" > /dev/null || fail "the daemon goes on"
  ! grep -qF " $work/project " /proc/self/mountinfo || fail "the project is still mounted"
  left=$(find "$work/root" -name '*pcache*' ! -path '*/var/lib/dpkg/*')
  [ -z "$left" ] || fail "left: $left"
fi
echo "package: $failures failures"
[ "$failures" = 0 ]
