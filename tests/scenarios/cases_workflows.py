"""What workflows of many jobs do that builds do not; the workflows themselves are in tests/real."""
import json
import shutil

from harness import Skip, protocol, scenario
from harness.world import PATH

ALIGNMENT = "# STOCKHOLM 1.0\n\none ACGTACGTTGCA\ntwo ACGAACGTTGCA\nsix ACGTACGTAGCA\n//\n"


@scenario
def hmmbuild_asks_only_whether_its_input_is_there(t):
    """An alignment that came back from the store, or was touched, builds no model again."""
    if not shutil.which("hmmbuild", path=PATH):
        raise Skip("there is no hmmbuild (Debian's package hmmer)")
    t.write("in.sto", ALIGNMENT)
    protocol.cold_warm_changed(
        t, "hmmbuild --cpu 2 --dna -o log out.hmm in.sto && sed -i '/^DATE/d' out.hmm && rm log",
        clean="rm out.hmm", harmless="touch in.sto", matter="sed -i 's/six ACG/six TTT/' in.sto",
        ran_after={"hmmbuild": 1})


@scenario
def dates_of_hmmbuild(t):
    if not shutil.which("hmmbuild", path=PATH):
        raise Skip("there is no hmmbuild (Debian's package hmmer)")
    t.write("in.sto", ALIGNMENT)
    t.run(["hmmbuild", "--dna", "-o", "log", "out.hmm", "in.sto"])
    found = json.loads(t.cli("explain", "--json", "--", "hmmbuild", "--dna", "-o", "log", "out.hmm", "in.sto").out)
    told = {d["output"]: d["tells"] for d in found["executions"][0].get("dated", [])}
    t.equal(told, {"out.hmm": "date", "log": "duration"}, "what is dated")
    t.sh("rm -f out.hmm log")


@scenario
def evicted_records_of_some_jobs(t):
    """Only they run again, and the runner is recorded whole again."""
    t.write("run.sh", "for i in 1 2 3 4; do sh -c \"tr a-z A-Z < in$i > out$i\"; done\n")
    t.write_all({f"in{i}": f"text {i}\n" for i in (1, 2, 3, 4)})
    t.step("sh run.sh", hit=False, ran={"sh": 6, "tr": 4})
    t.stop()
    done = t.forget(["sh -c sh run.sh", "sh run.sh", "sh -c tr a-z A-Z < in2 > out2"])
    t.equal(done, 3, "records that were evicted")
    t.sh("rm out?")
    report = t.step("sh run.sh", what="one job and all around it evicted", hit=False)
    t.equal(dict(report.ran()), {"sh": 3}, "programs that ran")
    t.sh("rm out?")
    t.step("sh run.sh", what="warm", hit=True)


@scenario
def who_runs_a_job_of_parallel_is_nothing_to_it(t):
    t.write("in", "text\n")
    first, second = ({"PARALLEL_PID": pid, "PARALLEL_SEQ": pid[0], "PARALLEL_TMP": f"/tmp/parallel-{pid}"}
                     for pid in ("1001", "2002"))
    t.step("tr a-z A-Z < in > out", env=first, hit=False)
    t.step("tr a-z A-Z < in > out", env=second, hit=True, what="by another process")
    t.step("echo $PARALLEL_SEQ > out", env=first, hit=False)
    t.step("echo $PARALLEL_SEQ > out", env=second, hit=False, what="where it is printed")


@scenario
def awk_in_a_job_of_parallel(t):
    """awk sees the environment in ENVIRON alone: where its text does not say so, nobody looks at PARALLEL_PID."""
    first, second = ({"PARALLEL_PID": pid, "PARALLEL_TMP": f"/tmp/parallel-{pid}"} for pid in ("1001", "2002"))
    t.write_all({"in": "b\na\n", "show.awk": "BEGIN { print ENVIRON[\"PARALLEL_PID\"] }\n"})
    for cmd in ("sort in | awk -v least=2 '{ print NR, $1 }' > out", "awk -F: '{ print $1 }' in"):
        t.step(cmd, env=first, hit=False)
        t.step(cmd, env=second, hit=True, what="by another process: " + cmd)
    for cmd in ("awk 'BEGIN { print ENVIRON[\"PARALLEL_PID\"] }'", "awk -f show.awk",
                "awk 'BEGIN { system(\"env | grep PARALLEL_PID\") }'", "awk 'BEGIN { \"echo $PARALLEL_PID\" | getline x; print x }'"):
        t.step(cmd, env=first)
        t.step(cmd, env=second, hit=False, what="where it is printed: " + cmd)


NUMPY = "import numpy as np\nprint({})\n"


@scenario(timeout=120)
def seed_of_numpy(t):
    """It takes one as it is imported; who draws numbers without another one is not recorded."""
    if t.run_bare(["/usr/bin/python3", "-c", "import numpy"]).status:
        raise Skip("there is no numpy")
    t.write("in", "1 2 3\n")
    for name, text, hits in (("sum", "np.loadtxt('in').sum()", True), ("drawn", "np.random.rand() < 2", False),
                             ("seeded", "np.random.seed(3) or np.random.rand()", True),
                             ("generator", "np.random.default_rng().random() < 2", False)):
        t.write(f"{name}.py", NUMPY.format(text))
        for what in ("cold", "warm"):
            report = t.step(["python3", "-B", f"{name}.py"], hit=hits and what == "warm", what=f"{name}, {what}")
        t.check(hits or "random" in report.codes(), f"{name}: no reason random, but {report.codes()}")
    t.write_all({"draws.py": "import numpy as np\ndef draw(): return np.random.rand()\n",
                 "main.py": "import numpy, draws\nprint(draws.draw() < 2)\n"})
    for _ in range(2):
        report = t.step(["python3", "-B", "main.py"], hit=False, what="a module that draws")
        t.check("random" in report.codes(), f"a module: no reason random, but {report.codes()}")
    for argv in (["python3", "-c", NUMPY.format("np.random.rand() < 2")], ["python3", "-"]):
        done = t.run(argv, stdin=NUMPY.format("1").encode())[1]
        t.check("random" in done.codes(), f"{argv}: no reason random, but {done.codes()}")


@scenario
def convert_replaces_pictures(t):
    """It asks what is at its output's place; that was there before, and how old it is, is nothing to it."""
    if not shutil.which("convert-im6.q16", path=PATH):
        raise Skip("there is no ImageMagick (Debian's package imagemagick)")
    t.write_all({"in.ppm": "P3 2 1 255 1 2 3 4 5 6\n", "other.ppm": "P3 2 1 255 9 9 9 4 5 6\n"})
    cmd = ["convert-im6.q16", "in.ppm", "-resize", "4x2", "out.ppm"]
    t.step(cmd, hit=False)
    t.step(cmd, hit=True, what="with the output there")
    t.sh("touch -d 2020-01-01 out.ppm")
    t.step(cmd, hit=True, what="with an older one there")
    t.sh("cp other.ppm out.ppm")
    t.step(cmd, hit=True, what="with another one there")
    t.sh("chmod 600 out.ppm")
    t.step(cmd, hit=False, what="with one of another mode there, which stays")
    t.sh("rm -f twin; ln out.ppm twin")
    t.step(cmd, what="with one of two names there: both change")
    t.sh("rm twin")
    t.sh("cp other.ppm in.ppm")
    t.step(cmd, hit=False, what="its input changed")
    t.sh("rm out.ppm; ln -s elsewhere.ppm out.ppm")
    t.step(cmd, what="through a link")
    t.sh("rm -f out.ppm elsewhere.ppm; mkdir out.ppm")
    t.step(cmd, what="where a directory is", streams=False)
    t.sh("rmdir out.ppm")
    t.step(["convert-im6.q16", "in.ppm", "-resize", "8x4", "in.ppm"], hit=False, what="over its input")
    t.step(["convert-im6.q16", "in.ppm", "-resize", "8x4", "in.ppm"], what="over its input again")
