"""What the conformance tests share: a mounted directory, its fuse_host, the modes, skipping.

A test is run as `test_x.py --mode passthrough|ordinary|user --bin DIR`. Modes: passthrough (root, kernel
passthrough), ordinary (root, without), user (uid 1000 when started by root, through fusermount3).
Exit status 77 means skipped, and the reason is printed.
"""
import argparse
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

USER = 1000
SKIPPED = 77


def skip(reason):
    print(f"SKIPPED: {reason}", flush=True)
    sys.exit(SKIPPED)


class Mode:
    def __init__(self):
        parser = argparse.ArgumentParser()
        parser.add_argument("--mode", choices=["passthrough", "ordinary", "user"], required=True)
        parser.add_argument("--bin", required=True)
        args = parser.parse_args()
        self.name, self.bin = args.mode, args.bin
        root = os.geteuid() == 0
        if not os.path.exists("/dev/fuse"):
            skip("this machine has no /dev/fuse")
        if not root and self.name != "user":
            skip(f"mode {self.name} needs root")
        if self.name == "user":
            if not (shutil.which("fusermount3") and shutil.which("setpriv")):
                skip("fusermount3 or setpriv is not installed")
            if root:
                os.chmod("/dev/fuse", 0o666)
            elif not os.access("/dev/fuse", os.W_OK):
                skip("/dev/fuse is not writable for this user")
        if self.name == "user" and root:
            self.become_user()
        self.work = tempfile.mkdtemp(prefix="pcache-conformance-")
        os.chmod(self.work, 0o755)
        self.home = self.new_dir("home")
        if not os.access(os.path.join(self.bin, "fuse_host"), os.X_OK):
            skip(f"this user cannot reach {self.bin}/fuse_host")

    @staticmethod
    def become_user():
        """Starts again as an ordinary user: root cannot even enter such a user's mount."""
        drop = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
        for python in (sys.executable, "/usr/bin/python3"):
            usable = subprocess.run([*drop, python, "-c", "import os; open(os.sys.argv[1])",
                                     os.path.abspath(sys.argv[0])],
                                    stderr=subprocess.DEVNULL, check=False)
            if usable.returncode == 0:
                os.execvp(drop[0], [*drop, python, *sys.argv])
        skip(f"user {USER} can reach neither a python nor {sys.argv[0]}")

    def new_dir(self, name):
        path = os.path.join(self.work, name)
        os.mkdir(path)
        return path

    def env(self, **more):
        return {**os.environ, "HOME": self.home, "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t",
                "GIT_COMMITTER_EMAIL": "t@t", **more}

    def run(self, argv, cwd=None, timeout=60, check=True):
        """Runs a command and gives its output (both streams)."""
        done = subprocess.run(argv, cwd=cwd, env=self.env(), timeout=timeout,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace")
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def start(self, argv, cwd=None, **kwargs):
        return subprocess.Popen(argv, cwd=cwd, env=self.env(), **kwargs)

    def clean_up(self):
        shutil.rmtree(self.work, ignore_errors=True)


def mounted(path):
    with open("/proc/self/mountinfo") as info:
        return any(line.split()[4] == path for line in info)


class Host:
    """fuse_host on a directory. Use as a context manager: whatever happens, the mount goes away."""

    def __init__(self, mode, path, cache=3600, wrap=()):
        self.mode, self.path = mode, path
        self.argv = [*wrap, os.path.join(mode.bin, "fuse_host"), path, "--cache", str(cache)]
        if mode.name == "ordinary":
            self.argv.append("--no-passthrough")

    def __enter__(self):
        self.process = self.mode.start(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       bufsize=0)
        self.buffer = b""
        try:
            first = self.answer(10)
            if not first.startswith("mounted"):
                raise AssertionError(f"fuse_host: {first}")
            if self.mode.name == "passthrough" and "passthrough=1" not in first:
                skip("this kernel has no FUSE passthrough (or no CAP_SYS_ADMIN)")
        except BaseException:
            self.__exit__()
            raise
        return self

    def answer(self, timeout=60):
        deadline = time.monotonic() + timeout
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise AssertionError(f"fuse_host does not answer within {timeout} s")
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                raise AssertionError(f"fuse_host ended: {self.buffer!r}")
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def ask(self, command, timeout=60):
        self.process.stdin.write(command.encode() + b"\n")
        return self.answer(timeout)

    def tell(self, command, timeout=60):
        answer = self.ask(command, timeout)
        if not answer.startswith("ok"):
            raise AssertionError(f"{command}: {answer}")
        return answer[3:]

    def status(self):
        return dict(field.split("=") for field in self.tell("status").split())

    def kill(self):
        """As a crash does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.unmount_by_force()

    def unmount_by_force(self):
        if not mounted(self.path):
            return
        command = ["umount", "-l", self.path]
        if os.geteuid() != 0:
            command = ["fusermount3", "-u", "-z", self.path]
        subprocess.run(command, check=False)

    def __exit__(self, *_):
        try:
            self.process.stdin.close()
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.unmount_by_force()
                self.process.wait(10)
            elif mounted(self.path):
                self.unmount_by_force()
                raise AssertionError(f"fuse_host left {self.path} mounted")


def equal(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def run_tests(mode, tests):
    """Runs each test in a fresh directory and goes on after a failure."""
    failed = 0
    try:
        for test in tests:
            began = time.monotonic()
            try:
                test(mode, mode.new_dir(test.__name__))
                print(f"ok      {test.__name__} ({time.monotonic() - began:.2f} s)", flush=True)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                failed += 1
                print(f"FAILED  {test.__name__}: {error}", flush=True)
    finally:
        mode.clean_up()
    sys.exit(1 if failed else 0)
