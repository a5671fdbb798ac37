"""Terminals: Ctrl-C, Ctrl-Z and fg, window size, and that a program sees one."""
import os
import re
import signal
import subprocess
import time

from harness import scenario
from harness.terminal import Terminal


@scenario
def ctrl_c(t):
    t.write("slow.sh", "echo begun; touch running; while :; do sleep 0.1; done\n")
    terminal = Terminal(t)
    for _ in range(3):
        terminal.type("$P sh slow.sh; echo \"status:$?\"\n")
        terminal.expect("begun")
        time.sleep(0.2)
        terminal.type("\x03")
        got = terminal.expect(re.compile(rb"(status:(\d+)\r\n)|READY"))
        if b"status" in got:
            t.check(b"status:130" in got, f"status after Ctrl-C: {got!r}")
            terminal.expect("READY$ ")
        else:
            terminal.expect("$ ")
            body, _ = terminal.command("true")
    body, status = terminal.command("$P sh -c 'trap \"echo caught; exit 7\" INT; echo on; kill -INT $$; "
                                    "sleep 1'")
    t.equal((body, status), (b"on\r\ncaught\r\n", 7), "a trap of SIGINT")
    body, status = terminal.command("$P echo alive")
    t.equal((body, status), (b"alive\r\n", 0), "after Ctrl-C")
    terminal.close()
    t.sh("rm -f running; true")


@scenario
def a_signal_while_it_begins(t):
    """Whenever it comes it ends the command, which dies of it: before it is traced, while that begins, and after."""
    for number in (signal.SIGINT, signal.SIGTERM):
        for delay in range(40):
            child = subprocess.Popen([t.pcache, "run", "--quiet", "--root", t.tree, "--", "sleep", "20"], cwd=t.tree,
                                     env=t.environment(t.tree), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
            time.sleep(0.001 + delay * 0.0015)
            child.send_signal(number)
            begin = time.monotonic()
            err = child.communicate(timeout=20)[1]
            t.equal((child.returncode, err), (-number, b""), f"signal {number} after {delay * 1.5 + 1} ms")
            t.check(time.monotonic() - begin < 3, f"signal {number} after {delay * 1.5 + 1} ms: it takes long")


@scenario
def ctrl_z_and_fg(t):
    t.write("slow.sh", "echo begun\nread line\necho got $line\n")
    terminal = Terminal(t)
    terminal.type("$P sh slow.sh\n")
    terminal.expect("begun")
    time.sleep(0.2)
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect("READY$ ")
    body, status = terminal.command("$P echo another meanwhile")
    t.equal((body, status), (b"another meanwhile\r\n", 0), "a run while another is stopped")
    terminal.type("fg\n")
    terminal.expect("slow.sh\r\n")
    terminal.type("words\n")
    terminal.expect("got words\r\n")
    terminal.expect("READY$ ")
    terminal.type("$P sleep 30\n")
    time.sleep(0.7)
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect("READY$ ")
    terminal.type("bg\n")
    terminal.expect("&")
    terminal.expect("READY$ ")
    body, status = terminal.command("kill %1; wait %1")
    t.equal(status, 143, "status of what was killed in the background")
    terminal.close()


@scenario
def a_stopped_child_of_make_goes_on(t):
    """SIGTSTP to the whole group, as the terminal does it, with children at work."""
    t.write("Makefile", "all: a b\na:\n\tsh -c 'i=0; while [ $$i -lt 300 ]; do cat Makefile > a.t; "
                        "i=$$((i+1)); done; mv a.t a'\nb:\n\tsleep 1; echo b > b\n")
    terminal = Terminal(t)
    terminal.type("$P make -s -j2\n")
    time.sleep(0.5)
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect("READY$ ")
    body, status = terminal.command("fg", 30)
    t.equal(status, 0, "status of make after fg")
    terminal.close()
    t.run_bare(["make", "-s"])
    t.same_files("after fg")


@scenario
def a_terminal_is_seen(t):
    terminal = Terminal(t)
    script = "$P sh -c '[ -t 0 ] && echo in; [ -t 1 ] && echo out; [ -t 2 ] && echo err; tty < /dev/null'"
    first = terminal.command(script)
    t.equal(first[0], b"in\r\nout\r\nerr\r\nnot a tty\r\n", "on the terminal")
    t.equal(terminal.command(script), first, "again")
    terminal.command("stty cols 77 rows 21")
    t.equal(terminal.command("$P stty size"), (b"21 77\r\n", 0), "window size")
    terminal.command("stty cols 99 rows 31")
    t.equal(terminal.command("$P stty size"), (b"31 99\r\n", 0), "window size after a change")
    body, status = terminal.command("$P ls --color=auto -d .")
    body2, _ = terminal.command("$P ls --color=auto -d . | cat")
    t.equal(body2, b".\r\n", "no colours into a pipe, though a terminal had them")
    done, _ = t.run(["sh", "-c", "[ -t 1 ] && echo out; ls --color=auto -d ."])
    t.equal(done.out, b".\n", "not on a terminal")
    terminal.close()


@scenario
def reading_the_terminal(t):
    terminal = Terminal(t)
    for word in ("one", "two", "one"):
        terminal.type("$P sh -c 'read x; echo \"<$x>\"'\n")
        time.sleep(0.3)
        terminal.type(word + "\n")
        terminal.expect(f"<{word}>\r\n")
        terminal.expect("READY$ ")
    t.check(True, "")
    terminal.close()


@scenario
def hit_into_a_stopped_terminal(t):
    """Ctrl-S holds a hit's output back; Ctrl-Q lets it go on."""
    t.step(["seq", "1", "3000"], hit=False)
    terminal = Terminal(t)
    terminal.type("$P seq 1 3000 | tail -1; $P seq 1 3000; echo \"status:$?\"\n")
    terminal.expect("\n3000\r\n1\r\n")
    terminal.type("\x13")
    time.sleep(0.4)
    terminal.type("\x11")
    terminal.expect("\n3000\r\nstatus:0")
    terminal.close()


@scenario
def interrupt_of_the_process_group(t):
    """SIGINT, SIGTERM and SIGHUP to the group, without a terminal."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL):
        statuses = []
        for side in t.sides():
            prefix = [] if side == t.bare else [t.pcache, "run", "--quiet", "--root", side, "--"]
            child = subprocess.Popen([*prefix, "sh", "-c", "echo on; cat; sleep 30; echo no"], cwd=side,
                                     env=t.environment(side), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, start_new_session=True)
            os.read(child.stdout.fileno(), 3)
            time.sleep(0.15)
            os.killpg(child.pid, number)
            statuses.append((child.wait(timeout=10), child.stdout.read()))
            child.stdout.close()
        t.equal(statuses[1], statuses[0], f"status and rest of the output after signal {number}")


@scenario
def window_size_change_reaches_the_program(t):
    terminal = Terminal(t)
    terminal.type("$P sh -c 'trap \"echo changed; exit 0\" WINCH; echo on; while :; do sleep 0.1; done'\n")
    terminal.expect("\r\non\r\n")
    import fcntl  # pylint: disable=import-outside-toplevel
    import struct  # pylint: disable=import-outside-toplevel
    import termios  # pylint: disable=import-outside-toplevel
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    terminal.expect("changed\r\n")
    terminal.expect("READY$ ")
    terminal.close()


@scenario
def pcache_shell(t):
    """An interactive shell in which everything is cached: Ctrl-C, Ctrl-Z, fg, bg and its exit status are the shell's."""
    t.write("in", "one\n")
    t.write("slow.sh", "echo begun; while :; do sleep 0.1; done\n")
    with open(t.path("home", ".bashrc"), "w", encoding="ascii") as f:
        f.write("PS1='READY$ '\n")
    terminal = Terminal(t)
    terminal.type(f"SHELL=/bin/bash {t.pcache} shell --root {t.tree}\n")
    terminal.expect("debuggers and strace do not work in it.\r\n")
    terminal.expect("READY$ ")
    body, _ = terminal.command("grep TracerPid /proc/$$/status")
    t.check(body.split()[-1] != b"0", "the shell is not traced")
    for _ in range(2):
        t.equal(terminal.command("sh -c 'cat in > out; echo made'; rm out"), (b"made\r\n", 0), "a command")
    terminal.type("sh slow.sh\n")
    terminal.expect("begun")
    time.sleep(0.2)
    terminal.type("\x03")
    terminal.expect("READY$ ")
    t.equal(terminal.command("echo $?"), (b"130\r\n", 0), "status after Ctrl-C")
    terminal.type("sh -c 'read x; echo got $x'\n")
    time.sleep(0.4)
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect("READY$ ")
    t.equal(terminal.command("cat in"), (b"one\r\n", 0), "a command while another is stopped")
    terminal.type("fg\n")
    terminal.expect("read x")
    terminal.type("words\n")
    terminal.expect("got words\r\n")
    terminal.expect("READY$ ")
    terminal.type("sleep 30\n")
    time.sleep(0.4)
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect("READY$ ")
    terminal.type("bg\n")
    terminal.expect("&")
    terminal.expect("READY$ ")
    t.equal(terminal.command("kill %1; wait %1")[1], 143, "status of what was killed in the background")
    terminal.type("exit 7\n")
    got = terminal.expect(re.compile(rb"pcache: (\d+) hits?, .*saved .*\r\n"))
    t.check(b"pcache: 0 hits" not in got, f"nothing hit in the shell: {got!r}")
    terminal.expect("READY$ ")
    t.equal(terminal.command("echo $?"), (b"7\r\n", 0), "the status of the shell")
    terminal.close()
