"""The environment of a process in the wide sense: variables, limits, randomness, files of the kernel."""
import os
import resource
import subprocess

from harness import QUIET, case, scenario

SESSION = ({"COLUMNS": "80"}, {"COLUMNS": "132"})


def _sees(t, cmd, first, second, what):
    """CMD shows a variable: each value gives its own output, whatever was recorded before."""
    for env in (first, first, second, first):
        t.step(cmd, env=env, what=f"{what}, {env}")


@scenario
def session_variable_named_by_a_script(t):
    _sees(t, "echo \"<$COLUMNS>\"", *SESSION, "in -c")
    t.write("s.sh", "echo \"<$COLUMNS>\"\n")
    _sees(t, ["sh", "s.sh"], *SESSION, "in a script")


@scenario
def session_variable_named_by_a_script_with_options(t):
    t.write("s.sh", "echo \"<$COLUMNS>\"\n")
    _sees(t, ["sh", "-e", "s.sh"], *SESSION, "in a script with options")


@scenario
def session_variable_named_by_a_sourced_script(t):
    t.write("lib.sh", "echo \"<$COLUMNS>\"\n")
    _sees(t, ". ./lib.sh", *SESSION, "in a sourced script")


@scenario
def session_variable_named_by_a_script_on_stdin(t):
    t.write("s.sh", "echo \"<$COLUMNS>\"\n")
    for env in (SESSION[0], SESSION[0], SESSION[1]):
        t.step(["sh"], env=env, stdin="<s.sh", what=f"on stdin, {env}")


@scenario
def session_variable_printed_by_a_child(t):
    _sees(t, "env | grep ^COL", *SESSION, "env in a shell")
    _sees(t, "env | grep ^OLD", {"OLDPWD": "/a"}, {"OLDPWD": "/b"}, "OLDPWD by env in a shell")


@scenario
def session_variable_seen_by_an_interpreter_in_a_shell(t):
    t.write("s.py", "import os\nprint(os.environ['COLUMNS'])\n")
    _sees(t, "python3 s.py", *SESSION, "python in a shell")
    _sees(t, "perl -e 'print \"$_\\n\" for sort grep /^COL/, keys %ENV; print $ENV{\"CO\" . \"LUMNS\"}'", *SESSION,
          "perl in a shell")


@scenario
def session_variable_named_by_a_makefile(t):
    t.write("Makefile", "all:\n\t@echo '<$(COLUMNS)>'\n")
    _sees(t, ["make"], *SESSION, "make")


@scenario
def session_variable_printed_in_a_recipe(t):
    t.write("Makefile", "all:\n\t@env | grep ^COL\n")
    _sees(t, ["make"], *SESSION, "env in make")


@scenario
def make_level_printed_in_a_script(t):
    t.write("show.sh", "echo $MAKELEVEL\n")
    _sees(t, "sh ./show.sh", {"MAKELEVEL": "1"}, {"MAKELEVEL": "2"}, "MAKELEVEL")


@scenario
def unset_and_empty_are_not_the_same(t):
    for env in ({"V": None}, {"V": ""}, {"V": None}, {"V": ""}):
        t.step("echo ${V-unset}; printenv V || echo none", env=env, what=f"V={env['V']!r}")


@scenario
def unused_variables_count_for_nobody_but_those_who_print_them(t):
    """A variable nobody filters is part of the key: sound, if brittle."""
    t.write("in", "x\n")
    t.step("env | grep ^ZZ; cat in", env={"ZZ": "1"}, hit=False)
    t.step("env | grep ^ZZ; cat in", env={"ZZ": "1"}, hit=True)
    t.step("env | grep ^ZZ; cat in", env={"ZZ": "2"}, hit=False)


@scenario
def order_of_the_environment(t):
    for argv in (["env", "-i", "B=1", "A=2", "env"], ["env", "-i", "A=2", "B=1", "env"],
                 ["env", "-i", "B=1", "A=2", "sh", "-c", "env | grep -v PWD"],
                 ["env", "-i", "A=2", "B=1", "sh", "-c", "env | grep -v PWD"]):
        for _ in range(2):
            t.step(argv)


# --- limits and processors ---

def _under_limits(t, argv, which, values):
    old = resource.getrlimit(which)
    try:
        for value in values:
            resource.setrlimit(which, (value, old[1]))
            t.step(argv, what=f"{argv} with a limit of {value}")
    finally:
        resource.setrlimit(which, old)


@scenario
def limit_of_open_files_is_asked(t):
    _under_limits(t, ["getconf", "OPEN_MAX"], resource.RLIMIT_NOFILE, (512, 512, 640))
    _under_limits(t, "ulimit -n", resource.RLIMIT_NOFILE, (512, 512, 640))
    _under_limits(t, "getconf OPEN_MAX", resource.RLIMIT_NOFILE, (512, 512, 640))


@scenario
def limit_of_the_stack_splits_arguments(t):
    t.write("words", "".join(f"word{i}\n" for i in range(60000)))
    _under_limits(t, ["xargs", "-a", "words", "-s", "2000000", "sh", "-c", "echo $#"], resource.RLIMIT_STACK,
                  (8 << 20, 8 << 20, 1 << 20))


@scenario
def number_of_processors(t):
    everyone = os.sched_getaffinity(0)
    try:
        for processors in (everyone, everyone, {min(everyone)}, {min(everyone)}):
            os.sched_setaffinity(0, processors)
            t.step(["nproc"], what=f"nproc on {len(processors)}")
            t.step("nproc; python3 -c 'import os; print(len(os.sched_getaffinity(0)))'",
                   what=f"in a shell on {len(processors)}")
    finally:
        os.sched_setaffinity(0, everyone)


case("processors_chosen_within", "taskset -c 0 nproc; cat in", setup="echo one > in", matter="echo two > in")

# --- randomness and clocks ---

case("random_by_openssl", "openssl rand 8 | wc -c", hit=False, code="random")
case("random_by_perl", ["perl", "-e", "print rand() < 2"], hit=False, code="random")
case("random_by_uuid", ["python3", "-c", "import uuid; print(len(str(uuid.uuid4())))"], hit=False, code="random")
case("random_by_os_urandom", ["python3", "-c", "import os; print(len(os.urandom(16)))"], hit=False, code="random")
case("random_by_secrets", "python3 -c 'import secrets; print(len(secrets.token_hex()))'", hit=False, code="random")
case("random_by_shuf", "shuf -n1 in | wc -l", setup="seq 99 > in", hit=False, code="never")
case("random_by_sort", "sort -R in | wc -l", setup="seq 99 > in", hit=False, code="random")
case("random_uuid_of_the_kernel", "wc -c < /proc/sys/kernel/random/uuid", hit=False)
case("random_of_bash", ["bash", "-c", "echo $((RANDOM < 99999)) $((SRANDOM > 0))"], hit=False)
case("random_name_of_autoconf", ["bash", "-c", "cat in || { test -n \"$RANDOM\" && mkdir ./conf$$-$RANDOM; }"], setup="echo one > in", matter="echo two > in")
case("time_of_day_by_program", ["date", "+%C"], hit=False, code="never")
case("sleeping_is_nothing_to_remember", "sleep 0; cat in", setup="echo one > in", matter="echo two > in")

# --- pseudo-files ---

case("own_maps", "grep -c heap /proc/self/maps; cat in", setup="echo one > in", matter="echo two > in")
case("processor_and_memory", "grep -c ^processor /proc/cpuinfo; grep ^MemTotal /proc/meminfo; cat in",
     setup="echo one > in", matter="echo two > in")
case("kernel_version", "cat /proc/version /proc/filesystems | wc -l; cat in", setup="echo one > in",
     matter="echo two > in")
case("uptime_is_not_recorded", "wc -w < /proc/uptime", hit=False, code="pseudo-file")
case("load_is_not_recorded", "wc -l /proc/loadavg", hit=False, code="pseudo-file")
case("mounts_are_not_recorded", "grep -c ' / ' /proc/mounts", hit=False, code="pseudo-file")
case("another_process_is_not_recorded", "cat /proc/1/comm | wc -l", hit=False, code="pseudo-file")
case("list_of_processes_is_not_recorded", "ls /proc | grep -c cpuinfo", hit=False, code="pseudo-file")
case("devices_without_content", "head -c 3 /dev/zero | wc -c; cat /dev/null; echo x 2> /dev/null > /dev/full || "
     "echo full; cat in", setup="echo one > in", matter="echo two > in")


@scenario
def whether_a_process_is_alive(t):
    """The directory of another process is no fact that could be asked again."""
    with subprocess.Popen(["sleep", "60"]) as other:
        for _ in range(2):
            t.step(f"[ -d /proc/{other.pid} ] && echo alive || echo dead", what="alive")
            t.step(["ls", "-d", f"/proc/{other.pid}/fd"], what="alive, by ls")
        other.kill()
        other.wait()
        t.step(f"[ -d /proc/{other.pid} ] && echo alive || echo dead", what="dead")
        t.step(["ls", "-d", f"/proc/{other.pid}/fd"], what="dead, by ls")


@scenario
def descriptors_that_are_listed(t):
    """`ls /proc/self/fd` sees what was handed on."""
    extra = os.open("/dev/null", os.O_RDONLY)
    for handed in ((), (), (extra,)):
        for argv, side in ((["ls", "/proc/self/fd"], t.bare),
                           ([t.pcache, "run", "--quiet", "--root", t.tree, "--", "ls", "/proc/self/fd"], t.tree)):
            done = subprocess.run(argv, cwd=side, env=t.environment(side), stdin=subprocess.DEVNULL,
                                  capture_output=True, pass_fds=handed, timeout=30, check=False)
            if side == t.bare:
                truth = len(done.stdout.split())
            else:
                t.equal(len(done.stdout.split()), truth, f"descriptors with {len(handed)} handed on")
    os.close(extra)


case("own_name_in_proc", "head -c 3 /proc/$$/comm | wc -c", hit=False, code="pseudo-file")
case("linked_name_of_the_program", "python3 -c \"import os; print(os.path.basename(os.readlink('/proc/self/exe'))[:6])\"",
     harmless=QUIET)
