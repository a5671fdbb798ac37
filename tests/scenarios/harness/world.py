"""The place of one scenario: two copies of a project, one for the truth and one for pcache.

DIR/bare and DIR/tree start equal, and every edit is made in both. `step` runs a command bare in the
one and under pcache in the other, and compares exit status, streams and all files. A failed check does
not end the scenario: what comes after it often tells more.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import traceback

from . import process, tree
from .registry import Skip
from .report import Report

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# What scenarios start besides the built-in ones.
SEIZED = ["cat", "cp", "mv", "ln", "install", "touch", "sed", "awk", "mawk", "sort", "wc", "ls", "find", "xargs",
          "env", "grep", "head", "ar", "ld", "as", "objcopy", "strip", "git", "stat", "test", "mktemp", "rm"]


class World:
    def __init__(self, programs, mounted=False, data=None, size=None, seized=False):
        self.seized = seized  # commands are started in a mount, without `pcache run`
        self.data = data  # where real.sources put what it fetched
        self.size = size  # of workflows: full, or a number of jobs
        self.dir = tempfile.mkdtemp(prefix="pcache-e2e-", dir="/tmp")
        self.pcache = os.path.join(programs, "pcache")
        self.programs = programs
        self.mounted = mounted
        self.failures = []
        self.start = time.time()
        self.bare, self.tree = self.path("bare"), self.path("tree")
        self.ignore = set()
        self.steps = 0
        self.last = self.truth = None
        for name in ("bare", "tree", "home", "tmpB", "tmpT", "reports"):
            os.mkdir(self.path(name))
        self.env = {"PATH": PATH, "HOME": self.path("home"), "LC_ALL": "C.UTF-8",
                    "PCACHE_DIR": self.path("cache"), "PCACHE_IDLE_S": "2", "PCACHE_MIN_FREE": "0", "NO_COLOR": "1"}
        self.finished = False
        os.chdir("/")

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def helper(self, name):
        return os.path.join(self.programs, "e2e", name)

    # --- what went wrong ---

    def check(self, condition, message):
        if not condition:
            self.failures.append(message)
            print(f"FAILED: {message}", flush=True)
        return bool(condition)

    def equal(self, got, expected, what):
        return self.check(got == expected, f"{what}: {_short(got)}, expected {_short(expected)}")

    def note(self, text):
        print(text, flush=True)

    # --- edits ---

    def sides(self):
        return (self.bare, self.tree)

    def write(self, name, content, mode=None):
        self.write_all({name: content}, mode)

    def write_all(self, files, mode=None):
        for side in self._edit():
            for name, content in files.items():
                path = os.path.join(side, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as f:
                    f.write(content.encode() if isinstance(content, str) else content)
                if mode is not None:
                    os.chmod(path, mode)

    def sh(self, script):
        """The same edit in both copies, by nobody pcache knows."""
        if not script:
            return
        for side in self._edit():
            # In a mount namespace of its own it is not seized.
            apart = ["unshare", "-m"] if self.seized and side == self.tree else []
            done = self.run_bare([*apart, "sh", "-ec", script], side)
            if done.status != 0:
                raise RuntimeError(f"edit {script!r}: status {done.status}: {done.err.decode()}")

    def _edit(self):
        """Yields both copies; what an edit changed in both gets equal times, as tar would see them."""
        before = [tree.times(side) for side in self.sides()]
        yield from self.sides()
        after = [tree.times(side) for side in self.sides()]
        for name, now in after[0].items():
            if name not in after[1] or before[0].get(name) == now:
                continue
            if before[1].get(name) == after[1][name] or now[1] == after[1][name][1]:
                continue
            os.utime(os.path.join(self.tree, name), ns=(now[1], now[1]), follow_symlinks=False)

    # --- running ---

    def environment(self, side, extra=None):
        env = dict(self.env, TMPDIR=self.path("tmpB" if side == self.bare else "tmpT"))
        for name, value in (extra or {}).items():
            if value is None:
                env.pop(name, None)
            else:
                env[name] = value.replace("@", side)
        return env

    def run_bare(self, argv, side=None, *, cwd=".", env=None, **how):
        side = side or self.bare
        return process.run(argv, cwd=os.path.join(side, cwd), env=self.environment(side, env), **how)

    def cli(self, *argv, cwd=None, env=None, **how):
        """pcache with these arguments."""
        how.setdefault("on_timeout", self.dump)
        return process.run([self.pcache, *argv], cwd=cwd or self.dir,
                           env=self.environment(self.tree, env), **how)

    def run(self, argv, *, cwd=".", options=(), quiet=True, **how):
        """Under pcache only. (what it did, its report)"""
        self.steps += 1
        if self.seized and quiet and self._can_be_seized(argv, options, how.get("env")):
            return self._run_seized(argv, cwd, **how)
        report = self.path("reports", f"{self.steps}.json")
        root = [] if "--root" in options else ["--root", self.tree]
        done = self.cli("run", *root, "--report", report, *(["--quiet"] if quiet else []), *options,
                        "--", *argv, cwd=os.path.join(self.tree, cwd), **how)
        self.last = None
        if os.path.exists(report) and os.path.getsize(report) > 0:
            with open(report, encoding="utf-8", errors="replace") as f:
                self.last = Report(f.read())
        return done, self.last

    def _can_be_seized(self, argv, options, env):
        return not options and shutil.which(argv[0], path=PATH) and \
            not any(name.startswith("PCACHE_") for name in env or ())

    def mount_and_seize(self, *programs):
        """From now on commands are started plainly. Skipped only where the machine lacks what that needs."""
        self.seized = True
        if os.getuid() != 0:
            raise Skip("only root's mounts seize")
        if tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2]) < (6, 9):
            raise Skip(f"Linux {os.uname().release} is older than 6.9")
        seize = " ".join(["+=", *SEIZED, *programs])
        done = self.cli("mount", "--json", self.tree, env={"PCACHE_SEIZE": seize})
        answer = json.loads(done.out)
        if not answer["seizes"]:
            lacks = [why for why in ("no eBPF", "fanotify") if why in answer["seize_problem"]]
            raise (Skip if lacks else RuntimeError)(f"the mount does not seize: {answer['seize_problem']}")

    def _run_seized(self, argv, cwd, env=None, **how):
        if not self.is_mounted():
            self.mount_and_seize(os.path.basename(argv[0]))
        runs = self._runs()
        done = process.run(argv, cwd=os.path.join(self.tree, cwd), env=self.environment(self.tree, env),
                           on_timeout=self.dump, **how)
        self.last = None
        if self._runs() > runs:
            self.last = Report(self.cli("graph", "--format", "json").out.decode("utf-8", "replace"))
        return done, self.last

    def _runs(self):
        return json.loads(self.cli("stats", "--json").out)["runs"]

    def step(self, cmd, *, what="", hit=None, ran=None, compare=True, streams=True, env=None,
             stdin=subprocess.DEVNULL, cwd=".", options=(), joined=False, umask=-1, timeout=60, bare_again=True):
        """CMD (a script, or an argv) bare and under pcache, compared. hit=True: it hit whole; False:
        it did not. ran: exactly these programs ran, {name: how often}. bare_again=False: the last bare
        run's result stands, for what takes long.
        """
        argv = ["sh", "-c", cmd] if isinstance(cmd, str) else cmd
        what = what or (cmd if isinstance(cmd, str) else " ".join(cmd))[:70]
        if self.mounted and not self.is_mounted():
            self.mount()
        how = dict(env=env, cwd=cwd, joined=joined, umask=umask, timeout=timeout)
        given = [open(os.path.join(side, stdin[1:]), "rb")
                 if isinstance(stdin, str) and stdin.startswith("<") else stdin
                 for side in self.sides()]
        if bare_again:
            self.truth = self.run_bare(argv, stdin=given[0], **how)
        bare = self.truth
        done, report = self.done, _ = self.run(argv, stdin=given[1], options=options, **how)
        self.note(f"- {what}: bare {bare.seconds:.2f} s, under pcache {done.seconds:.2f} s"
                  f", ran {dict(report.ran()) if report else '?'}")
        before = len(self.failures)
        self.equal(done.status, bare.status, f"{what}: exit status")
        if streams:
            self.equal(self._bare_named(done.out), bare.out, f"{what}: stdout")
            self.equal(self._bare_named(done.err), bare.err, f"{what}: stderr")
        if compare:
            self.same_files(what)
        if report is None:
            raise RuntimeError(f"{what}: no report was written; stderr: {_short(done.err)}")
        if hit is True:
            self.check(report.whole_hit(), f"{what}: did not hit whole, ran {dict(report.ran())}")
        if hit is False:
            self.check(not report.whole_hit(), f"{what}: hit whole, but had to run")
        if ran is not None:
            self.equal(dict(report.ran()), ran, f"{what}: programs that ran")
        if len(self.failures) > before:
            self.note(report.reasons())
            self.note(f"    (stderr under pcache: {_short(done.err)})")
        return report

    def _bare_named(self, data):
        return data.replace(self.tree.encode(), self.bare.encode()) \
                   .replace(self.path("tmpT").encode(), self.path("tmpB").encode())

    def same_files(self, what):
        swap = (self.tree.encode(), self.bare.encode())
        old = self.start - 3600
        bare = tree.snapshot(self.bare, self.ignore, old)
        cached = tree.snapshot(self.tree, self.ignore, old, swap)
        for line in tree.differences(bare, cached):
            self.check(False, f"{what}: {line}")
        for name in ("tmpB", "tmpT"):
            left = os.listdir(self.path(name))
            self.check(not left, f"{what}: left in TMPDIR ({name}): {left}")
            for entry in left:
                path = self.path(name, entry)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    # --- the daemon and its mounts ---

    def mount(self, *options):
        done = self.cli("mount", *options, self.tree)
        self.check(done.status == 0, f"mount: status {done.status}: {done.err.decode()}")
        return done

    def umount(self, *options):
        done = self.cli("umount", *options, self.tree)
        self.check(done.status == 0, f"umount: status {done.status}: {done.err.decode()}")
        return done

    def mounts(self):
        """Mount points of pcache below our directory."""
        return process.mounts_below(self.dir, "fuse.pcache")

    def is_mounted(self):
        return self.tree in self.mounts()

    def daemon(self):
        """Its pid, or None."""
        try:
            with open(self.path("cache", "daemon.pid"), encoding="ascii") as f:
                pid = int(f.readline())
            os.kill(pid, 0)
            return pid
        except (OSError, ValueError):
            return None

    def kill_daemon(self, sig=signal.SIGKILL):
        pid = self.daemon()
        if pid is None:
            raise RuntimeError("there is no daemon to kill")
        os.kill(pid, sig)
        return pid

    def log(self, bytes_=3000):
        try:
            with open(self.path("cache", "daemon.log"), "rb") as f:
                return f.read()[-bytes_:].decode("utf-8", "replace")
        except OSError:
            return "(no log)"

    def dump(self):
        """The daemon's stacks into our output: for what hangs."""
        if (pid := self.daemon()) is not None:
            os.kill(pid, signal.SIGUSR1)
            time.sleep(1)
        self.note("daemon.log:\n" + self.log(12000))

    def stop(self):
        """Everything unmounted, the daemon gone."""
        done = self.cli("umount", "--all")
        self.check(done.status == 0, f"umount --all: status {done.status}: {done.err.decode()}")
        gone = process.wait_until(lambda: not process.with_environment(
            "PCACHE_DIR=" + self.env["PCACHE_DIR"]))
        self.check(gone, "processes are left: " + str(process.with_environment(
            "PCACHE_DIR=" + self.env["PCACHE_DIR"])))

    def forget(self, commands):
        """Evicts the records of these commands, and tells how many there were. No daemon runs."""
        done = subprocess.run([self.helper("forget_records"), self.path("cache")], input="\n".join(commands), text=True,
                              capture_output=True, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError("forget_records: " + done.stderr)
        return int(done.stdout)

    def leftovers(self):
        socket = None
        try:
            with open(self.path("cache", "daemon.pid"), encoding="utf-8") as f:
                socket = f.read().splitlines()[1]
        except (OSError, IndexError):
            pass
        self.stop()
        self.check(not self.mounts(), f"mounts are left: {self.mounts()}")
        self.check(not (socket and os.path.exists(socket)), f"the socket is left: {socket}")
        for name in ("tmpB", "tmpT"):
            left = os.listdir(self.path(name))
            self.check(not left, f"left in TMPDIR ({name}): {left}")

    def finish(self):
        """The end of every scenario: nothing is left behind, and below the mount is what was in it."""
        self.leftovers()
        if not self.finished and os.path.isdir(self.tree):
            self.same_files("at the end, unmounted")

    def remove(self):
        """Whatever went wrong, nothing of this scenario stays on the machine."""
        for pid, _ in process.with_environment("PCACHE_DIR=" + self.env["PCACHE_DIR"]):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        for mount in sorted(self.mounts(), reverse=True):
            subprocess.run(["fusermount3", "-uz", mount], check=False)
        if process.mounts_below(self.dir):  # rather litter than a removal through a mount
            print(f"mounts are left: {process.mounts_below(self.dir)}")
            return
        for directory, names, _ in os.walk(self.dir):
            for name in names:
                path = os.path.join(directory, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
        shutil.rmtree(self.dir, ignore_errors=True)


def _short(value):
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:200]}…{text[-180:]} ({len(value)} long)"


def describe(error):
    return "".join(traceback.format_exception(error))
