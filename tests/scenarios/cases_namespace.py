"""run --pid-namespace: the same process ids each time, and nothing else is another than without."""
import os
import re
import signal
import subprocess
import time

from harness import process, scenario
from harness.registry import Skip
from harness.terminal import Terminal

OPTION = ["--pid-namespace"]


def _or_skip(t):
    done = t.cli("run", *OPTION, "--root", t.tree, "--quiet", "--", "true", cwd=t.tree)
    if done.status == 125 and b"--pid-namespace" in done.err:
        t.check(len(done.err.splitlines()) == 1 and b"; " in done.err, f"no remedy: {done.err!r}")
        raise Skip(done.err.decode().strip())
    t.equal((done.status, done.err), (0, b""), "true")


@scenario
def namespace_ids_are_the_same_each_time(t):
    _or_skip(t)
    t.write("ids.py", "import os\nprint(os.getpid(), os.getppid(), os.readlink('/proc/self'))\n"
            "child = os.fork()\nif child == 0:\n    print(os.getpid(), os.getppid(), flush=True)\n    os._exit(0)\n"
            "os.waitpid(child, 0)\nprint(child, sorted(int(p) for p in os.listdir('/proc') if p.isdigit()))\n")
    outputs = [t.run(["python3", "ids.py"], options=OPTION)[0].out for _ in range(3)]
    t.equal(outputs[0].splitlines()[0], b"2 1 2", "the command's own")
    t.check(b"[1, 2]" in outputs[0], f"/proc: {outputs[0]!r}")
    t.equal(outputs[1:], outputs[:2], "from run to run")
    _, report = t.run(["sh", "-c", "sh -c 'echo $$'; sh -c 'echo $$ $PPID'; :"], options=OPTION)
    t.equal([e["pid"] for e in report.executions], [2, 3, 4], "ids in the report")


@scenario(timeout=120)
def namespace_runs_hit(t):
    _or_skip(t)
    t.write("in", "3\n1\n2\n")
    t.write("work.sh", "sort in > out; echo $$; cat /proc/self/comm; wc -l < out; mkdir -p d; mv out d/out\n")
    t.sh("mkdir quiet")
    cold, report = t.run(["sh", "work.sh"], options=OPTION)
    t.equal((cold.status, cold.err), (0, b""), "cold")
    t.equal(cold.out.split(), [b"2", b"cat", b"3"], "what it says")
    t.check(not report.whole_hit(), "the first hits")
    t.sh("rm -rf d")
    warm, report = t.run(["sh", "work.sh"], options=OPTION)
    t.check(report.whole_hit(), f"the second does not hit: {report.reasons()}")
    t.equal((warm.out, warm.status), (cold.out, 0), "a hit")
    with open(os.path.join(t.tree, "d", "out"), "rb") as f:
        t.equal(f.read(), b"1\n2\n3\n", "its output")
    t.sh("rm -rf d; touch quiet/unrelated")
    _, report = t.run(["sh", "work.sh"], options=OPTION)
    t.check(report.whole_hit(), f"after what does not matter: {report.reasons()}")
    t.write("in", "5\n4\n")
    t.sh("rm -rf d")
    done, report = t.run(["sh", "work.sh"], options=OPTION)
    t.check(not report.whole_hit() and done.out.split()[-1] == b"2", f"after what matters: {done.out!r}")
    # Elsewhere the ids are others: it is another command.
    t.sh("rm -rf d")
    _, report = t.run(["sh", "work.sh"])
    t.check(not report.whole_hit(), "without the namespace, a hit of one within")
    t.check(not {"sh", "cat"} & {os.path.basename(e["argv"][0]) for e in report.executions
                                 if e["outcome"] == "hit"}, f"hits across: {report.reasons()}")
    t.sh("rm -rf d; for i in 1 2; do echo int f$i\\(void\\) { return $i\\; } > f$i.c; done")
    t.write("Makefile", "lib.a: f1.o f2.o\n\tar rc $@ $^\n")
    t.run(["make"], options=OPTION)
    t.sh("rm -f *.o lib.a")
    done, report = t.run(["make"], options=OPTION)
    t.check(report.whole_hit(), f"make: {report.reasons()}")
    t.run_bare(["make"])
    t.run_bare(["rm", "f1.o", "f2.o"])
    t.sh("rm -f lib.a *.o")


@scenario
def namespace_facts_are_right(t):
    """What is asked of processes by their ids in the namespace."""
    _or_skip(t)
    t.write("in", "x\n")
    # A number of ours that is somebody's outside, too, is no reason to be wrong.
    for script, code in (("sleep 30 & kill $!; wait $! 2> /dev/null; cat in", None),
                         ("kill -0 $$; cat in", None), ("kill -0 1 2> /dev/null; cat in", "signals"),
                         ("cat /proc/1/comm; cat in", "pseudo-file"), ("ls /proc > /dev/null", "pseudo-file"),
                         ("cat < /proc/$$/fd/3; cat in", None), ("(cat in)", None)):
        argv = ["bash", "-c", "exec 3< in; " + script]
        done, _ = t.run(argv, options=OPTION)
        again, report = t.run(argv, options=OPTION)
        t.equal((again.status, again.out, again.err), (done.status, done.out, done.err), f"{script}: again")
        if code:
            t.check(code in report.codes(), f"{script}: {report.codes()}")
    t.write("look.py", "import os, sys\nprint(open(f'/proc/{os.getpid()}/cwd/in').read())\n"
            "print(os.path.basename(os.readlink(f'/proc/{os.getpid()}/cwd')))\n")
    t.run(["python3", "look.py"], options=OPTION)
    t.write("in", "y\n")
    done, report = t.run(["python3", "look.py"], options=OPTION)
    t.check(b"y\n" in done.out and not report.whole_hit(), f"a change seen through /proc: {done.out!r}")


@scenario
def namespace_status_and_signals(t):
    _or_skip(t)
    for script, status in (("exit 7", 7), ("kill -TERM $$", 143), ("kill -SEGV $$", 139), ("exec true", 0)):
        done, report = t.run(["sh", "-c", script], options=OPTION)
        t.equal(done.status, status, script)
        t.equal(report.json["exit_status"], status, f"{script}: in the report")
    t.equal(t.cli("run", *OPTION, "--", "no-such-command").status, 127, "not found")
    done = t.cli("run", *OPTION, "--disable", "--root", t.tree, "--", "sh", "-c", "echo $$", cwd=t.tree)
    t.equal((done.status, done.out), (0, b"2\n"), "--disable")
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
        child = subprocess.Popen([t.pcache, "run", *OPTION, "--quiet", "--root", t.tree, "--", "bash", "-c",
                                  f"trap 'echo got; exit 5' {int(number)}; echo on; while :; do sleep 0.05; done"],
                                 cwd=t.tree, env=t.environment(t.tree), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, start_new_session=True)
        t.equal(os.read(child.stdout.fileno(), 3), b"on\n", "it is on")
        child.send_signal(number)
        t.equal((child.wait(timeout=20), child.stdout.read()), (5, b"got\n"), f"signal {number}, handled")
        child.stdout.close()
    nested = f"{t.pcache} run -- sh -c 'exit 4'"
    done, _ = t.run(["sh", "-c", nested], options=OPTION)
    t.equal((done.status, done.err), (4, b""), "pcache run within")
    child = subprocess.Popen([t.pcache, "run", *OPTION, "--quiet", "--root", t.tree, "--", "sh", "-c",
                              "echo on; sleep 30"], cwd=t.tree, env=t.environment(t.tree),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    os.read(child.stdout.fileno(), 3)
    child.kill()
    child.wait(timeout=20)
    t.equal(child.stdout.read(), b"", "what it had started is gone with it")
    child.stdout.close()


@scenario
def namespace_ends_with_its_command(t):
    """What is left in the background is killed, and the mount goes."""
    _or_skip(t)
    begin = time.monotonic()
    done, _ = t.run(["sh", "-c", "sleep 30 > /dev/null 2>&1 & echo on"], options=OPTION)
    t.equal((done.status, done.out), (0, b"on\n"), "the command")
    t.check(time.monotonic() - begin < 10, "it waited for what is in the background")
    t.check(process.wait_until(lambda: not t.is_mounted()), "the mount is left")
    t.check(not [c for _, c in process.with_environment("PCACHE_DIR=" + t.env["PCACHE_DIR"]) if "sleep" in c],
            "sleep is left")


@scenario
def namespace_on_a_terminal(t):
    _or_skip(t)
    terminal = Terminal(t)
    terminal.command(f"N='{t.pcache} run --pid-namespace --quiet --root {t.tree} --'")
    body, status = terminal.command("$N sh -c '[ -t 0 ] && echo in; read x < /dev/null; exit 3'")
    t.equal((body, status), (b"in\r\n", 3), "a terminal")
    terminal.type("$N sh -c 'read x; echo \"<$x>\"'\n")
    time.sleep(0.5)
    terminal.type("word\n")
    terminal.expect("<word>\r\n")
    terminal.expect("READY$ ")
    terminal.type("$N sleep 30; echo \"status:$?\"\n")
    time.sleep(0.7)
    terminal.type("\x03")
    terminal.expect(re.compile(rb"status:130|READY\$ "))
    terminal.type("\n")
    terminal.expect("READY$ ")
    t.write("slow.sh", "echo begun\nread line\necho got $line\n")
    terminal.type("$N sh slow.sh\n")
    terminal.expect("begun")
    time.sleep(0.3)
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.type("\n")
    terminal.expect("READY$ ")
    terminal.type("fg\n")
    terminal.expect("slow.sh\r\n")
    terminal.type("words\n")
    terminal.expect("got words\r\n")
    terminal.expect("READY$ ")
    body, status = terminal.command("$N sh -c 'kill -STOP $$; echo went on'")
    t.check(b"Stopped" in body, f"a command that stops itself: {body!r}")
    terminal.type("fg\n")
    terminal.expect("went on\r\n")
    terminal.expect("READY$ ")
    terminal.close()


@scenario(users=("root",))
def namespace_in_a_chroot(t):
    """The names that the kernel tells of a process there are not those it goes by: nothing is recorded."""
    _or_skip(t)
    t.stop()
    t.write("in", "x\n")
    os.mkdir(t.path("root"))
    script = (f"mount --rbind / {t.path('root')} && exec chroot {t.path('root')} sh -c 'cd {t.tree}; for i in 1 2; do "
              f"{t.pcache} run --root {t.tree} --pid-namespace --report {t.path('r')} -- cat in; done; "
              f"{t.pcache} umount --all > /dev/null'")
    done = process.run(["unshare", "-m", "--propagation", "private", "sh", "-c", script], cwd=t.tree,
                       env=t.environment(t.tree))
    t.equal((done.status, done.out), (0, b"x\nx\n"), f"output ({done.err!r})")
    t.check(b"pcache: 0 hits, 0 misses, 1 not cacheable" in done.err, f"stderr {done.err!r}")
    with open(t.path("r"), encoding="utf-8") as f:
        t.check('"namespace"' in f.read(), "no reason")
