"""Processes of a test: always with a time-out, found again by what they carry in their environment."""
import dataclasses
import os
import signal
import subprocess
import time


@dataclasses.dataclass
class Done:
    status: int  # as a shell says it: 128 + the signal
    out: bytes
    err: bytes
    seconds: float


class TimedOut(Exception):
    pass


def run(argv, *, cwd, env, stdin=subprocess.DEVNULL, joined=False, timeout=60, umask=-1,
        out=subprocess.PIPE, err=None, on_timeout=None):
    """Runs to the end. Everything it started that is left in its session dies on a time-out."""
    start = time.monotonic()
    given = None
    if isinstance(stdin, bytes):
        given, stdin = stdin, subprocess.PIPE
    if err is None:
        err = subprocess.STDOUT if joined else subprocess.PIPE
    process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=stdin, stdout=out, stderr=err,
                               start_new_session=True, umask=umask)
    try:
        stdout, stderr = process.communicate(given, timeout=timeout)
    except subprocess.TimeoutExpired:
        if on_timeout:
            on_timeout()
        kill_session(process.pid)
        process.kill()
        try:
            stdout, stderr = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            stdout = stderr = b"(its pipes are still open)"
        raise TimedOut(f"{argv} did not end within {timeout} s\nstdout: {(stdout or b'')[-500:]}\n"
                       f"stderr: {(stderr or b'')[-500:]}") from None
    status = process.returncode
    return Done(status if status >= 0 else 128 - status, stdout or b"", stderr or b"",
                time.monotonic() - start)


def kill_session(leader):
    for pid in pids():
        try:
            if os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def pids():
    return [int(p) for p in os.listdir("/proc") if p.isdigit()]


def with_environment(entry):
    """Live processes (no zombies) that carry NAME=VALUE, but us."""
    found = []
    for pid in pids():
        if pid == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if entry.encode() not in f.read().split(b"\0"):
                    continue
            with open(f"/proc/{pid}/stat") as f:
                if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                    continue
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                found.append((pid, f.read().replace(b"\0", b" ").decode("utf-8", "replace")))
        except OSError:
            continue
    return found


def mounts_below(directory, kind=" - "):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        lines = [line.split() for line in f if kind in line]
    return [words[4] for words in lines if (words[4] + "/").startswith(directory + "/")]


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            return result
        time.sleep(0.02)
