"""What a command leaves behind: every kind of file, and what had been there before."""
import os
import subprocess

from harness import QUIET, case, scenario

IN = dict(setup="echo one > in", matter="echo two > in")

case("hard_links", "cat in > a; ln a b; ln b c; stat -c %h c", clean="rm a b c", **IN)
case("hard_link_to_an_input", "ln in copy; cat copy", clean="rm copy", **IN)
case("hard_link_to_a_symbolic_link", "cat in > a; ln -P l b; ln -s a m; ln -P m c", clean="rm a b c m",
     setup="echo one > in; ln -s in l", matter="echo two > in", again=False)
case("time_set_and_nothing_appended", "cat in > w; touch -r ref w; { :; } >> w; cat in > x; touch -r ref x; echo more >> x",
     setup="echo one > in; touch -d 2020-01-01 ref", matter="echo two > in", clean="rm w x")
case("symbolic_links", "cat in > a; ln -s a rel; ln -s /etc/passwd abs; ln -s missing dangling",
     clean="rm a rel abs dangling", **IN, again=False)
case("rename_chain", "cat in > t1; mv t1 t2; mv t2 t3; mv t3 out", clean="rm out", **IN)
case("rename_over", "cat in > new; mv -f new old", clean="echo kept > old; touch -d 2020-01-01 old",
     setup="echo one > in; echo kept > old; touch -d 2020-01-01 old", matter="echo two > in")
case("rename_swap", "mv a t; mv b a; mv t b; cat a b", setup="echo 1 > a; echo 2 > b",
     clean="mv a t; mv b a; mv t b", matter="echo 3 > b", again=False)
case("rename_own_directory", "mkdir d; cat in > d/x; mkdir d/e; mv d final", clean="rm -r final", **IN, again=False)
case("append_in_place", "cat in >> log", setup="echo one > in; echo base > log",
     clean="echo base > log", matter="echo two > in", again=False)
case("append_to_what_was_missing", "cat in >> log; cat in >> log", clean="rm log", **IN, again=False)
case("sed_in_place", "sed -i s/a/b/ f", setup="echo aaa > f", clean="echo aaa > f", matter="echo caa > f",
     again=False)
case("overwrite_a_part", "printf XX | dd of=f bs=1 seek=2 conv=notrunc 2> /dev/null",
     setup="echo abcdef > f", clean="echo abcdef > f", matter="echo ABCDEF > f", again=False)
case("truncate_to_a_size", "truncate -s 3 f; truncate -s 5000 g", setup="echo abcdef > f",
     clean="echo abcdef > f; rm g", matter="echo ABCDEF > f", again=False)
case("sparse_output", "truncate -s 3M s; printf x | dd of=s bs=1 seek=2000000 conv=notrunc 2> /dev/null",
     clean="rm s")
case("empty_outputs", "touch a; : > b; mkdir d", clean="rm -r a b d", again=False)
case("modes", "cat in > a; chmod 4755 a; cat in > b; chmod 400 b; mkdir c; chmod 1700 c",
     clean="chmod 700 b; rm -rf a b c", **IN, again=False)
case("output_that_cannot_be_read", "cat in > b; chmod 000 b", clean="rm -f b", users=("root",), **IN)
case("explicit_times", "cat in > a; touch -d 2001-02-03 a; mkdir d; touch -d 2002-01-01 d",
     clean="rm -r a d", **IN)
case("touch_existing", "touch f", setup="echo x > f; touch -d 2020-01-01 f", harmless="",
     clean="touch -d 2020-01-01 f", again=False)
case("copy_with_times", "cp -p in out; cp -a d e", setup="mkdir d; echo one > in; echo x > d/x; "
     "ln -s x d/l; touch -d 2019-05-05 in d/x d", clean="rm -r out e", matter="echo two > in", again=False)
case("install", "install -m 750 in out; install -d a/b/c; install -D in x/y/z",
     clean="rm -r out a x", **IN)
case("directories_deep", "mkdir -p a/b/c/d; cat in > a/b/c/d/f; mkdir a/empty", clean="rm -r a", **IN, again=False)
case("removals", "rm f; rm -r d; rmdir e; ls | wc -l", setup="echo 1 > f; mkdir -p d/dd e; echo 2 > d/x",
     clean="echo 1 > f; mkdir -p d/dd e; echo 2 > d/x", matter="echo 3 > d/y", harmless="", again=False)
case("remove_and_make_again", "rm -rf out; mkdir out; cp in out/x",
     clean="rm -rf out; mkdir out; echo old > out/x; touch -d 2020-01-01 out/x",
     setup="echo one > in; mkdir out; echo old > out/x; touch -d 2020-01-01 out/x", matter="echo two > in", again=False)
case("made_and_removed_leaves_nothing", "cat in > t; wc -c < t; rm t; mkdir d; rmdir d", **IN)
case("temporary_file_of_mktemp", "t=$(mktemp); cat in > $t; cat $t > out; rm $t", clean="rm out",
     **IN)
case("temporary_directory_of_python", "python3 -c \"import tempfile, shutil, os\n"
     "with tempfile.TemporaryDirectory() as d:\n shutil.copy('in', d); shutil.copy(d + '/in', 'out')\"",
     clean="rm out", **IN, harmless=QUIET, again=False)
case("tar_create", "tar cf out.tar d", setup="mkdir -p d/e; echo 1 > d/x; ln -s x d/l; ln d/x d/e/h",
     clean="rm out.tar", matter="echo 2 > d/x")
case("tar_sees_times", "tar cf out.tar d", setup="mkdir d; echo 1 > d/x", clean="rm out.tar",
     matter="touch -d 2020-01-01 d/x")
case("tar_unpacks_an_archive_of_any_age", "mkdir d; tar -xzf in.tgz -C d; cat d/x; gzip -dc in.tgz | wc -c; tar tf in.tgz",
     setup="echo 1 > x; tar czf in.tgz --mtime=2018-01-01 x; rm x", clean="rm -r d", harmless="touch -d 2020-01-01 in.tgz",
     matter="echo 2 > x; tar czf in.tgz x; rm x")
case("tar_keeps_newer_files", "tar -xf in.tar --keep-newer-files; cat x", matter="touch -d 2017-01-01 x",
     setup="echo 1 > x; tar cf in.tar --mtime=2018-01-01 x; echo 2 > x; touch -d 2020-01-01 x", hit=None)
case("tar_unpacks_what_is_newer_than_a_file", "mkdir o; tar -xf in.tar -C o -N ./stamp; ls o", clean="rm -r o", again=False,
     setup="echo 1 > x; tar cf in.tar --mtime=2018-01-01 x; touch -d 2017-01-01 stamp", matter="touch -d 2020-01-01 stamp")
case("gzip_keeps_the_time_of_what_it_packs", "gzip -c in | od -An -tx1 -j4 -N4", setup="echo 1 > in; touch -d 2020-01-01 in",
     matter="touch -d 2021-01-01 in")
case("gzip_keeps_the_time_of_its_input", "gzip < in | od -An -tx1 -j4 -N4", setup="echo 1 > in; touch -d 2020-01-01 in",
     matter="touch -d 2021-01-01 in")
case("gunzip_keeps_the_time_of_its_input", "gzip -dk in.gz; stat -c %Y in", setup="echo 1 > in; gzip -n in; touch -d 2020-01-01 in.gz",
     clean="rm in", matter="touch -d 2021-01-01 in.gz")
case("tar_extract", "tar xf in.tar", clean="rm -rf d n", matter="mkdir n; echo 3 > n/x; tar cf in.tar n; "
     "rm -r n", setup="mkdir d; echo 1 > d/x; chmod 640 d/x; ln -s x d/l; ln d/x d/h; touch -d 2018-01-01 "
     "d/x d; tar cf in.tar --mtime=2018-01-01 d; rm -r d", again=False)
case("gzip_keeps", "gzip -k in; gzip -dc in.gz > back", clean="rm in.gz back", **IN)
case("gzip_replaces", "gzip in", setup="echo one > in; touch -d 2020-01-01 in", again=False,
     clean="rm in.gz; echo one > in; touch -d 2020-01-01 in", matter="echo two > in; touch -d 2020-01-01 in")
case("long_and_strange_names", "cat in > \"$(printf 'a b\\nc\\t\\\\x')\"; cat in > -- 2> /dev/null; "
     "cat in > \"$(printf '\\303\\274\\377')\"; cat in > $(printf '%0200d' 7)",
     clean="find . -type f ! -name in -delete", **IN)
case("fifo_within", "mkfifo p; cat in > p & cat p > out; wait; rm p", clean="rm out", hit=False, code="fifo", **IN)
case("shared_output_of_children", "(cat in; cat in; echo end) > out", clean="rm out", **IN)
case("two_writers_one_log", "sh -c 'cat in >> log' & sh -c 'cat in >> log' & wait; wc -l log",
     clean="rm log", again=False, **IN)
case("memory_mapped_output", "python3 -c \"import mmap\nwith open('out','w+b') as f:\n f.truncate(9000)\n"
     " m = mmap.mmap(f.fileno(), 9000); m[:] = open('in','rb').read()[:1] * 9000; m.flush()\"",
     clean="rm out", **IN, harmless=QUIET)
case("memory_mapped_without_flush", "python3 -c \"import mmap\nf = open('out','w+b')\nf.truncate(9000)\n"
     "m = mmap.mmap(f.fileno(), 9000); f.close(); m[:] = open('in','rb').read()[:1] * 9000\"",
     clean="rm out", **IN, harmless=QUIET)
case("pwrite_and_seek", "python3 -c \"import os\nf = os.open('out', os.O_RDWR | os.O_CREAT)\n"
     "os.pwrite(f, b'tail', 100); os.pwrite(f, open('in','rb').read(), 0); os.ftruncate(f, 103)\"",
     clean="rm out", **IN)
case("extended_attributes", "cat in > out; python3 -c \"import os; os.setxattr('out','user.k',b'v')\"",
     clean="rm out", **IN)
case("outside_output", "cat in > $HOME/product; mkdir -p $HOME/d/e; cat in > $HOME/d/e/f; "
     "cat $HOME/product $HOME/d/e/f", clean="rm -rf $HOME/product $HOME/d", harmless="", **IN)
case("copies_of_trees", "cp -r src dst; diff -r src dst && echo same", clean="rm -r dst",
     setup="mkdir -p src/a/b; for i in 1 2 3 4 5; do echo $i > src/a/$i; echo $i > src/a/b/$i; done",
     matter="echo x > src/a/b/6", again=False)
case("git_archive", "git archive HEAD | tar xf - -C out", again=False, clean="rm out/f; touch -d 2020-01-01 out",
     setup="mkdir out; touch -d 2020-01-01 out; git init -q .; echo a > f; git add f; GIT_AUTHOR_DATE='@1000000000 +0000' "
           "GIT_COMMITTER_DATE='@1000000000 +0000' git -c user.name=t -c user.email=t@t commit -qm x; rm -rf .git/index")
case("ar_and_ranlib", "gcc -c a.c b.c && ar rcs lib.a a.o b.o && ranlib lib.a && nm lib.a | wc -l",
     setup="echo 'int a(void){return 1;}' > a.c; echo 'int b(void){return 2;}' > b.c",
     clean="rm a.o b.o lib.a", matter="echo 'int c;' >> b.c", harmless="touch a.c",
     ran_after={"cc1": 2, "ar": 1, "ranlib": 1}, again=False)


def _after_own_output(t, script, edit, what):
    """Somebody changes what the command had made; the command then must do as it does bare."""
    t.step(script, what=f"{what}: before")
    t.sh(edit)
    t.step(script, what=f"{what}: after")
    t.step(script, what=f"{what}: again")


@scenario
def own_output_changed_by_hand(t):
    t.write("in", "made\n")
    for script, output in (("cat in > out", "out"), ("cp in out2", "out2"),
                           ("[ -f kept ] || cat in > kept", "kept"), ("cat in >> grown", "grown"),
                           ("rm -f anew; cat in > anew", "anew"), ("cat in > t; mv t moved", "moved"),
                           ("ln -f in linked", "linked"), ("install -m 600 in inst", "inst"),
                           ("set -C; cat in > excl", "excl"), ("mkdir dir 2> /dev/null; cat in > dir/x",
                                                               "dir/x")):
        for edit in (f"echo hand > {output}", f"rm -f {output}", f"chmod 600 {output}",
                     f"rm -f {output}; ln -s target {output}; rm -f target",
                     f"rm -f {output}; mkdir {output}", f"rm -rf {output}; : > {output}",
                     f"rm -f other; ln {output} other", f"touch -d 2020-01-01 {output}"):
            _after_own_output(t, script, edit, f"{script} / {edit}")
            t.sh(f"rm -rf {output} other target")


@scenario
def output_into_what_is_a_link(t):
    t.write("in", "made\n")
    t.sh("echo t > target; ln -s target out; mkdir real; ln -s real d")
    for _ in range(3):
        t.step("cat in > out; cat in > d/x; cat target")
    t.sh("rm out; ln -s elsewhere out; rm d; mkdir d")
    for _ in range(3):
        t.step("cat in > out; cat in > d/x; cat elsewhere")


@scenario
def output_directory_disappears(t):
    t.write("in", "made\n")
    t.sh("mkdir d")
    t.step("cat in > d/out", hit=False)
    t.sh("rm -r d")
    t.step("cat in > d/out 2>&1", what="no directory", hit=False)
    t.sh("mkdir d; chmod 500 d")
    t.step("cat in > d/out 2>&1", what="read-only directory", hit=False)
    t.sh("chmod 700 d; rm -rf d; mkdir d")
    t.step("cat in > d/out", hit=True, what="it is back")


@scenario
def going_back_and_forth_in_an_unclean_tree(t):
    t.write("m.c", "int f(void) { return 1; }\n")
    build = "gcc -c m.c -o m.o; cat m.c > m.txt"
    t.step(build, hit=False)
    t.write("m.c", "int f(void) { return 2; }\n")
    t.step(build, hit=False)
    for n, expect in ((1, None), (2, None), (1, True), (2, True)):
        t.write("m.c", f"int f(void) {{ return {n}; }}\n")
        report = t.step(build, hit=expect, what=f"back to {n}")
        t.equal(report.count("cc1"), 0, f"back to {n}: compilers that ran")


@scenario
def make_agrees_after_a_hit(t):
    """The times of replayed outputs: nothing looks older than what it was made from."""
    t.write("Makefile", "all: d/c\na: in\n\tcat in > a\nb: a\n\tcat a > b\nd/c: b | d\n\tcat b > d/c\n"
                        "d:\n\tmkdir d\n")
    t.write("in", "x\n")
    for attempt in range(6):
        t.step(["make"], hit=attempt > 0, what=f"make {attempt}")
        for side in t.sides():
            t.equal(t.run_bare(["make", "-q"], side).status, 0, f"make -q {attempt}")
        t.sh("rm -rf a b d")


@scenario
def inode_and_links_stay_where_it_writes_in_place(t):
    """`>` keeps the inode: who has the file under another name sees the new content."""
    t.write("in", "new\n")
    t.step("cat in > out", hit=False)
    t.sh("rm out; echo old > out; ln out twin")
    for _ in range(3):
        t.step("cat in > out; cat twin")
        t.sh("echo old > out")


@scenario(users=("root",))
def ownership(t):
    t.write("in", "x\n")
    script = "cat in > out; chown 12:34 out; mkdir d; chown 5:6 d; cat in > d/y"
    t.step(script, hit=False)
    t.sh("rm -r out d")
    t.step(script, hit=True)


@scenario(users=("root",))
def special_files(t):
    script = "mknod null c 1 3; mkfifo pipe; ls -l null pipe | cut -c1"
    t.step(script)
    t.sh("rm null pipe")
    t.step(script)


@scenario
def many_small_outputs(t):
    t.write("in", "x\n")
    script = "mkdir d; i=0; while [ $i -lt 1500 ]; do echo $i > d/$i; i=$((i+1)); done"
    t.step(script, hit=False)
    t.sh("rm -r d")
    t.step(script, hit=True)


@scenario
def editing_through_a_mount_while_it_stays(t):
    """An editor's save (write aside, rename over) between runs in a mount that stays."""
    t.mounted = True
    t.write("in", "one\n")
    t.step("cat in > out", hit=False)
    t.step("cat in > out")
    t.sh("echo two > in.tmp; mv in.tmp in")
    t.step("cat in > out", hit=False, what="after a save")
    t.sh("echo hand > out")
    t.step("cat in > out; cat out", what="output overwritten by hand")
    t.sh("rm out; git init -q . && git add in && git status --short && git stash -q || true")
    t.ignore.add(".git")
    t.step("cat in 2>&1; ls", what="after git")
    done = subprocess.run(["cat", os.path.join(t.tree, "out")], capture_output=True, check=False)
    t.equal(done.returncode, 1, "cat of a removed output")


@scenario
def moved_link_keeps_its_time(t):
    again = "rm -f m; ln -s in l; touch -h -d 2020-01-01 l"
    for hit in (False, True):
        t.sh(again)
        t.step("mv l m", hit=hit)
        times = [os.lstat(os.path.join(side, "m")).st_mtime for side in t.sides()]
        t.check(times[0] == times[1], f"m is of {times}")


@scenario
def forced_hard_link(t):
    """ln -f makes the link under a name of its own, and renames that."""
    for hit in (False, True):
        t.sh("rm -rf d w; mkdir d; echo x > d/in; echo old > w; touch -d 2020-01-01 d/in w")
        t.step("ln -f d/in w", hit=hit)


@scenario
def moved_file_that_has_another_name(t):
    for _ in range(2):
        t.sh("rm -f a b c; echo x > a; touch -d 2020-01-01 a; ln a c")
        t.step("mv a b")
