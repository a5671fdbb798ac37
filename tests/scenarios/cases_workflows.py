"""What workflows of many jobs do that builds do not; the workflows themselves are in tests/real."""
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
