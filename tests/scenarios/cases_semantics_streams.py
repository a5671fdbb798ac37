"""What standard output and error are, asked by fstat: stdio asks for itself, programs for their readers."""
from harness import QUIET, case, scenario

ASKS = r"""
#include <stdio.h>
#include <sys/stat.h>
int main(void) {
  struct stat st;
  fstat(FD, &st);
  fprintf(stdout, "%s\n", S_ISFIFO(st.st_mode) ? "pipe" : S_ISREG(st.st_mode) ? "file" : "other");
  return 0;
}
"""


def _runs(t, script, command, expected):
    """What becomes of the output is in a directory that nobody lists."""
    report = t.step(script)
    if not t.equal(report.count(command.split()[0].rsplit("/", 1)[-1]), expected, f"{script}: runs"):
        t.note(report.reasons())
    return report


def _asks(t, command, setup=""):
    """To a file, then to a pipe: it must run again; then to a pipe and a file once more: it must not."""
    t.sh("mkdir -p o; " + setup)
    to_file, to_pipe = f"{command} > o/out; wc -c o/out", f"{command} | wc -c"
    t.step(to_file)
    report = _runs(t, to_pipe, command, 1)
    t.check("stream-changed" in report.codes(), f"no reason stream-changed, but {report.codes()}")
    for script in (to_file, to_pipe):
        _runs(t, script + "; echo again", command, 0)


def _tells_nobody(t, command, setup=""):
    t.sh("mkdir -p o; " + setup)
    t.step(f"{command} > o/out; wc -c o/out")
    for script in (f"{command} | wc -c", f"{command} > o/other; wc -c o/other", f"{command} 2> o/err | wc -c"):
        _runs(t, script, command, 0)


@scenario
def kind_of_stdout_is_asked_by_fstat(t):
    _asks(t, "perl -e 'print -p STDOUT ? 1 : 2'")


@scenario
def kind_of_stdout_is_asked_by_python(t):
    _asks(t, "/usr/bin/python3 -c 'import os, stat; print(stat.S_ISFIFO(os.fstat(1).st_mode))'")


@scenario
def kind_of_stdout_is_asked_by_a_program(t):
    t.write("p.c", ASKS)
    _asks(t, "./p", "gcc -DFD=1 -o p p.c")


@scenario
def kind_of_stdout_is_asked_by_a_static_program(t):
    t.write("p.c", ASKS)
    _asks(t, "./p", "gcc -static -DFD=1 -o p p.c")


@scenario
def kind_of_stderr_is_asked_by_fstat(t):
    t.write("p.c", ASKS)
    t.sh("gcc -DFD=2 -o p p.c")
    t.step("./p 2> err")
    report = t.step("./p 2>&1")
    t.equal(report.count("p"), 1, "into a pipe: runs")
    t.equal(t.step("./p 2> other").count("p"), 0, "into a file again: runs")


@scenario
def kind_of_stdout_is_asked_in_a_child(t):
    """Whoever started it has the same stdout, and the same question."""
    t.write("s", "perl -e 'print -p STDOUT ? 1 : 2'; echo")
    _asks(t, "dash s")
    # Also where the child hits, and only what is around it is new.
    t.write("s", "perl -e 'print -p STDOUT ? 1 : 2'; echo; echo")
    _asks(t, "dash s")


case("size_of_what_is_appended_to", "perl -e 'print \"title\\n\" unless -s STDOUT; print \"line\\n\"' >> out",
     clean="rm out", again=False, harmless=QUIET, matter="echo before > out")


@scenario
def kind_of_stdout_is_no_question_of_make(t):
    t.write("Makefile", "all:\n\t@cat in\n\t@sed s/o/0/ in\n\t@gcc -E -P a.c\n")
    t.write_all({"in": "one\n", "a.c": "int a;\n"})
    _tells_nobody(t, "make")


@scenario
def kind_of_stdout_is_no_question_of_stdio(t):
    t.write_all({"in": "one\n", "p.c": "#include <stdio.h>\nint main(void){puts(\"one\");return 0;}\n"})
    t.sh("gcc -o p p.c")
    for command in ("./p", "grep o in", "cat in", "sort in", "tar cf - in", "perl -ne print in", "awk 1 in",
                    "/usr/bin/python3 -c 'print(1)'", "bash -c 'echo a; (echo b); (echo c)'", "cmp -s in in"):
        _tells_nobody(t, command)


# --- files that somebody else writes to as well ---

CHILD = "cat in >> out; : > done; sleep 1"


def _child_alone(t, around, alone):
    """What is around it writes to the child's output while the child is at it: the child's own record, if
    there is one, must not hold that."""
    t.write_all({"in": "child\n", "out": ""})
    t.step(around)
    t.write("out", "")
    t.sh("rm done")
    t.step(alone)


@scenario
def written_by_the_parent_through_what_it_held(t):
    _child_alone(t, ["/usr/bin/python3", "-c", "import os, subprocess, time\nf = os.open('out', os.O_WRONLY | os.O_APPEND)\n"
                     f"p = subprocess.Popen(['sh', '-c', '{CHILD}'])\nwhile not os.path.exists('done'): time.sleep(0.1)\n"
                     "os.write(f, b'parent\\n'); p.wait()"], ["sh", "-c", CHILD])


@scenario
def written_by_the_parent_meanwhile(t):
    _child_alone(t, f"sh -c '{CHILD}' & while [ ! -e done ]; do sleep 0.1; done; echo parent >> out; wait",
                 f"sh -c '{CHILD}' & wait")
