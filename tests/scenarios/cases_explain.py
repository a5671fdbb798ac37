"""What answers questions: explain, why, graph, census, trace, at the command line."""
import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse

from harness import scenario
from harness.registry import Skip

MAKEFILE = """prog: main.o util.o
\tcc -o prog main.o util.o
main.o: main.c util.h
\tcc -c main.c
util.o: util.c util.h
\tcc -c util.c
"""


def _project(t):
    t.write("Makefile", MAKEFILE)
    t.write("util.h", "int util(void);\n")
    t.write("util.c", '#include "util.h"\nint util(void) { return 41; }\n')
    t.write("main.c", '#include "util.h"\nint main(void) { return util() == 42; }\n')


def _json(t, *argv, **how):
    done = t.cli(argv[0], "--json", *argv[1:], **how)
    t.equal(done.status, 0, f"{argv}: status ({done.err!r})")
    return json.loads(done.out or b"null")


def _text(t, *argv, **how):
    done = t.cli(*argv, **how)
    t.equal(done.status, 0, f"{argv}: status ({done.err!r})")
    return done.out.decode()


@scenario(timeout=120)
def explain_shows_the_lines_that_changed(t):
    _project(t)
    t.step(["make"])
    t.write("util.c", '#include "util.h"\nint util(void) { return 42; }\n')
    t.step(["make"], ran=None)
    for what in (["util.c"], [os.path.join(t.tree, "util.c")], ["--", "cc", "-c", "util.c"], ["util.o"]):
        text = _text(t, "explain", *what, cwd=t.tree)
        t.check(re.search(r"content-changed +util\.c", text), f"explain {what}: {text}")
        t.check("- int util(void) { return 41; }" in text and "+ int util(void) { return 42; }" in text,
                f"explain {what}: no lines: {text}")
        t.check("compared with what was recorded" in text, f"explain {what}: no record named: {text}")
    found = _json(t, "explain", "--", "cc", "-c", "util.c", cwd=t.tree)
    reason = next(r for e in found["executions"] for r in e["reasons"] if r["path"] == "util.c")
    t.check({"sign": "-", "text": "int util(void) { return 41; }"} in reason["diff"], f"diff: {reason}")
    number = next(e["id"] for e in found["executions"])
    t.check("cc -c util.c" in _text(t, "explain", str(number), cwd=t.tree), "by number")
    t.check("Nothing that ran has" in _text(t, "explain", "nowhere.c", cwd=t.tree), "a path nobody read")


@scenario(timeout=120)
def explain_earlier_runs_and_changed_commands(t):
    t.write("in", "x\n")
    t.run(["sh", "-c", "cat in > out"])
    t.run(["sh", "-c", "sort -u in > out"])
    t.run(["sh", "-c", "sort -r in > out"])
    text = _text(t, "explain", "--", "sort", "-r", "in")
    t.check(re.search(r"most like run 2's sort -u in\n +- -u\n +\+ -r\n", text), f"nearest command: {text}")
    t.check("Run 1: sh -c 'cat in > out'" in _text(t, "explain", "--run", "1"), "run 1")
    t.check("sort -u" in _text(t, "explain", "--run", "-1"), "the run before the last")
    t.check("Run 1:" in _text(t, "explain", "--", "cat", "in"), "a command of an earlier run")
    for run, text in (("9", "there is no run 9: those from 1 to 3 are kept"), ("x", "a run is a number")):
        done = t.cli("explain", "--run", run)
        t.check(done.status == 1 and text in done.err.decode(), f"--run {run}: {done.err!r}")
    t.run(["sh", "-c", "sort -r in > out"], env={"LANG": "C", "MY_TOKEN": "tell-nobody"})
    t.run(["sh", "-c", "sort -r in > out"], env={"LANG": "C.UTF-8", "MY_TOKEN": "another"})
    text = _text(t, "explain", "--", "sort", "-r", "in")
    t.check('env LANG was "C", is "C.UTF-8" now' in text.replace('"=', '"'), f"values of variables: {text}")
    t.check("env MY_TOKEN changed" in text and "nobody" not in text, f"secrets: {text}")
    t.sh("rm -f out")


@scenario
def explain_names_remedies(t):
    t.run(["sh", "-c", "date > now; exit 3"])
    text = _text(t, "explain", "date")
    t.check(re.search(r"never .*\n +-> .*set the value once", text), f"remedy of date: {text}")
    t.check("-> mend the command" in _text(t, "explain"), "remedy of a failure")
    codes = {row["code"]: row for row in _json(t, "explain", "--codes")}
    t.check(codes["never"]["never"] and codes["network"]["remedy"], "codes")
    t.check("Why a command is not recorded" in _text(t, "explain", "--codes"), "codes for people")
    t.sh("rm -f now")


@scenario
def explain_warns_of_dated_outputs(t):
    """Recorded as it was, so a hit brings an old date back: whoever asks is told where, and what to do."""
    t.write("report.py", "import time\nwith open('report.txt', 'w') as f:\n  f.write('Report\\nDATE  ' + time.ctime() + '\\n')\n"
                         "with open('plain.txt', 'w') as f:\n  f.write('of 2001-02-03, 17 pages\\n')\n"
                         "import os\nname = 'log.%d' % time.time()\nopen(name, 'w').close()\n"
                         "print('Total run time: %.3f seconds' % 0)\n")
    t.run(["python3", "report.py"])
    for what in ("recorded", "served"):
        found = _json(t, "explain", "report.txt", cwd=t.tree)["executions"]
        t.check(found and "dated" in found[0], f"{what}: no warning in {found}")
        dated = {d["output"]: d for e in found for d in e.get("dated", [])}
        named = [name for name in dated if name.startswith("log.")]
        t.check(named and dated[named[0]]["line"] == 0, f"{what}: no warning of a name: {dated}")
        t.equal(set(dated) - set(named), {"report.txt", "standard output"}, f"{what}: outputs")
        t.equal((dated["report.txt"]["line"], dated["report.txt"]["tells"]), (2, "date"), f"{what}: report.txt")
        t.equal(dated["standard output"]["tells"], "duration", f"{what}: standard output")
        text = _text(t, "explain", "report.txt", cwd=t.tree)
        t.check(re.search(r"dated: report\.txt tells when it was made, in line 2: DATE  ", text), f"{what}: {text}")
        t.check("SOURCE_DATE_EPOCH" in text and "strict_clock" in text, f"{what}: remedies: {text}")
        os.unlink(os.path.join(t.tree, "report.txt"))
        _, report = t.run(["python3", "report.py"])
        t.check(report.whole_hit(), "the second run hits")
    t.run(["sh", "-c", "cat plain.txt"])
    t.check("dated" not in _text(t, "explain", "--", "cat", "plain.txt"), "another date is no date of the run")
    t.sh("rm -f report.txt plain.txt log.*")


@scenario(timeout=120)
def why_names_makers_and_inputs(t):
    _project(t)
    t.step(["make"])
    prog = os.path.join(t.tree, "prog")
    found = _json(t, "why", "prog", cwd=t.tree)
    t.equal(found["made_by"]["argv"][:3], ["cc", "-o", "prog"], "maker of prog")
    t.check(not found["served"] and found["run"] == 1 and found["state"] == "unchanged", f"prog: {found}")
    makers = {i["path"]: i.get("maker", {}).get("argv") for i in found["made_by"]["inputs"]}
    t.equal(makers.get("main.o"), ["cc", "-c", "main.c"], "maker of main.o")
    tree = _text(t, "why", "--tree", prog)
    t.check(re.search(r"main\.o  <- cc -c main\.c\n.*\|- main\.c", tree), f"tree: {tree}")
    t.sh("rm -f prog *.o")
    t.step(["make"], hit=True)
    found = _json(t, "why", prog)
    t.check(found["served"] and found["run"] == 2, f"served: {found}")
    t.equal(found["made_by"]["argv"][:3], ["cc", "-o", "prog"], "maker of a served prog")
    t.equal(found["as_part_of"]["argv"], ["make"], "what brought it back")
    t.check("served from the store, in run 2" in _text(t, "why", prog), "served, for people")
    # Unmounted, by another daemon, and in another checkout.
    t.stop()
    found = _json(t, "why", prog)
    t.equal(found["made_by"]["argv"][:3], ["cc", "-o", "prog"], "after umount")
    other = t.path("other")
    subprocess.run(["cp", "-r", t.tree, other], check=True)
    subprocess.run(["rm", "-f", other + "/prog", other + "/main.o", other + "/util.o"], check=True)
    t.check(t.cli("why", other + "/prog").status == 1, "a file that is not there")
    t.equal(t.cli("run", "--root", other, "--quiet", "--", "make", cwd=other).status, 0, "make in the copy")
    found = _json(t, "why", other + "/prog")
    t.check(found["root"] == other and found["run"] == 3, f"in another checkout: {found}")
    with open(prog, "ab") as f:
        f.write(b"\0")
    t.check("changed by somebody else" in _text(t, "why", prog), "a changed file")
    os.unlink(prog)
    t.sh("rm -f prog")
    done = t.cli("why", os.path.join(t.tree, "main.c"))
    t.check(done.status == 1 and b"no command that is recorded left" in done.err, f"a source: {done.err!r}")


@scenario
def why_outside_the_tree(t):
    out = t.path("outside")
    t.run(["sh", "-c", f"echo x > {out}"])
    found = _json(t, "why", out)
    t.equal((found["root"], found["path"]), ("", out), "root and path of a file outside")
    os.unlink(out)
    t.run(["sh", "-c", f"echo x > {out}"])
    t.check(_json(t, "why", out)["served"], "served outside")


@scenario(timeout=120)
def graph_formats(t):
    t.check(t.cli("graph").status == 1, "graph before any run")
    _project(t)
    t.step(["make"])
    t.step(["make"])
    page = _text(t, "graph")
    t.check(page.startswith("<!DOCTYPE html>") and '"run":2' in page, "the page of the last run")
    t.check("<script src" not in page and "<link" not in page, "self-contained")
    first = _json_of(_text(t, "graph", "--format", "json", "1"))
    t.equal(first["run"], 1, "json of run 1")
    for e in first["executions"]:
        t.check(e["end_us"] >= e["start_us"] > 0, f"times of {e['argv']}: {e['start_us']} {e['end_us']}")
        parent = next((p for p in first["executions"] if p["id"] == e["parent"]), None)
        t.check(parent is None or parent["start_us"] <= e["start_us"] and e["end_us"] <= parent["end_us"] + 1,
                f"{e['argv']} is not within its parent")
    t.check(max(e["end_us"] for e in first["executions"]) <= first["wall_s"] * 1e6 + 1, "ends within the run")
    dot = _text(t, "graph", "--format", "dot", "1")
    t.check(dot.startswith("digraph") and "->" in dot, "dot")
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=dot.encode(), stdout=subprocess.DEVNULL, check=True)
    out = t.path("page.html")
    t.equal(_text(t, "graph", "-o", out).strip(), out, "graph -o")
    t.equal(_text(t, "graph", "--report", t.path("reports", "1.json"))[:15], "<!DOCTYPE html>", "from a report")
    for argv in (["--report", "/no/such"], ["--report", t.path("tree", "main.c")], ["99"], ["-o", "/no/dir/x"]):
        done = t.cli("graph", *argv)
        t.check(done.status == 1 and len(done.err.decode().splitlines()) == 1, f"graph {argv}: {done.err!r}")


def _json_of(text):
    return json.loads(text)


TRY = """<script>addEventListener('load', () => setTimeout(async () => {
  const $ = id => document.getElementById(id), s = $('scroll'), r = s.getBoundingClientRect(), out = {};
  const at = y => ({clientX: r.left + 250, clientY: r.top + y, bubbles: true});
  const key = k => document.dispatchEvent(new KeyboardEvent('keydown', {key: k, bubbles: true}));
  const painted = () => new Promise(done => setTimeout(done, 50));
  out.title = document.title;
  out.overview = $('side').textContent;
  out.legend = [...$('legend').children].map(b => b.textContent);
  s.dispatchEvent(new PointerEvent('pointermove', at(12)));
  out.tip = $('tip').hidden ? '' : $('tip').textContent;
  s.dispatchEvent(new MouseEvent('click', at(12)));
  await painted();
  out.side = $('side').textContent;
  out.hash = location.hash;
  const because = [...document.querySelectorAll('.reason .path')].find(b => b.textContent === 'main.c');
  because.click();
  await painted();
  out.chips = $('chips').textContent;
  out.because = $('shown').textContent;
  key('n');
  out.next = $('side').textContent;
  key('Escape');
  key('Escape');
  out.cleared = $('shown').textContent + $('chips').textContent;
  $('search').value = 'main.c'; $('search').dispatchEvent(new Event('input'));
  await painted();
  out.shown = $('shown').textContent;
  key('Escape');
  $('search').value = '';
  $('search').dispatchEvent(new Event('input'));
  $('fold').click(); $('fold').click();
  await painted();
  s.scrollTop = 1e9;
  await painted();
  key('+');
  await painted();
  key('End');
  out.last = location.hash;
  const background = getComputedStyle(document.body).backgroundColor;
  $('theme').click();
  out.theme = getComputedStyle(document.body).backgroundColor !== background;
  document.body.dataset.result = encodeURIComponent(JSON.stringify(out));
}, 300));</script>"""
BROWSER = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
           "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,900"]


def _large(report, count):
    """The same run, as if it had had so many."""
    some = [e for e in report["executions"] if e["parent"] != 0]
    while len(report["executions"]) < count:
        ids = {report["executions"][0]["id"]: report["executions"][0]["id"]}
        for e in some:
            ids[e["id"]] = len(report["executions"]) + 1000
            report["executions"].append(dict(e, id=ids[e["id"]], parent=ids[e["parent"]]))
    return report


def _tried_in(t, chromium, page):
    """What TRY says of the page."""
    with open(t.path("page.html"), "w", encoding="utf-8") as f:
        f.write(page.replace("</body>", TRY + "</body>"))
    begin = time.monotonic()
    done = subprocess.run([chromium, *BROWSER, "--user-data-dir=" + t.path("chromium"), "--virtual-time-budget=6000",
                           "--dump-dom", "file://" + t.path("page.html")], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, timeout=80, check=True)
    result = re.search(rb'data-result="([^"]*)"', done.stdout)
    if not t.check(result, "the page's script did not come to its end"):
        return None
    return dict(json.loads(urllib.parse.unquote(result[1].decode())), seconds=time.monotonic() - begin)


@scenario(timeout=180, users=("root",))
def graph_page_in_a_browser(t):
    """Tooltip, click, keys, filters and search of the page; with ten thousand executions as well."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise Skip("chromium is not installed: the page of `pcache graph` is not tried")
    _project(t)
    t.step(["make"])
    t.write("main.c", '#include "util.h"\nint main(void) { return util() == 41; }\n')
    t.step(["make"])
    with open(t.path("large.json"), "w", encoding="utf-8") as f:
        json.dump(_large(json.loads(_text(t, "graph", "--format", "json")), 10000), f)
    for options, rows in ((["2"], 3), (["--report", t.path("large.json")], 10000)):
        out = _tried_in(t, chromium, _text(t, "graph", *options))
        if out is None:
            continue
        t.check(out["title"].startswith("make"), f"title: {out}")
        t.check("Because of" in out["overview"] and "main.c" in out["overview"], f"the overview names causes: {out}")
        t.check(any("recorded with its caller" in b for b in out["legend"]), f"cc1 is no problem: {out['legend']}")
        t.check("make" in out["tip"] and "ran" in out["tip"] and "content-changed" in out["tip"], f"tip: {out['tip']}")
        t.check("content-changed" in out["side"] and "main.c" in out["side"], f"reasons after a click: {out}")
        t.check(out["chips"] == "× main.c", f"the filter's chip: {out['chips']!r}")
        t.check("Ran" in out["next"] and "main.c" in out["next"], f"the next that ran: {out['next']}")
        t.equal(out["cleared"], "", "Escape goes back")
        for shown in (out["because"], out["shown"]):
            found = re.match(r"([\d,]+) of ([\d,]+)$", shown)
            if t.check(found, f"what is shown: {shown!r}"):
                some, every = (int(n.replace(",", "")) for n in found.groups())
                t.check(0 < some < every and every >= rows, f"what is shown: {shown}")
        t.check(out["theme"], "light and dark are the same")
        t.check(out["last"] not in ("", out["hash"]), f"End goes to the last row: {out}")
        t.note(f"{rows} executions and more: {out['seconds']:.1f} s, with the browser's start")
        t.check(out["seconds"] < 30, "it is slow")


WORK = """mkdir d; echo x > d/a; sh -c 'echo y > d/b; cat d/none 2> /dev/null'; cat d/b > /dev/null; ls d > /dev/null
mv d/b d/c; rm d/a; test -f d/c; (: ); exit 4"""


@scenario
def census_counts(t):
    done = t.cli("census", "--json", "--root", t.tree, "--", "sh", "-c", WORK + "; echo said", cwd=t.tree)
    t.equal(done.status, 4, f"the command's own status ({done.err!r})")
    found = json.loads(done.out)
    t.check(found["executions"] >= 6 and found["depth"] >= 2, f"executions: {found['executions']}")
    t.equal(found["processes"] - found["processes_without_exec"], found["executions"], "processes that exec")
    t.check(found["processes_without_exec"] >= 1, "the subshell")
    t.check(found["look_ups"]["failed"] >= 1 and found["look_ups"]["by_kind"]["open"]["calls"] > 5, "look-ups")
    t.check(any(p.endswith("/d/b") for p in found["children_outputs_read_by_parent"]) is False, "cat is no parent")
    t.equal(found["changes"].get("rename"), 1, "renames")
    t.equal(found["changes"].get("remove"), 1, "removals")
    t.equal(found["created"], 2, "files created")
    t.check(found["listings"]["directories"] == [os.path.join(t.tree, "d")], f"listings: {found['listings']}")
    t.check({"sh", "cat", "ls"} <= {p["program"] for p in found["programs"]}, "programs")
    t.check(found["bytes_written"] >= 4 and found["bytes_read"] >= 2, "bytes")
    t.check(t.cli("stats", "--json").status == 0 and _json(t, "stats")["runs"] == 0, "nothing was recorded")
    t.sh("rm -rf d")
    done = t.cli("census", "--root", t.tree, "--", "sh", "-c", "cat /etc/passwd > /dev/null; sh -c 'echo o > f'; "
                 "read x < f; echo $x >> f", cwd=t.tree)
    text = done.out.decode()
    t.check(re.search(r"children's outputs that a parent reads +1\n +.*/f\n", text), f"table: {text}")
    t.check(re.search(r"files written by more than one execution +1\n", text), f"table: {text}")
    t.sh("rm -f f")
    out = t.path("census.json")
    done = t.cli("census", "--json", "-o", out, "--root", t.tree, "--", "echo", "hello", cwd=t.tree)
    t.equal((done.out, done.status), (b"hello\n", 0), "the command's own output")
    with open(out, encoding="utf-8") as f:
        t.equal(json.load(f)["executions"], 1, "census -o")
    t.equal(t.cli("census").status, 125, "census without a command")
    t.equal(t.cli("census", "--", "no-such-command").status, 127, "census of no command")


@scenario
def census_sees_dirfds_threads_and_sockets(t):
    script = """
import os, socket, threading
d = os.open(".", os.O_RDONLY)
os.close(os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=d))
os.stat("made", dir_fd=d)
socket.socket(socket.AF_UNIX)
th = threading.Thread(target=lambda: os.stat("/etc/passwd")); th.start(); th.join()
if os.fork() == 0: os._exit(0)
os.wait()
"""
    done = t.cli("census", "--json", "--root", t.tree, "--", "/usr/bin/python3", "-c", script, cwd=t.tree)
    found = json.loads(done.out)
    t.check(found["at_calls_with_dirfd"] >= 2, f"at-calls: {found['at_calls_with_dirfd']}")
    t.equal((found["threads"], found["processes"], found["processes_without_exec"]), (1, 2, 1), "threads, forks")
    t.equal(found["sockets"], {"unix": 1}, "sockets")
    t.sh("rm -f made")


@scenario
def trace_tells_what_happens(t):
    log = t.path("log")
    done = t.cli("trace", "--log", log, "--root", t.tree, "--", "sh", "-c", WORK, cwd=t.tree)
    t.equal((done.status, done.out, done.err), (4, b"", b""), "status and silence")
    with open(log, encoding="utf-8") as f:
        text = f.read()
    d = re.escape(t.tree)
    for line in (r"execs +\S*/\w*sh  sh -c ", r"forks +\d+$", rf"creates +{d}/d  mkdir", rf"creates +{d}/d/a .*write,create,truncate",
                 rf"opens +{d}/d/b \(inode \d+\)  read", rf"reads +{d}/d/b \(inode \d+\)  2 bytes", rf"writes +{d}/d/a .*  2 bytes",
                 rf"lists +{d}/d ", rf"renames +{d}/d/b .*-> {d}/d/c", rf"removes +{d}/d/a ", r"exits +4  "):
        t.check(re.search(line, text, re.M), f"no line /{line}/ in:\n{text}")
    t.check("ENOENT" not in text, "a failure without --all")
    t.sh("rm -rf d")
    done = t.cli("trace", "--all", "--json", "--root", t.tree, "--", "env", "A=b", "sh", "-c", "cat none", cwd=t.tree)
    events = [json.loads(line) for line in done.err.splitlines() if line.startswith(b"{")]
    t.check(any(e.get("result") == -2 and e["path"] == t.tree + "/none" for e in events), "the failure")
    shell = next(e for e in events if e["ev"] == "exec" and e["argv"][0] == "sh")
    t.equal(shell["env"].get("A"), "b", "the changed environment")
    exits = [e for e in events if e["ev"] == "exit"]
    t.equal([e["status"] for e in exits][-1], 1, "the status of cat")
    t.check(_json(t, "stats")["runs"] == 0, "nothing was recorded")
