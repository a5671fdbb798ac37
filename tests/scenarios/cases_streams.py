"""Exit statuses and streams: all as without pcache, when it runs and when it hits."""
import hashlib
import os
import signal
import subprocess
import time

from harness import case, process, scenario

case("exit_0", "true")
case("exit_3", "exit 3", hit=False, code="failed")
case("exit_255", "echo out; echo err >&2; exit 255", hit=False, code="failed")
case("command_not_found_in_a_shell", "no-such-command", hit=False, code="failed")
case("not_executable_in_a_shell", "./data", setup="echo x > data", hit=False, code="failed")
case("killed_by_sigkill", "kill -9 $$", hit=False, code="killed")
case("killed_by_sigterm", "echo before; kill -TERM $$", hit=False, code="killed")
case("killed_child_in_a_parent_that_goes_on", "sh -c 'kill -SEGV $$' 2> /dev/null; echo status $?")
case("failed_child_in_a_parent_that_goes_on", "false || echo went on; ls missing; exit 0")
case("stderr_only", "echo problem >&2")
case("streams_in_turn", "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done")
case("streams_in_turn_from_children",
     "echo a; cat in >&2; /bin/echo b; /bin/echo c >&2; cat in; echo d >&2",
     setup="echo text > in", matter="echo other > in")
case("no_newline_at_the_end", "printf 'no newline'")
case("empty_streams", ":")
case("binary_output", "cat in", setup="head -c 70000 /bin/sh > in; printf '\\0\\377' >> in",
     matter="printf '\\1' >> in")
case("many_short_writes", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done")
case("long_lines_to_both",
     "python3 -c \"import os\nfor i in range(9):\n os.write(1, b'o%d' % i * 9999)\n os.write(2, b'e%d' % i * 9999)\"")
case("output_of_a_pipeline", "cat in | sort | uniq -c | sort -rn > out; cat out | wc -l",
     setup="printf 'b\\na\\nb\\n' > in", clean="rm out", matter="echo c >> in")
case("failing_pipeline_part", "cat missing 2>&1 | wc -c; false | cat; exit 0")
case("yes_into_head", "yes | head -3")
case("here_document", "cat <<END\nline of $HOME\nEND\n")
case("command_substitution", "x=$(cat in); echo \"<$x>\"", setup="echo v > in", matter="echo w > in")
case("redirect_to_dev_null", "echo gone > /dev/null; ls missing 2> /dev/null; echo here")
case("stdout_closed", "exec >&-; echo x 2> err; cat in > out", setup="echo v > in",
     clean="rm -f out err")
case("dev_stdout", "echo x > /dev/stdout; echo y > /dev/stderr", hit=False, code="stream-reopened")
case("tee", "cat in | tee a b | tr v w > c", setup="echo v > in", clean="rm a b c",
     matter="echo vv > in")


@scenario
def stdin_from_a_file(t):
    t.write("in", "one\ntwo\n")
    t.step("cat; wc -l < /dev/null", stdin="<in", hit=False)
    t.step("cat; wc -l < /dev/null", stdin="<in", hit=True, what="same file")
    t.write("in", "one\nthree\n")
    t.step("cat; wc -l < /dev/null", stdin="<in", hit=False, what="other content")
    t.write("unused", "a")
    t.step("echo nothing read", stdin="<unused", hit=False)
    t.write("unused", "b")
    t.step("echo nothing read", stdin="<unused", hit=True, what="unread stdin changed")


@scenario
def stdin_offset_counts(t):
    """What a first reader left is what the second reads."""
    t.write("in", "one\ntwo\nthree\n")
    for expect in (False, True):
        t.step("read first; cat > rest; echo $first", stdin="<in", hit=expect)
        t.sh("rm rest")
    for _ in range(2):
        for side, out in ((t.bare, []), (t.tree, [])):
            with open(os.path.join(side, "in"), "rb") as f:
                f.seek(4)
                done = (t.run_bare(["cat"], side, stdin=f) if side == t.bare
                        else t.run(["cat"], stdin=f)[0])
                t.equal(done.out, b"two\nthree\n", "from an offset")
                t.equal(f.seek(0, 1), 14, "offset afterwards")


@scenario
def stdin_from_a_pipe(t):
    for text in (b"one\n", b"two\n", b"one\n", b""):
        t.step("cat; echo end", stdin=text, hit=False)
    for text in (b"one\n", b"two\n"):
        t.step("echo does not read", stdin=text, hit=False if text == b"one\n" else True)


@scenario
def stdin_closed_or_null(t):
    t.step("cat < /dev/null; echo a", hit=False)
    t.step("cat < /dev/null; echo a", hit=True)
    t.step("cat; echo b", hit=False)
    t.step("cat; echo b", hit=True)
    t.step("exec <&-; cat; echo c")
    t.step("exec <&-; cat; echo c")


def _into_files(t, script, mode):
    """Runs it with stdout into a file of each tree. (both contents)"""
    contents = []
    for side in t.sides():
        with open(os.path.join(side, "log"), mode) as out:
            done = (t.run_bare(["sh", "-c", script], side, out=out) if side == t.bare
                    else t.run(["sh", "-c", script], out=out)[0])
        t.equal(done.status, 0, f"{script}: status")
        with open(os.path.join(side, "log"), "rb") as f:
            contents.append(f.read())
    t.equal(contents[1], contents[0], f"{script}: contents of the file")
    t.same_files(script)


@scenario
def stdout_to_a_file(t):
    t.write("in", "text\n")
    script = "echo start; cat in; /bin/echo err >&2; cat in > out; echo end"
    _into_files(t, script, "wb")
    for expect in (True, True):
        _into_files(t, script, "wb")
        t.check(t.last.whole_hit() == expect, f"> hit whole: {not expect}\n{t.last.reasons()}")
    _into_files(t, script, "ab")
    _into_files(t, script, "ab")
    t.step(script, what="to a pipe after files", hit=True)
    t.write("in", "changed\n")
    _into_files(t, script, "ab")
    _into_files(t, script, "wb")


@scenario
def shell_appends_around_runs(t):
    """`(echo a; pcache run; echo b) > log`: one descriptor for all, its offset moves on at a hit."""
    t.write("in", "text\n")
    for _ in range(3):
        for side in t.sides():
            prefix = "" if side == t.bare else f"{t.pcache} run --quiet --root {side} -- "
            script = f"(echo a; {prefix}sh -c 'cat in; echo mid'; echo b) > log"
            done = t.run_bare(["sh", "-c", script], side)
            t.equal(done.status, 0, "status")
        t.same_files("the log")


def _hash_slowly(argv, cwd, env, pause):
    start = time.monotonic()
    child = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, start_new_session=True)
    digest, size = hashlib.sha256(), 0
    while block := os.read(child.stdout.fileno(), 65536):
        digest.update(block)
        size += len(block)
        if size // 65536 % 64 == 0:
            time.sleep(pause)
        if time.monotonic() - start > 60:
            process.kill_session(child.pid)
            raise process.TimedOut(f"only {size} bytes came within 60 s")
    return child.wait(timeout=20), size, digest.hexdigest()


@scenario(timeout=240)
def a_hundred_megabytes_through_a_slow_reader(t):
    writer = ("import os\nblock = bytes(range(256)) * 1000\n"
              "for i in range(400): os.write(1, b'%d' % i); view = block\n"
              "for i in range(400):\n  done = 0\n"
              "  while done < len(block): done += os.write(1, block[done:])")
    t.write("writer.py", writer)
    t.sh("for i in 1 2 3 4 5 6 7 8 9 10; do head -c 10000000 /dev/zero | tr '\\0' $((i % 10)); done > big")
    for argv in (["python3", "writer.py"], ["cat", "big"]):
        truth = _hash_slowly(argv, t.bare, t.environment(t.bare), 0)
        for what in ("cold", "warm"):
            report = t.path("reports", "slow.json")
            got = _hash_slowly([t.pcache, "run", "--quiet", "--root", t.tree, "--report", report,
                                "--", *argv], t.tree, t.environment(t.tree), 0.03)
            t.equal(got, truth, f"{argv[0]} {what}: status, size, hash")
            with open(report, encoding="utf-8") as f:
                hit = '"outcome":"hit"' in f.read()
            t.check(hit == (what == "warm"), f"{argv[0]} {what}: hit is {hit}")


@scenario
def closed_pipe_is_sigpipe(t):
    argv = ["seq", "1", "200000"]
    t.step(argv, what="recorded whole", hit=False)
    for what in ("hit", "hit again"):
        ends = []
        for side in t.sides():
            command = argv if side == t.bare else [t.pcache, "run", "--quiet", "--root", side, "--",
                                                   *argv]
            child = subprocess.Popen(command, cwd=side, env=t.environment(side),
                                     stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                     start_new_session=True)
            first = os.read(child.stdout.fileno(), 2)
            child.stdout.close()
            ends.append((first, child.wait(timeout=20)))
        t.equal(ends[1], ends[0], f"{what}: first bytes and status of seq | head -1")
        t.equal(ends[0][1], -signal.SIGPIPE, "bare seq")
    t.step(argv, what="still whole", hit=True)
    shell = f"{t.pcache} run --quiet --root {t.tree} -- seq 1 200000 | head -1"
    done = process.run(["bash", "-c", shell + "; echo ${PIPESTATUS[*]}"], cwd=t.tree,
                       env=t.environment(t.tree))
    t.equal(done.out, b"1\n141 0\n", "seq | head -1 in bash")
    done = process.run(["bash", "-c", shell.replace("200000", "199999") + "; echo ${PIPESTATUS[*]}"],
                       cwd=t.tree, env=t.environment(t.tree))
    t.equal(done.out, b"1\n141 0\n", "not recorded: seq | head -1 in bash")


@scenario
def nonblocking_pipe(t):
    """A hit writes a stream larger than the pipe into a non-blocking one, read late."""
    argv = ["seq", "1", "60000"]
    t.step(argv, hit=False)
    truth = b"".join(b"%d\n" % i for i in range(1, 60001))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    child = subprocess.Popen([t.pcache, "run", "--quiet", "--root", t.tree, "--", *argv], cwd=t.tree,
                             env=t.environment(t.tree), stdin=subprocess.DEVNULL, stdout=writer,
                             start_new_session=True)
    os.close(writer)
    time.sleep(0.5)
    got = b""
    while block := os.read(reader, 65536):
        got += block
    os.close(reader)
    status = child.wait(timeout=20)
    # seq itself fails with EAGAIN here; a hit may do better, never worse than a true prefix.
    t.check(truth.startswith(got), "what came is no prefix of the truth")
    t.check(status != 0 or got == truth, f"status 0, but only {len(got)} of {len(truth)} bytes")


@scenario
def streams_apart_and_joined_are_one_record(t):
    script = "echo out; echo err >&2"
    t.step(script, hit=False)
    t.step(script, joined=True, hit=True, what="2>&1")
    _into_files(t, script, "wb")
    t.check(t.last.whole_hit(), "into a file: " + t.last.reasons())


@scenario
def exit_status_of_run_itself(t):
    for argv, status, text in ((["no-such-command"], 127, "command not found"),
                               (["./nothing"], 127, "No such file"),
                               (["/etc/passwd"], 126, "Permission denied"), (["/"], 126, "Permission denied")):
        done, _ = t.run(argv)
        t.equal(done.status, status, f"{argv}: status")
        t.check(text in done.err.decode(), f"{argv}: said {done.err!r}")
        t.equal(done.out, b"", f"{argv}: stdout")
