#!/usr/bin/env python3
"""tour.py BUILD_DIR [--write]: types the tour into a terminal and compares what it shows with docs/tour.md.

Exit status 0, 1 where the page is stale (--write makes it anew), or 77 where the machine lacks what the
tour needs. What differs from run to run (times, sizes, process ids, the directory) is made equal.
"""
import difflib
import os
import pty
import re
import select
import shutil
import signal
import struct
import fcntl
import subprocess
import sys
import tempfile
import termios
import textwrap
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(ROOT, "docs", "tour.md")
PROMPT = "tour$ "
SKIPPED = 77

FILES = {
    "Makefile": "greet: main.o greet.o\n\tcc -o greet main.o greet.o\n"
                "main.o: main.c greet.h\n\tcc -O2 -c main.c\n"
                "greet.o: greet.c greet.h\n\tcc -O2 -c greet.c\n"
                "clean:\n\trm -f greet *.o\n",
    "greet.h": "void greet(const char *name);\n",
    "greet.c": '#include "greet.h"\n#include <stdio.h>\n\n'
               'void greet(const char *name) { printf("Hello, %s.\\n", name); }\n',
    "main.c": '#include "greet.h"\n\nint main(void) {\n  greet("world");\n  return 0;\n}\n',
}

# (heading or "", prose, lines typed). The page is made of it.
TOUR = [
    ("", "A terminal in which a small C project is built, changed and built again. The test `tour` types all of it and "
         "fails where pcache answers otherwise, so this is what it does. Times, sizes and process ids differ each time; "
         "here they are `N`.", []),
    ("Mount", "The project has two sources and a Makefile. `pcache mount` lays pcache over it; the files stay where "
              "they are. (Root leaves `--no-seize` away, and types `make` instead of `pcache run -- make`.)", ["cd greet", "ls", "cat Makefile", "pcache mount --no-seize", "cd ."]),
    ("Build", "The first time everything runs. The last line is pcache's, on standard error. What each command read, "
              "printed and left is recorded now.", ["pcache run -- make", "./greet"]),
    ("", "Gone, and brought back: make itself is skipped, before its first instruction, and what it printed comes from "
         "the store. Whether and which terminal it writes to it had asked, and so had the compilers: into a pipe they run once more.",
     ["make clean", "pcache run -- make", "./greet", "make clean", "pcache run -- make 2>&1 | tail -1", "make clean",
      "pcache run -- make 2>&1 | tail -1"]),
    ("Edit", "A change in one source: the other one is not compiled again.",
     ["sed -i s/Hello/'Good morning'/ greet.c", "pcache run -- make", "./greet"]),
    ("Ask", "Why did these commands run? `explain` has what was found when they were started, compared with the record "
            "that came nearest.", ["pcache explain greet.c", "pcache explain -- cc -o greet main.o greet.o"]),
    ("", "Without an argument it tells the whole run in short. And as a page for the browser, with the tree of processes "
         "over time, search and filters:", ["pcache explain | tail -5", "pcache graph -o ~/run.html"]),
    ("", "Where does a file come from?", ["pcache why greet", "pcache why --tree greet | tail -9"]),
    ("", "And what has it been good for?", ["pcache stats", "pcache top"]),
    ("", "Scripts read the same from a directory that no listing shows, so that no command comes upon it by chance.",
     ["ls -a | head -4",
      "python3 -c 'import json; print(json.load(open(\".pcache/last-run.json\"))[\"command\"])'"]),
    ("Look closer", "What does a command do? `census` counts it, `trace` tells it event by event; both record nothing.",
     ["pcache census -- cc -O2 -c main.c -o ~/main.o | head -5",
      "pcache trace --log ~/log -- cc -O2 -c main.c -o ~/main.o",
      "grep -Ec ' (execs|forks) ' ~/log"]),
    ("", "Is everything well here? `doctor` looks at the machine, and names what mends it.",
     ["pcache doctor | grep -o 'fuse can be opened'"]),
    ("Back", "The old text again: what was recorded for it still holds, so nothing is compiled.",
     ["git checkout -q greet.c", "pcache run -- make", "./greet"]),
    ("A word typed wrong", "", ["pcache exlpain", "pcache run --quite -- make"]),
    ("Unmount", "What is left are ordinary files. The store stays in `~/.cache/pcache`: what is in it holds in the next "
                "mount too, and in another checkout.", ["cd ..", "pcache umount greet", "ls greet", "pcache umount --all"]),
]


def lacks():
    for program in ("cc", "make", "git", "bash", "python3"):
        if not shutil.which(program):
            return f"there is no {program}"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    if os.getuid() != 0 and not shutil.which("fusermount3"):
        return "there is no fusermount3"
    return None


class Terminal:
    def __init__(self, home, programs):
        env = {"HOME": home, "PATH": programs + ":" + os.environ["PATH"], "LC_ALL": "C.UTF-8", "NO_COLOR": "1",
               "PS1": PROMPT, "TERM": "xterm", "HISTFILE": "/dev/null", "PCACHE_MIN_FREE": "0", "SHELL": "/bin/bash",
               "TMPDIR": "/tmp"}
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(home)
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 118, 0, 0))
        self.until_prompt()

    def until_prompt(self, seconds=60):
        deadline = time.monotonic() + seconds
        while not self.seen.endswith(PROMPT.encode()):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise RuntimeError(f"no prompt within {seconds} s: {self.seen[-600:]!r}")
            self.seen += os.read(self.fd, 65536)
        got, self.seen = self.seen[:-len(PROMPT)], b""
        return got

    def command(self, line):
        os.write(self.fd, line.encode() + b"\n")
        shown = self.until_prompt().decode("utf-8", "replace")
        echo, _, output = shown.partition("\r\n")
        if echo != line:
            raise RuntimeError(f"typed {line!r}, the terminal shows {echo!r}")
        return output.replace("\r\n", "\n")

    def close(self):
        try:
            os.write(self.fd, b"exit\n")
        except OSError:
            pass
        for _ in range(100):
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                break
            time.sleep(0.05)
        else:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


def normalised(text, home):
    # A progress bar draws over itself.
    text = re.sub(r"[^\n]*\r\x1b\[K", "", text)
    text = text.replace(home, "/home/me")
    number = r"\d+(?:\.\d+)?"
    for pattern, replacement in ((rf"\b{number} (?:h|min) \d+ (?:min|s)\b", "N s"),
                                 (rf"\b{number} (?:ms|s|min|h)\b", "N s"),
                                 (rf"\b{number} (?:B|KiB|MiB|GiB)\b", "N KiB"),
                                 (r"\d{4}-\d\d-\d\d", "DATE"), (r"\b\d\d:\d\d(?::\d\d)?\b", "TIME"),
                                 (r"\bpid \d+\b", "pid N"), (r" \(contents by kernel passthrough\)", ""),
                                 (r"\b\d+ files outside\b", "N files outside")):
        text = re.sub(pattern, replacement, text)
    return re.sub(r" +$", "", text, flags=re.M)


def make_page(terminal, home):
    out = ["# A tour", "",
           "<!-- Made by tests/tour/tour.py BUILD_DIR --write, which types it. Change it there. -->"]
    for heading, prose, lines in TOUR:
        if heading:
            out += ["", "## " + heading]
        if prose:
            out += ["", *textwrap.wrap(prose, 117, break_on_hyphens=False)]
        if not lines:
            continue
        out += ["", "```console"]
        for line in lines:
            out.append("$ " + line)
            output = normalised(terminal.command(line), home).rstrip("\n")
            out += output.split("\n") if output else []
        out.append("```")
    return "\n".join(out) + "\n"


def prepare(home):
    project = os.path.join(home, "greet")
    os.mkdir(project)
    for name, text in FILES.items():
        with open(os.path.join(project, name), "w", encoding="utf-8") as f:
            f.write(text)
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@localhost"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "greet"]):
        subprocess.run([*git, *command], cwd=project, env={"PATH": os.environ["PATH"], "HOME": home}, check=True)
    time.sleep(1.1)  # sources older than any clock's tick, as they mostly are


def clean_up(home, programs):
    env = {"HOME": home, "PATH": os.environ["PATH"]}
    subprocess.run([os.path.join(programs, "pcache"), "umount", "--all", "--lazy"], env=env, check=False,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    shutil.rmtree(home, ignore_errors=True)


def main():
    programs = os.path.abspath(sys.argv[1])
    if reason := lacks():
        print("SKIPPED: " + reason)
        return SKIPPED
    home = tempfile.mkdtemp(prefix="pcache-tour-", dir="/tmp")
    try:
        prepare(home)
        terminal = Terminal(home, programs)
        try:
            page = make_page(terminal, home)
        finally:
            terminal.close()
    finally:
        clean_up(home, programs)
    if "--write" in sys.argv[2:]:
        with open(PAGE, "w", encoding="utf-8") as f:
            f.write(page)
        return 0
    with open(PAGE, encoding="utf-8") as f:
        kept = f.read()
    if kept == page:
        return 0
    sys.stdout.writelines(difflib.unified_diff(kept.splitlines(True), page.splitlines(True), "docs/tour.md",
                                               "what the terminal shows"))
    print("docs/tour.md is stale: tests/tour/tour.py BUILD_DIR --write makes it anew")
    return 1


if __name__ == "__main__":
    sys.exit(main())
