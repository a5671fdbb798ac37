"""Wildcards, dependencies and times, as make sees them."""
from harness import scenario


def _wildcard_project(t):
    files = {f"{n}.c": f"int {n}(void) {{ return {i}; }}\n"
             for i, n in enumerate(("one", "two", "three", "four"), 1)}
    files["main.c"] = "int one(void);\nint main(void) { return one() - 1; }\n"
    files["Makefile"] = ("SRC := $(sort $(wildcard *.c))\nOBJ := $(SRC:.c=.o)\nprog: $(OBJ)\n"
                         "\tgcc -o $@ $(OBJ)\n%.o: %.c\n\tgcc -c -o $@ $<\n")
    files["docs/readme"] = "text\n"
    t.write_all(files)


@scenario
def wildcard_makefile(t):
    make = ["make", "-j2"]
    link = {"make": 1, "gcc": 1, "collect2": 1, "ld": 1}
    compile_one = {**link, "gcc": 2, "cc1": 1, "as": 1}
    _wildcard_project(t)
    t.step(make, what="cold", hit=False, streams=False)
    t.step(make, what="untouched")
    t.step(make, what="untouched again", hit=True)
    t.write("five.c", "int five(void) { return 5; }\n")
    t.step(make, what="five.c is new", ran=compile_one)
    t.step(make, what="untouched with five")
    t.step(make, what="untouched with five again", hit=True)
    t.write("docs/notes.txt", "nobody lists this directory\n")
    t.step(make, what="docs/notes.txt is new", hit=True)
    t.write("docs/readme", "changed\n")
    t.step(make, what="docs/readme changed", hit=True)
    t.sh("rm five.c five.o")
    report = t.step(make, what="five.c is gone")
    t.equal(report.count("cc1"), 0, "five.c is gone: compilers that ran")
    t.sh("touch two.c")
    report = t.step(make, what="two.c touched", hit=False)
    t.equal(report.count("cc1"), 0, "two.c touched: compilers that ran")
    t.equal(report.count("make"), 1, "two.c touched: make")
    t.sh("rm -f *.o prog")
    report = t.step(make, what="clean", hit=None, streams=False)
    t.equal(report.count("cc1"), 0, "clean: compilers that ran")


@scenario
def jobs_do_not_matter(t):
    _wildcard_project(t)
    t.step(["make", "-s", "-j1"], hit=False)
    for jobs in ("-j8", "-j1", "-j2"):
        t.sh("rm *.o prog")
        report = t.step(["make", "-s", jobs], what=jobs)
        t.equal(report.count("cc1"), 0, f"{jobs}: compilers that ran")
        t.check(report.whole_hit(), f"{jobs}: did not hit whole\n{report.reasons()}")


@scenario
def variables_on_the_command_line(t):
    _wildcard_project(t)
    t.step(["make", "-s", "CFLAGS=-O1"], hit=False)
    t.write("Makefile", "CFLAGS = -O0\nOBJ = one.o\none.o: one.c\n\tgcc $(CFLAGS) -c one.c\n")
    t.sh("rm -f *.o prog")
    t.step(["make"], hit=False)
    t.sh("rm one.o")
    t.step(["make", "CFLAGS=-O2"], hit=False)
    t.sh("rm one.o")
    t.step(["make"], hit=True)


@scenario
def a_failing_make_then_mended(t):
    _wildcard_project(t)
    t.write("two.c", "int two(void) { return }\n")
    t.step(["make", "-k"], what="broken", hit=False)
    t.step(["make", "-k"], what="still broken", hit=False)
    t.write("two.c", "int two(void) { return 2; }\n")
    report = t.step(["make", "-k"], what="mended", hit=False)
    t.equal(report.count("cc1"), 1, "mended: compilers that ran")
    t.sh("rm *.o prog")
    report = t.step(["make", "-k"], what="clean after mending")
    t.equal(report.count("cc1"), 0, "clean after mending: compilers that ran")


@scenario
def dependency_files(t):
    t.write_all({"a.c": '#include "a.h"\nint a = A;\n', "a.h": "#define A 1\n", "b.c": "int b;\n",
                 "b.h": "\n",
                 "Makefile": "lib.a: a.o b.o\n\tar rcs $@ $^\n%.o: %.c\n\tgcc -MMD -c $<\n"
                             "-include $(wildcard *.d)\n"})
    t.step(["make"], hit=False)
    t.step(["make"])
    t.step(["make"], hit=True)
    t.write("a.h", "#define A 2\n")
    report = t.step(["make"], what="header changed", hit=False)
    t.equal(report.count("cc1"), 1, "header changed: compilers that ran")
    t.sh("rm *.o *.d *.a")
    report = t.step(["make"], what="clean")
    t.equal(report.count("cc1"), 0, "clean: compilers that ran")


@scenario
def generated_sources(t):
    t.write_all({"gen.py": "import sys\nopen(sys.argv[1], 'w').write('int g = %d;\\n' % len(open('spec')"
                           ".read()))\n", "spec": "abc\n",
                 "Makefile": "g.o: g.c\n\tgcc -c g.c\ng.c: spec gen.py\n\tpython3 gen.py g.c\n"})
    t.step(["make"], hit=False)
    t.sh("rm g.o g.c")
    t.step(["make"], hit=True)
    t.write("spec", "abd\n")
    report = t.step(["make"], what="spec of equal length", hit=False)
    t.equal((report.count("python3"), report.count("cc1")), (1, 0), "the generator ran, no compiler")
    t.write("spec", "longer\n")
    report = t.step(["make"], what="longer spec", hit=False)
    t.equal((report.count("python3"), report.count("cc1")), (1, 1), "both ran")
