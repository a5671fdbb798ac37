"""Every way to start, to become and to leave behind a process."""
import json
import os
import signal
import subprocess
import time

from harness import QUIET, case, scenario
from harness.world import PATH

IN = dict(setup="echo one > in", matter="echo two > in")

case("exec_chain", "env env sh -c 'exec env cat in' > out", clean="rm out", **IN)
case("exec_of_a_wrapper", "./w > out", clean="rm out", matter="echo two > in",
     setup="echo one > in; printf '#!/bin/sh\\nexec ./v \"$@\"\\n' > w; "
           "printf '#!/usr/bin/env python3\\nimport os\\nos.execvp(\"cat\", [\"cat\", \"in\"])\\n' > v; "
           "chmod 755 w v", harmless=QUIET)
case("failed_execs_along_path", "env cat in > out", clean="rm out",
     env={"PATH": "@/a:@/b:@/c:/nonexistent:" + PATH},
     setup="mkdir a b; echo one > in; echo no > a/cat; echo no > b/cat", matter="echo two > in")
case("script_without_interpreter", "printf 'echo plain\\n' > s; chmod 755 s; ./s; rm s")
case("script_with_interpreter_arguments", "./s a b",
     setup="printf '#!/usr/bin/env -S python3 -B\\nimport sys\\nprint(sys.argv[1:])\\n' > s; chmod 755 s",
     matter="printf '#!/usr/bin/env -S python3 -B\\nimport sys\\nprint(len(sys.argv))\\n' > s", harmless=QUIET)
case("perl_and_python_scripts_in_turn", "./p | ./q", setup="printf '#!/usr/bin/python3\\nprint(1)\\n' > p;"
     "printf '#!/usr/bin/python3\\nimport sys\\nprint(sys.stdin.read()*2)\\n' > q; chmod 755 p q",
     matter="sed -i s/1/22/ p", harmless=QUIET)
case("static_program", "./prog in > out", clean="rm out", matter="echo two > in",
     setup="echo one > in; printf '#include <stdio.h>\\nint main(int c,char**v){FILE*f=fopen(v[1],\"r\");"
           "int x;while((x=getc(f))!=EOF)putchar(x+1);return 0;}\\n' > p.c; gcc -static -o prog p.c")
case("static_pie_program", "./prog", setup="printf '#include <stdio.h>\\nint main(void){puts(\"pie\");"
     "return 0;}\\n' > p.c; gcc -static-pie -o prog p.c", matter="sed -i s/pie/cake/ p.c; "
     "gcc -static-pie -o prog p.c")
case("threads", "./prog", clean="rm -f o.*", matter="echo two > in",
     setup="echo one > in; cat > p.c <<'C'\n#include <pthread.h>\n#include <stdio.h>\n"
           "static void *work(void *n) {\n  char name[20], line[80] = {0};\n"
           "  sprintf(name, \"o.%ld\", (long)n);\n  FILE *in = fopen(\"in\", \"r\"), *f = fopen(name, \"w\");\n"
           "  fgets(line, 80, in);\n  fprintf(f, \"%s %ld\", line, (long)n);\n  fclose(f); fclose(in);\n"
           "  return 0;\n}\nint main(void) {\n  pthread_t t[8];\n"
           "  for (long i = 0; i < 8; i++) pthread_create(t + i, 0, work, (void *)i);\n"
           "  for (int i = 0; i < 8; i++) pthread_join(t[i], 0);\n  return 0;\n}\nC\n"
           "gcc -pthread -o prog p.c")
case("exec_from_a_thread", "./prog", matter="echo two > in",
     setup="echo one > in; cat > p.c <<'C'\n#include <pthread.h>\n#include <unistd.h>\n"
           "static void *work(void *n) { execl(\"/bin/cat\", \"cat\", \"in\", (char *)0); return n; }\n"
           "int main(void) {\n  pthread_t t;\n  pthread_create(&t, 0, work, 0);\n  pause();\n}\nC\n"
           "gcc -pthread -o prog p.c")
case("fork_without_exec", "./prog; cat o.*", clean="rm o.*", matter="echo two > in",
     setup="echo one > in; cat > p.c <<'C'\n#include <stdio.h>\n#include <sys/wait.h>\n#include <unistd.h>\n"
           "int main(void) {\n  for (int i = 0; i < 5; i++) if (fork() == 0) {\n"
           "    char name[9], line[80] = {0}; sprintf(name, \"o.%d\", i);\n"
           "    FILE *in = fopen(\"in\", \"r\"), *f = fopen(name, \"w\");\n"
           "    fgets(line, 80, in); fprintf(f, \"%s %d\\n\", line, i); return 0;\n  }\n"
           "  while (wait(0) > 0) {}\n  return 0;\n}\nC\ngcc -o prog p.c", harmless=QUIET)
case("vfork_and_posix_spawn", "python3 -c \"import subprocess, os\n"
     "print(subprocess.run(['cat', 'in'], capture_output=True).stdout)\n"
     "p = os.posix_spawn('/bin/cat', ['cat', 'in'], os.environ); print(os.waitpid(p, 0)[1])\n"
     "print(subprocess.call('cat in > out', shell=True))\"", clean="rm out", **IN, harmless=QUIET)
case("failed_spawns", "python3 -c \"import subprocess\ntry:\n subprocess.run(['./missing'])\n"
     "except OSError as e: print(e.errno)\ntry:\n subprocess.run(['./in'])\n"
     "except OSError as e: print(e.errno)\"", setup="echo one > in", harmless=QUIET,
     matter="echo x > missing; chmod 644 missing")
case("double_fork_that_is_waited_for", "sh -c '(cat in > out)' ; cat out", clean="rm out", **IN)
case("background_job_that_is_waited_for", "cat in > a & cat in > b & wait", clean="rm a b", **IN)
case("coprocess_pipes", "cat in | while read x; do echo $x | tr a-z A-Z; done | cat > out",
     clean="rm out", **IN)
case("xargs_parallel", "ls parts/*.p | xargs -P4 -I{} sh -c 'tr a-z A-Z < {} > {}.out'",
     setup="mkdir parts; for i in 1 2 3 4 5 6 7 8; do echo text $i > parts/$i.p; done",
     clean="rm parts/*.out", matter="echo more >> parts/3.p", ran_after={"tr": 1})
case("thirty_two_jobs", "seq 32 | xargs -P32 -I{} sh -c 'cat in common > out.{}; wc -l < out.{} > n.{}'",
     setup="echo one > in; seq 1000 > common", clean="rm out.* n.*", matter="echo two >> in")
case("thirty_two_compilers", "seq 32 | xargs -P32 -I{} gcc -c -DN={} m.c -o m{}.o",
     setup="echo 'int v = N;' > m.c", clean="rm *.o", matter="echo 'int w;' >> m.c",
     ran_after={"cc1": 32}, harmless="touch m.c", timeout=150)
case("find_exec", "find d -type f -exec wc -c {} \\; -exec cp {} {}.bak \\; | sort", matter="echo 1 >> d/a",
     setup="mkdir d; echo a > d/a; echo bb > d/b", clean="rm d/*.bak", again=False)
case("signals_between_children", "sh -c 'trap \"echo got; exit 0\" USR1; kill -USR1 $$; echo no'")
case("ignored_signals", "trap '' PIPE; cat in", **IN)
case("deep_shells", "sh -c 'sh -c \"sh -c \\\"cat in; exit 0\\\"; cat in\"; cat in' > out", clean="rm out",
     **IN)
case("exit_status_of_a_child_matters", "sh -c 'grep -q one in'; echo $?", **IN)
case("stopped_child_goes_on", "sh -c 'kill -STOP $$; echo went on > done' & while [ ! -e done ]; do "
     "kill -CONT $! 2> /dev/null; done; wait $!; echo $?; cat done; rm done")
case("recursive_make", "make -s", clean="rm -f sub/*.o sub/lib.a prog main.o",
     setup="mkdir sub; printf 'prog: main.o sub/lib.a\\n\\tgcc -o prog main.o sub/lib.a\\nmain.o: main.c\\n\\t"
           "gcc -c main.c\\nsub/lib.a: .FORCE\\n\\t$(MAKE) -C sub\\n.FORCE:\\n' > Makefile; "
           "printf 'lib.a: a.o b.o\\n\\tar rc $@ a.o b.o\\n\\tranlib $@\\n%%.o: %%.c\\n\\tgcc -c $<\\n' "
           "> sub/Makefile; echo 'int a(void);int main(void){return a();}' > main.c; "
           "echo 'int a(void){return 0;}' > sub/a.c; echo 'int b;' > sub/b.c",
     matter="echo 'int c;' >> sub/b.c", ran_after={"make": 2, "cc1": 1, "ar": 1, "ranlib": 1}, harmless=QUIET)


@scenario(timeout=150)
def two_thousand_short_processes(t):
    t.write("in", "x\n")
    script = "i=0; while [ $i -lt 2000 ]; do /bin/true; i=$((i+1)); done; cat in"
    t.step(script, hit=False, timeout=90)
    t.step(script, hit=True)
    t.check(t.done.seconds < 2, f"the hit took {t.done.seconds:.1f} s")
    t.write("in", "y\n")
    t.step(script, hit=False, timeout=90, what="with 2000 hits inside")


def _background(t, script, made):
    """A descendant that outlives the command: not waited for, not recorded, and it ends well."""
    for what in ("cold", "again"):
        start = time.monotonic()
        report = t.step(script, hit=False, what=f"{what}: {script}", compare=False)
        t.check(t.done.seconds < 1.2, f"run waited for the descendant: {t.done.seconds:.1f} s")
        t.check(not report.executions[0].get("recorded"), f"{what}: it was recorded")
        for side in t.sides():
            path = os.path.join(side, made)
            while not os.path.exists(path) and time.monotonic() - start < 15:
                time.sleep(0.05)
            t.check(os.path.exists(path), f"{what}: {path} never came")
        time.sleep(0.2)
        t.same_files(f"{what}: {script}")
        t.sh(f"rm -f {made}")


@scenario
def background_descendant_outlives(t):
    _background(t, "(sleep 1.5; echo late > late) > /dev/null 2>&1 & echo started", "late")


@scenario
def setsid_descendant_outlives(t):
    _background(t, "setsid sh -c 'sleep 1.5; echo late > late' > /dev/null 2>&1 < /dev/null & echo started",
                "late")


@scenario
def daemon_by_double_fork_outlives(t):
    t.write("d.py", "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n"
                    "    n = os.open('/dev/null', os.O_RDWR)\n    for f in (0, 1, 2): os.dup2(n, f)\n"
                    "    time.sleep(1.5)\n    open('late', 'w').write('x')\n  os._exit(0)\nprint('started')\n")
    _background(t, "python3 d.py", "late")


@scenario
def orphan_inside_a_command_that_waits(t):
    """A child's child outlives the child, but not the command."""
    script = "sh -c 'cat in > late & echo child ends'; while [ ! -s late ]; do :; done; cat late"
    t.write("in", "x\n")
    for _ in range(3):
        t.step(script)
        t.sh("rm -f late")


@scenario
def pcache_inside_pcache(t):
    t.write("in", "x\n")
    inner = f"{t.pcache} run --quiet -- sh -c 'cat in > out; exit 4'; echo $?"
    for _ in range(2):
        done, report = t.run(["sh", "-c", inner])
        t.equal(done.out, b"4\n", "inner status")
        t.equal(done.status, 0, "outer status")
        with open(os.path.join(t.tree, "out"), encoding="ascii") as f:
            t.equal(f.read(), "x\n", "inner output")
    os.unlink(os.path.join(t.tree, "out"))


@scenario
def two_runs_at_once(t):
    import threading  # pylint: disable=import-outside-toplevel

    t.write("a.in", "a\n")
    t.write("b.in", "b\n")
    results = {}

    def one(name):
        for i in range(5):
            done = t.cli("run", "--quiet", "--root", t.tree, "--", "sh", "-c",
                         f"cat {name}.in > {name}.{i}; echo {name}", cwd=t.tree)
            results[name, i] = (done.status, done.out, done.err)

    threads = [threading.Thread(target=one, args=(n,)) for n in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in "ab":
        for i in range(5):
            t.equal(results[name, i], (0, f"{name}\n".encode(), b""), f"run {name}{i}")
            with open(os.path.join(t.tree, f"{name}.{i}"), encoding="ascii") as f:
                t.equal(f.read(), f"{name}\n", f"{name}.{i}")
    t.finished = True


@scenario
def told_to_stop_from_outside(t):
    """It ends well, having done half of its work: what it left then is nobody's result."""
    t.write("work.py", "import signal, sys, time\ndef stop(*_):\n  with open('out', 'w') as f: f.write('half')\n  sys.exit(0)\n"
                       "signal.signal(signal.SIGINT, stop)\nopen('ready', 'w').close()\n"
                       "if len(sys.argv) > 1: time.sleep(30)\nwith open('out', 'w') as f: f.write('whole')\n")
    for name, command in (("alone", ["python3", "work.py", "x"]), ("in a shell", ["sh", "-c", "python3 work.py x; true"])):
        for _ in range(2):
            run = subprocess.Popen([t.pcache, "run", "--quiet", "--root", t.tree, "--report", t.path("reports", "r"), "--",
                                    *command], cwd=t.tree, env=t.environment(t.tree), start_new_session=True,
                                   stdin=subprocess.DEVNULL)
            until = time.monotonic() + 20
            while not os.path.exists(os.path.join(t.tree, "ready")) and time.monotonic() < until:
                time.sleep(0.01)
            os.killpg(run.pid, signal.SIGINT)
            t.check(run.wait(timeout=20) in (0, 130, -2), f"{name}: status {run.returncode}")
            with open(t.path("reports", "r"), encoding="utf-8") as f:
                told = json.load(f)["executions"]
            codes = [r["code"] for e in told for r in e["reasons"] if e["argv"][0] == "python3"]
            t.check("signals" in codes, f"{name}: no reason signals, but {codes}")
            t.sh("rm -f out ready")
    t.step("kill -USR1 $$ 2> /dev/null; true", hit=False)  # ends it
    cmd = "trap 'echo told' USR1; kill -USR1 $$; cat work.py"
    t.step(cmd, hit=False, what="told by itself")
    t.step(cmd, hit=True, what="told by itself again")
    cmd = "trap 'echo told' TERM; sh -c 'kill -TERM $PPID'; echo done"
    t.step(cmd, hit=False, what="told by a child")
    t.step(cmd, hit=True, what="told by a child again")
