"""The workflows by name; each makes its input from a seed. tests/real/run runs them in any size."""
import random

import workflow
from harness import scenario
from workflow import Job, Protocol, RUNNER, Workflow, need, runner_script, shell_script, size

WORDS = ("the of and to in is you that it he was for on are as with his they at be this from have or by one had not "
         "but what all were when we there can an your which their said if do will each about how up out them").split()


def _text(rng, lines):
    return "".join(" ".join(rng.choices(WORDS, k=10)).capitalize() + ".\n" for _ in range(lines))


def _texts(count):
    rng = random.Random(1)
    return {f"in/j{i:04}.txt": _text(rng, 60) for i in range(1, count + 1)}


def _count_words(i, least=2):
    """A job in bash: pipelines, and a temporary file with a random name."""
    return ["bash", "-c",
            f"t=$(mktemp) && cat in/j{i:04}.txt | tr A-Z a-z | tr -cs a-z '\\n' | sort > \"$t\" && "
            f"uniq -c < \"$t\" | awk '$1 >= {least} {{print $2, $1}}' > out/j{i:04}.txt; rm \"$t\""]


def _another_least(job):
    return [argument.replace(">= 2 ", ">= 3 ") for argument in job.argv]


def _shell_jobs(count):
    return [Job(_count_words(i), [f"in/j{i:04}.txt"], [f"out/j{i:04}.txt"]) for i in range(1, count + 1)]


@scenario(timeout=300)
def workflow_shell_pipelines(t):
    count = size(t, 20, 1000)
    Protocol(t, "shell pipelines", Workflow(
        command=["bash", "run.sh"], jobs=_shell_jobs(count), files=_texts(count), script=shell_script("run.sh"),
        made=["out"], parameter=_another_least)).run()


@scenario(timeout=300)
def workflow_flat_script(t):
    """The same pipelines in one script. Its filters read pipes that come from it, so only the whole hits."""
    count = size(t, 10, 1000)
    texts = _texts(count)
    lines = [_count_words(i)[2] + "\n" for i in range(1, count + 1)]
    others = [line.replace(">= 2 ", ">= 3 ") for line in lines[:max(1, count // 10)]]
    versions = iter(["".join(lines), "".join(others + lines[len(others):])])
    whole = Job(["bash", "flat.sh"], list(texts), [f"out/j{i:04}.txt" for i in range(1, count + 1)])
    Protocol(t, "flat script", Workflow(
        command=whole.argv, jobs=[whole], files=texts, made=["out"], parameter=lambda job: job.argv,
        script=lambda jobs: {"flat.sh": next(versions)})).run()


SUMMARY = '''import csv, json, statistics, sys

source, target, least = sys.argv[1], sys.argv[2], float(sys.argv[3])
with open(source, newline="") as f:
    rows = [row for row in csv.DictReader(f) if float(row["price"]) >= least]
by_item = {}
for row in rows:
    by_item.setdefault(row["item"], []).append(float(row["price"]) * int(row["count"]))
with open(target, "w") as f:
    json.dump({item: [len(v), round(sum(v), 2), round(statistics.pstdev(v), 4)] for item, v in sorted(by_item.items())},
              f, indent=1)
'''
PLOT = '''import glob, json

totals = {}
for path in sorted(glob.glob("out/*.json")):
    with open(path) as f:
        for item, (count, total, _) in json.load(f).items():
            totals[item] = totals.get(item, 0) + total
highest = max(totals.values())
with open("plots/j9999.svg", "w") as f:
    f.write('<svg xmlns="http://www.w3.org/2000/svg" width="640" height="400">\\n')
    for i, (item, total) in enumerate(sorted(totals.items())):
        height = round(380 * total / highest)
        f.write(f'<rect x="{i * 40}" y="{400 - height}" width="30" height="{height}"><title>{item}</title></rect>\\n')
    f.write("</svg>\\n")
'''


def _table(rng, rows):
    return "item,price,count\n" + "".join(
        f"item{rng.randrange(12)},{rng.randrange(40)}.{rng.randrange(100):02},{rng.randrange(1, 7)}\n"
        for _ in range(rows))


def _tables(count, rows=200):
    rng = random.Random(2)
    return {f"in/j{i:04}.csv": _table(rng, rows) for i in range(1, count + 1)}


def _another_price(job):
    return [*job.argv[:-1], "5"] if job.argv[-1] == "1" else None


@scenario(timeout=300)
def workflow_tables(t):
    """A summary of each table, then a plot of all, with nothing but python."""
    count = size(t, 8, 200)
    jobs = [Job(["python3", "summary.py", f"in/j{i:04}.csv", f"out/j{i:04}.json", "1"], [f"in/j{i:04}.csv"],
                [f"out/j{i:04}.json"]) for i in range(1, count + 1)]
    jobs.append(Job(["python3", "plot.py", "plots/j9999.svg"], [job.outputs[0] for job in jobs], ["plots/j9999.svg"],
                    stage=1))
    Protocol(t, "tables", Workflow(
        command=["python3", "runner.py"], jobs=jobs, script=runner_script, made=["out", "plots"], lists=True,
        files={**_tables(count), "runner.py": RUNNER, "summary.py": SUMMARY, "plot.py": PLOT},
        edit="echo 'item3,39.50,6' >> {}".format, parameter=_another_price)).run()


PANDAS = '''import sys

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

source, target, least = sys.argv[1], sys.argv[2], float(sys.argv[3])
table = pd.read_csv(source)
table = table[table.price >= least]
table["total"] = table.price * table["count"]
table.groupby("item").total.sum().plot.bar()
with open(target, "wb") as f:  # by name it would ask whether there is a file, so that it had two answers
    plt.savefig(f, format="png")
'''


@scenario(timeout=600, by_hand=True)
def workflow_pandas(t):
    """Plots by pandas and matplotlib, one for each table."""
    need("python3", modules=("pandas", "matplotlib"))
    count = size(t, 3, 200)
    jobs = [Job(["python3", "plot.py", f"in/j{i:04}.csv", f"plots/j{i:04}.png", "1"], [f"in/j{i:04}.csv"],
                [f"plots/j{i:04}.png"]) for i in range(1, count + 1)]
    Protocol(t, "pandas", Workflow(
        command=["python3", "runner.py"], jobs=jobs, script=runner_script, made=["plots"],
        files={**_tables(count), "runner.py": RUNNER, "plot.py": PANDAS},
        edit="echo 'item3,39.50,6' >> {}".format, parameter=_another_price)).run()


def _family(rng, length, members):
    """Sequences that descend from one."""
    first = "".join(rng.choice("ACGT") for _ in range(length))
    family = []
    for _ in range(members):
        family.append("".join(rng.choice("ACGT") if rng.random() < .12 else base
                              for base in first if rng.random() > .02))
    return family


def _fasta(sequences):
    return "".join(f">s{i}\n{sequence}\n" for i, sequence in enumerate(sequences))


def _tree(i):
    """raxml refuses to write over a tree, and needs its directory's whole name."""
    n = f"j{i:04}"
    parts = [f"tree/RAxML_{part}.{n}" for part in ("bestTree", "info", "log", "parsimonyTree", "result")]
    return Job(["sh", "-c", f"rm -f {' '.join(parts)}; raxmlHPC-PTHREADS -T 2 -m GTRGAMMA -p 12345 -s aln/{n}.phy "
                f"-n {n} -w \"$PWD/tree\""], [f"aln/{n}.phy"], parts, log=f"log/{n}.tree", dated=True, stage=3)


def _another_gap(job):
    return [*job.argv, "-GAPOPEN=12"] if job.stage == 0 else None


@scenario(timeout=600, by_hand=True)
def workflow_alignments(t):
    """clustalw, hmmbuild on what it aligned, hmmsearch with what that built; raxml for every tenth family (none of
    five: its threads spin, and that takes minutes where there are other processes)."""
    need("clustalw", "hmmbuild", "hmmsearch")
    if size(t, 5, 900) >= 10:
        need("raxmlHPC-PTHREADS")
    count = size(t, 5, 900)
    rng = random.Random(3)
    families = {f"seq/j{i:04}.fa": _family(rng, 400, 10) for i in range(1, count + 1)}
    files = {name: _fasta(family) for name, family in families.items()}
    files["all.fa"] = _fasta([family[0] for family in list(families.values())[:50]])
    jobs = []
    for i in range(1, count + 1):
        n = f"j{i:04}"
        jobs.append(Job(["clustalw", f"-INFILE=seq/{n}.fa", f"-OUTFILE=aln/{n}.phy", "-OUTPUT=PHYLIP"], [f"seq/{n}.fa"],
                        [f"seq/{n}.dnd", f"aln/{n}.phy"], log=f"log/{n}.aln"))
        jobs.append(Job(["hmmbuild", "--cpu", "2", "--dna", "--informat", "phylip", f"hmm/{n}.hmm", f"aln/{n}.phy"],
                        [f"aln/{n}.phy"], [f"hmm/{n}.hmm"], log=f"log/{n}.hmm", dated=True, stage=1))
        jobs.append(Job(["hmmsearch", "--cpu", "2", "-o", f"hits/{n}.txt", "--tblout", f"hits/{n}.tbl",
                         f"hmm/{n}.hmm", "all.fa"], [f"hmm/{n}.hmm", "all.fa"], [f"hits/{n}.txt", f"hits/{n}.tbl"],
                        dated=True, stage=2))
        if i % 10 == 0:
            jobs.append(_tree(i))
    jobs.sort(key=lambda job: job.stage)
    seconds = rb"^# (CPU time|Mc/sec):.*$"
    raxml = rb"^.*(Time \d|execution time|/tree/).*$"
    Protocol(t, "alignments", Workflow(
        command=["python3", "runner.py"], jobs=jobs, script=runner_script,
        made=["aln", "hmm", "hits", "tree", "log"], lists=True, two_states=count >= 10, files={**files, "runner.py": RUNNER},
        edit="printf '>s99\\nACGTTGCAACGGTTACGATTTACGACCCATTTAGACCATCAT\\n' >> {}".format, parameter=_another_gap,
        dated={"hmm/*": rb"^DATE .*$", "log/*.hmm": seconds, "hits/*.txt": seconds, "hits/*.tbl": rb"^# (Date|Current dir):.*$",
               "tree/RAxML_log.*": rb"^\d+\.\d+ ", "tree/RAxML_info.*": raxml, "log/*.tree": raxml})).run()


@scenario(timeout=300)
def workflow_reads(t):
    """bwa: an index of one genome, and reads that are mapped to it."""
    need("bwa")
    count = size(t, 6, 200)
    rng = random.Random(4)
    genome = "".join(rng.choice("ACGT") for _ in range(20000))
    files = {"genome.fa": f">chromosome\n{genome}\n", "runner.py": RUNNER}
    for i in range(1, count + 1):
        reads = []
        for r in range(100):
            at = rng.randrange(len(genome) - 80)
            reads.append(f"@read{r}\n{genome[at:at + 80]}\n+\n{'I' * 80}\n")
        files[f"in/j{i:04}.fq"] = "".join(reads)
    index = [f"genome.fa.{part}" for part in ("amb", "ann", "bwt", "pac", "sa")]
    log = rb"^\[M::.*$|^\[main\] (Real time|CMD).*$|^\[bwa_index\].*$"
    jobs = [Job(["bwa", "index", "genome.fa"], ["genome.fa"], index, log="log/index")]
    for i in range(1, count + 1):
        jobs.append(Job(["bwa", "mem", "-t", "2", "-k", "19", "-o", f"out/j{i:04}.sam", "genome.fa", f"in/j{i:04}.fq"],
                        [f"in/j{i:04}.fq", *index], [f"out/j{i:04}.sam"], log=f"log/j{i:04}.log", stage=1))
    Protocol(t, "reads", Workflow(
        command=["python3", "runner.py"], jobs=jobs, script=runner_script, made=["out", "log"], files=files,
        edit="sed -i '2s/^...../TTTTT/' {}".format, dated={"log/*": log},
        parameter=lambda job: ["21" if a == "19" else a for a in job.argv] if job.stage else None)).run()


def _counting(count, command, **how):
    """Another runner for a job that counts words: `bash count.sh FILE LEAST`."""
    jobs = [Job(["bash", "count.sh", f"j{i:04}", "2"], [f"in/j{i:04}.txt"], [f"out/j{i:04}.txt"])
            for i in range(1, count + 1)]
    script = ("tr A-Z a-z < in/$1.txt | tr -cs a-z '\\n' | sort | uniq -c | awk -v least=\"$2\" '$1 >= least {print $2, $1}' "
              "> out/$1.txt\n")
    files = {**_texts(count), "count.sh": script, **how.pop("files", {})}
    return Workflow(command=command, jobs=jobs, files=files, made=["out"],
                    script=lambda jobs: {"jobs.txt": "".join(f"{job.argv[2]} {job.argv[3]}\n" for job in jobs)},
                    parameter=lambda job: [*job.argv[:3], "3"], **how)


@scenario(timeout=600, by_hand=True)
def workflow_parallel(t):
    """GNU parallel as the runner. It looks at other processes and at the terminal, so only its jobs hit."""
    need("parallel")
    Protocol(t, "GNU parallel", _counting(size(t, 6, 300), [
        "parallel", "--will-cite", "-k", "-j2", "-a", "jobs.txt", "--colsep", " ", "bash", "count.sh", "{1}", "{2}"],
        whole=False)).run()


SNAKEFILE = """LEAST = dict(line.split() for line in open("jobs.txt"))

rule all:
    input: expand("out/{n}.txt", n=LEAST)

rule count:
    input: "in/{n}.txt"
    output: "out/{n}.txt"
    params: least=lambda wildcards: LEAST[wildcards.n]
    shell: "exec bash count.sh {wildcards.n} {params.least}"
"""


@scenario(timeout=900, by_hand=True)
def workflow_snakemake(t):
    """snakemake as the runner: it keeps a log of its own, and leaves alone what is newer than its inputs."""
    need("snakemake")
    Protocol(t, "snakemake", _counting(
        size(t, 4, 200), ["snakemake", "--cores", "2", "--quiet", "all", "--nolock", "--rerun-incomplete"],
        files={"Snakefile": SNAKEFILE}, looks_at_outputs=True, streams=False, whole=False,
        ignored=(".snakemake",))).run()


@scenario(timeout=300)
def workflow_archives(t):
    """A directory's files in an archive each, packed, unpacked and summed."""
    count = size(t, 6, 300)
    rng = random.Random(5)
    files = {f"in/j{i:04}/{k}.txt": _text(rng, 40) for i in range(1, count + 1) for k in "abc"}
    jobs = []
    for i in range(1, count + 1):
        n = f"j{i:04}"
        jobs.append(Job(["sh", "-c", f"tar --sort=name --mtime=@0 --owner=0 --group=0 -cf - in/{n} | gzip -n -6 > out/{n}.tar.gz"],
                        [f"in/{n}/{k}.txt" for k in "abc"], [f"out/{n}.tar.gz"]))
        jobs.append(Job(["bash", "-c", f"rm -rf out/{n}.d; mkdir out/{n}.d; tar -xzf out/{n}.tar.gz -C out/{n}.d && "
                         f"(cd out/{n}.d && sha256sum in/{n}/*) > out/{n}.sums; rm -r out/{n}.d"],
                        [f"out/{n}.tar.gz"], [f"out/{n}.sums"], stage=1))
    jobs.sort(key=lambda job: job.stage)
    Protocol(t, "archives", Workflow(
        command=["python3", "runner.py"], jobs=jobs, files={**files, "runner.py": RUNNER}, script=runner_script,
        made=["out"], lists=True, parameter=lambda job: job.argv[:2] + [job.argv[2].replace("-n -6", "-n -9")] if job.stage == 0 else None,
        )).run()


def _picture(rng, side=48):
    colours = [[rng.randrange(256) for _ in range(3)] for _ in range(4)]
    pixels = bytes(value for y in range(side) for x in range(side) for value in colours[(x // 12 + y // 12) % 4])
    return f"P6 {side} {side} 255\n".encode() + pixels


@scenario(timeout=300, by_hand=True)
def workflow_pictures(t):
    """ImageMagick: each picture made smaller, then a strip of all. (montage asks for random numbers.)"""
    need("convert-im6.q16")
    count = size(t, 6, 200)
    rng = random.Random(6)
    files = {f"in/j{i:04}.ppm": _picture(rng) for i in range(1, count + 1)}
    jobs = [Job(["convert-im6.q16", f"in/j{i:04}.ppm", "-resize", "24x24", "-blur", "0x1", f"out/j{i:04}.ppm"],
                [f"in/j{i:04}.ppm"], [f"out/j{i:04}.ppm"]) for i in range(1, count + 1)]
    jobs.append(Job(["sh", "-c", "convert-im6.q16 out/*.ppm +append all/j9999.ppm"], [job.outputs[0] for job in jobs],
                    ["all/j9999.ppm"], timed=True, stage=1))
    Protocol(t, "pictures", Workflow(
        command=["python3", "runner.py"], jobs=jobs, files={**files, "runner.py": RUNNER}, script=runner_script,
        made=["out", "all"], lists=True, edit="printf '\\377\\377\\377' | dd of={} bs=1 seek=2000 conv=notrunc status=none".format,
        parameter=lambda job: ["0x2" if a == "0x1" else a for a in job.argv] if job.stage == 0 else None)).run()


@scenario(timeout=600, by_hand=True)
def workflow_mothur(t):
    """mothur makes files, renames them and removes them again; its log tells how long it took."""
    need("mothur")
    count = size(t, 3, 100)
    rng = random.Random(7)
    files = {f"in/j{i:04}.fa": _fasta(_family(rng, 120, 12)) for i in range(1, count + 1)}
    # Beside its log it makes "tempN", N being the second: two at once need directories of their own.
    files.update({f"log/j{i:04}/.keep": "" for i in range(1, count + 1)})
    jobs = [Job(["mothur", "-q", f"#set.logfile(name=log/j{i:04}/log); set.dir(output=out); unique.seqs(fasta=in/j{i:04}.fa); "
                 f"summary.seqs(fasta=out/j{i:04}.unique.fa, processors=1)"], [f"in/j{i:04}.fa"],
                [f"out/j{i:04}.unique.fa", f"out/j{i:04}.count_table", f"out/j{i:04}.unique.summary"],
                log=f"log/j{i:04}/out") for i in range(1, count + 1)]
    Protocol(t, "mothur", Workflow(
        command=["python3", "runner.py"], jobs=jobs, files={**files, "runner.py": RUNNER}, script=runner_script,
        made=["out"], edit="printf '>s99\\nACGTTGCAACGGTTACGATTTACGACCCATTTAGACC\\n' >> {}".format,
        dated={"log/*": rb"^.*\bsecs?\b.*$"}, ignored=tuple(f"log/j{i:04}/log" for i in range(1, count + 1)),
        parameter=lambda job: [*job.argv[:2], job.argv[2].replace("processors=1", "processors=2")])).run()


def _article(rng, i):
    lines = "".join(f"\\put({rng.randrange(90)},{rng.randrange(90)}){{\\line(1,1){{10}}}}\n" for _ in range(20))
    return ("\\documentclass{article}\n\\begin{document}\n\\section{Words}\\label{words}\n" + _text(rng, 30) +
            f"See figure~\\ref{{lines}} of \\cite{{author{i}}}, and section~\\ref{{words}}.\n"
            "\\begin{figure}\\begin{picture}(100,100)\n" + lines + "\\end{picture}\\caption{Lines}\\label{lines}\\end{figure}\n"
            f"\\begin{{thebibliography}}{{9}}\\bibitem{{author{i}}} An Author, {1900 + i}.\\end{{thebibliography}}\n"
            "\\end{document}\n")


@scenario(timeout=600, by_hand=True)
def workflow_papers(t):
    """pdflatex, twice for the references, with a date that is given."""
    need("pdflatex")
    count = size(t, 2, 50)
    rng = random.Random(8)
    files = {f"in/j{i:04}.tex": _article(rng, i) for i in range(1, count + 1)}
    latex = "SOURCE_DATE_EPOCH=1000000000 FORCE_SOURCE_DATE=1 pdflatex -interaction=batchmode -output-directory=out in/{}.tex"
    jobs = [Job(["sh", "-ec", f"rm -f out/{n}.aux; {latex.format(n)}; {latex.format(n)}"], [f"in/{n}.tex"],
                [f"out/{n}.aux", f"out/{n}.log", f"out/{n}.pdf"], log=f"log/{n}.out")
            for n in (f"j{i:04}" for i in range(1, count + 1))]
    Protocol(t, "papers", Workflow(
        command=["python3", "runner.py"], jobs=jobs, files={**files, "runner.py": RUNNER}, script=runner_script,
        made=["out", "log"], two_states=True, edit="sed -i 's/Words/More words/' {}".format, dated={"out/*.log": rb"^This is pdfTeX.*$"},
        parameter=lambda job: [*job.argv[:2], job.argv[2].replace("=1000000000", "=1100000000")])).run()
