"""The commands around a run: reports, options, statistics, reasons, and what they refuse."""
import json
import os
import re
import subprocess
import time

from harness import process, scenario


def _says(t, argv, status, pattern, cwd=None, env=None):
    """One clear line (or a listing) on the right stream, and the exit status."""
    done = t.cli(*argv, cwd=cwd, env=env)
    t.equal(done.status, status, f"{argv}: status ({done.err!r})")
    text = (done.out if status == 0 else done.err).decode("utf-8", "replace")
    t.check(re.search(pattern, text), f"{argv}: said {text!r}, expected /{pattern}/")
    if status != 0:
        t.check(len(text.splitlines()) == 1, f"{argv}: more than one line: {text!r}")
        t.check(text.startswith("pcache: "), f"{argv}: does not say who speaks: {text!r}")
    return done


@scenario
def bad_directories(t):
    t.write("file", "x\n")
    t.sh("mkdir sub")
    run = ["--", "true"]
    for command, status, rest in (("mount", 1, []), ("run", 125, run)):
        where = (lambda d: [d]) if command == "mount" else (lambda d: ["--root", d])
        _says(t, [command, *where("/no/such/dir"), *rest], status, "/no/such/dir.*no such directory: ")
        _says(t, [command, *where(t.tree + "/file"), *rest], status, "not a directory: ")
        os.makedirs(t.path("cache", "store", "inside"), exist_ok=True)
        _says(t, [command, *where(t.path("cache", "store", "inside")), *rest], status, "store",
              cwd=t.path("cache", "store", "inside"))
        os.rmdir(t.path("cache", "store", "inside"))
        _says(t, [command, *where(t.dir), *rest], status, "holds the store .*set PCACHE_DIR")
    t.mount()
    _says(t, ["mount", t.tree], 1, "mounted already")
    _says(t, ["mount", t.tree + "/sub"], 1, "unmount it first")
    t.check(t.is_mounted(), "no longer mounted")
    for side in t.sides():
        with open(os.path.join(side, "file"), encoding="ascii") as f:
            t.equal(f.read(), "x\n", "the file in the mount")
    t.umount()
    _says(t, ["umount", t.tree], 1, "not mounted")


@scenario
def another_daemons_mount(t):
    t.mount()
    _says(t, ["mount", t.tree], 1, "another pcache daemon", env={"PCACHE_DIR": t.path("cache2")})
    t.umount()
    gone = process.wait_until(lambda: not process.with_environment("PCACHE_DIR=" + t.path("cache2")))
    t.check(gone, "the other daemon is left")


@scenario
def wrong_usage(t):
    for argv, status in (([], 2), (["nonsense"], 2), (["mount", "--nonsense"], 2), (["run"], 125),
                         (["run", "--nonsense", "true"], 125)):
        done = t.cli(*argv)
        t.equal(done.status, status, f"{argv}: status")
        t.check(done.err, f"{argv}: said nothing on stderr")
    t.equal(t.cli("run", "--", "no-such-command").status, 127, "no such command")
    t.equal(t.cli("run", "--", "/etc/passwd").status, 126, "not executable")
    t.check(t.daemon() is None, "a daemon was started for nothing")


@scenario
def report_is_complete(t):
    t.write("in", "x\n")
    _, report = t.run(["sh", "-c", "cat in > out; exit 3"])
    t.equal(report.json["command"], ["sh", "-c", "cat in > out; exit 3"], "command")
    t.equal(report.json["exit_status"], 3, "exit_status")
    t.equal([e["argv"] for e in report.executions], [["sh", "-c", "cat in > out; exit 3"], ["cat", "in"]],
            "argv of executions")
    shell, cat = report.executions
    t.equal((cat["parent"], shell["cwd"]), (shell["id"], t.tree), "parent, cwd")
    t.check({r["code"] for r in shell["reasons"]} >= {"failed"}, f"reasons: {shell['reasons']}")
    t.equal((report.json["hits"], report.json["misses"], report.json["uncacheable"]), (0, 1, 1), "counts")
    for key in ("id", "parent", "pid", "outcome", "reasons", "cpu_s", "saved_s", "facts", "effects"):
        t.check(key in cat, f"an execution has no {key}")
    t.check(0 < report.json["wall_s"] < 60, "wall_s")
    os.unlink(os.path.join(t.tree, "out"))
    done = t.cli("run", "--root", t.tree, "--report", "/no/dir/r.json", "--", "true", cwd=t.tree)
    t.equal(done.status, 125, "a report that cannot be written")


@scenario
def killed_by_a_signal_in_the_report(t):
    done, report = t.run(["sh", "-c", "kill -TERM $$"])
    t.equal(done.status, 143, "status")
    t.check(report.json["exit_status"] in (143, 128 + 15), f"exit_status {report.json['exit_status']}")


@scenario
def summary_line(t):
    t.write("in", "x\n")
    for expected in (b"pcache: 0 hits, 2 misses, 0 not cacheable; saved 0 s\n",
                     b"pcache: 1 hit, 0 misses, 0 not cacheable; saved "):
        done, _ = t.run(["sh", "-c", "cat in > out; echo e >&2; true"], quiet=False)
        t.check(done.err.startswith(b"e\n" + expected), f"stderr {done.err!r}")
        t.equal(done.out, b"", "stdout")
        os.unlink(os.path.join(t.tree, "out"))
    done, _ = t.run(["sh", "-c", "cat in > out; echo e >&2; true"])
    t.equal(done.err, b"e\n", "stderr with --quiet")
    os.unlink(os.path.join(t.tree, "out"))


@scenario
def disable(t):
    t.write("in", "x\n")
    script = "cat in > out; cat in; exit 3"
    bare = t.run_bare(["sh", "-c", script])
    done = t.cli("run", "--disable", "--root", t.tree, "--", "sh", "-c", script, cwd=t.tree)
    t.equal((done.status, done.out, done.err), (bare.status, bare.out, bare.err), "--disable")
    t.check(t.daemon() is None, "--disable started a daemon")
    t.same_files("--disable")


@scenario
def read_only(t):
    t.write("in", "x\n")
    t.step("cat in > out", options=["--read-only"], hit=False)
    t.sh("rm out")
    t.step("cat in > out", options=["--read-only"], hit=False, what="nothing was recorded")
    t.sh("rm out")
    t.step("cat in > out", hit=False, what="recorded now")
    t.sh("rm out")
    t.step("cat in > out", options=["--read-only"], hit=True, what="hits")
    t.write("in", "y\n")
    t.step("cat in > out", options=["--read-only"], hit=False, what="changed")


@scenario
def recache(t):
    t.write("in", "x\n")
    for _ in range(2):
        t.step("cat in > out", options=["--recache"], hit=False, ran={"sh": 1, "cat": 1})
        t.sh("rm out")
    t.step("cat in > out", hit=True, what="what --recache recorded hits")
    t.sh("rm out")
    t.step("cat in > out", options=["--recache"], hit=False, what="not with --recache")


@scenario
def stats_and_clear(t):
    t.write("in", "x\n")
    for _ in range(3):
        t.step("cat in > out")
        t.sh("rm out")
    stats = json.loads(t.cli("stats", "--json").out)
    t.equal((stats["runs"], stats["hits"], stats["misses"], stats["uncacheable"]), (3, 2, 2, 0), "counts")
    t.check(stats["records"] >= 2 and stats["blobs"] >= 1 and stats["saved_s"] > 0, f"stats {stats}")
    t.equal((stats["last_run"]["hits"], stats["last_run"]["misses"]), (1, 0), "last run")
    _says(t, ["stats"], 0, r"hits +2")
    _says(t, ["stats", "--zero"], 0, "zero")
    t.equal(json.loads(t.cli("stats", "--json").out)["runs"], 0, "runs after --zero")
    _says(t, ["clear"], 1, "--yes")
    _says(t, ["clear", "--yes"], 0, "Cleared")
    t.equal(json.loads(t.cli("stats", "--json").out)["records"], 0, "records after clear")
    t.step("cat in > out", hit=False, what="after clear")


@scenario
def records_outlive_the_daemon(t):
    t.write("in", "x\n")
    t.step("cat in > out", hit=False)
    t.stop()
    t.sh("rm out")
    t.step("cat in > out", hit=True, what="another daemon")
    runs = json.loads(t.cli("stats", "--json").out)["runs"]
    t.equal(runs, 2, "runs counted over both daemons")


@scenario
def explain_names_the_reason(t):
    t.write("in", "x\n")
    t.write("unrelated/file", "x\n")
    script = "cat in > out; cat missing 2> /dev/null; ls unrelated; true"
    env = {"SETTING": "1"}
    for edit, expected in (("true", r"no-record"), ("echo y > in", r"content-changed +in\b"),
                           ("echo now > missing", r"appeared +missing\b"), ("rm missing", None),
                           ("touch unrelated/new", r"listing-changed +unrelated +new was added"),
                           ("rm unrelated/file", r"listing-changed +unrelated +.*file was removed"),
                           ("chmod 600 in; echo z > in", r"(mode|content)-changed +in\b")):
        t.sh(edit)
        report = t.step(script, env=env, what=edit)
        if expected is None:
            continue
        done = _says(t, ["explain"], 0, expected)
        t.check(b"sh -c" in done.out, f"after {edit}: the command is not named: {done.out!r}")
        t.check(not report.whole_hit(), f"after {edit}: hit")
        listed = json.loads(t.cli("explain", "--json").out)["executions"]
        codes = {r["code"] for e in listed for r in e["reasons"]}
        t.equal(codes, report.codes(), f"after {edit}: codes of explain and of the report")
    t.step(script, env={"SETTING": "2"}, hit=False)
    _says(t, ["explain"], 0, r"key-changed +.*SETTING")
    t.step("cat in", stdin=b"", what="another program")
    t.step("kill -TERM $$", hit=False)
    _says(t, ["explain"], 0, r"killed")
    t.step("date > /dev/null", hit=False)
    _says(t, ["explain", "date"], 0, r"(never|not) cached")


@scenario
def explain_after_a_hit_and_before_any_run(t):
    _says(t, ["explain"], 1, "no run is recorded yet")
    for _ in range(2):
        t.step("echo x")
    _says(t, ["explain"], 0, "nothing ran")
    _says(t, ["explain", "no-such-text"], 0, "Nothing that ran has|nothing ran")


@scenario
def status_shows_what_is(t):
    _says(t, ["status"], 0, "not running")
    t.mount()
    _says(t, ["status"], 0, re.escape(t.tree) + " +passthrough: ")
    status = json.loads(t.cli("status", "--json").out)
    t.equal((status["running"], status["pid"], len(status["mounts"])), (True, t.daemon(), 1), "status --json")
    child = subprocess.Popen([t.pcache, "run", "--quiet", "--root", t.tree, "--", "sleep", "20"], cwd=t.tree,
                             env=t.environment(t.tree), stdin=subprocess.DEVNULL)
    shown = process.wait_until(lambda: b"sleep 20" in t.cli("status").out)
    t.check(shown, "a running session is not shown")
    done = t.cli("umount", t.tree)
    t.check(done.status == 1 and b"in use" in done.err, f"umount of what is in use: {done.err!r}")
    child.terminate()
    t.equal(child.wait(timeout=10), -15, "SIGTERM ended the command")
    t.umount()


@scenario
def one_daemon_for_many_at_once(t):
    children = [subprocess.Popen([t.pcache, "run", "--quiet", "--root", t.tree, "--", "sh", "-c",
                                  f"echo {i}; exit {i}"], cwd=t.tree, env=t.environment(t.tree),
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for i in range(8)]
    for i, child in enumerate(children):
        out, err = child.communicate(timeout=30)
        t.equal((child.returncode, out, err), (i, b"%d\n" % i, b""), f"run {i}")
    daemons = [p for p in process.with_environment("PCACHE_DIR=" + t.env["PCACHE_DIR"]) if "pcached" in p[1]]
    t.equal(len(daemons), 1, f"daemons: {daemons}")


@scenario
def idle_daemon_uses_no_cpu_and_ends(t):
    t.write("in", "x\n")
    t.step("cat in > out", hit=False)
    t.mount("--no-seize")  # else it is asked about execs of the whole machine
    pid = t.daemon()

    def ticks():
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            words = f.read().rsplit(")", 1)[1].split()
        return int(words[11]) + int(words[12])

    time.sleep(0.5)
    before = ticks()
    time.sleep(2.5)
    # Others mount and unmount meanwhile, and it looks each time.
    t.check(ticks() - before <= 4, f"{ticks() - before} ticks in 2.5 s of idleness")
    t.equal(t.daemon(), pid, "the daemon with a mount")
    t.umount()
    t.check(process.wait_until(lambda: t.daemon() is None, 8), "the idle daemon goes on")


@scenario
def foreground_daemon(t):
    pcached = os.path.join(t.programs, "pcached")
    child = subprocess.Popen([pcached, "--foreground"], env=t.env, cwd=t.dir, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.check(process.wait_until(lambda: t.daemon() == child.pid), "it does not serve")
    t.step("echo x", hit=False)
    t.mount()
    child.terminate()
    t.equal(child.wait(timeout=10), 0, "status after SIGTERM")
    t.check(not t.mounts(), "still mounted")


@scenario
def socket_is_private(t):
    t.mount()
    with open(t.path("cache", "daemon.pid"), encoding="utf-8") as f:
        socket = f.read().splitlines()[1]
    t.equal(oct(os.stat(socket).st_mode & 0o777), "0o600", "mode of the socket")
    t.equal(oct(os.stat(os.path.dirname(socket)).st_mode & 0o777), "0o700", "mode of its directory")
    t.umount()


@scenario(users=("root",))
def another_user_is_refused(t):
    t.mount()
    with open(t.path("cache", "daemon.pid"), encoding="utf-8") as f:
        socket = f.read().splitlines()[1]
    ask = ("import socket, sys\ns = socket.socket(socket.AF_UNIX)\ntry:\n  s.connect(sys.argv[1])\n"
           "  s.settimeout(3); print(len(s.recv(9)))\nexcept OSError as e: print('refused', e.errno)")
    done = process.run(["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "python3", "-c", ask, socket],
                       cwd="/", env=t.env)
    t.check(done.out.startswith(b"refused") or done.out == b"0\n", f"another user got {done.out!r}")
    t.umount()


@scenario
def nothing_is_left_behind(t):
    """A journey through everything; then no process, no mount, no file in /tmp of ours."""
    def ours():
        found = {os.path.join("/tmp", n) for n in os.listdir("/tmp")}
        private = f"/tmp/pcache-{os.getuid()}"
        if os.path.isdir(private):
            found |= {os.path.join(private, n) for n in os.listdir(private)}
        return {f for f in found if os.lstat(f).st_uid == os.getuid() and "pcache" in f
                and not f.startswith("/tmp/pcache-e2e") and f != private}

    t.write_all({"a.c": "int a;\n", "Makefile": "all: a.o\n\thead -c 2000000 /dev/zero > big\na.o: a.c\n\tgcc -c a.c\n"})
    t.step("make; sleep 0", what="make in a temporary mount")
    t.mounted = True
    t.sh("rm a.o big")
    t.step("make; false; true", what="make in a mount that stays")
    t.step("kill -9 $$")
    t.cli("explain")
    t.cli("stats")
    socket = None
    with open(t.path("cache", "daemon.pid"), encoding="utf-8") as f:
        socket = f.read().splitlines()[1]
    t.mounted = False
    t.leftovers()
    t.check(socket not in ours(), f"{socket} is left")
    t.check(not [n for n in os.listdir(t.path("cache")) if n.startswith("daemon.pid")], "daemon.pid is left")
    names = os.listdir(t.path("cache", "store"))
    t.check(not [n for n in names if "tmp" in n and os.listdir(t.path("cache", "store", n))],
            f"temporary files in the store: {names}")
