"""Another checkout of the same project: it hits, unless something of the first one's name would show."""
import shutil

from harness import scenario


def _elsewhere(t, bare="bar2", tree="tre2"):
    """From here on the scenario's two copies are those of another checkout."""
    for name in (bare, tree):
        shutil.copytree(t.bare, t.path(name), symlinks=True)
    t.bare, t.tree = t.path(bare), t.path(tree)


def _in_another_checkout(t, cmd, *, setup="", clean="", hit=True, verify=None, cwd=".", env=None):
    """CMD is recorded in one checkout and run in another. hit=False: it must not hit there, for other-root;
    None: it may. `verify` is run bare on both afterwards and must say the same."""
    t.sh(setup)
    how = dict(cwd=cwd, env=env)
    t.step(cmd, what="cold", hit=False, **how)
    t.sh(clean)
    t.step(cmd, what="warm", hit=True, **how)
    t.sh(clean)
    _elsewhere(t)
    for what, expect in (("in another checkout", hit), ("there again", True)):
        report = t.step(cmd, what=what, hit=expect, **how)
        if expect is False:
            t.check(report.codes() & {"other-root", "key-changed"},
                    f"{what}: not for other-root, but {report.codes()}")
        if verify:
            said = [t.run_bare(["sh", "-c", verify], side).out for side in t.sides()]
            t.equal(t._bare_named(said[1]), said[0], f"{what}: {verify}")
        t.sh(clean)


IN = "echo one > in"
C = "printf '#include \"a.h\"\\nint f(int x) { return x + A; }\\n' > a.c; echo '#define A 1' > a.h"
COMP_DIR = "readelf --debug-dump=info %s 2> /dev/null | grep -o 'DW_AT_comp_dir.*' | sed 's/.*: //'"


@scenario
def another_checkout_hits(t):
    _in_another_checkout(t, "cat in > out; sort in > sorted; mkdir d; cp in d/in", setup=IN,
                         clean="rm -r out sorted d")


@scenario
def another_checkout_hits_a_compiler(t):
    _in_another_checkout(t, "gcc -c -I. a.c -o a.o; ar rc a.a a.o", setup=C, clean="rm a.o a.a")


@scenario
def another_checkout_with_other_contents(t):
    """Each checkout's inputs are its own."""
    t.sh(IN)
    t.step("cat in > out", hit=False)
    t.sh("rm out")
    _elsewhere(t)
    t.sh("echo two > in")
    t.step("cat in > out", hit=False, what="other contents there")
    t.sh("echo one > in; rm out")
    t.step("cat in > out", hit=True, what="equal contents there")


@scenario
def root_in_an_argument(t):
    t.sh(IN)
    for _ in range(2):
        for argv in (["sh", "-c", f"cat {t.bare}/in"], ["cat", "in"]):
            t.step(argv)
    _in_another_checkout(t, "cat \"$PWD/in\" > out", clean="rm out", hit=False)


@scenario
def root_in_the_environment(t):
    _in_another_checkout(t, "cat $SRC/in > out", setup=IN, clean="rm out", hit=False, env={"SRC": "@"})


@scenario
def root_in_the_output(t):
    _in_another_checkout(t, "pwd; cat in", setup=IN, hit=False)


@scenario
def root_in_an_output_file(t):
    _in_another_checkout(t, "pwd > where; cat in", setup=IN, clean="rm where", hit=False)


@scenario
def root_in_a_link(t):
    _in_another_checkout(t, "ln -s \"$PWD/in\" l; cat l", setup=IN, clean="rm l", hit=False)


@scenario
def root_in_debug_information(t):
    t.ignore.add("a.o")
    _in_another_checkout(t, "gcc -g -c a.c", setup=C, clean="rm a.o", hit=False, verify=COMP_DIR % "a.o")


@scenario
def root_in_compressed_debug_information(t):
    t.ignore.add("a.o")
    _in_another_checkout(t, "gcc -g -gz -c a.c", setup=C, clean="rm a.o", hit=False, verify=COMP_DIR % "a.o")


@scenario
def root_in_an_object_for_link_time_optimization(t):
    t.ignore |= {"a.o", "p"}
    _in_another_checkout(t, "gcc -g -O1 -flto -c a.c", setup=C, clean="rm a.o", hit=False,
                         verify="echo 'int f(int); int main(void) { return f(-1); }' > m.c; "
                                "gcc -g -O1 -flto m.c a.o -o p; rm m.c; " + COMP_DIR % "p" + "; rm p")


@scenario
def root_in_split_debug_information(t):
    t.ignore |= {"a.o", "a.dwo"}
    _in_another_checkout(t, "gcc -g -gsplit-dwarf -c a.c", setup=C, clean="rm a.o a.dwo", hit=False,
                         verify="strings a.dwo | grep -c \"$PWD\\$\"")


@scenario
def root_in_a_temporary_object(t):
    """What carried the name is gone at the end; what was made of it shows it."""
    t.ignore.add("a.z")
    _in_another_checkout(t, "gcc -g -c a.c; gzip -nc a.o > a.z; rm a.o", setup=C, clean="rm a.z", hit=False,
                         verify="gzip -dc a.z > a.o; " + COMP_DIR % "a.o" + "; rm a.o")


@scenario
def root_in_a_pipe_within(t):
    """The length of what names the root, of checkouts whose names are not equally long."""
    script = "gcc -g -S -o - a.c | wc -c"
    t.sh(C)
    t.step(script, hit=False)
    _elsewhere(t, "a-longer-name-1", "a-longer-name-2")
    t.step(script, what="in another checkout")


@scenario
def debug_information_mapped_elsewhere(t):
    t.ignore.add("a.o")
    _in_another_checkout(t, "gcc -g -ffile-prefix-map=/nowhere=. -c a.c", setup=C, clean="rm a.o", hit=False,
                         verify=COMP_DIR % "a.o")


@scenario
def name_of_the_checkout_in_a_script_with_options(t):
    """`sh -e script`: the script is read like any other."""
    t.write("s.sh", "echo ${PWD##*/} | wc -c\n")
    t.step("sh -e s.sh", hit=False)
    _elsewhere(t, "a-longer-name-1", "a-longer-name-2")
    t.step("sh -e s.sh", what="in another checkout")


@scenario
def script_with_options_in_another_checkout(t):
    t.write("s.sh", "echo ${PWD##*/} | wc -c\n")
    t.step(["sh", "-e", "s.sh"], hit=False)
    _elsewhere(t, "a-longer-name-1", "a-longer-name-2")
    t.step(["sh", "-e", "s.sh"], what="in another checkout")


@scenario
def make_in_another_checkout(t):
    """make asks for its directory; its compilers hit."""
    t.sh(C + "; printf 'a.o: a.c a.h\\n\\tgcc -c a.c\\n' > Makefile")
    t.step(["make"], hit=False)
    t.sh("rm a.o")
    _elsewhere(t)
    report = t.step(["make"], what="in another checkout")
    t.equal(report.count("cc1"), 0, "compilers that ran")


@scenario
def python_knows_its_file(t):
    t.write("where.py", "print(len(__file__))\nimport os\nprint(len(os.path.abspath(__file__)))\n")
    t.step(["python3", "where.py"], hit=False)
    _elsewhere(t, "a-longer-name-1", "a-longer-name-2")
    t.step(["python3", "where.py"], what="in another checkout")
