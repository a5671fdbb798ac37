"""strict_clock: what asks for the time is not recorded; the vDSO, which would tell it unseen, is hidden."""
from harness import Skip, scenario

# One call each; by name, so that what the C library makes of it counts.
CLOCK = r"""
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct timespec now;
static void *in_a_thread(void *p) { clock_gettime(CLOCK_REALTIME, &now); return p; }

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  struct timeval tv;
  struct tms tms;
  struct rusage usage;
  pthread_t thread;
  if (!strcmp(what, "time")) time(NULL);
  if (!strcmp(what, "gettimeofday")) gettimeofday(&tv, NULL);
  if (!strcmp(what, "realtime")) clock_gettime(CLOCK_REALTIME, &now);
  if (!strcmp(what, "coarse")) clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (!strcmp(what, "monotonic")) clock_gettime(CLOCK_MONOTONIC, &now);
  if (!strcmp(what, "clock")) clock();
  if (!strcmp(what, "times")) times(&tms);
  if (!strcmp(what, "getrusage")) getrusage(RUSAGE_SELF, &usage);
  if (!strcmp(what, "thread")) { pthread_create(&thread, NULL, in_a_thread, NULL); pthread_join(thread, NULL); }
  if (!strcmp(what, "fork")) { if (fork() == 0) { time(NULL); _exit(0); } wait(NULL); }
  puts(*what ? "asked" : "did not ask");
  return 0;
}
"""
WAYS = ("time", "gettimeofday", "realtime", "coarse", "monotonic", "clock", "times", "getrusage", "thread", "fork")
STRICT = {"PCACHE_STRICT_CLOCK": "yes"}


def _strict(t, on=True):
    t.write(".pcache.conf", "strict_clock = yes\n" if on else "# nothing\n")


def _compile(t, *options):
    t.write_all({"clock.c": CLOCK, "least.c": "int main(void) { return 0; }\n"})
    least = t.run_bare(["gcc", *options, "-o", "/dev/null", "least.c", "-lpthread"])
    if least.status:
        raise Skip(f"gcc {' '.join(options)} links nothing here: {least.err[-200:]!r}")
    done = t.run_bare(["gcc", *options, "-o", "clock", "clock.c", "-lpthread"])
    t.equal(done.status, 0, f"status of the compiler, {done.err[-200:]!r}")
    t.sh("gcc " + " ".join(options) + " -o clock clock.c -lpthread")


def _refused(t, cmd, what=None):
    report = t.step(cmd, hit=False, what=what or f"strict: {cmd}")
    t.check("clock-read" in report.codes(), f"{cmd}: no reason clock-read, but {report.codes()}")
    return report


def _ways(t):
    for way in WAYS:
        t.step(["./clock", way])
        t.step(["./clock", way], hit=True, what=f"{way}, as it is built in")
    _strict(t)
    t.step(["./clock"])
    t.step(["./clock"], hit=True, what="strict, without asking")
    for way in WAYS:
        for _ in range(2):
            _refused(t, ["./clock", way])


@scenario(timeout=120)
def strict_clock_refuses_what_asks_for_the_time(t):
    _compile(t)
    _ways(t)


@scenario(timeout=120)
def strict_clock_in_a_static_program(t):
    """It takes the vDSO from its auxiliary vector, as the dynamic linker does."""
    _compile(t, "-static")
    _ways(t)


@scenario
def strict_clock_with_many_arguments(t):
    """The auxiliary vector lies above all of argv and the environment."""
    _compile(t)
    _strict(t)
    for _ in range(2):
        _refused(t, ["./clock", "time", *["x" * 100] * 3000], what="three thousand arguments")
    done, report = t.run(["./clock", "time"], env={f"V{i}": "y" * 50 for i in range(2000)})
    t.equal(done.status, 0, "status")
    t.check("clock-read" in report.codes(), f"two thousand variables: {report.codes()}")


@scenario
def strict_clock_concerns_what_is_around(t):
    """Whoever started it has its output in hand; its other commands hit."""
    _compile(t)
    t.write("in", "x\n")
    _strict(t)
    t.step("cat in; ./clock time", hit=False)
    report = _refused(t, "cat in; ./clock time")
    t.equal(report.hits()["cat"], 1, "cat hits")
    t.check("clock-read" in {r["code"] for e in report.of("sh") for r in e["reasons"]}, "the shell too")
    for _ in range(2):
        _refused(t, "./clock; exec ./clock time")


@scenario
def strict_clock_has_records_of_its_own(t):
    """What was recorded when nobody looked at the clock does not hit where it counts, and the reverse."""
    t.write("in", "x\n")
    t.step(["cat", "in"])
    t.step(["cat", "in"], hit=True)
    _strict(t)
    report = t.step(["cat", "in"], hit=False, what="recorded without")
    t.check("key-changed" in report.codes(), f"no reason key-changed, but {report.codes()}")
    t.step(["cat", "in"], hit=True, what="recorded with it")
    _strict(t, on=False)
    t.step(["cat", "in"], hit=True, what="the first record")


@scenario
def strict_clock_with_seccomp_alone(t):
    _compile(t)
    for _ in range(2):
        done, report = t.run(["./clock", "time"], env={**STRICT, "PCACHE_PROBES": "seccomp"})
        t.equal((done.status, done.out), (0, b"asked\n"), "what it does")
        t.check("clock-read" in report.codes(), f"no reason clock-read, but {report.codes()}")
        t.check(not report.executions[0].get("recorded"), "it was recorded")


@scenario
def strict_clock_hides_the_vdso(t):
    """Nobody finds it in the auxiliary vector; all else in there stays."""
    t.write("aux.c", "#include <stdio.h>\n#include <sys/auxv.h>\nint main(void) { printf(\"%d %d %d\\n\", "
                     "getauxval(AT_SYSINFO_EHDR) != 0, getauxval(AT_PAGESZ) == 4096, "
                     "getauxval(AT_RANDOM) != 0); }\n")
    t.sh("gcc -o aux aux.c")
    t.equal(t.run(["./aux"])[0].out, b"1 1 1\n", "as it is built in")
    for _ in range(2):
        t.equal(t.run(["./aux"], env=STRICT)[0].out, b"0 1 1\n", "strict")
