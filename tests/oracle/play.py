"""Plays a history, under pcache in one copy and bare in the other, and says where they differ.

Times need care, because two runs of one thing happen at different moments. What was written in a run has
the time "now" in both copies, and any other time must be equal. The bare copy then gets the other's
times, so that the next run starts from equal states; pcache's copy is left alone, since its stamps are
what pcache trusts.
"""
import collections
import os
import shutil
import time

from harness import process, tree, world

TIMEOUT = 40
TICK = 0.025  # longer than a tick of the clock that stamps files
# In no order: what is written side by side, copies of what is read in the order of a directory, and
# streams, which a hit writes after its outputs.
UNORDERED = ("out/k", "out/copy", "out/same", "out/log"), (".0", ".1")


def _can_be_started(path):
    """An edit may have left a script without its first line."""
    try:
        with open(path, "rb") as f:
            return os.access(path, os.X_OK) and f.read(2) in (b"#!", b"\x7fE")
    except OSError:
        return False


class Mismatch(Exception):
    def __init__(self, step, what):
        super().__init__(what)
        self.step, self.what = step, what


class Player:
    """One world with one daemon for many histories. Counts what it did in `counts`."""

    def __init__(self, programs, acts=None, control=False):
        self.programs, self.control = programs, control
        self.world = world.World(programs)
        self.world.env["PCACHE_IDLE_S"] = "30"
        self.acts = acts or self.helper()
        self.counts = collections.Counter()
        self.pid = None

    def helper(self):
        built = self.world.helper("acts")
        if os.path.exists(built):
            return built
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "acts.c")
        out = self.world.path("acts")
        done = process.run(["cc", "-D_GNU_SOURCE", "-O1", "-pthread", source, "-o", out], cwd="/",
                           env=self.world.env)
        if done.status != 0:
            raise RuntimeError("acts.c does not build: " + done.err.decode())
        return out

    def close(self, keep=False):
        t = self.world
        try:
            t.cli("umount", "--all")
        except process.TimedOut:
            pass
        if keep:
            print(f"kept: {t.dir}", flush=True)
        else:
            t.remove()

    # --- one history ---

    def play(self, history):
        """Raises Mismatch."""
        t = self.world
        self.reset()
        if history["mounted"] and not self.control:
            t.mount()
        self.pid = t.daemon()
        try:
            for at, step in enumerate(history["steps"]):
                kind = step[0]
                try:
                    found = self.run(step[1]) if kind == "run" else self.edit(step)
                except process.TimedOut as error:
                    found = [f"timed out: {error}"]
                if self.pid and t.daemon() != self.pid:
                    found.append("the daemon died: " + t.log(600))
                    self.pid = None
                if found:
                    raise Mismatch(at, found)
        finally:
            if t.mounts():
                t.cli("umount", t.tree)

    def reset(self):
        t = self.world
        if not self.control:
            if t.mounts():
                t.cli("umount", "--lazy", t.tree)
            t.cli("clear", "--yes")
        for name in ("bare", "tree", "bare-saved", "tree-saved", "tmpB", "tmpT", "home"):
            path = t.path(name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            os.mkdir(path)

    def edit(self, step):
        t = self.world
        before = [tree.times(side) for side in t.sides()]
        started = time.time_ns()
        time.sleep(TICK)
        if step[0] == "edit":
            results = [t.run_bare(["sh", "-c", step[1].replace("@acts", self.acts)], side,
                                  env={"SAVED": "@-saved"}, timeout=TIMEOUT) for side in t.sides()]
            if results[0].status != results[1].status:
                return [f"the edit ended with {results[0].status} bare, {results[1].status} in the other: "
                        f"{results[1].err}"]
        else:
            for side in t.sides():
                write(os.path.join(side, step[1]), step[2], step[3], self.acts)
        return self.differences(before, started, started, ordered=False)

    def run(self, run):
        t = self.world
        argv = [word.replace("@acts", self.acts) for word in run["argv"]]
        how = {"env": run.get("env"), "umask": run.get("umask", 0o022), "timeout": TIMEOUT,
               "joined": run.get("joined", False)}
        if argv[0].startswith("./") and not _can_be_started(os.path.join(t.bare, argv[0])):
            return []
        loose = "-j2" in argv
        before = [tree.times(side) for side in t.sides()]
        started, done = [], []
        for side in t.sides():
            with standard_input(side, run.get("stdin")) as stdin:
                started.append(time.time_ns())
                time.sleep(TICK)  # a file's time may be that of the last tick
                if side == t.bare or self.control:
                    done.append(t.run_bare(argv, side, stdin=stdin, **how))
                else:
                    done.append(self.cached(argv, stdin, how))
        self.counts["runs"] += 1
        found = []
        for name, (bare, cached) in (("exit status", [d.status for d in done]),
                                     ("stdout", [d.out for d in done]),
                                     ("stderr", [d.err for d in done])):
            if isinstance(cached, bytes):
                cached = t._bare_named(cached)
                # Jobs side by side write pieces of lines between one another's, and so do the parts of
                # a pipeline to stderr.
                if (loose or name == "stderr") and sorted(bare) == sorted(cached):
                    continue
            if bare != cached:
                found.append(f"{name}: {short(bare)} bare, {short(cached)} under pcache")
        if argv[0] == "make" and done[0].status == 0:
            stale = [t.run_bare(["make", "-q"], side, timeout=TIMEOUT).status for side in t.sides()]
            if stale[0] != stale[1]:
                found.append(f"make -q: {stale[0]} bare, {stale[1]} under pcache")
        return found + self.differences(before, *started, ordered=not loose)

    def cached(self, argv, stdin, how):
        done, report = self.world.run(argv, stdin=stdin, **how)
        if report is None:
            raise process.TimedOut(f"no report; stderr: {done.err[-400:]}")
        if report.json["warning"]:
            raise process.TimedOut("it warned: " + report.json["warning"])
        self.counts["executions"] += len(report.executions)
        self.counts["hits"] += report.json["hits"]
        self.counts["whole"] += report.whole_hit()
        self.counts["partial"] += not report.whole_hit() and report.json["hits"] > 0
        os.unlink(self.world.path("reports", f"{self.world.steps}.json"))
        return done

    # --- comparing ---

    def differences(self, before, started_bare, started_cached, ordered):
        t = self.world
        swap = (t.tree.encode(), t.bare.encode())
        bare, cached = tree.snapshot(t.bare), tree.snapshot(t.tree, swap=swap)
        found = tree.differences(bare, cached)
        after = [tree.times(side) for side in t.sides()]
        fresh = {}
        for name, (_, time_bare, _) in after[0].items():
            if name not in after[1]:
                continue
            time_cached = after[1][name][1]
            if name in bare and bare[name]["kind"] != "d" and name in cached:
                kinds = [age(time_bare, started_bare), age(time_cached, started_cached)]
                if kinds[0] != kinds[1]:
                    found.append(f"{name}: mtime is {kinds[0]} bare, {kinds[1]} under pcache")
                if kinds == ["now", "now"] and not name.startswith(UNORDERED[0]) and \
                        not name.endswith(UNORDERED[1]):
                    fresh[name] = (time_bare, time_cached)
            if time_bare != time_cached:
                os.utime(os.path.join(t.bare, name), ns=(time_cached, time_cached), follow_symlinks=False)
        if ordered:
            found += out_of_order(fresh)
        for name in ("tmpB", "tmpT"):
            if left := os.listdir(t.path(name)):
                found.append(f"left in {name}: {left}")
        return found[:6]


def out_of_order(fresh):
    """make and `-nt` compare times: what was written later must not look older."""
    names = sorted(fresh, key=lambda name: fresh[name][0])
    for first, second in zip(names, names[1:]):
        if fresh[first][0] < fresh[second][0] and fresh[first][1] > fresh[second][1]:
            return [f"{second} is newer than {first} bare, and older under pcache"]
    return []


def age(mtime, started):
    # The kernel's clock for files may be a tick behind.
    return "now" if mtime > started else mtime


def write(path, mode, text, acts):
    if os.path.islink(path):
        os.unlink(path)
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(text).replace("@acts", acts) + "\n")
    os.chmod(path, mode)


def standard_input(side, name):
    path = os.path.join(side, name) if name else "/dev/null"
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        path = "/dev/null"
    return open(path, "rb")


def short(value):
    text = repr(value)
    return text if len(text) < 300 else f"{text[:180]}…{text[-100:]}"
