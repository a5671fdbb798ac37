#!/bin/bash
# cli_test.sh BUILD_DIR: the commands and the daemon as a user meets them: what they print, what they
# return, and that nothing is left behind. Sessions are tested elsewhere; here commands only have to run.
set -u
export PATH=$1:$PATH PCACHE_IDLE_S=2 NO_COLOR=1 LC_ALL=C.UTF-8
unset XDG_RUNTIME_DIR
work=$(mktemp -d /tmp/pcache-cli-test-XXXXXX)
export PCACHE_DIR=$work/cache
failures=0
ran=0

stop_daemon() {
  local pid
  pid=$(head -1 "$PCACHE_DIR/daemon.pid" 2> /dev/null) || return 0
  kill -TERM "$pid" 2> /dev/null || return 0
  for _ in $(seq 100); do [ -e "$PCACHE_DIR/daemon.pid" ] || return 0; sleep 0.05; done
}
cleanup() {
  cd /
  stop_daemon
  grep -o " $work[^ ]* .*fuse.pcache" /proc/self/mountinfo | while read -r dir _; do fusermount3 -uz "$dir"; done
  chmod -R u+w "$work"
  rm -rf "$work"
}
trap cleanup EXIT

# expect STATUS 'REGEX of stdout and stderr' COMMAND...
expect() {
  local status=$1 pattern=$2 output got
  shift 2
  ran=$((ran + 1))
  output=$(timeout 30 "$@" 2>&1 < /dev/null)
  got=$?
  if [ "$got" != "$status" ] || ! grep -qE -- "$pattern" <<< "$output"; then
    failures=$((failures + 1))
    printf 'FAILED (line %s): %s\n  status %s, expected %s; expected /%s/ in:\n%s\n' \
      "${BASH_LINENO[0]}" "$*" "$got" "$status" "$pattern" "$output"
  fi
}
mounted() { grep -qF " $1 " /proc/self/mountinfo; }
truth() { ran=$((ran + 1)); "$@" || { failures=$((failures + 1)); echo "FAILED (line ${BASH_LINENO[0]}): $*"; }; }
daemon_pid() { head -1 "$PCACHE_DIR/daemon.pid"; }
gone() { for _ in $(seq "${2:-100}"); do eval "$1" || return 0; sleep 0.05; done; return 1; }

project=$work/project
mkdir -p "$project/sub" && cd "$project" || exit 1
echo content > file
touch .git

# --- wrong usage ---
expect 2 '^pcache: say what to do' pcache
expect 2 '^pcache: there is no command nonsense; there are: mount, umount, run, .*, doctor, clear$' pcache nonsense
expect 2 '^pcache: there is no command exlpain: did you mean explain\?$' pcache exlpain
expect 2 'did you mean mount\?$' pcache mnt
expect 2 'did you mean umount\?$' pcache umuont
expect 2 'did you mean stats or `pcache run -- stat`\?$' pcache stat
expect 2 'there is no command make .the program: `pcache run -- make`.; there are: mount' pcache make
expect 2 'there are: mount' pcache ccache
expect 125 '^pcache: pcache run has no option --quite: did you mean --quiet\? ' pcache run --quite true
expect 125 'did you mean --no-passthrough' pcache run --no-pass-through -- true
expect 2 'pcache status has no option --jsno: did you mean --json' pcache status --jsno
expect 2 'pcache status takes no more' pcache status more
expect 0 'pcache [0-9]' pcache --version
expect 125 'no command' pcache run
expect 125 'no-such-option' pcache run --no-such-option true
expect 127 'pcache: no-such-command: command not found' pcache run -- no-such-command
expect 127 'pcache: ./nothing: No such file' pcache run -- ./nothing
expect 126 'pcache: ./file: Permission denied' pcache run -- ./file
expect 126 'Permission denied' pcache run -- /etc
expect 3 '^$' pcache run --disable -- sh -c 'exit 3'
expect 0 'not running' pcache status
truth [ ! -e "$PCACHE_DIR" ] # none of these needed a daemon

# --- places that are refused ---
expect 125 'no such directory' pcache run --root /no/such/dir -- true
expect 125 'not a directory' pcache run --root "$project/file" -- true
expect 125 'too much to cache' env -C / pcache run -- true
expect 125 'too much to cache' env HOME="$project" pcache run -- true
expect 125 'is not inside --root' pcache run --root /usr -- true
expect 125 'cannot write the report /no/dir/r.json' pcache run --report /no/dir/r.json -- true
expect 125 'holds the store' env PCACHE_DIR="$project/sub/cache" pcache run -- true
gone '[ -e "$project/sub/cache/daemon.pid" ]'
rm -rf sub/cache
expect 1 'no such directory' pcache mount /no/such/dir
expect 1 'not a directory' pcache mount file
expect 1 'lies in the store' sh -c 'mkdir -p $PCACHE_DIR/store/dir && pcache mount $PCACHE_DIR/store/dir; s=$?; rmdir $PCACHE_DIR/store/dir; exit $s'
expect 1 'holds the store' pcache mount "$work"
expect 1 'not in a pcache mount' pcache umount
expect 1 'not mounted' pcache umount "$work"

# --- run: status, streams, the mount it makes for itself ---
expect 0 '^pcache: .* not cacheable; saved' pcache run -- true
expect 7 '^out$' pcache run --quiet -- sh -c 'echo out; exit 7'
expect 0 " $project " pcache run -- grep -F " $project " /proc/self/mountinfo
expect 0 "^$project/sub\$" env -C sub pcache run -- pwd
gone 'mounted "$project"'
truth [ $? = 0 ]
printf 'bytes \xff' > "$work/odd"
expect 0 'bytes' pcache run -- sh -c 'cat "$1"' $'\xff\xfe' "$work/odd"
expect 0 'command' pcache explain --json
mkdir -p $'bad-\xff\ndir' && touch $'bad-\xff\ndir/.git'
expect 0 'saved' env -C $'bad-\xff\ndir' pcache run -- true
expect 0 'saved' pcache run --report "$work/report.json" -- true
truth python3 -c "import json,sys; r=json.load(open(sys.argv[1])); assert r['command']==['true'] and r['exit_status']==0 and r['executions'], r" "$work/report.json"
expect 0 'Last run: true' pcache stats
expect 0 '"hits"' pcache stats --json
expect 0 'start again at zero' pcache stats --zero
expect 0 'Last run: true' pcache explain
expect 1 'say so with --yes' pcache clear
expect 0 'Cleared' pcache clear --yes
expect 1 'no run is recorded' pcache explain

# --- inside itself: what is traced already stays in the outer run ---
expect 4 '^1$' sh -c 'pcache run -- sh -c "pcache run -- sh -c \"exit 4\"" 2> err; s=$?; grep -c ^pcache: err; exit $s'
rm -f err

# --- a full stderr holds nobody up for long; a client may vanish ---
mkfifo "$work/fifo"
(exec 3<> "$work/fifo"; head -c 65536 /dev/zero >&3; timeout 20 pcache run -- true 2>&3; echo $? > "$work/status")
truth [ "$(cat "$work/status")" = 0 ]
for _ in 1 2 3 4 5 6 7 8; do
  pcache run --quiet -- true &
  client=$!
  sleep 0.00$((RANDOM % 9))
  kill -9 $client
  wait $client
done 2> /dev/null
expect 0 'Probes' pcache status
expect 0 'saved' pcache run -- true

# --- the daemon: one of it, idle end, dump of stacks, nothing left ---
stop_daemon
for _ in 1 2 3 4 5 6; do pcache run --quiet -- true & done
wait
truth [ "$(grep -c 'pcached ends' "$PCACHE_DIR/daemon.log")" -lt "$(grep -c 'pcached .* serves' "$PCACHE_DIR/daemon.log")" ]
# Where commands are seized the daemon is asked about each exec of their programs on the whole machine.
expect 0 'nothing to write' sh -c "pcache mount --no-seize && pcache status"
pid=$(daemon_pid)
socket=$(sed -n 2p "$PCACHE_DIR/daemon.pid")
truth [ -S "$socket" ] && truth [ "$(stat -c %a "$socket")" = 600 ] && truth [ "$(stat -c %a "${socket%/*}")" = 700 ]
kill -USR1 "$pid"
gone '! grep -q "end of stacks" "$PCACHE_DIR/daemon.log"'
truth [ $? = 0 ]
ticks() { awk '{print $14 + $15}' "/proc/$pid/stat"; }
sleep 0.3
before=$(ticks)
sleep 2.5 # longer than PCACHE_IDLE_S: a mount keeps it
# It looks at the mount table whenever somebody mounts anything.
truth [ "$(($(ticks) - before))" -lt 15 ]
truth [ "$(daemon_pid)" = "$pid" ]
expect 1 'mounted already' pcache mount
expect 1 'would lie in one another' pcache mount sub
expect 0 'saved' env -C sub pcache run -- true # in the mount that is there
truth mounted "$project"

# --- unmounting: busy, lazy, behind our back ---
(cd "$project" && exec sleep 30) &
sleeper=$!
sleep 0.1
expect 1 "is in use.*|sleep \(pid $sleeper\): its working directory is $project" pcache umount "$project"
truth mounted "$project"
expect 0 'Unmounted' pcache umount --lazy "$project"
kill $sleeper
truth [ "$(cat "$project/file")" = content ]
expect 0 'Mounted' pcache mount "$project"
fusermount3 -u "$project"
expect 0 'Mounted' pcache mount "$project"
fusermount3 -u "$project"
gone '[ -e "$PCACHE_DIR/daemon.pid" ]' # notices by itself that nothing is mounted, and ends
truth [ $? = 0 ]

# --- a killed daemon ---
expect 0 'Mounted' pcache mount "$project"
cd "$project" || exit 1
kill -9 "$(daemon_pid)"
gone '[ -e file ]'
expect 0 'Dead mount' pcache status
expect 0 'saved' env PWD="$project" pcache run -- cat "$project/file"
cd "$project" || exit 1
expect 0 'Mounted' pcache mount "$project"
cd "$project" || exit 1
kill -9 "$(daemon_pid)"
gone '[ -e file ]'
expect 0 'Unmounted|Cleared' env PWD="$project" pcache umount
cd "$project" || exit 1
expect 0 'Mounted' pcache mount
kill -9 "$(daemon_pid)"
gone '[ -e file ]'
expect 0 'Mounted' pcache mount
expect 0 'Unmounted' pcache umount --all
truth [ ! -e "$PCACHE_DIR/daemon.pid" ]

# --- SIGTERM: unmounts, also what is busy ---
expect 0 'Mounted' pcache mount
(cd "$project" && exec sleep 30) &
sleeper=$!
pid=$(daemon_pid)
stop_daemon
gone 'readlink "/proc/$pid/exe" > /dev/null'
truth [ $? = 0 ]
kill $sleeper
truth eval '! mounted "$project"'

# --- another version ---
expect 0 'Mounted' pcache mount
expect 0 'is version [0-9.]+, this is pcache 9.9: stop it with' python3 -c "
import socket, struct
def text(t): return bytes([0x60 + len(t)]) + t.encode()
s = socket.socket(socket.AF_UNIX); s.connect('$(sed -n 2p "$PCACHE_DIR/daemon.pid")')
m = b'\xa3' + text('op') + text('stats') + text('version') + text('9.9') + text('protocol') + b'\x01'
s.sendall(struct.pack('I', len(m)) + m)
print(s.recv(4096))"
expect 0 '.' pcache umount --all

# --- an unusable store: commands run uncached, once warned ---
spoil() { # HOW...: then run, with the command's own status
  expect 5 'pcache: warning: the cache is unusable: .*; running uncached' pcache run -- sh -c 'exit 5'
  truth [ "$(pcache run -- true 2>&1 | wc -l)" = 1 ]
  expect 0 'unusable' pcache run --report "$work/report.json" -- true
  truth grep -q '"exit_status":null.*"warning":"the cache is unusable' "$work/report.json"
  expect 1 'unusable' pcache stats
  expect 0 'unusable' pcache status
  expect 0 '.' pcache umount --all
}
rm -rf "$PCACHE_DIR/store" && echo > "$PCACHE_DIR/store"
spoil
rm -rf "$PCACHE_DIR/store"
expect 0 'saved' pcache run -- true
expect 0 '.' pcache umount --all
for file in "$PCACHE_DIR"/store/db/MANIFEST-* "$PCACHE_DIR"/store/db/CURRENT; do head -c 100 /dev/urandom > "$file"; done
spoil
expect 0 'Cleared' pcache clear --yes
expect 0 '^pcache: [0-9]' pcache run -- true
expect 0 '.' pcache umount --all

# --- the socket elsewhere; found again from another environment ---
mkdir -m 700 "$work/runtime"
expect 0 'saved' env XDG_RUNTIME_DIR="$work/runtime" pcache run -- true
truth [ -n "$(ls "$work/runtime")" ]
pid=$(daemon_pid)
expect 0 "pid $pid" pcache status
expect 0 '.' pcache umount --all
truth [ -z "$(ls "$work/runtime")" ]

gone '[ -e "$PCACHE_DIR/daemon.pid" ]'
truth [ ! -e "$socket" ]
truth [ -z "$(cd "$PCACHE_DIR" && ls -d daemon.pid* *.lock 2> /dev/null)" ]
echo "$ran checks, $failures failed"
[ $failures = 0 ]
