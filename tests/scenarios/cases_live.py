"""What shows a run while it runs: pcache top, and .pcache/ at the root of a mount."""
import errno
import json
import os
import pty
import re
import select
import signal
import struct
import fcntl
import subprocess
import termios
import time

from harness import process, scenario

SLOW = "cat in > copied; sh -c 'sleep 30 & wait; :' sleeper"


def _start(t, *argv, **how):
    """pcache run in the background, in a process group of its own."""
    return subprocess.Popen([t.pcache, "run", "--quiet", "--root", t.tree, *argv], cwd=t.tree,
                            env=t.environment(t.tree), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, start_new_session=True, **how)


def _end(child):
    try:
        os.killpg(child.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    child.communicate(timeout=20)


def _top(t):
    done = t.cli("top", "--json")
    t.equal((done.status, done.err), (0, b""), "top --json")
    return json.loads(done.out)


def _runs_now(state):
    return [e["argv"][0] for s in state["sessions"] for e in s["running"] if e["working"]]


@scenario
def top_of_nothing(t):
    for options in ([], ["--once"]):
        done = t.cli("top", *options)
        t.equal((done.status, done.out), (0, b"No daemon runs, so no command does.\n"), f"top {options}, no daemon")
    t.equal(_top(t), {"running": False, "sessions": [], "mounts": []}, "as JSON")
    t.check(t.daemon() is None, "top started a daemon")
    t.mount()
    done = t.cli("top")
    t.equal((done.status, done.out), (0, b"No command runs under pcache now.\n"), "a daemon, no session")
    state = _top(t)
    t.equal((state["running"], state["sessions"], [m["dir"] for m in state["mounts"]]), (True, [], [t.tree]), "JSON")
    t.equal(t.cli("top", "--nonsense").status, 2, "a wrong option")


@scenario
def top_of_a_session(t):
    t.write("in", "x\n")
    child = _start(t, "--", "sh", "-c", SLOW)
    t.check(process.wait_until(lambda: "sleep" in _runs_now(_top(t)), 15), f"sleep is not seen: {_top(t)}")
    state = _top(t)
    session = state["sessions"][0]
    t.equal(session["command"], ["sh", "-c", SLOW], "its command")
    t.equal((session["root"], session["pid"]), (t.tree, child.pid), "its root and pid")
    t.equal((session["hits"], session["misses"], session["executions"]), (0, 1, 1), "cat has run")
    t.check(0 < session["wall_s"] < 60 and session["rate"] > 0, f"time and rate: {session}")
    argv = [e["argv"] for e in session["running"]]
    t.equal(argv, [["sh", "-c", SLOW], ["sh", "-c", "sleep 30 & wait; :", "sleeper"], ["sleep", "30"]], "what runs")
    t.equal([e["working"] for e in session["running"]], [False, False, True], "who works")
    t.equal(session["running"][2]["parent"], session["running"][1]["id"], "parents")
    t.check(os.path.exists(f"/proc/{session['running'][2]['pid']}"), "its process id")
    done = t.cli("top")
    text = done.out.decode()
    t.check(re.search(r"^sh -c .*\n  in .*/tree, pid \d+\n", text), f"for people: {text}")
    t.check(re.search(r"executions/s +0 hits +1 miss +0 not cacheable +saved 0 s\n", text), f"counts: {text}")
    t.check(re.search(r"\n +\d+ +\d.* m?s +sleep 30\n", text), f"what runs now: {text}")
    t.check("\033" not in text, "control sequences off a terminal")
    _end(child)
    gone = process.wait_until(lambda: not _top(t)["sessions"])
    t.check(gone, f"the session is still shown: {_top(t)}")
    t.sh("rm -f copied")


class Screen:
    """top on a terminal of 60 columns."""

    def __init__(self, t):
        self.seen = b""
        self.t = t
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir("/")
            os.execve(t.pcache, ["pcache", "top"], dict(t.environment(t.tree), TERM="xterm"))
        self.size(60, 20)

    def size(self, columns, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds):
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and select.select([self.fd], [], [], left)[0]:
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError:
                return

    def wait_for(self, pattern, seconds=10):
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.seen) and time.monotonic() < deadline:
            self.read(0.2)
        return self.t.check(re.search(pattern, self.seen), f"{pattern!r} did not come: {self.seen[-600:]!r}")

    def close(self, key, what, status=0):
        before = termios.tcgetattr(self.fd)[3]
        self.t.check(not before & termios.ECHO, "keys are echoed")
        if isinstance(key, str):
            os.write(self.fd, key.encode())
        else:
            os.kill(self.pid, key)
        self.read(2)
        done = process.wait_until(lambda: [d for d in [os.waitpid(self.pid, os.WNOHANG)] if d[0]])
        if not done:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.t.check(False, f"top goes on after {what}")
        else:
            self.t.equal(os.waitstatus_to_exitcode(done[0][1]), status, f"status after {what}")
        self.t.check(self.seen.rstrip().endswith(b"\033[?25h\033[?1049l"), f"{what}: the terminal is not as before: "
                     f"{self.seen[-80:]!r}")
        os.close(self.fd)


@scenario
def top_on_a_terminal(t):
    t.write("in", "x\n")
    child = _start(t, "--", "sh", "-c", SLOW + " " + "word " * 40)
    t.check(process.wait_until(lambda: "sleep" in _runs_now(_top(t)), 15), "sleep is not seen")
    screen = Screen(t)
    screen.wait_for(rb"\x1b\[\?1049h\x1b\[\?25l\x1b\[H")
    screen.wait_for(rb"sleep 30\x1b\[K\r\n")
    screen.wait_for(rb"(?s)sleep 30\x1b.*sleep 30\x1b.*sleep 30\x1b", 6)  # it refreshes
    lines = [re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", line) for shown in screen.seen.split(b"\x1b[H")[2:]
             for line in shown.split(b"\r\n")]
    t.check(max(len(line) for line in lines) <= 60, f"wider than the terminal: {max(lines, key=len)!r}")
    screen.size(44, 10)
    os.kill(screen.pid, signal.SIGWINCH)
    screen.read(1)
    screen.close("q", "q")
    screen = Screen(t)
    screen.wait_for(rb"sleep 30")
    screen.close("\x03", "Ctrl-C")
    screen = Screen(t)
    screen.wait_for(rb"sleep 30")
    screen.close(signal.SIGTERM, "SIGTERM", 128 + signal.SIGTERM)
    screen = Screen(t)
    screen.wait_for(rb"sleep 30")
    _end(child)
    screen.wait_for(rb"No command runs under pcache now")
    screen.close("q", "q, when nothing runs any more")
    t.sh("rm -f copied")


def _fails_with(t, what, allowed, function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return t.check(error.errno in allowed, f"{what}: {error}")
    return t.check(False, f"{what}: it worked")


@scenario
def view_is_the_same_as_the_commands(t):
    t.write("in", "x\n")
    t.mount()
    view = os.path.join(t.tree, ".pcache")

    def read(name):
        with open(os.path.join(view, name), encoding="utf-8") as f:
            return json.load(f)

    t.equal(read("last-run.json"), {}, "no run yet")
    t.run(["sh", "-c", "cat in; date > /dev/null"])
    status, said = read("status.json"), json.loads(t.cli("status", "--json").out)
    for values in (status, said):
        t.check(values.pop("uptime_s") > 0, "uptime")
        for mount in values["mounts"]:
            mount.pop("requests"), mount.pop("nodes")
    t.equal(status, said, "status.json")
    t.equal(read("stats.json"), json.loads(t.cli("stats", "--json").out), "stats.json")
    t.equal(read("last-run.json"), json.loads(t.cli("graph", "--format", "json").out), "last-run.json")
    t.equal(sorted(os.listdir(view)), ["last-run.json", "stats.json", "status.json"], "what it lists")
    for name in os.listdir(view):
        done = t.run_bare(["sh", "-c", f"cat .pcache/{name}; tail -c 3 .pcache/{name}; cp .pcache/{name} ../{name}"], t.tree)
        t.equal((done.status, done.err), (0, b""), f"read by others: {name}")
        with open(t.path(name), "rb") as f:
            t.check(done.out.endswith(b"\n}\n") and json.loads(f.read()) is not None, f"a copy of {name}")
    done = t.run_bare(["ls", "-l", ".pcache"], t.tree)
    t.equal((done.status, done.err), (0, b""), "ls -l")
    t.umount()
    t.check(not os.path.exists(view), "there without a mount")


@scenario
def view_is_in_no_listing(t):
    t.write("in", "x\n")
    t.sh("git init -q . && git add in && git -c user.name=t -c user.email=t@t commit -qm one")
    commands = ["ls -a", "find . | sort", "tar cf - --exclude=.git . | tar tf - | sort", "git status --porcelain",
                "git add -A --dry-run .", "du -a --exclude=.git . | cut -f2 | sort", "echo .* *",
                "python3 -c 'import os; print(sorted(os.listdir()), sorted(e.name for e in os.scandir()))'"]
    truth = [t.run_bare(["sh", "-c", c], t.tree).out for c in commands]
    t.mount()
    os.stat(os.path.join(t.tree, ".pcache", "status.json"))  # the kernel has met it
    for command, expected in zip(commands, truth):
        t.equal(t.run_bare(["sh", "-c", command], t.tree).out, expected, command)
    t.umount()
    t.sh("rm -rf .git")  # another one in each copy


@scenario
def view_cannot_be_changed(t):
    t.write("in", "x\n")
    t.sh("mkdir sub")
    t.mount()
    view = os.path.join(t.tree, ".pcache")
    refused = (errno.EROFS, errno.EPERM, errno.EACCES)
    status = os.path.join(view, "status.json")
    _fails_with(t, "create", refused, open, os.path.join(view, "new"), "w")
    _fails_with(t, "write", refused, open, status, "w")
    _fails_with(t, "append", refused, open, status, "a")
    _fails_with(t, "truncate", refused, os.truncate, status, 0)
    _fails_with(t, "unlink", refused, os.unlink, status)
    _fails_with(t, "mkdir in it", refused, os.mkdir, os.path.join(view, "d"))
    _fails_with(t, "rmdir", refused, os.rmdir, view)
    _fails_with(t, "symlink", refused, os.symlink, "x", os.path.join(view, "l"))
    _fails_with(t, "link out", (*refused, errno.EXDEV), os.link, status, os.path.join(t.tree, "out"))
    _fails_with(t, "link in", refused, os.link, os.path.join(t.tree, "in"), os.path.join(view, "in"))
    _fails_with(t, "rename out", refused, os.rename, status, os.path.join(t.tree, "out"))
    _fails_with(t, "rename in", refused, os.rename, os.path.join(t.tree, "in"), os.path.join(view, "in"))
    _fails_with(t, "rename it", refused, os.rename, view, os.path.join(t.tree, "out"))
    _fails_with(t, "rename over it", refused, os.rename, os.path.join(t.tree, "sub"), view)
    _fails_with(t, "chmod", refused, os.chmod, status, 0o777)
    _fails_with(t, "utime", refused, os.utime, view)
    _fails_with(t, "setxattr", (*refused, errno.ENOTSUP), os.setxattr, status, "user.a", b"b")
    _fails_with(t, "another name", (errno.ENOENT,), os.stat, os.path.join(view, "other.json"))
    _fails_with(t, "below a directory", (errno.ENOENT,), os.stat, os.path.join(t.tree, "sub", ".pcache"))
    t.equal(os.statvfs(view).f_bsize, os.statvfs(t.tree).f_bsize, "statvfs")
    t.equal(os.listxattr(status), [], "listxattr")
    t.umount()


@scenario
def view_gives_way_to_what_is_there(t):
    t.write(".pcache/mine", "x\n")
    t.mount()
    t.equal(os.listdir(os.path.join(t.tree, ".pcache")), ["mine"], "the real directory")
    t.step("cat .pcache/mine", hit=False)
    t.step("cat .pcache/mine", hit=True)
    t.write(".pcache/mine", "y\n")
    t.step("cat .pcache/mine", hit=False)
    t.sh("rm -r .pcache")
    with open(os.path.join(t.tree, ".pcache", "status.json"), encoding="utf-8") as f:
        t.check(json.load(f)["running"], "the view, once nothing is in its way")
    t.umount()
    t.write(".pcache/mine", "z\n")  # below, before the next mount
    t.mount()
    t.equal(os.listdir(os.path.join(t.tree, ".pcache")), ["mine"], "the real directory again")
    t.umount()


@scenario(timeout=120)
def view_is_no_dependency(t):
    """Whoever looks at it is run each time, and so is who runs that; others are not concerned."""
    t.write("in", "x\n")
    t.write("cd.sh", "cd .pcache && cat stats.json | head -c 1\n")
    t.mount()
    looks = {"cat .pcache/stats.json > /dev/null; cat in": True,
             "[ -e .pcache ] && echo there": True,
             "test -f .pcache/status.json; echo $?": True,
             "cat .pcache/../in": True,
             "ls .pcache > /dev/null": True,
             "sh cd.sh": True,
             "head -c 1 < .pcache/stats.json": True,
             "readlink .pcache/status.json; echo $?": True,
             "mkdir .pcache/d 2> /dev/null; echo $?": True,
             "cat in; ls -a; find . > /dev/null": False}
    for command, concerned in looks.items():
        argv = ["sh", "-c", command]
        t.run(argv)
        done, report = t.run(argv)
        t.equal(report.whole_hit(), not concerned, f"{command!r}: a hit whole ({report.reasons()})")
        if concerned:
            t.check("pseudo-file" in report.codes(), f"{command!r}: reasons {report.codes()}")
    done, _ = t.run(["head", "-c", "1"], stdin=open(os.path.join(t.tree, ".pcache", "stats.json"), "rb"))
    t.equal(done.out, b"{", "as standard input")
    _, report = t.run(["head", "-c", "1"], stdin=open(os.path.join(t.tree, ".pcache", "stats.json"), "rb"))
    t.check(not report.whole_hit(), f"as standard input, again: {report.codes()}")
    done, report = t.run(["cat", "stats.json"], cwd=".pcache")
    t.equal(json.loads(done.out)["running"] if b"running" in done.out else True, True, "from within")
    _, report = t.run(["cat", "stats.json"], cwd=".pcache")
    t.check(not report.whole_hit(), f"from within, again: {report.codes()}")
    said = t.cli("explain", "--", "cat", "stats.json").out.decode()
    t.check("pcache's own view" in said, f"explain: {said}")
    t.umount()


@scenario
def view_of_a_run_from_within_it(t):
    """It is made while its own reader is held by the tracer."""
    done, _ = t.run(["python3", "-c", "import json; s = json.load(open('.pcache/status.json')); "
                     "print(s['sessions'][0]['command'][0])"])
    t.equal((done.status, done.out), (0, b"python3\n"), "a session reads of itself")
    script = "for i in 1 2 3 4 5; do cat .pcache/status.json .pcache/stats.json .pcache/last-run.json > /dev/null & done; wait"
    done, _ = t.run(["sh", "-c", script])
    t.equal((done.status, done.err), (0, b""), "many at once")
