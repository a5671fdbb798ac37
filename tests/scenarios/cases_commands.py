"""Every subcommand with each of its options, as a table: what it says to people and to programs, where it refuses,
and its exit status. An option that --help shows and no row tries is a failure."""
import json
import os
import re

from harness import process, scenario
from harness.terminal import Terminal

NUMBER = (int, float)
# What the answers of --json hold, by command; a list stands for a list of such things, None for anything.
SHAPES = {
    "mount": {"mounted": str, "passthrough": bool, "seizes": bool, "seize_problem": str, "note": str},
    "umount": {"unmounted": [str], "cleared": [str], "daemon_stopped": bool},
    "status": {"running": bool, "store": str, "dead_mounts": [str]},
    "status, running": {"running": bool, "pid": int, "version": str, "uptime_s": NUMBER, "probe_source": str,
                        "settings": dict, "store": str, "store_problem": str, "seized_too_late": int, "sessions": list,
                        "dead_mounts": [str],
                        "mounts": [{"dir": str, "passthrough": bool, "served_pending": int,
                                    "served_bytes_pending": int, "temporary": bool, "seizes": bool}]},
    "top": {"running": bool, "sessions": list, "mounts": list},
    "stats": {"store": str, "records": int, "blobs": int, "blob_bytes": int, "runs": int, "hits": int, "misses": int,
              "uncacheable": int, "bytes_served": int, "saved_s": NUMBER},
    "explain": {"run": int, "command": [str],
                "executions": [{"id": int, "parent": int, "argv": [str], "cwd": str, "outcome": str,
                                "reasons": [{"code": str, "path": str, "detail": str, "never": bool,
                                             "remedy": str}]}]},
    "codes": [{"code": str, "never": bool, "meaning": str, "remedy": str}],
    "why": {"file": str, "root": str, "path": str, "run": int, "served": bool, "state": str,
            "made_by": {"argv": [str], "cwd": str, "inputs": [{"path": str, "hash": str}]}},
    "graph": {"run": int, "command": [str], "exit_status": int, "wall_s": NUMBER, "hits": int, "misses": int,
              "uncacheable": int, "saved_s": NUMBER, "root": str, "started_s": NUMBER,
              "executions": [{"id": int, "parent": int, "pid": int, "argv": [str], "cwd": str, "outcome": str,
                              "reasons": [{"code": str, "path": str, "detail": str}], "exit_status": int,
                              "cpu_s": NUMBER, "saved_s": NUMBER, "facts": int, "effects": int, "recorded": bool,
                              "start_us": int, "end_us": int}]},
    "census": {"executions": int, "depth": int, "processes": int, "processes_without_exec": int, "threads": int,
               "look_ups": {"calls": int, "failed": int, "by_kind": dict}, "opens": dict, "stat_only_paths": [str],
               "listings": {"calls": int, "directories": [str]}, "at_calls_with_dirfd": int,
               "children_outputs_read_by_parent": [str], "written_by_more_than_one": [str], "sockets": None,
               "bytes_read": int, "bytes_written": int, "programs": [{"program": str, "executions": int,
                                                                    "cpu_s": NUMBER}]},
    "gc": {"records": int, "blobs": int, "bytes": int, "disk_bytes": int, "dry_run": bool},
    "verify": {"blobs": int, "bytes": int, "records": int, "damaged": list},
    "clear": {"store": str, "freed_bytes": int},
    "clear --all": {"removed": str, "freed_bytes": int, "kept": str},
    "config": {"dir": str, "project": str, "problems": [str], "running_daemon": dict,
               "settings": [{"name": str, "value": None, "origin": str, "built_in": None, "variable": str,
                             "scope": str, "about": str}]},
    "doctor": {"healthy": bool, "findings": [{"name": str, "level": str, "text": str, "remedy": str}]},
}

# (command line, exit status, what it says: a pattern of its output, or of the one line on stderr where the status is
# not 0; with --json the name of a shape). T is the project, X a place outside of it.
BEFORE_ANY_RUN = [
    ("--version", 0, r"^pcache \d+\.\d+"),
    ("--help", 0, r"(?s)Subcommands:.*mount.*doctor"),
    ("help", 0, r"(?s)Subcommands:.*mount.*doctor.*Begin with `pcache run -- make`"),
    ("help run", 0, r"(?s)Usage: pcache run .*--report FILE"),
    ("version", 0, r"^pcache \d+\.\d+"),
    ("", 2, "say what to do, like `pcache run -- make`; there are: mount, umount, run, "),
    ("status", 0, r"Daemon +not running"),
    ("status --json", 0, "status"),
    ("top", 0, "^No daemon runs"),
    ("top --json", 0, "top"),
    ("umount T", 1, "is not mounted"),
    ("umount", 1, "is not in a pcache mount"),
    ("umount --all", 0, "^Nothing is mounted and no daemon runs"),
    ("umount --all --json", 0, "umount"),
    ("config never", 0, r"(?m)^date$"),
    ("config max_size", 0, "^20G$"),
    ("config nonsense", 1, "no setting is called nonsense: `pcache config` lists them all"),
    ("config max-size", 1, "no setting is called max-size: did you mean max_size\\?"),
    ("config", 0, r"(?m)^max_size +20G +built-in +"),
    ("config --json", 0, "config"),
    ("explain --codes", 0, r"Why a record does not fit any more:\n +no-record +nothing was recorded"),
    ("explain --codes --json", 0, "codes"),
    ("explain", 1, "no run is recorded yet: start one with `pcache run -- CMD`"),
    ("graph", 1, "no run is recorded yet"),
    ("why T/in", 1, r"no command that is recorded left .*/in: "),
    ("why", 2, "pcache why: FILE is required .see `pcache why --help`."),
    ("run", 125, "no command: say `pcache run -- CMD"),
    ("census", 125, "no command: say `pcache census -- CMD"),
    ("trace", 125, "no command: say `pcache trace -- CMD"),
    ("run -- no-such-command", 127, "no-such-command: command not found"),
    ("census -- no-such-command", 127, "no-such-command: command not found"),
    ("trace -- T/in", 126, "Permission denied"),
    ("run --root /no/such -- true", 125, "/no/such: .*no such directory"),
    ("trace --root /no/such -- true", 125, "/no/such: .*no such directory"),
    ("shell --root /no/such", 125, "/no/such: .*no such directory"),
    ("mount /no/such", 1, "/no/such: .*no such directory"),
    ("stats --zero", 0, "start again at zero"),
    ("gc --max-size much", 2, "much is no size: say 20G or 500M"),
    ("gc --older-than long", 2, "long is no time: say 30d, 12h or 90m"),
    ("verify --sample lots", 2, "lots is no part: say 10% or 0.1"),
    ("graph --format svg", 2, "pcache graph: --format: svg not in"),
    ("run --check --recache -- true", 125, "--check runs what would hit"),
    ("status --log-level loud", 2, "--log-level"),
    ("status --log-file /no/dir/log", 1, "/no/dir/log"),
    ("doctor", (0, 1), r"(?m)^(ok|problem) +fuse +"),
    ("doctor --json", (0, 1), "doctor"),
]
RUNS = [
    ("run --root T -- sh make.sh", 0, None),
    ("run --root T --quiet --report X/report.json -- sh make.sh", 0, "^$"),
    ("run --root T --read-only -- sh make.sh", 0, None),
    ("run --root T --recache -- sh make.sh", 0, None),
    ("run --root T --check -- sh make.sh", 0, None),
    ("run --root T --no-passthrough -- sh make.sh", 0, None),
    ("run --root T --pid-namespace -- sh make.sh", 0, None),
    ("run --root T --disable -- sh make.sh", 0, "^$"),
    ("run --root T --log-level debug --log-file X/log -- sh -c 'date > now; exit 3'", 3, None),
]
AFTER_RUNS = [
    ("status", 0, r"(?s)Daemon +pid \d+.*Probes +(ebpf|seccomp).*Store +/"),
    ("status --json", 0, "status, running"),
    ("top --once", 0, "^No command runs under pcache now"),
    ("top --json", 0, "top"),
    ("stats", 0, r"(?s)Last run: sh -c .*All runs:\n +runs +\d+\n.*Store .*:\n +records +\d"),
    ("stats --json", 0, "stats"),
    ("explain", 0, r"(?s)^Last run: sh -c .*ran|not cached: .*never .*-> "),
    ("explain --json", 0, "explain"),
    ("explain --run -1", 0, r"^Run \d+: "),
    ("explain --run 1", 0, r"^Run 1: sh make\.sh"),
    ("explain --run 999", 1, "there is no run 999: those from 1 to "),
    ("explain --run first", 1, "a run is a number, or -1"),
    ("explain --run 1 in", 0, r"^Run 1: "),
    ("explain 1", 0, r"#1\b"),
    ("explain -- cat in", 0, r"(ran|hit): cat in +#\d"),
    ("explain -- no such", 0, "No run that is kept has this command: no such"),
    ("explain no-such-word", 0, "Nothing that ran has \"no-such-word\""),
    ("why T/out", 0, r"(?m)^ +Made by +(cat in|sh make\.sh)$"),
    ("why --json T/out", 0, "why"),
    ("why --tree T/out", 0, r"- in\b"),
    ("why T/in", 1, r"no command that is recorded left .*/in: "),
    ("graph", 0, r"^<!DOCTYPE html>"),
    ("graph 1", 0, r"^<!DOCTYPE html>"),
    ("graph --format json -1", 0, "graph"),
    ("graph --format json", 0, "graph"),
    ("graph --format dot 1", 0, r"^digraph run \{"),
    ("graph -o X/page.html", 0, r"/page\.html$"),
    ("graph --output X/page.html", 0, r"/page\.html$"),
    ("graph --output /no/dir/page.html", 1, "cannot write /no/dir/page.html: No such file"),
    ("graph --report X/report.json", 0, "^<!DOCTYPE html>"),
    ("graph --report /no/such", 1, "cannot read the report /no/such"),
    ("graph 999", 1, "there is no run 999: those from 1 to "),
    ("census --root T -- sh make.sh", 0, r"(?s)^Processes\n +executions +\d+ +depth .*Programs, without"),
    ("census --json --root T -- sh make.sh", 0, "census"),
    ("census -o X/census --root T -- sh -c 'exit 5'", 5, None),
    ("census --output /no/dir/census --root T -- true", 125, "cannot write /no/dir/census: No such file"),
    ("trace --log X/trace --root T -- sh make.sh", 0, "^$"),
    ("trace --all --json --log X/trace --root T -- sh -c 'exit 6'", 6, None),
    ("trace --log /no/dir/trace -- true", 125, "cannot write /no/dir/trace: No such file"),
    ("gc --dry-run", 0, r"^Would forget \d+ records? and .* of contents .*The store holds "),
    ("gc --dry-run --max-size 1K --json", 0, "gc"),
    ("gc --older-than 30d", 0, "^Forgot 0 records"),
    ("verify", 0, r"^\d.* of contents in \d+ files? and \d+ records? are whole\.$"),
    ("verify --sample 50% --json", 0, "verify"),
    ("stats --zero --json", 0, "stats"),
    ("mount --no-seize T", 0, r"^Mounted .*\n(.*\n)?Commands are cached under `pcache run -- CMD`"),
    ("mount --no-seize T", 1, "is mounted already"),
    ("status", 0, r"Mounts:\n +\S+/tree +passthrough: (yes|no) +nothing to write +caches under `pcache run`"),
    ("status --json", 0, "status, running"),
    ("umount T", 0, r"^Unmounted .*/tree\.$"),
    ("mount --json --disable T", 0, "mount"),
    ("umount --json T", 0, "umount"),
    ("mount --no-passthrough --read-only --no-seize T", 0, "^Mounted"),
    ("umount --lazy T", 0, "^Unmounted"),
    ("mount --recache --disable T", 0, "^Mounted"),
    ("umount --all", 0, r"^Unmounted .*\nStopped the daemon\.$"),
    ("clear", 1, "this forgets every record: say so with --yes"),
    ("clear --json", 1, "say so with --yes"),
    ("clear --yes", 0, r"^Cleared .*/store \("),
    ("clear --yes --json", 0, "clear"),
    ("clear --all", 1, "this unmounts everything and removes the whole store: say so with --yes"),
    ("clear --all --yes --json", 0, "clear --all"),
    ("clear --all --yes", 0, "^Nothing is mounted, no daemon runs, and .* is gone"),
]
# Those of run; what becomes of them in a shell is tried by the scenario pcache_shell.
SHELL_OPTIONS = "--root T --report X/r --quiet --disable --read-only --recache --check --no-passthrough --pid-namespace"


def _words(t, line):
    """As a shell splits it: quotes only."""
    words = [quoted or plain for quoted, plain in re.findall(r"'([^']*)'|(\S+)", line)]
    return [re.sub(r"^T(?=/|$)", t.tree, re.sub(r"^X(?=/|$)", t.path("outside"), word)) for word in words]


def _fits(value, shape, where):
    """What is wrong with it, or None."""
    if shape is None:
        return None
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{where} is no object: {value!r}"
        for name, inner in shape.items():
            if name not in value:
                return f"{where} has no {name}: {sorted(value)}"
            if wrong := _fits(value[name], inner, f"{where}.{name}"):
                return wrong
        return None
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is no list: {value!r}"
        return next((wrong for item in value if (wrong := _fits(item, shape[0], where + "[]"))), None)
    wrong_bool = isinstance(value, bool) and shape is not bool
    return None if isinstance(value, shape) and not wrong_bool else f"{where} is {value!r}"


def _try(t, row):
    line, status, says = row
    done = t.cli(*_words(t, line), cwd=t.tree)
    statuses = status if isinstance(status, tuple) else (status,)
    said, err = done.out.decode("utf-8", "replace"), done.err.decode("utf-8", "replace")
    what = f"pcache {line}"
    t.check(done.status in statuses, f"{what}: status {done.status}, expected {status} ({err!r})")
    t.check("\033" not in said + err, f"{what}: control characters, off a terminal")
    t.check(not re.search(r"(?m)[ \t]+$", said) or said.startswith("<!DOCTYPE"), f"{what}: blanks at ends of lines: {said!r}")
    if says is None:
        return
    if says in SHAPES:
        try:
            wrong = _fits(json.loads(said), SHAPES[says], says)
        except ValueError:
            wrong = f"no JSON: {said!r}"
        t.check(not wrong, f"{what}: {wrong}")
        t.equal(err, "", f"{what}: stderr")
    elif 0 in statuses:
        t.check(re.search(says, said), f"{what}: said {said!r}, expected /{says}/")
    else:
        t.check(re.search(says, err), f"{what}: said {err!r}, expected /{says}/")
        t.check(said == "", f"{what}: stdout {said!r}")
        if not line.startswith("umount"):  # who is in a busy mount is listed
            t.check(err.startswith("pcache: ") and err.count("\n") == 1, f"{what}: not one line of pcache's: {err!r}")


def _prepare(t):
    os.mkdir(t.path("outside"))
    t.write("in", "one\n")
    t.write("make.sh", "cat in > out; ls > /dev/null\n")
    t.ignore |= {"out", "now"}


@scenario(timeout=120)
def every_command_before_any_run(t):
    _prepare(t)
    for row in BEFORE_ANY_RUN:
        _try(t, row)


@scenario(timeout=180)
def every_command_after_runs(t):
    _prepare(t)
    for line, status, says in RUNS:
        if "--pid-namespace" in line and os.getuid() != 0:
            continue  # it has scenarios of its own, which know what the machine permits
        done = t.cli(*_words(t, line), cwd=t.tree)
        t.equal(done.status, status, f"pcache {line}: status ({done.err!r})")
        t.check(re.search(says or r"(?m)^pcache: \d+ hits?, \d+ miss(es)?, \d+ not cacheable; saved [\d.]+ m?s$",
                          done.err.decode()), f"pcache {line}: {done.err!r}")
    for row in AFTER_RUNS:
        _try(t, row)
    t.check(not os.path.exists(t.path("cache")), f"clear --all left {t.path('cache')}")


@scenario
def the_table_has_every_option(t):
    """What --help shows of each command stands in a row."""
    tried = {}
    for line, *_ in BEFORE_ANY_RUN + RUNS + AFTER_RUNS + [("shell " + SHELL_OPTIONS,)]:
        words = line.split(" -- ")[0].split()
        command = next((w for w in words if not w.startswith("-")), "")
        tried.setdefault(command, set()).update(w for w in words if w.startswith("-"))
        tried.setdefault("", set()).update(w for w in words if w.startswith("--log-"))

    def options(command):
        told = t.cli(*([command] if command else []), "--help").out.decode()
        return set(re.findall(r"(?m)^  (?:-\w, ?)?(--[a-z-]+)", told)) - {"--help"}

    commands = re.findall(r"(?m)^  ([a-z]+) ", t.cli("--help").out.decode().split("Subcommands:")[1])
    t.check(len(commands) >= 17, f"commands: {commands}")
    for command in ["", *commands]:
        t.check(command in tried, f"no row has {command}")
        left = options(command) - tried.get(command, set())
        t.check(not left, f"no row has {command} {left}")


@scenario
def tables_keep_to_the_terminal(t):
    """No line is wider than the terminal where it can be broken; into a pipe nothing is broken."""
    _prepare(t)
    t.run(["sh", "make.sh"])
    t.write("in", "two\n")
    t.run(["sh", "-c", "cat in > out; date > now"])
    terminal = Terminal(t)
    for columns in (60, 100):
        terminal.command(f"stty cols {columns}")
        for command in ("explain --codes", "doctor", "explain", "config --json > /dev/null; true", "stats"):
            body, _ = terminal.command(f"{t.pcache} {command}")
            lines = body.decode("utf-8", "replace").replace("\r", "").split("\n")
            wide = [line for line in lines if len(line) > columns and " " in line[30:columns]]
            t.check(not wide, f"{command} in {columns} columns: {wide[:3]}")
    body, _ = terminal.command(f"{t.pcache} explain --codes | grep -c .")
    t.equal(int(body), len(t.cli("explain", "--codes").out.splitlines()), "lines, into a pipe")
    terminal.close()


@scenario
def clear_asks_on_a_terminal(t):
    _prepare(t)
    t.run(["sh", "make.sh"])
    terminal = Terminal(t)
    terminal.type(f"{t.pcache} clear; echo status:$?\n")
    terminal.expect("? [y/N] ")
    terminal.type("n\n")
    terminal.expect("Nothing was done.\r\nstatus:1")
    terminal.type(f"{t.pcache} clear --all; echo status:$?\n")
    terminal.expect("? [y/N] ")
    terminal.type("y\n")
    terminal.expect("is gone")
    terminal.expect("status:0")
    terminal.close()
    t.check(not os.path.exists(t.path("cache")), "PCACHE_DIR is left")
    t.check(process.wait_until(lambda: t.daemon() is None), "the daemon is left")


@scenario
def clear_all_keeps_what_is_not_ours(t):
    _prepare(t)
    t.run(["sh", "make.sh"])
    t.mount("--no-seize")
    with open(t.path("cache", "pcache.conf"), "w", encoding="ascii") as f:
        f.write("quiet = no\n")
    with open(t.path("cache", "mine"), "w", encoding="ascii") as f:
        f.write("x\n")
    done = t.cli("clear", "--all", "--yes")
    t.equal(done.status, 0, f"status ({done.err!r})")
    t.check(b"Your settings stay: " in done.out, done.out)
    t.equal(sorted(os.listdir(t.path("cache"))), ["mine", "pcache.conf"], "what is left")
    t.check(not t.mounts(), "still mounted")
    # In use: nothing is removed.
    t.run(["sh", "make.sh"])
    t.mount("--no-seize")
    sleeper = process.subprocess.Popen(["sleep", "30"], cwd=t.tree, env=t.env)
    done = t.cli("clear", "--all", "--yes")
    t.check(done.status == 1 and b"is in use" in done.err, f"in use: {done}")
    t.check(os.path.isdir(t.path("cache", "store")), "the store is gone, though it is in use")
    sleeper.kill()
    sleeper.wait()
    t.umount()


@scenario
def colours_only_on_terminals(t):
    _prepare(t)
    t.run(["sh", "make.sh"])
    t.write("in", "two\n")
    t.run(["sh", "-c", "cat in > out; date > now"])
    terminal = Terminal(t)
    for command in ("explain", "explain --codes", "doctor", "why out", "census -- true"):
        for setting, coloured in (("env -u NO_COLOR TERM=xterm", True), ("env NO_COLOR=1 TERM=xterm", False),
                                  ("env -u NO_COLOR TERM=dumb", False)):
            body, _ = terminal.command(f"{setting} {t.pcache} {command}")
            t.equal(b"\033[" in body, coloured, f"{setting} pcache {command}: colours")
        body, _ = terminal.command(f"env -u NO_COLOR TERM=xterm {t.pcache} {command} | cat")
        t.check(b"\033[" not in body, f"pcache {command} | cat: colours")
    terminal.close()


@scenario
def progress_only_on_terminals(t):
    """gc, verify and umount, which can take long, draw a bar, and take it away at the end."""
    _prepare(t)
    t.run(["sh", "-c", "head -c 3000000 /dev/urandom > big; cat in > out"])
    t.ignore |= {"big"}
    terminal = Terminal(t)
    for command in ("verify", "gc --dry-run"):
        body, status = terminal.command(f"{t.pcache} {command}")
        t.equal(status, 0, f"pcache {command}")
        t.check(re.search(rb"\r\033\[K\[[#.]{30}\] \d.*\r\033\[K[^\r]*\r\n$", body), f"pcache {command}: no bar: {body!r}")
        body, _ = terminal.command(f"{t.pcache} {command} 2> {t.path('err')}")
        t.check(b"\033" not in body and os.path.getsize(t.path("err")) == 0, f"pcache {command} 2> err: a bar")
    terminal.close()


@scenario(users=("root",))
def doctor_on_broken_machines(t):
    """Each fault is found, with what mends it; in a mount namespace of its own where the machine is to be changed."""
    can_hide = process.run(["unshare", "-m", "true"], cwd="/", env=t.env).status == 0
    scope = "/proc/sys/kernel/yama/ptrace_scope"
    with open(t.path("two"), "w", encoding="ascii") as f:
        f.write("2\n")
    nodes = "mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9"
    for number, (script, env, name, level, remedy) in enumerate((
            (f"mount -t tmpfs none /dev; {nodes}", {}, "fuse", "problem", "modprobe fuse.*--device /dev/fuse"),
            (f"mount --bind {t.path('two')} {scope}", {}, "ptrace", "ok", "^$"),
            (f"mount --bind {t.path('two')} {scope}; exec setpriv --reuid=1000 --regid=1000 --clear-groups", {},
             "ptrace", "problem", "sysctl kernel.yama.ptrace_scope=1"),
            ("", {"PCACHE_PROBES": "seccomp"}, "ebpf", "note", "take `probes` out of the settings"),
            ("", {"PCACHE_PROBES": "seccomp"}, "seizing", "note", "pcache run -- CMD"),
            ("", {"PCACHE_MIN_FREE": "99"}, "space", "problem", "pcache gc --max-size 1G"),
            ("", {"PCACHE_MIN_FREE": "plenty"}, "settings", "note", "pcache config"))):
        if script and not can_hide or scope in script and not os.path.exists(scope):
            t.note(f"not here: {script}")
            continue
        own = t.path(f"cache{number}")
        os.mkdir(own, 0o700)
        if "setpriv" in script:
            os.chmod(t.dir, 0o755)
            os.chown(own, 1000, 1000)
        become = script if "exec" in script else f"{script or ':'}; exec"
        done = process.run(["unshare", "-m", "sh", "-c", f"{become} {t.pcache} doctor --json"] if script else
                           [t.pcache, "doctor", "--json"], cwd="/", env={**t.env, **env, "PCACHE_DIR": own})
        findings = {f["name"]: f for f in json.loads(done.out)["findings"]}
        t.equal(findings[name]["level"], level, f"{script or env}: {findings[name]}")
        t.check(re.search(remedy, findings[name]["remedy"]), f"{script or env}: {findings[name]}")
        t.check(all(f["remedy"] for f in findings.values() if f["level"] == "problem"), f"no remedy: {findings}")
        t.equal(done.status, int(any(f["level"] == "problem" for f in findings.values())), f"{script or env}: status")
        gone = process.wait_until(lambda: not process.with_environment("PCACHE_DIR=" + own), 8)
        t.check(gone, f"{script or env}: a daemon is left")
