"""What was looked at, one question at a time: sizes, times, names, links, permissions, owners."""
from harness import QUIET, case
from harness.world import PATH

XATTR = "python3 -c \"import os; os.setxattr('in', 'user.k', b'%s')\""

# --- sizes and times ---

case("size_is_not_zero", "[ -s f ] && echo full || echo empty", setup="echo x > f", matter=": > f")
case("size_by_stat", "stat -c %s f", setup="echo one > f", matter="echo three > f")
case("size_by_wc", "wc -c f", setup="echo one > f", matter="echo three > f")
case("size_by_find", "find d -size -2c | sort", setup="mkdir d; echo > d/a; echo long > d/b",
     matter="echo > d/b")
case("older_than", "[ a -ot b ] && echo older || echo not",
     setup="touch -d 2020-01-01 a; touch -d 2021-01-01 b", matter="touch -d 2022-01-01 a")
case("time_by_perl", "perl -e 'print((stat \"in\")[9])'", setup="touch -d 2020-01-01 in",
     matter="touch -d 2021-01-01 in")
case("time_by_python", "python3 -c \"import os; print(os.stat('in').st_mtime_ns)\"", harmless=QUIET,
     setup="touch -d 2020-01-01 in", matter="touch -d 2021-01-01 in")
case("diff_prints_times", "diff -u a b > p; wc -l < p", clean="rm p",
     setup="echo 1 > a; echo 2 > b; touch -d 2020-01-01 a b", matter="touch -d 2021-01-01 b")
case("time_of_a_link_itself", "stat -c %Y l; cat l", setup="echo x > in; ln -s in l; "
     "touch -h -d 2020-01-01 l", matter="touch -h -d 2021-01-01 l")
case("own_touch_is_no_question_about_before", "touch stamp; [ stamp -nt in ] && cat in",
     setup="echo one > in; touch -d 2020-01-01 in; touch -d 2019-01-01 stamp", matter="echo two > in; "
     "touch -d 2020-01-01 in")

# --- there or not, and what is in the way ---

case("directory_on_the_way_vanishes", "cat d/e/f 2> /dev/null || echo none",
     setup="mkdir -p d/e; echo x > d/e/f", matter="rm -r d")
case("directories_on_the_way_appear", "cat d/e/f 2> /dev/null || echo none",
     matter="mkdir -p d/e; echo x > d/e/f")
case("file_on_the_way_becomes_a_directory", "cat d/f 2> /dev/null || echo none", setup="echo x > d",
     matter="rm d; mkdir d; echo f > d/f")
case("directory_becomes_a_file", "cat d/f 2> /dev/null || cat d", setup="mkdir d; echo f > d/f",
     matter="rm -r d; echo x > d")
case("mkdir_of_what_is_there", "mkdir d 2> /dev/null && echo made || echo there", setup="mkdir d",
     matter="rmdir d")
case("remove_of_what_is_not_there", "rm -f f; ls f 2> /dev/null; echo done", matter="echo x > f")
case("link_where_something_is", "ln -s x l 2> /dev/null || readlink l", setup="ln -s y l",
     matter="ln -sfn z l")
case("directory_that_is_not_empty", "rmdir d 2> /dev/null && echo gone || echo full", setup="mkdir d",
     clean="mkdir -p d", matter="touch d/x")
case("program_that_becomes_executable", "PATH=./a:./b:$PATH tool", matter="chmod 755 a/tool",
     setup="mkdir a b; for d in a b; do printf \"#!/bin/sh\\necho $d\\n\" > $d/tool; done; "
           "chmod 644 a/tool; chmod 755 b/tool")
case("program_of_path_vanishes", "tool", env={"PATH": "@/a:@/b:" + PATH}, matter="rm a/tool",
     setup="mkdir a b; for d in a b; do printf \"#!/bin/sh\\necho $d\\n\" > $d/tool; chmod 755 $d/tool; done")
case("library_shadowed", "gcc main.c -Learly -Llate -lv -o main && ./main", clean="rm main",
     setup="mkdir early late; echo 'int v(void){return 2;}' > v.c; gcc -c v.c; ar rc late/libv.a v.o; "
           "printf 'int printf(const char*,...);int v(void);int main(void){printf(\"%d\\\\n\",v());"
           "return 0;}\\n' > main.c",
     matter="echo 'int v(void){return 1;}' > v.c; gcc -c v.c; ar rc early/libv.a v.o", harmless="touch main.c")
case("perl_module_shadowed", "perl -Ione -Itwo -e 'use M; print M::v()'", matter="sed s/2/1/ two/M.pm > one/M.pm",
     setup="mkdir one two; printf 'package M;\\nsub v { 2 }\\n1;\\n' > two/M.pm")

# --- listings ---

case("listing_sees_rename", "ls d", setup="mkdir d; touch d/a", matter="mv d/a d/b")
case("listing_sees_an_entry_of_another_type", "ls -F d", setup="mkdir d; touch d/a",
     matter="rm d/a; mkdir d/a")
case("listing_sees_a_link", "find d -type l", setup="mkdir d; touch d/a d/b", matter="ln -sf b d/a")
case("listing_of_an_empty_directory", "ls -A d; [ -z \"$(ls -A d)\" ] && echo empty || echo full", setup="mkdir d",
     matter="touch d/.hidden")
case("listing_around_a_temporary_file", "echo x > d/t; ls d; rm d/t; ls d | wc -l", setup="mkdir d; touch d/a",
     matter="touch d/n")
case("listing_of_all_below", "ls -R d", setup="mkdir -p d/e; touch d/e/a", matter="touch d/e/b")
case("listing_through_a_link", "ls l/", setup="mkdir a b; touch a/1 b/2; ln -s a l", matter="ln -sfn b l")
case("wildcard_in_the_middle", "echo d/*/x", setup="mkdir -p d/a d/b; touch d/a/x", matter="touch d/b/x")
case("contents_do_not_matter_to_a_listing", "ls d", setup="mkdir d; echo 1 > d/a", harmless="echo 2 > d/a",
     matter="rm d/a")
case("find_empty", "find d -empty | sort", setup="mkdir -p d/e; echo x > d/f", matter="touch d/e/n; : > d/f")

# --- links ---

case("loop_of_links_is_broken", "cat l 2> /dev/null || echo loop", setup="ln -s m l; ln -s l m",
     matter="echo end > t; ln -sf t m")
case("second_link_of_a_chain", "cat l1/f", setup="mkdir a b; echo 1 > a/f; echo 2 > b/f; ln -s a l2; ln -s l2 l1",
     matter="ln -sfn b l2")
case("input_replaced_by_a_link_to_the_same", "cat in; [ -L in ] && echo link || echo no link",
     setup="echo one > in", matter="cp in in2; rm in; ln -s in2 in")
case("directory_replaced_by_a_link_to_it", "cat d/in; find d -maxdepth 0 -type l | wc -l",
     setup="mkdir d; echo one > d/in", matter="mv d e; ln -s e d")
case("parent_of_a_linked_directory", "cat l/../f", matter="mkdir -p c/d; echo c > c/f; ln -sfn c/d l",
     setup="mkdir -p a/b; echo top > f; echo a > a/f; ln -s a/b l")
case("way_through_a_directory_that_vanishes", "cat d/../in 2> /dev/null || echo none",
     setup="mkdir d; echo one > in", matter="rmdir d")
case("link_count", "stat -c %h in", setup="echo x > in", matter="ln in other")
case("link_count_around_own_links", "stat -c %h in; ln in c; stat -c %h in; rm c; stat -c %h in",
     setup="echo x > in", matter="ln in other")
case("one_file_or_two", "[ a -ef b ] && echo one || echo two", setup="echo x > a; echo x > b",
     matter="ln -f a b")
case("link_count_after_an_own_append", "echo x >> f; stat -c %h f", setup="echo base > f",
     clean="echo base > f", matter="ln f g", again=False)
case("one_input_under_many_names", "cat $PWD/in ./in d/../in l", matter="echo two > in",
     setup="mkdir d; echo one > in; ln -s in l")

# --- permissions ---

case("modes_by_find", "find d -perm 644 | sort", setup="mkdir d; touch d/a d/b", matter="chmod 600 d/a")
case("mode_of_a_directory", "stat -c %a d", setup="mkdir d", matter="chmod 700 d")
case("script_that_becomes_executable", "./tool 2> /dev/null || echo no",
     setup="printf '#!/bin/sh\\necho yes\\n' > tool", matter="chmod 755 tool")
case("mode_copied_by_cp", "cp in out; stat -c %a out", setup="echo x > in", clean="rm out",
     matter="chmod 755 in")
# Both looks have the same name and the same answer; what they mean is another thing.
case("link_led_elsewhere_between_two_looks",
     "ln -s d1 l; [ -f \"$PWD/l/x\" ] && echo one; ln -sfn d2 l; [ -f \"$PWD/l/x\" ] && echo two; rm l",
     setup="mkdir d1 d2; touch d1/x d2/x", matter="rm d2/x")
case("denied_listing", "ls d 2> /dev/null || echo denied", setup="mkdir d; touch d/x; chmod 0 d",
     matter="chmod 755 d", users=("user",))
case("denied_way", "cat d/f 2> /dev/null || echo denied", setup="mkdir d; echo x > d/f; chmod 0 d",
     matter="chmod 700 d", users=("user",))
case("denied_chdir", "cd d 2> /dev/null && ls || echo denied", setup="mkdir d; touch d/x; chmod 0 d",
     matter="chmod 700 d", users=("user",))
case("denied_write", "echo x 2> /dev/null > ro || echo denied", setup="echo old > ro; chmod 444 ro",
     matter="chmod 644 ro", users=("user",))
case("denied_create", "mkdir ro/x 2> /dev/null || echo denied", setup="mkdir ro; chmod 555 ro",
     clean="rm -rf ro/x", matter="chmod 755 ro", users=("user",))
case("denied_removal", "rm -f ro/x 2> /dev/null || echo denied", setup="mkdir ro; touch ro/x; chmod 555 ro",
     clean="if [ -w ro ]; then touch ro/x; fi", matter="chmod 755 ro", users=("user",))
case("denied_read_asked_before", "[ -r in ] && echo r; [ -w in ] && echo w; true", setup="echo x > in; chmod 400 in",
     matter="chmod 200 in", users=("user",))

# --- owners and attributes ---

case("owner_is_asked", "stat -c %u:%g in", setup="echo x > in", matter="chown 12:34 in", users=("root",))
case("owner_after_an_own_append", "echo x >> f; stat -c %u f", setup="echo base > f", clean="echo base > f",
     matter="chown 12 f", again=False, users=("root",))
case("owner_kept_by_sed", "sed -i s/a/b/ f", setup="echo aaa > f", clean="echo aaa > f",
     matter="chown 12:34 f", again=False, users=("root",))
case("owner_kept_by_perl", "perl -pi -e s/a/b/ f", setup="echo aaa > f", clean="echo aaa > f",
     matter="chown 12:34 f", again=False, users=("root",))
case("attribute_is_asked", "python3 -c \"import os; print(os.getxattr('in', 'user.k'))\"", harmless=QUIET,
     setup="touch in; " + XATTR % 1, matter=XATTR % 2)
case("attributes_are_listed", "python3 -c \"import os; print(os.listxattr('in'))\"", harmless=QUIET,
     setup="touch in", matter=XATTR % 2)

# --- which names are one file ---

case("links_made_anew", "[ a -ef b ] && echo same || echo other", setup="echo x > a; ln a b; touch -d 2020-01-01 a",
     harmless="cp a c; rm a b; mv c a; ln a b; touch -d 2020-01-01 a",
     matter="cp a c; rm b; mv c b; ln a d; ln b e; touch -d 2020-01-01 a b")
case("links_of_a_hit_within", "sh -c '[ a -ef b ] && echo same'; cat in", setup="echo x > a; ln a b; echo one > in; "
     "touch -d 2020-01-01 a", harmless="cp a c; rm a b; mv c a; ln a b; touch -d 2020-01-01 a", matter="echo two > in")
