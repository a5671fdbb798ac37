"""One scenario for each rule of what is an input that no other scenario would miss: tests/mutations takes
the rules out of the program one by one, and these must then fail."""
import os
import threading
import time

from harness import case, scenario

KEEP_TIME = "t=$(stat -c %y in); {}; touch -d \"$t\" in"

case("mode_of_what_is_only_opened", "python3 -c \"import os; print(oct(os.fstat(os.open('in', 0)).st_mode))\"",
     setup="echo one > in; chmod 644 in; mkdir d", harmless="touch d/unrelated", matter="chmod 640 in")
case("size_with_the_time_put_back", "[ -s in ] && echo full || echo empty", setup="echo one > in",
     matter=KEEP_TIME.format(": > in"))
case("number_of_names", "stat -c %h in", setup="echo one > in", matter="ln in other")
case("owner_of_an_input", "stat -c '%u %g' in", setup="echo one > in", matter="chown 5:6 in", users=("root",))
case("time_of_a_directory", "tar cf out.tar --sort=name d", clean="rm out.tar",
     setup="mkdir d; echo 1 > d/x; touch -d 2020-01-01 d/x d", matter="touch -d 2021-01-01 d")
case("whether_it_may_be_executed", "test -x in && echo yes || echo no; cat in", setup="echo one > in",
     matter="chmod 755 in")
case("size_of_standard_input", "wc -c < in", setup="echo one > in", matter="echo three >> in")
case("offset_of_standard_input", "{ head -c 1 > /dev/null; wc -c; } < in", setup="echo one > in",
     matter="echo three >> in")


@scenario
def inputs_of_a_hit_are_inputs_of_what_is_around_it(t):
    """The first run of the outer script hits in its child: later a change of the child's input matters."""
    t.write("in", "one\n")
    t.step("cat in", hit=False)
    t.step("cat in; echo outer", what="outer, with a child that hits")
    t.step("cat in; echo outer", hit=True, what="outer again")
    t.write("in", "two\n")
    t.step("cat in; echo outer", hit=False, what="the child's input changed")


@scenario
def outputs_of_a_hit_are_outputs_of_what_is_around_it(t):
    t.sh("mkdir a; echo one > in; printf 'cp in a/out; echo said; echo wrong >&2\\n' > child")
    t.step("sh child", hit=False)
    t.sh("rm a/out")
    t.step("sh child; echo outer", what="outer, with a child that hits")
    t.sh("rm a/out")
    t.step("sh child; echo outer", hit=True, what="outer again")


@scenario
def what_an_ancestor_made_is_no_input_of_it(t):
    """And what it looked for before it made it stays absent in its record."""
    t.write("in", "one\n")
    script = "[ -e a ] && echo there; cat in > a; [ -e a ] && cat a; ls > b"
    for what in ("cold", "warm"):
        t.step(script, what=what, hit=what == "warm")
        t.sh("rm a b")
    t.write("a", "mine\n")
    t.step(script, hit=False, what="it is there before")


@scenario
def two_writers_of_one_file_are_not_recorded(t):
    """Each of them alone would bring back what both have written."""
    script = ("sh -c 'echo a >> log; sleep 0.6; echo a >> log' & sh -c 'sleep 0.3; echo b >> log' & "
              "wait; cat log")
    report = t.step(script, hit=False)
    recorded = [e["argv"][-1] for e in report.executions if e["argv"][0] == "sh" and e["parent"] != 0
                and e.get("recorded")]
    t.equal(recorded, [], "recorded of two writers")


@scenario
def a_reader_of_what_another_changes_is_not_recorded(t):
    script = ("echo 1 > f; sh -c 'echo 2 > f; touch a1; until [ -e b1 ]; do :; done; echo 3 > f' & "
              "sh -c 'until [ -e a1 ]; do :; done; cat f; touch b1' & wait; cat f")
    report = t.step(script, hit=False)
    readers = [e for e in report.executions if e["argv"][0] == "cat" and e["argv"] != ["sh"]]
    t.check(readers and not readers[0].get("recorded"), f"the reader was recorded: {readers}")


@scenario
def an_absolute_path_binds_a_record_to_its_tree(t):
    """Another checkout of the same files must not get the first one's path."""
    script = "echo \"$PWD/x\" > out; cat \"$PWD/in\"; cat out"
    t.write("in", "one\n")
    t.step(script, hit=False)
    other = t.path("checkout2")
    os.makedirs(other)
    with open(os.path.join(other, "in"), "w", encoding="ascii") as f:
        f.write("one\n")
    done = t.cli("run", "--quiet", "--root", other, "--", "sh", "-c", script, cwd=other)
    t.equal(done.out, f"one\n{other}/x\n".encode(), "output in the other checkout")


@scenario
def a_file_written_anew_leaves_its_other_names_alone(t):
    """Unlinked and created: who has the old file under another name keeps the old content."""
    t.write("in", "new\n")
    script = "rm -f out; cat in > out"
    for what, hit in (("cold", False), ("warm", True), ("warm again", True)):
        t.sh("rm -f out twin; echo old > out; ln out twin; touch -d 2020-01-01 out")
        t.step(script, what=what, hit=hit)


@scenario
def a_file_written_in_place_changes_under_all_its_names(t):
    t.sh("echo more > in; echo base > log; ln log twin")
    for what, hit in (("cold", False), ("warm", True), ("warm again", True)):
        t.step("cat in >> log", what=what, hit=hit)
        t.sh("echo base > log")


@scenario
def equal_bytes_written_again_are_a_change(t):
    """make sees the time: what was rewritten is new, though it is the same."""
    t.write("rewrite.py", "f = open('f', 'r+')\nf.write('same')\n")
    t.write("f", "same")
    for what in ("cold", "warm", "warm again"):
        t.sh("touch -d 2020-01-01 f")
        t.step("python3 rewrite.py", what=what)
        for side in t.sides():
            t.check(os.stat(os.path.join(side, "f")).st_mtime > t.start - 60, f"{what}: {side}/f looks old")


@scenario
def names_made_before_a_listing_do_not_matter_to_it(t):
    """They are left out of it, so the tree need not be clean for a hit."""
    t.write("in", "one\n")
    script = "cat in > a.out; ls > list"
    t.step(script, hit=False)
    t.step(script, hit=True, what="with a.out there")
    t.sh("touch new")
    t.step(script, hit=False, what="another name")


@scenario
def the_same_command_further_on_in_the_same_file(t):
    """What is left on standard input counts, not only which file it is."""
    t.write("in", "one\ntwo\nthree\n")
    for what in ("cold", "warm"):
        t.step("cat < in; { read l; cat; } < in; { read l; read l; cat; } < in", what=what)
    t.step("{ read l; cat; } < in", what="in another script")


@scenario
def outputs_of_a_hit_are_new(t):
    """Not as old as the run that was recorded: make compares them with inputs touched since."""
    t.write_all({"in": "one\n", "Makefile": "out: in\n\tcat in > out\n"})
    t.step("cat in > out", hit=False)
    for _ in range(2):
        time.sleep(0.02)
        t.sh("rm out; touch in")
        time.sleep(0.02)
        t.step("cat in > out", hit=True)
        for side in t.sides():
            t.equal(t.run_bare(["make", "-q"], side).status, 0, f"make -q in {side}")


@scenario
def an_input_outside_the_tree_that_changes_meanwhile(t):
    """Nobody tells pcache of that one: it has to look again at the end."""
    settings = t.path("home", "settings")
    with open(settings, "w", encoding="ascii") as f:
        f.write("1\n")
    t.write("slow.sh", "cat $HOME/settings; touch $HOME/started; until [ -e $HOME/go ]; do :; done; "
                       "rm $HOME/go $HOME/started")
    t.sh("touch -d 2020-01-01 $HOME/settings")

    def interfere():
        while not os.path.exists(t.path("home", "started")):
            time.sleep(0.01)
        with open(settings, "w", encoding="ascii") as f:
            f.write("2\n")
        with open(t.path("home", "go"), "w", encoding="ascii"):
            pass

    thread = threading.Thread(target=interfere)
    thread.start()
    _, report = t.run(["sh", "slow.sh"])
    thread.join()
    t.check(not report.executions[0].get("recorded"), "it was recorded")


@scenario
def a_time_taken_from_an_own_output_is_new(t):
    """`cp -p` of what was just made: after a hit both are new, or make would build the copy again."""
    t.write("in", "one\n")
    for hit in (False, True):
        t.step("cat in > out; cp -p out copy", hit=hit)
        for side in t.sides():
            times = [os.stat(os.path.join(side, name)).st_mtime_ns for name in ("out", "copy")]
            t.check(times[0] <= times[1], f"the copy is older than what it was made from in {side}")
        time.sleep(0.02)
        t.sh("rm out copy")
