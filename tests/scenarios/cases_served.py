"""Outputs above 1 MiB: served from the store, published by a worker, whole at every moment."""
import hashlib
import os
import time

from harness import scenario

BIG = "python3 -c \"import sys; b = open('in', 'rb').read()[:1] * 997 + b'.' * 27\n" \
      "with open('%s', 'wb') as f:\n for i in range(%d): f.write(b * 1024)\""


def _hash(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest(), f.tell()


@scenario
def large_output_served(t):
    """In a mount that stays: right while it is pending, and after unmounting."""
    t.mounted = True
    t.write("in", "x\n")
    script = BIG % ("out", 20)
    t.step(script, hit=False)
    truth = _hash(os.path.join(t.bare, "out"))
    for what in ("first", "second"):
        t.sh("rm out")
        done, report = t.run(["sh", "-c", script])
        t.check(report.whole_hit(), f"{what}: did not hit\n{report.reasons()}")
        t.equal(_hash(os.path.join(t.tree, "out")), truth, f"{what}: at once")
        t.equal(os.stat(os.path.join(t.tree, "out")).st_size, truth[1], f"{what}: size")
        t.sh("true")
        t.run_bare(["sh", "-c", script])
        t.same_files(what)
        t.umount()
        t.equal(_hash(os.path.join(t.tree, "out")), truth, f"{what}: below, unmounted")
        t.same_files(f"{what}, unmounted")
        t.mount()


@scenario(timeout=120)
def sixty_megabytes(t):
    t.write("in", "x\n")
    script = BIG % ("out", 60)
    t.step(script, hit=False)
    t.sh("rm out")
    t.step(script, hit=True, what="temporary mount")
    t.sh("rm out")
    t.mounted = True
    t.step(script, hit=True, what="mount that stays")
    t.step("tail -c 100 out; wc -c out", what="reading what is served")
    t.umount()
    t.same_files("unmounted")
    t.mounted = False
    t.write("in", "y\n")
    t.step(script, hit=False, what="changed")
    t.step(script, what="untouched")
    t.step(script, hit=True, what="untouched again")


@scenario
def many_large_outputs(t):
    t.write("in", "x\n")
    script = "; ".join(BIG % (f"out{i}", 2) for i in range(8))
    t.step(script, hit=False)
    for mounted in (False, True):
        t.mounted = mounted
        t.sh("rm out*")
        t.step(script, hit=True)
        t.step("cat out* | wc -c; cp out1 copy; rm copy", what="used")


@scenario
def served_file_is_changed_at_once(t):
    """Everything one can do to it in the moment it is served."""
    t.mounted = True
    t.write("in", "x\n")
    script = BIG % ("out", 4)
    t.step(script, hit=False)
    for edit in ("echo more >> out", "printf Z | dd of=out bs=1 seek=5 conv=notrunc 2> /dev/null",
                 "truncate -s 2000000 out", "truncate -s 0 out", ": > out", "chmod 600 out", "mv out out2; "
                 "mv out2 moved", "ln out linked", "rm out", "touch -d 2020-01-01 out",
                 "exec 3< out; rm out; wc -c <&3 > size", "exec 3< out; : > out; wc -c <&3 > size",
                 "sed -i s/x/y/ out", "gzip -n out", "cp out copy; cmp out copy", "mkdir d; mv out d/out",
                 "echo new > new; mv new out", "ln -s out l; cat l | wc -c > size"):
        t.sh("rm -rf out out2 moved linked size out.gz copy d new l")
        t.run_bare(["sh", "-c", script])
        t.run(["sh", "-c", script])
        for side in t.sides():
            done = t.run_bare(["sh", "-c", edit], side)
            t.equal(done.status, 0, f"{edit}: {done.err!r}")
        t.same_files(edit)
    t.umount()
    t.same_files("unmounted")
    t.sh("rm -f out")
    t.step(script, hit=True, what="the store was not harmed")


@scenario
def served_outputs_inside_a_run(t):
    """The linker reads, ar appends to and strip rewrites what a skipped child has made."""
    t.write_all({"gen.sh": "awk 'BEGIN{for(i=0;i<60000;i++)printf \"const int v%d[6]={%d};\\n\",i,i}' > "
                           "big.c\n", "main.c": "extern const int v7[6];\nint main(void){return v7[0]-7;}\n"})
    build = "sh gen.sh; gcc -c big.c; gcc -o prog main.c big.o; ./prog; ar rc lib.a big.o; strip prog; ls"
    t.step(build, hit=False, timeout=100)
    for mounted in (False, True):
        t.mounted = mounted
        t.sh("rm big.c big.o prog lib.a")
        t.write("main.c", "extern const int v7[6];\nint main(void){return v7[0]-7;}\n"
                          f"int mounted = {mounted:d};\n")
        report = t.step(build, hit=False, what=f"main.c changed, mounted {mounted}", timeout=100)
        t.equal(report.count("cc1"), 1, "compilers that ran")


@scenario
def umount_writes_all_before_it_ends(t):
    t.mounted = True
    t.write("in", "x\n")
    script = BIG % ("out", 30)
    t.step(script, hit=False)
    t.sh("rm out")
    t.run_bare(["sh", "-c", script])
    t.run(["sh", "-c", script])
    t.umount()
    t.same_files("right after umount")


@scenario
def no_empty_file_passes_for_an_output(t):
    """Killed in the moment it serves: below the mount each output is whole, or not there."""
    t.write("in", "x\n")
    script = "; ".join(BIG % (f"out{i}", 10) for i in range(4))
    t.mounted = True
    t.step(script, hit=False)
    truth = _hash(os.path.join(t.bare, "out0"))
    for pause in (0, 0.01, 0.05):
        t.sh("rm -f out*")
        if not t.is_mounted():
            t.mount()
        done, report = t.run(["sh", "-c", script])
        t.check(report is not None and report.whole_hit(), "did not hit")
        time.sleep(pause)
        t.kill_daemon()
        t.mount()
        for name in [n for n in os.listdir(t.tree) if n.startswith("out")]:
            t.equal(_hash(os.path.join(t.tree, name)), truth, f"{name} after a kill -9")
    t.sh("rm -f out*")
    t.step(script, what="afterwards")
