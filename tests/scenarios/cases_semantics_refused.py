"""What is never recorded, and the reason that says so: one scenario for each code of docs/cli.md that a
command can bring about."""
import os
import pty
import socket

from harness import Skip, case, scenario

CALL = "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); c.syscall(%s)"


def _call(name, code, *arguments):
    case(name, ["python3", "-c", CALL % ", ".join(map(str, arguments))], hit=False, code=code)


_call("asynchronous_calls", "io-uring", 425, 8, "ctypes.create_string_buffer(120)")
_call("old_asynchronous_calls", "io-uring", 206, 8, "ctypes.byref(ctypes.c_ulong(0))")
_call("unknown_call", "unknown-syscall", 1000)
_call("shared_memory", "shared-memory", 29, 0, 4096, 0o1600)
_call("message_queue", "shared-memory", 240, "b'/q'", 0, 0, 0)
_call("watching_files", "watches-files", 254, "c.inotify_init()", "b'.'", 256)
_call("handle_of_a_file", "file-handle", 303, -100, "b'.'", "ctypes.create_string_buffer(140)",
      "ctypes.byref(ctypes.c_int(0))", 0)
_call("own_personality", "system-change", 135, "0xffffffff")
_call("own_namespace", "namespace", 272, 0)
_call("names_exchanged", "exchanges-names", 316, -100, "b'quiet'", -100, "b'quiet'", 2)
case("private_namespace", ["unshare", "-U", "true"], hit=False, code="namespace")
case("program_in_memory", ["python3", "-c", "import os, shutil\nf = os.memfd_create('m')\n"
                           "os.write(f, open('/bin/true', 'rb').read())\nos.execve(f, ['true'], {})"],
     hit=False, code="executes-memory")
case("socket_to_elsewhere", ["python3", "-c", "import socket; socket.socket().connect_ex(('127.0.0.1', 1))"],
     hit=False, code="network")
case("signal_to_somebody_outside", ["sh", "-c", "kill -0 $OUTSIDE"], env={"OUTSIDE": str(os.getppid())}, hit=False,
     code="signals")
case("named_pipe_within", "mkfifo p; (echo x > p) & read l < p; wait; rm p; echo $l", hit=False, code="fifo")
case("device_opened", ["sh", "-c", ": < /dev/ptmx"], hit=False, code="device")
case("existing_directory_renamed", "mv a b; ls b", setup="mkdir a; touch a/x", clean="mv b a", hit=False,
     again=False, code="renames-directory")
case("call_that_fails_strangely", ["python3", "-c", "import os\ntry: os.rmdir('/')\nexcept OSError as e: "
                                   "print(e.errno)"], hit=False, code="failed-call")
case("stream_opened_by_name", "echo x > /dev/stdout", hit=False, code="stream-reopened")
case("stream_that_does_not_block", ["python3", "-c", "import os; os.set_blocking(1, False); os.write(1, b'x')"],
     hit=False, code="stream-nonblocking")
case("terminal_changed", ["python3", "-c", "import os, pty, termios\nm, s = pty.openpty()\n"
                          "termios.tcsetattr(s, 0, termios.tcgetattr(s))"], hit=False, code="terminal-ioctl")
case("program_on_the_list", ["who"], hit=False, code="never")
case("other_user", ["setpriv", "--reuid=1000", "--clear-groups", "sh", "-c", "id -u"], hit=False, code="other-user",
     users=("root",))
case("user_changed", ["setpriv", "--reuid=1000", "--clear-groups", "true"], hit=False, code="changes-user",
     users=("root",))
case("calls_without_a_library", "./p", setup="echo one > in; cat > p.s <<'S'\n.globl _start\n_start:\n"
     "mov $2,%eax\nlea name(%rip),%rdi\nxor %esi,%esi\nsyscall\nmov %eax,%edi\nxor %eax,%eax\n"
     "lea buffer(%rip),%rsi\nmov $9,%edx\nsyscall\nmov %eax,%edx\nmov $1,%eax\nmov $1,%edi\nsyscall\n"
     "mov $60,%eax\nxor %edi,%edi\nsyscall\nname: .asciz \"in\"\n.bss\nbuffer: .skip 9\nS\n"
     "gcc -nostdlib -static -s -o p p.s", matter="echo two > in")
case("program_by_descriptor", "python3 -c \"import os\nos.execve(os.open('/bin/cat', os.O_RDONLY), ['cat', 'in'], {})\"",
     setup="echo one > in", matter="echo two > in", harmless="touch quiet/unrelated")
case("unnamed_temporary_file", "python3 -c \"import tempfile\nf = tempfile.TemporaryFile()\nf.write(open('in', 'rb').read())\n"
     "f.seek(0); print(f.read())\"", setup="echo one > in", matter="echo two > in", harmless="touch quiet/unrelated")


def _child(t, script, code):
    """The command is recorded; what it started is not."""
    report = t.step(script, hit=False)
    t.check(code in report.codes(), f"no reason {code}, but {report.codes()}")


@scenario
def children_that_are_not_recorded(t):
    t.write_all({"in": "x\n", "a.c": "int a;\n"})
    _child(t, "echo x | cat", "reads-pipe")
    _child(t, "exec 3< in; sh -c 'cat <&3'", "inherited-descriptor")
    _child(t, "sh -c '/bin/echo x >&3' 3> out", "writes-inherited")
    _child(t, "gcc -c a.c", "temporary-name")
    _child(t, "mkdir d; cd d; rmdir ../d; cat x 2> /dev/null; true", "unnamed-directory")
    _child(t, "cat missing 2> /dev/null; true", "failed")
    _child(t, "sh -c 'kill -9 $$' 2> /dev/null; true", "killed")


@scenario
def calls_of_thirty_two_bits(t):
    """int $0x80 in a program of 64 bits: its numbers mean something else."""
    t.write("p.s", ".globl _start\n_start:\nmov $20,%eax\nint $0x80\nmov $60,%eax\nxor %edi,%edi\nsyscall\n")
    t.sh("gcc -nostdlib -static -s -o p p.s")
    if t.run_bare(["./p"]).status != 0:
        raise Skip("the kernel has no 32-bit system calls")
    for _ in range(2):
        report = t.step(["./p"], hit=False)
        t.check("foreign-architecture" in report.codes(), f"not for foreign-architecture, but {report.codes()}")


@scenario
def kinds_of_stdin(t):
    def reads(stdin, code):
        done, report = t.run(["head", "-c1"], stdin=stdin)
        t.equal(done.status, 0, f"{code}: status {done.err!r}")
        t.check(code in report.codes(), f"no reason {code}, but {report.codes()}")

    reads(b"x", "reads-pipe")
    ours, theirs = socket.socketpair()
    ours.send(b"x")
    reads(theirs, "reads-socket")
    ours.close()
    theirs.close()
    with open("/dev/zero", "rb") as zero:
        reads(zero, "reads-device")
    master, terminal = pty.openpty()
    os.write(master, b"x\n")
    reads(terminal, "reads-terminal")
    os.close(master)
    os.close(terminal)


@scenario
def ninja_keeps_times(t):
    if not os.path.exists("/usr/bin/ninja"):
        raise Skip("there is no ninja")
    t.write_all({"build.ninja": "rule c\n command = cp $in $out\nbuild out: c in\n", "in": "x\n"})
    t.ignore |= {".ninja_log", ".ninja_deps"}
    report = t.step(["ninja"], hit=False, streams=False)
    t.check("records-mtimes" in report.codes(), f"no reason records-mtimes, but {report.codes()}")


@scenario
def reasons_of_a_miss(t):
    """Each change is named by its own code."""
    t.write_all({"in": "one\n", "d/a": "", "l/x": ""})
    t.sh("ln -s a d/l; python3 -c \"import os; os.setxattr('in', 'user.k', b'1')\"")
    for cmd, edit, code in (
            ("cat in", "echo two > in", "content-changed"), ("cat in2 2> /dev/null; true", "cp in in2", "appeared"),
            ("stat -c %n in2", "rm in2; true", "vanished"), ("stat -c %s in", "echo longer > in", "size-changed"),
            ("stat -c %Y in", "touch -d 2020-01-01 in", "mtime-changed"), ("cd d; ls", "touch d/b", "listing-changed"),
            ("stat -c %h in", "ln in in3", "links-changed"), ("readlink d/l", "ln -sfn b d/l", "link-changed"),
            ("stat -c %a in", "chmod 600 in", "mode-changed"), ("stat -c %F d/b", "rm d/b; mkdir d/b", "kind-changed"),
            ("python3 -c \"import os; print(os.getxattr('in', 'user.k'))\"",
             "python3 -c \"import os; os.setxattr('in', 'user.k', b'2')\"", "xattr-changed"),
            ("ln -f in new", "rm new; echo mine > new", "output-changed")):
        t.step(cmd, what=f"before {code}")
        t.sh(edit)
        report = t.step(cmd, what=code)
        t.check(code in report.codes(), f"{cmd}: no reason {code}, but {report.codes()}")
