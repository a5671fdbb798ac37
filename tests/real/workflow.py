"""A workflow: a runner and its many jobs, and what both go through.

The protocol: cold; all warm; 5, 50 and 90 percent of the jobs' records evicted; an input changed; an output
deleted; an output edited by hand; a parameter changed in a tenth of the jobs; the runner interrupted half-way
and started again. After each step all files, the streams and the exit status are those of the bare run, byte
for byte, or but for the lines that hold a date where the tool writes one. The report must show that the jobs
ran that had to, and no other.

A job is told by its program and the number in its arguments ("clustalw:j0001"), and what it depends on by
the files that it reads: they are other jobs' outputs, or inputs.
"""
import dataclasses
import fnmatch
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from typing import Callable

from harness import Skip
from harness.report import Report

LONG = 7200  # seconds for one run of a workflow in full size
SHARES = (5, 50, 90)
NUMBER = re.compile(r"\bj\d{4}\b")


@dataclasses.dataclass
class Job:
    argv: list
    inputs: list
    outputs: list
    log: str = ""        # where its runner sends its streams
    dated: bool = False  # an output tells when it was made, so who reads it runs again
    timed: bool = False  # its tool keeps the times of its inputs, so it runs again when they came back
    stage: int = 0       # jobs of one stage may run at once

    @property
    def name(self):
        return name_of(self.argv)


def name_of(argv):
    """Its program and number. None where it is no job of its own: it names several."""
    numbers = set(NUMBER.findall(" ".join(argv)))
    return f"{os.path.basename(argv[0])}:{''.join(numbers)}" if len(numbers) <= 1 else None


@dataclasses.dataclass
class Workflow:
    command: list   # of the runner
    jobs: list
    files: dict     # inputs and programs
    script: Callable  # jobs -> {path: text}: where the runner finds them
    made: list      # directories of outputs; they are there before, and empty
    parameter: Callable  # job -> its argv with another parameter, or None where it has none
    edit: Callable = "printf 'one more line\\n' >> {}".format  # of an input
    dated: dict = dataclasses.field(default_factory=dict)  # pattern of outputs -> lines that may differ
    looks_at_outputs: bool = False  # the runner leaves alone what is newer than its inputs
    streams: bool = True  # what the runner says counts
    whole: bool = True  # the runner can hit; else only its jobs can
    lists: bool = False  # a job looks at outputs, or takes them away, so it sees what an interrupted run has left
    two_states: bool = False  # a job asks for its outputs first: with them it is another command than without
    ignored: tuple = ()  # what the runner notes for itself

    def named(self):
        return {job.name: job for job in self.jobs}

    def after(self, names):
        """Who must run again because these did: the readers of what tells its time; and who only may,
        because what these made may be as it was."""
        must, may = set(names), set()
        for job in self.jobs:  # in the order of stages
            for other in self.jobs:
                if other.stage >= job.stage or not set(other.outputs) & set(job.inputs):
                    continue
                if other.name in must and other.dated:
                    must.add(job.name)
                elif other.name in must | may:
                    may.add(job.name)
        return must, may - must

    def dated_outputs(self):
        for job in self.jobs:
            for path in [*job.outputs, *([job.log] if job.log else [])]:
                for pattern, lines in self.dated.items():
                    if fnmatch.fnmatch(path, pattern):
                        yield path, lines

    def clean(self, side):
        for name in self.made:
            shutil.rmtree(os.path.join(side, name), ignore_errors=True)
            os.mkdir(os.path.join(side, name))
        for job in self.jobs:
            for path in job.outputs:
                if os.path.lexists(os.path.join(side, path)):
                    os.unlink(os.path.join(side, path))


def need(*programs, modules=()):
    for program in programs:
        if not shutil.which(program, path="/usr/local/bin:/usr/bin:/bin:/usr/games"):
            raise Skip(f"there is no {program}")
    for module in modules:
        if subprocess.run(["/usr/bin/python3", "-c", f"import {module}"], check=False, cwd="/",
                          stderr=subprocess.DEVNULL).returncode:
            raise Skip(f"python3 has no module {module}")


class Protocol:
    def __init__(self, t, name, workflow):
        self.t, self.name, self.flow = t, name, workflow
        self.rows, self.bare_seconds, self.store_bytes = [], 0, 0
        self.random = random.Random(name)
        self.argvs = {}  # of each job, as the report names it: what a runner makes of its lines
        t.ignore |= {path for path, _ in workflow.dated_outputs()} | set(workflow.ignored)

    # --- edits ---

    def write(self, files):
        self.t.write_all(files)

    def clean(self):
        """Of pcache's copy only: what the bare run made stands to be compared with."""
        self.flow.clean(self.t.tree)

    def forget(self, jobs):
        """The records of these jobs, and the runner's, are evicted."""
        self.t.stop()
        commands = [self.flow.command, *(argv for job in jobs for argv in self.argvs[job.name])]
        evicted = self.t.forget([" ".join(argv) for argv in commands])
        self.t.check(evicted >= len(jobs), f"evicted {evicted} records, of {len(jobs)} jobs and the runner")

    # --- steps ---

    def bare(self):
        self.truth = self.t.run_bare(self.flow.command, timeout=LONG)
        self.t.equal(self.truth.status, 0, "bare: exit status")
        if self.flow.streams:
            self.t.equal(self.truth.err, b"", "bare: stderr")

    def step(self, what, must=(), may=(), *, whole=None, bare=False):
        """Runs the workflow. `must`: the jobs that run; `may`: others that may. whole: the runner hits."""
        if bare:
            self.bare()
        done, report = self.t.run(self.flow.command, timeout=LONG)
        before = len(self.t.failures)
        self.compare(what, done)
        if not self.t.check(report is not None, f"{what}: no report; stderr: {done.err[-400:]!r}"):
            return
        ran = self.ran(report)
        self.who_ran(what, ran, set(must), set(may) | {job.name for job in self.flow.jobs if job.timed and not whole})
        if whole and self.flow.whole:
            self.t.check(report.whole_hit(), f"{what}: the runner did not hit whole")
        if len(self.t.failures) > before:
            self.note_reasons(report, set(must))
        self.note(what, done.seconds, report.json, len(ran))

    def note_reasons(self, report, must, limit=20):
        """Of the jobs that ran without need; where there is none, of everything."""
        jobs = set(self.flow.named()) - must
        lines = [f"    {e['outcome']} {' '.join(e['argv'])[:60]!r}: {r['code']} {r['path']} {r['detail'][:160]}"
                 for e in report.executions if e["argv"] and name_of(e["argv"]) in jobs for r in e["reasons"]]
        self.t.note("\n".join(lines[:limit]) or report.reasons(limit))

    def note(self, what, seconds, report, ran):
        self.rows.append({"step": what, "seconds": round(seconds, 2), "ran": ran, "hits": report["hits"],
                          "misses": report["misses"], "uncacheable": report["uncacheable"]})
        self.t.note(f"- {what}: {seconds:.2f} s, {ran} of {len(self.flow.jobs)} jobs ran; {report['hits']} hits, "
                    f"{report['misses']} misses, {report['uncacheable']} not cacheable")

    def ran(self, report):
        jobs = self.flow.named()
        for e in report.executions:
            if (name := e["argv"] and name_of(e["argv"])) in jobs and e["argv"] not in self.argvs.setdefault(name, []):
                self.argvs[name].append(e["argv"])
        return {name_of(e["argv"]) for e in report.executions
                if e["argv"] and e["outcome"] != "hit" and name_of(e["argv"]) in jobs}

    def who_ran(self, what, ran, must, may):
        missing, more = sorted(must - ran), sorted(ran - must - may)
        self.t.check(not missing, f"{what}: {len(missing)} jobs did not run that must: {missing[:5]}")
        self.t.check(not more, f"{what}: {len(more)} jobs ran that need not: {more[:5]}")

    def compare(self, what, done):
        t = self.t
        t.equal(done.status, self.truth.status, f"{what}: exit status")
        if self.flow.streams:
            t.equal(done.out, self.truth.out, f"{what}: stdout")
            t.equal(done.err, self.truth.err, f"{what}: stderr")
        t.same_files(what)
        wrong = [path for path, lines in self.flow.dated_outputs()
                 if self.undated(t.bare, path, lines) != self.undated(t.tree, path, lines)]
        t.check(not wrong, f"{what}: {len(wrong)} files differ in more than their date: {wrong[:5]}")

    def undated(self, side, path, lines):
        try:
            with open(os.path.join(side, path), "rb") as f:
                text = f.read().replace(side.encode(), b"ROOT")
        except FileNotFoundError:
            return None
        return re.sub(lines, b"", text, flags=re.MULTILINE)

    # --- the whole ---

    def run(self):
        t, flow = self.t, self.flow
        names = list(flow.named())
        t.check(len(names) == len(flow.jobs) and None not in names, "the jobs' names are not unique")
        for side in t.sides():
            for name in flow.made:
                os.mkdir(os.path.join(side, name))
        self.write({**flow.files, **flow.script(flow.jobs)})
        self.bare()
        self.bare_seconds = self.truth.seconds
        t.note(f"- bare: {self.bare_seconds:.2f} s, {len(names)} jobs")
        self.step("cold", names)
        self.clean()
        self.step("all warm", whole=True)
        if len(names) > 1:
            self.evictions()
        if flow.two_states:
            self.step("with the outputs there", may=names)
        self.changes()
        self.store_bytes = t.path("cache") and _size(t.path("cache", "store"))
        self.interruption()
        t.note("RESULT " + json.dumps({
            "workflow": self.name, "size": t.size or "small", "user": "root" if os.getuid() == 0 else "user",
            "jobs": len(names), "bare": round(self.bare_seconds, 2), "store": self.store_bytes, "steps": self.rows,
            "failures": len(t.failures), "load": round(os.getloadavg()[1], 1), "processors": os.cpu_count()}))

    def evictions(self):
        for share in SHARES:
            jobs = self.random.sample(self.flow.jobs, max(1, len(self.flow.jobs) * share // 100))
            self.forget(jobs)
            self.clean()
            must, _ = self.flow.after(j.name for j in jobs)
            self.step(f"{share} % evicted", must)  # what they make again is as it was: nobody else runs

    def changes(self):
        t, flow = self.t, self.flow
        first = next(j for j in self.random.sample(flow.jobs, len(flow.jobs)) if j.stage == 0)
        t.sh(flow.edit(first.inputs[0]))
        readers = {j.name for j in flow.jobs if first.inputs[0] in j.inputs}
        must, may = flow.after(readers)
        self.step("one input changed", must, may, bare=True)
        last = self.random.choice([j for j in flow.jobs if j.stage == flow.jobs[-1].stage])
        os.unlink(os.path.join(t.tree, last.outputs[0]))
        looks = flow.looks_at_outputs or flow.two_states
        self.step("one output deleted", may={last.name} if looks else (), whole=not looks)
        for side in (t.sides() if flow.looks_at_outputs else [t.tree]):
            with open(os.path.join(side, last.outputs[0]), "ab") as f:
                f.write(b"edited by hand\n")
        self.step("one output edited", may=[last.name], bare=flow.looks_at_outputs)
        some = self.random.sample([j for j in flow.jobs if flow.parameter(j)], self.tenth())
        for job in some:
            job.argv = flow.parameter(job)
        self.write(flow.script(flow.jobs))
        must, may = flow.after(j.name for j in some)
        self.step("a parameter changed in 10 %", must, may, bare=True)

    def tenth(self):
        return max(1, sum(1 for j in self.flow.jobs if self.flow.parameter(j)) // 10)

    def interruption(self):
        """Ctrl-C when half of the jobs have ended; what was recorded until then does not run again."""
        t, flow = self.t, self.flow
        t.cli("clear", "--yes")
        self.clean()
        if flow.looks_at_outputs:  # what was edited by hand is left alone where it stands
            flow.clean(t.bare)
            self.bare()
        report = t.path("reports", "interrupted.json")
        start = time.monotonic()
        run = subprocess.Popen([t.pcache, "run", "--quiet", "--root", t.tree, "--report", report, "--", *flow.command],
                               cwd=t.tree, env=t.environment(t.tree), start_new_session=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for stream in (run.stdout, run.stderr):  # pipes, as in the other runs: some ask what they write to
            threading.Thread(target=stream.read, daemon=True).start()
        ends = [os.path.join(t.tree, job.outputs[-1]) for job in flow.jobs]
        # One job alone shows no half: its output is there when it is about to end.
        half_s = self.rows[0]["seconds"] / 3 if len(ends) == 1 else LONG
        while run.poll() is None and sum(map(os.path.exists, ends)) * 2 < len(ends):
            time.sleep(0.005)
            if time.monotonic() - start > half_s:
                break
        os.killpg(run.pid, signal.SIGINT)
        run.wait(timeout=LONG)
        t.check(run.returncode != 0, "interrupted: it ended well nevertheless")
        with open(report, encoding="utf-8", errors="replace") as f:
            interrupted = Report(f.read())
        kept = {name_of(e["argv"]) for e in interrupted.executions if e.get("recorded")}
        kept &= set(flow.named())
        t.check(len(kept) >= len(ends) // 2 - 4 or len(ends) == 1,
                f"interrupted: only {len(kept)} of {len(ends)} jobs were recorded")
        self.note("interrupted half-way", time.monotonic() - start, interrupted.json, len(self.ran(interrupted)))
        for left in os.listdir(t.path("tmpT")):
            os.unlink(t.path("tmpT", left))
        self.step("and started again", set(flow.named()) - kept, flow.named() if flow.two_states else ())
        self.clean()
        cut = self.ran(interrupted) - kept if flow.lists else ()  # what these left was there when they ran again
        self.step("warm once more", may=flow.named() if flow.two_states else cut, whole=not flow.lists and not flow.two_states)


def _size(directory):
    return sum(os.lstat(os.path.join(d, f)).st_blocks * 512 for d, _, files in os.walk(directory) for f in files)


def size(t, small, full):
    return full if t.size == "full" else int(t.size or small)


def shell_script(name):
    """A runner in sh: one job a line."""
    return lambda jobs: {name: "set -e\n" + "".join(shlex.join(job.argv) + "\n" for job in jobs)}


RUNNER = '''"""Runs the jobs of jobs.txt, two at once; an empty line waits for all before it. A line that ends
with `> FILE` sends what its job says there."""
import os
import shlex
import sys


def start(line):
    argv = shlex.split(line)
    pid = os.fork()
    if pid:
        return pid
    try:
        if ">" in argv:
            log = os.open(argv[-1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            argv = argv[:-2]
        os.execvp(argv[0], argv)
    except OSError as error:
        print(error, file=sys.stderr)
    finally:
        os._exit(127)


def stage(lines, at_once=2):
    running = set()
    while lines or running:
        while lines and len(running) < at_once:
            running.add(start(lines.pop(0)))
        pid, status = os.wait()
        running.remove(pid)
        if status:
            sys.exit(f"a job failed with status {status}")


with open("jobs.txt") as f:
    text = f.read()
for part in text.split("\\n\\n"):
    stage(part.splitlines())
print(len(text.splitlines()), "lines done")
'''


def runner_script(jobs):
    """What RUNNER reads."""
    stages = {}
    for job in jobs:
        stages.setdefault(job.stage, []).append(shlex.join(job.argv) + (f" > {job.log}" if job.log else ""))
    return {"jobs.txt": "\n\n".join("\n".join(lines) for _, lines in sorted(stages.items())) + "\n"}
