"""Times after a hit as make sees them, descriptors that change under a command, and two commands at once."""
import os

from harness import QUIET, case, scenario

IN = dict(setup="echo one > in", matter="echo two > in")


def _make_agrees(t, makefile, outputs, edit="touch in"):
    """After each way to bring it up to date, make has nothing left to do."""
    t.write_all({"Makefile": makefile, "in": "x\n"})
    for what in ("cold", "warm", "after an edit without a change", "once more"):
        t.step(["make", "-s"], what=what)
        for side in t.sides():
            t.equal(t.run_bare(["make", "-q"], side).status, 0, f"{what}: make -q in {os.path.basename(side)}")
        t.sh(edit if what == "warm" else f"rm -rf {outputs}")


@scenario
def copy_that_keeps_the_time_of_an_own_output(t):
    _make_agrees(t, "b: a\n\tcp -p a b\na: in\n\tcat in > a\n", "a b")


@scenario
def copy_that_keeps_the_time_within_one_recipe(t):
    _make_agrees(t, "b: in\n\tcat in > a; cp -p a b\n", "a b")


@scenario
def gzip_of_an_own_output(t):
    _make_agrees(t, "a.gz: in\n\tcat in > a; gzip -nf a\n", "a.gz")


@scenario
def time_of_an_own_output_taken_by_touch(t):
    _make_agrees(t, "b: a\n\tcat a > b; touch -r a b\na: in\n\tcat in > a\n", "a b")


@scenario
def stamp_files(t):
    _make_agrees(t, "stamp: in\n\tcat in > out; : > stamp\n", "stamp out")


@scenario
def equal_bytes_are_newer_all_the_same(t):
    t.write_all({"in": "x\n", "Makefile": "b: a\n\tcat a > b\na: in\n\tcat in > a\n"})
    for _ in range(3):
        t.step(["make", "-s"])
        t.sh("touch in")
    for side in t.sides():
        t.equal(t.run_bare(["make", "-q"], side).status, 1, "in is newer than all")
    t.step(["make", "-s"], what="brought up to date")
    for side in t.sides():
        t.equal(t.run_bare(["make", "-q"], side).status, 0, "make -q")


# --- the file behind stdout changes its name, goes, or is opened again ---

def _first_into_a_file(t, script, again):
    """SCRIPT with stdout into `log` of its tree, then, with everything as it was, into a pipe."""
    for _ in range(2):
        for side in t.sides():
            with open(os.path.join(side, "log"), "wb") as out:
                if side == t.bare:
                    t.run_bare(["sh", "-c", script], side, out=out)
                else:
                    t.run(["sh", "-c", script], out=out)
        t.same_files(f"{script} > log")
        t.sh(again)
    for what in ("into a pipe", "into a pipe again"):
        t.step(script, what=f"{script}, {what}")
        t.sh(again)


@scenario
def stdout_file_removed_by_the_command(t):
    _first_into_a_file(t, "rm -f log; echo after", ": > log")
    _first_into_a_file(t, "rm -f log; /bin/echo after", ": > log")


@scenario
def stdout_file_truncated_by_a_command_within(t):
    # What the first one wrote is cut off, and must stay so when the middle one hits.
    t.write("two.sh", "sh -c 'exec cat none'\nsh ./three.sh > log 2>&1\ntrue\n")
    for shell in ("bash", "sh", "dash", "sh"):
        t.write("one.sh", "sh ./two.sh > log 2>&1\n")
        report = t.step([shell, "one.sh"])
        t.sh("rm -f log")
        if shell == "bash":
            t.check("changes-own-output" in report.codes(), report.codes())
    t.write("three.sh", "echo three\n")
    for script in ("{ echo one; sh -c 'echo two > log'; } > log", "{ echo one; sh -c 'echo two >> log'; echo three; } > log"):
        for again in ("first", "second", "third"):
            t.step(f"sh -c '{script}'".replace("'echo", '"echo').replace("log';", 'log";'), what=f"{script}, {again}")
    # Recorded with its output elsewhere.
    t.step("sh two.sh > other", hit=False)
    t.step("sh two.sh > log", hit=False)
    t.step("sh two.sh > log; sh two.sh > other")


@scenario
def sparse_file_rewritten_in_place(t):
    # The hit finds a file with holes, which is saved before it is cut.
    for _ in range(3):
        t.step("truncate -s 9000 out")
        t.sh("printf 'tw\\tabs\\n' >> out")
    t.step("truncate -s 9000 out", hit=True)


@scenario
def time_set_that_was_the_same(t):
    t.write("ref", "x\n")
    t.sh("touch -d @1000000000 ref")
    for _ in range(3):
        t.step("touch -r ref out")
    t.sh("printf '' > out")
    for _ in range(2):
        t.step(["sh", "-c", "true; touch -r ref out"])
        t.sh("printf '' > out")


@scenario
def temporary_file_in_a_directory_that_is_gone(t):
    t.sh("mkdir d")
    cmd = ["sh", "-c", "(echo x > d/p && cat d/p; rm -f d/p) 2>/dev/null; true"]
    for hit in (False, True):
        t.step(cmd, hit=hit)
    t.sh("rmdir d")
    t.step(cmd, hit=False)
    t.step(cmd)


@scenario
def written_under_another_name_that_goes(t):
    t.write("x", "one\n")
    t.sh("ln x y")
    cmd = ["sh", "-c", "cat y; echo gone > y; rm y; ln x y"]
    codes = set()
    for _ in range(4):
        codes |= t.step(cmd).codes()
    t.check("changes-other-names" in codes, codes)
    t.write("x", "two\n")
    t.step(cmd)
    t.step(cmd)


@scenario
def stdout_file_renamed_by_the_command(t):
    _first_into_a_file(t, "mv log log2; echo after", ": > log; rm -f log2")


@scenario
def stdout_closed_and_opened_as_the_same_file(t):
    _first_into_a_file(t, "exec >&-; exec > log; echo after", ": > log")


@scenario
def input_is_the_output(t):
    t.write_all({"a": "a\n", "b": "b\n"})
    for _ in range(3):
        t.step("cat a b >> b", what="cat a b >> b")
        t.step("sh -c 'cat a' >> a", what="a >> a")
        t.step("cat < b > b 2> /dev/null; wc -c < b", what="< b > b")



case("closed_stdout_used_for_a_file", "exec >&-; exec > out; cat in; /bin/echo more", clean="rm out", **IN)
case("streams_exchanged", "exec 3>&1 1>&2 2>&3 3>&-; echo out; /bin/echo err >&2; cat in", **IN)
case("process_substitution", ["bash", "-c", "diff <(cat in) <(echo one) > d; cat d"], clean="rm d", **IN)
case("written_through_the_kernel", "python3 -c \"import os; f = os.open('in', 0); os.sendfile(1, f, 0, 99)\"",
     harmless=QUIET, hit=False, code="stream-uncertain", **IN)
case("thread_writes_while_a_child_appends", "python3 -c \"import os, subprocess, threading\n"
     "f = os.open('out', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
     "t = threading.Thread(target=os.write, args=(f, b'thread\\n')); t.start(); t.join()\n"
     "subprocess.run('cat in >> out', shell=True)\nos.write(f, b'parent\\n')\"", again=False, clean="rm out", harmless=QUIET, **IN)

# --- parents, children, siblings ---

case("sibling_reads_what_a_sibling_made", "sh -c 'cat in > a'; sh -c 'cat a a > b'; sh -c 'sort b > c; rm a'; cat c",
     clean="rm b c", **IN)
case("temporary_file_between_children", "sh -c 'cat in > t'; sh -c 'wc -c < t > n'; rm t; cat n", clean="rm n", **IN)
case("child_changes_what_its_parent_read", "cat in; sh -c 'echo three >> in'; cat in", setup="echo one > in",
     clean="echo one > in", matter="echo two > in", again=False)
case("child_removes_what_the_parent_listed", "ls d; sh -c 'rm d/a'; ls d | wc -l", setup="mkdir d; touch d/a d/b",
     clean="touch d/a", matter="touch d/c", again=False)


@scenario
def two_writers_of_one_path(t):
    """Neither is recorded; the command around both is."""
    t.write("one.sh", ": > x; touch s1; while [ ! -e s2 ]; do :; done; echo a > x\n")
    t.write("two.sh", "while [ ! -e s1 ]; do :; done; echo b > x; touch s2\n")
    script = "sh one.sh & sh two.sh & wait; cat x; rm s1 s2"
    report = t.step(script, hit=False)
    t.check("raced" in report.codes(), f"no reason raced, but {report.codes()}")
    t.sh("rm x")
    t.step(script, hit=True, what="warm")


@scenario
def reader_of_what_is_being_written(t):
    t.write("one.sh", "exec 3> x; echo a >&3; : > s1; while [ ! -e s2 ]; do :; done; echo b >&3\n")
    t.write("two.sh", "while [ ! -e s1 ]; do :; done; cat x > seen; : > s2\n")
    script = "sh one.sh & sh two.sh & wait; cat x seen; rm s1 s2"
    report = t.step(script, hit=False)
    t.check("raced" in report.codes(), f"no reason raced, but {report.codes()}")
    t.sh("rm x seen")
    t.step(script, hit=True, what="warm")


@scenario
def holes_stay_holes(t):
    """Of what is written at once, of what is served, and of what streams."""
    t.write("in", "one\n")
    for size in ("600K", "3M", "200M"):
        command = f"truncate -s {size} out; cat in >> out; dd if=in of=out conv=notrunc bs=1 seek=300000 2> /dev/null"
        t.step(command, what=f"{size}, cold")
        t.sh("rm out")
        t.step(command, what=f"{size}, warm", hit=True)
        t.stop()
        blocks = os.stat(os.path.join(t.tree, "out")).st_blocks
        t.check(blocks <= 64, f"{size}: it takes {blocks} blocks")
        t.sh("rm out")
    stored = sum(os.lstat(os.path.join(d, n)).st_blocks for d, _, names in os.walk(t.path("cache", "store", "blobs"))
                 for n in names)
    t.check(stored < 1000, f"the blobs take {stored} blocks")
