"""What a command reads, lists, looks for: when it must run again, and when it must not."""
from harness import case, scenario
from harness.world import PATH

COPY = dict(setup="echo one > in", clean="rm out", matter="echo two > in")

case("content", "cat in > out", **COPY)
case("touched_input_hits", "cat in > out", **{**COPY, "harmless": "touch in"})
case("same_size_edit_with_the_time_put_back", "cat in > out", setup="echo one > in", clean="rm out",
     matter="t=$(stat -c %y in); echo two > in; touch -d \"$t\" in")
case("input_removed", "cat in > out 2> /dev/null || echo none > out", setup="echo one > in",
     clean="rm out", matter="rm in")
case("input_appears", "cat in > out 2> /dev/null || echo none > out", clean="rm out",
     matter="echo one > in")
case("input_mode", "[ -x in ] && echo yes; [ -r in ] && echo r", setup="echo one > in; chmod 644 in",
     matter="chmod 755 in")
case("input_becomes_a_directory", "ls -d in/ 2> /dev/null || echo file", setup="echo one > in",
     matter="rm in; mkdir in")
case("stat_prints_the_time", "stat -c '%n %s %Y' in", setup="echo one > in; touch -d 2020-01-01 in",
     matter="touch -d 2021-01-01 in")
case("newer_than", "[ a -nt b ] && cat a || cat b",
     setup="echo a > a; echo b > b; touch -d 2020-01-01 b; touch -d 2021-01-01 a",
     matter="touch -d 2022-01-01 b")
case("find_newer", "find d -newer ref -name '*.t' | sort > list",
     setup="mkdir d; touch -d 2020-01-01 ref d/a.t; touch -d 2021-01-01 d/b.t", clean="rm list",
     matter="touch -d 2022-01-01 d/a.t")
case("symlink_retargeted", "cat link > out", setup="echo a > a; echo b > b; ln -s a link",
     clean="rm out", matter="ln -sfn b link")
case("symlinked_directory_retargeted", "cat dir/f > out",
     setup="mkdir a b; echo 1 > a/f; echo 2 > b/f; ln -s a dir", clean="rm out",
     matter="ln -sfn b dir")
case("dangling_link_gets_its_target", "cat link 2> /dev/null || echo none",
     setup="ln -s target link", matter="echo now > target")
case("readlink", "readlink link; readlink -f link/x", setup="mkdir a b; ln -s a link",
     matter="ln -sfn b link")
case("wildcard", "echo *.c", setup="touch a.c b.c", matter="touch five.c", harmless="echo x >> a.c")
case("directory_nobody_lists", "cat d/in > out", setup="mkdir d; echo 1 > d/in", clean="rm out",
     harmless="touch d/notes.txt", matter="echo 2 > d/in")
case("listing_sees_removal", "ls d > list", setup="mkdir d; touch d/a d/b", clean="rm list",
     matter="rm d/b")
case("listing_with_own_outputs", "echo 1 > a.out; ls > list; echo 2 > b.out",
     setup="echo s > source", clean="rm a.out b.out list", harmless="echo t > source",
     matter="touch new")
case("find_names", "find . -name '*.txt' | sort > list", setup="mkdir -p d/e; touch d/a.txt d/e/b.txt",
     clean="rm list", harmless="", matter="touch d/e/c.txt")
case("grep_recursive", "grep -r needle d | sort", setup="mkdir d; echo needle > d/a; echo hay > d/b",
     matter="echo needle >> d/b", harmless="touch unrelated")
case("subdirectory_appears", "ls -d */", setup="mkdir a", matter="mkdir b", harmless="touch a/unrelated")
case("empty_file_input", "wc -c < in", setup="touch in", matter="echo x > in")
case("test_of_missing_files", "for f in a b c; do [ -e $f ] && echo $f; done; true", setup="touch b",
     matter="touch c")
case("include_shadowed", "gcc -Iearly -Ilate main.c -o main && ./main",
     setup="mkdir early late; echo '#define N 1' > late/n.h; printf '#include <stdio.h>\\n"
           "#include <n.h>\\nint main(void){printf(\"%d\\\\n\", N);return 0;}\\n' > main.c",
     clean="rm main", harmless="touch main.c late/n.h", matter="echo '#define N 2' > early/n.h")
case("missing_include_appears", "printf '#if __has_include(\"n.h\")\\nint y;\\n#else\\nint n;\\n"
     "#endif\\n' > m.c; gcc -c m.c && nm m.o | cut -c18-", clean="rm m.c m.o", matter="touch n.h")
case("program_of_path_shadowed", "tool > out", env={"PATH": "@/bin1:@/bin2:" + PATH},
     setup="mkdir bin1 bin2; printf '#!/bin/sh\\necho second\\n' > bin2/tool; chmod 755 bin2/tool",
     clean="rm out", harmless="touch bin2/unrelated",
     matter="printf '#!/bin/sh\\necho first\\n' > bin1/tool; chmod 755 bin1/tool")
case("program_itself_changes", "./tool", setup="cp /bin/echo tool", matter="cp /bin/pwd tool")
case("script_changes", "./tool x", setup="printf '#!/bin/sh\\necho a $1\\n' > tool; chmod 755 tool",
     matter="printf '#!/bin/sh\\necho b $1\\n' > tool")
case("interpreter_of_a_script_changes", "./tool",
     setup="cp /bin/sh shell; printf '#!@\\n' | sed \"s,@,$PWD/shell,\" > tool; echo 'echo $0' >> tool; "
           "chmod 755 tool", matter="printf more >> shell")
case("shared_library_changes", "./prog", env={"LD_LIBRARY_PATH": "@"},
     setup="echo 'int v(void){return 1;}' > v.c; gcc -shared -fPIC -o libv.so v.c; "
           "printf 'int printf(const char*,...);int v(void);int main(void){printf(\"%d\\\\n\",v());}' "
           "> m.c; gcc -w -o prog m.c -L. -lv",
     matter="echo 'int v(void){return 2;}' > v.c; gcc -shared -fPIC -o libv.so v.c",
     harmless="touch libv.so")
case("sourced_script", ". ./lib.sh; greet", setup="echo 'greet() { echo hi; }' > lib.sh",
     matter="echo 'greet() { echo ho; }' > lib.sh")
case("outside_the_tree", "cat $HOME/settings > out",
     setup="echo 1 > $HOME/settings", clean="rm out", matter="echo 2 > $HOME/settings")
case("python_imports", "python3 main.py > out", clean="rm out",
     setup="mkdir pkg; echo 'V = 1' > pkg/mod.py; touch pkg/__init__.py; "
           "printf 'from pkg import mod\\nprint(mod.V)\\n' > main.py; python3 main.py",
     matter="echo 'V = 22' > pkg/mod.py; rm -rf pkg/__pycache__")
case("python_shadowing_module", "python3 main.py", env={"PYTHONDONTWRITEBYTECODE": "1",
                                                        "PYTHONPATH": "@/one:@/two"},
     setup="mkdir one two; echo 'V=2' > two/m.py; printf 'import m\\nprint(m.V)\\n' > main.py",
     matter="echo 'V=1' > one/m.py", harmless="touch two/notes.txt")
case("perl_script", "perl -ne 'print uc' in > out", **COPY)
case("sockets_refused", "python3 -c \"import socket; s=socket.socket(); s.connect_ex(('127.0.0.1', 1))\"",
     hit=False)
case("random_is_not_recorded", "head -c 32 /dev/urandom | wc -c", hit=False)
case("date_is_not_recorded", "date > /dev/null", hit=False)


@scenario
def pycache_is_neither_fact_nor_effect(t):
    t.sh("mkdir pkg; echo 'V = 1' > pkg/mod.py; touch pkg/__init__.py; "
         "printf 'from pkg import mod\\nprint(mod.V)\\n' > main.py")
    t.ignore.add("pkg/__pycache__")
    t.step("python3 main.py", hit=False)
    t.step("python3 main.py", hit=True, what="with its __pycache__")
    t.sh("rm -rf pkg/__pycache__")
    t.step("python3 main.py", hit=True, what="without it")
    t.write("pkg/mod.py", "V = 333")
    t.step("python3 main.py", hit=False, what="module changed")


@scenario
def environment_that_is_used(t):
    for value, expect in (("1", False), ("1", True), ("2", False), ("1", True), (None, False)):
        t.step("echo \"<$SETTING>\"", env={"SETTING": value}, hit=expect, what=f"SETTING={value}")


@scenario
def environment_that_must_not_matter(t):
    """For a compiler: what the shell and the session put there."""
    t.write("a.c", "int a;\n")
    compile_ = ["gcc", "-c", "a.c"]
    t.step(compile_, hit=False)
    for env in ({"SHLVL": "7"}, {"OLDPWD": "/etc"}, {"_": "/usr/bin/env"}, {"PWD": "@"},
                {"MAKELEVEL": "3"}, {"COLUMNS": "99", "LINES": "11"},
                {"SSH_AUTH_SOCK": "/tmp/agent.1"}):
        t.sh("rm a.o")
        t.step(compile_, env=env, hit=True, what=str(env))

    make = {"MAKEFLAGS": "", "MFLAGS": ""}
    t.step(compile_, env=make, what="in make")
    for flags in ("-j8", "-j1", " -j2 --jobserver-auth=3,4"):
        t.sh("rm a.o")
        t.step(compile_, env={"MAKEFLAGS": flags, "MFLAGS": flags.strip()}, hit=True, what=flags)


@scenario
def working_directory(t):
    t.sh("mkdir a b; echo 1 > a/in; echo 2 > b/in")
    t.step("cat in; pwd", cwd="a", hit=False)
    t.step("cat in; pwd", cwd="a", hit=True)
    t.step("cat in; pwd", cwd="b", hit=False)
    t.step("cat in; pwd", cwd="a", hit=True, what="back in a")
    t.step("cd a; cat in; cd ../b; cat in", hit=False)
    t.step("cd a; cat in; cd ../b; cat in", hit=True)
    t.sh("echo 3 > b/in")
    t.step("cd a; cat in; cd ../b; cat in", hit=False, what="relative input changed")


@scenario
def umask_counts(t):
    t.step("echo x > out; mkdir d", umask=0o022, hit=False)
    t.sh("rm -r out d")
    t.step("echo x > out; mkdir d", umask=0o077, hit=False)
    t.sh("rm -r out d")
    t.step("echo x > out; mkdir d", umask=0o022, hit=True)
    t.sh("rm -r out d")
    t.step("echo x > out; mkdir d", umask=0o077, hit=True)


@scenario
def arguments_count(t):
    for words, expect in ((["a", "b"], False), (["a", "b"], True), (["a b"], False), (["a", ""], False),
                          (["a"], False), (["\xff\n'\""], False), (["a b"], True)):
        t.step(["printf", "<%s>", *words], hit=expect)


@scenario
def changed_back_hits(t):
    """As in switching branches: each state is remembered."""
    script = "cat in > out"
    for text, expect in (("one", False), ("two", None), ("one", None), ("two", True), ("one", True)):
        t.write("in", text)
        t.step(script, hit=expect, what=f"in is {text}")


@scenario
def an_input_that_changes_meanwhile_is_not_recorded(t):
    t.write("in", "1")
    t.write("slow.sh", "cat in; touch started; while [ ! -e go ]; do :; done; cat in")
    import os, threading, time  # pylint: disable=import-outside-toplevel,multiple-imports

    def interfere():
        while not os.path.exists(os.path.join(t.tree, "started")):
            time.sleep(0.01)
        with open(os.path.join(t.tree, "in"), "w", encoding="ascii") as f:
            f.write("2")
        with open(os.path.join(t.tree, "go"), "w", encoding="ascii"):
            pass

    thread = threading.Thread(target=interfere)
    thread.start()
    done, report = t.run(["sh", "slow.sh"])
    thread.join()
    t.equal(done.out, b"12", "what it read")
    t.check(not report.executions[0].get("recorded"), "it was recorded")
    t.sh("rm -f started; touch go")
    t.write("in", "1")
    t.step("sh slow.sh", hit=False, what="the first content again")


@scenario
def unreadable_input(t):
    t.write("in", "secret", mode=0o000)
    t.step("cat in 2>&1 || echo refused")
    t.step("cat in 2>&1 || echo refused", hit=True)
    t.sh("chmod 644 in")
    t.step("cat in 2>&1 || echo refused", hit=False, what="now readable")
