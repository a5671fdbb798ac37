"""What is left behind by every ordinary tool, and that a hit leaves the same: kinds, modes, times, links."""
from harness import QUIET, case, scenario

IN = dict(setup="echo one > in", matter="echo two > in")
OLD = "touch -d 2020-01-01 "  # a time before the test counts in the comparison

# --- a kind replaced by another ---

case("file_becomes_a_directory", "rm -rf x; mkdir x; cat in > x/f", setup="echo one > in; echo old > x; " + OLD + "x",
     clean="rm -rf x; echo old > x; " + OLD + "x", matter="echo two > in")
case("directory_becomes_an_output", "rm -rf x; cat in > x", setup="echo one > in; mkdir x; echo old > x/y",
     clean="rm -rf x; mkdir x; echo old > x/y", matter="echo two > in")
case("file_directory_file", "rm -f x; mkdir x; rmdir x; cat in > x", setup="echo one > in; echo old > x; " + OLD + "x",
     clean="echo old > x; " + OLD + "x", matter="echo two > in")
case("file_becomes_a_link", "rm x; ln -s in x; cat x", setup="echo one > in; echo old > x; " + OLD + "x",
     clean="rm x; echo old > x; " + OLD + "x", matter="echo two > in", again=False)
case("link_becomes_a_file", "rm x; cat in > x; cat target", setup="echo one > in; echo t > target; ln -s target x; touch -h -d 2020-01-01 x",
     clean="rm x; ln -s target x; touch -h -d 2020-01-01 x", matter="echo two > in")
case("link_written_through", "cat in > x; cat target", setup="echo one > in; echo t > target; ln -s target x",
     clean="echo t > target", matter="echo two > in")

# --- rewritten with equal bytes: a new time all the same ---

EQUAL = dict(setup="echo one > in; echo one > out; " + OLD + "out", clean=OLD + "out", again=False)
case("equal_bytes_by_the_shell", "cat in > out", **EQUAL)
case("equal_bytes_by_rename", "cat in > t; mv t out", **EQUAL)
case("equal_bytes_by_cp", "cp in out", **EQUAL)
case("equal_bytes_by_install", "install -m 644 in out", **EQUAL)
case("equal_bytes_in_place", "dd if=in of=out conv=notrunc 2> /dev/null", **EQUAL)
case("equal_bytes_by_sed", "sed -i s/x/y/ out", **EQUAL)
case("equal_size_by_truncate", "truncate -s 4 out", **EQUAL)
case("empty_file_truncated_again", ": > out", setup=": > out; " + OLD + "out", clean=OLD + "out", again=False)
case("left_alone_if_equal", "cmp -s in out || cp in out", matter="echo two > in", again=False,
     setup="echo one > in; echo one > out; " + OLD + "out", clean="echo one > out; " + OLD + "out")
case("opened_for_append_and_left", ": >> out", **EQUAL)

# --- cp, mv, install, touch ---

case("copy_if_newer", "cp -u in out; cat out", setup="echo one > in; echo mine > out; " + OLD + "in",
     matter=OLD + "out; touch -d 2021-01-01 in; touch now", again=False,
     clean="if [ -e now ]; then echo mine > out; " + OLD + "out; fi")
case("copy_if_absent", "cp -n in out; cat out", setup="echo one > in; echo mine > out",
     clean="[ ! -e gone ] || rm out", matter="rm out; touch gone", again=False)
case("copies_of_all_kinds", "cp -l in hard; cp -s in soft; cp -a in arch; cp -rT d e; cp -al d f", again=False,
     setup="echo one > in; " + OLD + "in; mkdir d; echo x > d/x; ln -s x d/l",
     clean="rm -rf hard soft arch e f", matter="echo two > d/x")
case("copy_into_what_became_a_directory", "cp in to; ls -d to to/* 2> /dev/null; true", again=False,
     clean="rm -rf to; [ ! -e made ] || mkdir to", setup="echo one > in", matter="mkdir to; touch made")
case("move_if_absent", "mv -n a b; cat b", setup="echo 1 > a; echo 2 > b", clean="[ -e a ] || mv b a",
     matter="rm b")
case("move_into_a_directory", "mkdir to; mv a b to; ls to", setup="echo 1 > a; echo 2 > b",
     clean="mv to/* .; rmdir to", matter="echo 3 > b", again=False)
case("install_with_all_modes", "install -m 4755 in s; install -m 2755 in g; install -p -m 444 in p",
     setup="echo one > in; " + OLD + "in", clean="rm -f s g p", matter="echo two > in")
case("install_if_it_differs", "install -C -m 644 in out", setup="echo one > in; install -m 644 in out; " + OLD + "out",
     clean="echo one > out; " + OLD + "out", matter="echo two > in", again=False)
case("touch_like_another", "touch -r ref out; touch -m -d 2001-01-01 m; touch -a -d 2001-01-01 a",
     setup="touch -d 2015-05-05 ref", clean="rm out m a", matter="touch -d 2016-06-06 ref", again=False)
case("touch_what_is_there", "touch -c missing there; ls", setup=OLD + "there", clean=OLD + "there",
     matter="rm -f missing; " + OLD + "missing", harmless=QUIET, again=False)
case("set_time_of_a_directory", "mkdir d; touch d/x; touch -d 2011-01-01 d; mkdir e; cp -a d/. e", clean="rm -r d e",
     again=False)

# --- archives ---

case("tar_and_back", "tar cf t.tar d && mkdir o && tar xf t.tar -C o", clean="rm -rf t.tar o", again=False,
     setup="mkdir -p d/e; echo 1 > d/x; chmod 4750 d/x; ln -s x d/l; ln d/x d/e/h; " + OLD + "d/x d/e d",
     matter="echo 2 > d/x; " + OLD + "d/x")
case("tar_compressed", "tar czf t.tgz d; gzip -dc t.tgz | tar tf -", setup="mkdir d; echo 1 > d/x; " + OLD + "d/x d",
     clean="rm t.tgz", matter="touch -d 2021-01-01 d/x", again=False)
case("gzip_holds_the_time", "gzip -c in > o.gz", setup="echo one > in; " + OLD + "in", clean="rm o.gz",
     matter="touch -d 2021-01-01 in")
case("gzip_of_stdin", "gzip -c < in > o.gz", setup="echo one > in; " + OLD + "in", clean="rm o.gz",
     matter="touch -d 2021-01-01 in")
case("zip_holds_the_time", "zip -qX o.zip in", setup="echo one > in; " + OLD + "in", clean="rm o.zip",
     matter="touch -d 2021-01-01 in", again=False)
case("ar_that_keeps_times", "ar rcU lib.a in; ar tv lib.a", setup="echo one > in; " + OLD + "in",
     clean="rm lib.a", matter="touch -d 2021-01-01 in")
case("ar_updates_a_member", "ar rc lib.a b; ar t lib.a", setup="echo 1 > a; echo 2 > b; ar rc lib.a a; cp lib.a keep",
     clean="cp keep lib.a", matter="echo 3 > b", again=False)

# --- in place ---

case("perl_in_place", "perl -pi -e s/a/b/ f", setup="echo aaa > f", clean="echo aaa > f", matter="echo caa > f",
     again=False)
case("patch_in_place", "patch -s f < p", setup="echo aaa > f; " + OLD + "f; printf '1c1\\n< aaa\\n---\\n> bbb\\n' > p",
     clean="echo aaa > f; " + OLD + "f", matter="sed -i s/bbb/ccc/ p", again=False)
case("read_then_written_in_one_open", "python3 -c \"f = open('f', 'r+'); d = f.read(); f.seek(0); "
     "f.write(d.upper()); f.truncate()\"", setup="echo aaa > f", clean="echo aaa > f", matter="echo caa > f",
     again=False, harmless=QUIET)
case("appends_with_reads_between", "echo a >> log; cat log; echo b >> log; cat in >> log; cat log", again=False,
     setup="echo one > in; echo base > log", clean="echo base > log", matter="echo two > in")
case("closed_and_opened_again", "exec 3>> log; cat in >&3; exec 3>&-; exec 3>> log; cat in >&3; exec 3>&-; cat log",
     clean="rm log", **IN, again=False)
case("parents_descriptor_after_a_child", "exec 3>> out; sh -c 'cat in >> out'; echo parent >&3; cat out",
     clean="rm out", **IN, again=False)
case("read_and_replaced_in_turn", "cat a > t; mv t a; cat a b > t; mv t b; cat b", again=False,
     setup="echo 1 > a; echo 2 > b; " + OLD + "a b", clean="echo 2 > b; " + OLD + "a b", matter="echo 3 > a; " + OLD + "a")
case("rename_over_an_input", "cat a; mv b a; cat a", again=False, matter="echo 3 > b; " + OLD + "b",
     setup="echo 1 > a; echo 2 > b; " + OLD + "a b", clean="mv a b; echo 1 > a; " + OLD + "a")
case("lock_file", "flock lock cat in > out; ls lock", clean="rm -f lock out", **IN)

# --- modes, trees ---

case("directory_closed_at_the_end", "mkdir d; cat in > d/f; chmod 555 d", clean="chmod 755 d; rm -r d", **IN,
     again=False)
case("output_made_read_only", "cat in > out; chmod 444 out", clean="rm -f out", **IN, again=False)
case("umask_in_the_script", "umask 027; cat in > a; mkdir b; umask 0; cat in > c; (umask 777; : > z); chmod 600 z",
     clean="rm -rf a b c z", **IN, again=False)
case("tree_renamed_with_all_in_it", "mkdir -p t/sub t/none; cat in > t/sub/f; ln t/sub/f t/h; ln -s h t/l; "
     "chmod 750 t/sub; mv t final; cat final/l", clean="rm -r final", **IN, again=False)
case("moved_out_of_an_own_directory", "mkdir t; cat in > t/f; mv t/f out; rmdir t", clean="rm out", **IN)
case("fifo_left_behind", "mkfifo p; stat -c %F p; cat in", clean="rm p", **IN)
case("only_permissions", "chmod 4711 f; stat -c %a f", setup="echo x > f", clean="chmod 644 f", matter="chmod 600 f",
     again=False)
case("group_of_a_setgid_directory", "mkdir d/s; cat in > d/f; stat -c %g d/f d/s", clean="rm -r d/s d/f",
     setup="echo one > in; mkdir d; chgrp 12 d; chmod g+s d", matter="echo two > in", users=("root",))
case("attributes_on_outputs", "python3 -c \"import os; open('o', 'w').close(); os.setxattr('o', 'user.a', b'1')\"; "
     "python3 -c \"import os; os.setxattr('o', 'user.b', b'2'); os.removexattr('o', 'user.a')\"; cp -a o p",
     clean="rm o p", harmless=QUIET)


# --- what was there before ---

@scenario
def a_users_file_is_never_overwritten(t):
    script = "[ -f config ] || cp default config; cat config"
    t.write("default", "d\n")
    t.step(script, hit=False)
    t.sh("rm config")
    t.step(script, hit=True, what="absent")
    t.write("config", "mine\n")
    t.step(script, what="a user's")
    t.sh("cp default config")
    t.step(script, what="a user's, equal to what it makes")
    t.sh("rm config")
    t.step(script, hit=True, what="absent again")


@scenario
def an_exclusive_output_is_kept(t):
    script = "set -C; cat in 2> /dev/null > out || echo kept"
    t.write("in", "made\n")
    t.step(script, hit=False)
    t.sh("rm out")
    t.step(script, hit=True)
    t.sh("echo mine > out")
    t.step(script, hit=False, what="somebody's output")
    t.step(script, hit=True, what="somebody's output again")
