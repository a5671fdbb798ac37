"""Settings: what the files, the environment and options change, and that records made by other lists never hit."""
import json
import os

from harness import scenario


def _project(t, text):
    """The project's own settings; of the copy without pcache they are an ordinary file."""
    t.write(".pcache.conf", text)


def _user(t, text):
    os.makedirs(t.path("cache"), exist_ok=True)
    with open(t.path("cache", "pcache.conf"), "w", encoding="ascii") as f:
        f.write(text)


@scenario
def never_is_configured(t):
    t.write("in", "x\n")
    t.step("cat in > out", hit=False)
    t.step("cat in > out", hit=True)
    _project(t, "never += cat\n")
    for _ in range(2):
        report = t.step("cat in > out", hit=False, what="cat must run, and so must what contains it")
        reasons = [r for e in report.executions for r in e["reasons"]]
        t.check(any(r["code"] == "never" and "cat is on the list" in r["detail"] for r in reasons), reasons)
    _project(t, "never += cat\nnever -= cat\n")
    t.step("cat in > out", hit=True, what="the same lists again: the first record")


@scenario
def never_is_taken_out(t):
    t.step("sleep 0.01; mktemp -u xXXXX > /dev/null; date +%Y > out", hit=False)
    _project(t, "never -= date\n")
    t.step("date +%Y > out", hit=False)
    t.step("date +%Y > out", hit=True, what="date hits when its owner says so")


@scenario
def never_by_the_name_of_a_script(t):
    t.write("stamp.sh", "#!/bin/sh\necho made\n", mode=0o755)
    for _ in range(2):
        t.step(["./stamp.sh"])
    t.step(["./stamp.sh"], hit=True)
    _project(t, "never = *.sh\n")
    t.step(["./stamp.sh"], hit=False)
    t.step(["./stamp.sh"], hit=False)


@scenario
def mtime_ignored_is_configured(t):
    """A stat whose mtime is of no matter hits after a touch; taken back, the old record does not."""
    t.write("in", "x\n")
    cmd = "[ in -nt ref ] && echo newer; true"
    t.write("ref", "r\n")
    t.sh("touch -d 2020-01-01 ref; touch -d 2021-01-01 in")
    _project(t, "mtime_ignored += dash sh bash\n")
    t.step(cmd, hit=False)
    t.sh("touch -d 2022-01-01 in")
    t.step(cmd, hit=True, what="touched, and it is of no matter")
    _project(t, "# nothing\n")
    t.step(cmd, hit=False, what="made by other lists")
    t.step(cmd, hit=True)
    t.sh("touch -d 2019-01-01 in")
    t.step(cmd, hit=False, what="older than ref now")


@scenario
def session_variables_are_configured(t):
    t.write("in", "x\n")
    for value, hit in (("1", False), ("2", False), ("1", True)):
        t.step(["cat", "in"], env={"BUILD_TAG": value}, hit=hit, what=f"part of the key, {value}")
    _project(t, "session_variables += BUILD_TAG CI_*\n")
    t.step(["cat", "in"], env={"BUILD_TAG": "3", "CI_JOB": "1"}, hit=False, what="other lists")
    t.step(["cat", "in"], env={"BUILD_TAG": "4", "CI_JOB": "2"}, hit=True, what="left out now")
    for value in ("1", "1", "2"):
        t.step("echo $BUILD_TAG $CI_JOB; env | grep ^CI", env={"BUILD_TAG": value, "CI_JOB": value},
               what=f"who looks at it depends on it, {value}")


@scenario
def a_variable_becomes_a_session_variable(t):
    """Unset when it was recorded, set when it is left out of keys: the old record must not hit."""
    t.write("lib.sh", "echo \"<$LATER>\"\n")
    t.step(". ./lib.sh", hit=False)
    t.step(". ./lib.sh", hit=True)
    _project(t, "session_variables += LATER\n")
    t.step(". ./lib.sh", env={"LATER": "now"})
    t.step(". ./lib.sh", env={"LATER": "then"})


@scenario
def overwrites_blindly_is_configured(t):
    t.write("in", "x\n")
    script = "#!/bin/sh\n[ -e out ] && rm -f out; cat in > out\n"
    t.write("gen", script, mode=0o755)
    for _ in range(2):
        t.step(["./gen"])
    _project(t, "overwrites_blindly += dash sh\n")
    t.step(["./gen"], hit=False, what="made by other lists")
    t.step(["./gen"])


@scenario
def records_mtimes_is_configured(t):
    t.write("in", "x\n")
    for hit in (False, True):
        t.step(["cp", "in", "out"], hit=hit)
        t.sh("rm out")
    _project(t, "records_mtimes += cp\n")
    t.step(["cp", "in", "out"], hit=False, what="not skipped as a whole")
    t.sh("rm out")
    _project(t, "")
    t.step(["cp", "in", "out"], hit=True, what="its records are as good as before")


@scenario
def private_dirs_are_nobodys_business(t):
    """What the owner keeps there is no input and no output of it; of its children it is."""
    t.write("in", "x\n")
    t.write("tool", "#!/bin/sh\nmkdir -p priv; echo $$ >> priv/log; cat in > out; cat priv/extra 2> /dev/null\n"
                    "true\n", mode=0o755)
    t.ignore |= {"priv", "priv/log", "priv/extra", "."}
    _project(t, f"private_dirs = dash:{t.tree}/priv sh:{t.tree}/priv\n")
    t.ignore.add(".pcache.conf")
    t.step(["./tool"], hit=False, streams=False)
    for side in t.sides():
        t.check(os.path.exists(side + "/priv/log"), "the log was not written")
    t.sh("rm out; echo other > priv/log")
    report = t.step(["./tool"], hit=True, streams=False, what="its log changed, which is its own affair")
    t.check(report.whole_hit(), "hit")
    t.write("in", "y\n")
    t.step(["./tool"], hit=False, streams=False, what="its input changed")


@scenario
def without_private_dirs_it_is(t):
    t.write("in", "x\n")
    t.write("tool", "#!/bin/sh\ncat in > out; cat extra 2> /dev/null\ntrue\n", mode=0o755)
    t.step(["./tool"], hit=False)
    t.write("extra", "e\n")
    t.step(["./tool"], hit=False, what="its cache is an input like others")


@scenario
def cache_failures(t):
    t.write("in", "x\n")
    cmd = "cat in; echo said >&2; exit 3"
    for _ in range(2):
        t.step(cmd, hit=False, what="failures run")
    _project(t, "cache_failures = yes\n")
    t.step(cmd, hit=False, what="recorded")
    t.step(cmd, hit=True, what="a failure that hits")
    t.write("in", "y\n")
    t.step(cmd, hit=False, what="its input changed")
    _project(t, "cache_failures = no\n")
    report = t.step(cmd, hit=False, what="switched off again")
    t.check(any(r["code"] == "failed" for e in report.executions for r in e["reasons"]), "the reason")


@scenario
def two_projects_with_settings_of_their_own(t):
    """One daemon, two projects: each goes by its own lists, and neither takes the other's records."""
    other = t.path("other")
    os.makedirs(other + "/.git")
    for side in (*t.sides(), other):
        with open(side + "/in", "w", encoding="ascii") as f:
            f.write("x\n")
    with open(other + "/.pcache.conf", "w", encoding="ascii") as f:
        f.write("never += cat\n")
    t.mount()
    t.step("cat in", hit=False)
    t.step("cat in", hit=True)
    for _ in range(2):
        done = t.cli("run", "--root", other, "--", "sh", "-c", "cat in", cwd=other)
        t.check(b" 0 hits" in done.err or done.err.startswith(b"pcache: 0 hits"), done.err)
    t.step("cat in", hit=True)
    t.umount()


@scenario
def wrong_settings_never_stop_a_build(t):
    t.write("in", "x\n")
    _project(t, "nevr = cat\nmax_size = 1\nquiet = perhaps\nnot a line\n")
    _user(t, "cache_failures = maybe\nidle_s = 2\n")
    done = t.cli("run", "--quiet", "--root", t.tree, "--", "sh", "-c", "cat in; exit 4", cwd=t.tree)
    t.equal((done.status, done.out), (4, b"x\n"), "the command")
    lines = done.err.decode().splitlines()
    t.equal(len(lines), 5, f"warnings: {lines}")
    for line, text in zip(sorted(lines), sorted((
            f"pcache: warning: {t.path('cache')}/pcache.conf:1: cache_failures: \"maybe\" is neither yes nor no: "
            "the line is left out",
            f"pcache: warning: {t.tree}/.pcache.conf:1: unknown setting nevr (did you mean never?): the line is "
            "left out",
            f"pcache: warning: {t.tree}/.pcache.conf:2: max_size is the daemon's, not a project's: set it in "
            "pcache.conf in PCACHE_DIR",
            f"pcache: warning: {t.tree}/.pcache.conf:3: quiet: \"perhaps\" is neither yes nor no: the line is left "
            "out",
            f"pcache: warning: {t.tree}/.pcache.conf:4: not of the form NAME = VALUE: the line is left out"))):
        t.equal(line, text, "a warning")
    done = t.cli("config", cwd=t.tree)
    t.equal(done.status, 1, "config with wrong lines: status")


@scenario
def config_tells_where_values_come_from(t):
    os.makedirs(t.tree + "/.git")
    os.makedirs(t.bare + "/.git")
    _user(t, "max_size = 3G\nquiet = no\n")
    _project(t, "never += mine\n\nquiet = yes\n")
    done = t.cli("config", "--json", cwd=t.tree, env={"PCACHE_MIN_FREE": "1.5"})
    t.equal(done.status, 0, f"status ({done.err!r})")
    told = json.loads(done.out)
    values = {s["name"]: s for s in told["settings"]}
    t.equal(told["project"], t.tree, "project")
    t.equal((values["max_size"]["value"], values["max_size"]["origin"]),
            (3 << 30, t.path("cache") + "/pcache.conf:1"), "max_size")
    t.equal((values["quiet"]["value"], values["quiet"]["origin"]), (True, t.tree + "/.pcache.conf:3"), "quiet")
    t.equal((values["min_free"]["value"], values["min_free"]["origin"]), (1.5, "PCACHE_MIN_FREE"), "min_free")
    t.equal(values["never"]["origin"], f"built-in, {t.tree}/.pcache.conf:1", "never")
    t.check({"mine", "date"} <= set(values["never"]["value"]), "never: its value")
    text = t.cli("config", cwd=t.tree).out.decode()
    for word in ("max_size", "3G", "pcache.conf:1", "+mine", "built-in"):
        t.check(word in text, f"{word} is not in {text}")
    t.equal(t.cli("config", "quiet", cwd=t.tree).out, b"yes\n", "one value")
    t.equal(t.cli("config", "nonsense", cwd=t.tree).status, 1, "an unknown name")
    t.check(t.daemon() is None, "config started a daemon")


@scenario
def quiet_and_read_only_are_settings(t):
    t.write("in", "x\n")
    _project(t, "quiet = yes\nread_only = yes\n")
    done, _ = t.run(["cat", "in"], quiet=False)
    t.equal(done.err, b"", "quiet")
    t.step(["cat", "in"], hit=False, what="nothing was recorded")
    _project(t, "")
    t.step(["cat", "in"], hit=False)
    t.step(["cat", "in"], hit=True)
    done = t.cli("run", "--root", t.tree, "--", "cat", "in", cwd=t.tree, env={"PCACHE_QUIET": "yes"})
    t.equal(done.err, b"", "PCACHE_QUIET")


@scenario
def a_daemon_keeps_what_it_was_started_with(t):
    t.mount()
    t.equal(json.loads(t.cli("status", "--json").out)["settings"]["max_size"], 20 << 30, "built in")
    _user(t, "max_size = 1G\n")
    text = t.cli("config").out.decode()
    t.check("running daemon was started with another max_size" in text, text)
    t.umount()
    t.stop()
    t.mount()
    t.equal(json.loads(t.cli("status", "--json").out)["settings"]["max_size"], 1 << 30, "from the file")
    t.umount()
