"""What may go wrong around a command: the daemon dies, the disk is full, the store is not usable. The
command has its own status, and no half a file passes for an output."""
import os
import shutil
import signal
import subprocess
import time

from harness import Skip, process, scenario

FILES = 14


def _slow_project(t):
    project = {f"p{i}.c": "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
                          f"int p{i}(void) {{ return {i}; }}\n" for i in range(FILES)}
    project["main.c"] = "int p1(void);\nint main(void) { return p1() - 1; }\n"
    project["gen.sh"] = "head -c 3000000 /bin/bash > blob.tmp; cat blob.tmp blob.tmp > blob; rm blob.tmp\n"
    project["Makefile"] = ("OBJ := main.o $(patsubst %,p%.o,$(shell seq 0 13))\nall: blob prog\nblob: gen.sh\n"
                           "\tsh gen.sh\nprog: $(OBJ)\n\tgcc -o $@ $(OBJ)\n%.o: %.c\n\tgcc -O1 -c -o $@ $<\n")
    t.write_all(project)
    t.equal(t.run_bare(["make", "-s", "-j2"]).status, 0, "bare make")


def _whole_or_missing(t, what):
    """Of all that make builds, below the mount: nothing empty, nothing cut, also not what a compiler was
    writing when it died with the daemon."""
    for name in sorted(os.listdir(t.tree)):
        if not (name.endswith(".o") or name in ("prog", "blob")):
            continue
        with open(os.path.join(t.tree, name), "rb") as a, open(os.path.join(t.bare, name), "rb") as b:
            got, truth = a.read(), b.read()
        t.check(got == truth, f"{what}: {name} has {len(got)} bytes, whole it has {len(truth)}")


def _start_make(t):
    return subprocess.Popen([t.pcache, "run", "--quiet", "--root", t.tree, "--", "make", "-s", "-j2"],
                            cwd=t.tree, env=t.environment(t.tree), stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def _end(t, child, what):
    try:
        child.wait(timeout=20)
        child.stderr.read()
    except subprocess.TimeoutExpired:
        t.check(False, f"{what}: the command did not end within 20 s of the daemon's death")
        process.kill_session(child.pid)
        child.wait()
    child.stderr.close()


def _daemon_dies_in_mid_build(t, sig, mend):
    """Cold with compilers at work, then warm with hits being replayed."""
    _slow_project(t)
    for warm in (False, True):
        for delay in (0.05, 0.15, 0.3, 0.5) if not warm else (0.005, 0.02, 0.05, 0.1):
            what = f"{'warm' if warm else 'cold'}, after {delay} s, {mend}"
            t.run_bare(["sh", "-c", "rm -f *.o prog blob blob.tmp"], t.tree)
            if warm:  # outputs of hits inside a make that itself has to run
                with open(os.path.join(t.tree, "Makefile"), "a", encoding="ascii") as f:
                    f.write(f"# {delay}\n")
            child = _start_make(t)
            process.wait_until(t.daemon)
            process.wait_until(t.is_mounted, 3)
            time.sleep(delay)
            if t.daemon():
                t.kill_daemon(sig)
            _end(t, child, what)
            if sig == signal.SIGTERM:
                process.wait_until(lambda: not t.mounts(), 10)
                t.check(not t.mounts(), f"{what}: still mounted")
            elif mend == "mount":
                t.mount()
                t.umount()
            elif t.mounts():
                t.umount()
            t.check(not t.mounts(), f"{what}: mounts are left")
            _whole_or_missing(t, what)
            done, _ = t.run(["make", "-s", "-j2"])
            t.equal(done.status, 0, f"{what}: make afterwards: {done.err!r}")
            _whole_or_missing(t, f"{what}, then make")
            t.check(os.path.exists(os.path.join(t.tree, "prog")), f"{what}: no prog after make")
            if len(t.failures) > 6:
                return
        done, _ = t.run(["make", "-s", "-j2"])
    t.run_bare(["sh", "-c", "rm -f blob.tmp; rm -f $TMPDIR/cc*"], t.tree)  # of compilers that were killed
    shutil.copy(os.path.join(t.bare, "Makefile"), os.path.join(t.tree, "Makefile"))


@scenario(timeout=150)
def daemon_killed_then_mount_mends(t):
    _daemon_dies_in_mid_build(t, signal.SIGKILL, "mount")


@scenario(timeout=150)
def daemon_killed_then_umount_mends(t):
    _daemon_dies_in_mid_build(t, signal.SIGKILL, "umount")


@scenario(timeout=150)
def daemon_terminated_in_mid_build(t):
    _daemon_dies_in_mid_build(t, signal.SIGTERM, "nothing to mend")


@scenario
def daemon_killed_then_run_mends(t):
    """The next `run` finds a dead mount over the project, and the shell's directory dead with it."""
    t.write("in", "x\n")
    t.mounted = True
    t.step("cat in > out", hit=False)
    script = (f"cd {t.tree}; kill -9 {t.daemon()}; while [ -e in ]; do sleep 0.05; done; "
              f"exec {t.pcache} run --quiet --root {t.tree} -- cat in")
    done = process.run(["bash", "-c", script], cwd=t.dir, env=t.environment(t.tree))
    t.equal((done.status, done.out), (0, b"x\n"), f"run over a dead mount: {done.err!r}")
    t.mounted = False
    t.step("cat in > out", what="afterwards")


@scenario
def daemon_terminated_while_a_mount_is_idle(t):
    t.write("in", "x\n")
    t.mount()
    pid = t.kill_daemon(signal.SIGTERM)
    gone = process.wait_until(lambda: not os.path.exists(f"/proc/{pid}/exe"), 5)
    t.check(gone, "the daemon did not end on SIGTERM")
    t.check(not t.mounts(), "still mounted after SIGTERM")
    t.step("cat in > out", hit=False)


@scenario
def clients_that_vanish(t):
    """kill -9 of the command's whole session at any moment leaves a daemon that works."""
    t.write("in", "x\n")
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do cat in > out.$i; done; cat in"
    for delay in (0.001, 0.005, 0.01, 0.02, 0.04, 0.08):
        child = subprocess.Popen([t.pcache, "run", "--quiet", "--root", t.tree, "--", "sh", "-c", script],
                                 cwd=t.tree, env=t.environment(t.tree), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 start_new_session=True)
        time.sleep(delay)
        process.kill_session(child.pid)
        child.wait(timeout=10)
    t.sh("rm -f out.*")
    t.step(script, what="afterwards")
    t.step(script, what="afterwards, untouched")
    t.step(script, what="afterwards, untouched again", hit=True)


class _SmallDisk:
    """A tmpfs as PCACHE_DIR."""

    def __init__(self, t, size):
        self.t, self.place = t, t.path("cache")
        os.mkdir(self.place, 0o700)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "pcache-test",
                               self.place], capture_output=True, check=False)
        if done.returncode != 0:
            os.rmdir(self.place)
            raise Skip(f"no tmpfs can be mounted: {done.stderr.decode()}")

    def fill(self):
        with open(os.path.join(self.place, "filler"), "wb") as f:
            try:
                while True:
                    f.write(bytes(65536))
                    f.flush()
            except OSError:
                pass

    def free(self):
        os.unlink(os.path.join(self.place, "filler"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.t.cli("umount", "--all")
        process.wait_until(lambda: not process.with_environment("PCACHE_DIR=" + self.place))
        subprocess.run(["umount", "-l", self.place], check=False)


def _uncached(t, what, script="cat in > out; cat in; exit 5", status=5):
    """CMD's own status and output, and one line of warning at most."""
    bare = t.run_bare(["sh", "-c", script])
    done = t.cli("run", "--quiet", "--root", t.tree, "--", "sh", "-c", script, cwd=t.tree)
    t.equal((done.status, done.out), (bare.status, bare.out), f"{what}: status and stdout")
    t.equal(done.status, status, f"{what}: status")
    lines = done.err.decode("utf-8", "replace").splitlines()
    t.check(len(lines) <= 1 and all(line.startswith("pcache: warning: ") for line in lines),
            f"{what}: stderr is {done.err!r}")
    t.same_files(what)
    return lines


@scenario(users=("root",))
def store_on_a_disk_that_is_full_from_the_start(t):
    t.write("in", "x\n")
    with _SmallDisk(t, "64k") as disk:
        disk.fill()
        lines = _uncached(t, "full disk")
        t.check(len(lines) == 1, f"one warning, not {lines}")
        t.finished = True


@scenario(users=("root",))
def store_whose_disk_fills_up(t):
    t.write("in", "x\n")
    with _SmallDisk(t, "24M") as disk:
        t.step("cat in > out", hit=False, what="there is space")
        disk.fill()
        t.sh("rm out")
        t.step("cat in > out", what="a hit on a full disk")
        _uncached(t, "small output, full disk")
        _uncached(t, "large output, full disk", "head -c 5000000 /dev/zero > big; exit 0", 0)
        big = "head -c 9000000 /dev/zero | tr '\\0' z; cat in"
        _uncached(t, "large stream, full disk", big, 0)
        _uncached(t, "large stream, full disk, again", big, 0)
        disk.free()
        t.step("cat in > out2", hit=False, what="space again")
        t.sh("rm out2")
        t.step("cat in > out2", hit=True, what="space again, warm")
        t.stop()
        t.finished = True


@scenario(users=("root",))
def project_on_a_disk_that_is_full(t):
    """ENOSPC is the command's to see, and not recorded."""
    for side in t.sides():
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "pcache-test", side], check=False)
        if done.returncode != 0:
            raise Skip("no tmpfs can be mounted")
    try:
        t.sh("echo x > in; head -c 1500000 /dev/zero > filler")
        script = "head -c 1000000 /dev/zero > big 2> /dev/null; echo $?; stat -c %s big"
        t.step(script, hit=False, what="no room")
        t.sh("rm big filler; mkdir d")
        t.step(script, hit=False, what="now there is room")
        t.sh("rm big")
        t.step("cat in > out; head -c 100000 /dev/zero > d/fits", hit=False)
        t.sh("rm out d/fits")
        t.step("cat in > out; head -c 100000 /dev/zero > d/fits", hit=True)
        t.sh("rm out d/fits; head -c 2000000 /dev/zero > filler || true")
        t.step("cat in > out; head -c 100000 /dev/zero > d/fits 2> /dev/null; echo $?", compare=False,
               what="no room for a replay")
        t.finished = True
        t.stop()
    finally:
        for side in t.sides():
            subprocess.run(["umount", "-l", side], check=False)


@scenario
def store_that_is_a_file(t):
    t.write("in", "x\n")
    os.mkdir(t.path("cache"), 0o700)
    with open(t.path("cache", "store"), "w", encoding="ascii"):
        pass
    lines = _uncached(t, "store is a file")
    t.check(len(lines) == 1 and "unusable" in lines[0], f"one warning, not {lines}")


@scenario(users=("user",))
def unwritable_store(t):
    t.write("in", "x\n")
    t.step("cat in > out", hit=False)
    t.stop()
    for directory, _, _ in os.walk(t.path("cache", "store")):
        os.chmod(directory, 0o500)
    lines = _uncached(t, "unwritable store")
    t.check(len(lines) == 1 and "unusable" in lines[0], f"one warning, not {lines}")
    t.stop()
    for directory, _, _ in os.walk(t.path("cache", "store")):
        os.chmod(directory, 0o700)
    t.sh("rm out")
    t.step("cat in > out", hit=True, what="writable again")


@scenario(users=("user",))
def unwritable_pcache_dir(t):
    t.write("in", "x\n")
    os.mkdir(t.path("cache"), 0o500)
    bare = t.run_bare(["sh", "-c", "cat in; exit 5"])
    done = t.cli("run", "--quiet", "--root", t.tree, "--", "sh", "-c", "cat in; exit 5", cwd=t.tree)
    t.check((done.status, done.out) == (bare.status, bare.out) or done.status == 125,
            f"status {done.status}, {done.out!r}")
    t.check(len(done.err.splitlines()) == 1 and b"cache" in done.err, f"one clear line, not {done.err!r}")


@scenario
def store_of_a_newer_format(t):
    t.write("in", "x\n")
    t.step("cat in > out", hit=False)
    t.stop()
    done = process.run([t.helper("newer_store"), t.path("cache", "store", "db")], cwd="/", env=t.env)
    t.equal(done.status, 0, f"newer_store: {done.err!r}")
    lines = _uncached(t, "newer format")
    t.check(len(lines) == 1 and "format version" in lines[0] and "remedy" in lines[0],
            f"one warning with the remedy, not {lines}")
    done = t.cli("stats")
    t.check(done.status == 1 and b"format version" in done.err, f"stats says {done.err!r}")
    done = t.cli("clear", "--yes")
    t.equal(done.status, 0, f"clear: {done.err!r}")
    t.sh("rm out")
    t.step("cat in > out", hit=False, what="after clear")


@scenario
def damaged_blobs_never_reach_the_tree(t):
    t.mounted = False
    t.write("in", "x\n")
    script = "cat in > small; head -c 3000000 /bin/bash > big; cat in"
    t.step(script, hit=False)
    t.stop()
    for directory, _, names in os.walk(t.path("cache", "store")):
        for name in names:
            path = os.path.join(directory, name)
            if "/db" in directory or os.path.getsize(path) == 0:
                continue
            os.chmod(path, 0o600)
            with open(path, "r+b") as f:
                f.write(b"DAMAGED!")
    t.sh("rm small big")
    t.step(script, what="after damage")
    t.sh("rm small big")
    t.step(script, what="after damage, again")


@scenario
def missing_blobs_make_it_run(t):
    t.write("in", "x\n")
    script = "cat in > small; head -c 3000000 /bin/bash > big; cat in"
    t.step(script, hit=False)
    t.stop()
    for directory, _, names in os.walk(t.path("cache", "store")):
        for name in names:
            if "/db" not in directory:
                os.unlink(os.path.join(directory, name))
    t.sh("rm small big")
    t.step(script, hit=False, what="without its blobs")
    t.sh("rm small big")
    t.step(script, hit=True, what="recorded again")


@scenario
def damaged_database(t):
    t.write("in", "x\n")
    t.step("cat in > out", hit=False)
    t.stop()
    for name in os.listdir(t.path("cache", "store", "db")):
        if name.startswith("MANIFEST"):
            with open(t.path("cache", "store", "db", name), "r+b") as f:
                f.write(os.urandom(100))
    lines = _uncached(t, "damaged database")
    t.check(len(lines) == 1 and "unusable" in lines[0], f"one warning, not {lines}")
    t.equal(t.cli("clear", "--yes").status, 0, "clear")
    t.sh("rm out")
    t.step("cat in > out", hit=False, what="after clear")


@scenario(users=("root",))
def hidden_devices_and_programs(t):
    """In a mount namespace without /dev/fuse, or without fusermount3 (for a user)."""
    def hidden(script, *argv, user=False):
        become = "setpriv --reuid=1000 --regid=1000 --clear-groups " if user else ""
        words = " ".join(argv)
        return process.run(["unshare", "-m", "sh", "-c", f"{script} && exec {become}{words}"], cwd=t.tree,
                           env=t.environment(t.tree))

    probe = hidden("true", "true")
    if probe.status != 0:
        raise Skip("unshare -m is not possible here")
    nodes = "; ".join(f"mknod -m 666 /dev/{name} c {number}" for name, number in
                      (("null", "1 3"), ("zero", "1 5"), ("random", "1 8"), ("urandom", "1 9"), ("tty", "5 0")))
    number = 0
    for what, script, user, text in (
            ("no device", f"mount -t tmpfs none /dev; {nodes}", False, b"/dev/fuse"),
            ("no permission", f"mount -t tmpfs none /dev; {nodes}; mknod -m 600 /dev/fuse c 10 229", True,
             b"chmod 0666 /dev/fuse"),
            ("no fusermount3", "for f in /usr/bin/fusermount3 /bin/fusermount3; do [ -e $f ] && mount --bind "
             "/dev/null $f; done; true", True, b"install the package fuse3")):
        for command, status in (("mount", 1), ("run --root", 125)):
            number += 1  # the daemon is born in the namespace: a place of its own each time
            t.env["PCACHE_DIR"] = t.path(f"cache{number}")
            if user:
                os.mkdir(t.env["PCACHE_DIR"], 0o700)
                os.chown(t.env["PCACHE_DIR"], 1000, 1000)
                os.chmod(t.dir, 0o755)
                os.chown(t.tree, 1000, 1000)
            rest = " -- sh -c 'exit 5'" if command != "mount" else ""
            done = hidden(script, t.pcache, command, t.tree + rest, user=user)
            t.equal(done.status, status, f"{what}: status of {command}")
            t.check(len(done.err.splitlines()) == 1 and text in done.err, f"{what}: {command} said {done.err!r}")
            gone = process.wait_until(
                lambda: not process.with_environment("PCACHE_DIR=" + t.env["PCACHE_DIR"]))
            t.check(gone, f"{what}: a daemon is left")
    os.chown(t.tree, 0, 0)


@scenario(users=("root",))
def read_only_file_system(t):
    t.write("in", "x\n")
    place = t.path("ro")
    os.mkdir(place)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "pcache-test", place], check=False)
    if done.returncode != 0:
        raise Skip("no tmpfs can be mounted")
    try:
        for argv, status in ((("run", "--root", place, "--", "true"), 125), (("mount", place), 1)):
            done = t.cli(*argv, cwd=place)
            t.equal(done.status, status, f"{argv}: status")
            t.check(len(done.err.splitlines()) == 1 and b"read-only" in done.err and b"remount" in done.err,
                    f"{argv} said {done.err!r}")
    finally:
        subprocess.run(["umount", place], check=False)
