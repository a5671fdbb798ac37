"""Compilers and make in less usual ways: what they read besides sources, and what they leave besides objects."""
import re
import subprocess

from harness import QUIET, Skip, case, scenario

C = "printf '#include \"a.h\"\\nint f(void) { return A; }\\n' > a.c; echo '#define A 1' > a.h"
MAIN = "; echo 'int f(void); int main(void) { return f() - f(); }' > main.c"
OTHER = "echo '#define A 2' > a.h"

case("time_of_a_source_in_its_text", "gcc m.c -o m && ./m", clean="rm m", matter="touch -d 2021-01-01 m.c",
     hit=False, code="clock",
     setup="printf 'int puts(const char *);\\nint main(void) { return puts(__TIMESTAMP__) < 0; }\\n' > m.c; "
           "touch -d 2020-01-01 m.c")
case("date_in_a_source", "gcc m.c -o m && ./m | wc -c; rm m", hit=False,
     setup="printf 'int puts(const char *);\\nint main(void) { return puts(__DATE__ __TIME__) < 0; }\\n' > m.c")
case("date_in_a_source_that_is_fixed", "gcc m.c -o m && ./m", clean="rm m", env={"SOURCE_DATE_EPOCH": "1000000000"},
     setup="printf 'int puts(const char *);\\nint main(void) { return puts(__DATE__ __TIME__) < 0; }\\n' > m.c",
     matter="sed -i s/__TIME__// m.c")
case("response_file", "gcc @opts -c a.c -o a.o", setup=C + "; echo '-DB=1 -O1' > opts", clean="rm a.o",
     matter="echo '-DB=2 -O0' > opts", harmless="touch a.c a.h opts")
case("dependency_file", "gcc -MMD -MP -MF a.d -c a.c; cat a.d", setup=C, clean="rm a.o a.d", matter=OTHER)
case("only_dependencies", "gcc -MM a.c", setup=C, matter="echo '#include \"b.h\"' >> a.h; : > b.h")
case("precompiled_header", "gcc -x c-header a.h -o a.h.gch && gcc -include a.h -c a.c && rm a.h.gch", setup=C, clean="rm a.o",
     matter=OTHER)
case("intermediate_files", "gcc -save-temps -c a.c && ls a.*", setup=C, clean="rm a.o a.i a.s", matter=OTHER,
     harmless=QUIET)
case("split_debug_information", "gcc -g -gsplit-dwarf -fdebug-prefix-map=$PWD=. -c a.c && ls a.dwo", setup=C,
     clean="rm a.o a.dwo", matter=OTHER, compare=False)
case("link_time_optimization", "gcc -O1 -flto -frandom-seed=1 -c a.c && gcc -O1 -flto main.c a.o -o p && ./p; rm a.o", setup=C + MAIN,
     clean="rm p", matter=OTHER, timeout=120)
case("static_library_and_index", "gcc -c a.c && ar rcS l.a a.o && ranlib l.a && nm -s l.a && gcc main.c l.a -o p",
     setup=C + MAIN, clean="rm a.o l.a p", matter=OTHER)
case("relocatable_and_stripped", "gcc -c a.c main.c && ld -r a.o main.o -o b.o && strip -g b.o && objcopy b.o c.o && size c.o",
     setup=C + MAIN, clean="rm a.o main.o b.o c.o", matter=OTHER)
case("preprocessed_into_a_pipe", "gcc -E a.c | gcc -x cpp-output -c - -o a.o", setup=C, clean="rm a.o", matter=OTHER)
case("assembled_by_hand", "gcc -S a.c && as a.s -o a.o && ld -e f a.o -o p", setup=C, clean="rm a.s a.o p", matter=OTHER)
case("included_data", "as d.s -o d.o", setup="echo '.incbin \"blob\"' > d.s; echo one > blob", clean="rm d.o",
     matter="echo two > blob")
case("linker_script", "ld -T s.ld a.o -o p 2> /dev/null; ls p", clean="rm p", setup=C + "; gcc -c a.c; echo 'SECTIONS { . = 0x10000; "
     ".text : { *(.text) } }' > s.ld", matter="sed -i s/0x10000/0x20000/ s.ld")
case("size_of_a_table_from_a_tool", "sh gen.sh > t.h; gcc -include t.h -c a.c", setup=C + "; echo 1 2 3 > data; "
     "echo 'echo \"int t[] = {$(tr \\\" \\\" , < data)};\"' > gen.sh", clean="rm t.h a.o", matter="echo 1 2 3 4 > data")


@scenario(timeout=120)
def beside_ccache(t):
    """Each is right whatever the other has kept."""
    t.sh(C)
    env = {"CCACHE_DIR": "@.ccache"}
    for what in ("cold", "warm", "changed", "changed back"):
        t.step("ccache gcc -c a.c -o a.o && gcc -c a.c -o b.o && cmp a.o b.o", env=env, what=what)
        t.sh("rm a.o b.o; " + (OTHER if what == "warm" else "echo '#define A 1' > a.h"))


def _jobserver(t, style=""):
    t.write_all({"Makefile": f"all: one two\none two:\n\t+@$(MAKE) -s -C $@ {style}\n.PHONY: one two\n"})
    for side in ("one", "two"):
        t.write_all({f"{side}/Makefile": "all: a.o b.o c.o\n%.o: %.c\n\tgcc -c $<\n",
                     **{f"{side}/{n}.c": f"int {side}_{n};\n" for n in "abc"}})
    t.step(["make", "-s", "-j4", *style.split()], what="cold", hit=False)
    for what, edit in (("all gone", "rm */*.o"), ("one changed", "rm */*.o; echo 'int x;' >> one/b.c")):
        t.sh(edit)
        report = t.step(["make", "-s", "-j2", *style.split()], what=what)
        t.equal(report.count("cc1"), int(what == "one changed"), f"{what}: compilers that ran")
        for side in t.sides():
            t.equal(t.run_bare(["make", "-q", "-C", "one"], side).status, 0, f"{what}: make -q")


@scenario(timeout=120)
def jobserver_of_a_pipe(t):
    _jobserver(t)


@scenario(timeout=120)
def jobserver_of_a_fifo(t):
    version = subprocess.run(["make", "--version"], capture_output=True, check=True).stdout.decode()
    found = re.search(r"(\d+)\.(\d+)", version)
    if not found or tuple(map(int, found.groups())) < (4, 4):
        raise Skip("make is older than 4.4: it has no fifo")
    _jobserver(t, "--jobserver-style=fifo")


@scenario
def move_if_changed(t):
    """The usual way to spare what depends on a generated header."""
    t.write_all({"spec": "1\n", "a.c": "#include \"g.h\"\nint a = G;\n",
                 "Makefile": "a.o: a.c g.h\n\tgcc -c a.c\ng.h: stamp ;\nstamp: spec\n\t(echo '#define G '; cat spec) | "
                             "tr -d '\\n' > g.tmp; echo >> g.tmp; cmp -s g.tmp g.h && rm g.tmp || mv g.tmp g.h; touch stamp\n"})
    for what, edit in (("cold", "touch spec"), ("touched", "touch spec"), ("changed", "echo 2 > spec"),
                       ("changed back", "echo 1 > spec"), ("gone", "rm -f g.h stamp a.o")):
        t.sh(edit)
        t.step(["make", "-s"], what=what)
        t.step(["make", "-s"], what=f"{what}, again")
