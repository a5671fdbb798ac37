"""A mount alone: what is started in it is seized in its exec, by root where eBPF is there.

The scenarios of CMakeLists.txt's list run this way as well, each as NAME.seized.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import time

from harness import process, scenario
from harness.registry import Skip
from harness.terminal import Terminal


def _last(t):
    return json.loads(t.cli("graph", "--format", "json").out)


@scenario(users=("root",))
def seized_from_many_parents(t):
    t.write("in", "one\n")
    t.mount_and_seize()
    cmd = ["sh", "-c", "cat in > out; echo said; echo also >&2; exit 3"]
    for shell in ("bash", "dash", "zsh"):
        if not shutil.which(shell):
            t.note(f"there is no {shell} here: it is not tried")
            continue
        # In a mount namespace of its own the shell is not seized; what it starts would not be, either.
        script = f"cd {t.tree}; rm -f out; sh -c 'cat in > out; echo {shell}'"
        for expected in ("miss", "hit"):
            done = process.run([shell, "-c", script], cwd="/", env=t.environment(t.tree))
            t.equal((done.status, done.out), (0, shell.encode() + b"\n"), f"{shell}: what it did")
            t.equal(_last(t)["executions"][0]["outcome"], expected, f"{shell}, the second time")
    t.step(cmd, hit=False)
    t.step(cmd, hit=False)  # failures run
    t.step("cat in > out; echo said", hit=False)
    t.step("cat in > out; echo said")
    t.step("cat in > out; echo said", hit=True)
    t.write("in", "two\n")
    t.step("cat in > out; echo said", hit=False)
    threads = ["python3", "-c", "import threading\n"
               "def f(i):\n  open('t%d' % i, 'w').write(open('in').read())\n"
               "ts = [threading.Thread(target=f, args=(i,)) for i in range(8)]\n"
               "[x.start() for x in ts]; [x.join() for x in ts]"]
    t.step(threads, hit=False)
    t.sh("rm t?")
    t.step(threads, hit=True, what="a program with threads, the second time")


@scenario(users=("root",))
def seized_ninja(t):
    """It keeps a log of times and runs each time; what it starts is skipped."""
    if not shutil.which("ninja"):
        raise Skip("there is no ninja")
    t.write_all({"a.c": "int a(void) { return 1; }\n", "b.c": "int a(void);\nint main(void) { return a() - 1; }\n",
                 "build.ninja": "rule cc\n  command = gcc -c $in -o $out\nrule ld\n  command = gcc $in -o $out\n"
                                "build a.o: cc a.c\nbuild b.o: cc b.c\nbuild prog: ld a.o b.o\n"})
    t.ignore |= {".ninja_log", ".ninja_deps"}
    t.mount_and_seize()
    for times, expected in (("first", 3), ("again", 0)):
        done = process.run(["ninja"], cwd=t.tree, env=t.environment(t.tree))
        t.equal(done.status, 0, f"{times}: {done}")
        last = _last(t)
        t.equal(last["command"], ["ninja"], "what was seized")
        ran = [e["argv"] for e in last["executions"] if e["argv"][0] == "gcc" and e["outcome"] != "hit"]
        t.equal(len(ran), expected, f"{times}: compilers that ran: {ran}")
        t.equal(process.run(["./prog"], cwd=t.tree, env=t.environment(t.tree)).status, 0, f"{times}: the program")
        if times == "first":
            process.run(["rm", "-f", "prog", "a.o", "b.o", ".ninja_log"], cwd=t.tree, env=t.environment(t.tree))
    t.run_bare(["ninja"])
    t.same_files("at the end")


@scenario(users=("root",))
def seized_while_it_is_stopped(t):
    """SIGSTOP, seen by the parent, and SIGCONT; once as soon as it begins, once by its own hand."""
    t.write("in", "one\n")
    t.mount_and_seize()
    for script in ("kill -STOP $$; cat in; exit 5", "cat in; kill -STOP $$; exit 5"):
        for times in range(2):
            child = subprocess.Popen(["sh", "-c", script], cwd=t.tree, env=t.environment(t.tree),
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            _, status = os.waitpid(child.pid, os.WUNTRACED)
            t.check(os.WIFSTOPPED(status), f"{script}: not stopped, but {status}")
            time.sleep(0.2)
            t.equal(os.waitpid(child.pid, os.WNOHANG), (0, 0), f"{script}: it goes on while it is stopped")
            os.kill(child.pid, signal.SIGCONT)
            out, _ = child.communicate(timeout=10)
            t.equal((child.returncode, out), (5, b"one\n"), f"{script}, {times}")
    child = subprocess.Popen(["sh", "-c", "cat in"], cwd=t.tree, env=t.environment(t.tree), stdout=subprocess.PIPE)
    child.send_signal(signal.SIGSTOP)  # perhaps before it is seized, perhaps while
    time.sleep(0.2)
    child.send_signal(signal.SIGCONT)
    t.equal((child.communicate(timeout=10)[0], child.returncode), (b"one\n", 0), "stopped at its beginning")


@scenario(users=("root",))
def seized_from_interactive_shells(t):
    """Ctrl-C, Ctrl-Z and fg of what is seized, typed into each shell; none of them is traced itself."""
    t.write("in", "one\n")
    t.write("slow.sh", "echo begun; while :; do sleep 0.1; done\n")
    t.mount_and_seize()
    for argv in (["/bin/bash", "--norc", "--noprofile", "-i"], ["/bin/dash", "-i"],
                 ["/usr/bin/zsh", "-f", "-o", "no_zle", "-o", "no_prompt_sp", "-i"]):
        if not os.path.exists(argv[0]):
            t.note(f"there is no {argv[0]} here: it is not tried")
            continue
        shell = os.path.basename(argv[0])
        terminal = Terminal(t, argv)
        body, _ = terminal.command("grep TracerPid /proc/$$/status")
        t.equal(body.split()[-2:], [b"TracerPid:", b"0"], f"{shell} is traced")
        for expected in ("miss", "hit"):
            body, status = terminal.command(f"sh -c 'cat in; : {shell}'")
            t.equal((body, status), (b"one\r\n", 0), f"{shell}: what it did")
            t.equal(_last(t)["executions"][0]["outcome"], expected, f"{shell}: the second time")
        terminal.type("sh slow.sh\n")
        terminal.expect("begun")
        time.sleep(0.2)
        terminal.type("\x03")
        terminal.expect("READY$ ")
        body, _ = terminal.command("echo $?")
        t.equal(body, b"130\r\n", f"{shell}: status after Ctrl-C")
        terminal.type("sh -c 'read x; echo got $x'\n")
        time.sleep(0.4)
        terminal.type("\x1a")
        terminal.expect(re.compile(rb"[Ss]topped|suspended"))
        terminal.expect("READY$ ")
        terminal.type("fg\n")
        time.sleep(0.2)
        terminal.type("words\n")
        terminal.expect("got words\r\n")
        terminal.expect("READY$ ")
        terminal.close()


@scenario(users=("root",))
def seized_programs_of_the_project(t):
    """Scripts and programs in the mount, also with an interpreter and a loader there."""
    loader = subprocess.run(["sh", "-c", "ldd /bin/cat | grep -o '/lib64/ld[^ ]*'"], capture_output=True,
                            text=True, check=True).stdout.strip()
    t.write("in", "one\n")
    t.write("script", "#!/bin/sh\ncat in > out\necho \"$0 $1\"\n", mode=0o755)
    for side in t.sides():
        shutil.copy("/bin/dash", os.path.join(side, "mysh"))
        shutil.copy(loader, os.path.join(side, "ld.so"))
        with open(os.path.join(side, "inside"), "w", encoding="ascii") as f:
            f.write(f"#!{side}/mysh\ncat in\n")
        os.chmod(os.path.join(side, "inside"), 0o755)
        subprocess.run(["gcc", "-x", "c", "-", "-o", os.path.join(side, "loaded"),
                        f"-Wl,--dynamic-linker={side}/ld.so"], input=b"int main(void) { return 0; }", check=True)
    t.ignore |= {"inside", "loaded"}
    t.mount_and_seize()
    for argv in (["./script", "word"], ["./inside"], ["./loaded"]):
        for expected in ("ran", "hit"):
            done = process.run(argv, cwd=t.tree, env=t.environment(t.tree))
            bare = t.run_bare(argv)
            t.equal((done.status, done.out), (bare.status, bare.out), f"{argv}: what it did")
            outcome = _last(t)["executions"][0]["outcome"]
            t.check((outcome == "hit") == (expected == "hit"), f"{argv}: {outcome}, expected {expected}")
    t.same_files("at the end")


@scenario(users=("root",))
def shell_in_a_mount_is_not_traced(t):
    t.write("in", "one\n")
    t.write("Makefile", "out: in\n\tcat in > out\n")
    t.mount_and_seize()
    terminal = Terminal(t)
    body, status = terminal.command("grep TracerPid /proc/$$/status")
    t.equal((body.split(), status), ([b"TracerPid:", b"0"], 0), "the shell")
    body, status = terminal.command("make")
    t.equal((body, status), (b"cat in > out\r\n", 0), "make")
    t.equal(_last(t)["command"], ["make"], "what was seized")
    terminal.command("make")
    body, status = terminal.command("make")
    t.equal(status, 0, "make again")
    t.equal([e["outcome"] for e in _last(t)["executions"]], ["hit"], "make hits whole on a terminal")
    terminal.type("sh -c 'trap \"exit 9\" INT; echo begun; while :; do sleep 0.1; done'\n")
    terminal.expect("begun")
    terminal.expect("begun")
    time.sleep(0.2)
    terminal.type("\x03")
    terminal.expect("READY$ ")
    body, status = terminal.command("echo $?")
    t.equal(body, b"9\r\n", "Ctrl-C reaches it")
    terminal.type("cat\n")
    time.sleep(0.2)
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect("READY$ ")
    terminal.type("fg\n")
    terminal.expect("cat")
    terminal.type("\x04")
    terminal.expect("READY$ ")
    terminal.close()
    t.sh("rm -f out; true")


@scenario(users=("root",))
def those_that_trace_are_left_alone(t):
    t.ignore |= {"leak"}
    t.write("leak.c", "#include <stdlib.h>\nint main(void) { volatile char *p = malloc(7); p = 0; return p != 0; }\n")
    t.mount_and_seize()
    t.run_bare(["gcc", "-fsanitize=address", "-g", "leak.c", "-o", "leak"])
    process.run(["gcc", "-fsanitize=address", "-g", "leak.c", "-o", "leak"], cwd=t.tree, env=t.environment(t.tree))
    for argv in (["./leak"], ["sh", "-c", "./leak; echo $?"]):
        bare = t.run_bare(argv)
        done = process.run(argv, cwd=t.tree, env=t.environment(t.tree))
        t.equal(done.status, bare.status, f"{argv}: status under LeakSanitizer")
        t.check(b"does not work under ptrace" not in done.err, done.err)
        t.check(any(r["code"] == "traces-itself" for e in _last(t)["executions"] for r in e["reasons"]),
                "the reason is told")
    for tool in (["strace", "-f", "-o", "/dev/null"], ["gdb", "-batch", "-ex", "run", "-ex", "info inferiors", "--args"]):
        if not shutil.which(tool[0]):
            t.note(f"there is no {tool[0]} here: it is not tried")
            continue
        for argv in ([*tool, "/bin/sh", "-c", "cat leak.c"], ["sh", "-c", " ".join(
                f"'{word}'" for word in [*tool, "cat", "leak.c"]) + "; true"]):
            done = process.run(argv, cwd=t.tree, env=t.environment(t.tree))
            t.check(b"int main" in done.out and b"not permitted" not in done.err, f"{argv}: {done}")


@scenario(users=("root",))
def setuid_programs_are_left_alone(t):
    t.mount_and_seize()
    for side in t.sides():
        shutil.copy("/usr/bin/id", os.path.join(side, "myid"))
        os.chmod(os.path.join(side, "myid"), 0o4755)
    runs = t._runs()
    done = process.run(["./myid", "-u"], cwd=t.tree, env=t.environment(t.tree))
    t.equal((done.status, done.out), (0, b"0\n"), "what it did")
    t.equal(t._runs(), runs, "runs")


@scenario(users=("root",))
def sudo_and_other_users_in_a_mount(t):
    """sudo is left alone, what it starts for root is seized; what runs as another user is not."""
    t.write("in", "one\n")
    t.mount_and_seize()
    runs = t._runs()
    done = process.run(["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c", "id -u; cat in"],
                       cwd=t.tree, env=t.environment(t.tree))
    t.equal((done.status, done.out), (0, b"1000\none\n"), "as another user")
    done = process.run(["sh", "-c", "setpriv --reuid=1000 --regid=1000 --clear-groups sh -c 'id -u; cat in'"],
                       cwd=t.tree, env=t.environment(t.tree))
    t.equal((done.status, done.out), (0, b"1000\none\n"), "another user, within what is seized")
    if not shutil.which("sudo"):
        raise Skip("there is no sudo")
    for expected in ("miss", "hit"):
        done = process.run(["sudo", "-n", "sh", "-c", "id -u; cat in"], cwd=t.tree, env=t.environment(t.tree))
        t.equal((done.status, done.out), (0, b"0\none\n"), f"sudo: {done}")
        t.equal(_last(t)["command"], ["sh", "-c", "id -u; cat in"], "what was seized")
        t.equal(_last(t)["executions"][0]["outcome"], expected, "sudo, the second time")
    done = process.run(["sh", "-c", "sudo -n cat in && sudo -n sh -c 'exit 6'"], cwd=t.tree, env=t.environment(t.tree))
    t.equal((done.status, done.out), (6, b"one\n"), f"sudo, within what is seized: {done}")
    t.check(t._runs() > runs, "nothing was seized")


def _goes_on(t, sig, seconds):
    """A command that works outside of the tree, whose daemon dies or freezes."""
    place = t.path("outside")
    os.mkdir(place)
    script = (f"echo begun > {place}/begun; while [ ! -e {place}/go ]; do sleep 0.05; done; mkdir {place}/d; "
              f"cd {place}; mv begun ended; ls /etc > d/list; sh -c 'exec cp d/list d/copy'; rm d/list; exit 7")
    child = subprocess.Popen(["sh", "-c", script], cwd=t.tree, env=t.environment(t.tree),
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    t.check(process.wait_until(lambda: os.path.exists(place + "/begun")), "it began")
    daemon = t.kill_daemon(sig)
    if sig == signal.SIGKILL:
        t.check(process.wait_until(lambda: t.daemon() is None), "the daemon lives")
    start = time.monotonic()
    with open(place + "/go", "wb"):
        pass
    try:
        _, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        os.kill(daemon, signal.SIGKILL)
        t.check(False, f"it hangs for {seconds} s")
        return
    t.note(f"it ended {time.monotonic() - start:.1f} s later")
    t.equal(child.returncode, 7, f"its status ({err.decode()})")
    t.equal(sorted(os.listdir(place + "/d")), ["copy"], "what it made")
    shutil.rmtree(place)
    t.check(process.wait_until(lambda: t.daemon() is None), "the daemon lives")
    process.wait_until(lambda: not os.access(t.tree, os.R_OK))
    t.equal(t.cli("umount", t.tree).status, 0, "umount")


@scenario(users=("root",))
def seized_command_survives_a_killed_daemon(t):
    t.mount_and_seize()
    _goes_on(t, signal.SIGKILL, 10)


@scenario(users=("root",), timeout=90)
def seized_command_survives_a_frozen_daemon(t):
    t.mount_and_seize()
    _goes_on(t, signal.SIGSTOP, 30)


@scenario
def mount_says_whether_it_seizes(t):
    t.write("in", "one\n")
    for options in (["--no-seize"], ["--disable"]):
        done = t.cli("mount", "--json", *options, t.tree)
        t.equal(json.loads(done.out)["seizes"], False, f"{options}")
        runs = t._runs()
        process.run(["sh", "-c", "cat in > out"], cwd=t.tree, env=t.environment(t.tree))
        t.equal(t._runs(), runs, f"{options}: runs")
        t.umount()
    done = t.cli("mount", t.tree)
    if b"are cached;" in done.out:
        t.check(os.getuid() == 0, "an ordinary user's mount seizes")
    else:
        t.check(b"pcache shell" in done.out and b"(not by themselves: " in done.out, done.out)
    t.umount()
    t.sh("rm -f out; true")


@scenario(users=("root",))
def mount_options_of_what_is_seized(t):
    t.write("in", "one\n")
    t.mount_and_seize()
    t.umount()
    cmd = ["sh", "-c", "cat in > out"]
    for options, outcomes in ((["--read-only"], ["uncacheable", "uncacheable"]), ([], ["miss", "hit"]),
                              (["--recache"], ["miss", "miss"]), (["--read-only"], ["hit", "hit"])):
        t.cli("mount", *options, t.tree)
        got = []
        for _ in outcomes:
            process.run(["rm", "-f", "out"], cwd=t.tree, env=t.environment(t.tree))
            process.run(cmd, cwd=t.tree, env=t.environment(t.tree))
            got.append(_last(t)["executions"][0]["outcome"])
        t.equal(got, outcomes, f"mount {options}")
        t.umount()
    t.sh("rm -f out; true")
