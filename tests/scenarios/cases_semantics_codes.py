"""Reason codes that the other scenarios do not name: each brought about once. (tests/reason_codes.py sees that
none is forgotten.)"""
import glob
import json
import os
import subprocess

from harness import QUIET, case, scenario

CALL = "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); c.syscall(%s)"


def _code(t, cmd, code, **how):
    report = t.step(cmd, hit=False, **how)
    t.check(code in report.codes(), f"no reason {code}, but {sorted(report.codes())}")
    if code not in report.codes():
        t.note(report.reasons())


def _within(name, cmd, code, setup="echo one > in", clean=""):
    """What it starts is refused for `code`; it is recorded itself, since the stream is its own doing."""

    def run(t):
        t.sh(setup)
        report = t.step(cmd, hit=False)
        t.check(code in report.codes(), f"no reason {code}, but {sorted(report.codes())}")
        t.sh(clean)
        t.step(cmd, hit=True)

    run.__name__ = name
    scenario(run)


_within("standard_output_to_a_device", "cat in > /dev/zero", "stream-device")
_within("standard_output_moved_in", "/usr/bin/python3 -c \"import os; os.write(1, b'12'); os.lseek(1, 0, 0); "
        "os.write(1, b'3')\" > out", "stream-seeked", clean="rm out")
_within("output_that_nobody_reads", "sh -c 'sleep 0.5; trap \"\" PIPE; echo x' 2> /dev/null | true", "stream-closed")
_within("own_output_read_by_python", "/usr/bin/python3 -c \"print(open('log').read())\" >> log", "reads-own-output",
        setup="echo one > log", clean="echo one > log")
case("no_room_in_the_store", "cat in > out", hit=False, code="not-stored", env={"PCACHE_MIN_FREE": "99"},
     setup="echo one > in", clean="rm out", harmless=QUIET)
case("output_that_its_owner_cannot_read", "cat in > out; chmod 000 out", hit=False, code="output-unreadable",
     users=("user",), setup="echo one > in", clean="rm -f out", harmless=QUIET, again=False)
case("standard_output_looked_at_by_name", "[ -p /dev/stdout ] && echo pipe", hit=False, code="stream-examined")
case("output_from_nowhere", ["/usr/bin/python3", "-c", CALL % "1, 1, 1, 10"], hit=False, code="stream-lost")
case("below_no_directory", ["/usr/bin/python3", "-c", CALL % "258, 99, b'x', 0o777"], hit=False, code="unnamed-file")
case("root_of_its_own_choosing", ["/usr/bin/python3", "-c", CALL % (
    "437, -100, b'in', (ctypes.c_uint64 * 3)(0, 0, 0x10), 24")], hit=False, code="unsupported-resolve",
     setup="echo one > in")
case("tracing_another", ["/usr/bin/python3", "-c", CALL % "101, 16, 0, 0, 0"], hit=False, code="tracing")
case("other_privileges", ["setpriv", "--ruid=1000", "true"], hit=False, code="setuid", users=("root",))


@scenario
def variable_that_keys_leave_out(t):
    t.write("s", "env > all; sed -n s/^COLU//p all; rm all\n")
    for columns in ("80", "80", "100"):
        report = t.step("sh s", env={"COLUMNS": columns})
    t.check("environment-changed" in report.codes(), f"no reason environment-changed, but {report.codes()}")


@scenario
def nothing_is_looked_up_by_recache(t):
    t.write("in", "one\n")
    t.step("cat in")
    _code(t, "cat in", "recache", options=["--recache"])
    t.step("cat in", hit=True)


@scenario
def descriptor_that_pcache_was_given_is_read(t):
    t.write("in", "one\n")
    report = t.path("reports", "given.json")
    script = 'exec 7< in; exec "$@"'
    argv = ["sh", "-c", script, "sh", t.pcache, "run", "--quiet", "--root", t.tree, "--report", report, "--",
            "sh", "-c", "read x <&7; echo $x"]
    done = subprocess.run(argv, cwd=t.tree, env=t.environment(t.tree), capture_output=True, timeout=60, check=False)
    t.equal(done.stdout, b"one\n", "what it read")
    with open(report, encoding="utf-8") as f:
        codes = {r["code"] for e in json.load(f)["executions"] for r in e["reasons"]}
    t.check("reads-inherited" in codes, f"no reason reads-inherited, but {codes}")


@scenario
def skipped_command_cannot_write_its_output(t):
    t.write("big", b"0123456789abcdef\n" * 20000)
    t.step("cat big | wc -c")
    _code(t, "cat big | head -c 3", "replay-cut")


@scenario
def blobs_that_are_gone(t):
    t.write("in", "one\n")
    t.step("cat in > out")
    t.sh("rm out")
    for blob in glob.glob(t.path("cache", "store", "blobs", "*", "*")):
        os.unlink(blob)
    _code(t, "cat in > out", "replay-failed")
    t.sh("rm out")
    t.step("cat in > out", hit=True)


@scenario
def program_that_its_user_cannot_read(t):
    """It runs as without pcache, and is not recorded where nobody could know what it is."""
    t.write("p.c", "#include <stdio.h>\nint main(void){puts(\"ran\");return 0;}\n")
    t.sh("gcc -o p p.c; chmod 111 p")
    if os.geteuid() == 0:
        t.step("./p")
        t.step("./p", hit=True)
    else:
        _code(t, "./p", "unreadable-program")
        _code(t, "./p", "unreadable-program")
    t.sh("chmod 755 p")
    t.step("./p")
    t.step("./p", hit=True)
