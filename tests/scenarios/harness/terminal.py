"""A shell on a terminal of its own, typed at."""
import os
import pty
import re
import select
import time

from . import process


class Terminal:
    """An interactive shell on a pty of its own, typed at."""

    def __init__(self, t, argv=("/bin/bash", "--norc", "--noprofile", "-i")):
        self.t = t
        self.seen = b""
        env = dict(t.environment(t.tree), PS1="READY$ ", TERM="dumb", HISTFILE="/dev/null",
                   P=f"{t.pcache} run --quiet --root {t.tree} --")
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(t.tree)
            os.execve(argv[0], list(argv), env)
        self.expect("READY$ ")

    def expect(self, text, seconds=15):
        """Everything up to and with this text."""
        wanted = text if isinstance(text, re.Pattern) else re.compile(re.escape(text.encode()))
        deadline = time.monotonic() + seconds
        while True:
            if found := wanted.search(self.seen):
                got, self.seen = self.seen[:found.end()], self.seen[found.end():]
                return got
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                self.t.dump()
                raise process.TimedOut(f"{text!r} did not come on the terminal, only {self.seen[-600:]!r}")
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError:
                raise process.TimedOut(f"the terminal closed; it had shown {self.seen!r}") from None

    def type(self, text):
        os.write(self.fd, text.encode())

    def command(self, line, seconds=15):
        """Runs it to the next prompt. (what it printed, its exit status)"""
        self.type(line + "; echo \"status:$?\"\n")
        got = self.expect(re.compile(rb"status:(\d+)\r\n"), seconds)
        self.expect("READY$ ")
        body = got.split(b"\r\n", 1)[1]
        return body[:body.rindex(b"status:")], int(body[body.rindex(b"status:") + 7:])

    def close(self):
        self.type("exit\n")
        done = process.wait_until(lambda: os.waitpid(self.pid, os.WNOHANG)[0])
        if not done:
            process.kill_session(self.pid)
            os.waitpid(self.pid, 0)
        os.close(self.fd)
