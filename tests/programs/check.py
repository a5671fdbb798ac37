#!/usr/bin/env python3
"""Each system call by itself, and commands in commands: cold, warm, and after changes that matter.

    check.py PCACHE DIR [GROUP...]

DIR holds the programs. A case is a list of calls (calls.c, looks.c, uses.c), what is there before, and variants of that ("## " in
front of what is done after all times were set to one moment). The truth is the same
program without pcache. The groups "refused" and "table" are made from pcache's own table of system calls.
What pcache leaves behind must equal it in every state: the first time, at a
hit, in each variant, and back in the first state. A case also says whether the second run must hit.
"""
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile

EPOCH = 1_000_000_000
GROUPS = {}


class Case:
    def __init__(self, group, calls, setup="", variants=(), refused=None, stdin=None):
        self.calls, self.setup, self.variants, self.refused = calls, setup, variants, refused
        self.stdin = stdin  # a file
        self.program = group  # what runs the calls
        GROUPS.setdefault(group, []).append(self)

    def __str__(self):
        return self.calls


A = "printf alpha > a"
AB = A + "; printf beta > b"
DA = "mkdir d; printf alpha > d/a"
NO_A = "true"
A2 = "printf other > a"

# --- names ---
Case("names", "rename", A, [AB, NO_A, A2, "mkdir a", A + "; mkdir b"])
Case("names", "renameat", DA + "; mkdir e", [DA, DA + "; mkdir e; printf x > e/b"])
Case("names", "renameat2", A, [AB, NO_A])
Case("names", "renameat2_noreplace", A, [AB, NO_A])
Case("names", "renameat2_exchange", AB, [A], refused="exchanges-names")
Case("names", "mkdir open_in_new rename_dir", "true", ["mkdir new", "mkdir moved", "touch moved"])
Case("names", "rename_old_dir", DA, ["mkdir d", "true"], refused="renames-directory")
Case("names", "link", A, [AB, NO_A, A2, A + "; ln a c"])
Case("names", "linkat", DA + "; mkdir e", [DA, DA + "; mkdir e; touch e/b"])
Case("names", "linkat_follow", A + "; ln -s a l", ["ln -s a l", A, A + "; ln -s x l"])
Case("names", "linkat_nofollow", A + "; ln -s a l", ["ln -s a l", A])
Case("names", "symlink", A, [AB, NO_A])
Case("names", "symlinkat", "mkdir d", ["true", "mkdir d; touch d/b"])
Case("names", "unlink", A, [NO_A, A2, "ln -s x a", "mkdir a", A + "; ln a c"])
Case("names", "unlinkat", DA, ["mkdir d", "true"])
Case("names", "unlinkat_dir", "mkdir d", [DA, "true", "touch d"])
for name in ("bind", "accept", "accept4"):
    Case("names", name, "true", ["touch socket", "mkdir socket", "ln -s x socket"])
Case("names", "shmget", "true")
Case("names", "rmdir", "mkdir d", [DA, "true", "ln -s x d"])
Case("names", "mkdir", "true", ["mkdir new", "touch new"])
Case("names", "umask mkdirat", "mkdir d", ["true", "mkdir -p d/new"])
Case("names", "mknod", "true", ["touch b"])
Case("names", "mknodat_fifo", "mkdir d", ["true", "mkdir d; touch d/fifo"])
Case("names", "unlink open_trunc rename", A, [NO_A, AB])
Case("names", "link unlink", A, [AB, A2])
Case("names", "creat rename", A, [AB])

# --- contents ---
Case("contents", "creat", "true", ["printf old > b", "printf old > b; chmod 600 b", "mkdir b",
                                   "touch c; ln -s c b", "printf old > b; ln b c"])
Case("contents", "open_trunc", "true", ["printf old > b", "printf old > b; chmod 755 b",
                                        "printf old > b; ln b c"])
Case("contents", "umask open_trunc", "true", ["printf old > b"])
Case("contents", "open_excl", "true", ["printf old > b"])
Case("contents", "open_append", A, [A2, NO_A])
Case("contents", "open_append open_append", A, [A2])
Case("contents", "open_over", A, [A2, NO_A])
Case("contents", "open_only_trunc", A, [A2, NO_A, A + "; chmod 600 a"])
Case("contents", "open_creat_read", "true", ["printf old > b"])
Case("contents", "openat", "mkdir d", ["true", "mkdir d; printf old-and-longer > d/b"])
Case("contents", "open_by_link", "ln -s b l", ["ln -s c l", "printf x > b; ln -s b l", "true"])
Case("contents", "open_by_proc", "true", ["printf old > b"])
Case("contents", "openat2", "true", ["printf old > b", "printf old > b; chmod 600 b"])
Case("contents", "truncate", A, [A2, NO_A, "printf x > a"])
Case("contents", "truncate_longer", A, [A2])
Case("contents", "truncate_zero", A, [A2, A + "; chmod 700 a", NO_A])
Case("contents", "ftruncate", A, [A2, NO_A])
Case("contents", "fallocate", A, [A2])
Case("contents", "pwrite", A, [A2, NO_A])
Case("contents", "writev", "true", ["printf old-and-longer > b"])
Case("contents", "mmap", A, [A2, NO_A])
Case("contents", "copy_file_range", A, [A2, AB])
Case("contents", "sendfile", A, [A2, AB])
Case("contents", "splice", A, [A2, AB])
Case("contents", "sendfile_stdout", A, [A2], refused="stream-uncertain")

# --- attributes ---
Case("attributes", "chmod", A, [A + "; chmod 600 a", A2, NO_A])
Case("attributes", "chmod_dir", "mkdir d", [DA, "true"])
Case("attributes", "fchmod", A, [A2, NO_A])
Case("attributes", "fchmodat", DA, ["true"])
Case("attributes", "fchmodat2", A, [A2, "ln -s x a"])
Case("attributes", "chmod_libc_nofollow", A, [A2, "ln -s x a"])
Case("attributes", "utimensat", A, [A2, NO_A])
Case("attributes", "utimensat_link", "ln -s x l", [A + "; ln -s a l", "touch l"])
Case("attributes", "utimensat_fd", A, [A2])
Case("attributes", "utimensat_now", A, [A2, NO_A])
Case("attributes", "utimensat_dir", "mkdir d", [DA])
Case("attributes", "utime", A, [NO_A])
Case("attributes", "utimes", A, [NO_A])
Case("attributes", "futimesat", DA, ["true"])
Case("attributes", "creat utimensat chmod", A, [NO_A])
XATTR = A + "; $CALLS --set-xattr user.old 1 a"
Case("attributes", "setxattr", A, [XATTR, NO_A])
Case("attributes", "lsetxattr", A, [XATTR, A + "; $CALLS --set-xattr user.x 9 a"])
Case("attributes", "fsetxattr", A, [XATTR])
Case("attributes", "removexattr", XATTR, [A, NO_A])
Case("attributes", "lremovexattr", XATTR, [A])
Case("attributes", "fremovexattr", XATTR, [A])
if os.geteuid() == 0:
    Case("owners", "chown", A, [A + "; chown 5:6 a", NO_A])
    Case("owners", "lchown", "ln -s x l", [A + "; ln -s a l", "true"])
    Case("owners", "fchown", A, [A + "; chown 5:6 a"])
    Case("owners", "fchownat", "ln -s x l", ["true"])
    Case("owners", "chown chmod open_append", A, [A2])

# --- where it is ---
Case("places", "chdir open_trunc", "mkdir d", ["true", "mkdir e; ln -s e d"])
Case("places", "fchdir open_trunc", "mkdir d", ["true", "mkdir e; ln -s e d"])
Case("places", "dup dup2 dup3 fcntl", "true")
Case("places", "dup fcntl dup2_swap", "true")
Case("places", "mkdir open_in_new", "true", ["mkdir new", "touch new", "mkdir new; touch new/b"])

# --- looking ---
LATER = " ## touch -d @1100000000 a"
A_SIZE, A_X, A_LINK = "printf longer-alpha > a", A + "; chmod 755 a", A + "; ln a c"
Case("looks", "stat", A, [NO_A, A_SIZE, A_X, A_LINK, A + LATER, "mkdir a",
                         A + "; mv a b; ln -s b a"])
Case("looks", "lstat", "ln -s a l", [A + "; ln -s a l", "touch l", "true"])
Case("looks", "lstat_dot", "mkdir d e; chmod 700 e; ln -s d l",
     ["mkdir d e; chmod 700 e; ln -s e l", "touch l", "ln -s x l"])
Case("looks", "stat_link", A + "; ln -s a l",
     ["ln -s a l", A_SIZE + "; ln -s a l", A, AB + "; ln -s b l"])
Case("looks", "stat_slash", A, ["mkdir a", NO_A])
Case("looks", "stat_below", DA, ["mkdir d", "touch d", "true", "mkdir e; ln -s e d"])
Case("looks", "stat_dotdot", A + "; mkdir d",
     [A, A + "; touch d", "mkdir -p x/y; touch x/a; ln -s x/y d"])
Case("looks", "stat_proc", A, [NO_A, A_SIZE])
Case("looks", "newfstatat", DA, ["mkdir d", "true", DA + "; chmod 600 d/a"])
Case("looks", "fstat_of_path", A, [A_SIZE, A_X, A + LATER, NO_A])
Case("looks", "fstat_of_dir", "mkdir d", ["mkdir d; chmod 700 d", "true"])
Case("looks", "statx", A, [A_SIZE, A + LATER, NO_A])
Case("looks", "access", A, [NO_A, "ln -s x a"])
Case("looks", "access_x", A, [A_X, NO_A])
Case("looks", "faccessat", DA, ["mkdir d", "true"])
Case("looks", "faccessat2", "ln -s a l", ["true", "touch l"])
Case("looks", "readlink", "ln -s a l", ["ln -s b l", "touch l", "true"])
Case("looks", "readlinkat", "mkdir d; ln -s a d/l", ["mkdir d; ln -s b d/l", "true"])
X = "; $CALLS --set-xattr user.x one a"
for name in ("getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr"):
    Case("looks", name, A + X, [A, NO_A, A + "; $CALLS --set-xattr user.x two a",
                               A + "; $CALLS --set-xattr user.xx one a",
                               A + "; printf x > b; $CALLS --set-xattr user.x two b; ln -sf b a"])
Case("looks", "open_dir_fails", A, ["mkdir d", "touch d", "ln -s . d"])
Case("looks", "open_nofollow", "ln -s a l", ["touch l", "true"])
Case("looks", "chdir", "mkdir d", ["true", "touch d", "ln -s . d"])
Case("reads", "open", A, [A2, NO_A, "mkdir a", AB + "; rm a; ln -s b a", A + " ## touch a"])
Case("reads", "openat", DA, ["mkdir d; printf x > d/a", "true"])
Case("reads", "open_link", A + "; ln -s a l", [A2 + "; ln -s a l", "ln -s a l", AB + "; ln -s b l"])
Case("reads", "open_path_then_read", A, [A2, NO_A])
Case("reads", "open_proc_cwd", A, [A2, NO_A])
Case("reads", "openat2", A, [A2, NO_A])
Case("reads", "mmap", A, [A2, NO_A])
for name in ("getdents", "getdents64"):
    Case("reads", name, DA,
         [DA + "; touch d/b", "mkdir d", "true", "touch d", "mkdir e; ln -s e d"])
Case("reads", "getcwd", "mkdir d e; ln -s d l", ["mkdir d e; ln -s e l", "true"])
Case("reads", "connect", "true", ["touch socket"])
Case("reads", "execve", "printf '#!/bin/echo one\\n' > script; chmod 755 script",
     ["true", "printf '#!/bin/echo two\\n' > script; chmod 755 script",
      "printf '#!/bin/echo one\\n' > script"])

# --- the rest: descriptors, streams, signals, users ---
for name in ("read", "readv", "pread64", "preadv", "preadv2", "lseek", "fstat", "recvfrom", "recvmsg", "mmap"):
    Case("uses", name, A, ["printf other-and-longer > a", "printf beta > a"], stdin="a")
for name in ("write", "fstat_stdout", "ioctl", "tee", "vmsplice", "sendto", "sendmsg", "sendmmsg", "kill", "tkill",
             "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "setuid", "setgid", "setreuid", "setregid",
             "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups", "sched_getaffinity"):
    Case("uses", name, "true")
Case("uses", "pwritev", A, [A2, NO_A])
Case("uses", "pwritev2", A, [A2, NO_A])
Case("uses", "connect", "true", ["touch socket"])
Case("uses", "bind", "true", refused="socket")
Case("uses", "kill_parent", "true", refused="signals")
Case("uses", "pidfd_send_signal", "true", refused="signals")
Case("uses", "setuid_other", "true", refused="changes-user" if os.geteuid() == 0 else None)
Case("uses", "capset", "true", refused="changes-user" if os.geteuid() == 0 else None)
Case("uses", "statfs", "true", refused="free-space")
Case("uses", "prctl", "true", refused="unreadable-process")
Case("uses", "getrandom", "true", refused="random")
Case("uses", "clone3", "true", ["touch b", "mkdir b"])
Case("uses", "clone3_namespace", "true", refused="namespace")
SCRIPT = "printf '#!/bin/echo one\\n' > script; chmod 755 script"
Case("uses", "execveat", SCRIPT, ["true", SCRIPT.replace("one", "two"), SCRIPT.replace("755", "644")])
Case("uses", "execveat_by_descriptor", "true")

# --- calls that are none of this machine's: the answer must be the kernel's own ---
X32 = 0x40000000
for number in (423, 470, 1000):  # 335 and 336 the kernel hides from filters: uprobes make them
    Case("foreign", f"--answer {number}", "true", refused="unknown-syscall")
for number in (0, 2, 39, 59, 257, 512, 520):
    Case("foreign", f"--answer {X32 | number}", "true", refused="foreign-architecture")
PROGRAM32 = r"""
static int call(int number, const void* a, int b, int c) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "0"(number), "b"(a), "c"(b), "d"(c) : "memory");
  return result;
}
void _start(void) {
  static char text[100];
  const int in = call(5, "a", 0, 0), n = call(3, (void*)in, (int)text, 100);
  const int out = call(8, "b", 0644, 0);
  call(4, (void*)out, (int)text, n);
  call(4, (void*)1, (int)text, n);
  call(1, 0, 0, 0);
}
"""

# --- commands in commands: in a variant some of them hit, and the whole must still be right ---
TWO = "printf one > in1; printf two > in2"
TWO_B = "printf one > in1; printf 2 > in2"
Case("nested", "cat in1 > out1; cat in2 > out2; cat out1 out2 > all", TWO,
     [TWO_B, TWO + "; touch out1", TWO + "; printf x > all; chmod 600 all", "printf one > in1"])
Case("nested", "mkdir -p d; cp in1 d/a; cp in2 d/b; ls d", TWO,
     [TWO_B, TWO + "; mkdir d", TWO + "; mkdir d; touch d/c", TWO + "; mkdir d; touch d/a"])
Case("nested", "cp in1 a; mv a b; cat b in2", TWO, [TWO_B, TWO + "; touch a", TWO + "; touch b"])
Case("nested", "cat in1 > a; chmod 750 a; cat in2 >> a", TWO, [TWO_B, TWO + "; touch a"])
Case("nested", "cat in1 > a; rm a; cat in2 > a", TWO, [TWO_B, TWO + "; touch a"])
Case("nested", "cat in1 > a; rm a; ls; cat in2", TWO, [TWO_B, TWO + "; touch a", TWO + "; touch z"])
Case("nested", "rm -f a; cat in1 > a; rm -rf d; mkdir d; cat in2 > d/x", TWO,
     [TWO_B, TWO + "; touch a", TWO + "; mkdir d; touch d/x d/y"])
Case("nested", "rm -rf d; mkdir d; cat in1 > d/a; ls d; cat in2", TWO,
     [TWO_B, TWO + "; mkdir d; touch d/a d/b"])
Case("nested", "ln -s in1 l; cat l; rm l; ln -s in2 l; cat l", TWO, [TWO_B, TWO + "; touch l"])
Case("nested", "if [ -f config ]; then cat config; else cp in1 config; fi; cat in2", TWO,
     [TWO_B, TWO + "; printf mine > config"])
Case("nested", "cat in1; cat in2 >&2; cat in1 >&2; cat in2", TWO, [TWO_B, "printf one > in1"])
Case("nested", "(cat in1; cat in2 >&2) 2>&1 | tr a-z A-Z > a; cat a", TWO, [TWO_B])
Case("nested", "{ read line; cat; } < in1; tail -c 1 < in2",
     "printf 'a\\nb\\n' > in1; printf two > in2",
     ["printf 'a\\nc\\n' > in1; printf two > in2", "printf 'a\\nb\\n' > in1; printf x > in2"])
Case("nested", "cat in1 > a; ln a b; cat in2 >> b; cat a", TWO, [TWO_B, TWO + "; touch b"])
Case("nested", "ln in1 a; ls -l in1 a | cut -c 1-12; cat in2", TWO, [TWO_B, TWO + "; ln in1 b"])
Case("nested", "cat in1 > a; ln a b; ls -l a | cut -c 1-12; rm b; ls -l a | cut -c 1-12", TWO,
     [TWO + "; touch a", TWO + "; touch b"])
Case("nested", "cp -p in1 a; mv -n a b; mv -f in2 b; cat b", TWO, [TWO_B, TWO + "; touch b"])
Case("nested", "cp -u in1 in2; cat in2", TWO, [TWO + " ## touch in1", TWO + " ## touch in2"])
Case("nested", "cp -b in1 in2; ls; cat in2", TWO, [TWO_B, "printf one > in1"])
Case("nested", "cat in1 in2 | (read x || true; echo $x) > a; cat a", TWO, [TWO_B])
Case("nested", "sed -i s/o/0/ in1; cat in1; cat in2", TWO, [TWO_B, TWO + "; chmod 600 in1"])
Case("nested", "tar cf a.tar in1 in2; rm in1 in2; tar xf a.tar; cat in1 in2; rm a.tar", TWO,
     [TWO_B])
Case("nested", "find . -name 'in*' | sort; test -e none || echo none; wc -c in1 in2", TWO,
     [TWO_B, TWO + "; touch none", TWO + "; mkdir d; touch d/in3"])
Case("nested", "install -m 751 in1 a; install -d d/e; install in2 d/e; ls d/e", TWO,
     [TWO_B, TWO + "; touch a", TWO + "; mkdir -p d/e; touch d/e/x"])
Case("nested", "head -c 2 in1 > a; tail -c 1 in2 >> a; sort a a > b; cmp a b || echo differ", TWO,
     [TWO_B])
Case("nested", "cat < in1 > a; cat <<E >> a\n$(cat in2)\nE\ncat a", TWO, [TWO_B])
Case("nested", "umask 077; cat in1 > a; mkdir d; ls -ld d | cut -c 1-10; cat in2", TWO, [TWO_B])
Case("nested", "touch stamp; [ in1 -nt stamp ] && echo newer || echo older; cat in2", TWO, [TWO_B])
Case("nested", "CALLS creat; LOOKS open || true; cat b; cp in2 a; LOOKS open access_x", TWO,
     [TWO_B, TWO + "; touch b", TWO + "; printf x > a"])
Case("nested", "exec CALLS creat chmod_dir", "mkdir d", ["true", "mkdir d; touch b"])
Case("nested", "cd d && cat ../in1 > a && CALLS creat && ls && ls ..", TWO + "; mkdir d",
     [TWO_B + "; mkdir d", TWO, TWO + "; mkdir d; touch d/z", TWO + "; mkdir e; ln -s e d"])
Case("nested", "cat in1 > a & cat in2 > b & wait; cat a b", TWO, [TWO_B])
Case("nested", "sh -c 'cat in1; exit 3'; echo $?; cat in2", TWO, [TWO_B])
Case("nested", "t=$(mktemp); cat in1 > $t; cat $t; rm $t; cat in2", TWO, [TWO_B])


def snapshot(root):
    state, inodes = {}, {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            rel = os.path.relpath(path, root)
            if rel == ".git" or rel.startswith(".git/"):
                continue
            st = os.lstat(path)
            entry = [stat.filemode(st.st_mode), st.st_uid, st.st_gid]
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as file:
                    entry.append(hashlib.sha1(file.read()).hexdigest())
                inodes.setdefault(st.st_ino, []).append(rel)
                entry.append({n: os.getxattr(path, n).hex() for n in os.listxattr(path)})
            if stat.S_ISLNK(st.st_mode):
                entry.append(os.readlink(path))
            # Times that were set count; the others are of now or of the setup.
            if st.st_mtime < 1.6e9 and not stat.S_ISDIR(st.st_mode) or rel == "d":
                entry.append(st.st_mtime_ns if st.st_mtime < 1.6e9 else "now")
            state[rel] = entry
    for names in inodes.values():
        if len(names) > 1:
            for name in names:
                state[name].append(sorted(names))
    return state


class Checker:
    def __init__(self, pcache, programs):
        self.pcache, self.programs = pcache, programs
        self.calls, self.looks, self.uses = (os.path.join(programs, "pcache_" + name)
                                             for name in ("calls", "looks", "uses"))
        self.base = os.path.realpath(tempfile.mkdtemp(prefix="pcache-programs-"))
        self.tree = os.path.join(self.base, "tree")
        self.report = os.path.join(self.base, "report")
        os.makedirs(os.path.join(self.tree, ".git"))
        runtime = os.path.join(self.base, "run")
        os.mkdir(runtime, 0o700)
        self.env = dict(os.environ, PCACHE_MIN_FREE="0", PCACHE_DIR=os.path.join(self.base, "cache"),
                        XDG_RUNTIME_DIR=runtime)
        self.failures = 0
        if os.environ.get("MOUNTED"):  # one mount for all, and all changes through it
            subprocess.run([self.pcache, "mount", self.tree], env=self.env, check=True)

    def close(self):
        subprocess.run([self.pcache, "umount", "--all"], env=self.env, capture_output=True)
        shutil.rmtree(self.base, ignore_errors=True)

    def prepare(self, setup):
        for name in os.listdir(self.tree):
            path = os.path.join(self.tree, name)
            if name == ".git":
                continue
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        age = "find . -mindepth 1 -name .git -prune -o -exec touch -h -d @%d {} +" % EPOCH
        first, _, then = setup.partition(" ## ")
        subprocess.run(["sh", "-c", f"umask 022; {first}; {age}; {then}"], cwd=self.tree,
                       env=dict(os.environ, CALLS=self.calls), check=True)

    def run(self, case, setup, traced):
        self.prepare(setup)
        if case.program == "nested":
            script = case.calls.replace("CALLS", self.calls).replace("LOOKS", self.looks)
            command = ["sh", "-c", script]
        elif case.program in ("looks", "reads"):
            command = [self.looks] + case.calls.split()
        elif case.program in ("uses", "foreign"):
            command = [self.uses] + case.calls.split()
        elif case.program == "program32":
            command = ["./program32"]
        else:
            command = [self.calls] + case.calls.split()
        if traced:
            command = [self.pcache, "run", "--quiet", "--report", self.report, "--"] + command
        given = open(os.path.join(self.tree, case.stdin)) if case.stdin else subprocess.DEVNULL
        done = subprocess.run(command, cwd=self.tree, env=self.env, stdin=given, capture_output=True, timeout=30)
        outcome = None
        if traced:
            try:
                with open(self.report) as file:
                    outcome = json.load(file)["executions"][0]
            except (OSError, ValueError, IndexError) as error:
                outcome = {"outcome": f"not reported: {error}", "reasons": [], "recorded": False}
        # The processes of a pipeline complain in any order.
        complaints = sorted(done.stderr.decode().splitlines())
        return [done.returncode, done.stdout.decode(), complaints, snapshot(self.tree)], outcome

    def fail(self, case, what, detail=""):
        self.failures += 1
        print(f"FAILED {case}: {what}\n{detail}")

    def compare(self, case, when, setup):
        truth, _ = self.run(case, setup, traced=False)
        found, outcome = self.run(case, setup, traced=True)
        if found != truth:
            detail = f"    setup:  {setup}\n"
            for name, true, ours in zip(("status", "stdout", "stderr", "tree"), truth, found):
                if true != ours:
                    detail += f"    {name}: {ours}\n    truth:  {true}\n"
            self.fail(case, f"{when} ({outcome['outcome']}) is not as the bare command", detail)
        return outcome

    def check(self, case):
        cold = self.compare(case, "the first run", case.setup)
        codes = [reason["code"] for reason in cold["reasons"]]
        if case.refused:
            if case.refused not in codes:
                self.fail(case, f"not refused as {case.refused}", f"    {codes}")
        elif cold["outcome"] != "miss":
            self.fail(case, f"the first run is {cold['outcome']}", f"    {cold['reasons']}")
        warm = self.compare(case, "the second run", case.setup)
        if not case.refused and cold["outcome"] == "miss" and warm["outcome"] != "hit":
            self.fail(case, f"the second run is {warm['outcome']}", f"    {warm['reasons']}")
        for variant in case.variants:
            first = self.compare(case, "a variant", variant)
            again = self.compare(case, "a variant again", variant)
            # Neither the times of now nor the inode of a file with two names come again.
            repeatable = not any(text in variant for text in (" ## ", "; ln a", "; ln in"))
            if repeatable and first["recorded"] and again["outcome"] != "hit":
                self.fail(case, f"a variant again is {again['outcome']}",
                          f"    setup:  {variant}\n    {again['reasons']}")
        self.compare(case, "back in the first state", case.setup)


    def rows(self):
        """(number, name, meaning, code) of each row of the table."""
        text = subprocess.run([os.path.join(self.programs, "pcache_rows")], capture_output=True, text=True,
                              check=True).stdout
        return [(line.split() + [""])[:4] for line in text.splitlines()]

    def check_refused(self):
        """Each row that is refused, called with arguments that nothing can come of."""
        rows = [row for row in self.rows() if row[2] == "refused"]
        for number, name, _, code in rows:
            case = Case("uses", f"--number {number}", refused=code)
            outcome = self.compare(case, name, "true")
            codes = [reason["code"] for reason in outcome["reasons"]]
            if code not in codes:
                self.fail(name, f"not refused as {code}", f"    {codes}")
        return len(rows)

    def check_table(self):
        """No row is without a program, and no function of a program without a case."""
        here, sources = os.path.dirname(os.path.abspath(__file__)), {}
        for name in ("calls", "looks", "uses"):
            with open(os.path.join(here, name + ".c"), encoding="utf-8") as file:
                sources[name] = file.read()
        followed = [row for row in self.rows() if row[2] == "followed"]
        for _, name, _, _ in followed:
            if not any(re.search(rf"SYS_{name}\b", text) for text in sources.values()):
                self.fail(name, "has no program", "    it is followed, so calls.c, looks.c or uses.c must make it")
        told = {word for cases in GROUPS.values() for case in cases for word in re.split(r"[ ;]+", case.calls)}
        for source in sources.values():
            for function in re.findall(r"\bROW\((\w+)\)", source.partition("#define ROW")[2]):
                owner_only = "chown" in function and os.geteuid() != 0
                if function not in told and function != "name" and not owner_only:
                    self.fail(function, "is in no case")
        return len(followed)

    def check_i386(self):
        """A 32-bit call of a 64-bit program; where the kernel has none, the processor stops it unseen."""
        said = subprocess.run([self.uses, "--i386"], capture_output=True, check=True).stdout
        known = said.startswith(b"its own id")
        self.check(Case("foreign", "--i386", "true", refused="foreign-architecture" if known else None))
        return 1

    def check_program32(self):
        """A 32-bit program, where the compiler makes one and the kernel runs it."""
        path = os.path.join(self.base, "program32")
        made = subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-fno-pie", "-no-pie", "-w", "-x", "c", "-",
                               "-o", path], input=PROGRAM32, text=True, capture_output=True)
        if made.returncode != 0:
            print(f"SKIPPED: a 32-bit program: the compiler makes none: {made.stderr.strip()[:200]}")
            return 0
        try:
            subprocess.run([path], capture_output=True, check=False, cwd=self.base)
        except OSError as error:
            print(f"SKIPPED: a 32-bit program: the kernel runs none: {error}")
            return 0
        case = Case("program32", "program32", f"{A}; cp {path} program32", [f"{A2}; cp {path} program32"],
                    refused="foreign-architecture")
        self.check(case)
        return 1


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    groups = sys.argv[3:] or [*GROUPS, "refused", "table", "program32"]
    checker = Checker(*map(os.path.realpath, sys.argv[1:3]))
    count = 0
    try:
        for group in groups:
            for case in GROUPS.get(group, []):
                checker.check(case)
                count += 1
            if group == "foreign":
                count += checker.check_i386()
            elif group == "refused":
                count += checker.check_refused()
            elif group == "table":
                count += checker.check_table()
            elif group == "program32":
                count += checker.check_program32()
    finally:
        checker.close()
    print(f"{count} cases, {checker.failures} failures")
    if count == 0 and not checker.failures:
        sys.exit(77)  # what was to be tried is not to be had here; the reason is printed above
    sys.exit(1 if checker.failures else 0)


if __name__ == "__main__":
    main()
