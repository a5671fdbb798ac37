"""gc, verify, doctor, --check and the log: the commands that look after a store and a machine."""
import glob
import json
import os
import signal

from harness import process, scenario


def _records(t, names):
    for name in names:
        t.write("in-" + name, name * 200000)
        t.step(f"cat in-{name} > out-{name}", hit=False)
    return t.path("cache", "store", "blobs", "*", "*")


@scenario
def gc_forgets_what_it_says(t):
    blobs = _records(t, "abc")
    t.equal(len(glob.glob(blobs)), 3, "contents")
    dry = json.loads(t.cli("gc", "--max-size", "0", "--dry-run", "--json").out)
    t.equal(dry["dry_run"], True, "dry run")
    t.check(dry["records"] >= 3 and dry["blobs"] == 3 and dry["bytes"] == 600000, dry)
    t.equal(len(glob.glob(blobs)), 3, "a dry run removed something")
    t.equal(json.loads(t.cli("gc", "--older-than", "1d", "--json").out)["records"], 0, "nothing is a day old")
    t.step("cat in-a > out-a", hit=True)
    done = t.cli("gc", "--older-than", "0s")
    t.check(done.out.startswith(b"Forgot ") and b"3 files" in done.out, done.out)
    t.equal(glob.glob(blobs), [], "contents are left")
    t.step("cat in-a > out-a", hit=False, what="forgotten")
    for argv, status in ((["--max-size", "much"], 2), (["--older-than", "long"], 2), (["--nonsense"], 2)):
        t.equal(t.cli("gc", *argv).status, status, f"gc {argv}")


@scenario
def verify_finds_and_removes_damage(t):
    blobs = _records(t, "abc")
    told = json.loads(t.cli("verify", "--json").out)
    t.equal((told["blobs"], told["bytes"], told["damaged"]), (3, 600000, []), "whole")
    t.check(told["records"] >= 3, told)
    victim = sorted(glob.glob(blobs))[0]
    stamp = os.stat(victim)
    os.chmod(victim, 0o600)
    with open(victim, "r+b") as f:
        letter = f.read(1).decode()
        f.seek(1000)
        f.write(b"!")
    os.chmod(victim, 0o400)
    os.utime(victim, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    done = t.cli("verify")
    t.equal(done.status, 1, "status with damage")
    t.check(b"damaged" in done.out and os.path.basename(victim).encode() in done.out, done.out)
    t.check(not os.path.exists(victim), "the damaged contents are there")
    t.equal(t.cli("verify").status, 0, "the second time nothing is damaged")
    for name in "abc":
        t.step(f"cat in-{name} > out-{name}", hit=name != letter)
    os.unlink(sorted(glob.glob(blobs))[1])
    done = t.cli("verify", "--json")
    t.equal(done.status, 1, "a record without its contents")
    t.check(any(d["what"] == "record" for d in json.loads(done.out)["damaged"]), done.out)
    t.equal(t.cli("verify", "--sample", "50%").status, 0, "a sample")
    t.equal(json.loads(t.cli("verify", "--sample", "0.3", "--json").out)["blobs"], 1, "a third of two, rounded up")
    for sample in ("0", "200%", "x"):
        t.equal(t.cli("verify", "--sample", sample).status, 2, f"--sample {sample}")


@scenario
def doctor_on_this_machine(t):
    done = t.cli("doctor", "--json")
    told = json.loads(done.out)
    found = {f["name"]: f for f in told["findings"]}
    t.equal(done.status == 0, told["healthy"], f"status {done.status}: {told}")
    for name in ("fuse", "ptrace", "seccomp", "ebpf", "space", "daemon", "store", "passthrough", "fusermount3"):
        t.check(name in found, f"no finding about {name}")
    t.equal(found["fuse"]["level"], "ok", "fuse")
    for finding in told["findings"]:
        t.check(finding["level"] != "problem" or finding["remedy"], f"no remedy: {finding}")
    text = t.cli("doctor").out.decode()
    t.check("seccomp" in text and "ok" in text, text)


def _is_dead(mount):
    try:
        os.statvfs(mount)
    except OSError:
        return True
    return False


@scenario
def doctor_finds_a_dead_mount(t):
    t.mount()
    t.kill_daemon(signal.SIGKILL)
    t.check(process.wait_until(lambda: t.daemon() is None), "the daemon lives")
    t.check(process.wait_until(lambda: _is_dead(t.tree)), "the mount lives")
    done = t.cli("doctor", "--json")
    t.equal(done.status, 1, "status")
    dead = [f for f in json.loads(done.out)["findings"] if f["name"] == "dead-mount"]
    t.equal([f["remedy"] for f in dead if t.tree in f["text"]], ["pcache umount " + t.tree], "remedy")
    t.equal(t.cli("umount", t.tree).status, 0, "the remedy")
    t.check(not [f for f in json.loads(t.cli("doctor", "--json").out)["findings"] if f["name"] == "dead-mount"],
            "still dead")


@scenario
def doctor_with_an_unusable_store(t):
    os.makedirs(t.path("cache"))
    with open(t.path("cache", "store"), "w", encoding="ascii") as f:
        f.write("no directory\n")
    done = t.cli("doctor", "--json")
    t.equal(done.status, 1, "status")
    store = [f for f in json.loads(done.out)["findings"] if f["name"] == "store"][0]
    t.equal(store["level"], "problem", store)
    t.check(store["remedy"], store)
    os.unlink(t.path("cache", "store"))


# --- --check ---

def _check(t, cmd, options=(), **how):
    done, report = t.run(["sh", "-c", cmd], options=["--check", *options], quiet=False, **how)
    return done, report


@scenario
def check_agrees(t):
    t.write("in", "x\n")
    cmd = "cat in > out; chmod 640 out; mkdir d; ln -s out d/link; ln out hard; rm in2; echo said; echo err >&2"
    t.write("in2", "y\n")
    t.step(cmd, hit=False)
    t.sh("rm -r out d hard")
    t.write("in2", "y\n")
    done, report = _check(t, cmd)
    t.run_bare(["sh", "-c", cmd])
    t.equal((done.status, done.out), (0, b"said\n"), "the command")
    t.check(b"pcache: check: " in done.err and b"all as recorded" in done.err, done.err)
    shell = report.executions[0]
    t.equal((shell["outcome"], shell["checked"], shell["differences"]), ("miss", True, []), "the shell")
    t.check("check" in [reason["code"] for reason in shell["reasons"]], shell)
    t.check(report.json["checked"] >= 2 and report.json["different"] == 0, report.json)
    t.same_files("after --check")


def _differences(t, cmd):
    """CMD is recorded with PCACHE_HIDDEN=a and checked with b: a variable that no key holds, so that it hits."""
    t.run(["sh", "-c", cmd], env={"PCACHE_HIDDEN": "a"})
    t.sh("rm -rf out d")
    t.run_bare(["sh", "-c", cmd], env={"PCACHE_HIDDEN": "b"})
    done, report = _check(t, cmd, env={"PCACHE_HIDDEN": "b"})
    t.same_files(f"after {cmd}")
    t.sh("rm -rf out d")
    return done, report.executions[0]


@scenario
def check_tells_each_kind_of_difference(t):
    t.write("in", "x\n")
    hidden = "if [ $PCACHE_HIDDEN = a ]; then %s; else %s; fi; cat in"
    for then, now, code, path, detail in (
            ("echo 1 > out", "echo 2 > out", "output", "out", "contents differ"),
            ("echo 1 > out", "echo 22 > out", "output", "out", "3 bytes long, recorded 2"),
            ("echo 1 > out; chmod 600 out", "echo 1 > out; chmod 640 out", "output", "out", "0640, recorded 0600"),
            ("echo 1 > out", ":", "output", "out", "not there"),
            (":", "echo 1 > out", "output", "out", "the record leaves it alone"),
            ("ln -s a out", "ln -s b out", "output", "out", "leads to b, recorded a"),
            ("mkdir d", "echo 1 > d", "output", "d", "no directory"),
            ("echo 1", "echo 2", "stream", "stdout", "from line 1 on"),
            ("echo 1 >&2", "echo 22 >&2", "stream", "stderr", "3 bytes, recorded 2"),
            (":", "exit 3", "status", "", "exit status 3, recorded 0")):
        done, shell = _differences(t, hidden % (then, now))
        found = [(d["code"], d["path"]) for d in shell.get("differences", []) if detail in d["detail"]]
        t.check((code, path) in found, f"{then} / {now}: {shell}")
        t.equal(done.status, 3 if code == "status" else 0, "the command's own status")
        text = done.err.decode()
        t.check("did not give what is recorded" in text and detail in text, text)


@scenario
def check_block_is_there_with_quiet(t):
    cmd = "echo $PCACHE_HIDDEN"
    t.run(["sh", "-c", cmd], env={"PCACHE_HIDDEN": "a"})
    argv = ["run", "--quiet", "--check", "--root", t.tree, "--", "sh", "-c", cmd]
    same = t.cli(*argv, cwd=t.tree, env={"PCACHE_HIDDEN": "a"})
    t.equal(same.err, b"", "nothing differs, and it is quiet")
    done = t.cli(*argv, cwd=t.tree, env={"PCACHE_HIDDEN": "b"})
    t.check(done.err.startswith(b"pcache: check: 1 of 1 command did not give what is recorded:\n"), done.err)
    t.equal(done.out, b"b\n", "the command's own output")


@scenario
def check_excludes_recache(t):
    t.equal(t.cli("run", "--check", "--recache", "--", "true").status, 125, "both")


@scenario
def check_of_an_empty_store(t):
    t.write("in", "x\n")
    done, report = _check(t, "cat in")
    t.check(b"check: 0 commands, all as recorded" in done.err, done.err)
    t.check("checked" not in report.json, report.json)


# --- the log ---

@scenario
def log_level_and_file(t):
    t.write("in", "x\n")
    log = t.path("my.log")
    t.mount()
    done = t.cli("--log-level", "debug", "run", "--log-file", log, "--root", t.tree, "--", "sh", "-c", "cat in; exit 3",
                 cwd=t.tree)
    t.equal((done.status, done.out), (3, b"x\n"), f"the command ({done.err!r})")
    t.check(process.wait_until(lambda: os.path.exists(log) and b"execution 1" in open(log, "rb").read()), "no log")
    with open(log, encoding="utf-8") as f:
        text = f.read()
    for word in ("debug: request run of pid", "execution 1 (pid ", "in 0): uncacheable, status 3", "failed", "cat in"):
        t.check(word in text, f"{word!r} is not in {text}")
    t.equal(t.cli("status", "--log-level", "error").status, 0, "an option of any command")
    size = os.path.getsize(log)
    t.cli("status")
    t.cli("run", "--quiet", "--root", t.tree, "--", "true", cwd=t.tree)
    t.equal(os.path.getsize(log), size, "told although only errors are")
    for argv in (["status", "--log-level", "loud"], ["status", "--log-file", "/no/dir/log"]):
        t.check(t.cli(*argv).status in (1, 2), f"{argv}")
    t.equal(t.cli("run", "--log-file", "/no/dir/log", "--", "true").status, 125, "run with a wrong log")
    t.umount()


@scenario
def log_settings_of_a_new_daemon(t):
    os.makedirs(t.path("cache"))
    log = t.path("daemon-own.log")
    with open(t.path("cache", "pcache.conf"), "w", encoding="ascii") as f:
        f.write(f"log_file = {log}\nlog_level = debug\n")
    t.mount()
    t.check(os.path.exists(log) and "request mount" in open(log, encoding="utf-8").read(), "log_file")
    t.check(not os.path.exists(t.path("cache", "daemon.log")), "the usual log is there as well")
    t.umount()
