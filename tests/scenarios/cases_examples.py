"""What docs/examples.md shows."""
import json
import os
import re
import shutil
import subprocess

from harness import scenario
from harness.registry import Skip

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "docs", "examples.md")
SOURCES = {"main.c": '#include "f.h"\nint main(void) { return f(); }\n', "f.c": '#include "f.h"\nint f(void) { return 0; }\n',
           "f.h": "int f(void);\n"}
MAKEFILE = "prog: main.o f.o\n\tcc -o prog main.o f.o\nmain.o: main.c f.h\nf.o: f.c f.h\n"


def _checkout(t):
    """A new one, in the same place, with its files made now."""
    for side in t.sides():
        shutil.rmtree(side)
        os.mkdir(side)
    t.write_all({**SOURCES, "Makefile": MAKEFILE})


def _blocks(language):
    with open(PAGE, encoding="utf-8") as f:
        return re.findall(rf"```{language}\n(.*?)```", f.read(), re.S)


@scenario(users=("root",))
def examples_can_be_read(t):
    """What the page shows is JSON, YAML, shell and make, and names commands and options that there are."""
    devcontainer = [json.loads(block) for block in _blocks("json")]
    t.equal([d["containerEnv"]["PCACHE_DIR"] for d in devcontainer], ["/var/cache/pcache"], "the devcontainer's store")
    t.check({"--device=/dev/fuse", "--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE"} <= set(devcontainer[0]["runArgs"]),
            f"its rights: {devcontainer[0]['runArgs']}")
    shell = _blocks("sh") + [d["postCreateCommand"] for d in devcontainer]
    try:
        import yaml  # pylint: disable=import-outside-toplevel
    except ImportError:
        t.note("there is no python3-yaml here: the workflow is looked at as text")
        shell += re.findall(r"- run: ([^#\n]*)", "".join(_blocks("yaml")))
    else:
        for workflow in map(yaml.safe_load, _blocks("yaml")):
            steps = workflow["jobs"]["build"]["steps"]
            t.check(any("cache" in step.get("uses", "") for step in steps), f"steps: {steps}")
            shell += [step["run"] for step in steps if "run" in step]
    for script in shell:
        t.equal(subprocess.run(["sh", "-n", "-c", script], check=False).returncode, 0, f"syntax of {script!r}")
    commands = re.findall(r"pcache ([a-z]+)((?: --[a-z-]+)*)", "\n".join(shell))
    t.check({"run", "gc", "umount", "stats", "doctor"} <= {c for c, _ in commands}, f"commands: {commands}")
    for command, options in commands:
        told = t.cli(command, "--help")
        t.equal(told.status, 0, f"pcache {command}")
        for option in options.split():
            t.check(option == "--" or option.encode() in told.out, f"pcache {command} has no {option}")
    makefile = t.path("Makefile")
    with open(makefile, "w", encoding="utf-8") as f:
        f.write(_blocks("make")[0])
    done = subprocess.run(["make", "-n", "-f", makefile, "PCACHE=pcache run --", "MAKE=true"], capture_output=True, check=False)
    t.check(b"pcache run -- true prog" in done.stdout, f"the Makefile: {done}")


@scenario(timeout=180)
def example_ci_job(t):
    """The store is packed, goes away, and comes back for another checkout."""
    store, packed = t.path("cache"), t.path("pcache.tar")
    for run, hit in (("the first", False), ("the second", True), ("the third", True)):
        _checkout(t)
        if os.path.exists(packed):
            subprocess.run(["tar", "xf", packed], cwd=t.dir, check=True)
        report = t.step(["make", "CFLAGS=-O2"], what=f"{run} job")
        compiled = [e for e in report.of("cc1") if e["outcome"] != "hit"]
        t.equal(not compiled, hit, f"{run} job: nothing is compiled ({report.reasons()})")
        t.equal(t.cli("gc", "--max-size", "2G").status, 0, "gc")
        t.stop()
        subprocess.run(["tar", "cf", packed, "cache"], cwd=t.dir, check=True)
        shutil.rmtree(store)


@scenario(timeout=120)
def example_makefile(t):
    t.write_all({**SOURCES, "Makefile": "PCACHE := $(if $(shell command -v pcache),pcache run --)\n\nall:\n"
                 "\t$(PCACHE) $(MAKE) prog\n\n" + MAKEFILE, ".git/HEAD": "ref: x\n"})
    with_pcache = {"PATH": t.programs + ":" + t.env["PATH"]}
    t.run_bare(["make"])
    for times, said in (("first", b"0 hits"), ("again", b"1 hit, 0 misses")):
        done = t.run_bare(["make", "-j2"], t.tree, env=with_pcache, timeout=60)
        t.equal(done.status, 0, f"{times}: status ({done.err!r})")
        t.check(b"pcache: " + said in done.err, f"{times}: {done.err!r}")
        t.same_files(times)
        subprocess.run(["rm", "-f", "prog", "main.o", "f.o"], cwd=t.tree, check=True)
    done = t.run(["make"], env=with_pcache)[0]
    t.equal((done.status, b"pcache: " in done.err), (0, False), "inside of a run")
    t.same_files("inside of a run")


@scenario(timeout=240)
def example_cmake(t):
    if not shutil.which("cmake", path=t.env["PATH"]):
        raise Skip("there is no cmake")
    t.write_all({**SOURCES, "CMakeLists.txt": "cmake_minimum_required(VERSION 3.13)\nproject(prog C)\n"
                                              "add_executable(prog main.c f.c)\n"})
    for generator in ("Unix Makefiles", "Ninja"):
        if generator == "Ninja" and not shutil.which("ninja", path=t.env["PATH"]):
            continue
        for times in ("first", "again"):
            t.run_bare(["rm", "-rf", "build"], t.tree)
            done = t.run(["cmake", "-G", generator, "-S", ".", "-B", "build"], timeout=120)[0]
            t.equal(done.status, 0, f"{generator}, {times}: configure: {done.err!r}")
            done, report = t.run(["cmake", "--build", "build"], timeout=120)
            t.equal(done.status, 0, f"{generator}, {times}: {done.err!r}")
            t.check(os.path.exists(os.path.join(t.tree, "build", "prog")), f"{generator}, {times}: no program")
            compiled = [e for e in report.of("cc1") if e["outcome"] != "hit"]
            t.equal(len(compiled), 2 if times == "first" else 0, f"{generator}, {times}: files that were compiled")
    t.run_bare(["rm", "-rf", "build"], t.tree)
