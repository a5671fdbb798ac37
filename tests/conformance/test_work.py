"""Everyday work in a mount ends as it does in a bare directory."""
import os
import shutil

from harness import Host, Mode, equal, run_tests

SOURCE = """#include "all.h"
int f%d(int x) { return x + %d; }
"""
MAKEFILE = """OBJECTS := $(patsubst %.c,%.o,$(sort $(wildcard *.c)))
prog: $(OBJECTS)
\t$(CC) -o $@ $^
%.o: %.c all.h
\t$(CC) -O1 -c $< -o $@
clean:
\trm -f prog *.o
.PHONY: clean
"""


def script(mode, where, text, timeout=120):
    return mode.run(["bash", "-euc", text], cwd=where, timeout=timeout)


def project(mode, where):
    src = os.path.join(mode.home, "src")
    if not os.path.exists(src):
        mode.run(["mkdir", src])
        files = {"all.h": "int f0(int);\n", "Makefile": MAKEFILE,
                 "main.c": '#include "all.h"\nint main(void) { return f0(-0); }\n'}
        files.update({f"f{i}.c": SOURCE % (i, i) for i in range(12)})
        for name, text in files.items():
            with open(os.path.join(src, name), "w") as file:
                file.write(text)
    script(mode, where, f"cp -r {src}/. .")


def git(mode, directory):
    with Host(mode, directory) as host:
        project(mode, directory)
        script(mode, directory, "git init -q . && git add . && git commit -qm one")
        equal(script(mode, directory, "git status --porcelain"), "", "git status")
        script(mode, directory, "echo '// x' >> f1.c; git mv f2.c g2.c; rm f3.c; mkdir sub; "
                                "echo new > sub/new")
        equal(sorted(script(mode, directory, "git status --porcelain").splitlines()),
              [" D f3.c", " M f1.c", "?? sub/", "R  f2.c -> g2.c"], "git status")
        script(mode, directory, "git add -A . && git commit -qm two && git checkout -q HEAD~1 && "
                                "git checkout -q - && git gc -q && git fsck --strict && "
                                "git clone -q . ../clone.$$ && rm -rf ../clone.$$")
        # What is changed below the mount is seen once the kernel is told.
        equal(script(mode, directory, "git stash list; git status --porcelain"), "", "git status")
        assert host.status()["alive"] == "1"


def make(mode, directory):
    with Host(mode, directory):
        project(mode, directory)
        script(mode, directory, "make -j4 && ./prog")
        assert "up to date" in script(mode, directory, "make -j4"), "make runs again"
        script(mode, directory, "touch f5.c")
        equal(script(mode, directory, "make -j4 | grep -c -- -c"), "1\n", "compilations")
        script(mode, directory, "touch all.h")
        equal(script(mode, directory, "make -j4 | grep -c -- -c"), "13\n", "compilations")
        script(mode, directory, "make clean && make -j4 && ./prog")
        equal(script(mode, directory, "make clean; ls *.o prog 2>/dev/null | wc -l").splitlines()[-1],
              "0", "objects left")


def archives_and_copies(mode, directory):
    with Host(mode, directory):
        os.makedirs(os.path.join(mode.home, "tree"), exist_ok=True)
        script(mode, mode.home + "/tree", """
            mkdir -p a/b/c && echo one > a/one && ln a/one a/b/hard && ln -s ../one a/b/soft
            printf x | dd of=a/sparse bs=1 seek=1000000 2>/dev/null
            touch -d 2001-02-03T04:05:06.789 a/one && chmod 640 a/one && mkfifo a/pipe
            head -c 3000000 /dev/zero | tr '\\0' q > a/b/c/large""")
        script(mode, directory, """
            src=$HOME/tree
            tar c --format=posix -C $src a | tar x
            cp -a $src/a copy
            listing() { (cd $1 && find . -printf '%p %y %m %s %n %l %T@\\n' | sed '/^\\. /d' | \
                grep -v ' d ' | sort); }
            diff <(listing $src/a) <(listing a)
            diff <(listing $src/a) <(listing copy)
            diff -r --no-dereference -x pipe $src/a a
            mkdir other && mv copy other/ && mv other/copy/b/c/large . && cmp large a/b/c/large
            cp --reflink=auto --sparse=always a/sparse s2 && cmp a/sparse s2
            rm -rf other a && ls""")
        if shutil.which("rsync"):
            script(mode, directory, """
                rsync -aH $HOME/tree/a ./ && test "$(rsync -aHi $HOME/tree/a ./)" = ''""")


def editors_and_interpreters(mode, directory):
    with Host(mode, directory):
        project(mode, directory)
        script(mode, directory, """
            sed -i 's/return x/return  x/' f*.c && grep -c 'return  x' f0.c
            mkdir pkg && for i in 1 2 3 4 5; do echo "x = $i" > pkg/m$i.py; done
            python3 -m compileall -q pkg && test $(ls pkg/__pycache__ | wc -l) = 5
            (cd pkg && python3 -c 'import m3; assert m3.x == 3')
            echo line > log; for i in $(seq 50); do echo $i >> log; done; test $(wc -l < log) = 51
            sort -o log log; patch=$(mktemp -p .); cp f0.c f0.new; echo '//' >> f0.new
            diff -u f0.c f0.new > $patch || true; patch -s f0.c $patch 2>/dev/null || cp f0.new f0.c
            cmp f0.c f0.new; rm $patch
            find . -name '*.c' -newer all.h | wc -l; find . -type f -print0 | xargs -0 md5sum > sums
            md5sum -c --quiet <(grep -v sums sums)
            : > empty; truncate -s 1M empty; dd if=/dev/zero of=dd bs=64k count=10 conv=fsync 2>&1
            rm -rf pkg""")


def sees_changes_below(mode, directory):
    """Another way into the directory: a process whose working directory is older than the mount."""
    probe = ("import os, sys\n"
             "for line in sys.stdin:\n"
             "    exec(line)\n"
             "    print('done', flush=True)\n")
    import subprocess
    below = mode.start(["python3", "-c", probe], cwd=directory, stdin=subprocess.PIPE,
                       stdout=subprocess.PIPE, text=True)

    def do(line):
        below.stdin.write(line + "\n")
        below.stdin.flush()
        equal(below.stdout.readline(), "done\n", line)

    try:
        do("open('f', 'w').write('one'); os.mkdir('d')")
        with Host(mode, directory) as host:
            equal(script(mode, directory, "cat f; ls"), "oned\nf\n", "through the mount")
            do("open('f', 'w').write('three'); open('d/g', 'w').write('g')")
            host.tell("invalidate f")
            host.tell("invalidate d/g")
            equal(script(mode, directory, "cat f; stat -c %s f; ls d; cat d/g"), "three5\ng\ng",
                  "in place and new")
            do("os.unlink('f'); open('f', 'w').write('another file')")
            host.tell("invalidate f")
            equal(script(mode, directory, "cat f; stat -c %s f"), "another file12\n", "replaced")
            do("os.unlink('f')")
            host.tell("invalidate f")
            equal(script(mode, directory, "ls; test ! -e f"), "d\n", "removed")
            do("os.rename('d', 'e'); os.mkdir('d')")
            host.tell("invalidate d")
            host.tell("invalidate e")
            equal(script(mode, directory, "ls d; ls e"), "g\n", "directories")
            do("os.chmod('e/g', 0o600); open('e/h', 'w')")
            host.tell("invalidate-all")
            equal(script(mode, directory, "stat -c %a e/g; ls e"), "600\ng\nh\n", "all")
            do("open('e/.pcache-tmp1', 'w')")
            equal(script(mode, directory, "ls -A e; test ! -e e/.pcache-tmp1"), "g\nh\n", "hidden")
            do("os.unlink('e/.pcache-tmp1')")
    finally:
        below.stdin.close()
        below.wait(10)


def busy_dead_and_twice(mode, directory):
    with Host(mode, directory) as host:
        holder = mode.start(["sleep", "60"], cwd=directory)
        answer = host.ask("unmount")
        assert "in use" in answer and directory in answer, answer
        second = mode.run([os.path.join(mode.bin, "fuse_host"), directory], check=False)
        assert "mounted there already" in second, second
        holder.kill()
        holder.wait()
        host.tell("unmount")
    with Host(mode, directory) as host:
        host.process.kill()
        host.process.wait()
        try:
            os.stat(directory)
            dead = False
        except OSError:
            dead = True
        assert dead, "no dead mount to clear"
        with Host(mode, directory):
            script(mode, directory, "echo again > f")
    with Host(mode, directory) as host:  # taken away from outside
        script(mode, directory, "cat f")
        mode.run(["fusermount3", "-u", directory])
        host.process.wait(10)
    with Host(mode, directory) as host:
        holder = mode.start(["sleep", "60"], cwd=directory)
        host.tell("lazy")
        holder.kill()
        holder.wait()
    for path, reason in [("/nonexistent", "does not exist"), ("/etc/passwd", "not a directory")]:
        answer = mode.run([os.path.join(mode.bin, "fuse_host"), path], check=False)
        assert path in answer and reason in answer, answer


def tells_the_listener(mode, directory):
    with open(os.path.join(mode.home, "blob"), "w") as file:
        file.write("contents of a blob")
    with Host(mode, directory) as host:
        host.tell("listen")

        def events(text):
            host.tell("events")
            process = mode.start(["python3", "-c", "import os\n" + text], cwd=directory)
            equal(process.wait(20), 0, text)
            seen = [event.split(":") for event in host.tell("events").split()]
            for tid, op, *_ in seen:
                equal(tid, "0" if op == "published" else str(process.pid), "tid of " + op)
            return [":".join(event[1:]) for event in seen]

        equal(events("os.mkdir('d'); open('d/f', 'x').close()"), ["makedir:d:1", "create:d/f:1"],
              "creation")
        equal(events("open('d/f').close(); open('d/f', 'r+').close(); open('d/f', 'w').close()"),
              ["read:d/f:1", "write:d/f:1", "write:d/f:1"], "opens")
        equal(events("os.listdir('d'); os.listdir('.')"), ["list:d:1", "list::1"], "listings")
        equal(events("os.rename('d/f', 'g'); os.link('g', 'd/h'); os.symlink('x', 'd/s')"),
              ["rename:d/f:1", "rename:g:1", "link:d/h:1", "create:d/s:1"], "names")
        equal(events("os.chmod('g', 0o600); os.truncate('g', 5); os.utime('d')"),
              ["setattr:g:1", "setattr:d/h:1"] * 2 + ["setattr:d:1"], "attributes, by both names")
        equal(events("os.rename('d', 'e'); os.chmod('e/h', 0o644); os.unlink('e/h'); "
                     "os.unlink('e/s'); os.rmdir('e')"),
              ["rename:d:1", "rename:e:1", "setattr:g:1", "setattr:e/h:1", "remove:e/h:1", "remove:e/s:1",
               "remove:e:1"], "after a renamed directory")
        equal(events("try: os.rmdir('g')\nexcept OSError: pass"), [], "refused by the kernel")
        host.tell(f"serve out {os.path.join(mode.home, 'blob')}")
        host.tell("publish out")
        for _ in range(50):
            seen = host.tell("events")
            if seen:
                break
        equal(seen, "0:published:out:1", "publication")


run_tests(Mode(), [git, make, archives_and_copies, editors_and_interpreters, sees_changes_below,
                   busy_dead_and_twice, tells_the_listener])
